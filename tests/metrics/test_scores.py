"""How good a forecast is: the figures of scikit-learn, and intervals that hold what they baseline."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import TASKS, statement
from scipy import stats
from sklearn import metrics as judge

from ninefold import metrics
from ninefold.metrics import scores
from ninefold.problem import ERROR, MEANING, PRIMARY, RANKING, decisions, title

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
    w, p = {"sample_weight": weight}, predicted.to_numpy()
    if task == "regression":
        said = p[:, 0]
        return {
            "rmse": judge.root_mean_squared_error(target, said, **w),
            "mae": judge.mean_absolute_error(target, said, **w),
            "r2": judge.r2_score(target, said, **w),
        }
    if task == "binary":
        return {
            "log_loss": judge.log_loss(target, p[:, 0], **w),
            "brier": judge.brier_score_loss(target, p[:, 0], **w),
            "roc_auc": judge.roc_auc_score(target, p[:, 0], **w),
            "average_precision": judge.average_precision_score(target, p[:, 0], **w),
        }
    best = p.argmax(axis=1)
    return {
        "log_loss": judge.log_loss(target, p, **w),
        "brier": judge.brier_score_loss(target, p, scale_by_half=False, **w),
        "roc_auc": judge.roc_auc_score(target, p, multi_class="ovr", **w),
        "accuracy": judge.accuracy_score(target, best, **w),
        "balanced_accuracy": judge.balanced_accuracy_score(target, best, **w),
    }


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_scores_are_those_of_scikit_learn(task: str, weighed: bool) -> None:
    target, predicted, problem = case(task)
    weight = np.random.default_rng(2).integers(0, 4, len(target)).astype("float64") if weighed else None
    found = scores.task_scores(target, predicted, problem, weight)
    assert set(found) == set(MEANING[task])
    for name, value in reference(task, target, predicted, weight).items():
        assert found[name] == pytest.approx(value, abs=1e-9), name


def test_the_rank_correlation_is_spearmans() -> None:
    target, predicted, problem = case("regression")
    expected = stats.spearmanr(target, predicted["prediction"]).statistic
    assert scores.task_scores(target, predicted, problem)["rank_correlation"] == pytest.approx(expected)
    # Weighed, it keeps the ranks of all rows: near what drawing the rows anew would give, and far cheaper.
    weight = np.random.default_rng(2).integers(0, 3, len(target))
    again = np.repeat(np.arange(len(target)), weight)
    expected = stats.spearmanr(target[again], predicted["prediction"].to_numpy()[again]).statistic
    found = scores.task_scores(target, predicted, problem, weight.astype("float64"))["rank_correlation"]
    assert found == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("task", TASKS)
def test_a_weight_counts_a_row_as_often_as_it_says(task: str) -> None:
    target, predicted, problem = case(task)
    weight = np.random.default_rng(4).integers(0, 3, len(target))
    again = np.repeat(np.arange(len(target)), weight)
    one = scores.task_scores(target, predicted, problem, weight.astype("float64"))
    other = scores.task_scores(target[again], predicted.iloc[again], problem)
    for name in set(one) - {"rank_correlation"}:
        assert one[name] == pytest.approx(other[name], abs=1e-9), name


def test_scores_of_a_perfect_and_of_an_ignorant_forecast() -> None:
    target, problem = np.array([0, 1, 0, 1]), statement()
    perfect = scores.task_scores(target, pd.DataFrame({"probability": target.astype(float)}), problem)
    ignorant = scores.task_scores(target, pd.DataFrame({"probability": np.full(4, 0.5)}), problem)
    assert perfect["roc_auc"] == 1
    assert perfect["brier"] == 0
    assert perfect["average_precision"] == 1
    assert perfect["log_loss"] == pytest.approx(0)
    assert ignorant["roc_auc"] == 0.5
    assert ignorant["log_loss"] == pytest.approx(np.log(2))


def test_scores_of_a_perfect_and_of_an_ignorant_forecast_of_classes() -> None:
    problem, target = statement("multiclass"), np.array([0, 1, 2, 0, 1, 2])
    names = decisions.forecast_columns(problem)
    perfect = scores.task_scores(target, pd.DataFrame(np.eye(3)[target], columns=names), problem)
    ignorant = scores.task_scores(target, pd.DataFrame(np.full((6, 3), 1 / 3), columns=names), problem)
    assert perfect == pytest.approx({"log_loss": 0, "brier": 0, "roc_auc": 1, "accuracy": 1, "balanced_accuracy": 1})
    assert ignorant["log_loss"] == pytest.approx(np.log(3))
    assert ignorant["roc_auc"] == 0.5
    assert ignorant["balanced_accuracy"] == pytest.approx(1 / 3)


def test_scores_of_a_perfect_and_of_an_ignorant_forecast_of_a_quantity() -> None:
    problem, target = statement("regression"), np.array([1.0, 2.0, 4.0])
    perfect = scores.task_scores(target, pd.DataFrame({"prediction": target}), problem)
    ignorant = scores.task_scores(target, pd.DataFrame({"prediction": np.full(3, target.mean())}), problem)
    assert perfect == pytest.approx({"rmse": 0, "mae": 0, "r2": 1, "rank_correlation": 1})
    assert ignorant["r2"] == pytest.approx(0)
    assert ignorant["rank_correlation"] == 0


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_a_class_that_is_absent_from_a_draw_breaks_nothing(task: str) -> None:
    target, predicted, problem = case(task)
    for number in range(len(problem.classes)):
        weight = (target != number).astype("float64")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = scores.task_scores(target, predicted, problem, weight)
        assert np.isfinite([found["log_loss"], found["brier"]]).all()
        if task == "multiclass":
            assert np.isfinite(list(found.values())).all()
        else:
            assert np.isnan(found["roc_auc"])
    target[:] = 0
    assert np.isfinite(scores.task_scores(target, predicted, problem)["log_loss"])


def test_an_interval_passes_over_draws_without_the_figure() -> None:
    problem, target = statement(), np.array([1, *[0] * 19])
    predicted = pd.DataFrame({"probability": np.linspace(0.9, 0.1, 20)})
    found = metrics.intervals(
        lambda weight: scores.task_scores(target, predicted, problem, weight), np.arange(20), BOOTSTRAP
    )
    for figure in found.values():
        assert np.isfinite(list(figure.values())).all()
    assert found["average_precision"]["low"] > 0


def test_a_quantity_that_never_varies_has_no_share_of_variance_predicted() -> None:
    found = scores.task_scores(np.ones(5), pd.DataFrame({"prediction": np.ones(5)}), statement("regression"))
    assert np.isnan(found["r2"])
    assert found["rank_correlation"] == 0


@pytest.mark.parametrize("task", TASKS)
def test_what_chooses_and_what_ranks_are_metrics_of_the_task(task: str) -> None:
    known = set(MEANING[task])
    assert {PRIMARY[task], RANKING[task], ERROR[task]} <= known


def test_blocks_are_days_where_there_is_time() -> None:
    times = pd.Series(np.repeat(pd.date_range("2020-01-01 07:00", periods=10, freq="26h"), 2))
    frame = pd.DataFrame({"placed": times, "shop": "a"})
    found = metrics.clusters(frame, statement(group=["shop"]))
    assert len(set(found)) == times.dt.date.nunique()
    assert pd.Series(found).groupby(times.dt.date).nunique().max() == 1


def test_blocks_are_entities_where_days_are_few_or_none() -> None:
    frame = pd.DataFrame({"placed": pd.Timestamp("2020-01-01"), "shop": ["a", None, "a", "b", None], "till": 1})
    for problem in (statement(group=["shop"]), statement(time=None, group=["shop", "till"])):
        assert metrics.clusters(frame, problem).tolist() == [0, 1, 0, 2, 1]


def test_blocks_are_rows_where_nothing_hangs_together() -> None:
    frame = pd.DataFrame({"placed": pd.Timestamp("2020-01-01"), "shop": list("aab")})
    assert metrics.clusters(frame, statement()).tolist() == [0, 1, 2]
    assert metrics.clusters(frame, statement(time=None)).tolist() == [0, 1, 2]


def test_an_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    held = {"block": 0, "row": 0}
    for seed in range(60):
        random = np.random.default_rng(seed)
        days = np.repeat(np.arange(40), 20)
        values = np.repeat(random.normal(0, 1, 40), 20) + random.normal(0, 1, 800)  # rows of a day move together
        for name, block in {"block": days, "row": np.arange(800)}.items():
            found = metrics.intervals(lambda w, v=values: {"mean": float(np.average(v, weights=w))}, block, BOOTSTRAP)
            held[name] += found["mean"]["low"] <= 0 <= found["mean"]["high"]
    assert 0.75 <= held["block"] / 60 <= 1.0
    assert held["row"] / 60 < 0.6  # who draws single rows takes the rows of one day for many days


def test_intervals_repeat_with_their_seed() -> None:
    values = np.random.default_rng(1).normal(size=100)

    def mean(weight: np.ndarray) -> dict[str, float]:
        return {"mean": float(np.average(values, weights=weight))}

    first = metrics.intervals(mean, np.arange(100), BOOTSTRAP)
    assert first == metrics.intervals(mean, np.arange(100), BOOTSTRAP)
    assert first != metrics.intervals(mean, np.arange(100), BOOTSTRAP.model_copy(update={"seed": 6}))
    assert first["mean"]["low"] < first["mean"]["value"] < first["mean"]["high"]


def test_a_figure_is_written_with_its_interval() -> None:
    assert metrics.with_interval({"value": 0.7381, "low": 0.7019, "high": 0.77}) == "0.738 (0.702 to 0.770)"
    assert metrics.with_interval({"value": 1234.5, "low": -1000.2, "high": 2000.0}) == "1,234 (-1,000 to 2,000)"
    assert metrics.with_interval({"value": 0.5}) == "0.500"
    assert metrics.with_interval(None) == "–"
    assert [title(name) for name in ("roc_auc", "r2", "mean_error")] == ["ROC AUC", "R²", "mean error"]
