from __future__ import annotations

import os

import pandas as pd
import pytest
from conftest import Project

from ninefold.core import engine, io
from ninefold.core.errors import DataError

TABLE = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})


def test_a_write_that_fails_leaves_the_earlier_file_whole(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    place = project.folder / "value.json"
    io.write_json({"a": 1}, place)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        io.write_json({"a": 2}, place)
    assert io.read_json("value.json") == {"a": 1}


def test_an_output_is_seen_by_its_own_stage_and_by_others_only_once_published(project: Project) -> None:
    io.write_table(TABLE, io.output("data/lake") / "part.parquet")
    assert not (project.folder / "data/lake").exists()
    assert len(io.read_table("data/lake")) == 2
    io.publish()
    assert (project.folder / "data/lake/part.parquet").exists()
    assert io.pending("data/lake") == project.folder / "data/lake"


def test_publishing_replaces_a_folder_whole(project: Project) -> None:
    for name in ("first", "second"):
        io.write_table(TABLE, io.output("data/lake") / f"{name}.parquet")
        io.publish()
    assert list(project.bytes("data")) == ["data/lake/second.parquet"]


def test_discarding_keeps_the_earlier_output(project: Project) -> None:
    io.write_json({"kept": True}, io.output("data/problem.json"))
    io.publish()
    io.write_json({"kept": False}, io.output("data/problem.json"))
    io.discard()
    assert io.read_json("data/problem.json") == {"kept": True}
    assert list(project.bytes("data")) == ["data/problem.json"]


def test_opening_an_output_again_starts_it_empty(project: Project) -> None:
    io.write_table(TABLE, io.output("data/lake") / "left.parquet")
    io.write_table(TABLE, io.output("data/lake") / "right.parquet")
    io.publish()
    assert list(project.bytes("data")) == ["data/lake/right.parquet"]


def test_a_missing_file_is_named_with_the_remedy(project: Project) -> None:
    with pytest.raises(DataError, match=r"data/problem.json: not found; run the stages before this one"):
        io.read_json("data/problem.json")


def test_damaged_json_is_named(project: Project) -> None:
    io.write_text("{", project.folder / "data/problem.json")
    with pytest.raises(DataError, match=r"data/problem.json: not valid JSON"):
        io.read_json("data/problem.json")


def test_a_damaged_table_is_named(project: Project) -> None:
    io.write_text("no parquet", project.folder / "data/lake/part.parquet")
    with pytest.raises(DataError, match=r"data/lake/part.parquet: damaged"):
        io.read_table("data/lake")
    with pytest.raises(DataError, match=r"data/lake/part.parquet: damaged"):
        engine.read(engine.connect(), "data/lake")


def test_a_missing_column_is_named_with_those_found(project: Project) -> None:
    io.write_table(TABLE, project.folder / "data/part.parquet")
    with pytest.raises(DataError, match=r"data/part.parquet: lacks c; found a, b"):
        io.read_table("data/part.parquet", columns=["a", "c"])
    with pytest.raises(DataError, match=r"here: lacks c; found a, b"):
        io.require(TABLE, ["b", "c"], "here")


def test_partitions_that_differ_in_their_columns_are_refused(project: Project) -> None:
    io.write_table(TABLE, project.folder / "data/raw/1.parquet")
    io.write_table(TABLE.assign(c=1), project.folder / "data/raw/2.parquet")
    with pytest.raises(DataError, match=r"data/raw: 2.parquet and 1.parquet differ in their columns: c"):
        engine.read(engine.connect(), "data/raw")


def test_an_empty_folder_is_no_table(project: Project) -> None:
    (project.folder / "data/lake").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no Parquet file"):
        io.read_table("data/lake")


def test_the_same_table_gives_the_same_bytes(project: Project) -> None:
    for name in ("one", "two"):
        io.write_table(TABLE.copy(), project.folder / f"{name}.parquet")
    assert io.sha256(project.folder / "one.parquet") == io.sha256(project.folder / "two.parquet")
