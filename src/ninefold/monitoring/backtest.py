"""Retraining policies on the same rows: never, monthly, or when the monitor says so; what would each have been worth?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ninefold import gate, training
from ninefold import metrics as evaluation_plan
from ninefold.errors import DataError
from ninefold.metrics import EvaluationPlan, clusters, evaluation, intervals, one_score
from ninefold.monitoring.answers import AT_CLOSE, LATER, PERIOD, STATUS, outcomes, predict, predictions
from ninefold.monitoring.arrivals import add_label_status
from ninefold.monitoring.params import Params
from ninefold.monitoring.stage import Baseline, baseline, evaluate_period
from ninefold.problem import ERROR, Problem, decisions
from ninefold.serving import Bundle, deployment
from ninefold.training import FOLD, calibration, cross_validation

NEVER, CALENDAR, TRIGGERED = "never", "every month", "when the monitor says so"


class Followed(NamedTuple):
    """The answers under a retraining policy.

    Attributes
    ----------
    frame : DataFrame
        The rows with the answers of whichever model was in place, ``@version`` among them.
    retrained : list of dict
        ``close`` of the period, ``version`` and ``rows`` that the new model was fitted on, ``reasons``.
    """

    frame: pd.DataFrame
    retrained: list[dict[str, Any]]


class Setting(NamedTuple):
    """What all strategies share: the problem, the evaluation plan, the params of stages 04, 07 and 09."""

    problem: Problem
    plan: EvaluationPlan
    metrics: evaluation_plan.Params
    training: training.Params
    monitoring: Params


def refit(bundle: Bundle, rows: pd.DataFrame, setting: Setting) -> tuple[Bundle, dict[str, pd.DataFrame]]:
    """Return the bundle with its model fitted anew on newer rows, and the parts that they were split into.

    As `ninefold retrain` does it, but for the choice of the candidate: the rows are split anew by the plan shares, the
    same model and options are fitted on training and validation, and calibrated by forecasts of the validation part. The
    new holdout, the newest part, stays unseen; `with_figures` evaluates on it.

    Parameters
    ----------
    bundle : Bundle
    rows : DataFrame
        Labelled feature rows, as far as they are known.
    setting : Setting

    Raises
    ------
    DataError
        If a part has not two different outcomes.
    """
    problem, params = setting.problem, setting.training.model_copy(update={"folds": 1})
    parts = training.split(rows, evaluation_plan.split(rows, setting.metrics, problem), problem)
    schema = bundle.columns
    estimator, method = _estimator(bundle), bundle.described["model"]["calibration"]
    open_parts = {name: parts[name] for name in ("train", "validation")}
    model = training.finish(estimator, open_parts, schema, problem)
    if method != "none":  # else what a fit without the validation part predicts there is not needed
        unseen, forecasts = training.validate({"it": estimator}, open_parts, schema, params, problem)
        recent, said = training.newest(unseen, forecasts["it"], problem)
        model = calibration.adjust(model, method, said, recent.drop(columns=FOLD), params.interval, problem)
    predicted = cross_validation.predict(model, parts["holdout"], schema, problem)
    compared = deployment.reference(parts, predicted, bundle.signature, problem)
    described = {**bundle.described, "holdout": {}}
    return replace(bundle, model=model, described=described, reference=compared, version=""), parts


def with_figures(bundle: Bundle, holdout: pd.DataFrame, setting: Setting) -> Bundle:
    """Return a refitted bundle with the figures of its holdout; one that has them as it is."""
    if bundle.described["holdout"]:
        return bundle
    target, predicted = outcomes(holdout, setting.problem), bundle.predict(holdout)
    figures = evaluation.evaluate(target, predicted, holdout, setting.problem, setting.plan)
    return replace(bundle, described={**bundle.described, "holdout": figures})


def follow(
    strategy: str,
    bundle: Bundle,
    parts: dict[str, pd.DataFrame],
    arrived: tuple[pd.DataFrame, pd.DataFrame],
    setting: Setting,
    records: Sequence[dict[str, Any]] = (),
) -> Followed:
    """Return what a strategy would have answered, period by period, and when it would have retrained.

    At each close the labels that are known by then count, and no later ones. A new model answers from the next period
    on, whether or not it is better: what it is worth is the question. `CALENDAR` retrains at the first close after the end of a month,
    `TRIGGERED` where the rules of stage 09 say so, by the figures of the model in place, and not within
    ``decide.rest`` of the last time.

    Parameters
    ----------
    strategy : str
        `NEVER`, `CALENDAR` or `TRIGGERED`.
    bundle : Bundle
        In place at the beginning.
    parts : dict of DataFrame
        What it was made from: ``train``, ``validation``, ``holdout``.
    arrived : tuple of DataFrame
        The rows and their volume, of `read_arrivals`.
    setting : Setting
    records : sequence of dict, optional
        Of `apply_rules` for the first model; without them they are made here.
    """
    problem, params = setting.problem, setting.monitoring
    known, answered, retrained = pd.concat(parts.values(), ignore_index=True), [], []
    last: pd.Timestamp | None = None
    frame, volume = arrived
    frame = add_label_status(frame, volume, params, problem)
    records_by_period = {record["period"]: record for record in records}
    compared_with: Baseline | None = None
    for number, span in enumerate(volume.itertuples()):
        rows = frame[frame[PERIOD] == span.period].reset_index(drop=True)
        answered.append(predict(rows, bundle).assign(**{"@version": bundle.version}))
        if number == len(volume) - 1:
            break  # what would be retrained now answers nothing
        if strategy == TRIGGERED and last is not None and span.end - last < pd.Timedelta(params.decide.rest):
            continue
        if strategy == TRIGGERED and len(rows) and span.period not in records_by_period:
            compared_with = compared_with or _baseline(bundle, parts, setting)
            line = volume[number : number + 1]
            records_by_period[span.period] = evaluate_period(answered[-1], line, compared_with, params, setting.plan)
        reasons = _reasons(strategy, span, records_by_period.get(span.period))
        if not reasons:
            continue
        learnable = pd.concat([known, _labelled(pd.concat(answered), span.end, params, problem)[known.columns]])
        try:
            bundle, parts = refit(bundle, learnable.reset_index(drop=True), setting)
        except DataError:
            continue  # too little is known yet
        last, bundle = span.end, replace(bundle, version=f"fitted after {span.period}")
        fitted_on = len(parts["train"]) + len(parts["validation"])
        retrained.append({"close": span.period, "version": bundle.version, "rows": fitted_on, "reasons": reasons})
        records_by_period, compared_with = {}, None
    whole = pd.concat(answered, ignore_index=True) if answered else frame
    return Followed(whole, retrained)


def compared(
    bundle: Bundle,
    parts: dict[str, pd.DataFrame],
    arrived: tuple[pd.DataFrame, pd.DataFrame],
    records: Sequence[dict[str, Any]],
    setting: Setting,
) -> dict[str, Followed]:
    """Return the answers under every policy, see `follow`; none where nothing arrived, or where it was read from the log.

    The rows of a log were decided on by whichever model was there, and a redacted field cannot be learned from.
    """
    if arrived[0].empty or setting.monitoring.source == "log":
        return {}
    names = (NEVER, CALENDAR, TRIGGERED)
    return {name: follow(name, bundle, parts, arrived, setting, records=records) for name in names}


def compare(followed: dict[str, Followed], setting: Setting) -> pd.DataFrame:
    """Return what each strategy was worth on the same rows, all whose label became known.

    Returns
    -------
    DataFrame
        ``strategy``, ``retrainings``, ``payoff`` per row, the proper error (`scores.ERROR`: Brier score, or RMSE), each with
        ``_low`` and ``_high``; ``gain``: payoff per row above `NEVER`, paired, with its interval too. Intervals are over
        resampled blocks.
    """
    problem, names = setting.problem, list(followed)
    if not followed:
        return pd.DataFrame(columns=["strategy", "retrainings"])
    frames = {name: _in_the_end(one.frame) for name, one in followed.items()}
    first = frames[NEVER]
    target, metric = outcomes(first, problem), ERROR[problem.task]
    paid = {name: decisions.payoff(rows["@action"].to_numpy(), target, problem) for name, rows in frames.items()}
    said = {name: predictions(rows, problem) for name, rows in frames.items()}

    def statistic(weight: np.ndarray) -> dict[str, float]:
        means = {name: float(np.average(values, weights=weight)) for name, values in paid.items()}
        values_by_name = {f"payoff {name}": value for name, value in means.items()}
        values_by_name |= {f"gain {name}": value - means[NEVER] for name, value in means.items()}
        errors = {f"{metric} {name}": one_score(metric, target, each, problem, weight) for name, each in said.items()}
        return values_by_name | errors

    values_by_name = intervals(statistic, clusters(first, problem), setting.plan.bootstrap)
    rows = []
    for name in names:
        row: dict[str, Any] = {"strategy": name, "retrainings": len(followed[name].retrained)}
        for figure in ("payoff", "gain", metric):
            ends = values_by_name[f"{figure} {name}"]
            row |= {figure: ends["value"], f"{figure}_low": ends["low"], f"{figure}_high": ends["high"]}
        rows.append(row)
    return pd.DataFrame(rows)


def by_period(followed: dict[str, Followed], problem: Problem) -> pd.DataFrame:
    """Return, per period and strategy, the mean payoff and error of rows whose label became known.

    Returns
    -------
    DataFrame
        ``period``, ``strategy``, ``payoff``, ``error``, ``rows``.
    """
    metric, rows_by_period = ERROR[problem.task], []
    for name, one in followed.items():
        for period, rows in _in_the_end(one.frame).groupby(PERIOD, sort=False):
            target = outcomes(rows, problem)
            paid = decisions.payoff(rows["@action"].to_numpy(), target, problem)
            error = one_score(metric, target, predictions(rows, problem), problem)
            rows_by_period.append((period, name, float(paid.mean()), error, len(rows)))
    return pd.DataFrame(rows_by_period, columns=["period", "strategy", "payoff", "error", "rows"])


def as_plain(table: pd.DataFrame, followed: dict[str, Followed]) -> dict[str, Any]:
    """Return the table of `compare` and every retraining as plain values: ``strategies.json``."""
    return gate.tidy(
        {"strategies": table.to_dict("records"), "retrained": {name: one.retrained for name, one in followed.items()}}
    )


def captured(table: pd.DataFrame) -> float | None:
    """Return which share of the gain of retraining every month the triggered one brings; None where there is no gain."""
    gain = table.set_index("strategy")["gain"]
    return float(gain[TRIGGERED] / gain[CALENDAR]) if gain[CALENDAR] > 0 else None


def _baseline(bundle: Bundle, parts: dict[str, pd.DataFrame], setting: Setting) -> Baseline:
    return baseline(with_figures(bundle, parts["holdout"], setting), parts, setting.monitoring, setting.plan)


def _reasons(strategy: str, span: Any, record: Mapping[str, Any] | None) -> list[str]:
    """Return why a strategy retrains at this close; nothing if it does not."""
    if strategy == CALENDAR:
        return ["a month is over"] if span.start.to_period("M") != span.end.to_period("M") else []
    if strategy == NEVER or record is None or record["decision"] not in ("retrain", "roll back"):
        return []
    return list(record["reasons"])


def _labelled(frame: pd.DataFrame, close: pd.Timestamp, params: Params, problem: Problem) -> pd.DataFrame:
    """Return the rows whose label is known at a close."""
    known = frame[problem.target].notna() & (frame[problem.time] + pd.Timedelta(params.label_delay) <= close)
    rows = frame[known]
    return rows.astype({problem.target: "int64"}) if problem.is_class else rows


def _in_the_end(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame[STATUS].isin([AT_CLOSE, LATER])].reset_index(drop=True)


def _estimator(bundle: Bundle) -> Any:
    """Return the bundle's model before it was calibrated; fitting takes a copy of it."""
    return getattr(bundle.model, "model", bundle.model)
