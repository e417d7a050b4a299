"""Files are taken as they land, each exactly once, whatever happens to the process meanwhile."""

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import Project
from servers import NURSERY, started

from ninefold import artifacts, engine
from ninefold.errors import DataError
from ninefold.processing import ingest

COLUMNS = ["id", "placed", "customer", "amount", "status", "returned"]
FOLLOWER = NURSERY.format(
    setup="from ninefold import hooks\nfrom ninefold.processing import ingest\nhooks.project = lambda *given: given[-1]",
    act="sys.stdout = open(os.devnull, 'w'); ingest.run(Path('in'), line == 'follow\\n', every=0.02)",
)


@pytest.fixture
def landing(project: Project) -> Path:
    """Return the folder in which files land: of orders alone, which refer to nothing."""
    del project.params["collection"]["tables"]["customers"], project.params["processing"]["tables"]["customers"]
    project.set("collection.as_of", "2020-02-29")
    folder = project.folder / "in"
    (folder / "orders").mkdir(parents=True)
    return folder


def rows(first: int, count: int, month: int = 1, amount: float = 10.5) -> pd.DataFrame:
    ids = range(first, first + count)
    placed = [f"2020-{month:02d}-{1 + one % 28:02d}T12:00:00" for one in ids]
    frame = pd.DataFrame({"id": [str(one) for one in ids], "placed": placed, "customer": "ann", "amount": str(amount)})
    return frame.assign(status="paid", returned=["0" if one % 3 else "1" for one in ids])


def deliver(table: pd.DataFrame, file: Path) -> None:
    if file.suffix == ".parquet":
        table.to_parquet(file, index=False)
    elif file.suffix == ".jsonl":
        table.to_json(file, orient="records", lines=True)
    else:
        table.to_csv(file, index=False)


def take(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    said: list[str] = []
    follower = ingest.Follower(folder, engine.local(), said.append)
    for _ in range(3):
        follower.poll()
    counts = follower.bring_up()
    return counts, said + [f"waiting for {name}: {why}" for name, why in follower.waiting.items()]


def holds(*delivered: pd.DataFrame) -> None:
    """Demand that the lake holds the rows of these files and no other."""
    frame, kinds = pd.concat(delivered), {"id": "int64", "amount": "float64", "returned": "int64"}
    frame = frame.astype(kinds).assign(placed=pd.to_datetime(frame["placed"]).astype("datetime64[us]"))
    found, wanted = artifacts.read_table("data/stream/lake/orders"), frame[COLUMNS]
    one, other = (each.sort_values("id", ignore_index=True) for each in (found, wanted))
    pd.testing.assert_frame_equal(one, other, check_dtype=False)


def test_files_of_every_kind_in_the_folder_of_a_table_or_named_after_it_are_taken(landing: Path) -> None:
    parts = [rows(1, 5), rows(6, 5, month=2), rows(11, 5)]
    for part, name in zip(parts, ("a.csv", "b.parquet", "c.jsonl"), strict=True):
        deliver(part, landing / "orders" / name)
    deliver(rows(16, 3), landing / "orders-2.csv")  # begins with the name of its table, beside its folder
    deliver(rows(19, 3), landing / "others-3.csv")
    counts, said = take(landing)
    assert counts.to_dict("records") == [{"table": "orders", "raw": 18, "lake": 18, "quarantine": 0}]
    assert [line for line in said if "others-3.csv: belongs to no table" in line]
    holds(*parts, rows(16, 3))
    assert engine.periods("data/stream/lake/orders") == ["2020-01", "2020-02"]


def test_a_row_that_breaks_its_contract_or_has_no_readable_time_is_quarantined(landing: Path) -> None:
    broken = {"status": ["paid", "lost", "open"], "placed": ["2020-01-01", "2020-01-02", "soon"]}
    deliver(rows(1, 3).assign(**broken), landing / "orders/a.csv")
    counts, _ = take(landing)
    assert counts[["raw", "lake", "quarantine"]].to_numpy().tolist() == [[3, 1, 2]]
    aside = artifacts.read_table("data/stream/quarantine/orders")
    found = aside[["id", "broken_rule", "raw_row"]].to_numpy().tolist()
    assert found == [[2, "status: not allowed", 2], [3, "placed: not timestamp", 1]]


def test_a_repeated_file_adds_nothing_and_a_corrected_one_replaces_what_it_said_before(landing: Path) -> None:
    deliver(rows(1, 5), landing / "orders/a.csv")
    take(landing)
    shutil.copy(landing / "orders/a.csv", landing / "orders/b.csv")
    counts, said = take(landing)
    assert counts["raw"].tolist() == [5]
    assert said == ["passed over orders/b.csv: it repeats a.csv"]
    os.utime(landing / "orders/a.csv")  # touched, not changed
    assert take(landing)[0]["raw"].tolist() == [5]
    deliver(rows(6, 5, month=2), landing / "orders/b.csv")
    take(landing)
    other = artifacts.path("data/stream/lake/orders/period=2020-02/part-0.parquet")
    kept = other.stat().st_ino
    deliver(rows(1, 4, amount=99.0), landing / "orders/a.csv")
    take(landing)
    holds(rows(1, 4, amount=99.0), rows(6, 5, month=2))
    assert other.stat().st_ino == kept


@pytest.mark.parametrize(("name", "content", "why"), [
    ("a.csv.tmp", b"id\n1\n", "its name says that it is being written"),
    ("a.csv", b"id,placed\n1,2020-01-0", "its last line has no end yet"),
    ("a.jsonl", b'{"id": 1}\n{"id"', "its last line has no end yet"),
    ("a.parquet", b"PAR1 half of a", "its Parquet footer is not there yet"),
    ("a.csv.gz", b"\x1f\x8b\x08\x00half", "its packing is not whole yet"),
    ("a.csv", b"", "empty so far"),
])  # fmt: skip
def test_a_half_written_file_is_waited_for(landing: Path, name: str, content: bytes, why: str) -> None:
    (landing / "orders" / name).write_bytes(content)
    counts, said = take(landing)
    assert counts.empty
    assert said == [f"waiting for orders/{name}: {why}"]
    assert not artifacts.path("data/stream/landing/orders").exists()


def test_a_file_that_grows_is_not_taken_before_it_rests_with_its_end(landing: Path, monkeypatch: Any) -> None:
    follower, file = ingest.Follower(landing, engine.local(), print), landing / "orders/a.csv"
    whole = rows(1, 30).to_csv(index=False)
    for end in range(200, len(whole), 200):
        file.write_text(whole[: whole.rindex("\n", 0, end) + 1])  # each piece ends with a line, as it well may
        assert follower.poll() == []
    file.write_text(whole)
    assert follower.poll() == []
    assert follower.poll() == ["orders/a.csv"]
    follower.bring_up()
    holds(rows(1, 30))
    monkeypatch.setattr(ingest, "PATIENCE", 0.0)  # what stays without its end is refused until it changes
    file = landing / "orders/b.csv"
    file.write_text(rows(31, 3).to_csv(index=False).rstrip("\n"))
    _, said = take(landing)
    assert said == ["refused orders/b.csv: its last line has no end yet; deliver it whole"]
    deliver(rows(31, 3), file)
    assert take(landing)[0]["lake"].tolist() == [33]


@pytest.mark.parametrize(("content", "reason"), [
    ("id,when\n1,2020-01-01\n", "orders/bad.csv: lacks placed"),
    ("id,placed\n1,2020-01-01,more\n", "orders/bad.csv"),
    ("id,placed\n1,2020-01-01\n", "found other columns than in a.csv"),
    ("id,placed\n\x00\x01\x02\n", "orders/bad.csv"),
    ('id,placed\n"1"2,2020-01-01\n', "orders/bad.csv: line 2: found text behind a closing quote"),
])  # fmt: skip
def test_a_file_that_cannot_be_read_is_refused_once_and_stops_nothing(landing: Path, content: str, reason: str) -> None:
    deliver(rows(1, 3), landing / "orders/a.csv")
    take(landing)
    (landing / "orders/bad.csv").write_text(content)
    deliver(rows(4, 3), landing / "orders/c.csv")
    counts, said = take(landing)
    assert counts["lake"].tolist() == [6]
    assert (len(said), said[0][:8], reason in said[0]) == (1, "refused ", True)
    assert take(landing)[1] == []
    assert json.loads(artifacts.path("data/stream/ledger.json").read_text())["orders/bad.csv"]["refused"]


def test_a_folder_that_is_not_there_and_a_second_process_are_refused(landing: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: not found; expected the folder in which files land"):
        ingest.Follower(Path("nowhere"), engine.local())
    lock = artifacts.alone(artifacts.path("data/stream/.lock"), "busy")
    with lock, pytest.raises(DataError, match="another `ninefold ingest`"):
        ingest.run(landing, follow=False)


def test_the_order_of_arrival_leaves_no_trace(landing: Path, project: Project) -> None:
    names = [f"{number}.csv" for number in range(6)]
    files = {name: rows(1 + 4 * number, 6, month=1 + number % 2) for number, name in enumerate(names)}  # keys overlap
    found = []
    for seed in range(5):
        shutil.rmtree(project.folder / "data", ignore_errors=True)
        for old in (landing / "orders").iterdir():
            old.unlink()
        order = random.Random(seed).sample(names, len(names))
        for name in order:
            deliver(files[name], landing / "orders" / name)
            if random.Random(f"{seed} {name}").random() < 0.6:
                take(landing)
        take(landing)
        found.append({**project.bytes("data/stream/lake"), **project.bytes("data/stream/quarantine")})
    assert all(one == found[0] for one in found)
    assert len(found[0]) > 2


@contextmanager
def following(nursery: Any, how: str) -> Iterator[int]:
    """Start a follower, and yield its id; return when it is gone."""
    print(how, file=nursery.stdin, flush=True)
    yield int(nursery.stdout.readline())
    assert nursery.stdout.readline() == "gone\n"


def test_kill_9_at_fifty_moments_loses_nothing_and_doubles_nothing(landing: Path) -> None:
    chance, delivered, kinds = random.Random(4), dict[str, pd.DataFrame](), ("csv", "parquet", "jsonl")
    with started("-c", FOLLOWER, cwd=landing.parent) as (nursery, _):
        for number in range(50):
            name = f"{number:02d}.{kinds[number % 3]}"
            if delivered and chance.random() < 0.2:  # a correction, a repeat, or a file that is half written
                name = chance.choice([one for one in delivered if one.endswith(".csv")] or ["00.csv"])
            part = rows(1 + 40 * int(name[:2]), 20 + number % 7, month=1 + number % 2, amount=float(number))
            delivered[name] = part
            (landing / "orders" / f"{number}.half.csv").write_text("id,placed\n1,20")
            with following(nursery, "follow") as pid:
                time.sleep(chance.random() * 0.1)
                deliver(part, landing / "orders" / f".{name}")
                os.replace(landing / "orders" / f".{name}", landing / "orders" / name)
                time.sleep(chance.random() * 1.2)
                os.kill(pid, signal.SIGKILL)
            with following(nursery, "once"):
                pass
            holds(*delivered.values())
