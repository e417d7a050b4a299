"""Params of stage 09, and a quiet period with its limits and its baseline."""

from collections.abc import Sequence
from typing import Any

from ninefold.monitoring import Params

LIMITS = {
    name: {"limit": limit, "severity": severity}
    for name, limit, severity in (
        ("quarantined", 0.01, "medium"), ("volume", 0.25, "medium"), ("inputs", 0.25, "low"),
        ("predictions", 0.25, "medium"), ("outcomes", 0.05, "medium"), ("ranking", 0.05, "high"),
        ("error", 0.02, "high"), ("calibration", 0.05, "high"), ("gain", 0.0, "medium"),
    )
}  # fmt: skip
VALUES: dict[str, Any] = {
    "source": "replay",
    "replay_until": "2020-04-30",
    "alpha": 0.01,
    "alerts": LIMITS,
    "decide": {"roll_back": 0, "retrain_high": 1, "retrain_drifted": 0.5},
}
PARAMS = Params(**VALUES)
LOGGED = PARAMS.model_copy(update={"source": "log"})


def figure(value: float, width: float = 0.01) -> dict[str, float]:
    return {"value": value, "low": value - width, "high": value + width}


LEVELS = {
    "binary": {"event rate": figure(0.2)},
    "multiclass": {'share of "small"': figure(0.5), 'share of "mid size"': figure(0.2)},
    "regression": {"mean price": figure(0.2)},
}


def baseline(task: str = "binary") -> dict[str, Any]:
    figures = {"roc_auc": 0.75, "brier": 0.13, "rank_correlation": 0.75, "rmse": 0.13, "observed": 0.2, "skill": 0.1}
    return {"figures": {name: figure(each) for name, each in figures.items()}, "levels": LEVELS[task], "per_day": 100.0}


def record(
    drifted: int = 0, psi: float = 0.01, task: str = "binary", outside: Sequence[str] = (), **changed: dict[str, float]
) -> dict[str, Any]:
    """Return the record of a quiet period, with some figures or levels changed, and figures `outside` their control limits."""
    quiet = {"roc_auc": 0.74, "brier": 0.135, "rank_correlation": 0.74, "rmse": 0.135, "gap": 0.005, "gain": 0.1}
    levels = {name: changed.pop(name, level) for name, level in LEVELS[task].items()}
    counts = {"period": "2020-03", "raw": 3100, "quarantined": 0, "predictions": 3100, "days": 31.0, "features": 4}
    return {
        **counts,
        "closed": True,
        "outside": [*outside],
        **{name: {} for name in ("natural", "ended", "joined", "estimated")},
        **{name: [] for name in ("findings", "slices")},
        "drifted": {f"feature_{number}": 0.4 for number in range(drifted)},
        "prediction_psi": psi,
        "predictions_drifted": psi > 0.25,
        "figures": {name: figure(value) for name, value in quiet.items()} | changed,
        "levels": levels,
    }
