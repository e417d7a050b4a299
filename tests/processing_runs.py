"""The tiny project's stage 03: its raw data, and a run of the stage up to its gate, or through it."""

from typing import Any

import pandas as pd
from conftest import Project, statement

from ninefold import artifacts, collection, engine, gate
from ninefold.params import load
from ninefold.processing import stage as processing

MADE = ("lake", "quarantine", "state")
CUSTOMERS = pd.DataFrame({"customer": ["ann", "bob"], "city": ["Bern", ""]})
PROBLEM = statement().changed(classes=["0", "1"], focus="1")


def collect(project: Project, orders: pd.DataFrame, customers: pd.DataFrame = CUSTOMERS) -> None:
    for month, rows in orders.groupby(orders["placed"].str[:7]):
        project.raw("orders", str(month), rows)
    project.raw("customers", "all", customers)


def run_collection() -> pd.DataFrame:
    """Run stage 02 through its gate; return the manifest."""
    params, kept = load("collection"), collection.verified_manifest()
    manifest = collection.collect(params, collection.missing(collection.plan(params), kept), kept)
    gate.close("collection", collection.checks(manifest, params), collection.metrics(manifest, params), "Done.")
    return manifest


def run() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Run the stage up to its gate; return where the rows went, and the rules that any of them broke."""
    params, connection = load("processing"), engine.connect()
    processing.check_problem(params, PROBLEM)
    counts = processing.update(params, connection)
    rules = processing.broken_rules(connection, params)
    return counts, rules[rules["rows"] > 0]


def close(counts: pd.DataFrame) -> None:
    params, connection = load("processing"), engine.connect()
    validation = processing.validate(connection, params)
    broken, newest = processing.broken_rules(connection, params), processing.newest(connection, params)
    checks = processing.checks(counts, validation, broken, params, newest=newest)
    gate.close("processing", checks, processing.metrics(counts, pd.Series()), "Done.")


def start_anew(project: Project) -> None:
    artifacts.discard()
    for name in MADE:
        artifacts.remove(project.folder / "data" / name)


def spoil(orders: pd.DataFrame, column: str, value: Any) -> pd.DataFrame:
    spoiled = orders.copy()
    spoiled.loc[1, column] = value
    return spoiled


def refer(project: Project, by: Any) -> None:
    project.set("processing.tables.orders.references", [{"table": "customers", "by": by}])


def lake_ids(where: str = "lake") -> list[int]:
    return artifacts.read_table(f"data/{where}/orders")["id"].tolist()


def made(project: Project) -> dict[str, bytes]:
    return {name: content for folder in MADE for name, content in project.bytes(f"data/{folder}").items()}


def advance() -> str:
    """Bring lake and quarantine up to the raw data, and publish them; return what was made and kept."""
    processing.update(load("processing"), engine.connect())
    artifacts.publish()
    return artifacts.path("reports/timings/03_processing.txt").read_text().strip()


def prove(project: Project) -> None:
    """Prove that lake and quarantine are what they would be if all was made from nothing, and that no row was lost."""
    before = made(project)
    start_anew(project)
    advance()
    assert made(project) == before
    for table in load("processing").tables:
        periods = [file.stem for file in engine.parts(f"data/raw/{table}")]
        assert engine.periods(f"data/lake/{table}") == periods
        assert set(engine.periods(f"data/quarantine/{table}")) <= set(periods)
        for period in periods:
            counts = [engine.count(f"data/{where}/{table}", period) for where in ("lake", "quarantine")]
            assert sum(counts) == len(artifacts.read_table(f"data/raw/{table}/{period}.parquet"))
