"""What retraining would have been worth: each strategy sees what was known at a close, and nothing later."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import bundles
import numpy as np
import pandas as pd
import pytest
from conftest import Project
from monitoring_params import PARAMS as MONITORING

from ninefold import metrics, training
from ninefold.errors import DataError
from ninefold.metrics import Bootstrap, EvaluationPlan, evaluation
from ninefold.monitoring import backtest
from ninefold.monitoring import backtest_figures as figures
from ninefold.monitoring.answers import PERIOD, outcomes
from ninefold.monitoring.backtest import CALENDAR, NEVER, TRIGGERED, Followed, Setting
from ninefold.problem import decisions
from ninefold.serving import bundle as packing

WEEKS = pd.date_range("2020-02-20", "2020-04-02", freq="7D")


@pytest.fixture
def parts(project: Project) -> dict[str, pd.DataFrame]:
    return bundles.lay_out()


@pytest.fixture
def bundle(parts: dict[str, pd.DataFrame], setting: Setting) -> packing.Bundle:
    """Return a bundle that says how good it was on the holdout."""
    packed, holdout, problem = bundles.pack(parts), parts["holdout"], setting.problem
    target = outcomes(holdout, problem)
    found = evaluation.evaluate(target, packed.predict(holdout), holdout, problem, setting.plan)
    return replace(packed, described={**packed.described, "holdout": found})


@pytest.fixture
def setting(project: Project) -> Setting:
    problem = bundles.problem_of("binary")
    bundles.lay_out()
    bootstrap = Bootstrap(replicates=40, level=0.9, seed=1)
    plan = EvaluationPlan.load().model_copy(
        update={"bootstrap": bootstrap, "best_baseline": "always wait", "naive": [0.7, 0.3]}
    )
    split = {"validation": 0.2, "holdout": 0.25}
    return Setting(
        problem,
        plan,
        metrics.Params(primary="log_loss", split=split, bootstrap=plan.bootstrap),
        training.Params(seed=1, candidates=bundles.MODELS, calibration="none", importance_rows=100, gap="0h"),
        MONITORING.model_copy(update={"period": "week"}),
    )


def later(turned: bool = False) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return six weeks of later rows and their volume; `turned`: what came back is kept now, and the other way round."""
    frame = bundles.rows("binary", 336)
    frame["placed"] = pd.date_range(WEEKS[0], periods=len(frame), freq="3h")
    if turned:
        frame["returned"] = 1 - frame["returned"]
    frame["id"] += 10_000
    ends = WEEKS[1:]
    volume = pd.DataFrame({"period": [f"{day:%m-%d}" for day in WEEKS[:-1]], "start": WEEKS[:-1], "end": ends})
    number = np.searchsorted(ends, frame["placed"], side="right")
    frame[PERIOD] = volume["period"].to_numpy()[number]
    counts = frame.groupby(PERIOD).size().to_numpy()
    return frame, volume.assign(raw=counts, quarantined=0, ready=counts)


def run(
    strategy: str, bundle: packing.Bundle, parts: dict[str, pd.DataFrame], setting: Setting, turned: bool
) -> Followed:
    return backtest.follow(strategy, bundle, parts, later(turned), setting)


def test_who_never_retrains_answers_with_the_model_in_place(
    bundle: packing.Bundle, parts: dict[str, pd.DataFrame], setting: Setting
) -> None:
    found = run(NEVER, bundle, parts, setting, turned=True)
    assert found.retrained == []
    assert set(found.frame["@version"]) == {bundle.version}
    answers = bundle.decide(later(True)[0])
    assert np.allclose(found.frame["@probability"], answers["probability"], atol=1e-12)
    assert (found.frame["@action"].to_numpy() == answers["action"].to_numpy()).all()


def test_every_month_retrains_where_a_month_ends_and_not_for_nothing_at_the_last_close(
    bundle: packing.Bundle, parts: dict[str, pd.DataFrame], setting: Setting
) -> None:
    frame, volume = later()
    found = backtest.follow(CALENDAR, bundle, parts, (frame, volume), setting)
    assert [each["close"] for each in found.retrained] == ["02-27"]  # of 5 March; that of 2 April is the last
    versions = found.frame.groupby(PERIOD, sort=False)["@version"].first().tolist()
    assert versions == [bundle.version] * 2 + ["fitted after 02-27"] * 4


def test_at_a_close_only_labels_that_are_known_by_then_are_learned_from(
    bundle: packing.Bundle, parts: dict[str, pd.DataFrame], setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[pd.DataFrame] = []

    def refit(bundle: packing.Bundle, rows: pd.DataFrame, _: Setting) -> Any:
        seen.append(rows)
        return bundle, parts

    waits = setting._replace(monitoring=MONITORING.model_copy(update={"label_delay": "2d"}))
    frame, volume = later(turned=True)
    frame.loc[frame.index[:3], "returned"] = None  # never known
    monkeypatch.setattr(backtest, "refit", refit)
    backtest.follow(TRIGGERED, bundle, parts, (frame, volume), waits)
    close = volume["end"].iloc[0]
    expected = frame[frame["returned"].notna() & (frame["placed"] + pd.Timedelta("2d") <= close)]
    assert len(seen[0]) == sum(map(len, parts.values())) + len(expected)
    assert seen[0]["placed"].max() == expected["placed"].max()


def test_a_world_turned_round_is_learned_when_the_monitor_says_so_and_pays(
    bundle: packing.Bundle, parts: dict[str, pd.DataFrame], setting: Setting
) -> None:
    followed = {name: run(name, bundle, parts, setting, turned=True) for name in (NEVER, TRIGGERED)}
    times = followed[TRIGGERED].retrained
    assert times
    assert times[0]["close"] == "02-20"
    assert times[0]["reasons"]
    # A retrained model is not judged before it had time: `decide.rest`.
    closes = later()[1].set_index("period")["end"]
    gaps = np.diff([closes[each["close"]] for each in times])
    assert all(gap >= pd.Timedelta(setting.monitoring.decide.rest) for gap in gaps)
    table = backtest.compare(followed, setting).set_index("strategy")
    assert table.loc[NEVER, ["gain", "gain_low", "gain_high"]].tolist() == [0.0, 0.0, 0.0]
    direct = {
        name: decisions.payoff(one.frame["@action"].to_numpy(), outcomes(one.frame, setting.problem), setting.problem)
        for name, one in (
            (name, one._replace(frame=one.frame[one.frame["@status"] != "open"])) for name, one in followed.items()
        )
    }
    assert table.loc[TRIGGERED, "gain"] == pytest.approx(direct[TRIGGERED].mean() - direct[NEVER].mean())
    assert table.loc[TRIGGERED, "retrainings"] == len(times)


def test_a_stable_world_calls_for_no_retraining(
    bundle: packing.Bundle, parts: dict[str, pd.DataFrame], setting: Setting
) -> None:
    assert run(TRIGGERED, bundle, parts, setting, turned=False).retrained == []


def test_a_refitted_model_has_not_seen_its_holdout_and_keeps_its_kind(
    bundle: packing.Bundle, parts: dict[str, pd.DataFrame], setting: Setting
) -> None:
    rows = pd.concat([*parts.values(), later()[0][parts["train"].columns]], ignore_index=True)
    again, split = backtest.refit(bundle, rows, setting)
    assert split["holdout"]["placed"].min() > split["validation"]["placed"].max()
    assert type(again.model) is type(bundle.model)
    assert again.model is not bundle.model
    figures_of = backtest.with_figures(again, split["holdout"], setting).described["holdout"]
    assert set(figures_of) >= {"roc_auc", "gain"}
    mixed = split["holdout"].assign(returned=1 - split["holdout"]["returned"])
    other, _ = backtest.refit(bundle, pd.concat([split["train"], split["validation"], mixed]), setting)
    table = split["holdout"]
    assert np.array_equal(again.predict(table)["probability"], other.predict(table)["probability"])


def test_of_too_little_no_model_is_made(
    bundle: packing.Bundle, parts: dict[str, pd.DataFrame], setting: Setting
) -> None:
    dull = pd.concat(parts.values()).assign(returned=0)
    with pytest.raises(DataError, match="not two different outcomes"):
        backtest.refit(bundle, dull, setting)


def test_the_story_is_told_by_what_was_found(
    bundle: packing.Bundle, parts: dict[str, pd.DataFrame], setting: Setting
) -> None:
    followed = {name: run(name, bundle, parts, setting, turned=True) for name in (NEVER, CALENDAR, TRIGGERED)}
    table = backtest.compare(followed, setting)
    told = figures.describe_strategies(table, setting.problem)
    share = backtest.captured(table)
    assert (f"{share:.0%} of the gain" if share is not None else "Retraining every month gains nothing") in told
    shown = figures.strategy_table(table, setting.problem)
    assert shown["retrained"].tolist() == [NEVER, CALENDAR, TRIGGERED]
    assert set(figures.retraining_table(followed)["strategy"]) == {
        name for name in followed if followed[name].retrained
    }
    drawn = figures.plot_strategies(backtest.by_period(followed, setting.problem), followed, setting.problem)
    assert [len(axes.lines) for axes in drawn.axes] == [3 + 3 + 1, 3 + 3]
    assert figures.describe_strategies(table[:0], setting.problem) == figures.NOTHING
