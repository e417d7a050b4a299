from . import (
    backtest,
    labels,
    notification,
    sentences,
    tables,
)
from .answers import (
    answer_table,
    predict_holdout,
    with_holdout,
)
from .arrivals import (
    add_label_status,
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
from .params import (
    Params,
)
from .performance import (
    calibration,
    policies,
    scores_by_period,
    weekly,
    worse_slices,
)
from .production import (
    read_bundle,
    service_reports,
)
from .stage import (
    MONITORING,
    apply_rules,
    baseline_metrics,
    checks,
    conclusion,
    headline,
    make_reference,
    metrics,
    monitoring_reports,
    records,
    save,
    what_works,
)

__all__ = [
    "MONITORING",
    "Params",
    "add_label_status",
    "answer_table",
    "apply_rules",
    "backtest",
    "baseline_metrics",
    "calibration",
    "checks",
    "compare_inputs",
    "compare_predictions",
    "conclude",
    "conclusion",
    "headline",
    "label_counts",
    "labels",
    "make_reference",
    "metrics",
    "monitoring_reports",
    "notification",
    "policies",
    "predict_holdout",
    "read_arrivals",
    "read_bundle",
    "records",
    "save",
    "scores_by_period",
    "sentences",
    "service_reports",
    "source_times",
    "tables",
    "weekly",
    "what_works",
    "with_holdout",
    "worse_slices",
]
