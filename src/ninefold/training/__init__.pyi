from . import (
    calibration,
    cross_validation,
    explanation,
    fairness,
    model_file,
    selection,
    sentences,
    significance,
    slices,
    too_good,
)
from .calibration import Calibrated
from .conformal import WithInterval
from .cross_validation import Task, finish, learning_curve, newest, validate
from .estimators import Blend, Categories, DateParts, EmptyAsZero, Words, of_all_classes
from .explanation import by_group, explained, extremes, importance
from .models import OPTIONS, gradient_boosting
from .params import Params
from .slices import losses
from .stage import CANDIDATE, candidates, checks, describe, evidence, load, metrics, read, read_locked, save, split
from .tuning import trial_scores, tune

__all__ = [
    "CANDIDATE", "OPTIONS", "Blend", "Calibrated", "Categories", "DateParts", "EmptyAsZero", "Params", "Task",
    "WithInterval", "Words", "by_group", "calibration", "candidates", "checks", "cross_validation", "describe",
    "evidence", "explained", "explanation", "extremes", "fairness", "finish", "gradient_boosting", "importance",
    "learning_curve", "load", "losses", "metrics", "model_file", "newest", "of_all_classes", "read", "read_locked", "save",
    "selection", "sentences", "significance", "slices", "split", "too_good", "trial_scores", "tune",
    "validate",
]  # fmt: skip
