"""Stage 04: metrics, split and baselines are agreed on before there is a score."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import CLASSES, TASKS, Project, statement
from odd_names import sound

from ninefold import artifacts, gate, metrics
from ninefold.errors import DataError, ParamsError
from ninefold.metrics import stage
from ninefold.metrics.plan import EvaluationPlan
from ninefold.problem import PRIMARY, Problem

PROBLEM = statement(label_delay="0h", success={"scores": {"roc_auc": 0.6}, "min_payoff_gain": 0.01, "confidence": 0.9})
SETTINGS = {"split": {"validation": 0.2, "holdout": 0.2}, "level": 0.9}
PARAMS = metrics.Params(primary="log_loss", **SETTINGS)
ALL = [(task, time) for task in TASKS for time in ("placed", None)]


def rows(task: str, count: int = 600, seed: int = 3, **changes: Any) -> tuple[pd.DataFrame, Problem]:
    """Return labelled rows of orders: an id, a shop of twenty (some with more rows), a time, and the encoded target."""
    random, problem = np.random.default_rng(seed), statement(task, **changes)
    target = {
        "binary": (random.random(count) < 0.3).astype("int64"),
        "multiclass": random.choice(3, count, p=[0.6, 0.3, 0.1]).astype("int64"),
        "regression": random.gamma(2, 100, count),
    }[task]
    times = pd.Timestamp("2020-01-01 07:00") + pd.to_timedelta(np.sort(random.integers(0, 100, count)), "D")
    shop = np.minimum(random.integers(0, 20, count), random.integers(0, 20, count))
    return pd.DataFrame({"id": np.arange(count), "placed": times, "shop": shop, problem.target: target}), problem


def plan(task: str) -> metrics.Params:
    return metrics.Params(primary=PRIMARY[task], **SETTINGS)


def part(frame: pd.DataFrame, points: metrics.Split, problem: Problem) -> pd.Series:
    return pd.Series(metrics.part_of(frame, points, problem), frame.index)


def test_a_row_belongs_to_its_local_day_in_the_split_and_its_cluster() -> None:
    hours = pd.DataFrame({"placed": pd.date_range("2013-03-05 05:30", periods=240, freq="h"), "returned": 0})
    there = PROBLEM.changed(timezone="America/New_York", label_delay="0h")  # where the first row is of 0:30
    assert np.bincount(metrics.clusters(hours, there)).tolist() == [24] * 5 + [23] + [24] * 4 + [1]  # a day of 23 hours
    points = metrics.split(hours, PARAMS, there)
    assert (points.validation, points.holdout) == ("2013-03-11", "2013-03-13")
    last = there.local_days(hours).groupby(part(hours, points, there)).max().dt.day
    assert last.to_dict() == {"train": 10, "validation": 12, "purged": 12, "holdout": 15}
    evening = pd.DataFrame({"placed": [pd.Timestamp("2013-03-13 02:00")]})
    assert [metrics.part_of(evening, points, each)[0] for each in (PROBLEM, there)] == ["holdout", "validation"]


def test_the_purge_counts_hours_not_the_clock_where_clocks_change() -> None:
    problem = PROBLEM.changed(timezone="America/New_York", label_delay="24h", horizon="0h")
    times = pd.Timestamp("2013-03-11 04:00") - pd.to_timedelta([24, 23.5], "h")  # the eleventh begins at 4 h UTC
    points = metrics.Split(by="time", validation="2013-03-01", holdout="2013-03-11")
    assert metrics.part_of(pd.DataFrame({"placed": times}), points, problem).tolist() == ["validation", "purged"]


def test_rows_whose_outcome_is_not_known_when_the_holdout_begins_are_purged() -> None:
    frame, problem = rows("binary", label_delay="5d")
    begins = pd.Timestamp((points := metrics.split(frame, PARAMS, problem)).holdout)
    late = frame["placed"].between(begins - pd.Timedelta("5d 2h"), begins, inclusive="neither")
    assert (part(frame, points, problem) == "purged").equals(late)


@pytest.mark.parametrize("task", TASKS)
def test_without_time_each_class_is_split_in_the_shares_of_the_params(task: str) -> None:
    frame, problem = rows(task, 3000, time=None)
    frame["id"] += 10**18  # large numbers are distinct, too
    points = metrics.split(frame, plan(task), problem)
    assert points.by == "rows"
    kinds = frame[problem.target] if problem.is_class else pd.Series(0, frame.index)
    table = pd.crosstab(kinds, part(frame, points, problem))[list(metrics.PARTS)]
    size, share = table.sum(axis=1).to_numpy()[:, None], np.array([0.6, 0.2, 0.2])
    noise = np.sqrt(size * share * (1 - share))  # of a draw, as which a hash splits
    assert np.abs((table.to_numpy() - size * share) / noise).max() < 4


@pytest.mark.parametrize("group", [None, ["shop"]])
@pytest.mark.parametrize("task", TASKS)
def test_a_row_stays_in_its_part_when_others_arrive(task: str, group: list[str] | None) -> None:
    frame, problem = rows(task, time=None, group=group)
    points, more = metrics.split(frame, plan(task), problem), rows(task, seed=4)[0]
    assert metrics.split(frame.sample(frac=1, random_state=1), plan(task), problem) == points
    grown = pd.concat([frame, more.assign(id=more["id"] + 10_000, shop=more["shop"] + 7)], ignore_index=True)
    later = metrics.split(grown, plan(task), problem)  # as stage 04 makes it from more rows
    assert later == points == metrics.Split(by="group" if group else "rows", validation=0.6, holdout=0.8)
    for each in (points, later):
        assert part(grown, each, problem).head(len(frame)).equals(part(frame, points, problem))


def test_copies_of_a_row_lie_in_one_part_and_stay_there_when_others_arrive(project: Project) -> None:
    problem, own = statement(time=None), np.arange(2400) % 600
    lake = pd.DataFrame({"id": np.arange(2400), "amount": own / 7, "note": own.astype(str), "returned": own % 2})
    project.lake("orders", lake.assign(amount=lake["amount"].mask(own % 3 == 0), paid=lake["id"]))
    project.set("exploration", {"known_later": {"paid": "after the decision"}})  # tells copies apart, and is ignored
    frame = metrics.outcomes(problem, PARAMS)
    points = metrics.split(frame.sample(frac=1, random_state=1), PARAMS, problem)
    found = part(frame, points, problem)
    assert found.groupby(own).nunique().max() == 1
    assert found.value_counts(normalize=True)["train"] == pytest.approx(0.6, abs=0.08)
    assert "2,400 rows in 600 sets, kept in one part." in metrics.describe_split(frame, points, problem)
    fewer = frame.head(900)
    assert part(fewer, metrics.split(fewer, PARAMS, problem), problem).equals(found.head(900))
    coarse = frame.assign(**{metrics.COPIES: own % 20})  # of twenty different rows each is expected to come back
    points = metrics.split(coarse, PARAMS, problem)
    assert points.copies == ()
    assert "2,400 rows in 20 sets, split" in metrics.describe_split(coarse, points, problem)


def test_a_plan_of_an_older_version_is_refused_where_it_split_by_quantiles_of_hashes(project: Project) -> None:
    split = {"by": "rows", "edges": {"0": [0.61, 0.79], "1": [0.58, 0.81]}}
    stored = {"primary": {"name": "log_loss", "better": "lower"}, "thresholds": PROBLEM.success.model_dump()}
    artifacts.write_json({**stored, "level": 0.9, "split": split}, artifacts.path("data/metrics.json"))
    with pytest.raises(DataError, match=r"(?s)metrics.json: not a plan as this version .*edges.*run stage 04 again"):
        EvaluationPlan.load()


@pytest.mark.parametrize("group", [None, ["shop"], ["shop", "till"], ["when"]])
def test_a_key_gives_the_same_part_whatever_type_holds_it(group: list[str] | None) -> None:
    frame, problem = rows("binary", time=None, group=group)
    frame["till"] = np.where(frame["id"] % 3 == 0, None, frame["id"] % 2).astype(object)
    frame["when"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(frame["id"], "h")
    points = metrics.split(frame, PARAMS, problem)
    whole = part(frame, points, problem)
    for kind in ("float64", "int32", "Int64", "Float64", "str", "string", object):
        other = frame.assign(id=frame["id"].astype(kind), shop=frame["shop"].astype(kind))
        assert part(other, points, problem).equals(whole), kind
    days = (frame["when"] - pd.Timestamp(0)) / pd.Timedelta(days=1)
    for when in (frame["when"].astype("datetime64[us]"), frame["when"].astype("datetime64[ns]"), days):
        assert part(frame.assign(when=when), points, problem).equals(whole)
    midnight = frame["when"].dt.hour == 0  # a column of whole days is written differently as text
    assert part(frame[midnight], points, problem).equals(whole[midnight])
    if problem.group:
        assert whole.groupby([frame[name] for name in problem.group], dropna=False).nunique().max() == 1


@pytest.mark.parametrize("changes", [{}, {"time": None, "group": ["shop"]}, {"time": None}])
def test_a_part_without_rows_is_refused_with_what_to_change(changes: dict[str, Any]) -> None:
    frame, problem = rows("binary", 50, **changes)
    frame = frame.assign(placed=frame["placed"].iloc[0], shop=0)
    frame = frame if changes.keys() - {"time"} or not changes else frame.head(2)
    with pytest.raises(DataError, match=r"metrics.split: .* would have no row.*change problem.time, problem.group"):
        metrics.split(frame, PARAMS, problem)


@pytest.mark.parametrize("changes", [{}, {"time": None, "group": ["shop"]}], ids=["time", "group"])
@pytest.mark.parametrize("task", TASKS)
def test_the_holdout_stays_closed(task: str, changes: dict[str, Any]) -> None:
    frame, problem = rows(task, **changes)
    points, name = metrics.split(frame, plan(task), problem), problem.target
    turned = frame.assign(**{name: frame[name].where(part(frame, points, problem) != "holdout", 0)})
    assert not turned.equals(frame)
    one, other = (metrics.make_plan(each, points, plan(task), problem) for each in (frame, turned))
    assert one == other
    for look in [metrics.describe_split, *[metrics.recent_outcomes] * bool(problem.time)]:
        assert str(look(frame, points, problem)) == str(look(turned, points, problem)), look.__name__


def test_baselines_pay_what_the_payoffs_say() -> None:
    frame, _ = rows("binary")
    points = metrics.split(frame, PARAMS, PROBLEM)
    valid = frame.loc[part(frame, points, PROBLEM) == "validation", "returned"].mean()
    agreed = metrics.make_plan(frame, points, PARAMS, PROBLEM)
    paid = {policy: payoffs["validation"] for policy, payoffs in agreed.baselines.items()}
    assert paid == pytest.approx({"always act": -1, "always wait": -4 * valid, "perfect foresight": -valid})
    assert agreed.policies == {"always act": "act", "always wait": "wait"}
    assert stage.potential_gain(agreed) == pytest.approx(min(1, 4 * valid) - valid)


def test_a_forecast_from_recent_outcomes_sees_none_that_is_not_known_by_the_day() -> None:
    frame, problem = rows("binary", label_delay="5d")
    frame["returned"] = frame["placed"].between("2020-03-10", "2020-03-16").astype("int64")
    points = metrics.Split(by="time", validation="2020-03-15", holdout="2020-03-21")
    name, values = metrics.recent_outcomes(pd.concat([frame, frame.head(1)]).sort_values("placed"), points, problem)
    assert name == "last four weeks"
    assert (values == [1, 0]).all(axis=None)  # had it seen one of these days, on which everything happens, it were more


def test_the_gate_fails_for_thresholds_out_of_reach_absent_classes_and_few_entities() -> None:
    def failed(frame: pd.DataFrame, problem: Problem, points: metrics.Split | None = None) -> list[str]:
        params = plan(problem.task)
        points = points or metrics.split(frame, params, problem)
        checks = metrics.checks(frame, metrics.make_plan(frame, points, params, problem), params, problem)
        return [check.name for check in checks if not check.passed]

    frame, _ = rows("binary")
    assert failed(frame, PROBLEM) == []
    greedy = PROBLEM.changed(success=PROBLEM.success.model_copy(update={"min_payoff_gain": 5.0}))
    assert failed(frame, greedy) == ["potential gain by perfect foresight"]
    frame, problem = rows("multiclass")
    points = metrics.split(frame, plan("multiclass"), problem)
    frame.loc[(part(frame, points, problem) == "validation") & (frame["size"] == 2), "size"] = 1
    absent = ["rows of the rarest class in the smallest part", "classes of size without rows"]
    assert failed(frame, problem, points) == absent
    agreed = metrics.make_plan(frame, points, plan("multiclass"), problem)
    checks = metrics.checks(frame, agreed, plan("multiclass"), problem)
    assert [check.value for check in checks if check.name == absent[1]] == [f"no {CLASSES[2]} in validation"]
    frame, problem = rows("binary", time=None, group=["shop"])
    assert "entities in the holdout" in failed(frame, problem)
    tenth = (frame["placed"] - pd.Timestamp("2020-01-01")).dt.days // 10
    ten_days = frame.assign(placed=pd.Timestamp("2020-01-01") + pd.to_timedelta(tenth, "D"))
    assert "days in the holdout" in failed(ten_days, PROBLEM)
    assert failed(frame.assign(shop=frame["id"] // 3), problem) == []


@pytest.mark.parametrize(("task", "time"), ALL)
def test_every_task_is_described_and_written(project: Project, task: str, time: str | None) -> None:
    frame, problem = rows(task, time=time, unit="$ order $", units="orders")
    params = plan(task)
    points = metrics.split(frame, params, problem)
    agreed = metrics.make_plan(frame, points, params, problem)
    target = frame.loc[part(frame, points, problem).isin(metrics.PARTS[:2]), problem.target]
    shares = [target.mean()] if task == "regression" else target.value_counts(normalize=True).sort_index().tolist()
    assert agreed.naive == pytest.approx(shares)
    sound(metrics.describe_split(frame, points, problem))
    sound(metrics.conclusion(agreed, problem), *metrics.headline(agreed).values())
    scores = pd.DataFrame({PRIMARY[task]: [0.5]}, index=["training mean"])
    assert metrics.metrics(agreed, scores)["potential_gain"] > 0
    agreed.save()
    artifacts.publish()
    assert EvaluationPlan.load().baselines == gate.tidy(agreed.baselines)
    assert part(frame, EvaluationPlan.load().split, problem).equals(part(frame, points, problem))


def test_labelled_rows_have_a_known_outcome_encoded_under_its_own_name(project: Project) -> None:
    times = pd.to_datetime(["2020-01-03", "2020-01-02", None, "2020-01-01", "2020-01-04"]).astype("datetime64[us]")
    lake = pd.DataFrame({"id": range(5), "placed": times, "shop": "a", "size": [*CLASSES, "small", None], "amount": 1})
    project.lake("orders", lake)
    found = metrics.labelled(statement("multiclass", group=["shop"]))
    assert found.columns.tolist() == lake.columns.tolist()
    assert found[["id", "size"]].to_numpy().tolist() == [[3, 0], [1, 1], [0, 0]]  # by time, none unknown
    narrow = metrics.labelled(statement("multiclass", time=None, group=["shop"]), ["amount"])
    assert narrow.columns.tolist() == ["id", "shop", "size", "amount"]
    assert narrow["size"].tolist() == [0, 1, 2, 0]


def test_a_lake_without_the_column_or_an_outcome_and_a_metric_of_another_task_are_named(project: Project) -> None:
    project.lake("orders", pd.DataFrame({"id": [1], "size": ["huge"]}))
    with pytest.raises(DataError, match=r"data/lake/orders: lacks placed; found id, size"):
        metrics.labelled(statement("multiclass"))
    with pytest.raises(DataError, match=r"no row has an outcome in size; of classes small, mid size"):
        metrics.labelled(statement("multiclass", time=None))
    with pytest.raises(ParamsError, match=r"metrics.primary: found 'rmse', expected for task binary: log_loss, brier"):
        metrics.outcomes(PROBLEM, metrics.Params(primary="rmse", **SETTINGS))
    project.lake("orders", pd.DataFrame({"id": [1], "placed": [pd.Timestamp("2020-01-01")], "returned": [1]}))
    with pytest.raises(ParamsError, match=r"problem.timezone: found 'Asia/Tokyo', expected UTC: placed holds dates"):
        metrics.outcomes(PROBLEM.changed(timezone="Asia/Tokyo"), PARAMS)
