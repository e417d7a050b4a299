"""Parts of the holdout: what is called off is off, luck is not, and rows that are correlated count as one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import TASKS, statement
from matplotlib.figure import Figure
from scipy import stats

from ninefold.errors import DataError
from ninefold.features import FeatureSchema
from ninefold.metrics import EvaluationPlan, evaluation, scores
from ninefold.problem import PRIMARY, Problem, decisions
from ninefold.training import fairness, significance, slices
from ninefold.training import slice_figures as drawing

Case = tuple[np.ndarray, pd.DataFrame, pd.DataFrame, Problem, EvaluationPlan]

SHOPS, AMOUNT = ["a", "b", "c", "d"], "amount"
SCHEMA = FeatureSchema(all=["shop", AMOUNT], numeric=[AMOUNT], categorical=["shop"])


def plan(target: np.ndarray, problem: Problem) -> EvaluationPlan:
    """Return the plan of stage 04 for outcomes like these."""
    numbers = range(len(problem.classes)) if problem.is_class else []
    return EvaluationPlan.model_validate(
        {
            "primary": {"name": PRIMARY[problem.task], "better": "lower"},
            "thresholds": problem.success,
            "split": {"by": "rows"},
            "bootstrap": {"replicates": 40, "level": 0.95, "seed": 3},
            "naive": [float((target == number).mean()) for number in numbers] or [float(target.mean())],
            "policies": decisions.policies(target, problem),
        }
    )


def case(task: str = "binary", rows: int = 1200, seed: int = 1, days: int = 30, **changes: Any) -> Case:
    """Return a right forecast: outcomes are drawn from it. `off` moves it, where `shop` is b, away from the outcomes."""
    off, problem = changes.pop("off", 0.0), statement(task, **changes)
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "id": np.arange(rows),
            "placed": pd.Timestamp("2020-01-06") + pd.to_timedelta(np.arange(rows) * days // rows, "D"),
            "shop": random.choice(SHOPS, rows),
            AMOUNT: random.normal(size=rows),
        }
    )
    signal, moved = random.normal(size=rows), off * (frame["shop"] == "b").to_numpy()
    if task == "regression":
        target = 20 + 3 * signal + random.normal(0, 2, rows)
        said = 20 + 3 * signal + 2 * moved
        parts = {"prediction": said, "low": said - 4, "high": said + 4, "quantile": said + 1.35, "loss": 2.0}
        return target, pd.DataFrame(parts), frame.assign(price=target), problem, plan(target, problem)

    def p(shift: Any) -> np.ndarray:
        odds = np.exp(np.column_stack([0 * signal, 1.5 * signal - 0.5 + shift, -signal])[:, : len(problem.classes)])
        return odds / odds.sum(axis=1, keepdims=True)

    target = (random.random(rows)[:, None] > p(0).cumsum(axis=1)).sum(axis=1)
    names = decisions.forecast_columns(problem)
    predicted = pd.DataFrame(p(moved)[:, -len(names) :], columns=names)
    return (
        target,
        predicted,
        pd.concat([frame, pd.Series(target, name=problem.target)], axis=1),
        problem,
        plan(target, problem),
    )


def table(made: Case, schema: FeatureSchema = SCHEMA) -> pd.DataFrame:
    target, predicted, frame, problem, settled = made
    return slices.slices(target, predicted, frame, schema, problem, settled)


def part(found: pd.DataFrame, group: str, feature: str = "shop") -> pd.Series:
    return found[(found["feature"] == feature) & (found["group"] == group)].iloc[0]


@pytest.mark.parametrize("task", TASKS)
def test_losses_are_those_of_the_proper_score(task: str) -> None:
    target, predicted, _, problem, _ = case(task)
    mean = slices.losses(target, predicted, problem).mean()
    score = scores.task_scores(target, predicted, problem)[PRIMARY[task]]
    assert mean == pytest.approx(score if problem.is_class else score**2)


@pytest.mark.parametrize("task", TASKS)
def test_luck_is_hardly_ever_flagged(task: str) -> None:
    wide = {f"x{number}": np.random.default_rng(number).normal(size=600) for number in range(6)}
    flagged = 0
    for seed in range(20):
        target, predicted, frame, problem, settled = case(task, rows=600, seed=seed)
        schema = FeatureSchema(all=["shop", AMOUNT], numeric=[AMOUNT, *wide], categorical=["shop"])
        found = table((target, predicted, frame.assign(**wide), problem, settled), schema)
        assert len(found) == 4 + 7 * 4
        flagged += int(found["flagged"].any() or found["differs"].any())
    assert flagged <= 2


def test_luck_is_hardly_ever_flagged_where_quantities_have_long_tails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "BINS", 12)
    flagged = 0
    for seed in range(20):
        _, predicted, frame, problem, settled = case("regression", seed=seed)
        tail = np.random.default_rng(seed).normal(0, 1.5, len(frame))
        target = predicted["prediction"].to_numpy() * np.exp(tail - 1.5**2 / 2)
        flagged += int(table((target, predicted, frame, problem, settled))["flagged"].any())
    assert flagged <= 2


@pytest.mark.parametrize("task", TASKS)
def test_a_part_in_which_the_forecast_is_off_comes_first(task: str) -> None:
    for seed in range(3):
        found = table(case(task, seed=seed, rows=2400, off=1.2))
        assert (found["feature"][0], found["group"][0]) == ("shop", "b")
        assert found["flagged"][0]
        assert found["bias_low"][0] > 0
        assert found["q"].is_monotonic_increasing
        assert (found["q"] >= found["p"]).all()


def test_parts_with_few_events_do_not_look_sure() -> None:
    _, _, frame, problem, settled = case(rows=1200)
    rare = pd.DataFrame({"probability": np.full(1200, 0.01)})
    target = (np.arange(1200) % 100 == 0).astype("int64") * (frame["shop"] != "a").to_numpy()
    found = table((target, rare, frame, problem, settled))
    silent = part(found, "a")  # three events were to be expected, and none came
    assert silent["bias"] == pytest.approx(0.01)
    assert silent["p"] > 0.05
    assert silent["loss_p"] > 0.05
    assert silent["bias_low"] < 0
    assert silent["bias_high"] <= 0.01


def test_a_part_with_one_outcome_is_still_told_if_the_forecast_missed_it() -> None:
    target, predicted, frame, problem, settled = case()
    target = np.where(frame["shop"] == "c", 0, target)
    first = table((target, predicted, frame, problem, settled)).iloc[0]
    assert (first["group"], first["flagged"]) == ("c", True)


def test_figures_of_a_part_are_those_of_its_rows() -> None:
    target, predicted, frame, problem, settled = case(off=0.5)
    found, rows = part(table((target, predicted, frame, problem, settled)), "b"), (frame["shop"] == "b").to_numpy()
    mine, theirs = target[rows], predicted[rows].reset_index(drop=True)
    naive = evaluation.naive_forecast(int(rows.sum()), problem, settled)
    loss = scores.task_scores(mine, theirs, problem)["log_loss"]
    assert found["rows"] == rows.sum()
    assert found["loss"] == pytest.approx(loss)
    assert found["skill"] == pytest.approx(1 - loss / scores.task_scores(mine, naive, problem)["log_loss"])
    model, best, _ = evaluation.against_baseline(target, predicted, problem, settled)
    assert found["gain"] == pytest.approx((model - best)[rows].mean())
    assert found["bias"] == pytest.approx(theirs["probability"].mean() - mine.mean())
    assert found["low"] < found["gain"] < found["high"]


def test_the_loss_of_a_quantity_is_the_root_of_the_mean_square() -> None:
    target, predicted, frame, problem, settled = case("regression")
    found, rows = part(table((target, predicted, frame, problem, settled)), "a"), (frame["shop"] == "a").to_numpy()
    loss = scores.task_scores(target[rows], predicted[rows], problem)["rmse"]
    assert found["loss"] == pytest.approx(loss)
    assert found["skill"] == pytest.approx(1 - loss / np.sqrt(np.mean((target[rows] - settled.naive[0]) ** 2)))


def test_a_harder_part_differs_without_being_at_fault() -> None:
    target, predicted, frame, problem, settled = case("regression", rows=2400)
    noise = np.random.default_rng(4).normal(0, 5, 2400)
    found = table((target + noise * (frame["shop"] == "d"), predicted, frame, problem, settled))
    assert part(found, "d")["differs"]
    assert not part(found, "d")["flagged"]


def test_intervals_are_wider_where_rows_of_a_day_hang_together() -> None:
    target, predicted, frame, problem, settled = case("regression")
    shared = target + np.repeat(np.random.default_rng(2).normal(0, 5, 30), 40)
    by_day = table((shared, predicted, frame, problem, settled))
    by_row = table((shared, predicted, frame, problem.changed(time=None), settled))
    for low, high in (("bias_low", "bias_high"), ("low", "high")):
        wide, narrow = (part(found, "a")[high] - part(found, "a")[low] for found in (by_day, by_row))
        assert wide > 1.3 * narrow


def test_an_interval_of_the_bias_holds_zero_about_as_often_as_it_says() -> None:
    held = []
    for seed in range(40):
        target, predicted, frame, problem, settled = case("regression", rows=600, seed=seed)
        shared = np.repeat(np.random.default_rng(seed).normal(0, 2, 30), 20)
        found = part(table((target + shared, predicted, frame, problem, settled)), "a")
        held.append(found["bias_low"] <= 0 <= found["bias_high"])
    assert np.mean(held) >= 0.85


def test_parts_are_values_and_bands_with_enough_rows_and_days() -> None:
    target, predicted, frame, problem, settled = case()
    shop = frame["shop"].where(frame["shop"] != "c").mask(frame.index < 20, "rare")
    shop = shop.mask(frame.index >= 1120, "short")  # enough rows, of two days
    frame = frame.assign(shop=shop, constant=1.0, flag=frame["id"] % 2, amount=frame[AMOUNT].mask(frame["id"] % 5 == 0))
    made = (target, predicted, frame, problem, settled)
    found = table(made, FeatureSchema(all=["shop"], numeric=[AMOUNT, "constant", "flag"], categorical=["shop"]))
    assert set(found.loc[found["feature"] == "shop", "group"]) == {"a", "b", "d", slices.MISSING}
    assert set(found.loc[found["feature"] == "flag", "group"]) == {"0", "1"}
    bands = found[found["feature"] == AMOUNT].set_index("group")["rows"]
    assert len(bands) == 5
    assert bands[slices.MISSING] == 240
    assert bands.drop(slices.MISSING).between(230, 250).all()
    assert "constant" not in set(found["feature"])


def test_of_many_values_the_most_frequent_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "fewest", lambda _: 5)
    target, predicted, frame, problem, settled = case(rows=2000)
    frame = frame.assign(shop=np.random.default_rng(1).integers(0, 70, 2000).astype(str))
    found = table((target, predicted, frame, problem, settled), FeatureSchema(all=["shop"], categorical=["shop"]))
    assert len(found) == slices.MOST_GROUPS
    assert found["rows"].min() >= frame["shop"].value_counts().iloc[slices.MOST_GROUPS - 1]


def test_many_blocks_are_thrown_together_and_tell_the_same() -> None:
    made = case("regression", rows=2400, time=None, off=1.0)
    found = part(table(made), "b")
    error = (made[1]["prediction"] - made[0])[made[2]["shop"] == "b"]
    expected = 2 * stats.t.ppf(0.975, len(error) - 1) * error.std() / np.sqrt(len(error))
    assert found["bias_high"] - found["bias_low"] == pytest.approx(expected, rel=0.25)


def test_weeks_are_told_by_their_own_days() -> None:
    target, predicted, frame, problem, settled = case(days=35)
    found = slices.over_time(target, predicted, frame, problem, settled)
    assert found["unit"].unique().tolist() == ["week"]
    assert found["period"].tolist() == list(pd.date_range("2020-01-06", periods=5, freq="7D"))
    rows = (frame["placed"] >= "2020-01-13") & (frame["placed"] < "2020-01-20")
    second, model = found.iloc[1], evaluation.against_baseline(target, predicted, problem, settled)
    assert second["rows"] == rows.sum()
    assert second["observed"] == pytest.approx(target[rows].mean())
    assert second["predicted"] == pytest.approx(predicted.loc[rows, "probability"].mean())
    assert second["loss"] == pytest.approx(slices.losses(target, predicted, problem)[rows].mean())
    assert second["gain"] == pytest.approx((model[0] - model[1])[rows].mean())
    assert second["low"] < second["gain"] < second["high"]


@pytest.mark.parametrize(("days", "unit", "count"), [(14, "day", 14), (500, "month", 17), (3000, "year", 9)])
def test_periods_are_neither_too_many_nor_too_few(days: int, unit: str, count: int) -> None:
    target, predicted, frame, problem, settled = case("regression", rows=3000, days=days)
    found = slices.over_time(target, predicted, frame, problem, settled)
    assert (found["unit"][0], len(found)) == (unit, count)
    assert found[["low", "high"]].notna().all(axis=None)


def test_without_time_or_with_few_days_there_is_no_course() -> None:
    for made in (case(time=None), case(days=3), case(rows=40)):
        assert slices.over_time(*made).empty


@pytest.mark.parametrize("task", TASKS)
def test_a_real_advantage_is_told_from_none(task: str) -> None:
    made = case(task)
    found = significance.paired_tests(*made)
    assert (found["p"] < 0.01).all()
    assert (found["difference"] > 0).all()
    gain = evaluation.evaluate(*made)["gain"]
    assert found.iloc[1][["difference", "low", "high"]].tolist() == pytest.approx(list(gain.values()))
    target, _, frame, problem, settled = made
    naive = evaluation.naive_forecast(len(target), problem, settled)
    assert (significance.paired_tests(target, naive, frame, problem, settled)["p"] > 0.5).all()


def test_p_is_spread_evenly_where_there_is_no_advantage() -> None:
    problem, found = statement("regression"), []
    frame = pd.DataFrame({"placed": pd.Timestamp("2020-01-01") + pd.to_timedelta(np.repeat(np.arange(12), 5), "D")})
    settled = plan(np.zeros(9), problem)
    for seed in range(100):
        random = np.random.default_rng(seed)
        said, shared = random.normal(size=12).repeat(5), random.normal(size=12).repeat(5)
        predicted = pd.DataFrame(dict.fromkeys(decisions.QUANTITY, said))
        # The outcome is as far from the forecast as from zero, the naive forecast, but for noise that a day shares.
        found.append(significance.paired_tests(said / 2 + shared, predicted, frame, problem, settled)["p"][0])
    assert stats.kstest(found, "uniform").pvalue > 0.01
    assert 0 < np.mean(np.array(found) < 0.1) < 0.2


def fair(made: Case, protected: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    target, predicted, frame, problem, settled = made
    return fairness.fairness(target, predicted, frame, protected, problem, settled)


@pytest.mark.parametrize("task", TASKS)
def test_rates_are_those_of_the_rows_of_a_group_and_gaps_the_largest_between_them(task: str) -> None:
    made = case(task, rows=1200, off=1.0)
    target, predicted, frame, problem, settled = made
    found, gaps = fair(made, ["shop"])
    _, _, acted = evaluation.against_baseline(target, predicted, problem, settled)
    said, event = decisions.expected(predicted, problem), decisions.event(target, problem)
    selected = acted if problem.is_class else said > np.median(said)
    gap = gaps.set_index("measure")
    parity = np.ptp(pd.Series(selected).groupby(frame["shop"]).mean())
    assert gap.loc["demographic parity difference", "value"] == pytest.approx(parity)
    assert (gaps["low"] < gaps["value"]).all()
    b, rows = found.set_index("group").loc["b"], (frame["shop"] == "b").to_numpy()
    assert b["rows"] == rows.sum()
    assert b["selection_rate"] == pytest.approx(selected[rows].mean())
    paid = decisions.payoff(decisions.decide(predicted, problem)["action"], target, problem)
    assert b["payoff"] == pytest.approx(paid[rows].mean())
    assert b["bias"] == pytest.approx((said - event)[rows].mean())
    if problem.is_class:
        rates = pd.Series(selected).groupby([event, frame["shop"]]).mean().unstack()
        odds = np.ptp(rates.to_numpy(), axis=1).max()
        assert gap.loc["equalized odds difference", "value"] == pytest.approx(odds)
        assert b["true_positive_rate"] == pytest.approx(selected[rows & (event == 1)].mean())
    else:
        assert "true_positive_rate" not in found


def test_equal_groups_show_no_gap_beyond_chance_and_unequal_ones_do() -> None:
    for seed in range(5):
        assert (fair(case(seed=seed), ["shop"])[1]["low"] < 0).all()
    _, gaps = fair(case(off=3.0), ["shop"])
    assert (gaps["low"] > 0).all()
    assert "b" in set(gaps["highest"]) | set(gaps["lowest"])


def test_missing_values_are_a_group_and_small_groups_are_pooled() -> None:
    target, predicted, frame, problem, settled = case()
    shop = frame["shop"].mask(frame["shop"] == "c").where(frame.index >= 3, "x").mask(frame.index == 3, "y")
    found, gaps = fair((target, predicted, frame.assign(shop=shop), problem, settled), ["shop", "shop"])
    assert set(found["group"]) == {"a", "b", "d", slices.MISSING, fairness.OTHERS}
    assert found.set_index("group").loc[fairness.OTHERS, "rows"] == 4
    assert fairness.OTHERS not in set(gaps["highest"]) | set(gaps["lowest"])


def test_a_group_without_events_has_no_rate_of_them() -> None:
    target, predicted, frame, problem, settled = case()
    target = np.where(frame["shop"] == "c", 0, target)
    found, gaps = fair((target, predicted, frame, problem, settled), ["shop"])
    rate = found.set_index("group")["true_positive_rate"]
    assert np.isnan(rate["c"])
    assert rate.drop("c").notna().all()
    assert gaps.notna().all(axis=None)


def test_one_group_cannot_be_compared() -> None:
    target, predicted, frame, problem, settled = case()
    found, gaps = fair((target, predicted, frame.assign(shop="a"), problem, settled), ["shop"])
    assert len(found) == 1
    assert gaps["value"].isna().all()
    assert "cannot be compared" in drawing.describe_fairness(found, gaps)


def test_a_protected_column_that_is_absent_is_named() -> None:
    with pytest.raises(DataError, match=r"training.protected: 'age' is no column .* found id, placed, shop"):
        fair(case(), ["shop", "age"])


@pytest.mark.parametrize("task", TASKS)
def test_the_worst_rows_are_those_of_the_largest_loss(task: str) -> None:
    target, predicted, frame, problem, _ = case(task)
    found, loss = slices.worst(target, predicted, frame, SCHEMA, problem), slices.losses(target, predicted, problem)
    assert len(found) == 10
    assert found["loss"].tolist() == sorted(loss, reverse=True)[:10]
    assert found["loss"].tolist() == loss[found["id"]].tolist()
    probability = ["probability"] if task == "multiclass" else []
    assert list(found) == ["id", "placed", "forecast", "outcome", *probability, "loss", "shop", AMOUNT]
    if task == "multiclass":
        assert set(found["outcome"]) <= set(problem.classes)


def test_ties_among_the_worst_rows_go_by_key() -> None:
    problem, order = statement(key=["shop", "id"]), [3, 1, 2, 0]
    frame = pd.DataFrame({"shop": ["b", "b", "a", "a"], "id": order, "placed": pd.Timestamp("2020-01-01")})
    even = pd.DataFrame({"probability": np.full(4, 0.5)})
    found = slices.worst(np.array([0, 1, 0, 1]), even, frame, FeatureSchema(all=["id"]), problem, count=3)
    assert found[["shop", "id"]].to_numpy().tolist() == [["a", 0], ["a", 2], ["b", 1]]


ODD = {"shop": "", AMOUNT: "$x$ 100% {a}"}


@pytest.mark.parametrize("time", ["placed", None])
@pytest.mark.parametrize("task", TASKS)
def test_parts_are_drawn_and_told_whatever_they_are_called(task: str, time: str | None) -> None:
    target, predicted, frame, problem, settled = case(task, time=time, unit="$order$", payoff_unit="$", off=2.0)
    odd = frame["shop"].map({"a": "", "b": "$y$", "c": "`*` <b>|</b>"})
    frame = frame.assign(shop=odd).rename(columns=ODD)
    schema = FeatureSchema(all=list(ODD.values()), numeric=[ODD[AMOUNT]], categorical=[ODD["shop"]])
    found = slices.slices(target, predicted, frame, schema, problem, settled)
    assert {"", "$y$", slices.MISSING} <= set(found["group"])
    course = slices.over_time(target, predicted, frame, problem, settled)
    groups, gaps = fairness.fairness(target, predicted, frame, list(ODD.values()), problem, settled)
    tests = significance.paired_tests(target, predicted, frame, problem, settled)
    rows = slices.worst(target, predicted, frame, schema, problem)
    for few in (lambda whole: whole, lambda whole: whole.head(1), lambda whole: whole.head(0)):
        for figure in (
            drawing.plot_slices(few(found), problem),
            drawing.plot_over_time(few(course), problem),
            drawing.plot_fairness(few(groups), problem),
        ):
            assert isinstance(figure, Figure)
            figure.canvas.draw()
        for text in (
            drawing.describe_slices(few(found), problem),
            drawing.describe_over_time(few(course), problem),
            drawing.describe_fairness(few(groups), few(gaps)),
            drawing.describe_tests(few(tests)),
            drawing.describe_worst(few(rows), problem),
        ):
            assert text
            assert not {"nan", "None", "inf"} & set(text.replace("(", " ").replace(",", " ").split()), text
    assert set(drawing.formats(found, problem)) == {"p", "q", "loss_p", "loss_q"}
    assert "selection_rate" in drawing.formats(groups, problem)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("time", ["placed", None])
def test_a_handful_of_rows_breaks_nothing(task: str, time: str | None) -> None:
    target, predicted, frame, problem, settled = case(task, rows=5, days=2, time=time)
    found = table((target, predicted, frame, problem, settled))
    assert found.empty
    assert list(found) == slices.SLICES
    assert "No slice has enough rows" in drawing.describe_slices(found, problem)
    assert len(slices.worst(target, predicted, frame, SCHEMA, problem)) == 5
    assert significance.paired_tests(target, predicted, frame, problem, settled)["p"].between(0, 1).all()
    groups, gaps = fair((target, predicted, frame, problem, settled), ["shop"])
    assert groups["group"].tolist() == [fairness.OTHERS]
    assert gaps["value"].isna().all()
    assert [len(each) for each in fair((target, predicted, frame, problem, settled), [])] == [0, 0]


def test_sentences_tell_what_the_tables_hold() -> None:
    target, predicted, frame, problem, settled = case(off=1.5, rows=2400)
    made = (target, predicted, frame, problem, settled)
    told = drawing.describe_slices(table(made), problem)
    assert "The most significant is `shop` = `b`" in told
    assert "overstate by" in told
    assert "none is significantly biased" in drawing.describe_slices(table(case()), problem)
    everywhere = predicted["probability"] ** 0.5
    level = table((target, everywhere.to_frame(), frame, problem, settled))
    assert "predictions are biased as a whole" in drawing.describe_slices(level, problem)
    tests = significance.paired_tests(*made)
    assert "p = 0.0001, the least that 9,999 draws can show" in drawing.describe_tests(tests)
    course = slices.over_time(target, predicted, frame, problem, settled)
    lowest = course.loc[course["gain"].idxmin(), "period"]
    assert f"(week of {lowest:%Y-%m-%d})" in drawing.describe_over_time(course, problem)


def test_the_same_rows_give_the_same_tables() -> None:
    made = case("regression", rows=900, time=None)
    pd.testing.assert_frame_equal(table(made), table(made))
    pd.testing.assert_frame_equal(significance.paired_tests(*made), significance.paired_tests(*made))
    for one, other in zip(fair(made, ["shop"]), fair(made, ["shop"]), strict=True):
        pd.testing.assert_frame_equal(one, other)
