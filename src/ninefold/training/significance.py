"""Whether a model is better than what needs no model, beyond sampling noise: paired permutation tests."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from ninefold.metrics import EvaluationPlan, clusters, intervals, means
from ninefold.problem import Problem, title
from ninefold.training.slices import few_clusters, row_measures

FLIPS = 9_999


def paired_tests(
    target: np.ndarray, predicted: pd.DataFrame, frame: pd.DataFrame, problem: Problem, plan: EvaluationPlan
) -> pd.DataFrame:
    """Return whether the model is better than what needs no model, on the same rows.

    One-sided permutation test of the signs of whole clusters (Good, Permutation, Parametric and Bootstrap Tests of
    Hypotheses, 2005). The columns are ``comparison``; ``difference``, the mean per row of log loss (or squared error)
    avoided, or of payoff gained; ``low``, ``high``, its interval over resampled clusters; ``p``.
    """
    measures, group = row_measures(target, predicted, problem, plan), few_clusters(frame, problem, plan)
    loss, seed = title("log_loss") if problem.is_class else "squared error", plan.bootstrap.seed
    better = {
        f"{loss} against the naive forecast": (measures["naive"] - measures["loss"]).to_numpy(),
        "payoff against the best policy without a model": measures["gain"].to_numpy(),
    }
    table = pd.DataFrame(intervals(partial(means, better), clusters(frame, problem), plan.bootstrap)).T
    table["p"] = [_sign_flips(np.bincount(group, each), seed) for each in better.values()]
    return table.rename(columns={"value": "difference"}).rename_axis("comparison").reset_index()


def _sign_flips(advantage: np.ndarray, seed: int) -> float:
    signs = np.random.default_rng(seed).integers(0, 2, (FLIPS, len(advantage)), dtype="int8") * 2 - 1
    tie = 1e-9 * np.abs(advantage).sum()  # sums of the same numbers in another order differ by rounding
    return float((1 + (signs @ advantage >= advantage.sum() - tie).sum()) / (1 + FLIPS))
