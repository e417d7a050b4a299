from . import (
    sentences,
    univariate,
)
from .group_rates import (
    MOST_CLUSTERS,
    cells,
    largest_gap,
    range_names,
)
from .leakage import (
    question,
    score_name,
)
from .params import (
    Params,
)
from .rows import (
    CLUSTER,
    LABEL,
    read,
)
from .stage import (
    Exploration,
    decided,
    load,
    metrics,
)

__all__ = [
    "CLUSTER",
    "LABEL",
    "MOST_CLUSTERS",
    "Exploration",
    "Params",
    "cells",
    "decided",
    "largest_gap",
    "load",
    "metrics",
    "question",
    "range_names",
    "read",
    "score_name",
    "sentences",
    "univariate",
]
