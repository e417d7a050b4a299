"""Planted leaks are caught, each time and on every task, and no honest column is."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import statement
from sklearn.metrics import roc_auc_score

from ninefold.exploration import Exploration, Params, leakage, univariate
from ninefold.exploration.entity_leakage import EntityLeakage
from ninefold.metrics import EvaluationPlan, part_of
from ninefold.problem import Problem

BEFORE = ["past mean", "past orders", "last"]  # what only the order of rows shows to have been known
VOCABULARY = ["ALPHA", "BETA", "GAMMA", "DELTA", "BLUE", "GREEN", "SOFT", "LARGE", "FAST", "SITE", "CALL", "PAID"]
TASKS = {"binary": ["no", "yes"], "multiclass": ["a", "b", "c"], "regression": None}


def stating(task: str, timed: bool = True) -> Problem:
    names = TASKS[task]
    own = {"target": "y", "classes": names, "focus": names[-1] if names else None, "key": ["id"]}
    own |= {"task": task, "time": "placed" if timed else None, "group": None if timed else ["customer"]}
    return statement(task).changed(**own)


def table(task: str, rows: int = 3000, customers: int = 300) -> pd.DataFrame:
    """Make orders of customers who come back: some return more, as do costly ones, and what was known of each."""
    random = np.random.default_rng(1)
    who, habit = random.integers(0, customers, rows), random.normal(size=customers)
    made = pd.DataFrame({"customer": [f"c{number}" for number in who], "amount": random.gamma(2, 30, rows).round(2)})
    made["placed"] = pd.Timestamp("2021-01-01") + pd.to_timedelta(np.sort(random.uniform(0, 120, rows)), "D")
    made["placed"] = made["placed"].astype("datetime64[us]")
    made["kind"] = random.choice(list("abcde"), rows)
    position = 0.5 * habit[who] + made["amount"] / 60 + (made["kind"] == "a") + 0.7 * random.logistic(size=rows)
    if task == "regression":
        made["y"] = 100 * np.exp(position / 2)
    else:
        cuts = [0.8] if task == "binary" else [0.5, 0.8]
        made["y"] = np.digitize(position, np.quantile(position, cuts))
    made["tier"] = np.round(habit + random.normal(size=customers))[who]
    made["age"] = random.integers(18, 80, customers)[who]
    made["noise"], made["hour"] = random.normal(size=rows), random.integers(0, 24, rows)
    made["sometimes"] = (position + random.normal(size=rows)).where(random.uniform(size=rows) < 0.7)
    made["rare"] = np.where(random.uniform(size=rows) < 0.02 + 0.04 * (position > 2), 1.0, np.nan)
    past = event(made, task).groupby(made["customer"])
    made["past mean"] = (past.cumsum() - event(made, task)) / past.cumcount().clip(lower=1)
    made["past orders"], made["last"] = past.cumcount(), past.shift(1)
    return made


def event(made: pd.DataFrame, task: str) -> pd.Series:
    return made["y"] if task == "regression" else (made["y"] == made["y"].max()).astype("float64")


def opened(made: pd.DataFrame, s: Problem, limit: float | None) -> Exploration:
    """Return the rows before the holdout, as stage 05 reads them."""
    points = {"by": "group", "validation": 0.65, "holdout": 0.8}
    if s.time:
        points = {"by": "time", "validation": "2021-03-20", "holdout": "2021-04-07"}
    primary, success = {"name": "log_loss", "better": "lower"}, {"scores": {}, "min_payoff_gain": 0, "confidence": 0.9}
    plan = EvaluationPlan(primary=primary, thresholds=success, split=points, level=0.95)
    df = made[part_of(made, plan.split, s) != "holdout"].reset_index(drop=True)
    if s.task == "multiclass":
        df["y"] = pd.Categorical.from_codes(df["y"], s.classes)
    return Exploration(df, Params(min_rows=20, leak_score=limit), s, plan)


def suspects(made: pd.DataFrame, s: Problem, limit: float | None = None) -> dict[str, str]:
    rows = opened(made, s, limit)
    found = leakage.screen(rows, [s.time], rows.missing_effects())
    return {name: said for name, said in zip(found["column"], found["evidence"], strict=True) if said}


def copied(made: pd.DataFrame, task: str) -> dict[str, Any]:
    """Return the outcome with errors of five per cent, in several guises."""
    random, y = np.random.default_rng(2), made["y"].to_numpy()
    if task == "regression":
        replaced = np.where(random.uniform(size=len(y)) < 0.05, random.permutation(y), y)
        return {
            "of its spread": y + 0.05 * y.std() * random.normal(size=len(y)),
            "of its value": y * (1 + 0.05 * random.normal(size=len(y))),
            "of the rows": replaced, "of the rows, scaled": 7 - 3 * replaced,
        }  # fmt: skip
    classes = len(TASKS[task] or [])
    turned = np.where(random.uniform(size=len(y)) < 0.05, (y + random.integers(1, classes, len(y))) % classes, y)
    return {
        "number": turned, "labels": np.array(["p", "q", "r"])[turned],
        "jitter": turned + random.uniform(0, 0.9, len(y)),
        "text": [f"{label}-{part}" for label, part in zip(turned, random.integers(0, 20, len(y)), strict=True)],
    }  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_honest_columns_are_no_leak(task: str) -> None:
    made = table(task, 2000)
    assert suspects(made, stating(task)) == {}
    assert suspects(made.drop(columns=BEFORE), stating(task, timed=False)) == {}


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("task", TASKS)
def test_a_copy_with_five_per_cent_of_errors_is_caught(task: str, timed: bool) -> None:
    made = table(task, 2000).drop(columns=BEFORE)
    planted = copied(made, task)
    assert set(suspects(made.assign(**planted), stating(task, timed))) == set(planted)


@pytest.mark.parametrize("task", TASKS)
def test_a_column_filled_on_one_side_alone_is_caught(task: str) -> None:
    made, chance = table(task), np.random.default_rng(2).uniform(size=3000)
    y = event(made, task)
    happened = y > y.quantile(0.8) if task == "regression" else y == 1
    planted = {
        "present": np.where(happened, chance, np.nan), "partly": np.where(happened & (chance < 0.6), chance, np.nan),
        "absent": np.where(happened, None, "x"), "partly absent": np.where(~happened & (chance < 0.6), "x", None),
    }  # fmt: skip
    found = suspects(made.assign(**planted), stating(task))
    assert set(found) == set(planted)
    assert found["partly absent"].startswith("where it is missing the ")
    if task == "binary":  # nought but where it happened
        refund = made["amount"].where((made["y"] == 1) & (np.arange(len(made)) % 3 > 0), 0.0)
        told = suspects(made.assign(refund=refund, stage=np.where(refund == 0, chance > 0.5, "sent")), stating(task))
        assert [told[name].split(" the ")[0] for name in told] == ["where it is not 0.0", "where it is sent"]


def test_a_few_bad_days_and_a_mere_tendency_are_no_leak() -> None:
    made = table("binary")
    made["copy"] = copied(made, "binary")["number"]
    assert suspects(made, stating("binary"), 0.97) == {}
    assert set(suspects(made, stating("binary"), 0.93)) == {"copy"}
    made = made.drop(columns="copy")
    day = made["placed"].dt.normalize()
    bad = day.between(day[1000], day[1000] + pd.Timedelta("2D"))
    made = made.assign(y=made["y"].mask(bad, 1), down=made["amount"].where(~bad))
    often = np.random.default_rng(3).uniform(size=len(made)) < np.where(made["y"] == 1, 0.5, 0.25)  # odds of 3
    assert suspects(made.assign(often=np.where(often, 1.0, np.nan)), stating("binary")) == {}


@pytest.mark.parametrize("task", TASKS)
def test_what_an_entity_s_later_rows_came_to_is_caught(task: str) -> None:
    made = table(task)
    y = event(made, task)
    by = y.groupby(made["customer"])
    total, count, before, place = by.transform("sum"), by.transform("size"), by.cumsum() - y, by.cumcount()
    planted = {
        "mean": total / count, "mean of the others": ((total - y) / (count - 1)).where(count > 1),
        "mean from here": (total - before) / (count - place), "later count": total - before - y, "next": by.shift(-1),
    }  # fmt: skip
    day = y.groupby(made["placed"].dt.normalize())
    planted["others of the day"] = (day.transform("sum") - y) / (day.transform("size") - 1)
    found = suspects(made.assign(**planted), stating(task))
    assert set(found) == set(planted)
    assert "own and later rows of each customer" in found["mean"]
    assert "later outcomes of its customer" in found["later count"]
    assert "linear function" in found["mean of the others"]
    untimed = made.drop(columns=BEFORE).assign(mean=planted["mean"])
    assert set(suspects(untimed, stating(task, timed=False))) == {"mean"}


@pytest.mark.parametrize("task", TASKS)
def test_a_word_that_tells_the_outcome_is_named_and_one_that_hints_at_it_is_not(task: str) -> None:
    made, random = table(task, 2000).drop(columns=BEFORE), np.random.default_rng(5)
    y = made["y"]
    happened = (y > y.quantile(0.6) if task == "regression" else y == 1).to_numpy()
    text = pd.Series([" ".join(words) for words in random.choice(VOCABULARY, (2000, 12))])
    hint = np.where(random.uniform(size=2000) < np.where(happened, 0.4, 0.15), " urgent", "")
    noisy = np.where(happened ^ (random.uniform(size=2000) < 0.03), text + " Refunded. " + text, text)
    found = suspects(made.assign(word=noisy, hint=text + hint), stating(task))
    assert set(found) == {"word"}
    assert 'where it contains "refunded"' in found["word"]
    paid = [f"to pay: {value:.2f} by {words}" for value, words in zip(y, text, strict=True)]
    assert task != "regression" or "by its first number" in suspects(made.assign(paid=paid), stating(task))["paid"]


def test_rare_words_and_levels_of_which_each_has_one_outcome_alone_are_named_together() -> None:
    made, random = table("binary", 3000).drop(columns=BEFORE), np.random.default_rng(6)
    told = (made["y"] == 1) & (random.uniform(size=3000) < 0.7)
    text = pd.Series([" ".join(words) for words in random.choice(VOCABULARY, (3000, 12))])
    codes, stage = random.integers(0, 12, 3000), pd.Series([f"K{number}" for number in random.integers(0, 40, 3000)])
    planted = {"note": text.where(~told, text + pd.Series([f" won{code}" for code in codes]))}
    planted |= {"stage": stage.where(~told, pd.Series([f"W{code}" for code in codes])), "honest": stage}
    found = suspects(made.assign(**planted), stating("binary"))
    assert set(found) == {"note", "stage"}
    assert all(
        f' "{name}' in found[column] and "or the like" in found[column]
        for column, name in [("note", "won"), ("stage", "W")]
    )


@pytest.mark.parametrize("names", [np.arange(501), np.random.default_rng(1).normal(900, 40, 501).round(2)])
def test_values_of_a_thing_whose_rows_have_one_outcome_ask_for_the_group_and_keep_is_no_answer(names: Any) -> None:
    made, who = table("binary", 2000).drop(columns=BEFORE), np.arange(2000) // 4 * 7 % 501
    made = made.assign(id=np.arange(2000), person=names[who], y=np.random.default_rng(5).integers(0, 2, 501)[who])
    for group, status in ((None, "suspicious"), ([], "justified")):
        rows = opened(made, stating("binary", timed=False).changed(group=group), None)
        rows.params = rows.params.model_copy(update={"justified": {"person": "known"}})
        found = rows.scores(rows.missing_effects()).set_index("column").loc["person"]
        assert (found["status"], 'set problem.group: ["person"]' in found["evidence"]) == (status, group is None)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_columns_that_tell_when_compared_are_named_and_an_honest_difference_is_not(task: str) -> None:
    made, random = table(task, 2000).drop(columns=BEFORE), np.random.default_rng(5)
    ours, theirs, noise = random.poisson(3, 2000), random.poisson(3, 2000), random.logistic(0, 1.5, 2000)
    done, due = made["placed"] + pd.to_timedelta(9 + theirs, "D"), made["placed"] + pd.to_timedelta(9 + ours, "D")
    last = made["placed"] - pd.to_timedelta(20 + theirs - ours, "D")
    made = made.assign(ours=ours * 1.0, theirs=theirs, due=due, done=done, last=last)
    wrong = np.where(random.uniform(size=2000) < 0.03, random.permutation(2000), np.arange(2000))
    for gap, leaks in ((theirs - ours, True), ((theirs - ours)[wrong], True), (theirs - ours + noise, False)):
        y = gap > 0 if task == "binary" else np.sign(gap.round()) + 1
        found = suspects(made.assign(y=y.astype(int)), stating(task))
        assert set(found) == ({"ours", "theirs", "due", "done", "last"} if leaks else set())
    one, other = random.integers(0, 2, (2, 2000))
    y = np.where(random.uniform(size=2000) < 0.03, 0, one ^ other)
    both = made.assign(one=np.array(["x", "y"])[one], other=other, y=y)
    assert set(suspects(both, stating(task))) == {"one", "other"}


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_numbers_of_rows_sorted_by_the_outcome_are_a_leak_and_a_sorted_measurement_is_not(task: str) -> None:
    made, random = table(task, 2000).drop(columns=BEFORE), np.random.default_rng(2)
    nearly = np.argsort(made["y"].rank().to_numpy() + random.normal(0, 600, 2000))
    for order, leaks in ((nearly, {"number"}), (np.argsort(made["amount"]), set())):
        rows = made.iloc[order].assign(number=random.gamma(1, 1, 2000).cumsum() if leaks else 0)
        assert set(suspects(rows.reset_index(drop=True), stating(task, timed=False))) == leaks


def test_a_number_that_the_outcome_moved_names_no_entity() -> None:
    """When an order arrives tells of its delay, given when it was due: rows of one such minute are chosen by it."""
    random = np.random.default_rng(8)
    due, delay = random.integers(600, 1200, 20_000), random.exponential(25, 20_000).astype(int)
    made = pd.DataFrame({"due": due, "arrived": due + delay, "customer_id": random.integers(0, 500, 20_000)})
    made["placed"] = pd.Timestamp("2021-01-01") + pd.to_timedelta(np.sort(random.uniform(0, 300, 20_000)), "D")
    others = EntityLeakage(made, ["due", "arrived", "customer_id"], (delay > 40).astype(int), stating("binary"))
    assert [name for name, _ in others.entities] == ["customer_id", "local day"]
    assert others.evidence("due", made["due"]) == ""


@pytest.mark.parametrize("timed", [True, False])
def test_a_design_that_balances_outcomes_is_no_leak(timed: bool) -> None:
    """Every pig is weighed at the same twelve ages: weights cancel around its mean, whatever is known of the pig."""
    random = np.random.default_rng(4)
    age, pig = np.arange(12).repeat(80), np.tile(np.arange(80), 12)
    frame = pd.DataFrame({"pig": [f"p{number}" for number in pig], "age": age, "start": random.normal(25, 3, 80)[pig]})
    frame["placed"] = pd.Timestamp("2021-01-01") + pd.to_timedelta(7 * age, "D")
    weight = frame["start"] + 6 * age + random.normal(0, 2, len(frame))
    problem = stating("regression", timed).changed(group=["pig"])
    others = EntityLeakage(frame, ["pig", "age", "start"], weight.to_numpy(), problem)
    assert others.evidence("start", frame["start"]) == ""
    assert others.evidence("mean", weight.groupby(frame["pig"]).transform("mean")) != ""


def test_outcomes_that_exclude_each_other_are_no_leak() -> None:
    """A customer leaves once, with the last row: a known risk goes with later outcomes alone, and is honest."""
    random = np.random.default_rng(6)
    risk = random.uniform(0.02, 0.3, 400)
    stay = np.minimum(random.geometric(risk), 12)
    who, month = np.repeat(np.arange(400), stay), np.concatenate([np.arange(count) for count in stay])
    frame = pd.DataFrame({"customer": [f"c{number}" for number in who], "risk": risk[who]})
    frame["placed"] = pd.Timestamp("2021-01-01") + pd.to_timedelta(30 * month, "D")
    frame["left"] = (month == stay[who] - 1).astype(int)
    frame = frame.iloc[np.argsort(month, kind="stable")].reset_index(drop=True)
    others = EntityLeakage(frame, ["customer", "risk"], frame["left"].to_numpy(), stating("binary"))
    for risk in (frame["risk"], frame["risk"] + random.normal(0, 0.05, len(frame))):
        assert others.evidence("risk", risk) == ""


def test_the_outcome_of_the_next_row_of_a_series_is_a_leak_and_that_of_the_row_before_is_not() -> None:
    steps = np.random.default_rng(3).normal(size=(3, 202)).cumsum(axis=1)
    rows = {"placed": np.tile(pd.date_range("2021-01-01", periods=200), 3), "customer": np.repeat([*"abc"], 200)}
    rows |= {"last": steps[:, :-2].ravel(), "next": steps[:, 2:].ravel(), "y": steps[:, 1:-1].ravel()}
    frame = pd.DataFrame(rows).sort_values("placed", ignore_index=True)
    leaks = EntityLeakage(frame, ["customer"], frame["y"].to_numpy(), stating("regression"))
    assert [leaks.evidence(name, frame[name])[:27] for name in ("last", "next")] == ["", "it is the outcome of the ne"]


def test_the_score_of_a_column_with_ties_is_the_auc_of_scikit_learn() -> None:
    random = np.random.default_rng(1)
    y = random.integers(0, 2, 2000)
    values = y + random.integers(0, 9, 2000)
    hits, rows = np.bincount(values, y), np.bincount(values)
    assert univariate.roc(hits, rows - hits, np.arange(10)).auc == pytest.approx(roc_auc_score(y, values))
