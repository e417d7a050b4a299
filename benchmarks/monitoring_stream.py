"""A stream whose truth is known: days that differ, a model fitted on its past, and faults that can be planted in it."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from ninefold.metrics import EvaluationPlan
from ninefold.monitoring import period
from ninefold.monitoring.period import Rows
from ninefold.monitoring.reference import Context, Reference, reference
from ninefold.problem import Costs, Problem, decisions

NUMBERS = ["age", "speed", "load", "amount"]
KINDS = {
    **dict.fromkeys(NUMBERS, "numeric"),
    "shop": "categorical",
    "channel": "categorical",
    "note": "text",
    "joined": "date",
}
SHOPS, CHANNELS = ["north", "south", "east", "west", "centre", "port"], ["web", "phone", "review"]
WORDS = ["late", "fine", "gift", "again", "new", "none"]
FIRST = pd.Timestamp("2024-01-01")
TRAIN, HOLDOUT, DAILY, WEEK = 120, 84, 714, 7
WEIGHTS = {"age": 0.9, "speed": -0.7, "load": 0.5, "amount": 0.6, "north": 0.6, "web": -0.4}
BASE: dict[str, Any] = {
    "time": "moment",
    "group": None,
    "target": "outcome",
    "unit": "row",
    "units": "rows",
    "key": ["id"],
}
VALUES: dict[str, dict[str, Any]] = {
    "binary": {
        **BASE, "task": "binary", "classes": ["no", "yes"], "positive": "happens",
        "payoffs": {"act": {"positive": -1, "negative": -1}, "wait": {"positive": -4, "negative": 0}},
    },
    "multiclass": {
        **BASE, "task": "multiclass", "classes": ["low", "mid", "top"], "focus": "top",
        "payoffs": {one: {other: float(one == other) for other in ("low", "mid", "top")} for one in ("low", "mid", "top")},
    },
    "regression": {**BASE, "task": "regression", "costs": Costs(over=1.0, under=3.0)},
}  # fmt: skip
PROBLEM = {task: Problem.model_construct(**values) for task, values in VALUES.items()}


class Stream(NamedTuple):
    """A model, its reference, and the truth behind its rows."""

    against: Reference
    model: Any
    task: str
    extra: int  # numeric features that mean nothing


def draw(
    days: int, seed: int, start: int, task: str = "binary", daily: float = DAILY, extra: int = 0, **planted: float
) -> pd.DataFrame:
    """Return stable rows with their outcome; `inputs` moves ages by so many deviations, `relations` turns their effect."""
    random = np.random.default_rng(seed)
    day = np.repeat(np.arange(days), random.poisson(daily, days))
    size, effect = len(day), random.normal(0, 1, (days, 6))
    # Days differ, and a week hangs together: both move what comes in, and how often outcomes do.
    slow = np.repeat(random.normal(0, 1, (days // WEEK + 1, 6)), WEEK, axis=0)[:days]
    both = (0.1 * effect + 0.06 * slow)[day]
    frame = pd.DataFrame({name: random.normal(size=size) + both[:, place] for place, name in enumerate(NUMBERS)})
    frame["age"] += planted.get("inputs", 0.0)
    signal = (
        sum(WEIGHTS[name] * frame[name] for name in NUMBERS) - 2 * planted.get("relations", 0.0) * 0.45 * frame["age"]
    )
    frame["amount"] = np.exp(3 + 0.5 * frame["amount"])
    shares = np.array([0.3, 0.2, 0.2, 0.1, 0.1, 0.1])
    frame["shop"] = random.choice(SHOPS, size, p=shares)
    frame["channel"] = random.choice(CHANNELS, size, p=[0.5, 0.3, 0.2])
    frame["note"] = [" ".join(each) for each in random.choice(WORDS, (size, 3))]
    frame["moment"] = FIRST + pd.to_timedelta((start + day) * 24 + random.integers(0, 24, size), "h")
    frame["joined"] = frame["moment"] - pd.to_timedelta(random.gamma(2, 200, size), "D")
    frame["age"] = frame["age"].mask(random.random(size) < 0.03)
    signal = signal + WEIGHTS["north"] * (frame["shop"] == "north") + WEIGHTS["web"] * (frame["channel"] == "web")
    signal = signal + 0.12 * both[:, 5] / 0.1
    noise = pd.DataFrame(random.normal(size=(size, extra)), columns=[f"x{number}" for number in range(extra)])
    return pd.concat([frame, noise], axis=1).assign(outcome=_outcome(signal.to_numpy(), random, task))


def fit(
    seed: int, task: str = "binary", extra: int = 0, days: tuple[int, int] = (TRAIN, HOLDOUT), length: float = WEEK
) -> Stream:
    """Return a model fitted on the first days, and the reference of its periods."""
    whole = draw(sum(days), seed, 0, task, extra=extra)
    first = whole["moment"] < FIRST + pd.Timedelta(days=days[0])
    train, held = whole[first].reset_index(drop=True), whole[~first].reset_index(drop=True)
    numbers = [*NUMBERS, *(f"x{number}" for number in range(extra))]
    encode = make_column_transformer(
        ("passthrough", numbers), (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["shop", "channel"])
    )
    learner = HistGradientBoostingRegressor if task == "regression" else HistGradientBoostingClassifier
    model = make_pipeline(
        encode, learner(max_iter=80, learning_rate=0.06, max_leaf_nodes=12, early_stopping=False, random_state=0)
    )
    model.fit(train, train["outcome"])
    problem, kinds = PROBLEM[task], {**KINDS, **dict.fromkeys(numbers, "numeric")}
    plan = EvaluationPlan.model_construct(policies=decisions.policies(train["outcome"].to_numpy(), problem))
    stream = Stream(None, model, task, extra)  # type: ignore[arg-type]
    fitted = period.rows(train, train[[]], kinds, problem)
    against = reference(fitted, rows(stream, held, kinds), Context(kinds, problem, plan), length)
    return stream._replace(against=against)


def rows(stream: Stream, frame: pd.DataFrame, kinds: dict[str, str] | None = None) -> Rows:
    """Return rows of the stream with the forecast of its model."""
    problem = PROBLEM[stream.task]
    if stream.task == "regression":
        said = stream.model.predict(frame) if len(frame) else np.array([])
        predicted = pd.DataFrame(
            {"prediction": said, "low": said - 2, "high": said + 2, "quantile": said + 0.7, "loss": 1.3}
        )
    else:
        p = stream.model.predict_proba(frame) if len(frame) else np.empty((0, len(problem.classes)))
        names = decisions.forecast_columns(problem)
        predicted = pd.DataFrame(p[:, -len(names) :], columns=names)
    return period.rows(frame, predicted, kinds or stream.against.kinds, problem)


def plant(stream: Stream, kind: str, seed: int, days: int = WEEK, size: float = 1.0) -> pd.DataFrame:
    """Return a period after the holdout in which one thing is wrong; `size` 1 is a clear case."""
    start, random = TRAIN + HOLDOUT + WEEK * (seed % 7), np.random.default_rng(seed + 7)
    planted = {"covariate shift": {"inputs": size}, "concept shift": {"relations": size}}.get(kind, {})
    frame = draw(days, 10_000 + seed, start, stream.task, extra=stream.extra, **planted)
    if kind == "label shift":
        return _other_outcomes(stream, frame, seed, start, days, size)
    if kind == "all null":
        frame["amount"] = np.nan
    elif kind == "unit changed":
        frame["amount"] *= 2.20462 if seed % 2 else 100.0
    elif kind == "new category":
        fresh = random.random(len(frame)) < 0.15 * size
        frame.loc[fresh, "shop"] = "harbour"
    elif kind == "silence":
        frame = frame[random.random(len(frame)) < (0.02 if seed % 2 else 0.0)].reset_index(drop=True)
    return frame


def without_outcomes(rows: Rows) -> Rows:
    """Return the rows as they are before their labels arrive."""
    return copy.copy(rows)._replace(target=np.full(len(rows.block), np.nan))


def _other_outcomes(stream: Stream, frame: pd.DataFrame, seed: int, start: int, days: int, size: float) -> pd.DataFrame:
    """Return as many rows a day, drawn by their outcome from four times as many: inputs of an outcome stay what they are."""
    more = draw(days, 20_000 + seed, start, stream.task, 4 * DAILY, stream.extra)
    rank = more["outcome"].rank(pct=True) if stream.task == "regression" else more["outcome"]
    random = np.random.default_rng(seed)
    chance = np.exp((3 if stream.task == "regression" else 1) * size * np.asarray(rank, dtype="float64"))
    kept = random.random(len(more)) < chance / chance.mean() / 4  # a quarter is kept
    return more[kept].reset_index(drop=True)


def _outcome(signal: np.ndarray, random: np.random.Generator, task: str) -> np.ndarray:
    if task == "regression":
        return 20 + 2 * signal + random.normal(0, 1.5, len(signal))
    if task == "binary":
        return (random.random(len(signal)) < 1 / (1 + np.exp(1.2 - signal))).astype("int64")
    odds = np.exp(np.column_stack([0 * signal, 0.5 + 0.4 * signal, signal - 0.8]))
    share = odds / odds.sum(axis=1, keepdims=True)
    return (random.random(len(signal))[:, None] > share.cumsum(axis=1)).sum(axis=1)
