"""Params of stage 09 for tests."""

from typing import Any

from monitoring_data import LIMITS

from ninefold.monitoring import Params

VALUES: dict[str, Any] = {
    "source": "replay",
    "replay_until": "2020-04-30",
    "alpha": 0.01,
    "alerts": LIMITS,
    "decide": {"roll_back": 0, "retrain_high": 1, "retrain_drifted": 0.5},
}


PARAMS = Params(**VALUES)
