"""Two hundred spoilt raw files: each is refused with its place and a remedy, or its rows are quarantined; none crashes.

A shop delivers its orders month by month, into a folder, and has customers to which they refer. Each case spoils
one file in one way, drawn from its seed; stages 02 and 03 run up to their gates, as in the notebooks. Then the lake holds
the sound orders as they were, every one and value by value, and every other raw row is in quarantine under the rule
expected; or the message names what is expected to be named, and the lake is as it was before. What says the same in another
way, such as UTF-16 or other line ends, changes nothing.
"""

import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import corruptions as data
import pandas as pd
import pytest
from conftest import Project
from processing_runs import close, run_collection
from processing_runs import run as run_processing

from ninefold import artifacts, collection
from ninefold.errors import NinefoldError

REMEDY = re.compile("fix|fetch|set |drop|write|move|rename|give|lower|widen|convert|save|add |collect|take")


def shops_to_spoil() -> Iterator[Any]:
    together = [[case] for case in data.cases(data.MANY)]
    for form in data.FORMATS:
        few = [case for case in data.cases(data.FEW) if case[3] == form]
        together += [few[place : place + len(data.MONTHS)] for place in range(0, len(few), len(data.MONTHS))]
    for number, those in enumerate(together):
        yield pytest.param(number, those, id="+".join(f"{name}-{seed}" for name, _, seed, _ in those))


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return where the shop stands as it was before anything was spoilt, by format; nothing at first."""
    return {one: tmp_path_factory.mktemp("shops") / one for one in data.FORMATS}


@pytest.fixture
def shop(project: Project, shown: list[Any], monkeypatch: pytest.MonkeyPatch) -> Project:
    """Make the tiny project into the shop, without its files."""
    monkeypatch.setattr("ninefold.display.checks", lambda rows: None)
    project.set("collection.as_of", "2020-03-31")
    orders = {"time": "placed", "min_rows": data.LEAST}
    project.set("collection.tables", {"orders": orders, "customers": {"min_rows": 6}})
    project.set("processing.max_quarantined", 0.2)
    people = {name: {"type": "string"} for name in ("customer", "country", "city")}
    people["country"]["allowed"] = ["CH", "DE", "AT"]
    refers = [{"table": "customers", "by": ["customer"]}]
    contracts = {"orders": {"unique": ["id"], "references": refers, "columns": data.COLUMNS}}
    project.set("processing.tables", {**contracts, "customers": {"unique": ["customer"], "columns": people}})
    return project


def run() -> None:
    manifest = run_collection()
    collection.last_part(manifest, "orders")
    close(run_processing()[0])


def lake() -> dict[int, data.Row]:
    """Return the orders of the lake by their id, as they were before they were written."""
    rows = artifacts.read_table("data/lake/orders").to_dict("records")
    by_key = {row["id"]: {name: None if pd.isna(value) else value for name, value in row.items()} for row in rows}
    assert len(by_key) == len(rows)
    return by_key


def lay_out(shop: Project, form: str) -> None:
    folder = shop.folder / "data/source/orders"
    folder.mkdir(parents=True)
    (folder.parent / "customers.csv").write_bytes(data.as_csv(data.CUSTOMERS))
    for month, rows in data.ORDERS.items():
        (folder / f"{month}.{form}").write_bytes(data.WRITE[form](rows))
    run()
    assert lake() == data.SOUND


@pytest.mark.parametrize(("number", "together"), shops_to_spoil())
def test_a_spoilt_file_is_refused_or_its_rows_are_quarantined(
    shop: Project, shops: dict[str, Path], number: int, together: list[Any]
) -> None:
    form = together[0][3]
    if shops[form].exists():
        shutil.copytree(shops[form], shop.folder, dirs_exist_ok=True)
    else:
        lay_out(shop, form)
        shutil.copytree(shop.folder, shops[form])
    if number % 2:  # half of the files come to a shop that has no lake yet
        for name in ("raw", "lake", "quarantine", "state"):
            artifacts.remove(shop.folder / "data" / name)
    before, months = shop.bytes("data/lake"), data.MONTHS if len(together) > 1 else [None]
    outcomes = [data.apply(shop.folder, *case, month) for case, month in zip(together, months, strict=False)]
    expected = outcomes[0] if len(outcomes) == 1 else all_of(outcomes)
    if expected.refused is None and not too_many(expected):
        run()
        return compare(expected)
    with pytest.raises(NinefoldError) as error:
        run()
    message = str(error.value)
    assert shop.bytes("data/lake") == before
    assert REMEDY.search(message), message
    worst = f"`{max(expected.rules, key=expected.rules.get, default='')}` by"  # the rule that most rows broke
    assert [part for part in expected.refused or [worst] if part not in message] == [], message


def compare(expected: data.Expected) -> None:
    sound = {key: row for key, row in data.SOUND.items() if key not in expected.gone}
    assert lake() == sound
    quarantine = "data/quarantine/orders"
    there = any(artifacts.path(quarantine).rglob("*.parquet"))
    broken = artifacts.read_table(quarantine)["broken_rule"].tolist() if there else []
    assert Counter(broken) == expected.rules
    raw = sum(len(artifacts.read_table(f"data/raw/orders/{month}.parquet")) for month in data.MONTHS)
    assert raw == len(data.SOUND) + expected.raw == len(sound) + len(broken)


def all_of(outcomes: list[data.Expected]) -> data.Expected:
    gone, rules = set().union(*(one.gone for one in outcomes)), sum((one.rules for one in outcomes), Counter[str]())
    return data.Expected(gone=gone, raw=sum(one.raw for one in outcomes), rules=rules)


def too_many(expected: data.Expected) -> bool:
    """Return whether the gate of stage 03 refuses what is quarantined: a fifth of the rows is the most."""
    return expected.rules.total() > 0.2 * (len(data.SOUND) + len(data.CUSTOMERS) + expected.raw)
