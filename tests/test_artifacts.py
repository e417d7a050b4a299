import errno
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest
from conftest import Project

from ninefold import artifacts, engine
from ninefold.errors import DataError

TABLE = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})


def test_a_write_that_fails_leaves_the_earlier_file_whole(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts.write_json({"a": 1}, project.folder / "value.json")
    monkeypatch.setattr(os, "replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        artifacts.write_json({"a": 2}, project.folder / "value.json")
    assert artifacts.read_json("value.json") == {"a": 1}
    assert [place.name for place in project.folder.iterdir() if place.name.startswith(".")] == []


def test_a_full_disk_is_told_from_other_errors() -> None:
    said = "No space left on device"
    full = [OSError(errno.ENOSPC, said), shutil.Error([("a", "b", f"[Errno 28] {said}")])]
    full += [RuntimeError(f"IO Error: {said}"), sqlite3.OperationalError("database or disk is full")]
    assert all(map(artifacts.disk_is_full, full))
    assert not artifacts.disk_is_full(OSError(errno.EACCES, "Permission denied"))


def test_what_is_durable_is_for_its_owner_alone(tmp_path: Path) -> None:
    (tmp_path / f".state.json.{threading.get_native_id()}.tmp").touch(0o644)  # of a run that was killed
    artifacts.write_durable(b"{}", tmp_path / "state.json")
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o600


def test_an_output_is_seen_by_others_once_published_and_replaces_the_earlier_one_whole(project: Project) -> None:
    for names in (["first"], ["left", "right"]):
        for name in names:  # what is opened again starts empty
            artifacts.write_table(TABLE, artifacts.output("data/lake") / f"{name}.parquet")
        assert len(artifacts.read_table("data/lake")) == 2  # in its own stage
        assert not (project.folder / f"data/lake/{names[-1]}.parquet").exists()
        artifacts.publish()
        assert list(project.bytes("data")) == [f"data/lake/{names[-1]}.parquet"]


def test_a_file_that_is_missing_or_damaged_is_named(project: Project) -> None:
    with pytest.raises(DataError, match=r"data/problem.json: not found; run the stages before this one"):
        artifacts.read_json("data/problem.json")
    artifacts.write_text("{", project.folder / "data/problem.json")
    with pytest.raises(DataError, match=r"data/problem.json: not valid JSON"):
        artifacts.read_json("data/problem.json")
    (project.folder / "data/lake").mkdir()
    with pytest.raises(DataError, match="holds no Parquet file"):
        artifacts.read_table("data/lake")
    artifacts.write_text("no parquet", project.folder / "data/lake/part.parquet")
    with pytest.raises(DataError, match=r"data/lake/part.parquet: damaged"):
        artifacts.read_table("data/lake")
    with pytest.raises(DataError, match=r"data/lake/part.parquet: damaged"):
        engine.read(engine.connect(), "data/lake")


def test_missing_columns_and_partitions_that_differ_in_them_are_named(project: Project) -> None:
    artifacts.write_table(TABLE, project.folder / "data/raw/1.parquet")
    with pytest.raises(DataError, match=r"data/raw/1.parquet: lacks c; found a, b"):
        artifacts.read_table("data/raw/1.parquet", columns=["a", "c"])
    with pytest.raises(DataError, match=r"here: lacks c; found a, b"):
        artifacts.require(TABLE, ["b", "c"], "here")
    artifacts.write_table(TABLE.assign(c=1), project.folder / "data/raw/2.parquet")
    with pytest.raises(DataError, match=r"data/raw: 2.parquet and 1.parquet differ in their columns: c"):
        engine.read(engine.connect(), "data/raw")


@pytest.mark.skipif(os.name == "nt", reason="Windows hands no locks on")
def test_a_lock_is_held_until_the_last_process_that_was_handed_it_is_gone(tmp_path: Path) -> None:
    lock = tmp_path / "folder/lock"

    def refused() -> bool:
        try:
            with artifacts.alone(lock, "somebody else is at it"):
                return False
        except DataError as error:
            return str(error) == "somebody else is at it"

    with artifacts.alone(lock, "") as handle:
        wait = [sys.executable, "-c", "import sys; sys.stdin.read()"]
        child = subprocess.Popen(wait, stdin=subprocess.PIPE, pass_fds=[handle])
        assert refused()
    assert refused()
    child.communicate()
    assert not refused()


def test_a_second_command_waits_for_the_first_unless_that_started_it(project: Project) -> None:
    command = [sys.executable, "-c", "from ninefold import artifacts\nwith artifacts.writing(): print('writes')"]
    with artifacts.alone(artifacts.path(artifacts.LOCK), ""):
        second = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert second.stderr
        assert "another command writes the outputs of this project; waiting for its end" in second.stderr.readline()
        assert second.poll() is None
    assert second.communicate(timeout=60)[0] == "writes\n"
    with artifacts.writing():
        inner = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (inner.stdout, inner.stderr, os.environ.get(artifacts.HELD)) == ("writes\n", "", None)
