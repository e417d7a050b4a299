"""Causes by name: each planted fault is named first, stable periods have no cause, and losses are decomposed rightly."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import TASKS, statement
from monitoring_rows import DAILY, KINDS, rows, table

from ninefold import gate
from ninefold.metrics import EvaluationPlan
from ninefold.monitoring import data_quality, report, shift_tests, two_sample
from ninefold.monitoring.reference import Context, Reference, reference
from ninefold.problem import decisions

pytestmark = pytest.mark.usefixtures("few_trees")
PLANTED = {"covariate shift": {"inputs": 1.0}, "concept shift": {"relations": 0.7}, "label shift": {}, None: {}}


def plant(cause: str | None, task: str = "binary") -> pd.DataFrame:
    if cause != "label shift":
        return table(task, **PLANTED[cause])
    more, random = table(task, daily=4 * DAILY), np.random.default_rng(5)
    target = more[statement(task).target]
    chance = np.exp(3 * target.rank(pct=True) if task == "regression" else 1.2 * target)
    return more[random.random(len(more)) < chance / chance.mean() / 4].reset_index(drop=True)


def causes(frame: pd.DataFrame, task: str = "binary", **changes: Any) -> list[dict[str, Any]]:
    holdout, problem = rows(table(task, 40, 1), task, **changes), statement(task, **changes)
    plan = EvaluationPlan.model_construct(policies={})
    bounds = pd.DataFrame(columns=["low", "high", "usual"])
    against = Reference(holdout, holdout, KINDS, problem, plan, {}, {}, bounds, None)
    now = rows(frame, task, **changes)
    found = report.causes(against, now, data_quality.broken_columns(holdout, now, KINDS), inputs=True)
    json.dumps(gate.tidy(found))  # plain values
    return found


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("cause", PLANTED)
def test_what_moved_is_named_first_and_a_stable_period_has_no_cause(task: str, cause: str | None) -> None:
    found = causes(plant(cause, task), task)
    if cause is None:
        assert found == []
        return
    evidence, subject = found[0]["evidence"], found[0].get("subject")
    assert (found[0]["cause"], subject == "width") == (cause, cause != "label shift")
    assert evidence["p"] < 0.01 < evidence["explains"] <= 1


@pytest.mark.parametrize("cause", ["covariate shift", "concept shift"])
def test_rows_without_time_have_causes_and_before_labels_only_those_that_need_none_are_named(cause: str) -> None:
    frame = plant(cause)
    assert causes(frame, time=None)[0]["cause"] == cause
    named = [each["cause"] for each in causes(frame.drop(columns="returned"))]
    assert named == (["covariate shift"] if cause == "covariate shift" else [])


WEIGHT = table()["weight"]


@pytest.mark.parametrize(("how", "weight"), [
    ("missing", WEIGHT * np.nan), ("missing", WEIGHT.mask(WEIGHT.index % 4 == 0)), ("constant", WEIGHT * 0 + 7),
    ("unit", WEIGHT * 2.20462), ("unit", WEIGHT / 1000), ("unit", WEIGHT + 5000), ("unit", WEIGHT * 1.8 + 32),
])  # fmt: skip
def test_a_broken_column_is_named_and_nothing_else(how: str, weight: pd.Series) -> None:
    (only,) = causes(table().assign(weight=weight))
    assert (only["cause"], only["subject"], only["evidence"]["how"]) == ("broken column", "weight", how)


def test_the_factor_of_another_unit_is_named_and_a_shift_is_none() -> None:
    frame, known = table(), rows(table(days=20, seed=1))
    (broken,) = data_quality.broken_columns(known, rows(frame.assign(weight=WEIGHT * 60)), KINDS)
    assert (broken["evidence"]["factor"], broken["evidence"]["offset"]) == (pytest.approx(60, rel=0.05), 0)
    for moved in (frame["width"] + 1.5, frame["width"] * 1.8):
        assert data_quality.broken_columns(known, rows(frame.assign(width=moved)), KINDS) == []


def test_a_new_category_is_named_and_of_two_causes_the_one_that_explains_more_comes_first() -> None:
    def with_new(frame: pd.DataFrame, every: int) -> list[dict[str, Any]]:
        return causes(frame.assign(shop=frame["shop"].mask(frame.index % every == 0, "z")))

    (only,) = with_new(table(), 5)
    assert (only["cause"], only["subject"], only["evidence"]["categories"]) == ("new category", "shop", ["z"])
    assert only["evidence"]["share"] == pytest.approx(0.2, abs=0.001)
    assert [each["cause"] for each in with_new(table(relations=1.2), 20)] == ["concept shift", "new category"]


def test_silence_is_named_and_a_quiet_stream_is_not_silent() -> None:
    assert data_quality.silence(20, 100.0, 7, 7)[0]["evidence"]["share"] == pytest.approx(20 / 700)
    assert data_quality.silence(300, 100.0, 7, 3)[0]["evidence"]["days without rows"] == 4
    assert data_quality.silence(600, 100.0, 7, 7) == data_quality.silence(1, 0.2, 7, 1) == []


@pytest.mark.parametrize(("planted", "other"), [("covariate", "concept"), ("concept", "covariate")])
def test_the_parts_of_the_loss_add_up_and_go_to_what_was_planted(planted: str, other: str) -> None:
    random = np.random.default_rng(1)
    both = rows(table(days=40, seed=1)), rows(table(inputs=0.8 * (planted == "covariate")))
    compared = two_sample.compare(*both, KINDS)
    # A loss that is two, and four more where width is above one; and one more on all rows if relations changed.
    loss, after = (2 + 4 * (each.features["width"] > 1) + random.normal(0, 0.2, len(each.block)) for each in both)
    split = shift_tests.decompose((loss, after + (planted == "concept")), compared, (both[0].block, both[1].block))
    assert split["total"]["value"] == pytest.approx(split["covariate"]["value"] + split["concept"]["value"])
    assert abs(split[other]["value"]) < 0.35 * split[planted]["value"]
    assert (split["separable"], split[planted]["low"] > 0.5) == (True, True)
    row, apart = np.arange(200), np.full(200, 1e-3)  # inputs that share nothing cannot be split
    compared = two_sample.Compared(1.0, 1.0, 1.0, 0.0, {}, row, row, apart, 1 - apart)
    assert not shift_tests.decompose((row, row), compared, (row, row))["separable"]


def test_days_that_differ_do_not_look_like_relations_that_changed() -> None:
    flagged = 0
    for seed in range(12):
        holdout, now = (rows(table(days=days, seed=seed + 50 * days)) for days in (30, 5))
        flagged += shift_tests.relations(holdout, now, KINDS, None, statement("binary"))["q"].min() < 0.05
    assert flagged <= 2
    assert shift_tests.holm(pd.Series([0.01, 0.04, 0.03])).tolist() == pytest.approx([0.03, 0.06, 0.06])


def test_only_missing_values_are_in_the_first_place_and_columns_may_be_empty() -> None:
    holdout, now, problem = rows(table(days=40, seed=1)), rows(table(inputs=1.0)), statement("binary")
    assert min(each.min() for each in shift_tests._places(shift_tests.FORECAST, holdout, now, KINDS, problem)) == 1
    empty = now._replace(features=now.features.assign(weight=np.nan, shop=None))
    assert shift_tests.relations(holdout, empty, KINDS, None, problem).notna().all(axis=None)


def test_many_blocks_are_merged_at_random_so_that_a_pattern_of_the_rows_is_no_correlation() -> None:
    values, block = np.arange(1000) % 2.0, np.arange(1000)
    (error,) = shift_tests.moved((values, values), (block, block))["error"]
    assert error == pytest.approx(np.sqrt(2 * 0.25 / 1000), rel=0.1)  # of two means of 1,000 independent rows


def test_the_report_of_a_period_is_plain_values() -> None:
    task = "regression"
    problem, past = statement(task), table(task, 64, 1)
    cut = past["placed"] < "2020-01-30"
    fitted, holdout = rows(past[cut], task), rows(past[~cut], task)
    plan = EvaluationPlan.model_construct(policies=decisions.policies(holdout.target, problem))
    against = reference(fitted, holdout, Context(KINDS, problem, plan), 8)
    periods = table(task, 8, 9), table(task, 8, 9, inputs=1.5), table(task, 8, 9)[:0]
    calm, moved, silent = (report.period_report(against, rows(frame, task), 8.0) for frame in periods)
    assert calm["outside"] == calm["findings"] == []
    assert calm["rows"] == calm["labelled"] == 8 * DAILY
    assert {"joint auc", "loss", "missing: shop", "unseen: shop"} <= set(calm["natural"])
    assert ("joint auc" in moved["outside"], moved["findings"][0]["cause"]) == (True, "covariate shift")
    assert set(moved["estimated"]) >= {"payoff", "gain"}
    assert (silent["outside"], silent["findings"][0]["cause"]) == (["rows per day"], "silence")
    json.dumps(gate.tidy([calm, moved, silent]))
    still_open = report.period_report(against, rows(periods[0].head(DAILY), task), None)
    assert "rows per day" not in still_open["natural"]
    assert report.period_report(against, rows(periods[2]), None)["findings"] == [], "no silence before the close"
    ends = table(task, 8, 9)
    ends["weight"] = ends["weight"].mask(ends["placed"] >= "2020-01-13")  # the last day
    ended = report.period_report(against, rows(ends, task), 8.0)
    assert ended["ended"] == {"weight": {"since": "2020-01-13"}}
    limitless = against._replace(bounds=against.bounds[:0])  # no figure is beyond its limits
    broken = report.period_report(limitless, rows(table(task, 8, 9).assign(weight=WEIGHT * 60), task), 8.0)
    assert [each["subject"] for each in broken["findings"] if each["cause"] == "broken column"] == ["weight"]
    assert [each["subject"] for each in ended["findings"] if each["cause"] == "broken column"] == ["weight"]
    begins = ends.assign(weight=table(task, 8, 9)["weight"].mask(ends["placed"] < "2020-01-07"))  # not the last day
    assert report.period_report(limitless, rows(begins, task), 8.0)["findings"] == [], "its share is usual"
