"""What is unusual in a period, and why: its figures, the bounds that a stable stream keeps to, and the causes by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ninefold.core import (
    decisions,
    drift,
    estimation,
    evaluation,
    faults,
    limits,
    period,
    root_cause,
    shifts,
    two_sample,
)
from ninefold.core.estimation import Learned
from ninefold.core.limits import Shape
from ninefold.core.period import Bins, Rows
from ninefold.core.scores import RANKING, one_score
from ninefold.core.slices import losses

MOST_ROWS = 200_000  # of a side: a share of so many is known to a tenth of a per cent
MOST_WINDOWS = 24
ENOUGH, DRAWN = 20, 60  # windows of the holdout that tell how figures vary; periods drawn from it for want of these
LEAST_VOLUME = 0.05  # of the usual rows a day; a smaller change does not matter
INPUTS = ("missing", "unseen", "psi", "joint auc")
LEAST_PART = 100  # rows of a value of a category that is judged by itself
RARE = 0.01  # of the rows; rarer categories are one
SHAPES = {
    "missing": Shape("high", "plain", 0.01),
    "unseen": Shape("high", "plain", 0.01),
    "psi": Shape("high", "root", 0.05),
    "joint auc": Shape("high"),
    "loss": Shape("high", "log"),
    "ranking": Shape("low"),
    "payoff": Shape("low"),
    "gain": Shape("low"),
    "slices": Shape("high", "log"),
}


class Reference(NamedTuple):
    """What a period is held against; made once for a model."""

    known: Rows  # what the model was fitted on, and the holdout
    holdout: Rows
    kinds: dict[str, str]
    stated: dict[str, Any]
    agreed: dict[str, Any]
    bins: dict[str, Bins]
    counts: dict[str, np.ndarray]  # of the known rows, by place
    bounds: pd.DataFrame
    learned: Learned
    per_day: float | None
    seed: int


def reference(
    fitted: Rows | None,
    holdout: Rows,
    kinds: Mapping[str, str],
    stated: dict[str, Any],
    agreed: dict[str, Any],
    length: float,
    alpha: float = 0.05,
    seed: int = 0,
) -> Reference:
    """Return what periods are held against: distributions, natural variation of every figure, errors on the holdout.

    Figures of inputs vary as in windows of all known rows, each held against the other windows; those of forecasts and
    outcomes as in the holdout alone, on which forecasts were honest: in its windows, or where these are fewer than
    `ENOUGH`, in periods drawn from its days with replacement. Those vary less than weeks that resemble themselves: what is
    called unusual then differs from the holdout, be it a season. Of a side at most `MOST_ROWS` rows count.

    Parameters
    ----------
    fitted : Rows, optional
        What the model was fitted on; its forecasts are not looked at. Rows without an outcome belong to it too.
    holdout : Rows
        With forecasts, and outcomes where they are known.
    kinds : mapping
        Feature -> its kind (`period.rows`), without the time of the event.
    stated, agreed : dict
        The problem, and what stage 04 agreed.
    length : float
        Of a period: days where there is time, else rows.
    alpha : float
        The share of stable periods that may have any figure outside its bounds, 0-1.
    seed : int
    """
    parts = [part for part in (fitted, holdout) if part is not None and len(part.block)]
    timed = bool(stated["time"])
    block = np.concatenate([part.block for part in parts])
    per_day = len(block) / len(np.unique(block)) if timed else None
    spans = period.windows(block, length, timed, most=MOST_WINDOWS, seed=seed)
    arrived = [{"rows per day": _daily(block[span])} for span in spans] if timed else []
    known = _together(parts)
    held = period.sample(holdout, MOST_ROWS)
    bins = {name: period.learn_bins(known.features[name], kind) for name, kind in kinds.items()}
    places = {name: _places(known, name, kind, bins[name]) for name, kind in kinds.items()}
    counts = {name: np.bincount(found, minlength=bins[name].size + 1) for name, found in places.items()}
    bins[shifts.FORECAST] = period.learn_bins(_expected(held, stated), "numeric")
    counts[shifts.FORECAST] = np.bincount(
        _forecast_places(held, stated, bins), minlength=bins[shifts.FORECAST].size + 1
    )
    whole = Reference(
        known, held, dict(kinds), stated, agreed, bins, counts, pd.DataFrame(), estimation.learn(held, stated), per_day, seed
    )  # fmt: skip
    inputs = limits.measure(
        period.windows(known.block, length, timed, most=MOST_WINDOWS, seed=seed),
        lambda window: _input_figures(
            whole, period.take(known, window), {k: v[window] for k, v in places.items()}, window
        ),
    )
    forecasts = _natural(whole, held, length, timed, seed)
    table = pd.concat([pd.DataFrame(arrived), inputs, forecasts], axis=1)
    shapes = {name: SHAPES.get(name.split(":")[0], Shape()) for name in table}
    shapes["rows per day"] = Shape("both", "log", LEAST_VOLUME * (per_day or 0.0))
    return whole._replace(bounds=limits.bounds(table, shapes, alpha))


def figures(against: Reference, rows: Rows, days: float | None = None, seen: int | None = None) -> dict[str, float]:
    """Return the figures of a period, by name, as far as they can be told.

    ``rows per day``; of each feature ``missing`` and ``unseen`` (categories), shares 0-1, and ``psi``; ``joint auc`` of all
    features; ``psi: the forecast``, ``mean forecast`` (of several classes, each), ``expected payoff``; where the outcomes of
    at least half of the rows are known ``outcome`` (mean, or share of each class), ``gap`` (mean forecast less outcome),
    ``loss``, ``ranking``, ``payoff`` and ``gain`` per row, and ``slices``, how far the worst part is off beyond the others.

    Parameters
    ----------
    against : Reference
    rows : Rows
        Of the period, at least one.
    days : float, optional
        Length of the period; days with rows if absent.
    seen : int, optional
        Rows that arrived, if `rows` are but some of them.
    """
    found: dict[str, float] = {}
    if against.per_day is not None:
        found["rows per day"] = (seen or len(rows.block)) / (days or len(np.unique(rows.block)))
    places = {name: _places(rows, name, kind, against.bins[name]) for name, kind in against.kinds.items()}
    found |= _input_figures(against, rows, places)
    found |= _forecast_figures(against, rows)
    if np.isfinite(rows.target).mean() >= 0.5:
        found |= _outcome_figures(against, rows)
    return {name: value for name, value in found.items() if np.isfinite(value)}


def examine(against: Reference, rows: Rows, days: float | None = None, alpha: float = 0.01) -> dict[str, Any]:
    """Return what is unusual in a period, and why, as plain values.

    Parameters
    ----------
    against : Reference
    rows : Rows
        All that arrived in the period, with forecasts; outcomes where they are known. None is silence.
    days : float, optional
        Length of the period; needed to tell silence where there is time.
    alpha : float
        Of the p-values that causes rest on, corrected for their number.

    Returns
    -------
    dict
        ``rows`` and ``labelled``; ``figures``: name -> ``value``, ``low`` and ``high`` (the bounds, infinite where there is
        none) and ``usual``; ``outside``: names of those beyond, farthest first: the raw material of alerts; ``estimated``:
        see `estimation.estimate`; ``findings``, ``decomposition`` and ``auc``: see `root_cause.causes`, of a period in
        which anything is outside (else none: a stable period needs no cause).
    """
    told = glance(against, rows, days)
    if not told["outside"] or len(rows.block) < faults.FEWEST:
        return told
    rows, outside, silent = period.sample(rows, MOST_ROWS), told["outside"], told["findings"]
    natural = float(against.bounds["high"].get("joint auc", 1.0))
    held = period.known(against.holdout)
    moved = any(name.split(":")[0] in INPUTS and not name.endswith(shifts.FORECAST) for name in outside)
    why = root_cause.causes(
        against.known, held, rows, against.kinds, against.stated, natural, moved, alpha, against.seed
    )
    return {**told, **why, "findings": [*silent, *why["findings"]]}


def glance(against: Reference, rows: Rows, days: float | None = None, alpha: float = 0.01) -> dict[str, Any]:
    """Return what `examine` returns, without looking for causes: those alone that need no comparison are among the findings."""
    whole = len(rows.block)
    silent = faults.silence(whole, against.per_day, days, len(np.unique(rows.block)))
    told: dict[str, Any] = {
        "rows": whole,
        "labelled": int(np.isfinite(rows.target).sum()),
        "figures": {},
        "estimated": {},
    }
    told |= {"findings": silent, "decomposition": None, "auc": None}
    if whole < faults.FEWEST:
        return {**told, "outside": ["rows per day"] if silent else []}
    rows = period.sample(rows, MOST_ROWS)
    values = figures(against, rows, days, whole)
    outside = limits.outside(values, against.bounds)
    if silent:
        outside = ["rows per day", *(name for name in outside if name != "rows per day")]
    told |= {"figures": _bounded(values, against.bounds), "outside": outside}
    estimated = estimation.estimate(rows, against.learned, against.stated, against.agreed, seed=against.seed)
    return {**told, "estimated": estimated}


def _input_figures(
    against: Reference, rows: Rows, places: Mapping[str, np.ndarray], window: np.ndarray | None = None
) -> dict[str, float]:
    """Return the figures of features against all known rows, or against those outside of `window`, a mask of these."""
    found, size = {}, len(rows.block)
    for name, kind in against.kinds.items():
        bins, total = against.bins[name], against.counts[name]
        mine = np.bincount(places[name], minlength=bins.size + 1)
        other = total - mine if window is not None else total
        found[f"missing: {name}"] = mine[0] / size
        if kind == "categorical":
            found[f"unseen: {name}"] = float(mine[1:][other[1:] == 0].sum() / size)
        found[f"psi: {name}"] = _psi(other, mine)
    rest = np.arange(len(against.known.block)) if window is None else np.flatnonzero(~window)
    before = period.take(against.known, rest[two_sample.thin(len(rest), root_cause.JOINT_ROWS)])
    parts = before.features, rows.features
    blocks = before.block, rows.block
    compared = two_sample.compare(*parts, against.kinds, blocks, against.seed, root_cause.JOINT_ROWS, explain=False)
    return {**found, "joint auc": compared.auc}


def _forecast_figures(against: Reference, rows: Rows, window: np.ndarray | None = None) -> dict[str, float]:
    mine = np.bincount(
        _forecast_places(rows, against.stated, against.bins), minlength=against.bins[shifts.FORECAST].size + 1
    )
    total = against.counts[shifts.FORECAST]
    found = {f"psi: {shifts.FORECAST}": _psi(total - mine if window is not None else total, mine)}
    said = shifts.said(rows, against.stated).mean(axis=0)
    found |= _by_class("mean forecast", said, against.stated)
    return {
        **found,
        "expected payoff": float(decisions.decide(rows.predicted, against.stated)["expected_payoff"].mean()),
    }


def _natural(whole: Reference, held: Rows, length: float, timed: bool, seed: int) -> pd.DataFrame:
    """Return the figures of forecasts and outcomes in stable periods: of windows of the holdout, or drawn from its days."""
    parts = period.windows(held.block, length, timed, most=MOST_WINDOWS, seed=seed)
    if len(parts) >= ENOUGH:
        return limits.measure(parts, lambda window: _later_figures(whole, period.take(held, window), window))
    drawn = [
        _later_figures(whole, period.take(held, rows)._replace(block=block))
        for rows, block in period.replays(held.block, length, timed, DRAWN, seed)
    ]
    return pd.DataFrame(drawn, dtype="float64")


def _later_figures(against: Reference, rows: Rows, window: np.ndarray | None = None) -> dict[str, float]:
    return {**_forecast_figures(against, rows, window), **_outcome_figures(against, rows)}


def _outcome_figures(against: Reference, rows: Rows) -> dict[str, float]:
    rows, stated = period.known(rows), against.stated
    if not len(rows.block):
        return {}
    gap, said = shifts.residuals(rows, stated).mean(axis=0), shifts.said(rows, stated).mean(axis=0)
    paid, best, _ = evaluation.against_baseline(rows.target, rows.predicted, stated, against.agreed)
    parted = _worst_part(against, rows)
    return {
        **_by_class("outcome", said + gap, stated),
        **_by_class("gap", -gap, stated),
        "loss": float(losses(rows.target, rows.predicted, stated).mean()),
        "ranking": one_score(RANKING[stated["task"]], rows.target, rows.predicted, stated),
        "payoff": float(paid.mean()),
        "gain": float((paid - best).mean()),
        **({"slices": parted} if parted else {}),
    }


def _worst_part(against: Reference, rows: Rows) -> float:
    """Return how far the forecasts of the worst part are off beyond those of all rows, in standard errors of rows.

    Parts are the values of categories; of how much days do to it, the natural variation of this very figure tells.
    """
    error = shifts.residuals(rows, against.stated)
    error = error - error.mean(axis=0)
    spread, worst = error.std(axis=0), 0.0
    for name, kind in against.kinds.items():
        if kind == "categorical":
            place = _places(rows, name, kind, against.bins[name])
            count = np.bincount(place)
            often = count >= LEAST_PART
            for column in np.flatnonzero(spread > 0):
                total = np.abs(np.bincount(place, error[:, column]))[often]
                found = total / np.sqrt(count[often]) / spread[column]
                worst = max(worst, float(found.max(initial=0.0)))
    return worst


def _by_class(name: str, values: np.ndarray, stated: dict[str, Any]) -> dict[str, float]:
    if len(values) == 1:
        return {name: float(values[0])}
    return {f"{name}: {each}": float(value) for each, value in zip(stated["classes"], values, strict=True)}


def _psi(before: np.ndarray, after: np.ndarray) -> float:
    """Return the population stability index of rows by place; places that are rare in both are one."""
    shares = [each / max(each.sum(), 1) for each in (before, after)]
    often = np.maximum(*shares) >= RARE
    often[0] = False  # missing values are told apart
    told = [
        {"shares": each[often].tolist(), "other": float(each[1:][~often[1:]].sum()), "missing": float(each[0])}
        for each in shares
    ]
    return drift.psi(*told)


def _places(rows: Rows, name: str, kind: str, bins: Bins) -> np.ndarray:
    return period.places(rows.features[name], kind, bins) + 1


def _expected(rows: Rows, stated: dict[str, Any]) -> pd.Series:
    return pd.Series(np.asarray(decisions.expected(rows.predicted, stated), dtype="float64"))


def _forecast_places(rows: Rows, stated: dict[str, Any], bins: Mapping[str, Bins]) -> np.ndarray:
    return period.places(_expected(rows, stated), "numeric", bins[shifts.FORECAST]) + 1


def _together(parts: list[Rows]) -> Rows:
    """Return the rows of all parts, without forecasts, thinned."""
    features = pd.concat([part.features for part in parts], ignore_index=True)
    target, block = (np.concatenate([getattr(part, name) for part in parts]) for name in ("target", "block"))
    return period.sample(Rows(features, pd.DataFrame(), target, block), MOST_ROWS)


def _daily(block: np.ndarray) -> float:
    return len(block) / (int(block.max()) - int(block.min()) + 1)


def _bounded(values: Mapping[str, float], bounds: pd.DataFrame) -> dict[str, dict[str, float]]:
    free = {"low": -np.inf, "high": np.inf, "usual": float("nan")}
    told = bounds[["low", "high", "usual"]].to_dict("index")
    return {name: {"value": float(value), **{**free, **told.get(name, {})}} for name, value in values.items()}
