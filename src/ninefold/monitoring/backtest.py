"""Retraining policies on the same rows: never, monthly, or when the monitor says so; what would each have been worth?"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from ninefold import gate, metrics, timestamps, training
from ninefold.errors import DataError
from ninefold.metrics import intervals, means, one_score, scorer
from ninefold.monitoring.answers import AT_CLOSE, LATER, PERIOD, STATUS, outcomes, predict, predictions
from ninefold.monitoring.arrivals import Arrived, Record
from ninefold.monitoring.monitor import Monitor
from ninefold.params import load
from ninefold.problem import ERROR, Problem, decisions
from ninefold.serving import deployment

NEVER, CALENDAR, TRIGGERED = "never", "every month", "when the monitor says so"


class Followed(NamedTuple):
    """The answers under a retraining policy, with ``@version``, and ``close``, ``version``, ``rows``, ``reasons`` of each refit."""

    frame: pd.DataFrame
    retrained: list[Record]


def refit(monitor: Monitor, rows: pd.DataFrame, version: str) -> Monitor:
    """Return the monitor of the model fitted again without the holdout; `DataError` if one part has but one outcome."""
    bundle, problem, params = monitor.bundle, monitor.problem, load("training").model_copy(update={"folds": 1})
    parts = training.split(rows, metrics.split(rows, load("metrics"), problem), problem)
    schema, method = bundle.columns, bundle.described["model"]["calibration"]
    estimator = getattr(bundle.model, "model", bundle.model)  # before it was calibrated; fitting takes a copy of it
    open_parts = {name: parts[name] for name in ("train", "validation")}
    model = training.fit(estimator, pd.concat(open_parts.values(), ignore_index=True), schema, problem)
    if method != "none":  # else what a fit without the validation part predicts there is not needed
        folds = training.Folds(open_parts, schema, params, problem)
        recent, latest = folds.newest(folds.validate({"it": estimator})["it"])
        model = training.Calibrator(latest, recent, problem, params.interval).calibrate(model, method)
    described, reference = {**bundle.described, "holdout": {}}, deployment.distributions(parts, bundle.signature)
    again = replace(bundle, model=model, described=described, reference=reference, version=version)
    return replace(monitor, bundle=again, parts=parts)


def follow(strategy: str, monitor: Monitor, arrived: Arrived, records: Sequence[Record] = ()) -> Followed:
    """Return what a strategy would have answered, period by period, and when it would have retrained.

    At each close the labels known by then count; a new model answers from the next period on. `CALENDAR` retrains at the
    first close after the end of a month, `TRIGGERED` where the rules of stage 09 say so, and not within ``decide.rest`` of the
    last time. `monitor` is that of the first model, which has answered the rows that `arrived`; `records` are its, by
    `apply_rules` (else made here).
    """
    problem, params, (frame, volume) = monitor.problem, monitor.params, arrived
    known, answered, retrained = pd.concat(monitor.parts.values(), ignore_index=True), [], []
    records_by_period = {record["period"]: record for record in records}
    months = timestamps.local(volume["end"], problem.timezone).dt.strftime("%Y-%m").tolist()
    last: pd.Timestamp | None = None
    for number, span in enumerate(volume.itertuples()):
        rows, bundle = frame[frame[PERIOD] == span.period].reset_index(drop=True), monitor.bundle
        rows = predict(rows, bundle) if last is not None else rows  # the first model has answered
        answered.append(rows.assign(**{"@version": bundle.version}))
        if number == len(volume) - 1:
            break  # what would be retrained now answers nothing
        reasons: list[str] = []
        if strategy == CALENDAR and months[number] != span.period[:7]:
            reasons = ["a month is over"]
        elif strategy == TRIGGERED and (last is None or span.end - last >= pd.Timedelta(params.decide.rest)):
            if len(rows) and span.period not in records_by_period:
                records_by_period[span.period] = monitor.evaluate(answered[-1], volume[number : number + 1])
            record = records_by_period.get(span.period, {"decision": "keep"})
            reasons = record["reasons"] if record["decision"] in ("retrain", "roll back") else []
        if not reasons:
            continue
        learnable = pd.concat([known, _labelled(pd.concat(answered), span.end, problem)[known.columns]])
        try:
            monitor = refit(monitor, learnable.reset_index(drop=True), f"fitted after {span.period}")
        except DataError:
            continue  # too little is known yet
        last, records_by_period, parts = span.end, {}, monitor.parts
        fitted = {"version": monitor.bundle.version, "rows": len(parts["train"]) + len(parts["validation"])}
        retrained.append({"close": span.period, **fitted, "reasons": list(reasons)})
    return Followed(pd.concat(answered, ignore_index=True), retrained)


def compared(monitor: Monitor, arrived: Arrived, records: Sequence[Record]) -> dict[str, Followed]:
    """Return the answers under every policy, see `follow`; none where nothing arrived, or of a log, whose model may differ."""
    if arrived[0].empty or monitor.params.source == "log":
        return {}
    return {name: follow(name, monitor, arrived, records) for name in (NEVER, CALENDAR, TRIGGERED)}


def compare(followed: dict[str, Followed], monitor: Monitor) -> pd.DataFrame:
    """Return what each strategy was worth on the same rows, all whose label became known.

    By ``strategy``: ``retrainings``; with their intervals (``_low``, ``_high``) ``payoff`` per row, `ERROR`, ``gain`` above `NEVER`.
    """
    problem, metric = monitor.problem, ERROR[monitor.problem.task]
    if not followed:
        return pd.DataFrame(columns=["strategy", "retrainings"])
    frames = {name: _in_the_end(one.frame) for name, one in followed.items()}
    target = outcomes(frames[NEVER], problem)
    paid = {name: decisions.payoff(rows["@action"].to_numpy(), target, problem) for name, rows in frames.items()}
    columns = {f"payoff {name}": payoff for name, payoff in paid.items()}
    columns |= {f"gain {name}": payoff - paid[NEVER] for name, payoff in paid.items()}
    scorers = {name: scorer(metric, target, predictions(rows, problem), problem) for name, rows in frames.items()}

    def statistic(weight: np.ndarray) -> dict[str, float]:
        return means(columns, weight) | {f"{metric} {name}": score(weight) for name, score in scorers.items()}

    results = intervals(statistic, frames[NEVER], problem, monitor.plan.level)
    table = pd.DataFrame({"strategy": list(followed), "retrainings": [len(one.retrained) for one in followed.values()]})
    for figure in ("payoff", "gain", metric):
        for column, end in ((figure, "value"), (f"{figure}_low", "low"), (f"{figure}_high", "high")):
            table[column] = [results[f"{figure} {name}"][end] for name in followed]
    return table


def by_period(followed: dict[str, Followed], problem: Problem) -> pd.DataFrame:
    """Return mean ``payoff``, ``error``, ``gain`` above `NEVER` by ``period`` and ``strategy``, and if the model is ``new``."""
    rows = []
    for name, one in followed.items():
        closes, before = {each["close"] for each in one.retrained}, None
        for period, part in _in_the_end(one.frame).groupby(PERIOD, sort=False):
            target = outcomes(part, problem)
            payoff = decisions.payoff(part["@action"].to_numpy(), target, problem).mean()
            error = one_score(ERROR[problem.task], target, predictions(part, problem), problem)
            rows.append((period, name, payoff, error, before in closes))
            before = period
    table = pd.DataFrame(rows, columns=["period", "strategy", "payoff", "error", "new"])
    never = table[table["strategy"] == NEVER].set_index("period")["payoff"]
    return table.assign(gain=table["payoff"] - table["period"].map(never))


def as_plain(table: pd.DataFrame, followed: dict[str, Followed]) -> Record:
    """Return the table of `compare` and every retraining as plain values: ``strategies.json``."""
    retrained = {name: one.retrained for name, one in followed.items()}
    return gate.tidy({"strategies": table.to_dict("records"), "retrained": retrained})


def _labelled(frame: pd.DataFrame, close: pd.Timestamp, problem: Problem) -> pd.DataFrame:
    """Return the rows whose label is known when the first row after a close is decided on."""
    rows = frame[frame[problem.target].notna() & (frame[problem.time] <= problem.known_before(close))]
    return rows.astype({problem.target: "int64"}) if problem.is_class else rows


def _in_the_end(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame[STATUS].isin([AT_CLOSE, LATER])].reset_index(drop=True)
