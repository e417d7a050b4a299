"""The metrics of each task: their names, which values are better, and what they measure."""

from pathlib import Path

import yaml

from ninefold.labels import METRICS

MEANING: dict[str, dict[str, list[str]]] = yaml.safe_load(Path(__file__).with_name("metric_names.yaml").read_bytes())
PRIMARY = {"binary": "log_loss", "multiclass": "log_loss", "regression": "rmse"}
RANKING = {"binary": "roc_auc", "multiclass": "roc_auc", "regression": "rank_correlation"}
GUESSING = {"binary": 0.5, "multiclass": 0.5, "regression": 0.0}
ERROR = {"binary": "brier", "multiclass": "brier", "regression": "rmse"}


def title(metric: str) -> str:
    """Return the name of a metric for reading: ``ROC AUC``, ``log loss``."""
    return METRICS.get(metric, metric.replace("_", " "))
