"""What production left behind: read as the feature table has it, its traffic counted, its skew found."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browser import served
from bundles import NOW, append, lay_out, pack
from bundles import rows as rows_of
from conftest import Project
from monitoring_data import LOGGED, PARAMS

from ninefold import artifacts, timestamps
from ninefold.errors import DataError
from ninefold.metrics import Evaluation, EvaluationPlan
from ninefold.monitoring import Monitor, labels, production, sentences
from ninefold.monitoring.answers import predict
from ninefold.monitoring.arrivals import read_arrivals
from ninefold.monitoring.production import ROW, VERSION
from ninefold.serving import Bundle, app, client, key, pseudonym
from ninefold.serving.fields import as_rows
from ninefold.serving.log import Log

pytestmark = pytest.mark.usefixtures("few_trees")
POLICIES = {"best_baseline": "always wait", "naive": [0.7, 0.3]}


@pytest.mark.parametrize("case", ["multiclass", "regression", "dated"])
def test_what_was_served_is_what_monitoring_itself_would_predict(project: Project, log: Log, case: str) -> None:
    parts = lay_out(case)
    bundle, rows = pack(parts), parts["holdout"]
    sent = as_rows(rows, bundle.signature)
    for at in range(0, len(sent), 30):
        append(log, bundle, *sent[at : at + 30], name=str(at), at=NOW + timedelta(hours=at))
    table = production.served(bundle, like=rows.iloc[:0])
    expected = predict(rows.drop(columns=bundle.problem.target), bundle).reset_index(drop=True)
    common = [name for name in expected if name in table and name not in bundle.fields]
    pd.testing.assert_frame_equal(table[common], expected[common])
    skew = production.skew(table, rows, bundle.problem, bundle.features)
    assert skew[["rows", "share"]].to_numpy().tolist() == [[len(rows), 0]] * len(bundle.features)


def test_a_key_that_cannot_be_one_is_missing(bundle: Bundle, log: Log) -> None:
    append(log, bundle, *({"customer": "ann", "id": value} for value in (7.0, "8", "x7", None)))
    like = pd.DataFrame({"id": pd.Series(dtype="int64"), "placed": pd.Series(dtype="datetime64[us]")})
    assert production.served(bundle, like=like)["id"].fillna(-1).tolist() == [7, 8, -1, -1]


def test_versions_with_other_fields_are_one_table(project: Project, log: Log) -> None:
    old = pack(lay_out("text"))
    append(log, old, {"comment": "buy pills", "id": 1}, name="old", at=NOW + timedelta(hours=1))
    bundle = pack(lay_out("binary"))
    append(log, bundle, {"customer": "ann", "id": 2, "placed": "2020-02-01T13:00:00+01:00"}, name="new")
    table = production.served(bundle)
    assert "comment" not in production.served(bundle, columns=["amount"])
    assert table[["id", VERSION]].to_numpy().tolist() == [["2", bundle.version], ["1", old.version]], "by moment"
    assert table["comment"].isna().tolist() == [True, False]
    assert table["placed"][0] == pd.Timestamp("2020-02-01T12:00:00")
    assert table["@action"].notna().all()


def test_names_that_are_ours_too_stay_the_users_and_exports_are_enough(bundle: Bundle, log: Log, place: Path) -> None:
    bundle.described["signature"] += [{"name": "row", "kind": "identity", "type": "any", "required": False}]
    append(log, bundle, {"row": "mine", "customer": "ann", "id": 7})
    table = production.served(bundle)
    assert table[["row", ROW]].to_numpy().tolist() == [["mine", 0]]
    log.close()
    place.unlink()
    pd.testing.assert_frame_equal(production.served(bundle), table)


def test_before_anything_was_served_the_table_is_empty_and_damage_is_an_error(bundle: Bundle, place: Path) -> None:
    assert production.served(bundle).empty
    assert production.traffic(place).empty
    (place.parent / "lake/day=2020-02-01").mkdir(parents=True)
    (place.parent / f"lake/day=2020-02-01/{1:012}-{1:012}-abc.parquet").write_text("no table")
    with pytest.raises(DataError, match="an exported file is damaged"):
        production.served(bundle)
    place.write_text("no database")
    with pytest.raises(DataError, match="the prediction log cannot be read"):
        production.traffic(place)


def test_a_bundle_in_production_of_other_features_than_the_table_s_cannot_be_monitored(bundle: Bundle) -> None:
    file = "data/features/period=all/part-0.parquet"
    artifacts.write_table(artifacts.read_table(file).drop(columns="items"), artifacts.path(file))
    lacks = f"data/features: lacks items, features of bundle {bundle.version}, which is in prod"
    with pytest.raises(DataError, match=lacks):
        production.read_bundle(LOGGED)


def test_skew_is_the_share_of_a_period_that_was_served_with_another_value(parts: Any, bundle: Bundle, log: Log) -> None:
    offline = parts["holdout"].reset_index(drop=True)
    sent, looked_up = offline.copy(), "rate_by_customer_7d"
    sent.loc[offline.index[offline["amount"].notna()][:3], "amount"] += [1.0, 5.0, 1e-12]
    sent.loc[4, "channel"] = "app"
    sent.loc[offline.index[offline[looked_up].notna()][:2], looked_up] = np.nan
    sent = pd.concat([sent, sent.head(1).assign(id=9999)], ignore_index=True)  # a row that the pipeline does not know
    append(log, bundle, *as_rows(sent, bundle.signature), name="skewed")
    report = production.service_reports(*read_arrivals(LOGGED, {}, bundle), LOGGED, bundle)["2020-02"]["skew"]
    different = {each["feature"]: round(each["share"] * len(offline), 6) for each in report}
    assert different == {"amount": 2, looked_up: 2, "channel": 1}


def test_rows_whose_time_is_not_plausible_are_set_apart_and_counted(bundle: Any, log: Log, monkeypatch: Any) -> None:
    params = LOGGED.model_copy(update={"period": "day"})
    monkeypatch.setattr(timestamps, "now", lambda: pd.Timestamp("2020-02-03 00:10"))
    times = ["1900-01-01", "2260-01-01", "2020-02-02", "2020-02-03T00:05:00", "2020-02-04", None]
    append(log, bundle, *({"customer": "ann", "id": number, "placed": time} for number, time in enumerate(times)))
    frame, volume = read_arrivals(params, {}, bundle)
    counts = volume[["period", "raw", "too_early", "too_late", "closed"]].to_numpy().tolist()
    assert counts == [["2020-02-01", 1, 1, 2, True], ["2020-02-02", 1, 0, 0, True], ["2020-02-03", 1, 0, 0, False]]
    assert sorted(frame["id"]) == [2, 3, 5]
    assert "excluded because of their time: 1 before" in sentences.describe_arrival(
        volume, params, bundle.problem, "abc"
    )


@pytest.mark.parametrize("redacted", [["placed"], ["id"], ["amount", "customer"]])
def test_redacted_columns_are_text_that_is_not_compared_and_the_answer_tells_the_time(
    parts: Any, bundle: Bundle, log: Log, redacted: list[str], monkeypatch: Any
) -> None:
    monkeypatch.setitem(bundle.described, "log", {"keep": "90d", "redact": redacted})
    append(log, bundle, *as_rows(parts["train"].head(60), bundle.signature))
    frame, volume = read_arrivals(LOGGED, {}, bundle)
    assert (frame["placed"] == NOW.replace(tzinfo=None)).all() == ("placed" in redacted)
    assert (pseudonym(7, key(log.place)) in frame["id"].tolist()) == ("id" in redacted)
    reports = production.service_reports(frame, volume.head(1), LOGGED, bundle)
    assert [report["skew"] for report in reports.values()] == [[]]
    plan, bundle.described["holdout"] = EvaluationPlan.load().model_copy(update=POLICIES), {}
    record = Monitor(bundle, parts, LOGGED, plan).evaluate(frame, volume.head(1))
    assert not {name.partition(": ")[2] for name in record["natural"]} & {*redacted}
    assert record["features"] == 5 - len({"amount", "customer"} & {*redacted})


def test_traffic_is_counted_by_minute_of_the_routes_that_decide(place: Path) -> None:
    minute = int(datetime(2020, 2, 3, tzinfo=UTC).timestamp() // 60)
    rows = [
        (minute, "/predict", 200, 8, 1.0, 2), (minute, "/predict", 201, 2, 1.0, 0),
        (minute, "/review/record", 503, 4, 0.8, 4), (minute + 60 * 24, "/predict", 422, 5, 0.5, 0),
        (minute - 1, "/health", 200, 100, 0.1, 0),
    ]  # fmt: skip
    Log(place).close()
    with closing(sqlite3.connect(place)) as log, log:
        log.executemany("INSERT INTO traffic VALUES (?, ?, ?, ?, ?, ?)", rows)
    table = production.traffic(place)
    assert table["minute"].astype("str").tolist() == ["2020-02-03", "2020-02-04"]
    assert table[["requests", "errors", "slow", "refused"]].to_numpy().tolist() == [[14, 4, 6, 0], [5, 0, 0, 5]]


def test_what_callers_ask_is_monitored_once_labels_come(parts: Any, bundle: Any, log: Log, tmp_path: Path) -> None:
    rows = rows_of("binary", 120).assign(placed=pd.date_range("2020-03-01", periods=120, freq="6h"))
    rows["id"] += 1000
    with served(app.create_app(bundle, log)) as url:
        client.ask(url, as_rows(rows.head(5), bundle.signature), size=5)
        answers, _ = client.ask(url, as_rows(rows, bundle.signature), size=30)
        client.refusals(url, bundle)
    log.close()
    outcomes = rows[["id", "placed", "returned"]].assign(known_at=rows["placed"] + pd.Timedelta("2d")).iloc[:-1]
    for name, part in (("late", outcomes.sample(frac=1, random_state=0)), ("again", outcomes.head(9))):
        part.to_csv(tmp_path / f"{name}.csv", index=False)
    list(labels.run([f"{tmp_path}/{name}.csv" for name in ("late", "again")], bundle))

    frame, volume = read_arrivals(LOGGED, {}, bundle)
    assert volume[["period", "raw"]].to_numpy().tolist()[0] == ["2020-03", len(rows)], "asked twice, counted once"
    assert volume["raw"].iloc[-1] == 0, "silence shows"
    assert frame["@probability"].tolist() == answers["probability"].tolist()
    asked = production.service_reports(frame, volume, LOGGED, bundle)[volume["period"].iloc[-1]]["service"]
    assert (asked["requests"] > 4, asked["refused"] > 0, asked["errors"]) == (True, True, 0)
    plan, bundle.described["holdout"] = EvaluationPlan.load().model_copy(update=POLICIES), {}
    record = Monitor(bundle, parts, LOGGED, plan).evaluate(frame, volume.head(1))
    assert [record[name] for name in ("predictions", "at close", "later", "never", "open")] == [120, 117, 2, 0, 1]
    known = rows.head(117)
    expected = Evaluation(known["returned"].to_numpy(), bundle.decide(known), known, bundle.problem, plan).results()
    assert record["figures"]["brier"]["value"] == pytest.approx(expected["brier"]["value"], rel=1e-5)
    assert record["reasons"]
    assert production.service_reports(frame, volume, PARAMS, bundle) == {}, "a replay has no service"
