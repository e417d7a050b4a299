from .evaluation import FOLLOW, Evaluation, against_baseline, naive_forecast, threshold
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
from .splits import PARTS, PURGED, entity_hash, labelled, outcomes, part_of, split
from .stage import (
    checks,
    conclusion,
    describe_split,
    headline,
    make_plan,
    metrics,
    recent_outcomes,
)

__all__ = [
    "COPIES", "FOLD", "FOLLOW", "LEAST_CLUSTERS", "PARTS", "PURGED", "Evaluation", "EvaluationPlan", "Params", "Split",
    "against_baseline", "against_zero", "checks", "cluster_name", "cluster_sums", "clustered_variance", "clusters",
    "conclusion", "cosines", "count_clusters", "describe_split", "entity_hash",
    "estimate", "headline", "influence", "intervals", "labelled", "make_plan", "means", "merged",
    "metrics", "naive_forecast", "one_score", "outcomes", "part_of", "ranked_auc", "recent_outcomes", "row_losses",
    "scorer", "split", "student", "subsample", "task_scores", "threshold", "with_interval",
]  # fmt: skip
