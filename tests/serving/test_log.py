"""The prediction log: nothing acknowledged is lost, nothing is exported twice, nothing redacted can be read."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
from bundles import PARAMS, lay_out, pack
from conftest import Project
from fastapi.testclient import TestClient

from ninefold.errors import DataError, NinefoldError, ParamsError
from ninefold.serving import app, deployment, log_entry, log_export
from ninefold.serving.bundle import Bundle
from ninefold.serving.fields import as_rows
from ninefold.serving.log import Log
from ninefold.serving.log_entry import LogError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROW = {"customer": "ann", "id": 7, "amount": 12.5}


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    opened = Log(tmp_path / "predictions/log.sqlite")
    yield opened
    opened.close()


def append(log: Log, bundle: Bundle, *rows: dict[str, Any], moment: datetime = NOW, name: str = "a") -> None:
    log.submit(log.entry(name, moment, bundle, log_entry.filled(rows, bundle), bundle.answer(rows).records)).result()


def exported(folder: Path) -> pd.DataFrame:
    files = sorted(folder.rglob("*.parquet"))
    return pd.concat([pd.read_parquet(file, partitioning=None) for file in files], ignore_index=True)


NURSERY = """
import os, sys
from pathlib import Path
from ninefold.serving import app
for _ in sys.stdin:
    if (child := os.fork()) == 0:
        print(os.getpid(), flush=True)
        app.run(Path(sys.argv[1]), port=0, log=Path(sys.argv[2]))
    os.waitpid(child, 0)
    print("gone", flush=True)
"""


@pytest.fixture
def nursery(bundle: Bundle, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Return a process that has imported the service, and forks one of it for each line: twenty starts would take minutes."""
    env = {**os.environ, "PYTHONPATH": str(Path(app.__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", NURSERY, str(bundle.place), str(tmp_path / "log.sqlite")]
    process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield process
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=60) == 0


@contextmanager
def served(nursery: subprocess.Popen[str]) -> Iterator[str]:
    """Give the address of a service; kill it at the end, with no time to say goodbye."""
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    print("one more", file=nursery.stdin, flush=True)
    child = int(nursery.stdout.readline())
    try:
        yield nursery.stdout.readline().split()[-1]
    finally:
        os.kill(child, signal.SIGKILL)
        assert nursery.stdout.readline() == "gone\n"


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


def test_no_acknowledged_prediction_is_lost_when_the_server_is_killed_twenty_times_under_load(
    bundle: Bundle, nursery: subprocess.Popen[str], tmp_path: Path
) -> None:
    acknowledged: dict[str, tuple[float, float]] = {}
    for _ in range(20):
        before, stop = len(acknowledged), threading.Event()
        with ThreadPoolExecutor(8) as pool:
            with served(nursery) as url:  # from the log as the last one left it
                callers = [pool.submit(load, url, acknowledged, stop) for _ in range(8)]
                until = time.monotonic() + 20
                while len(acknowledged) < before + 40 and time.monotonic() < until:
                    time.sleep(0.01)
            stop.set()
        assert [caller.exception() for caller in callers] == [None] * 8
        assert len(acknowledged) >= before + 40
    found = log_export.read(tmp_path / "log.sqlite").set_index("request_id")
    assert found.index.is_unique
    kept = {name: (row.amount, row.probability) for name, row in found.iterrows() if name in acknowledged}
    assert kept == acknowledged
    assert set(found["version"]) == {bundle.version}


def test_what_is_logged_is_what_was_asked_and_answered(
    bundle: Bundle, log: Log, parts: dict[str, pd.DataFrame]
) -> None:
    client = TestClient(app.create_app(bundle, log))
    sent = as_rows(parts["holdout"].head(5), bundle.signature)
    before = datetime.now(UTC).replace(tzinfo=None)
    answer = client.post("/predict", json={"rows": sent}).json()
    found = log_export.read(log.place)
    for name in ("amount", "items", "customer", "channel", "placed"):
        assert found[name].astype(object).where(found[name].notna(), None).tolist() == [row[name] for row in sent]
    assert found["id"].tolist() == [str(row["id"]) for row in sent]
    for name in bundle.answers:
        assert found[name].tolist() == [each[name] for each in answer["predictions"]]
    assert found["row"].tolist() == list(range(5))
    assert set(found["request_id"]) == {answer["request_id"]}
    assert found["moment"].between(before, datetime.now(UTC).replace(tzinfo=None)).all()


def test_history_that_was_looked_up_is_logged_too(bundle: Bundle, log: Log) -> None:
    append(log, bundle, {"customer": "ann"}, {"customer": "nobody"}, {"customer": "ann", "rate_by_customer_7d": None})
    found = log_export.read(log.place)["rate_by_customer_7d"]
    assert found.iloc[0] == 0.125
    assert found.iloc[1:].isna().all()


def test_requests_of_the_open_inference_protocol_are_logged_under_their_id(bundle: Bundle, log: Log) -> None:
    client = TestClient(app.create_app(bundle, log))
    inputs = [{"name": "customer", "shape": [2], "datatype": "BYTES", "data": ["ann", "bob"]}]
    client.post("/v2/models/returns/infer", json={"id": "mine", "inputs": inputs})
    found = log_export.read(log.place)
    assert (found["request_id"].tolist(), found["customer"].tolist()) == (["mine", "mine"], ["ann", "bob"])


def test_what_is_refused_is_not_logged(bundle: Bundle, log: Log) -> None:
    client = TestClient(app.create_app(bundle, log))
    assert client.post("/predict", json={"rows": [{"customer": 5}]}).status_code == 422
    assert log_export.read(log.place).empty


def test_requests_at_once_share_a_commit(bundle: Bundle, log: Log) -> None:
    entry = log.entry("a", NOW, bundle, [ROW], bundle.answer([ROW]).records)
    before = log.commits
    with sqlite3.connect(log.place, isolation_level=None) as another:
        another.execute("BEGIN IMMEDIATE")  # the first commit has to wait, and the others for it
        first = log.submit(entry)
        time.sleep(0.2)
        others = [log.submit(entry) for _ in range(50)]
        assert log.waiting() == 50
        assert not first.done()
        another.execute("ROLLBACK")
    for each in (first, *others):
        each.result(timeout=10)
    assert log.commits - before == 2
    assert len(log_export.read(log.place)) == 51


def test_what_nobody_waits_for_any_more_is_not_written(bundle: Bundle, log: Log) -> None:
    entry = log.entry("a", NOW, bundle, [ROW], bundle.answer([ROW]).records)
    with sqlite3.connect(log.place, isolation_level=None) as another:
        another.execute("BEGIN IMMEDIATE")
        first = log.submit(entry)
        time.sleep(0.2)
        assert log.submit(entry._replace(request_id="late")).cancel()
        another.execute("ROLLBACK")
    first.result(timeout=10)
    append(log, bundle, ROW, name="next")
    assert log_export.read(log.place)["request_id"].tolist() == ["a", "next"]


def check_refused(client: TestClient, says: str) -> None:
    for answer in (client.post("/predict", json={"rows": [ROW]}), client.get("/ready")):
        assert answer.status_code == 503
        assert says in answer.json()["error"]
        assert answer.headers["Retry-After"] == "1"
        assert "predictions" not in answer.json()
    assert client.get("/v2/health/ready").json() == {"ready": False}
    assert client.get("/v2/models/returns/ready").status_code == 503
    assert client.get("/health").status_code == 200


def test_without_a_log_nothing_is_answered_until_it_can_be_written_again(bundle: Bundle, tmp_path: Path) -> None:
    wall = tmp_path / "wall"
    wall.write_text("a file where a folder should be")
    log = Log(wall / "log.sqlite")
    client = TestClient(app.create_app(bundle, log))
    check_refused(client, f"the prediction log {log.place} cannot be written")
    wall.unlink()
    assert client.get("/ready").status_code == 200
    assert client.post("/predict", json={"rows": [ROW]}).status_code == 200
    log.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_in_a_read_only_folder_nothing_is_answered(bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    log = Log(folder / "log.sqlite")
    check_refused(TestClient(app.create_app(bundle, log)), "cannot be written")
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
    assert len(log_export.read(log.place)) == 1
    assert client.post("/predict", json={"rows": [ROW]}).status_code == 200  # opened anew, without the limit


def test_a_log_that_was_taken_away_is_made_again(bundle: Bundle, log: Log) -> None:
    append(log, bundle, ROW)
    for file in log.place.parent.glob("log.sqlite*"):
        file.unlink()
    append(log, bundle, ROW, name="b")
    assert log_export.read(log.place)["request_id"].tolist() == ["b"]


def test_another_database_is_left_alone(tmp_path: Path) -> None:
    place = tmp_path / "other.sqlite"
    with sqlite3.connect(place) as other:
        other.execute("CREATE TABLE requests (mine TEXT)")
    before = place.read_bytes()
    log = Log(place)
    assert "another program's database" in str(log.failure())
    log.close()
    assert place.read_bytes() == before
    with pytest.raises(DataError, match="another program's database"):
        log_export.read(place)


def test_a_log_of_another_format_is_refused_and_left_alone(bundle: Bundle, log: Log, tmp_path: Path) -> None:
    append(log, bundle, ROW)
    log.close()
    with sqlite3.connect(log.place) as old:
        old.execute("PRAGMA user_version = 1")
    old.close()
    before = log.place.read_bytes()
    says = f"{log.place}: found a prediction log of format 1, expected format 2; export it"
    opened = Log(log.place)
    check_refused(TestClient(app.create_app(bundle, opened)), says)
    opened.close()
    for ask in (
        log_export.read,
        lambda place: log_export.export(place, tmp_path),
        lambda place: log_export.prune(place, "1d"),
    ):
        with pytest.raises(
            DataError, match="found a prediction log of format 1, expected format 2; export it"
        ) as refused:
            ask(log.place)
        assert str(refused.value).startswith(says)
    assert log.place.read_bytes() == before


def test_a_closed_log_is_whole_and_takes_no_more(bundle: Bundle, log: Log) -> None:
    entry = log.entry("a", NOW, bundle, [ROW], bundle.answer([ROW]).records)
    waiting = [log.submit(entry) for _ in range(20)]
    log.close()
    assert [each.result(timeout=0) for each in waiting] == [None] * 20
    with pytest.raises(LogError, match="closed"):
        log.submit(entry).result(timeout=0)
    assert sorted(file.name for file in log.place.parent.iterdir()) == ["log.sqlite"]
    again = Log(log.place)
    append(again, bundle, ROW)
    again.close()
    assert len(log_export.read(log.place)) == 21


def test_a_log_is_for_its_owner_alone(log: Log) -> None:
    assert stat.S_IMODE(log.place.stat().st_mode) == 0o600


def test_redacted_values_are_on_no_disk_but_still_join(
    bundle: Bundle, log: Log, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(bundle.described, "log", {"keep": "90d", "redact": ["customer", "id"]})
    rows = [{"customer": "secret-ann", "id": 777123}, {"customer": "secret-ann", "id": "777123"}, {"customer": "bob"}]
    client = TestClient(app.create_app(bundle, log))
    assert client.post("/predict", json={"rows": rows}).json()["predictions"][0]["identity"] == {"id": 777123}
    log_export.export(log.place, tmp_path / "lake")
    for file in [*log.place.parent.iterdir(), *tmp_path.rglob("*.parquet")]:
        assert b"secret-ann" not in file.read_bytes()
        assert b"777123" not in file.read_bytes()
    found = exported(tmp_path / "lake")
    secret = log_entry.key(log.place)
    ann = log_entry.pseudonym("secret-ann", secret)
    assert found["customer"].tolist() == [ann, ann, log_entry.pseudonym("bob", secret)]
    assert found["id"].tolist()[:2] == [log_entry.pseudonym(777123.0, secret)] * 2
    assert found["id"].isna().tolist() == [False, False, True]
    assert ann != log_entry.pseudonym("secret-ann", b"another key")


def test_the_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    secret = log_entry.key(tmp_path / "log.sqlite")
    assert len(secret) == 32
    assert log_entry.key(tmp_path / "log.sqlite") == secret
    assert stat.S_IMODE((tmp_path / "log.key").stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["log.key"]


def test_without_its_key_a_redacted_log_answers_nothing(
    bundle: Bundle, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(bundle.described, "log", {"keep": "90d", "redact": ["customer"]})
    log.place.with_suffix(".key").write_text("no key")
    check_refused(TestClient(app.create_app(bundle, log)), "put back the copy that you keep")


def test_the_params_decide_what_is_kept_and_redacted(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = lay_out()
    wanted = {**PARAMS.model_dump(), "timeout_s": 3, "log": {"keep": "7d", "redact": ["id", "customer"]}}
    monkeypatch.setattr("bundles.PARAMS", deployment.Params.model_validate(wanted))
    described = pack(parts).described
    assert described["log"] == {"keep": "7d", "redact": ["customer", "id"]}
    limits = {"max_rows": 100, "max_body_mb": 0.05, "timeout_s": 3, "max_waiting": 100, "latency_budget_ms": 250}
    assert described["limits"] == limits
    wanted["log"] = {"redact": ["custmer"]}
    monkeypatch.setattr("bundles.PARAMS", deployment.Params.model_validate(wanted))
    with pytest.raises(ParamsError, match=r"deployment\.log\.redact: found custmer, expected fields of a row"):
        pack(parts)


def test_an_export_holds_every_row_once_by_day(bundle: Bundle, log: Log, tmp_path: Path) -> None:
    for hours in (0, 11, 13, 40):
        append(log, bundle, ROW, ROW, moment=NOW + timedelta(hours=hours), name=str(hours))
    assert log_export.export(log.place, tmp_path / "lake") == 8
    assert [folder.name for folder in sorted((tmp_path / "lake").iterdir())] == [
        "day=2026-03-01",
        "day=2026-03-02",
        "day=2026-03-03",
    ]
    assert log_export.export(log.place, tmp_path / "lake") == 0
    append(log, bundle, ROW, moment=NOW, name="new")
    assert log_export.export(log.place, tmp_path / "lake") == 1
    found = exported(tmp_path / "lake").sort_values(["moment", "request_id", "row"], ignore_index=True)
    wanted = log_export.read(log.place).sort_values(["moment", "request_id", "row"], ignore_index=True)
    pd.testing.assert_frame_equal(found, wanted)
    assert len(found) == 9


@pytest.mark.parametrize("survives", [0, 1, 2])
def test_an_interrupted_export_is_finished_without_gaps_or_repeats(
    bundle: Bundle, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survives: int
) -> None:
    for day in range(3):
        append(log, bundle, ROW, moment=NOW + timedelta(days=day), name=str(day))
    write, written = log_export._write_parquet, []

    def breaks(*given: Any) -> None:
        if len(written) == survives:
            raise OSError("no space left")
        write(*given)
        written.append(given)

    monkeypatch.setattr(log_export, "_write_parquet", breaks)
    with pytest.raises(DataError, match="no space left"):
        log_export.export(log.place, tmp_path / "lake")
    monkeypatch.setattr(log_export, "_write_parquet", write)
    append(log, bundle, ROW, moment=NOW, name="later")
    assert log_export.prune(log.place, "1d", now=NOW + timedelta(days=300)) == 0
    log_export.export(log.place, tmp_path / "lake")
    assert sorted(exported(tmp_path / "lake")["request_id"]) == ["0", "1", "2", "later"]


def test_large_exports_are_cut_into_files(
    bundle: Bundle, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_export, "ROWS_A_FILE", 5)
    for number in range(7):
        append(log, bundle, ROW, ROW, name=str(number))
    append(log, bundle, *[ROW] * 9, name="large")
    assert log_export.export(log.place, tmp_path / "lake") == 23
    sizes = [len(pd.read_parquet(file)) for file in sorted((tmp_path / "lake").rglob("*.parquet"))]
    assert sizes == [4, 4, 4, 2, 9]


def test_only_one_export_runs(bundle: Bundle, log: Log, tmp_path: Path) -> None:
    append(log, bundle, ROW)
    with log_export._alone(log.place):
        for ask in (lambda: log_export.export(log.place, tmp_path / "lake"), lambda: log_export.prune(log.place, "1d")):
            with pytest.raises(DataError, match=r"log\.sqlite: another export or clean-up of it runs"):
                ask()


def test_an_export_is_typed_by_the_signature_whatever_the_names(project: Project, log: Log, tmp_path: Path) -> None:
    parts = lay_out("multiclass")
    bundle = pack(parts)
    sent = as_rows(parts["holdout"], bundle.signature)
    append(log, bundle, *sent)
    append(log, bundle, {"@x": "2024-02-29T13:30:00+01:00"}, {'say "from"': "long " * 500_000})
    log_export.export(log.place, tmp_path / "lake")
    found = exported(tmp_path / "lake")
    kinds = {name: str(kind) for name, kind in found.dtypes.items()}
    assert (kinds["a.b"], kinds["action"], kinds["@x"], kinds["action_predicted"]) == (
        "float64",
        "str",
        "datetime64[us]",
        "str",
    )
    assert found["@x"].iloc[-2] == pd.Timestamp("2024-02-29T12:30:00")
    assert found["a.b"].iloc[:-2].astype(object).where(found["a.b"].notna(), None).tolist()[: len(sent)] == [
        row["a.b"] for row in sent
    ]
    assert found["action_predicted"].tolist()[: len(sent)] == [each["action"] for each in bundle.answer(sent).records]


def test_columns_called_as_ours_keep_their_names(bundle: Bundle, log: Log) -> None:
    bundle.described["signature"] += [{"name": "row", "kind": "identity", "type": "any", "required": False}]
    log.submit(log.entry("a", NOW, bundle, [{"row": "mine"}], bundle.answer([ROW]).records)).result()
    found = log_export.read(log.place)
    assert (found["row"].tolist(), found["row_logged"].tolist()) == (["mine"], [0])


def test_only_what_is_old_and_exported_is_deleted(bundle: Bundle, log: Log, tmp_path: Path) -> None:
    append(log, bundle, ROW, ROW, moment=NOW - timedelta(days=100), name="old")
    append(log, bundle, ROW, moment=NOW - timedelta(days=1), name="young")
    assert log_export.prune(log.place, "90d", NOW) == 0  # nothing was exported
    log_export.export(log.place, tmp_path / "lake")
    append(log, bundle, ROW, moment=NOW - timedelta(days=100), name="old, and new in the log")
    assert log_export.prune(log.place, "90d", NOW) == 1
    assert log_export.read(log.place)["request_id"].tolist() == ["young", "old, and new in the log"]
    log_export.export(log.place, tmp_path / "lake")
    assert log_export.prune(log.place, "90d", NOW) == 1
    assert len(exported(tmp_path / "lake")) == 4
    with sqlite3.connect(log.place) as found:
        assert found.execute("SELECT count(*) FROM predictions").fetchone() == (1,)


def test_a_period_of_the_log_can_be_read(bundle: Bundle, log: Log) -> None:
    for day in range(4):
        append(log, bundle, ROW, moment=NOW + timedelta(days=day), name=str(day))
    found = log_export.read(log.place, since=NOW + timedelta(days=1), until=NOW + timedelta(days=3))
    assert found["request_id"].tolist() == ["1", "2"]
    assert log_export.read(log.place, since=NOW + timedelta(days=9)).columns.tolist()[:5] == list(log_export.META)


def test_bundles_with_other_fields_share_a_log(bundle: Bundle, log: Log, tmp_path: Path) -> None:
    append(log, bundle, ROW, name="old")
    other = pack(lay_out("text"))
    append(log, other, {"comment": "buy pills"}, name="new")
    append(log, bundle, ROW, name="old again")
    found = log_export.read(log.place)
    assert found["request_id"].tolist() == ["old", "new", "old again"]
    assert found["comment"].isna().tolist() == [True, False, True]
    log_export.export(log.place, tmp_path / "lake")
    assert len(list((tmp_path / "lake").rglob("*.parquet"))) == 2  # each typed by its own signature


def test_a_log_that_is_not_there_says_where_it_comes_from(tmp_path: Path) -> None:
    for ask in (
        log_export.read,
        lambda place: log_export.export(place, tmp_path),
        lambda place: log_export.prune(place, "1d"),
    ):
        with pytest.raises(DataError, match="no prediction log there; `ninefold serve` writes one"):
            ask(tmp_path / "log.sqlite")


def test_the_projects_bundle_is_logged_in_the_project_and_others_only_if_told(bundle: Bundle, tmp_path: Path) -> None:
    with app._logging(None, None, False) as kept:
        assert kept.place == tmp_path / "data/predictions/log.sqlite"
    for given in ((bundle.place, None, False), (None, None, True)):
        with app._logging(*given) as kept:
            assert kept is None
    with app._logging(bundle.place, tmp_path / "here.sqlite", False) as kept:
        assert kept.place == tmp_path / "here.sqlite"
    with pytest.raises(NinefoldError, match="expected one of them"):
        app._logging(None, tmp_path / "here.sqlite", True)


def test_a_table_that_was_answered_at_once_is_a_request_for_each_thousand_rows(
    bundle: Bundle, log: Log, parts: dict[str, pd.DataFrame]
) -> None:
    rows = pd.concat([parts["train"]] * 8, ignore_index=True).head(1500)
    assert log.record(rows, bundle.decide(rows), bundle, "run", 500) == "run-000000500"
    found = log_export.read(log.place)
    assert found["request_id"].value_counts().to_dict() == {"run-000000500": 1000, "run-000001500": 500}
    assert found["row"].tolist() == [*range(1000), *range(500)]
    assert found["id"].tolist() == rows["id"].astype(str).tolist()
