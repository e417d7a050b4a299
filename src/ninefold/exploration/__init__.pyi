from . import (
    sentences,
    univariate,
)
from .group_rates import (
    CLUSTER,
    LABEL,
    MOST_CLUSTERS,
    by_group,
    cells,
    course,
    cross,
    gaps,
    largest_gap,
    outcomes,
    overall,
)
from .leakage import (
    missing_effects,
    question,
    score_name,
)
from .params import (
    Params,
)
from .stage import (
    Results,
    checks,
    compared,
    decided,
    load,
    metrics,
    read,
    save,
    univariate_scores,
)

__all__ = [
    "CLUSTER",
    "LABEL",
    "MOST_CLUSTERS",
    "Params",
    "Results",
    "by_group",
    "cells",
    "checks",
    "compared",
    "course",
    "cross",
    "decided",
    "gaps",
    "largest_gap",
    "load",
    "metrics",
    "missing_effects",
    "outcomes",
    "overall",
    "question",
    "read",
    "save",
    "score_name",
    "sentences",
    "univariate",
    "univariate_scores",
]
