from . import sentences
from .declarations import History, Join, Params, declared, history, join, kinds, reach, windows
from .events import FEATURES, LAKE, add_history, assemble, build, join_related, order, read
from .increments import update
from .point_in_time import (
    ONLINE,
    future_difference,
    moment_of,
    online_difference,
    sampled_moments,
    save_online,
    snapshot,
)
from .schema import FeatureSchema
from .stage import (
    checks,
    conclusion,
    deciles,
    dictionary,
    headline,
    high_cardinality,
    known_too_late,
    load,
    metrics,
    sample,
    strongest,
)

__all__ = [
    "FEATURES", "LAKE", "ONLINE", "FeatureSchema", "History", "Join", "Params", "add_history", "assemble", "build",
    "checks", "conclusion", "deciles", "declared", "dictionary", "future_difference", "headline", "high_cardinality",
    "history", "join", "join_related", "kinds", "known_too_late", "load", "metrics", "moment_of", "online_difference",
    "order", "reach", "read", "sample", "sampled_moments", "save_online", "sentences", "snapshot", "strongest",
    "update", "windows",
]  # fmt: skip
