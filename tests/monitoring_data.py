"""A quiet period of monitoring, its limits and its baseline."""

from typing import Any

from conftest import statement

from ninefold.problem import Problem

LIMITS = {
    name: {"limit": limit, "severity": severity}
    for name, limit, severity in (
        ("quarantined", 0.01, "medium"), ("volume", 0.25, "medium"), ("inputs", 0.25, "low"),
        ("predictions", 0.25, "medium"), ("outcomes", 0.05, "medium"), ("ranking", 0.05, "high"),
        ("error", 0.02, "high"), ("calibration", 0.05, "high"), ("gain", 0.0, "medium"),
    )
}  # fmt: skip
TARGETS = {"binary": "returned", "multiclass": "size", "regression": "price"}
TASKS = list(TARGETS)
COMMON: dict[str, Any] = {
    "table": "orders", "unit": "order", "units": "orders", "key": ["id"], "time": "placed", "group": None,
    "horizon": "2h", "payoff_unit": "euro",
}  # fmt: skip
SIZES = {"small": {"s": 1, "m": 0, "l": -1}, "large": {"s": -1, "m": 0, "l": 6}}
PROBLEMS: dict[str, dict[str, Any]] = {
    "binary": {"payoffs": {"act": {"positive": -1, "negative": -1}, "wait": {"positive": -4, "negative": 0}}},
    "multiclass": {"classes": ["s", "m", "l"], "focus": "m", "payoffs": SIZES},
    "regression": {},
}


def problem_of(task: str = "binary", **changes: Any) -> Problem:
    return statement(task, **{**COMMON, "target": TARGETS[task], **PROBLEMS[task]}).changed(**changes)


def figure(value: float, width: float = 0.01) -> dict[str, float]:
    return {"value": value, "low": value - width, "high": value + width}


LEVELS = {
    "binary": {"share of events": figure(0.2)},
    "multiclass": {'share of "s"': figure(0.5), 'share of "m"': figure(0.3), 'share of "l"': figure(0.2)},
    "regression": {"mean price": figure(0.2)},
}


def baseline(task: str = "binary") -> dict[str, Any]:
    figures = {"roc_auc": 0.75, "brier": 0.13, "rank_correlation": 0.75, "rmse": 0.13, "observed": 0.2, "skill": 0.1}
    return {"figures": {name: figure(each) for name, each in figures.items()}, "levels": LEVELS[task], "per_day": 100.0}


def record(drifted: int = 0, psi: float = 0.01, task: str = "binary", **changed: dict[str, float]) -> dict[str, Any]:
    """Return the record of a quiet period, with some figures or levels changed."""
    quiet = {"roc_auc": 0.74, "brier": 0.135, "rank_correlation": 0.74, "rmse": 0.135, "gap": 0.005, "gain": 0.1}
    levels = {name: changed.pop(name, level) for name, level in LEVELS[task].items()}
    counts = {"period": "2020-03", "raw": 3100, "quarantined": 0, "predictions": 3100, "days": 31.0, "features": 4}
    return {
        **counts,
        "drifted": {f"feature_{number}": 0.4 for number in range(drifted)},
        "prediction_psi": psi,
        "predictions_drifted": psi > 0.25,
        "figures": {name: figure(value) for name, value in quiet.items()} | changed,
        "levels": levels,
    }
