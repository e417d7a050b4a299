"""One definition, two engines: Spark gives what DuckDB gives, on every column of every table."""

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from bundles import lay_out, pack
from conftest import Project

from ninefold import artifacts, engine, features
from ninefold.collection import datetimes, numbers
from ninefold.collection import stage as collection
from ninefold.errors import DataError
from ninefold.features.events import asof_join, over_past
from ninefold.params import load
from ninefold.problem.statement import Problem
from ninefold.processing import ingest
from ninefold.processing import stage as processing
from ninefold.serving import batch

ROOT = Path(__file__).parents[2]
READY = importlib.util.find_spec("pyspark") is not None and (shutil.which("java") or os.environ.get("JAVA_HOME"))
SPARK = engine.Params(backend="pyspark", memory_limit="3GB", spark={"master": "local[2]"})
NUMBERS = [
    "12", " 12 ", "+5", "-5", ".5", "5.", "1e3", "1E-2", "2.0", "2.7", "1_000", "0x1F", "1,000", "--1", "+-1", "1d", "",
    "nan", "inf", "-Infinity", "1e400", "9223372036854775807", "9223372036854775808", "-0", "0012", "true",
    "(1.234,50)", "1,5-", "\u2212US$ 7", "1.234 zł", "45 %", "(5", "2:05 pm", "14h05", "1h 30m", "2 days 03:04:30", "-1 day, 23:59:00", "PT1,5H",
]  # fmt: skip
ENDS = ["T17:00", " 17:00:05", "T17:00:00.5Z", "T17:00:00+02:00", " 17:00-0530", " 24:00", " 1:5 UTC", " 1:5UTC"]
ENDS += [f" 1:5{end}" for end in ("Z", "+02", "-14", "+1400", ":7.123456789-03:30", "+0", " +01:00")]
TIMES = ["2013-9-3", "2013-02-30", "2013", "20130930", "2013/09/30", "13-09-30", "epoch", "infinity", "soon"]
TIMES += [f"2013-09-30{end}" for end in ("", *ENDS)]
WRITTEN = {
    "%d/%m/%Y %H:%M": ["30/09/2013 17:05", "3/9/2013 7:5", "31/09/2013 00:00"],
    "%Y%m%d": ["20130930", "2013093", "2013 930", " 20130930"],
    "%Y-%m-%d %H%M": ["2013-9-30 1705", "2013-09-30 905", "2013-09-30 2460"], "%Y%j": ["2013273", "201327"],
    "%b %d %Y": ["Sep 30 2013"], "%I:%M %p %d.%m.%Y": ["05:06 PM 30.09.2013"],
    "%Y-%m-%dT%H:%M:%S.%f": ["2013-09-30T17:00:00.5", "2013-09-30T17:00:00.123456"],
    "%Y-%m-%d %H:%M:%S%z": ["2013-09-30 17:00:00+02:00", "2013-09-30 17:00:00-0530"],
    "epoch_s": ["86400", "1.5", "x", "-1", "1e30"], "days": ["0", "15000.25"], "epoch_ns": ["1672531200000001000"], "filetime": ["133170919870000001", "-1"],
    "year": ["2013", "0", "10000", "1999.0", "1999.5"], "excel": ["44927", "44927.7083333333", "60", ""],
    "quarter": ["2013Q4", "2013-Q4", "Q4 2013", "4q13", "FY2019/Q3", "1Q69", "2013Q5", "Q1", "2003T1", "4. Quartal 2013"], "half_year": ["2013H2", "2013H3"],
    "term": ["2013-2014 T1", "S2 2013/14", "2013-2015 T1"], "iso - ...": ["2013-09-30 17:00 - 18:00", ""], "%d%m%Y": ["3092013", "30092013", "309013"],
    "iso_week": ["2013W40", "2013-W40", "2013-W40-3", "KW 7/2019", "2020-W53", "2019-W53", "2019-W00"],
    "%a %b %d %H:%M:%S %Y": ["Sun Jan  1 17:00:00 2023"], "%A, %d %B %Y": ["Monday, 30 September 2013"],
    "iso | %d/%m/%Y": ["2013-09-30", "30/09/2013", "soon"], "era": ["平成30年4月", "令和元年", "R5.4.1", "112/01/02", "1120102", "112/13/01"],
}  # fmt: skip

pytestmark = pytest.mark.skipif(
    not READY and not os.environ.get("CI"),
    reason="needs Spark and Java 17: make spark; apt install openjdk-17-jre-headless",
)


@pytest.fixture(scope="module", autouse=True)
def _stop() -> Iterator[None]:
    yield
    from pyspark.sql import SparkSession

    if session := SparkSession.getActiveSession():
        session.stop()


@pytest.fixture
def spark(project: Project) -> ibis.BaseBackend:
    return engine.connect(SPARK)


@pytest.fixture
def flights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stand in a copy of the project with the raw text of three months; return the problem."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(artifacts, "_pending", {})
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["collection"]["as_of"] = "2013-03-31"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    collected = load("collection")
    collection.collect(collected, collection.plan(collected), collection.verified_manifest())
    artifacts.publish()
    return Problem.of(load("problem"))


def run(connection: ibis.BaseBackend, problem: Problem) -> dict[str, pd.DataFrame]:
    processing.update(load("processing"), connection)
    artifacts.publish()
    wanted = features.declared(load("features"), problem)
    tables = features.read(connection, problem)
    events = features.build(tables, wanted, problem)
    features.update(tables, events, wanted, problem)
    artifacts.publish()
    data = artifacts.path("data")
    folders = [*data.glob("lake/*"), *data.glob("quarantine/[!R]*"), data / "features"]
    return {str(folder.relative_to(data)): artifacts.read_table(str(folder)) for folder in folders}


def test_both_engines_make_the_same_tables_of_the_same_params(flights: dict[str, Any]) -> None:
    mine = run(engine.local(), flights)
    for folder in ("lake", "quarantine", "features", "state"):
        shutil.rmtree(artifacts.path("data") / folder)
    others = run(engine.connect(SPARK), flights)
    assert mine.keys() == others.keys()
    assert len(mine["features"]) == 80_687  # by UTC: the last evening of March belongs to April
    for table, rows in mine.items():
        pd.testing.assert_frame_equal(rows, others[table], rtol=0, atol=1e-12, obj=table)


def test_texts_hold_the_same_values_on_both(spark: ibis.BaseBackend) -> None:
    found = []
    for connection in (engine.local(), spark):
        table = engine.table(connection, pd.DataFrame({"text": NUMBERS, "place": range(len(NUMBERS))}))
        text = table["text"]
        read = {"whole": numbers.whole_number(text), "real": numbers.number(text)}
        read["plain"] = numbers.plain_number(text, ",", ".")
        read |= {form: numbers.quantity(text, form, ",", ".") for form in numbers.FORMATS}
        parts = [table.select("place", **read).order_by("place").to_pandas()]
        for form, written in {"iso": TIMES, **WRITTEN}.items():
            table = engine.table(connection, pd.DataFrame({"text": written, "place": range(len(written))}))
            moments = table.select("place", moment=datetimes.parse(table["text"], form)).order_by("place").to_pandas()
            parts.append(moments.assign(moment=moments["moment"].astype("datetime64[us]")))
        found.append(parts)
    for mine, other in zip(*found, strict=True):
        pd.testing.assert_frame_equal(mine, other)


def test_a_format_that_spark_cannot_read_is_one_clear_message(spark: ibis.BaseBackend) -> None:
    table = engine.table(spark, pd.DataFrame({"text": ["40 2013"]}))
    with pytest.raises(DataError, match=r"%U %Y.*Spark cannot read %U.*engine.backend: duckdb"):
        datetimes.parse(table["text"], "%U %Y")


def minutes(values: np.ndarray) -> pd.Series:
    return pd.Series(pd.Timestamp("2020-01-01") + pd.to_timedelta(values, "m")).astype("datetime64[us]")


def test_the_newest_row_is_joined_the_same_on_both(spark: ibis.BaseBackend) -> None:
    chance = np.random.default_rng(1)
    left = pd.DataFrame({"k": chance.choice(["a", "b", "c"], 200), "n": range(200)})
    left["t"] = minutes(chance.integers(0, 5000, 200))
    right = pd.DataFrame({"rk": chance.choice(["a", "b"], 60), "v": chance.normal(size=60)})
    right["rt"] = minutes(chance.permutation(5000)[:60])
    found = []
    for connection in (engine.local(), spark):
        joined = asof_join(engine.table(connection, left), engine.table(connection, right), {"k": "rk"}, ("t", "rt"))
        found.append(joined.select("n", "v").order_by("n").to_pandas())
    pd.testing.assert_frame_equal(*found)
    by = {"left_on": "t", "right_on": "rt", "left_by": "k", "right_by": "rk"}
    wanted = pd.merge_asof(left.sort_values("t"), right.sort_values("rt"), **by)
    np.testing.assert_array_equal(found[0]["v"], wanted.sort_values("n")["v"])


@pytest.mark.parametrize(("kind", "unit"), [("Int64", 1), ("float64", 0.37)])
def test_windows_take_the_same_on_both(spark: ibis.BaseBackend, kind: str, unit: float) -> None:
    chance = np.random.default_rng(2)
    frame = pd.DataFrame({"k": chance.choice(["a", "b"], 300), "n": range(300), "v": chance.integers(-9, 9, 300)})
    frame["t"] = minutes(chance.integers(0, 9000, 300))
    frame["v"] = (frame["v"] * unit).astype(kind).mask(chance.random(300) < 0.1)
    found, ways = [], ("mean", "sum", "count", "min", "max", "std")
    window = (pd.Timedelta("30h"), pd.Timedelta("2h"))
    for connection in (engine.local(), spark):
        table = engine.table(connection, frame)
        taken = {how: over_past(table["v"], how, ["k"], table["t"], window).cast("float64") for how in ways}
        there = engine.local_time(table["t"], "America/New_York").cast("string")
        found.append(table.select("n", there=there, **taken).order_by("n").to_pandas())
    assert (found[0][[*ways]].notna().sum() > 100).all()
    pd.testing.assert_frame_equal(*found, rtol=0, atol=1e-12)


def test_files_that_land_are_taken_alike(project: Any, orders: Any, monkeypatch: Any) -> None:
    del project.params["collection"]["tables"]["customers"], project.params["processing"]["tables"]["customers"]
    project.set("collection.as_of", "2020-02-29")
    landing = project.folder / "in/orders"
    landing.mkdir(parents=True)
    orders.to_csv(landing / "a.csv", index=False)
    lakes = []
    for connection in (engine.connect(SPARK), engine.local()):
        monkeypatch.setattr(engine, "connect", lambda connection=connection: connection)
        ingest.run(project.folder / "in", follow=False, every=0.1)
        lakes.append(artifacts.read_table("data/stream/lake/orders"))
        shutil.rmtree(project.folder / "data")
    pd.testing.assert_frame_equal(*lakes)
    assert len(lakes[0]) == len(orders)


def test_a_batch_has_the_same_answers_and_errors_on_both(project: Project, tmp_path: Path) -> None:
    parts = lay_out()
    bundle, rows = pack(parts), parts["holdout"].assign(note='007, x"y', count=range(80))
    rows.loc[[3, 50], "customer"] = "zed"
    source, mine, other = tmp_path / "in", tmp_path / "mine.parquet", tmp_path / "other.parquet"
    for number, part in enumerate((rows[:30], rows[30:], rows[:0])):
        artifacts.write_table(part.drop(columns="rate_by_customer_7d"), source / f"period={number}/part-0.parquet")
    on_one = batch.predict(source, mine, bundle)
    # So that one process suffices.
    together = {"spark.sql.files.minPartitionNum": 1, "spark.sql.files.openCostInBytes": 1}
    session = {"master": "local[2]", "conf": together}
    project.set("engine", {"backend": "pyspark", "spark": session, "memory_limit": "3GB"})
    other.write_text("of yesterday")
    assert batch.predict(source, other, bundle) == {**on_one, "wrote": str(other)}
    assert on_one["warnings"] == {"customer": 2}
    found, wanted = (pq.read_table(place).sort_by("id") for place in (other, mine))
    pd.testing.assert_frame_equal(found.to_pandas(), wanted.to_pandas(), rtol=0, atol=1e-9)
    wrong = rows.assign(amount=rows["amount"].where(rows["id"] != rows["id"][55], np.inf))
    artifacts.write_table(wrong, tmp_path / "wrong.parquet")
    with pytest.raises(DataError, match=r"wrong\.parquet: row 55 .*, column 'amount': found inf, expected a finite"):
        batch.predict(tmp_path / "wrong.parquet", other, bundle)
    assert pq.read_table(other).num_rows == len(rows)
    assert not list(tmp_path.glob(".other*"))
    (other / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"is a folder that holds notes\.txt, expected Parquet files alone"):
        batch.predict(source, other, bundle)
