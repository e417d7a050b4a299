"""Replayed through a running service, strategies come to what they come to without one; labels come late and shuffled."""

# ruff: noqa: F401, F811 (fixtures of the tests of the strategies)
from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import test_strategies
from test_strategies import bundle, later, parts, setting

from ninefold import production, replay, strategies
from ninefold.core.errors import DataError, ParamsError
from ninefold.serving import bundle as packing
from ninefold.serving import log as logging
from ninefold.strategies import NEVER, TRIGGERED, Setting

KEY = ["id", "placed"]


@pytest.fixture
def waits(setting: Setting) -> Setting:
    """Return the setting, with labels that come two days late."""
    return setting._replace(monitoring=test_strategies.MONITORING.model_copy(update={"label_delay": "2d"}))


def test_over_a_running_service_the_answers_and_the_retrainings_are_those_without_it(
    bundle: packing.Bundle,
    parts: dict[str, pd.DataFrame],
    waits: Setting,
    tmp_path: Path,
) -> None:
    frame, volume = later(turned=True)
    frame.loc[frame.index[::40], "returned"] = None  # never known
    alone = strategies.follow(TRIGGERED, bundle, parts, frame, volume, waits)
    with replay._producing(tmp_path / "triggered", bundle, volume, waits) as made:
        served = made.follow(TRIGGERED, bundle, parts, frame, volume)
        assert made.apart <= 1e-9
    assert len(served.retrained) == len(alone.retrained) > 0
    assert [each["close"] for each in served.retrained] == [each["close"] for each in alone.retrained]
    assert [each["reasons"] for each in served.retrained] == [each["reasons"] for each in alone.retrained]
    one, other = served.frame.sort_values(KEY), alone.frame.sort_values(KEY)
    assert np.allclose(one["@probability"], other["@probability"], atol=1e-9)
    assert (one["@action"].to_numpy() == other["@action"].to_numpy()).all()
    due = (other["placed"] + pd.Timedelta("2d") <= volume["end"].max()).to_numpy()
    assert one["returned"][due].tolist() == pytest.approx(other["returned"][due].tolist(), nan_ok=True)
    logged = logging.read(tmp_path / "triggered/log.sqlite")
    assert len(logged) == len(frame)
    versions = logged["version"].drop_duplicates().tolist()
    assert versions == [bundle.version, *(each["version"] for each in served.retrained)]
    assert production.traffic(tmp_path / "triggered/log.sqlite")["requests"].sum() > 0


def test_an_outcome_is_delivered_when_it_is_due_and_not_before(
    bundle: packing.Bundle,
    parts: dict[str, pd.DataFrame],
    waits: Setting,
    tmp_path: Path,
) -> None:
    frame, volume = later()
    with replay._producing(tmp_path / "never", bundle, volume, waits) as made:
        found = strategies.follow(NEVER, bundle, parts, frame, volume, waits, made.answer).frame
        due = frame["placed"] + pd.Timedelta("2d") <= frame["@period"].map(made.closes)
        assert found["returned"].notna().tolist() == due.tolist()
        made.deliver(volume["end"].max())
        known = frame["placed"] + pd.Timedelta("2d") <= volume["end"].max()
        assert made.refresh(found)["returned"].notna().tolist() == known.tolist()


def test_a_service_that_answers_unlike_its_bundle_is_found_out(
    bundle: packing.Bundle,
    waits: Setting,
    tmp_path: Path,
) -> None:
    frame, volume = later()
    rows = frame[frame["@period"] == volume["period"].iloc[0]].reset_index(drop=True)
    with replay._producing(tmp_path / "never", bundle, volume, waits) as made:
        quick = bundle.decide
        object.__setattr__(bundle, "decide", lambda table: quick(table).assign(probability=0.5))
        with pytest.raises(DataError, match="answers unlike its bundle"):
            made.answer(rows, bundle)


@pytest.mark.parametrize(("first", "last"), [("2013", None), (None, "2013-13"), ("Oct 2013", None)])
def test_a_month_that_is_none_is_refused(first: str | None, last: str | None) -> None:
    with pytest.raises(ParamsError, match="expected a month, such as 2013-10"):
        replay._month(str(first or last), "--from")
