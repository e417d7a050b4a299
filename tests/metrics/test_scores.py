"""How good a forecast is: the figures of scikit-learn, and intervals that hold what they baseline."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import TASKS, statement
from scipy import stats
from sklearn import metrics as judge

from ninefold import metrics
from ninefold.metrics import scores
from ninefold.problem import MEANING, decisions, title

BOOTSTRAP = metrics.Bootstrap(replicates=60, level=0.9, seed=5)


def case(task: str, rows: int = 300, seed: int = 1) -> tuple[np.ndarray, pd.DataFrame, dict[str, Any]]:
    problem, random = statement(task), np.random.default_rng(seed)
    names = decisions.forecast_columns(problem)
    if task == "regression":
        target = random.gamma(2, 5, rows)
        said = target + random.normal(0, 4, rows)
        return target, pd.DataFrame(dict.fromkeys(names, said)), problem
    count = len(problem.classes)
    target = random.integers(0, count, rows)
    p = random.dirichlet(np.ones(count), rows) + 0.4 * np.eye(count)[target]
    p /= p.sum(axis=1, keepdims=True)
    return target, pd.DataFrame(p[:, -len(names) :], columns=names), problem


def reference(task: str, target: np.ndarray, predicted: pd.DataFrame, weight: np.ndarray | None) -> dict[str, float]:
    p = predicted.to_numpy()
    first, best = p[:, 0], p.argmax(axis=1)
    classes = {"log_loss": judge.log_loss, "brier": judge.brier_score_loss, "roc_auc": judge.roc_auc_score}
    named = {"accuracy": judge.accuracy_score, "balanced_accuracy": judge.balanced_accuracy_score}
    numbers = {"rmse": judge.root_mean_squared_error, "mae": judge.mean_absolute_error, "r2": judge.r2_score}
    options = {"brier": {"scale_by_half": False}, "roc_auc": {"multi_class": "ovr"}} if task == "multiclass" else {}
    table = {
        "binary": [(first, {**classes, "average_precision": judge.average_precision_score})],
        "multiclass": [(p, classes), (best, named)],
        "regression": [(first, numbers)],
    }
    scored = [(name, score, said) for said, group in table[task] for name, score in group.items()]
    return {name: score(target, said, sample_weight=weight, **options.get(name, {})) for name, score, said in scored}


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_scores_are_those_of_scikit_learn(task: str, weighed: bool) -> None:
    target, predicted, problem = case(task)
    weight = np.random.default_rng(2).integers(0, 4, len(target)).astype("float64") if weighed else None
    found = scores.task_scores(target, predicted, problem, weight)
    assert set(found) == set(MEANING[task])
    expected = reference(task, target, predicted, weight)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)


def test_the_rank_correlation_is_spearmans_and_nothing_is_predicted_of_a_quantity_that_never_varies() -> None:
    target, predicted, problem = case("regression")
    forecast, weight = predicted["prediction"].to_numpy(), np.random.default_rng(2).integers(0, 3, len(target))
    found = [scores.task_scores(target, predicted, problem, each)["rank_correlation"] for each in (None, weight * 1.0)]
    again = np.repeat(np.arange(len(target)), weight)
    assert found[0] == pytest.approx(stats.spearmanr(target, forecast).statistic)
    # Weighed, it keeps the ranks of all rows: near what drawing the rows anew would give, and far cheaper.
    assert found[1] == pytest.approx(stats.spearmanr(target[again], forecast[again]).statistic, abs=0.02)
    never = scores.task_scores(target * 0, predicted * 0, problem)
    assert (np.isnan(never["r2"]), never["rank_correlation"]) == (True, 0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_a_class_that_is_absent_from_a_draw_breaks_nothing(task: str) -> None:
    target, predicted, problem = case(task)
    for number in range(len(problem.classes)):
        found = scores.task_scores(target, predicted, problem, (target != number).astype("float64"))
        assert np.isfinite([found["log_loss"], found["brier"]]).all()
        assert np.isfinite(list(found.values())).all() if task == "multiclass" else np.isnan(found["roc_auc"])
    assert np.isfinite(scores.task_scores(target * 0, predicted, problem)["log_loss"])


def test_an_interval_passes_over_draws_without_the_figure() -> None:
    target, predicted = np.array([1, *[0] * 19]), pd.DataFrame({"probability": np.linspace(0.9, 0.1, 20)})
    score = lambda weight: scores.task_scores(target, predicted, statement(), weight)  # noqa: E731
    found = metrics.intervals(score, np.arange(20), BOOTSTRAP)
    assert np.isfinite(pd.DataFrame(found).to_numpy()).all()
    assert found["average_precision"]["low"] > 0


@pytest.mark.parametrize(
    ("days", "changes", "expected"),
    [
        (9, {"group": ["shop"]}, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8]),  # two rows of each day
        (1, {"group": ["shop"]}, [0, 1, 0] * 6),
        (9, {"group": ["shop", "till"], "time": None}, [0, 1, 0] * 6),
        (1, {}, list(range(18))),
        (9, {"time": None}, list(range(18))),
    ],
)
def test_clusters_are_days_else_entities_else_rows(days: int, changes: dict[str, Any], expected: list[int]) -> None:
    times = pd.Timestamp("2020-01-01 07:00") + pd.to_timedelta(np.arange(18) * days // 18 * 25, "h")
    frame = pd.DataFrame({"placed": times, "shop": ["a", None, "a"] * 6, "till": 1})
    assert metrics.clusters(frame, statement(**changes)).tolist() == expected


def test_an_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    days, held = np.repeat(np.arange(40), 20), {"days": 0, "rows": 0}
    for seed in range(60):
        random = np.random.default_rng(seed)
        values = np.repeat(random.normal(0, 1, 40), 20) + random.normal(0, 1, 800)  # rows of a day move together
        for name, block in {"days": days, "rows": np.arange(800)}.items():
            found = metrics.intervals(lambda w, v=values: {"mean": float(np.average(v, weights=w))}, block, BOOTSTRAP)
            held[name] += found["mean"]["low"] <= 0 <= found["mean"]["high"]
    assert held["days"] / 60 >= 0.75
    assert held["rows"] / 60 < 0.6  # who draws single rows takes the rows of one day for many days


def test_a_figure_is_written_with_its_interval() -> None:
    assert metrics.with_interval({"value": 0.7381, "low": 0.7019, "high": 0.77}) == "0.738 (0.702 to 0.770)"
    assert metrics.with_interval({"value": 1234.5, "low": -1000.2, "high": 2000.0}) == "1,234 (-1,000 to 2,000)"
    assert metrics.with_interval({"value": 0.5}) == "0.500"
    assert metrics.with_interval(None) == "–"
    assert metrics.against_zero({"value": 0.1, "low": 0.01, "high": 0.2}) == "0.100 (0.010 to 0.200)"
    assert metrics.against_zero({"value": 0.1, "low": 0.0, "high": 0.2}).endswith(", not distinguishable from zero")
    assert [title(name) for name in ("roc_auc", "r2", "mean_error")] == ["ROC AUC", "R²", "mean error"]
