"""What production left behind: read as the feature table has it, its traffic counted, its skew found."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from browser import served
from bundles import lay_out, pack
from bundles import rows as rows_of
from conftest import Project
from monitoring_params import PARAMS

from ninefold.errors import DataError
from ninefold.metrics import EvaluationPlan, evaluation
from ninefold.monitoring import labels, production, service, stage
from ninefold.monitoring.answers import predict
from ninefold.monitoring.arrivals import read_arrivals
from ninefold.monitoring.decision import conclude
from ninefold.monitoring.production import MOMENT, REQUEST_ID, ROLE, ROW, VERSION
from ninefold.serving import app, client, log_entry
from ninefold.serving.bundle import Bundle
from ninefold.serving.fields import as_rows
from ninefold.serving.log import Log

NOW = datetime(2020, 2, 1, 9, tzinfo=UTC)
ROUTE = "/predict"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "data/predictions/log.sqlite"


@pytest.fixture
def log(place: Path) -> Iterator[Log]:
    opened = Log(place)
    yield opened
    opened.close()


def append(
    log: Log,
    bundle: Bundle,
    *rows: dict[str, Any],
    name: str = "a",
    moment: datetime = NOW,
    role: str = log_entry.CHAMPION,
) -> None:
    entry = log.entry(name, moment, bundle, log_entry.filled(rows, bundle), bundle.answer(rows).records, role)
    log.submit(entry).result()


@pytest.mark.parametrize("case", ["multiclass", "regression", "dated"])
def test_what_was_served_is_what_monitoring_itself_would_predict(project: Project, log: Log, case: str) -> None:
    parts = lay_out(case)
    bundle = pack(parts)
    rows = parts["holdout"]
    sent = as_rows(rows, bundle.signature)
    for at in range(0, len(sent), 30):
        append(log, bundle, *sent[at : at + 30], name=str(at), moment=NOW + timedelta(hours=at))
    own, target = production.identity(bundle.problem), bundle.problem.target
    found = production.served(bundle, like=rows.iloc[:0])
    expected = predict(rows[[name for name in rows if name != target]], bundle).reset_index(drop=True)
    assert set(found) == {*bundle.fields, *own, *production.META, *(f"@{name}" for name in bundle.answers)} | {
        name for name in expected if name.startswith("@")
    }
    common = [name for name in expected if name in found and name not in bundle.fields]
    pd.testing.assert_frame_equal(found[common], expected[common])
    kinds = {field["name"]: field for field in bundle.signature}
    skew = service.skew(found, rows, bundle.problem, [name for name in bundle.features if name in kinds])
    assert skew["rows"].tolist() == [len(rows)] * len(bundle.features)
    assert skew["differ"].sum() == 0


def test_only_the_time_and_the_fields_asked_for_are_read(bundle: Bundle, log: Log) -> None:
    for day in range(4):
        append(log, bundle, {"customer": "ann", "id": day}, name=str(day), moment=NOW + timedelta(days=day))
    found = production.served(bundle, since=NOW + timedelta(days=1), until=datetime(2020, 2, 3, 9, 0, 1), columns=[])
    assert found[REQUEST_ID].tolist() == ["1", "2"]
    assert [name for name in found if not name.startswith("@")] == ["id", "placed"]
    assert (found[ROLE].tolist(), found[ROW].tolist()) == (["champion"] * 2, [0, 0])
    assert found[MOMENT].tolist() == [pd.Timestamp("2020-02-02T09:00:00"), pd.Timestamp("2020-02-03T09:00:00")]


def test_a_key_that_cannot_be_one_is_missing(bundle: Bundle, log: Log) -> None:
    append(log, bundle, *({"customer": "ann", "id": value} for value in (7.0, "8", "x7", None)))
    like = pd.DataFrame({"id": pd.Series(dtype="int64"), "placed": pd.Series(dtype="datetime64[us]")})
    assert production.served(bundle, like=like)["id"].fillna(-1).tolist() == [7, 8, -1, -1]


LATER = NOW + timedelta(hours=1)


def test_versions_with_other_fields_are_one_table(project: Project, log: Log) -> None:
    old = pack(lay_out("text"))
    append(log, old, {"comment": "buy pills", "id": 1}, name="old")
    bundle = pack(lay_out("binary"))
    append(log, bundle, {"customer": "ann", "id": 2, "placed": "2020-02-01T13:00:00+01:00"}, name="new", moment=LATER)
    found = production.served(bundle)
    assert found["comment"].isna().tolist() == [False, True]
    assert found[VERSION].tolist() == [old.version, bundle.version]
    assert found["id"].tolist() == ["1", "2"]
    assert found["placed"].tolist()[1] == pd.Timestamp("2020-02-01T12:00:00")
    assert found["@action"].notna().all()


def test_a_role_that_the_log_tells_is_kept_and_earlier_rows_are_of_the_champion(
    bundle: Bundle, log: Log, place: Path
) -> None:
    append(log, bundle, {"customer": "ann", "id": 1}, name="old")
    production.served(bundle)
    file = next((place.parent / "lake").rglob("*.parquet"))
    pq.write_table(pq.read_table(file, partitioning=None).drop_columns("role"), file)  # as it was exported once
    assert production.served(bundle)[ROLE].tolist() == ["champion"]
    append(log, bundle, {"customer": "ann", "id": 1}, name="new", role=log_entry.SHADOW)
    assert production.served(bundle)[ROLE].tolist() == ["champion", "shadow"]


def test_names_that_are_ours_too_stay_the_users(bundle: Bundle, log: Log) -> None:
    bundle.described["signature"] += [{"name": "row", "kind": "identity", "type": "any", "required": False}]
    append(log, bundle, {"row": "mine", "customer": "ann"})
    found = production.served(bundle)
    assert (found["row"].tolist(), found[ROW].tolist()) == (["mine"], [0])


def test_redacted_fields_stay_text(bundle: Bundle, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bundle.described, "log", {"keep": "90d", "redact": ["id", "customer"]})
    append(log, bundle, {"customer": "ann", "id": 7, "amount": 2.5})
    found = production.served(bundle, like=pd.DataFrame({"id": [1], "placed": pd.Timestamp("2020-01-01")}))
    assert found["id"].tolist() == [log_entry.pseudonym(7, log_entry.key(log.place))]


def test_exports_alone_are_enough(bundle: Bundle, log: Log, place: Path) -> None:
    append(log, bundle, {"customer": "ann", "id": 7})
    expected = production.served(bundle)
    log.close()
    place.unlink()
    pd.testing.assert_frame_equal(production.served(bundle), expected)


def test_before_anything_was_served_the_table_is_empty_and_typed(bundle: Bundle, place: Path) -> None:
    found = production.served(bundle)
    assert len(found) == 0
    assert {str(found[name].dtype) for name in ("placed", MOMENT)} == {"datetime64[us]"}
    assert service.traffic().empty
    (place.parent / "lake/day=2020-02-01").mkdir(parents=True)
    (place.parent / f"lake/day=2020-02-01/{1:012}-{1:012}-abc.parquet").write_text("no table")
    with pytest.raises(DataError, match="an exported file is damaged"):
        production.served(bundle)


@pytest.mark.parametrize("case", ["binary", "regression", "text"])
def test_a_batch_run_is_logged_as_a_caller_would_have_been(project: Project, log: Log, case: str) -> None:
    parts = lay_out(case)
    bundle = pack(parts)
    rows = parts["holdout"].drop(columns=bundle.problem.target)
    for first in (0, 20):
        chunk = rows.iloc[first : first + 20]
        number = log.record(chunk, bundle.decide(chunk)[bundle.answers], bundle, "run", first, NOW)
        assert number == f"run-{first:09}"
    found = production.served(bundle, like=parts["holdout"])
    taken = min(len(rows), 40)
    assert found[REQUEST_ID].tolist() == ["run-000000000"] * 20 + ["run-000000020"] * (taken - 20)
    assert service.skew(found, parts["holdout"], bundle.problem, bundle.features)["share"].tolist() == [0.0] * len(
        bundle.features
    )


def test_skew_is_named_with_its_size_and_the_row_where_it_is_largest(
    parts: dict[str, pd.DataFrame], bundle: Bundle
) -> None:
    offline = parts["holdout"].reset_index(drop=True)
    table = predict(offline.copy(), bundle).assign(**{VERSION: bundle.version, REQUEST_ID: "a", ROW: 0})
    known = offline.index[offline["amount"].notna()]
    table.loc[known[:3], "amount"] = offline["amount"][known[:3]] + [1.0, 5.0, 1e-12]
    table.loc[4, "channel"] = "app"
    table.loc[offline.index[offline["rate_by_customer_7d"].notna()][:2], "rate_by_customer_7d"] = np.nan
    strange = table.iloc[:1].assign(id=-1)
    found = service.skew(pd.concat([table, strange]), offline, bundle.problem, bundle.features).set_index("feature")
    assert found["rows"].tolist() == [len(offline)] * 5
    assert found["differ"].to_dict() == {"amount": 2, "items": 0, "rate_by_customer_7d": 2, "customer": 0, "channel": 1}
    assert found["largest"]["amount"] == pytest.approx(5)
    assert f'"id":{offline["id"][known[1]]}' in found["whom"]["amount"]
    assert float(found["served"]["amount"]) == pytest.approx(float(found["offline"]["amount"]) + 5)
    assert found["served"]["channel"] == "app"
    assert found["whom"].isna().tolist() == [False, True, False, True, False]


def test_traffic_is_summed_by_period_and_route(place: Path) -> None:
    assert service.traffic(place).empty
    minute = int(datetime(2020, 2, 3, tzinfo=UTC).timestamp() // 60)  # a Monday
    Log(place).close()
    with sqlite3.connect(place) as log:
        rows = [
            (minute, ROUTE, 200, 8, 1.0, 2),
            (minute + 2, ROUTE, 200, 2, 1.0, 0),
            (minute + 1, ROUTE, 503, 4, 0.8, 4),
            (minute + 60 * 24, ROUTE, 422, 5, 0.5, 0),
            (minute - 1, "/health", 200, 100, 0.1, 0),
        ]
        log.executemany("INSERT INTO traffic VALUES (?, ?, ?, ?, ?, ?)", rows)
    log.close()
    found = service.traffic(place, "day", routes=[ROUTE])
    assert found["period"].tolist() == [pd.Timestamp("2020-02-03"), pd.Timestamp("2020-02-04")]
    assert found[["requests", "refused", "errors", "slow"]].to_numpy().tolist() == [[14, 0, 4, 6], [5, 5, 0, 0]]
    assert found["mean_s"].tolist() == pytest.approx([0.2, 0.1])
    assert found["error_rate"].tolist() == pytest.approx([4 / 14, 0])
    assert service.traffic(place, "week")["requests"].tolist() == [100, 19]
    assert service.traffic(place, "month")["requests"].tolist() == [119]
    late = service.traffic(place, "minute", since=datetime(2020, 2, 3, 0, 1, tzinfo=UTC), until=datetime(2020, 2, 4))
    assert late["requests"].tolist() == [4, 2]
    place.write_text("no database")
    with pytest.raises(DataError, match="the prediction log cannot be read"):
        service.traffic(place)


def test_what_callers_ask_a_running_service_is_judged_by_stage_09_once_labels_have_come(
    parts: dict[str, pd.DataFrame], bundle: Bundle, log: Log, tmp_path: Path
) -> None:
    problem, params = bundle.problem, PARAMS.model_copy(update={"source": "log"})
    rows = rows_of("binary", 120).assign(placed=pd.date_range("2020-03-01", periods=120, freq="6h"))
    rows["id"] += 1000
    with served(app.create_app(bundle, log)) as url:
        answers, _ = client.ask(url, as_rows(rows, bundle.signature), size=30)
        client.refusals(url, bundle)
    log.close()
    outcomes = rows[["id", "placed", "returned"]].assign(known_at=rows["placed"] + pd.Timedelta("2d")).iloc[:-1]
    for name, part in (("late", outcomes.sample(frac=1, random_state=0)), ("again", outcomes.head(9))):
        part.to_csv(tmp_path / f"{name}.csv", index=False)
    list(labels.run([f"{tmp_path}/{name}.csv" for name in ("late", "again")], bundle))

    frame, volume = read_arrivals(params, {}, bundle)
    march = volume.head(1)
    assert march[["period", "raw"]].to_numpy().tolist() == [["2020-03", len(rows)]]
    assert frame["@probability"].tolist() == answers["probability"].tolist()
    asked = service.service_reports(frame, volume, params, bundle)[volume["period"].iloc[-1]]["service"]
    assert (asked["requests"] > 4, asked["refused"] > 0, asked["errors"]) == (True, True, 0)

    plan = EvaluationPlan.load().model_copy(update={"best_baseline": "always wait", "naive": [0.7, 0.3]})

    def figures(table: pd.DataFrame) -> dict[str, Any]:
        return evaluation.evaluate(table["returned"].to_numpy(), bundle.decide(table), table, problem, plan)

    bundle.described["holdout"] = figures(parts["holdout"])
    compared = stage.baseline(bundle, parts, params, plan)
    record = stage.evaluate_period(frame, march, compared, params, plan)
    told = {name: record[name] for name in ("predictions", "at close", "later", "never", "open")}
    assert told == {"predictions": 120, "at close": 117, "later": 2, "never": 0, "open": 1}
    assert record["figures"]["brier"]["value"] == pytest.approx(figures(rows.head(117))["brier"]["value"], rel=1e-5)
    assert conclude([record], plan, bundle.version)["reasons"]
