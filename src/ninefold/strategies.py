"""What would retraining have been worth? Never, at every close of a month, or when the monitor says so, on the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ninefold import deployment, monitoring, training
from ninefold import metrics as agreed_metrics
from ninefold.core import adjustment, decisions, evaluation, fitting, gate
from ninefold.core.errors import DataError
from ninefold.core.fitting import FOLD
from ninefold.core.scores import ERROR, Bootstrap, blocks, intervals, one_score
from ninefold.monitoring import LABELS, PERIOD, STATUS, Standard
from ninefold.serving.bundle import Bundle

NEVER, CALENDAR, TRIGGERED = "never", "every month", "when the monitor says so"


class Followed(NamedTuple):
    """What came of a strategy.

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
    """What all strategies share: the problem, what was agreed, the params of stages 04, 07 and 09."""

    stated: dict[str, Any]
    agreed: dict[str, Any]
    metrics: agreed_metrics.Params
    training: training.Params
    monitoring: monitoring.Params


def refit(bundle: Bundle, rows: pd.DataFrame, setting: Setting) -> tuple[Bundle, dict[str, pd.DataFrame]]:
    """Return the bundle with its model fitted anew on newer rows, and the parts that they were split into.

    As `ninefold retrain` does it, but for the choice of the candidate: the rows are split anew by the agreed shares, the
    same model and options are fitted on training and validation, and set right by forecasts of the validation part. The
    new holdout, the newest part, stays unseen; `with_figures` judges on it.

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
    stated, params = setting.stated, setting.training.model_copy(update={"folds": 1})
    parts = training.split(rows, agreed_metrics.split(rows, setting.metrics, stated), stated)
    signed = {**bundle.columns, "wide": [field["name"] for field in bundle.signature if field.get("wide")]}
    estimator, method = _estimator(bundle), bundle.described["model"]["calibration"]
    open_parts = {name: parts[name] for name in ("train", "validation")}
    model = training.finish(estimator, open_parts, signed, stated)
    if method != "none":  # else what a fit without the validation part foresees there is not needed
        unseen, forecasts = training.validate({"it": estimator}, open_parts, signed, params, stated)
        recent, said = training.newest(unseen, forecasts["it"], stated)
        model = adjustment.adjust(model, method, said, recent.drop(columns=FOLD), params.interval, stated)
    predicted = fitting.predict(model, parts["holdout"], signed, stated)
    compared = deployment.reference(parts, predicted, bundle.signature, stated)
    described = {**bundle.described, "holdout": {}}
    return replace(bundle, model=model, described=described, reference=compared, version=""), parts


def with_figures(bundle: Bundle, holdout: pd.DataFrame, setting: Setting) -> Bundle:
    """Return a refitted bundle with the figures of its holdout; one that has them as it is."""
    if bundle.described["holdout"]:
        return bundle
    target, predicted = monitoring.target_of(holdout, setting.stated), bundle.predict(holdout)
    found = evaluation.evaluate(target, predicted, holdout, setting.stated, setting.agreed)
    return replace(bundle, described={**bundle.described, "holdout": found})


def follow(
    strategy: str,
    bundle: Bundle,
    parts: dict[str, pd.DataFrame],
    frame: pd.DataFrame,
    volume: pd.DataFrame,
    setting: Setting,
    judged: Sequence[dict[str, Any]] = (),
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
    frame, volume : DataFrame
        What `monitoring.replay` returned.
    setting : Setting
    judged : sequence of dict, optional
        What `monitoring.judge` said of the first model; absent: it is judged here.
    """
    stated, params = setting.stated, setting.monitoring
    known, answered, retrained = pd.concat(parts.values(), ignore_index=True), [], []
    last: pd.Timestamp | None = None
    frame = monitoring.wait(frame, volume, params, stated)
    told = {record["period"]: record for record in judged}
    held: Standard | None = None
    for number, span in enumerate(volume.itertuples()):
        rows = frame[frame[PERIOD] == span.period].reset_index(drop=True)
        answered.append(monitoring.predict(rows, bundle).assign(**{"@version": bundle.version}))
        if number == len(volume) - 1:
            break  # what would be retrained now answers nothing
        if strategy == TRIGGERED and last is not None and span.end - last < pd.Timedelta(params.decide.rest):
            continue
        if strategy == TRIGGERED and len(rows) and span.period not in told:
            held = held or _standard(bundle, parts, setting)
            line = volume[number : number + 1]
            told[span.period] = monitoring.examine(answered[-1], line, held, params, stated, setting.agreed)
        reasons = _reasons(strategy, span, told.get(span.period))
        if not reasons:
            continue
        arrived = pd.concat([known, _labelled(pd.concat(answered), span.end, params, stated)[known.columns]])
        try:
            bundle, parts = refit(bundle, arrived.reset_index(drop=True), setting)
        except DataError:
            continue  # too little is known yet
        last, bundle = span.end, replace(bundle, version=f"fitted after {span.period}")
        fitted_on = len(parts["train"]) + len(parts["validation"])
        retrained.append({"close": span.period, "version": bundle.version, "rows": fitted_on, "reasons": reasons})
        told, held = {}, None
    whole = pd.concat(answered, ignore_index=True) if answered else frame
    return Followed(whole, retrained)


def compared(
    bundle: Bundle,
    parts: dict[str, pd.DataFrame],
    frame: pd.DataFrame,
    volume: pd.DataFrame,
    judged: Sequence[dict[str, Any]],
    setting: Setting,
) -> dict[str, Followed]:
    """Return what came of every strategy, see `follow`; none where nothing arrived, or where it was read from the log.

    The rows of a log were decided on by whichever model was there, and a redacted field cannot be learned from.
    """
    if frame.empty or setting.monitoring.source == "log":
        return {}
    names = (NEVER, CALENDAR, TRIGGERED)
    return {name: follow(name, bundle, parts, frame, volume, setting, judged=judged) for name in names}


def compare(followed: dict[str, Followed], setting: Setting) -> pd.DataFrame:
    """Return what each strategy was worth on the same rows, all whose label became known.

    Returns
    -------
    DataFrame
        ``strategy``, ``retrainings``, ``payoff`` per row, the proper error (`scores.ERROR`: Brier score, or RMSE), each with
        ``_low`` and ``_high``; ``gain``: payoff per row above `NEVER`, paired, with its interval too. Intervals are over
        resampled blocks.
    """
    stated, names = setting.stated, list(followed)
    if not followed:
        return pd.DataFrame(columns=["strategy", "retrainings"])
    frames = {name: _in_the_end(one.frame) for name, one in followed.items()}
    first = frames[NEVER]
    target, metric = monitoring.target_of(first, stated), ERROR[stated["task"]]
    paid = {name: decisions.payoff(rows["@action"].to_numpy(), target, stated) for name, rows in frames.items()}
    said = {name: monitoring.forecast(rows, stated) for name, rows in frames.items()}

    def statistic(weight: np.ndarray) -> dict[str, float]:
        means = {name: float(np.average(values, weights=weight)) for name, values in paid.items()}
        found = {f"payoff {name}": value for name, value in means.items()}
        found |= {f"gain {name}": value - means[NEVER] for name, value in means.items()}
        errors = {f"{metric} {name}": one_score(metric, target, each, stated, weight) for name, each in said.items()}
        return found | errors

    found = intervals(statistic, blocks(first, stated), Bootstrap(**setting.agreed["bootstrap"]))
    rows = []
    for name in names:
        row: dict[str, Any] = {"strategy": name, "retrainings": len(followed[name].retrained)}
        for figure in ("payoff", "gain", metric):
            ends = found[f"{figure} {name}"]
            row |= {figure: ends["value"], f"{figure}_low": ends["low"], f"{figure}_high": ends["high"]}
        rows.append(row)
    return pd.DataFrame(rows)


def by_period(followed: dict[str, Followed], stated: dict[str, Any]) -> pd.DataFrame:
    """Return, per period and strategy, the mean payoff and error of rows whose label became known.

    Returns
    -------
    DataFrame
        ``period``, ``strategy``, ``payoff``, ``error``, ``rows``.
    """
    metric, found = ERROR[stated["task"]], []
    for name, one in followed.items():
        for period, rows in _in_the_end(one.frame).groupby(PERIOD, sort=False):
            target = monitoring.target_of(rows, stated)
            paid = decisions.payoff(rows["@action"].to_numpy(), target, stated)
            error = one_score(metric, target, monitoring.forecast(rows, stated), stated)
            found.append((period, name, float(paid.mean()), error, len(rows)))
    return pd.DataFrame(found, columns=["period", "strategy", "payoff", "error", "rows"])


def told(table: pd.DataFrame, followed: dict[str, Followed]) -> dict[str, Any]:
    """Return what `compare` found, and every retraining, as plain values."""
    return gate.tidy(
        {"strategies": table.to_dict("records"), "retrained": {name: one.retrained for name, one in followed.items()}}
    )


def captured(table: pd.DataFrame) -> float | None:
    """Return which share of the gain of retraining every month the triggered one brings; None where there is no gain."""
    gain = table.set_index("strategy")["gain"]
    return float(gain[TRIGGERED] / gain[CALENDAR]) if gain[CALENDAR] > 0 else None


def _standard(bundle: Bundle, parts: dict[str, pd.DataFrame], setting: Setting) -> Standard:
    judged = with_figures(bundle, parts["holdout"], setting)
    return monitoring.standard(judged, parts, setting.monitoring, setting.stated, setting.agreed)


def _reasons(strategy: str, span: Any, record: Mapping[str, Any] | None) -> list[str]:
    """Return why a strategy retrains at this close; nothing if it does not."""
    if strategy == CALENDAR:
        return ["a month is over"] if span.start.to_period("M") != span.end.to_period("M") else []
    if strategy == NEVER or record is None or record["decision"] not in ("retrain", "roll back"):
        return []
    return list(record["reasons"])


def _labelled(
    frame: pd.DataFrame, close: pd.Timestamp, params: monitoring.Params, stated: dict[str, Any]
) -> pd.DataFrame:
    """Return the rows whose label is known at a close."""
    known = frame[stated["target"]].notna() & (frame[stated["time"]] + pd.Timedelta(params.label_delay) <= close)
    rows = frame[known]
    return rows.astype({stated["target"]: "int64"}) if decisions.is_class(stated) else rows


def _in_the_end(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame[STATUS].isin(LABELS[:2])].reset_index(drop=True)


def _estimator(bundle: Bundle) -> Any:
    """Return the bundle's model before it was set right; fitting takes a copy of it."""
    return getattr(bundle.model, "model", bundle.model)
