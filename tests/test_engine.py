"""The engine is chosen and set up by the params; what it lacks is one clear message."""

import sys
from typing import Any

import ibis.expr.operations as ops
import pandas as pd
import pytest
from conftest import Project

from ninefold import artifacts, engine, spark, timestamps
from ninefold.errors import ParamsError


def test_duckdb_is_the_default_within_the_limits_of_the_params_and_spills_what_is_beyond(project: Project) -> None:
    assert engine.connect().name == "duckdb"
    project.write("engine: {memory_limit: 512MB, threads: 1, temp_folder: spill}\n")
    settings = engine.connect().raw_sql("SELECT name, value FROM duckdb_settings()").df().set_index("name")["value"]
    spill = str(project.folder / "spill")
    assert settings[["memory_limit", "threads", "temp_directory"]].tolist() == ["488.2 MiB", "1", spill]
    project.write("engine: {memory_limit: 40MB, threads: 1, temp_folder: spill}\n")  # less than the next one takes
    connection = engine.connect()
    connection.raw_sql("CREATE TABLE wide AS SELECT range AS number, md5(range::VARCHAR) AS text FROM range(3000000)")
    table = connection.table("wide").order_by("text").cache()
    assert table.count().execute() == 3_000_000


def test_spark_or_java_that_is_not_installed_is_one_clear_message(project: Project, monkeypatch: Any) -> None:
    project.write("engine: {backend: pyspark}\n")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pyspark", None)
        with pytest.raises(ParamsError, match=r"found pyspark, which is not installed; .*engine.backend: duckdb"):
            engine.connect()
    pytest.importorskip("pyspark")
    monkeypatch.setenv("JAVA_HOME", str(project.folder / "nowhere"))
    with pytest.raises(ParamsError, match=r"needs Java 17 or newer; found none on JAVA_HOME .*nowhere.*apt install"):
        engine.connect()


def test_a_limit_is_told_to_java_in_megabytes() -> None:
    assert [spark.java_size(limit) for limit in ("4GB", "1.5 GiB", "512MB")] == ["4096m", "1536m", "512m"]


def test_a_partition_has_the_same_bytes_however_the_rows_came_and_keeps_columns_without_rows(project: Project) -> None:
    frame = pd.DataFrame({"id": range(3000), "text": [f"t{number % 7}" for number in range(3000)]})
    frame["@period"] = ["p" if number % 3 else "q" for number in range(3000)]
    found = []
    for rows in (frame, frame.sample(frac=1, random_state=1)):
        engine.write(engine.table(engine.local(), rows), artifacts.output("data/x"), ["id"], ["p", "q", "r"])
        place = artifacts.pending("data/x")
        found.append({str(file.relative_to(place)): file.read_bytes() for file in sorted(place.rglob("*.parquet"))})
    assert list(found[0]) == [f"period={period}/part-0.parquet" for period in "pqr"]
    assert found[0] == found[1]
    assert [engine.count("data/x", period) for period in engine.periods("data/x")] == [2000, 1000, 0]
    assert engine.read(engine.local(), "data/x").columns == ("id", "text")


def test_local_times_are_those_of_pandas_in_any_year_and_when_clocks_change() -> None:
    times = pd.Series(pd.date_range("1969-12-31 00:30", "2037-12-31", freq="4h").as_unit("us"), name="t")
    table = engine.local().create_table("times", times.to_frame())
    found = table.select("t", there=engine.local_time(table.t, "America/New_York")).order_by("t").to_pandas()["there"]
    pd.testing.assert_series_equal(found, timestamps.local(times, "America/New_York"), check_names=False)


def test_an_expression_that_gathers_rows_is_told_from_one_that_does_not() -> None:
    connection = engine.local()
    a = connection.create_table("a", pd.DataFrame({"x": [1], "y": [2.0]}))
    b = connection.create_table("b", pd.DataFrame({"x": [1], "z": [3.0]}))
    own = engine.reads(a)
    sql = ops.SQLStringView(parent=a.op(), query="SELECT max(x) AS x, 1.0 AS y FROM a", schema=a.schema())
    means = b.group_by("x").agg(m=b.z.mean())
    by_row = [a.mutate(q=a.y * 2), a.left_join(b, "x"), a.left_join(means, "x"), a.filter(a.y > 0)]
    gathered = [a.mutate(q=a.y.mean().over()), a.distinct(), a.order_by("x").limit(1), a.union(a)]
    gathered += [a.left_join(a.view(), "x"), a.left_join(a.group_by("x").agg(m=a.y.mean()), "x")]
    gathered += [a.filter(a.y > a.y.mean()), sql.to_expr()]
    assert [engine.row_by_row(one, own) for one in by_row] == [True] * len(by_row)
    assert [engine.row_by_row(one, own) for one in gathered] == [False] * len(gathered)
