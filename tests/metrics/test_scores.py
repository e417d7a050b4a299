"""How good a forecast is: the figures of scikit-learn, and intervals that hold what they baseline."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import TASKS, statement
from scipy import stats
from sklearn import metrics as judge

from ninefold import metrics
from ninefold.metrics import scores
from ninefold.problem import MEANING, Problem, decisions, title


def scored(weight: np.ndarray, target: np.ndarray, predicted: pd.DataFrame, problem: Problem) -> dict[str, float]:
    return {name: metrics.scorer(name, target, predicted, problem)(weight) for name in MEANING[problem.task]}


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


def reference(task: str, target: np.ndarray, predicted: pd.DataFrame, weight: np.ndarray) -> dict[str, float]:
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
    weight = np.random.default_rng(2).integers(0, 4, len(target)) if weighed else np.ones(len(target))
    found = scored(weight.astype("float64"), target, predicted, problem)
    assert set(found) == set(MEANING[task])
    expected = reference(task, target, predicted, weight)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)


def test_the_rank_correlation_is_spearmans_and_nothing_is_predicted_of_a_quantity_that_never_varies() -> None:
    target, predicted, problem = case("regression")
    forecast, weight = predicted["prediction"].to_numpy(), np.random.default_rng(2).integers(0, 3, len(target))
    weights = np.ones(len(target)), weight * 1.0
    found = [scored(each, target, predicted, problem)["rank_correlation"] for each in weights]
    again = np.repeat(np.arange(len(target)), weight)
    assert found[0] == pytest.approx(stats.spearmanr(target, forecast).statistic)
    # Weighed, it keeps the ranks of all rows: near what drawing the rows again would give, and far cheaper.
    assert found[1] == pytest.approx(stats.spearmanr(target[again], forecast[again]).statistic, abs=0.02)
    never = scores.task_scores(target * 0, predicted * 0, problem)
    assert (np.isnan(never["r2"]), never["rank_correlation"]) == (True, 0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_a_class_that_is_absent_from_a_draw_breaks_nothing(task: str) -> None:
    target, predicted, problem = case(task)
    for number in range(len(problem.classes)):
        found = scored((target != number).astype("float64"), target, predicted, problem)
        assert np.isfinite([found["log_loss"], found["brier"]]).all()
        assert np.isfinite(list(found.values())).all() if task == "multiclass" else np.isnan(found["roc_auc"])
    assert np.isfinite(scores.task_scores(target * 0, predicted, problem)["log_loss"])


@pytest.mark.parametrize(("changes", "name", "expected"), [
    ({"group": ["shop"]}, "days", [0, 0, 1, 1, 3, 2]),  # in the order of time, and never rows, however few they are
    ({"group": ["shop", "till"], "time": None}, "entities", [0, 1, 0, 0, 1, 0]),
    ({"time": None}, "rows", [0, 1, 2, 3, 4, 5]),
])  # fmt: skip
def test_clusters_are_days_else_entities_else_rows_as_their_name_says(changes: Any, name: str, expected: Any) -> None:
    times = pd.Timestamp("2020-01-01 07:00") + pd.to_timedelta([0, 9, 24, 30, 70, 48], "h")
    frame, problem = pd.DataFrame({"placed": times, "shop": ["a", None, "a"] * 2, "till": 1}), statement(**changes)
    assert (metrics.clusters(frame, problem).tolist(), metrics.cluster_name(problem)) == (expected, name)


def simulated(days: int, rows: int, problem: Problem, random: np.random.Generator) -> dict[str, dict[str, float]]:
    """Return intervals around 0 and 0.5 of rows whose days (or entities) have effects, of autocorrelation 0.5 in time."""
    effect = random.normal(0, 1, (2, days))
    for day in range(1, days if problem.time else 0):
        effect[:, day] = 0.5 * effect[:, day - 1] + 0.75**0.5 * effect[:, day]
    day = np.repeat(np.arange(days), rows)
    frame = pd.DataFrame({"placed": pd.Timestamp("2020-01-01") + pd.to_timedelta(day, "D"), "shop": day})
    one, other = 0.5 * effect[:, day] + random.normal(0, 1, (2, len(day)))
    rank = metrics.scorer("roc_auc", one > 0, pd.DataFrame({"probability": stats.norm.cdf(other)}), statement())
    statistic = lambda weight: {**metrics.means({"mean": one}, weight), "auc": rank(weight)}  # noqa: E731
    return metrics.intervals(statistic, frame, problem, 0.95, ["auc"])


@pytest.mark.parametrize(("days", "changes"), [(7, {}), (40, {}), (12, {"time": None, "group": ["shop"]})])
def test_95_percent_of_intervals_hold_the_truth(days: int, changes: dict[str, Any]) -> None:
    problem, random = statement(**changes), np.random.default_rng(days)
    found = pd.DataFrame([simulated(days, 30, problem, random) for _ in range(200)])
    for name, truth in {"mean": 0, "auc": 0.5}.items():
        held = [one["low"] <= truth <= one["high"] and one["low"] < one["value"] < one["high"] for one in found[name]]
        assert np.mean(held) >= 0.91, name  # of single rows or independent days, 40 to 85 %


def test_of_independent_clusters_the_error_of_a_mean_is_students() -> None:
    values, frame = np.arange(10.0) ** 2, pd.DataFrame({"shop": range(10)})
    of_shops = statement(time=None, group=["shop"])
    table, degrees = metrics.estimate(partial(metrics.means, {"x": values}), frame, of_shops)
    assert (table.loc["x", "error"], degrees) == (pytest.approx(stats.sem(values)), 9)


def test_an_interval_of_a_share_stays_between_0_and_1_and_too_few_clusters_have_none() -> None:
    target, predicted = np.array([1, *[0] * 19] * 2), pd.DataFrame({"probability": np.linspace(0.9, 0.1, 40)})
    frame = pd.DataFrame({"placed": pd.date_range("2020-01-01", periods=10).repeat(4)})
    score = partial(scored, target=target, predicted=predicted, problem=statement())
    both = lambda weight: {**score(weight), "share": weight @ target / weight.sum()}  # noqa: E731
    found = metrics.intervals(both, frame, statement(), 0.95, ["share", "roc_auc"])
    assert 0 <= found["share"]["low"] < 0.05 < found["share"]["high"] < 1
    frame["placed"] = frame["placed"].dt.normalize().where(frame.index < 16, pd.Timestamp("2020-01-04"))
    few = metrics.intervals(score, frame, statement(), 0.95)["log_loss"]
    assert np.isfinite([few[end] for end in few]).tolist() == [True, False, False]
    assert metrics.with_interval(few) == f"{few['value']:.3f}"
    one_event = partial(score, target=(np.arange(40) == 3) * 1)
    frame["placed"] = pd.date_range("2020-01-01", periods=10).repeat(4)
    assert np.isnan(metrics.intervals(one_event, frame, statement(), 0.95)["roc_auc"]["low"])  # it rests on one day


def test_a_figure_is_written_with_its_interval() -> None:
    assert metrics.with_interval({"value": 0.7381, "low": 0.7019, "high": 0.77}) == "0.738 (0.702 to 0.770)"
    assert metrics.with_interval({"value": 1234.5, "low": -1000.2, "high": 2000.0}) == "1,234 (-1,000 to 2,000)"
    assert metrics.with_interval({"value": 0.5}) == "0.500"
    assert metrics.with_interval(None) == "–"
    assert metrics.against_zero({"value": 0.1, "low": 0.01, "high": 0.2}) == "0.100 (0.010 to 0.200)"
    assert metrics.against_zero({"value": 0.1, "low": 0.0, "high": 0.2}).endswith(", not distinguishable from zero")
    assert [title(name) for name in ("roc_auc", "r2", "mean_error")] == ["ROC AUC", "R²", "mean error"]
