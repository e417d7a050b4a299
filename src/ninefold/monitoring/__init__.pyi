from . import (
    backtest,
    labels,
    notification,
    sentences,
)
from .answers import (
    answer_table,
)
from .arrivals import (
    label_counts,
    read_arrivals,
    source_times,
)
from .decision import (
    conclude,
)
from .drift import (
    compare_inputs,
    compare_predictions,
)
from .monitor import (
    Monitor,
)
from .params import (
    Params,
)
from .performance import (
    calibration,
    policies,
    scores_by_period,
    worse_slices,
)
from .production import (
    read_bundle,
    service_reports,
)
from .stage import (
    MONITORING,
    checks,
    conclusion,
    headline,
    metrics,
    save,
)

__all__ = [
    "MONITORING",
    "Monitor",
    "Params",
    "answer_table",
    "backtest",
    "calibration",
    "checks",
    "compare_inputs",
    "compare_predictions",
    "conclude",
    "conclusion",
    "headline",
    "label_counts",
    "labels",
    "metrics",
    "notification",
    "policies",
    "read_arrivals",
    "read_bundle",
    "save",
    "scores_by_period",
    "sentences",
    "service_reports",
    "source_times",
    "worse_slices",
]
