from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import Project

from ninefold import artifacts, engine
from ninefold.errors import DataError

TABLE = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})


def test_a_write_that_fails_leaves_the_earlier_file_whole(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    place = project.folder / "value.json"
    artifacts.write_json({"a": 1}, place)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        artifacts.write_json({"a": 2}, place)
    assert artifacts.read_json("value.json") == {"a": 1}


def test_an_output_is_seen_by_its_own_stage_and_by_others_only_once_published(project: Project) -> None:
    artifacts.write_table(TABLE, artifacts.output("data/lake") / "part.parquet")
    assert not (project.folder / "data/lake").exists()
    assert len(artifacts.read_table("data/lake")) == 2
    artifacts.publish()
    assert (project.folder / "data/lake/part.parquet").exists()
    assert artifacts.pending("data/lake") == project.folder / "data/lake"


def test_publishing_replaces_a_folder_whole(project: Project) -> None:
    for name in ("first", "second"):
        artifacts.write_table(TABLE, artifacts.output("data/lake") / f"{name}.parquet")
        artifacts.publish()
    assert list(project.bytes("data")) == ["data/lake/second.parquet"]


def test_discarding_keeps_the_earlier_output(project: Project) -> None:
    artifacts.write_json({"kept": True}, artifacts.output("data/problem.json"))
    artifacts.publish()
    artifacts.write_json({"kept": False}, artifacts.output("data/problem.json"))
    artifacts.discard()
    assert artifacts.read_json("data/problem.json") == {"kept": True}
    assert list(project.bytes("data")) == ["data/problem.json"]


def test_opening_an_output_again_starts_it_empty(project: Project) -> None:
    artifacts.write_table(TABLE, artifacts.output("data/lake") / "left.parquet")
    artifacts.write_table(TABLE, artifacts.output("data/lake") / "right.parquet")
    artifacts.publish()
    assert list(project.bytes("data")) == ["data/lake/right.parquet"]


def test_a_missing_file_is_named_with_the_remedy(project: Project) -> None:
    with pytest.raises(DataError, match=r"data/problem.json: not found; run the stages before this one"):
        artifacts.read_json("data/problem.json")


def test_damaged_json_is_named(project: Project) -> None:
    artifacts.write_text("{", project.folder / "data/problem.json")
    with pytest.raises(DataError, match=r"data/problem.json: not valid JSON"):
        artifacts.read_json("data/problem.json")


def test_a_damaged_table_is_named(project: Project) -> None:
    artifacts.write_text("no parquet", project.folder / "data/lake/part.parquet")
    with pytest.raises(DataError, match=r"data/lake/part.parquet: damaged"):
        artifacts.read_table("data/lake")
    with pytest.raises(DataError, match=r"data/lake/part.parquet: damaged"):
        engine.read(engine.connect(), "data/lake")


def test_a_missing_column_is_named_with_those_found(project: Project) -> None:
    artifacts.write_table(TABLE, project.folder / "data/part.parquet")
    with pytest.raises(DataError, match=r"data/part.parquet: lacks c; found a, b"):
        artifacts.read_table("data/part.parquet", columns=["a", "c"])
    with pytest.raises(DataError, match=r"here: lacks c; found a, b"):
        artifacts.require(TABLE, ["b", "c"], "here")


def test_partitions_that_differ_in_their_columns_are_refused(project: Project) -> None:
    artifacts.write_table(TABLE, project.folder / "data/raw/1.parquet")
    artifacts.write_table(TABLE.assign(c=1), project.folder / "data/raw/2.parquet")
    with pytest.raises(DataError, match=r"data/raw: 2.parquet and 1.parquet differ in their columns: c"):
        engine.read(engine.connect(), "data/raw")


def test_an_empty_folder_is_no_table(project: Project) -> None:
    (project.folder / "data/lake").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no Parquet file"):
        artifacts.read_table("data/lake")


def test_the_same_table_gives_the_same_bytes(project: Project) -> None:
    for name in ("one", "two"):
        artifacts.write_table(TABLE.copy(), project.folder / f"{name}.parquet")
    assert artifacts.sha256(project.folder / "one.parquet") == artifacts.sha256(project.folder / "two.parquet")


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
