from .declarations import History, Join, Params, declared, history, join, kinds, reach, windows
from .events import FEATURES, LAKE, add_history, assemble, build, builder, join_related, order, read
from .increments import update
from .point_in_time import ONLINE, PointInTime, moment_of
from .schema import FeatureSchema
from .stage import (
    checks,
    conclusion,
    dictionary,
    headline,
    high_cardinality,
    known_too_late,
    load,
    metrics,
    sample,
    training_rows,
)

__all__ = [
    "FEATURES", "LAKE", "ONLINE", "FeatureSchema", "History", "Join", "Params", "PointInTime", "add_history",
    "assemble", "build", "builder", "checks", "conclusion", "declared", "dictionary",
    "headline", "high_cardinality", "history", "join", "join_related", "kinds", "known_too_late", "load",
    "metrics", "moment_of", "order", "reach", "read", "sample", "training_rows", "update", "windows",
]  # fmt: skip
