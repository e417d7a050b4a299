"""The prediction log: nothing acknowledged is lost, nothing is exported twice, nothing redacted can be read."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import bundles
import httpx
import pandas as pd
import pytest
from bundles import PARAMS, lay_out, logged_rows, pack
from conftest import Project
from fastapi.testclient import TestClient
from servers import NURSERY, started

from ninefold import artifacts
from ninefold.errors import DataError, NinefoldError, ParamsError
from ninefold.serving import app, deployment, log_export
from ninefold.serving.bundle import Bundle
from ninefold.serving.fields import as_rows
from ninefold.serving.log import Log, LogError, key, pseudonym

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROW = {"customer": "ann", "id": 7, "amount": 12.5}
append = partial(bundles.append, at=NOW)
SERVICE = NURSERY.format(
    setup="from ninefold.serving import app", act="app.run(Path(sys.argv[1]), port=0, log=Path(sys.argv[2]))"
)


def exported(folder: Path) -> pd.DataFrame:
    files = sorted(folder.rglob("*.parquet"))
    return pd.concat([pd.read_parquet(file, partitioning=None) for file in files], ignore_index=True)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


def load(url: str, acknowledged: dict[str, tuple[float, float]], stop: threading.Event) -> None:
    """Send rows until the server is gone; keep what was asked and answered, by request id."""
    with httpx.Client(base_url=url, timeout=10, trust_env=False) as client:
        while not stop.is_set():
            number, amount = str(uuid.uuid4()), float(len(acknowledged) % 100)
            row = {"customer": "ann", "amount": amount}
            try:
                answer = client.post("/predict", json={"rows": [row]}, headers={"X-Request-ID": number})
            except httpx.TransportError:
                return
            assert answer.status_code == 200, answer.text
            acknowledged[answer.json()["request_id"]] = (amount, answer.json()["predictions"][0]["probability"])


def test_no_acknowledged_prediction_is_lost_when_the_server_is_killed_under_load(bundle: Any, tmp_path: Path) -> None:
    acknowledged: dict[str, tuple[float, float]] = {}
    place = tmp_path / "log.sqlite"
    with started("-c", SERVICE, str(bundle.place), str(place)) as (nursery, _):
        assert nursery.stdin and nursery.stdout  # noqa: PT018
        for _ in range(20):
            print("one more, from the log as the last one left it", file=nursery.stdin, flush=True)
            child, url = int(nursery.stdout.readline()), nursery.stdout.readline().split()[-1]
            before, stop = len(acknowledged), threading.Event()
            with ThreadPoolExecutor(8) as pool:
                callers = [pool.submit(load, url, acknowledged, stop) for _ in range(8)]
                end = time.monotonic() + 20
                while len(acknowledged) < before + 40 and time.monotonic() < end:
                    time.sleep(0.01)
                os.kill(child, signal.SIGKILL)  # with no time to end its requests
                assert nursery.stdout.readline() == "gone\n"
                stop.set()
            assert [caller.exception() for caller in callers] == [None] * 8
            assert len(acknowledged) >= before + 40
    rows = logged_rows(place).set_index("request_id")
    assert rows.index.is_unique
    logged = {name: (row.amount, row.probability) for name, row in rows.iterrows() if name in acknowledged}
    assert logged == acknowledged
    assert set(rows["version"]) == {bundle.version}


def test_what_is_logged_is_what_was_asked_and_answered(bundle: Bundle, log: Log, parts: Any) -> None:
    client = TestClient(app.create_app(bundle, log))
    sent = as_rows(parts["holdout"].head(5), bundle.signature)
    before = datetime.now(UTC).replace(tzinfo=None)
    answer = client.post("/predict", json={"rows": sent}).json()
    rows = logged_rows(log.place)
    for name in ("amount", "items", "customer", "channel", "placed"):
        assert rows[name].astype(object).where(rows[name].notna(), None).tolist() == [row[name] for row in sent]
    assert rows["id"].tolist() == [str(row["id"]) for row in sent]
    for name in bundle.answers:
        assert rows[name].tolist() == [each[name] for each in answer["predictions"]]
    assert rows["row"].tolist() == list(range(5))
    assert set(rows["request_id"]) == {answer["request_id"]}
    assert rows["moment"].between(before, datetime.now(UTC).replace(tzinfo=None)).all()
    append(log, bundle, {"customer": "ann"}, {"customer": "nobody"}, {"customer": "ann", "rate_by_customer_7d": None})
    assert logged_rows(log.place)["rate_by_customer_7d"].tail(3).fillna(-1).tolist() == [0.125, -1, -1]
    inputs = [{"name": "customer", "shape": [2], "datatype": "BYTES", "data": ["ann", "bob"]}]
    client.post("/v2/models/returns/infer", json={"id": "mine", "inputs": inputs})
    assert client.post("/predict", json={"rows": [{"customer": 5}]}).status_code == 422  # which is not logged
    last = logged_rows(log.place).tail(2)
    assert (last["request_id"].tolist(), last["customer"].tolist()) == (["mine", "mine"], ["ann", "bob"])


def test_requests_at_once_share_a_commit_and_what_nobody_waits_for_is_not_written(bundle: Bundle, log: Log) -> None:
    entry, before = log.entry("a", NOW, bundle, [ROW], bundle.answer([ROW]).records), log.commits
    with sqlite3.connect(log.place, isolation_level=None) as another:
        another.execute("BEGIN IMMEDIATE")  # the first commit has to wait, and the others for it
        futures = [log.submit(entry)]
        time.sleep(0.2)
        futures += [log.submit(entry) for _ in range(50)]
        assert log.submit(entry._replace(request_id="late")).cancel()
        assert len(log.queue) == 51
        assert not futures[0].done()
        another.execute("ROLLBACK")
    for each in futures:
        each.result(timeout=10)
    assert log.commits - before == 2
    assert logged_rows(log.place)["request_id"].tolist() == ["a"] * 51


def check_refused(client: TestClient, says: str) -> None:
    for answer in (client.post("/predict", json={"rows": [ROW]}), client.get("/ready")):
        assert answer.status_code == 503
        assert says in answer.json()["error"]
        assert answer.headers["Retry-After"] == "1"
        assert "predictions" not in answer.json()
    assert client.get("/v2/health/ready").json() == {"ready": False}
    assert client.get("/v2/models/returns/ready").status_code == 503
    assert client.get("/health").status_code == 200


def test_without_a_log_or_its_key_nothing_is_answered(bundle: Bundle, tmp_path: Path, monkeypatch: Any) -> None:
    wall = tmp_path / "wall"
    wall.write_text("a file where a folder should be")
    log = Log(wall / "log.sqlite")
    client = TestClient(app.create_app(bundle, log))
    check_refused(client, f"the prediction log {log.place} cannot be written")
    wall.unlink()
    assert client.get("/ready").status_code == 200
    assert client.post("/predict", json={"rows": [ROW]}).status_code == 200
    log.close()
    monkeypatch.setitem(bundle.described, "log", {"keep": "90d", "redact": ["customer"]})
    for wrong in ("no key", "00" * 31):
        log = Log(tmp_path / "log.sqlite")
        log.place.with_suffix(".key").write_text(wrong)
        check_refused(TestClient(app.create_app(bundle, log)), "put back the copy that you keep")
        log.close()


def test_a_full_disk_refuses_and_loses_nothing(bundle: Bundle, log: Log) -> None:
    client = TestClient(app.create_app(bundle, log))
    assert client.post("/predict", json={"rows": [ROW]}).status_code == 200
    assert log._connection is not None
    pages = log._connection.execute("PRAGMA page_count").fetchone()[0]
    log._connection.execute(f"PRAGMA max_page_count = {pages}")  # SQLite then says what it says of a full disk
    answer = client.post("/predict", json={"rows": [{**ROW, "channel": "x" * 20_000}]})
    assert answer.status_code == 503
    assert "full" in answer.json()["error"]
    assert len(logged_rows(log.place)) == 1
    assert client.post("/predict", json={"rows": [ROW]}).status_code == 200  # opened again, without the limit


def test_a_log_that_was_taken_away_is_made_again(bundle: Bundle, log: Log) -> None:
    append(log, bundle, ROW)
    for file in log.place.parent.glob("log.sqlite*"):
        file.unlink()
    append(log, bundle, ROW, name="b")
    assert logged_rows(log.place)["request_id"].tolist() == ["b"]


def test_a_log_of_another_program_or_format_is_refused_and_left_alone(bundle: Bundle, log: Log, tmp_path: Path) -> None:
    append(log, bundle, ROW)
    log.close()
    old = sqlite3.connect(log.place)
    old.execute("PRAGMA user_version = 1")
    old.close()
    with sqlite3.connect(tmp_path / "other.sqlite") as other:
        other.execute("CREATE TABLE requests (mine TEXT)")
    for place, says in (
        (log.place, "found a prediction log of format 1, expected format 2; export it"),
        (tmp_path / "other.sqlite", "found another program's database"),
    ):
        before, opened = place.read_bytes(), Log(place)
        check_refused(TestClient(app.create_app(bundle, opened)), f"{place}: {says}")
        opened.close()
        with pytest.raises(DataError, match=says):
            log_export.export(place, place.parent)
        assert place.read_bytes() == before


def test_a_closed_log_is_whole_and_takes_no_more(bundle: Bundle, log: Log) -> None:
    entry = log.entry("a", NOW, bundle, [ROW], bundle.answer([ROW]).records)
    waiting = [log.submit(entry) for _ in range(20)]
    log.close()
    assert [each.result(timeout=0) for each in waiting] == [None] * 20
    with pytest.raises(LogError, match="closed"):
        log.submit(entry).result(timeout=0)
    assert sorted(file.name for file in log.place.parent.iterdir()) == ["log.sqlite"]
    assert stat.S_IMODE(log.place.stat().st_mode) == 0o600
    again = Log(log.place)
    append(again, bundle, ROW)
    again.close()
    assert len(logged_rows(log.place)) == 21


def test_redacted_values_are_on_no_disk_but_still_join(bundle: Bundle, log: Log, monkeypatch: Any, lake: Path) -> None:
    monkeypatch.setitem(bundle.described, "log", {"keep": "90d", "redact": ["customer", "id"]})
    rows = [{"customer": "secret-ann", "id": 777123}, {"customer": "secret-ann", "id": "777123"}, {"customer": "bob"}]
    client = TestClient(app.create_app(bundle, log))
    assert client.post("/predict", json={"rows": rows}).json()["predictions"][0]["identity"] == {"id": 777123}
    log_export.export(log.place, lake)
    for file in [*log.place.parent.glob("log*"), *lake.rglob("*.parquet")]:
        assert b"secret-ann" not in file.read_bytes()
        assert b"777123" not in file.read_bytes()
    rows = exported(lake)
    secret = key(log.place)
    assert (len(secret), key(log.place)) == (32, secret)
    assert stat.S_IMODE(log.place.with_suffix(".key").stat().st_mode) == 0o600
    ann = pseudonym("secret-ann", secret)
    assert rows["customer"].tolist() == [ann, ann, pseudonym("bob", secret)]
    assert rows["id"].tolist()[:2] == [pseudonym(777123.0, secret)] * 2
    assert rows["id"].isna().tolist() == [False, False, True]
    assert ann != pseudonym("secret-ann", b"another key")


def test_the_params_decide_what_is_kept_and_redacted(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def described(**log: Any) -> dict[str, Any]:
        params = deployment.Params.model_validate({**PARAMS.model_dump(), "log": log})
        monkeypatch.setattr("bundles.PARAMS", params)
        return pack(parts).described

    parts = lay_out()
    assert described(keep="7d", redact=["id", "customer"])["log"] == {"keep": "7d", "redact": ["customer", "id"]}
    with pytest.raises(ParamsError, match=r"deployment\.log\.redact: found custmer, expected fields of a row"):
        described(redact=["custmer"])


def test_an_export_holds_every_row_once_by_day(bundle: Bundle, log: Log, lake: Path) -> None:
    for hours in (0, 11, 13, 40):
        append(log, bundle, ROW, ROW, at=NOW + timedelta(hours=hours), name=str(hours))
    assert log_export.export(log.place, lake) == 8
    days = [folder.name for folder in sorted((lake).iterdir())]
    assert days == ["day=2026-03-01", "day=2026-03-02", "day=2026-03-03"]
    assert log_export.export(log.place, lake) == 0
    append(log, bundle, ROW, at=NOW, name="new")
    assert log_export.export(log.place, lake) == 1
    rows = exported(lake).sort_values(["moment", "request_id", "row"], ignore_index=True)
    wanted = logged_rows(log.place).sort_values(["moment", "request_id", "row"], ignore_index=True)
    pd.testing.assert_frame_equal(rows, wanted)
    assert len(rows) == 9


@pytest.mark.parametrize("survives", [0, 1, 2])
def test_an_interrupted_export_is_finished_without_gaps_or_repeats(
    bundle: Bundle, log: Log, lake: Path, monkeypatch: Any, survives: int
) -> None:
    monkeypatch.setattr(log_export, "ROWS_A_FILE", 5)
    for day in range(3):
        append(log, bundle, ROW, at=NOW + timedelta(days=day), name=str(day))
    write, written = log_export._write_parquet, []

    def breaks(*given: Any) -> None:
        if len(written) == survives:
            raise OSError("no space left")
        write(*given)
        written.append(given)

    monkeypatch.setattr(log_export, "_write_parquet", breaks)
    with pytest.raises(DataError, match="no space left"):
        log_export.export(log.place, lake)
    monkeypatch.setattr(log_export, "_write_parquet", write)
    append(log, bundle, ROW, at=NOW, name="later")
    append(log, bundle, *[ROW] * 9, name="large")
    log_export.export(log.place, lake)
    assert sorted(exported(lake)["request_id"]) == ["0", "1", "2", *["large"] * 9, "later"]
    assert len(list(lake.rglob("*.parquet"))) == 5  # of the days, of what came later, and of a large request


def test_an_export_is_typed_by_the_signature_whatever_the_names(project: Project, log: Log, lake: Path) -> None:
    parts = lay_out("multiclass")
    bundle = pack(parts)
    sent = as_rows(parts["holdout"], bundle.signature)
    append(log, bundle, *sent)
    append(log, bundle, {"@x": "2024-02-29T13:30:00+01:00"}, {'say "from"': "long " * 500_000})
    log_export.export(log.place, lake)
    rows = exported(lake)
    kinds = rows.dtypes[["a.b", "action", "@x", "action_predicted"]].astype(str).tolist()
    assert kinds == ["float64", "str", "datetime64[us]", "str"]
    assert rows["@x"].iloc[-2] == pd.Timestamp("2024-02-29T12:30:00")
    first = rows.head(len(sent))
    assert first["a.b"].astype(object).where(first["a.b"].notna(), None).tolist() == [row["a.b"] for row in sent]
    assert first["action_predicted"].tolist() == [each["action"] for each in bundle.answer(sent).records]


def test_another_folder_gets_what_it_lacks_for_its_owner_alone(bundle: Any, log: Log, lake: Any, tmp_path: Any) -> None:
    append(log, bundle, ROW, ROW)
    assert log_export.export(log.place) == 2
    append(log, bundle, ROW, name="b")
    assert [log_export.export(log.place, folder) for folder in (lake, lake, tmp_path / "more")] == [3, 0, 3]
    pd.testing.assert_frame_equal(exported(lake), exported(log_export.lake(log.place)))
    for file in tmp_path.rglob("day=*/*.parquet"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_is_old_is_deleted_in_the_log_and_its_export_and_stays_in_copies(bundle: Any, log: Log, lake: Any) -> None:
    append(log, bundle, ROW, ROW, at=NOW - timedelta(days=100), name="old")
    append(log, bundle, ROW, at=NOW - timedelta(days=1), name="young")
    log_export.export(log.place, lake)
    append(log, bundle, ROW, at=NOW - timedelta(days=100), name="old, and not exported")
    assert log_export.prune(log.place, "90d", NOW) == 2
    for rows in (logged_rows(log.place), exported(log_export.lake(log.place))):
        assert rows["request_id"].tolist() == ["young"]
    assert log_export.prune(log.place, "90d", NOW) == 0
    assert len(exported(lake)) == 3
    with sqlite3.connect(log.place) as left:
        assert left.execute("SELECT count(*) FROM predictions").fetchone() == (1,)


def test_another_process_that_closes_the_log_takes_nothing_from_the_one_that_writes(bundle: Bundle, log: Log) -> None:
    log_export.prune(log.place, "90d")  # as the service does beside its log
    for count in (1, 2):
        append(log, bundle, {**ROW, "id": count}, name=f"{count}")
        export = (
            f"from ninefold.serving import log_export; print(log_export.export(log_export.Path({str(log.place)!r})))"
        )
        done = subprocess.run([sys.executable, "-c", export], capture_output=True, text=True, check=True)
        assert (done.stdout.strip(), Path(f"{log.place}-wal").exists()) == ("1", True)


def test_a_log_that_is_not_there_or_is_exported_meanwhile_is_refused(log: Log, tmp_path: Path) -> None:
    for use in (log_export.export, partial(log_export.prune, keep="1d")):
        with pytest.raises(DataError, match="no prediction log there; `ninefold serve` writes one"):
            use(tmp_path / "log.sqlite")
    with artifacts.alone(log.place.with_suffix(".lock"), ""), pytest.raises(DataError, match="another export or"):
        log_export.export(log.place)


def test_the_projects_bundle_is_logged_in_the_project_and_others_only_if_told(bundle: Bundle, tmp_path: Path) -> None:
    here, own = tmp_path / "here.sqlite", tmp_path / "data/predictions/log.sqlite"
    cases = [(None, None, False, own), (bundle.place, None, False, None), (None, None, True, None)]
    for place, log, no_log, wanted in [*cases, (bundle.place, here, False, here)]:
        with app._logging(place, log, no_log) as opened:
            assert getattr(opened, "place", None) == wanted
    with pytest.raises(NinefoldError, match="expected one of them"):
        app._logging(None, here, True)


def test_a_table_answered_at_once_is_a_request_for_each_thousand_rows(bundle: Bundle, log: Log, parts: Any) -> None:
    table = pd.concat([parts["train"]] * 8, ignore_index=True).head(1500)
    assert log.record(table, bundle.decide(table), bundle, "run", 500) == "run-000000500"
    rows = logged_rows(log.place)
    assert rows["request_id"].value_counts().to_dict() == {"run-000000500": 1000, "run-000001500": 500}
    assert rows["row"].tolist() == [*range(1000), *range(500)]
    assert rows["id"].tolist() == table["id"].astype(str).tolist()
