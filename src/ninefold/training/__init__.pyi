from . import (
    calibration,
    cross_validation,
    explanation,
    fairness,
    model_file,
    selection,
    sentences,
    slices,
    too_good,
)
from .calibration import Calibrated, Calibrator
from .conformal import WithInterval
from .cross_validation import Folds, fit, learning_curve, predict
from .estimators import Blend, Categories, DateParts, EmptyAsZero, Words, of_all_classes
from .explanation import explained, importance
from .models import OPTIONS, encoder, gradient_boosting
from .params import Params
from .slices import losses
from .stage import (
    CANDIDATE,
    Chosen,
    candidates,
    checks,
    describe,
    evidence,
    load,
    metrics,
    read,
    read_locked,
    save,
    split,
)
from .tuning import trial_scores, tune

__all__ = [
    "CANDIDATE", "OPTIONS", "Blend", "Calibrated", "Calibrator", "Categories", "Chosen", "DateParts", "EmptyAsZero", "Folds",
    "Params", "WithInterval", "Words", "calibration", "candidates", "checks", "cross_validation", "describe", "encoder",
    "evidence", "explained", "explanation", "fairness", "fit", "gradient_boosting", "importance",
    "learning_curve", "load", "losses", "metrics", "model_file", "of_all_classes", "predict", "read", "read_locked",
    "save", "selection", "sentences", "slices", "split", "too_good", "trial_scores", "tune",
]  # fmt: skip
