from . import evaluation
from .evaluation import FOLLOW, against_baseline, naive_forecast, threshold
from .plan import EvaluationPlan, Params, Split
from .resampling import (
    COPIES,
    LEAST_CLUSTERS,
    Bootstrap,
    against_zero,
    cluster_name,
    cluster_sums,
    clustered_variance,
    clusters,
    count_clusters,
    draws,
    influence,
    intervals,
    means,
    merged,
    replicates,
    student,
    with_interval,
)
from .scores import FOLD, one_score, row_losses, task_scores
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
    "COPIES", "FOLD", "FOLLOW", "LEAST_CLUSTERS", "PARTS", "PURGED", "Bootstrap", "EvaluationPlan", "Params", "Split",
    "against_baseline", "against_zero", "baselines", "checks", "cluster_name", "cluster_sums", "clustered_variance",
    "clusters", "conclusion",
    "count_clusters", "definitions", "describe_baselines", "describe_split",
    "draws", "entity_hash", "evaluation", "headline", "influence", "intervals", "labelled", "make_plan", "means", "merged", "metrics",
    "naive", "naive_forecast", "newest", "one_score", "outcomes", "part_counts", "part_of", "parts", "reference_scores",
    "replicates", "row_losses", "split", "student", "task_scores", "threshold", "with_interval",
]  # fmt: skip
