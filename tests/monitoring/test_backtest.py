"""What retraining would have been worth: each strategy sees what was known at a close, and nothing later."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any

import bundles
import numpy as np
import pandas as pd
import pytest
from conftest import Project
from monitoring_data import PARAMS

from ninefold.errors import DataError
from ninefold.metrics import EvaluationPlan
from ninefold.monitoring import Monitor, backtest, sentences
from ninefold.monitoring.answers import PERIOD, STATUS, outcomes, predict
from ninefold.monitoring.arrivals import Arrived, cut, label_status
from ninefold.monitoring.backtest import CALENDAR, NEVER, TRIGGERED, Followed
from ninefold.problem import decisions

pytestmark = pytest.mark.usefixtures("few_trees")


@pytest.fixture
def monitor(project: Project) -> Monitor:
    """Return the monitor of a model whose metrics on the holdout are not known, as of one that the backtest has fitted."""
    parts = bundles.lay_out()
    plan = EvaluationPlan.load().model_copy(update={"level": 0.9, "best_baseline": "always wait", "naive": [0.7, 0.3]})
    split = {"validation": 0.2, "holdout": 0.25}
    project.set("metrics", {"primary": "log_loss", "split": split, "level": plan.level})
    project.set("training", {"seed": 1, "candidates": bundles.MODELS, "calibration": "none", "importance_rows": 100})
    packed = bundles.pack(parts)
    bundle = replace(packed, described={**packed.described, "holdout": {}})
    return Monitor(bundle, parts, PARAMS.model_copy(update={"period": "week"}), plan)


def later(turned: bool = False) -> Arrived:
    """Return six weeks of later rows and their volume; `turned`: what came back is kept now, and the other way round."""
    volume = cut(date(2020, 2, 20), date(2020, 4, 1), "week").assign(raw=56, quarantined=0, ready=56)
    frame = bundles.rows("binary", 336).assign(placed=pd.date_range("2020-02-20", periods=336, freq="3h"))
    frame["returned"] = 1 - frame["returned"] if turned else frame["returned"]
    frame = frame.assign(**{"id": frame["id"] + 10_000, PERIOD: np.repeat(volume["period"].to_numpy(), 56)})
    return frame.assign(**{STATUS: label_status(frame, volume, bundles.problem_of("binary"))}), volume


@pytest.fixture
def follow(monitor: Monitor) -> Callable[..., Followed]:
    """Return a function that follows a strategy in a stable world, or in one that is turned round."""
    frames = [predict(later(turned)[0], monitor.bundle) for turned in (False, True)]
    return lambda strategy, turned=False: backtest.follow(strategy, monitor, (frames[turned], later()[1]))


def test_a_stable_world_is_learned_again_where_a_month_ends_and_never_for_the_monitor(
    monitor: Any, follow: Any
) -> None:
    assert follow(TRIGGERED).retrained == []
    result = follow(CALENDAR)
    assert [each["close"] for each in result.retrained] == ["2020-02-27"]  # of 5 March; that of 2 April is the last
    versions = result.frame.groupby(PERIOD, sort=False)["@version"].first().tolist()
    assert versions == [monitor.bundle.version] * 2 + ["fitted after 2020-02-27"] * 4


def test_only_labels_known_at_a_close_are_learned_from(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[pd.DataFrame] = []
    monkeypatch.setattr(backtest, "refit", lambda same, rows, _: seen.append(rows) or same)
    described = monitor.bundle.described
    waits = {**described, "problem": {**described["problem"], "label_delay": "2d"}}
    frame, volume = later(turned=True)
    frame.loc[frame.index[:3], ["returned", STATUS]] = [None, "never"]
    waiting = replace(monitor, bundle=replace(monitor.bundle, described=waits))
    backtest.follow(TRIGGERED, waiting, (predict(frame, monitor.bundle), volume))
    close = volume["end"].iloc[0]
    expected = frame[frame["returned"].notna() & (frame["placed"] <= close - pd.Timedelta("2d 2h"))]
    assert len(seen[0]) == sum(map(len, monitor.parts.values())) + len(expected)
    assert seen[0]["placed"].max() == expected["placed"].max()


def test_a_world_turned_round_is_learned_when_the_monitor_says_so(monitor: Monitor, follow: Any) -> None:
    followed, problem = {name: follow(name, turned=True) for name in (NEVER, CALENDAR, TRIGGERED)}, monitor.problem
    never, answers = followed[NEVER], monitor.bundle.decide(later(True)[0])
    assert (never.retrained, set(never.frame["@version"])) == ([], {monitor.bundle.version})
    assert np.allclose(never.frame["@probability"], answers["probability"], atol=1e-12)
    assert never.frame["@action"].tolist() == answers["action"].tolist()
    times = followed[TRIGGERED].retrained
    assert (times[0]["close"], bool(times[0]["reasons"])) == ("2020-02-20", True)
    # A retrained model is not evaluated before it had time: `decide.rest`.
    closes = later()[1].set_index("period")["end"]
    gaps = np.diff([closes[each["close"]] for each in times])
    assert all(gap >= pd.Timedelta(monitor.params.decide.rest) for gap in gaps)
    compared = backtest.compare(followed, monitor)
    table, payoffs = compared.set_index("strategy"), {}
    assert table.loc[NEVER, ["gain", "gain_low", "gain_high"]].tolist() == [0.0, 0.0, 0.0]
    for name in (NEVER, TRIGGERED):
        known = followed[name].frame[followed[name].frame["@status"] != "open"]
        payoffs[name] = decisions.payoff(known["@action"].to_numpy(), outcomes(known, problem), problem).mean()
    assert table.loc[TRIGGERED, "gain"] == pytest.approx(payoffs[TRIGGERED] - payoffs[NEVER])
    assert list(table["retrainings"].items()) == [(name, len(each.retrained)) for name, each in followed.items()]
    assert "in euro per order, retraining every month gains 0.000" in sentences.describe_strategies(compared, problem)
    assert sentences.describe_strategies(compared[:0], problem).startswith("Nothing has arrived since the model")
    by_period = backtest.by_period(followed, problem)
    assert by_period.loc[by_period["strategy"] == NEVER, "gain"].eq(0).all()
    for name, part in by_period.groupby("strategy", sort=False):
        dots = part["period"].shift().isin([each["close"] for each in followed[name].retrained])
        assert part["new"].tolist() == dots.tolist()


def test_a_refitted_model_has_not_seen_its_holdout_and_keeps_its_kind(monitor: Monitor) -> None:
    known = pd.concat(monitor.parts.values())
    rows = pd.concat([known, later()[0][known.columns]], ignore_index=True)
    again = backtest.refit(monitor, rows, "again")
    train, validation, holdout = (again.parts[name] for name in ("train", "validation", "holdout"))
    assert holdout["placed"].min() > validation["placed"].max()
    assert (again.bundle.version, type(again.bundle.model)) == ("again", type(monitor.bundle.model))
    assert again.bundle.model is not monitor.bundle.model
    assert {"roc_auc", "gain"} <= set(again.baseline["figures"])
    mixed = holdout.assign(returned=1 - holdout["returned"])
    other = backtest.refit(monitor, pd.concat([train, validation, mixed]), "other")
    forecasts = [each.bundle.predict(holdout)["probability"] for each in (again, other)]
    assert np.array_equal(*forecasts)
    with pytest.raises(DataError, match="not two different outcomes"):
        backtest.refit(monitor, known.assign(returned=0), "none")
