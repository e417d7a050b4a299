"""What retraining would have been worth: each strategy sees what was known at a close, and nothing later."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import bundles
import numpy as np
import pandas as pd
import pytest
from conftest import Project
from monitoring_data import PARAMS as MONITORING

from ninefold import metrics, training
from ninefold.errors import DataError
from ninefold.metrics import EvaluationPlan
from ninefold.monitoring import Monitor, backtest, sentences
from ninefold.monitoring.answers import PERIOD, outcomes
from ninefold.monitoring.backtest import CALENDAR, NEVER, TRIGGERED, Followed, Setting
from ninefold.problem import decisions
from ninefold.serving import bundle as packing
from project.figures.monitoring import plot_strategies

pytestmark = pytest.mark.usefixtures("few_trees")
WEEKS = pd.date_range("2020-02-20", "2020-04-02", freq="7D")


@pytest.fixture
def parts(project: Project) -> dict[str, pd.DataFrame]:
    return bundles.lay_out()


@pytest.fixture
def bundle(parts: dict[str, pd.DataFrame]) -> packing.Bundle:
    packed = bundles.pack(parts)
    return replace(packed, described={**packed.described, "holdout": {}})


@pytest.fixture
def setting(project: Project) -> Setting:
    problem = bundles.problem_of("binary")
    bundles.lay_out()
    plan = EvaluationPlan.load().model_copy(update={"level": 0.9, "best_baseline": "always wait", "naive": [0.7, 0.3]})
    split = {"validation": 0.2, "holdout": 0.25}
    return Setting(
        problem,
        plan,
        metrics.Params(primary="log_loss", split=split, level=plan.level),
        training.Params(seed=1, candidates=bundles.MODELS, calibration="none", importance_rows=100),
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
    volume = pd.DataFrame({"period": [f"{day:%Y-%m-%d}" for day in WEEKS[:-1]], "start": WEEKS[:-1], "end": ends})
    number = np.searchsorted(ends, frame["placed"], side="right")
    frame[PERIOD] = volume["period"].to_numpy()[number]
    counts = frame.groupby(PERIOD).size().to_numpy()
    return frame, volume.assign(raw=counts, quarantined=0, ready=counts, closed=True)


@pytest.fixture
def follow(bundle: packing.Bundle, parts: dict[str, pd.DataFrame], setting: Setting) -> Callable[..., Followed]:
    """Return a function that follows a strategy in a stable world, or in one that is turned round."""
    return lambda strategy, turned=False: backtest.follow(strategy, bundle, parts, later(turned), setting)


def test_a_stable_world_is_learned_again_where_a_month_ends_and_never_for_the_monitor(bundle: Any, follow: Any) -> None:
    assert follow(TRIGGERED).retrained == []
    result = follow(CALENDAR)
    assert [each["close"] for each in result.retrained] == ["2020-02-27"]  # of 5 March; that of 2 April is the last
    versions = result.frame.groupby(PERIOD, sort=False)["@version"].first().tolist()
    assert versions == [bundle.version] * 2 + ["fitted after 2020-02-27"] * 4


def test_only_labels_known_at_a_close_are_learned_from(bundle: Any, parts: Any, setting: Any, monkeypatch: Any) -> None:
    seen: list[pd.DataFrame] = []

    def refit(bundle: packing.Bundle, rows: pd.DataFrame, _: Setting) -> Any:
        seen.append(rows)
        return bundle, parts

    waits = setting._replace(problem=setting.problem.changed(label_delay="2d"))
    frame, volume = later(turned=True)
    frame.loc[frame.index[:3], "returned"] = None  # never known
    monkeypatch.setattr(backtest, "refit", refit)
    backtest.follow(TRIGGERED, bundle, parts, (frame, volume), waits)
    close = volume["end"].iloc[0]
    expected = frame[frame["returned"].notna() & (frame["placed"] <= close - pd.Timedelta("2d 2h"))]
    assert len(seen[0]) == sum(map(len, parts.values())) + len(expected)
    assert seen[0]["placed"].max() == expected["placed"].max()


def test_a_world_turned_round_is_learned_when_the_monitor_says_so(bundle: Any, follow: Any, setting: Setting) -> None:
    followed, problem = {name: follow(name, turned=True) for name in (NEVER, CALENDAR, TRIGGERED)}, setting.problem
    never, answers = followed[NEVER], bundle.decide(later(True)[0])
    assert (never.retrained, set(never.frame["@version"])) == ([], {bundle.version})
    assert np.allclose(never.frame["@probability"], answers["probability"], atol=1e-12)
    assert never.frame["@action"].tolist() == answers["action"].tolist()
    times = followed[TRIGGERED].retrained
    assert times[0]["close"] == "2020-02-20"
    assert times[0]["reasons"]
    # A retrained model is not evaluated before it had time: `decide.rest`.
    closes = later()[1].set_index("period")["end"]
    gaps = np.diff([closes[each["close"]] for each in times])
    assert all(gap >= pd.Timedelta(setting.monitoring.decide.rest) for gap in gaps)
    compared = backtest.compare(followed, setting)
    table, payoffs = compared.set_index("strategy"), {}
    assert table.loc[NEVER, ["gain", "gain_low", "gain_high"]].tolist() == [0.0, 0.0, 0.0]
    for name in (NEVER, TRIGGERED):
        known = followed[name].frame[followed[name].frame["@status"] != "open"]
        payoffs[name] = decisions.payoff(known["@action"].to_numpy(), outcomes(known, problem), problem).mean()
    assert table.loc[TRIGGERED, "gain"] == pytest.approx(payoffs[TRIGGERED] - payoffs[NEVER])
    assert table["retrainings"].to_dict() == {name: len(followed[name].retrained) for name in followed}
    assert "in euro per order, retraining every month gains 0.000" in sentences.describe_strategies(compared, problem)
    assert compared["strategy"].tolist() == [NEVER, CALENDAR, TRIGGERED]
    by_period = backtest.by_period(followed, problem)
    assert by_period.loc[by_period["strategy"] == NEVER, "gain"].eq(0).all()
    dots = []
    for name, part in by_period.groupby("strategy", sort=False):
        closes = [each["close"] for each in followed[name].retrained]
        dots.append(part["period"].shift().isin(closes).tolist())
    drawing = plot_strategies(by_period, problem)
    assert [[line.get_markevery().tolist() for line in axes.lines] for axes in drawing.axes] == [dots, dots]
    assert sentences.describe_strategies(compared[:0], problem).startswith("Nothing has arrived since the model")


def test_a_refitted_model_has_not_seen_its_holdout_and_keeps_its_kind(bundle: Any, parts: Any, setting: Any) -> None:
    rows = pd.concat([*parts.values(), later()[0][parts["train"].columns]], ignore_index=True)
    again, split = backtest.refit(bundle, rows, setting)
    assert split["holdout"]["placed"].min() > split["validation"]["placed"].max()
    assert type(again.model) is type(bundle.model)
    assert again.model is not bundle.model
    assert {"roc_auc", "gain"} <= set(Monitor(again, split, MONITORING, setting.plan).baseline["figures"])
    mixed = split["holdout"].assign(returned=1 - split["holdout"]["returned"])
    other, _ = backtest.refit(bundle, pd.concat([split["train"], split["validation"], mixed]), setting)
    table = split["holdout"]
    assert np.array_equal(again.predict(table)["probability"], other.predict(table)["probability"])
    with pytest.raises(DataError, match="not two different outcomes"):
        backtest.refit(bundle, pd.concat(parts.values()).assign(returned=0), setting)
