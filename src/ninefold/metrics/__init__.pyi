from . import evaluation
from .evaluation import FOLLOW, against_baseline, naive_forecast, threshold
from .plan import EvaluationPlan, Params, Split
from .resampling import (
    COPIES,
    LEAST_CLUSTERS,
    against_zero,
    cluster_name,
    cluster_sums,
    clustered_variance,
    clusters,
    cosines,
    count_clusters,
    estimate,
    influence,
    intervals,
    means,
    merged,
    student,
    subsample,
    with_interval,
)
from .scores import FOLD, one_score, ranked_auc, row_losses, scorer, task_scores
from .splits import PARTS, PURGED, entity_hash, labelled, newest, outcomes, part_of, parts, split
from .stage import (
    baselines,
    checks,
    conclusion,
    definitions,
    describe_baselines,
    describe_split,
    headline,
    make_plan,
    metrics,
    naive,
    part_counts,
    reference_scores,
)

__all__ = [
    "COPIES", "FOLD", "FOLLOW", "LEAST_CLUSTERS", "PARTS", "PURGED", "EvaluationPlan", "Params", "Split",
    "against_baseline", "against_zero", "baselines", "checks", "cluster_name", "cluster_sums", "clustered_variance",
    "clusters", "conclusion", "cosines", "count_clusters", "definitions", "describe_baselines", "describe_split", "entity_hash",
    "estimate", "evaluation", "headline", "influence", "intervals", "labelled", "make_plan", "means", "merged", "metrics",
    "naive", "naive_forecast", "newest", "one_score", "outcomes", "part_counts", "part_of", "parts", "ranked_auc",
    "reference_scores", "row_losses", "scorer", "split", "student", "subsample", "task_scores", "threshold", "with_interval",
]  # fmt: skip
