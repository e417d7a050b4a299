"""The metrics of each task: their names, which values are better, and what they measure."""

_PROBABILITY = {
    "log_loss": ("lower", "surprise at the outcomes; a proper score, which only true probabilities make best"),
    "brier": ("lower", "squared error of the probabilities; a proper score"),
}
MEANING: dict[str, dict[str, tuple[str, str]]] = {
    "binary": {
        **_PROBABILITY,
        "roc_auc": ("higher", "chance that a random event is ranked above a random non-event"),
        "average_precision": ("higher", "mean precision over all recalls"),
    },
    "multiclass": {
        **_PROBABILITY,
        "roc_auc": ("higher", "chance that a random row of a class is ranked above one of another; mean over classes"),
        "accuracy": ("higher", "share of rows whose most probable class is the true one"),
        "balanced_accuracy": ("higher", "the same for each class by itself, then the mean over classes"),
    },
    "regression": {
        "rmse": ("lower", "root of the mean squared error, in the target's unit; large errors weigh most"),
        "mae": ("lower", "mean absolute error, in the target's unit"),
        "r2": ("higher", "share of the variance that is predicted; 0 is no better than the mean"),
        "rank_correlation": ("higher", "Spearman's correlation of prediction and outcome"),
    },
}
PRIMARY = {"binary": "log_loss", "multiclass": "log_loss", "regression": "rmse"}
RANKING = {"binary": "roc_auc", "multiclass": "roc_auc", "regression": "rank_correlation"}
GUESSING = {"binary": 0.5, "multiclass": 0.5, "regression": 0.0}
ERROR = {"binary": "brier", "multiclass": "brier", "regression": "rmse"}


def title(metric: str) -> str:
    """Return the name of a metric for reading: ``ROC AUC``, ``log loss``."""
    named = {"roc_auc": "ROC AUC", "rmse": "RMSE", "mae": "MAE", "r2": "R²", "brier": "Brier score"}
    return named.get(metric, metric.replace("_", " "))
