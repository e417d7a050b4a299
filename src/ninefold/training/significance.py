"""Whether a model is better than the baselines, beyond sampling noise: paired tests."""

from functools import partial

import pandas as pd
from scipy import stats

from ninefold.metrics import Evaluation, estimate, means, student
from ninefold.problem import title
from ninefold.training.slices import row_measures


def paired_tests(evaluation: Evaluation) -> pd.DataFrame:
    """Return whether the model is better than the baselines, on the same rows.

    Student's one-sided test, see `metrics.estimate`. The columns are ``comparison``; ``difference``, the mean per row of log
    loss (or squared error) avoided, or of payoff gained; ``low``, ``high``, its interval; ``p``, 1 where there is no error.
    """
    measures = row_measures(evaluation)
    loss = title("log_loss") if evaluation.problem.is_class else "squared error"
    better = {
        f"{loss} against the naive forecast": (measures["naive"] - measures["loss"]).to_numpy(),
        "payoff against the best baseline policy": measures["gain"].to_numpy(),
    }
    table, degrees = estimate(partial(means, better), evaluation.frame, evaluation.problem)
    difference, reach = table["value"], student(evaluation.plan.level, degrees + 1) * table["error"]
    p = stats.t.sf(difference / table["error"], degrees)
    columns = {"difference": difference, "low": difference - reach, "high": difference + reach, "p": p}
    return pd.DataFrame(columns).fillna({"p": 1.0}).rename_axis("comparison").reset_index()
