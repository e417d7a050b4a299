"""Causes by name: each fault that is planted is found and named first, what is stable is not, and losses are split rightly."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import TASKS, statement

from ninefold import gate
from ninefold.metrics import EvaluationPlan
from ninefold.monitoring import causes, data_quality, decomposition, period, reference, report, shift_tests, two_sample
from ninefold.monitoring.period import Rows
from ninefold.problem import decisions
from ninefold.problem.statement import Problem

KINDS = {"size": "numeric", "weight": "numeric", "shop": "categorical", "note": "text", "since": "date"}
HOLDOUT_DAYS, DAILY = 40, 120


@pytest.fixture(autouse=True)
def _few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(two_sample, "LEARNER", {**two_sample.LEARNER, "max_iter": 20, "learning_rate": 0.2})


def table(task: str, days: int, seed: int, daily: int = DAILY, **planted: float) -> pd.DataFrame:
    """Return rows with their outcome and `@signal`, what a right forecast knows of it."""
    random, problem = np.random.default_rng(seed), statement(task)
    day = np.repeat(np.arange(days), daily)
    rows, level = len(day), 0.08 * random.normal(size=(days, 2))[day]
    size = random.normal(planted.get("inputs", 0.0), 1, rows) + level[:, 0]
    shop = random.choice(["a", "b", "c"], rows)
    moment = pd.Timestamp("2020-01-06") + pd.to_timedelta(day * 24 + random.integers(0, 24, rows), "h")
    frame = pd.DataFrame({"size": size, "weight": np.exp(3 + 0.5 * random.normal(size=rows)), "shop": shop})
    frame = frame.assign(id=np.arange(rows), placed=moment, note=random.choice(["late", "all fine"], rows))
    frame["since"] = frame["placed"] - pd.to_timedelta(random.gamma(2, 20, rows), "D")
    forecast = 1.2 * size + 0.8 * (shop == "b")
    signal = forecast + level[:, 1] - planted.get("relations", 0.0) * 1.2 * size
    if task == "regression":
        target = 20 + 3 * signal + random.normal(0, 2, rows)
    else:
        p = probabilities(signal, problem)
        target = (random.random(rows)[:, None] > p.cumsum(axis=1)).sum(axis=1)
    return frame.assign(**{problem.target: target, "@signal": forecast})


def probabilities(signal: np.ndarray, problem: Problem) -> np.ndarray:
    odds = np.exp(np.column_stack([0 * signal, signal - 0.5, -signal])[:, : len(problem.classes)])
    return odds / odds.sum(axis=1, keepdims=True)


def rows(frame: pd.DataFrame, task: str, **changes: Any) -> Rows:
    problem = statement(task, **changes)
    if task == "regression":
        said = 20 + 3 * frame["@signal"]
        parts = {"prediction": said, "low": said - 4, "high": said + 4, "quantile": said + 1, "loss": 2.0}
        return period.rows(frame, pd.DataFrame(parts), KINDS, problem)
    names = decisions.forecast_columns(problem)
    p = probabilities(frame["@signal"].to_numpy(), problem)[:, -len(names) :]
    return period.rows(frame, pd.DataFrame(p, columns=names), KINDS, problem)


def plant(task: str, cause: str, seed: int = 5, days: int = 14) -> pd.DataFrame:
    """Return a period in which one thing is wrong."""
    if cause == "label shift":
        more, random = table(task, days, seed, 4 * DAILY), np.random.default_rng(seed)
        target = more[statement(task).target]
        chance = np.exp(
            (3 if task == "regression" else 1.2) * (target.rank(pct=True) if task == "regression" else target)
        )
        return more[random.random(len(more)) < chance / chance.mean() / 4].reset_index(drop=True)
    planted = {"covariate shift": {"inputs": 1.0}, "concept shift": {"relations": 0.7}}.get(cause, {})
    return table(task, days, seed, **planted)


def named_causes(frame: pd.DataFrame, task: str = "binary", **changes: Any) -> list[dict[str, Any]]:
    holdout = rows(table(task, HOLDOUT_DAYS, 1), task, **changes)
    found = causes.causes(holdout, holdout, rows(frame, task, **changes), KINDS, statement(task, **changes))
    json.dumps(gate.tidy(found))  # plain values
    return found["findings"]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("cause", ["label shift", "covariate shift", "concept shift"])
def test_what_moved_is_named_first(task: str, cause: str) -> None:
    first = named_causes(plant(task, cause), task)[0]
    assert first["cause"] == cause
    assert first["evidence"]["p"] < 0.01
    assert 0 < first["evidence"]["explains"] <= 1
    assert first["sentence"].endswith(".")
    if cause != "label shift":
        assert first["subject"] == "size"


@pytest.mark.parametrize("task", TASKS)
def test_a_stable_period_has_no_cause(task: str) -> None:
    assert named_causes(table(task, 14, 6), task) == []


@pytest.mark.parametrize("cause", ["covariate shift", "concept shift"])
def test_rows_without_time_are_judged_as_they_are(cause: str) -> None:
    assert named_causes(plant("binary", cause), time=None)[0]["cause"] == cause


def test_before_labels_only_what_needs_none_is_named() -> None:
    for cause in ("covariate shift", "concept shift"):
        named = [each["cause"] for each in named_causes(plant("binary", cause).drop(columns="returned"))]
        assert named == (["covariate shift"] if cause == "covariate shift" else [])


@pytest.mark.parametrize(
    ("how", "spoil"),
    [
        ("missing", lambda values: values * np.nan),
        ("missing", lambda values: values.mask(np.arange(len(values)) % 4 == 0)),
        ("constant", lambda values: values * 0 + 7),
        ("unit", lambda values: values * 2.20462),
        ("unit", lambda values: values / 1000),
        ("unit", lambda values: values + 5000),
        ("unit", lambda values: values * 1.8 + 32),
    ],
)
def test_a_broken_column_is_named_and_nothing_else(how: str, spoil: Any) -> None:
    frame = table("binary", 14, 5)
    found = named_causes(frame.assign(weight=spoil(frame["weight"])))
    assert [(each["cause"], each["subject"]) for each in found] == [("broken column", "weight")]
    assert found[0]["evidence"]["how"] == how


def test_the_factor_of_a_changed_unit_is_told() -> None:
    frame = table("binary", 14, 5)
    evidence = named_causes(frame.assign(weight=frame["weight"] * 60))[0]["evidence"]
    assert evidence["factor"] == pytest.approx(60, rel=0.05)
    assert evidence["offset"] == 0


def test_a_shift_is_no_change_of_unit() -> None:
    frame = table("binary", 14, 5)
    for moved in (frame["size"] + 1.5, frame["size"] * 1.8):
        found = data_quality.broken_columns(
            rows(table("binary", 20, 1), "binary"), rows(frame.assign(size=moved), "binary"), KINDS
        )
        assert found == []


def test_a_new_category_is_named_with_its_share() -> None:
    frame = table("binary", 14, 5)
    frame["shop"] = frame["shop"].mask(np.arange(len(frame)) % 5 == 0, "z")
    (only,) = named_causes(frame)
    assert (only["cause"], only["subject"]) == ("new category", "shop")
    assert only["evidence"]["categories"] == ["z"]
    assert only["evidence"]["share"] == pytest.approx(0.2, abs=0.001)


def test_silence_is_named_and_a_quiet_stream_is_not_silent() -> None:
    assert data_quality.silence(0, None, None, 0)[0]["cause"] == "silence"
    assert data_quality.silence(20, 100.0, 7, 7)[0]["evidence"]["share"] == pytest.approx(20 / 700)
    assert data_quality.silence(300, 100.0, 7, 3)[0]["evidence"]["days without rows"] == 4
    assert data_quality.silence(600, 100.0, 7, 7) == []
    assert data_quality.silence(1, 0.2, 7, 1) == []


def test_two_causes_hold_and_the_one_that_explains_more_comes_first() -> None:
    frame = table("binary", 14, 5, relations=1.2)
    frame["shop"] = frame["shop"].mask(np.arange(len(frame)) % 20 == 0, "z")
    assert [each["cause"] for each in named_causes(frame)] == ["concept shift", "new category"]


def test_the_parts_of_the_loss_add_up_and_go_to_what_was_planted() -> None:
    holdout = rows(table("regression", HOLDOUT_DAYS, 1), "regression")
    random = np.random.default_rng(1)
    for planted in ("covariate", "concept"):
        now = rows(table("regression", 14, 5, inputs=0.8 * (planted == "covariate")), "regression")
        compared = two_sample.compare(holdout.features, now.features, KINDS, (holdout.block, now.block), explain=False)
        size = [
            each.features["size"].to_numpy()[taken]
            for each, taken in ((holdout, compared.before), (now, compared.after))
        ]
        # A loss that is two, and four more where size is above one; and one more on all rows if relations changed.
        loss = [2 + 4 * (each > 1) + random.normal(0, 0.2, len(each)) for each in size]
        loss[1] = loss[1] + (planted == "concept")
        found = decomposition.decompose((loss[0], loss[1]), compared, (holdout.block, now.block))
        assert found["total"]["value"] == pytest.approx(found["covariate"]["value"] + found["concept"]["value"])
        other = "concept" if planted == "covariate" else "covariate"
        assert found[planted]["low"] > 0.5
        assert abs(found[other]["value"]) < 0.35 * found[planted]["value"]
        assert found["separable"]
        if planted == "covariate":
            shares = decomposition.shares(loss[0], holdout, now, KINDS, list(KINDS), found["covariate"]["value"])
            assert shares[0]["feature"] == "size"
            assert shares[0]["share"] > 0.85
            assert shares[0]["effect"] == pytest.approx(found["covariate"]["value"], rel=0.4)
            assert sum(each["share"] for each in shares) == pytest.approx(1)


def test_inputs_that_share_nothing_cannot_be_split() -> None:
    probability = np.full(200, 1e-3)
    compared = two_sample.Compared(1.0, 1.0, 1.0, 0.0, {}, np.arange(200), np.arange(200), probability, 1 - probability)
    found = decomposition.decompose((np.ones(200), np.full(200, 2.0)), compared, (np.arange(200), np.arange(200)))
    assert not found["separable"]


def test_days_that_differ_do_not_look_like_relations_that_changed() -> None:
    problem, flagged = statement("binary"), 0
    for seed in range(12):
        holdout, now = (rows(table("binary", days, seed + 50 * days), "binary") for days in (30, 5))
        found = shift_tests.relations(holdout, now, KINDS, None, problem)
        flagged += int(found["q"].min() < 0.05)
    assert flagged <= 2


def test_corrected_p_values_are_those_of_holm() -> None:
    assert shift_tests.holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])


def test_a_period_is_examined_as_plain_values() -> None:
    task = "regression"
    problem = statement(task)
    past = table(task, 64, 1)
    cut = past["placed"] < pd.Timestamp("2020-01-06") + pd.Timedelta(days=24)
    fitted, holdout = rows(past[cut], task), rows(past[~cut], task)
    plan = EvaluationPlan.model_construct(policies=decisions.policies(holdout.target, problem))
    against = reference.reference(fitted, holdout, reference.Context(KINDS, problem, plan), 8)
    calm = report.period_report(against, rows(table(task, 8, 9), task), 8.0)
    assert calm["outside"] == calm["findings"] == []
    assert calm["rows"] == calm["labelled"] == 8 * DAILY
    assert {"joint auc", "loss", "missing: shop", "unseen: shop", "psi: size", "rows per day"} <= set(calm["figures"])
    moved = report.period_report(against, rows(table(task, 8, 9, inputs=1.5), task), 8.0)
    assert "psi: size" in moved["outside"]
    assert moved["findings"][0]["cause"] == "covariate shift"
    assert moved["figures"]["psi: size"]["value"] > moved["figures"]["psi: size"]["high"]
    assert set(moved["estimated"]) >= {"payoff", "gain"}
    silent = report.period_report(against, rows(table(task, 8, 9)[:0], task), 8.0)
    assert silent["outside"] == ["rows per day"]
    assert [each["cause"] for each in silent["findings"]] == ["silence"]
    json.dumps(gate.tidy([calm, moved, silent]))
