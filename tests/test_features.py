"""Stage 06: the model sees what was known at the moment of the decision, and serving sees the same."""

from __future__ import annotations

from typing import Any

import ibis
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from ninefold import features
from ninefold.core import engine, io
from ninefold.core.errors import DataError

STATED: dict[str, Any] = {
    "table": "orders",
    "unit": "order",
    "units": "orders",
    "key": ["id"],
    "time": "placed",
    "target": "returned",
    "horizon": "2h",
}
HISTORY = {"of": "returned", "prefix": "returned", "known_after": "24h", "over": ["2d"], "by": [["shop"]]}
PARAMS = features.Params(numeric=["amount"], categorical=["shop"], history=[HISTORY])
NAME = "returned_by_shop_2d"


def orders(count: int = 400, seed: int = 2) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    returned = pd.Series(random.integers(0, 2, count), dtype="Int64").mask(random.random(count) < 0.05)
    return pd.DataFrame(
        {
            "id": np.arange(count),
            "placed": pd.Timestamp("2020-01-01") + pd.to_timedelta(np.sort(random.integers(0, 20 * 1440, count)), "m"),
            "shop": random.choice(["a", "b"], count),
            "amount": random.normal(10, 3, count),
            "returned": returned,
        }
    )


def compute(frame: pd.DataFrame) -> pd.DataFrame:
    table = features.assemble(features.add_history(lazy(frame), PARAMS, STATED), PARAMS, STATED)
    return table.order_by(features.order(STATED)).to_pandas()


def lazy(frame: pd.DataFrame) -> Any:
    return engine.connect().create_table("orders", frame)


def test_history_is_the_mean_over_what_was_known() -> None:
    frame, built = orders(), compute(orders())
    for row in built.sample(30, random_state=1).itertuples():
        end = row.placed - pd.Timedelta("26h")  # 24 h until an outcome is known, 2 h from decision to event
        past = frame[(frame["shop"] == row.shop) & frame["placed"].between(end - pd.Timedelta("2d"), end)]
        assert getattr(row, NAME) == pytest.approx(past["returned"].astype("float64").mean(), nan_ok=True)


def test_features_do_not_see_the_future() -> None:
    frame, whole = orders(), compute(orders())
    for share in (0.3, 0.5, 0.8):
        moment = frame["placed"].iloc[int(share * len(frame))]
        cut = compute(frame[frame["placed"] <= moment])
        pd.testing.assert_frame_equal(cut, whole[whole["placed"] <= moment])


def test_an_outcome_is_not_used_before_it_is_known() -> None:
    frame, whole = orders(), compute(orders())
    moment = frame["placed"].iloc[300]
    unknown = frame["placed"] > moment - pd.Timedelta("26h")
    turned = frame.assign(returned=frame["returned"].mask(unknown, 1 - frame["returned"]))
    now, then = (table.loc[table["placed"] == moment, NAME] for table in (whole, compute(turned)))
    assert now.equals(then)


def test_online_values_equal_offline_ones() -> None:
    frame = orders()
    assert features.online_difference(lazy(frame), compute(frame), PARAMS, STATED) == 0
    assert features.future_difference(lazy(frame), compute(frame), PARAMS, STATED) == 0


def test_a_history_may_be_kept_by_a_column_that_is_no_feature() -> None:
    without = features.Params(numeric=["amount"], categorical=[], history=[HISTORY])
    events = lazy(orders())
    table = features.assemble(features.add_history(events, without, STATED), without, STATED)
    frame = table.order_by(features.order(STATED)).to_pandas()
    assert "shop" in frame
    assert "shop" not in features.names(without, STATED["horizon"])
    assert features.online_difference(events, frame, without, STATED) == 0
    assert features.future_difference(events, frame, without, STATED) == 0


def test_the_proofs_notice_a_feature_that_peeks() -> None:
    frame = orders()
    peeking = compute(frame).assign(**{NAME: lambda table: table["returned"].fillna(0)})
    assert features.online_difference(lazy(frame), peeking, PARAMS, STATED) > 0
    assert features.future_difference(lazy(frame), peeking, PARAMS, STATED) > 0


def test_a_feature_known_only_later_fails_the_gate() -> None:
    assert features.known_too_late(PARAMS, {"known_later": ["amount", "other"]}) == ["amount"]
    frame = compute(orders())
    table = features.dictionary(frame, PARAMS, STATED)
    failed = [check.name for check in features.checks(["amount"], 0, 0, frame, table) if not check.passed]
    assert failed == ["features known only after the decision"]


def test_a_join_that_repeats_rows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {"orders": lazy(orders())}
    monkeypatch.setattr(features.hooks, "project", lambda *_: lambda found, _: ibis.union(*[found["orders"]] * 2))
    with pytest.raises(DataError, match=r"project\.features\.build: 400 rows went in, 800 came out"):
        features.build(tables, STATED)


def test_a_column_that_is_not_there_is_named() -> None:
    wrong = features.Params(numeric=["amuont"], categorical=[], history=[HISTORY])
    events = features.add_history(lazy(orders()), PARAMS, STATED)
    with pytest.raises(DataError, match=r"amuont is no column .* found id, placed, shop, amount"):
        features.assemble(events, wrong, STATED)


def test_a_feature_named_twice_is_refused() -> None:
    with pytest.raises(ValidationError, match="amount stands there twice"):
        features.Params(numeric=["amount", "amount"], categorical=[])


def test_the_same_events_give_the_same_bytes(project: Any) -> None:
    written = []
    for _ in range(2):
        events = lazy(orders())
        table = features.assemble(features.add_history(events, PARAMS, STATED), PARAMS, STATED)
        moment = features.moment_of(compute(orders()), STATED)
        features.save(table, features.snapshot(events, PARAMS, STATED, moment), PARAMS, STATED, moment)
        io.publish()
        written.append({**project.bytes("data/features"), **project.bytes("data/online")})
    assert written[0] == written[1]
    assert len(features.load()) == 400
