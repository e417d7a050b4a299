"""What retraining would have been worth: each strategy sees what was known at a close, and nothing later."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import bundles
import numpy as np
import pandas as pd
import pytest
from conftest import Project
from test_monitoring import PARAMS as MONITORING

from ninefold import metrics, monitoring, strategies, training
from ninefold.core import decisions, evaluation
from ninefold.core.errors import DataError
from ninefold.figures import strategies as figures
from ninefold.monitoring import PERIOD
from ninefold.serving import bundle as packing
from ninefold.strategies import CALENDAR, NEVER, TRIGGERED, Followed, Setting

WEEKS = pd.date_range("2020-02-20", "2020-04-02", freq="7D")


@pytest.fixture
def parts(project: Project) -> dict[str, pd.DataFrame]:
    return bundles.lay_out()


@pytest.fixture
def bundle(parts: dict[str, pd.DataFrame], setting: Setting) -> packing.Bundle:
    """Return a bundle that says how good it was on the holdout."""
    packed, holdout, stated = bundles.pack(parts), parts["holdout"], setting.stated
    target = monitoring.target_of(holdout, stated)
    found = evaluation.evaluate(target, packed.predict(holdout), holdout, stated, setting.agreed)
    return replace(packed, described={**packed.described, "holdout": found})


@pytest.fixture
def setting(project: Project) -> Setting:
    stated = bundles.stated_of("binary")
    agreed = {
        "bootstrap": {"replicates": 40, "level": 0.9, "seed": 1},
        "policies": decisions.policies(np.array([0, 1]), stated),
        "best_baseline": "always wait",
        "naive": [0.7, 0.3],
    }
    split = {"validation": 0.2, "holdout": 0.25}
    return Setting(
        stated,
        agreed,
        metrics.Params(primary="log_loss", split=split, bootstrap=agreed["bootstrap"]),
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
    return strategies.follow(strategy, bundle, parts, *later(turned), setting)


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
    found = strategies.follow(CALENDAR, bundle, parts, frame, volume, setting)
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
    monkeypatch.setattr(strategies, "refit", refit)
    strategies.follow(TRIGGERED, bundle, parts, frame, volume, waits)
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
    table = strategies.compare(followed, setting).set_index("strategy")
    assert table.loc[NEVER, ["gain", "gain_low", "gain_high"]].tolist() == [0.0, 0.0, 0.0]
    direct = {
        name: decisions.payoff(
            one.frame["@action"].to_numpy(), monitoring.target_of(one.frame, setting.stated), setting.stated
        )
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
    again, split = strategies.refit(bundle, rows, setting)
    assert split["holdout"]["placed"].min() > split["validation"]["placed"].max()
    assert type(again.model) is type(bundle.model)
    assert again.model is not bundle.model
    figures_of = strategies.with_figures(again, split["holdout"], setting).described["holdout"]
    assert set(figures_of) >= {"roc_auc", "gain"}
    mixed = split["holdout"].assign(returned=1 - split["holdout"]["returned"])
    other, _ = strategies.refit(bundle, pd.concat([split["train"], split["validation"], mixed]), setting)
    table = split["holdout"]
    assert np.array_equal(again.predict(table)["probability"], other.predict(table)["probability"])


def test_of_too_little_no_model_is_made(
    bundle: packing.Bundle, parts: dict[str, pd.DataFrame], setting: Setting
) -> None:
    dull = pd.concat(parts.values()).assign(returned=0)
    with pytest.raises(DataError, match="not two different outcomes"):
        strategies.refit(bundle, dull, setting)


def test_the_story_is_told_by_what_was_found(
    bundle: packing.Bundle, parts: dict[str, pd.DataFrame], setting: Setting
) -> None:
    followed = {name: run(name, bundle, parts, setting, turned=True) for name in (NEVER, CALENDAR, TRIGGERED)}
    table = strategies.compare(followed, setting)
    told = figures.describe_strategies(table, setting.stated)
    share = strategies.captured(table)
    assert (f"{share:.0%} of the gain" if share is not None else "Every month wins nothing") in told
    shown = figures.strategy_table(table, setting.stated)
    assert shown["retrained"].tolist() == [NEVER, CALENDAR, TRIGGERED]
    assert set(figures.retraining_table(followed)["strategy"]) == {
        name for name in followed if followed[name].retrained
    }
    drawn = figures.plot_strategies(strategies.by_period(followed, setting.stated), followed, setting.stated)
    assert [len(axes.lines) for axes in drawn.axes] == [3 + 3 + 1, 3 + 3]
    assert figures.describe_strategies(table[:0], setting.stated) == figures.NOTHING
