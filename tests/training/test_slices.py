"""Slices of the holdout: biased ones are flagged, noise is not, and rows that are correlated count as one."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import TASKS, statement
from odd_names import sound
from scipy import stats

from ninefold.errors import DataError
from ninefold.features import FeatureSchema
from ninefold.metrics import Evaluation, EvaluationPlan, naive_forecast, scores
from ninefold.problem import PRIMARY, Problem, decisions
from ninefold.training import fairness, sentences, slices

SHOPS, AMOUNT = ["a", "b", "c", "d"], "amount"
SCHEMA = FeatureSchema(all=["shop", AMOUNT], numeric=[AMOUNT], categorical=["shop"])


def plan(target: np.ndarray, problem: Problem) -> EvaluationPlan:
    numbers = range(len(problem.classes)) if problem.is_class else []
    return EvaluationPlan(
        primary={"name": PRIMARY[problem.task], "better": "lower"},
        thresholds=problem.success,
        split={"by": "rows", "validation": 0.6, "holdout": 0.8},
        level=0.95,
        naive=[float((target == number).mean()) for number in numbers] or [float(target.mean())],
        policies=decisions.policies(target, problem),
    )


def case(task: str = "binary", rows: int = 1200, seed: int = 1, days: int = 30, **changes: Any) -> Evaluation:
    """Return right predictions: outcomes follow them. `off` moves them, where `shop` is b, away from the outcomes."""
    off, problem, random = changes.pop("off", 0.0), statement(task, **changes), np.random.default_rng(seed)
    placed = pd.Timestamp("2020-01-06") + pd.to_timedelta(np.arange(rows) * days // rows, "D")
    frame = pd.DataFrame({"id": np.arange(rows), "placed": placed, "shop": random.choice(SHOPS, rows)})
    frame[AMOUNT] = random.normal(size=rows)
    signal, moved = random.normal(size=rows), off * (frame["shop"] == "b").to_numpy()
    if task == "regression":
        target, value = 20 + 3 * signal + random.normal(0, 2, rows), 20 + 3 * signal + 2 * moved
        parts = {"prediction": value, "low": value - 4, "high": value + 4, "quantile": value + 1.35, "loss": 2.0}
        frame = frame.assign(price=target)
        return Evaluation(target, pd.DataFrame(parts), frame, problem, plan(target, problem))

    def p(shift: Any) -> np.ndarray:
        odds = np.exp(np.column_stack([0 * signal, 1.5 * signal - 0.5 + shift, -signal])[:, : len(problem.classes)])
        return odds / odds.sum(axis=1, keepdims=True)

    target = (random.random(rows)[:, None] > p(0).cumsum(axis=1)).sum(axis=1)
    names = decisions.forecast_columns(problem)
    predicted, frame = pd.DataFrame(p(moved)[:, -len(names) :], columns=names), frame.assign(**{problem.target: target})
    return Evaluation(target, predicted, frame, problem, plan(target, problem))


def part(sample: Evaluation, group: str) -> pd.Series:
    return slices.slices(sample, SCHEMA).query("feature == 'shop' and group == @group").iloc[0]


@pytest.mark.parametrize("task", [*TASKS, "long tails"])
def test_noise_is_hardly_ever_flagged(monkeypatch: pytest.MonkeyPatch, task: str) -> None:
    tails, flagged = task == "long tails", 0
    names = {} if tails else {f"x{number}": np.random.default_rng(number).normal(size=600) for number in range(6)}
    schema = FeatureSchema(all=["shop", AMOUNT], numeric=[AMOUNT, *names], categorical=["shop"])
    monkeypatch.setattr(slices, "BINS", 12 if tails else 4)
    for seed in range(20):
        sample = case("regression" if tails else task, rows=1200 if tails else 600, seed=seed)
        if tails:
            tail = np.random.default_rng(seed).normal(-(1.5**2) / 2, 1.5, 1200)
            sample = sample._replace(target=sample.predicted["prediction"].to_numpy() * np.exp(tail))
        flagged += slices.slices(sample._replace(frame=sample.frame.assign(**names)), schema)["flagged"].any()
    assert flagged <= 2


@pytest.mark.parametrize("task", TASKS)
def test_a_slice_in_which_predictions_are_biased_comes_first(task: str) -> None:
    for seed in range(3):
        sample = case(task, seed=seed, rows=2400, off=1.2)
        result = slices.slices(sample, SCHEMA)
        assert "The most significant is `shop` = `b`" in sentences.describe_slices(result, sample.problem)
        assert result.loc[0, ["feature", "group", "flagged"]].tolist() == ["shop", "b", True]
        assert result["bias_low"][0] > 0
        assert (result["q"] >= result["p"]).all()


def test_slices_with_few_events_do_not_look_certain() -> None:
    sample, rare = case(), pd.DataFrame({"probability": np.full(1200, 0.01)})
    target = (np.arange(1200) % 100 == 0).astype("int64") * (sample.frame["shop"] != "a").to_numpy()
    # Three events were to be expected, and none came.
    silent = part(sample._replace(target=target, predicted=rare), "a")
    assert silent["p"] > 0.05
    assert silent["bias_low"] < 0 < silent["bias_high"] <= 0.01 == pytest.approx(silent["bias"])
    missed = slices.slices(
        sample._replace(target=np.where(sample.frame["shop"] == "c", 0, sample.target)), SCHEMA
    ).iloc[0]
    assert (missed["group"], missed["flagged"]) == ("c", True)  # one outcome alone does not hide a bias


@pytest.mark.parametrize("task", TASKS)
def test_the_scores_of_a_slice_are_those_of_its_rows(task: str) -> None:
    sample, metric = case(task, off=0.5), PRIMARY[task]
    result, rows = part(sample, "b"), (sample.frame["shop"] == "b").to_numpy()
    target, predicted, problem = sample.target[rows], sample.predicted[rows].reset_index(drop=True), sample.problem
    naive = naive_forecast(len(target), problem, sample.plan)
    loss, base = (scores.task_scores(target, each, problem)[metric] for each in (predicted, naive))
    model, best, _ = sample.payoffs()
    bias = decisions.expected(predicted, problem).mean() - decisions.event(target, problem).mean()
    expected = [rows.sum(), loss, 1 - loss / base, (model - best)[rows].mean(), bias]
    assert result[["rows", "loss", "skill", "gain", "bias"]].tolist() == pytest.approx(expected)
    assert result["low"] < result["gain"] < result["high"]


def test_intervals_are_wider_where_rows_of_a_day_are_correlated_and_hold_their_share() -> None:
    covered = 0
    for seed in range(40):
        sample = case("regression", rows=600, seed=seed)
        shared = np.random.default_rng(seed).normal(0, 2, 30).repeat(20)
        by_day = part(sample._replace(target=sample.target + shared), "a")
        covered += by_day["bias_low"] <= 0 <= by_day["bias_high"]
    assert covered >= 0.85 * 40
    sample = case("regression")
    sample = sample._replace(target=sample.target + np.repeat(np.random.default_rng(2).normal(0, 5, 30), 40))
    by_day, by_row = part(sample, "a"), part(sample._replace(problem=sample.problem.changed(time=None)), "a")
    for low, high in (("bias_low", "bias_high"), ("low", "high")):
        assert by_day[high] - by_day[low] > 1.2 * (by_row[high] - by_row[low])


def test_slices_are_values_and_bins_with_enough_rows_and_days() -> None:
    sample = case()
    shop = sample.frame["shop"].where(sample.frame["shop"] != "c").mask(sample.frame.index < 20, "rare")
    shop = shop.mask(sample.frame.index >= 1120, "short")  # enough rows, of two days
    number, amount = sample.frame["id"], sample.frame[AMOUNT]
    frame = sample.frame.assign(shop=shop, constant=1.0, flag=number % 2, amount=amount.mask(number % 5 == 0))
    schema = FeatureSchema(all=["shop"], numeric=[AMOUNT, "constant", "flag"], categorical=["shop"])
    rows = slices.slices(sample._replace(frame=frame), schema).set_index(["feature", "group"])["rows"]
    assert set(rows["shop"].index) == {"a", "b", "d", slices.MISSING}
    assert (set(rows["flag"].index), "constant" in rows) == ({"0", "1"}, False)
    assert len(rows[AMOUNT]) == 5  # quantile bins, and missing values
    assert rows[AMOUNT].between(230, 250).all()


def test_the_scores_of_a_week_are_those_of_its_days() -> None:
    sample = case(days=35)
    result = slices.over_time(sample)
    assert result["period"].tolist() == list(pd.date_range("2020-01-06", periods=5, freq="7D"))
    rows, second = sample.frame["placed"].between("2020-01-13", "2020-01-19").to_numpy(), result.iloc[1]
    model, best, _ = sample.payoffs()
    values = [sample.target, sample.predicted["probability"], slices.losses(*sample[:2], sample.problem), model - best]
    expected = [rows.sum(), *(each[rows].mean() for each in values)]
    assert second[["rows", "observed", "predicted", "loss", "gain"]].tolist() == pytest.approx(expected)
    assert second["low"] < second["gain"] < second["high"]


def test_the_gain_adds_up_day_by_day_and_its_concentration_is_said() -> None:
    sample = case(days=10)
    model, best, _ = sample.payoffs()
    by_day, of_day = slices.gains(sample), pd.Series(model - best).groupby(sample.frame["placed"]).sum()
    assert by_day.set_index("day")["cumulative gain"].to_dict() == pytest.approx(of_day.cumsum().to_dict())
    assert by_day[["rows", "payoff"]].sum().tolist() == pytest.approx([1200, model.sum()])
    by_shop = slices.gains(sample._replace(problem=sample.problem.changed(time=None, group=["shop"])))
    assert len(by_shop["entity"]) == 4
    days = pd.DataFrame({"day": pd.date_range("2020-01-01", periods=10), "gain": [3.0, 4, 0, 5, 0, -1, 1, -1, 0, -1]})
    spread = slices.concentration(days.assign(**{"cumulative gain": days["gain"].cumsum()}))
    assert spread == {"unit": "day", "count": 10, "positive": 0.4, "largest": 1.2, "loss_days": 6}
    text = "The gain is positive in 40% of 10 days; the three largest account for 120% of it; the last 8 days sum to a loss."
    assert sentences.describe_gains({**spread, "loss_days": 8}) == text


@pytest.mark.parametrize(("days", "unit", "count"), [(14, "day", 14), (500, "month", 17), (3000, "year", 9)])
def test_periods_are_neither_too_many_nor_too_few(days: int, unit: str, count: int) -> None:
    result = slices.over_time(case("regression", rows=3000, days=days))
    assert (result["unit"][0], len(result)) == (unit, count)
    assert result[["low", "high"]].notna().all(axis=None) == (unit != "day"), "one day tells nothing of another"
    assert all(slices.over_time(case(**few)).empty for few in ({"time": None}, {"days": 3}, {"rows": 40}))


@pytest.mark.parametrize("task", TASKS)
def test_a_real_advantage_is_significant_and_that_of_the_naive_prediction_is_not(task: str) -> None:
    sample = case(task)
    result = slices.paired_tests(sample)
    assert ((result["p"] < 0.01) & (result["difference"] > 0)).all()
    gain = sample.results()["gain"]
    assert result.iloc[1][["difference", "low", "high"]].tolist() == pytest.approx(list(gain.values()))
    naive = naive_forecast(len(sample.target), sample.problem, sample.plan)
    assert (slices.paired_tests(sample._replace(predicted=naive))["p"] > 0.5).all()


def test_p_is_uniform_where_there_is_no_advantage() -> None:
    problem, p = statement("regression"), []
    frame = pd.DataFrame({"placed": pd.date_range("2020-01-01", periods=12).repeat(5)})
    naive = plan(np.zeros(9), problem)
    for seed in range(100):
        value, shared = np.random.default_rng(seed).normal(size=(2, 12)).repeat(5, axis=1)
        predicted = pd.DataFrame(dict.fromkeys(decisions.QUANTITY, value))
        # The outcome is as far from the prediction as from zero, the naive one, but for noise that a day shares.
        p.append(slices.paired_tests(Evaluation(value / 2 + shared, predicted, frame, problem, naive))["p"][0])
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert 0 < np.mean(np.array(p) < 0.1) < 0.2


@pytest.mark.parametrize("task", TASKS)
def test_rates_are_those_of_the_rows_of_a_group_and_gaps_the_largest_between_them(task: str) -> None:
    sample = case(task, off=1.0)
    frame, problem, expected, event = sample.frame, sample.problem, sample.expected, sample.observed
    result, gaps = fairness.fairness(sample, ["shop"])
    paid, _, acted = sample.payoffs()
    selected = pd.Series(acted if problem.is_class else expected > np.median(expected))
    rows, gap = (frame["shop"] == "b").to_numpy(), gaps.set_index("measure")["value"]
    values = [rows.sum(), selected[rows].mean(), paid[rows].mean(), (expected - event)[rows].mean()]
    b = result.set_index("group").loc["b"]
    assert b[["rows", "selection_rate", "payoff", "bias"]].tolist() == pytest.approx(values)
    parity = np.ptp(selected.groupby(frame["shop"]).mean())
    assert gap["demographic parity difference"] == pytest.approx(parity)
    assert (gaps["low"] < gaps["value"]).all()
    if problem.is_class:
        rates = selected.groupby([event, frame["shop"]]).mean().unstack()
        assert gap["equalized odds difference"] == pytest.approx(np.ptp(rates.to_numpy(), axis=1).max())
        assert b["true_positive_rate"] == pytest.approx(selected[rows & (event == 1)].mean())


def test_equal_groups_have_no_significant_gap_and_unequal_ones_do() -> None:
    assert all((fairness.fairness(case(seed=seed), ["shop"])[1]["low"] < 0).all() for seed in range(5))
    _, gaps = fairness.fairness(case(off=3.0), ["shop"])
    assert (gaps["low"] > 0).all()
    assert "b" in set(gaps["highest"]) | set(gaps["lowest"])


def test_missing_values_are_a_group_small_groups_are_pooled_and_rates_without_events_are_missing() -> None:
    sample = case()
    shop = sample.frame["shop"].mask(sample.frame["shop"] == "c")
    shop[:4] = ["x", "x", "x", "y"]
    result, gaps = fairness.fairness(sample._replace(frame=sample.frame.assign(shop=shop)), ["shop", "shop"])
    rows = result.set_index("group")["rows"]
    assert (len(rows), rows[fairness.OTHERS], slices.MISSING in rows) == (5, 4, True)
    assert fairness.OTHERS not in set(gaps["highest"]) | set(gaps["lowest"])
    result, gaps = fairness.fairness(
        sample._replace(target=np.where(sample.frame["shop"] == "c", 0, sample.target)), ["shop"]
    )
    assert result["group"][result["true_positive_rate"].isna()].tolist() == ["c"]
    assert gaps.notna().all(axis=None)


def test_one_group_cannot_be_compared_and_an_absent_column_is_named() -> None:
    sample = case()
    result, gaps = fairness.fairness(sample._replace(frame=sample.frame.assign(shop="a")), ["shop"])
    assert (len(result), gaps["value"].isna().all()) == (1, True)
    with pytest.raises(DataError, match=r"training.protected: 'age' is no column .* found id, placed, shop"):
        fairness.fairness(sample, ["shop", "age"])


@pytest.mark.parametrize("time", ["placed", None])
@pytest.mark.parametrize("task", TASKS)
def test_figures_and_sentences_allow_any_name_and_few_rows(task: str, time: str | None) -> None:
    sample = case(task, time=time, unit="$order$", payoff_unit="$", off=2.0)
    odd = {"shop": "", AMOUNT: "$x$ 100% {a}"}
    shop = sample.frame["shop"].map({"a": "", "b": "$y$", "c": "`*` <b>|</b>"})
    sample = sample._replace(frame=sample.frame.assign(shop=shop).rename(columns=odd))
    schema = FeatureSchema(all=list(odd.values()), numeric=[odd[AMOUNT]], categorical=[odd["shop"]])
    result = slices.slices(sample, schema)
    assert slices.over_time(sample).empty == (time is None)
    assert set(fairness.fairness(sample, list(odd.values()))[0]["column"]) == set(odd.values())
    for count in (None, 1, 0):
        sound(sentences.describe_slices(result.head(count), sample.problem))
    sample = case(task, rows=5, days=2, time=time)  # a handful of rows breaks nothing
    result = slices.slices(sample, SCHEMA)
    assert (len(result), list(result)) == (0, slices.SLICES)
    assert "No slice has enough rows" in sentences.describe_slices(result, sample.problem)
    assert slices.paired_tests(sample)["p"].between(0, 1).all()
    assert fairness.fairness(sample, ["shop"])[1]["value"].isna().all()
    assert [len(each) for each in fairness.fairness(sample, [])] == [0, 0]
