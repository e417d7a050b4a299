"""Whatever arrives in whatever order, the lake made by parts is the lake made at once, and the one that plain Python makes."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Project
from processing_runs import advance, prove

from ninefold import engine
from ninefold.processing import lake


class Shop:
    """A shop whose months arrive in any order, are corrected, and vanish; its orders and payments refer to each other.

    What ought to become of each row is told by plain Python, row by row, with no engine.
    """

    def __init__(self, project: Project, seed: int) -> None:
        self.project, self.draw = project, np.random.default_rng(seed)
        self.raw: dict[str, dict[str, pd.DataFrame]] = {"payments": {}, "orders": {}, "customers": {}}
        text, whole = {"type": "string"}, {"type": "int64"}
        gaps = {"type": "string", "nullable": True}
        people = [{"table": "customers", "by": by} for by in (["customer"], {"giver": "customer"})]
        tables = {  # each refers to one further down, so that they cannot be made in this order
            "payments": {
                "unique": ["order", "part"],
                "references": [{"table": "orders", "by": {"order": "id", "by": "customer"}}],
                "columns": {"order": {**whole, "nullable": True}, "part": gaps, "by": gaps},
            },
            "orders": {
                "unique": ["id"],
                "references": people,
                "columns": {"id": whole, "customer": text, "giver": gaps, "amount": {"type": "float64", "min": 0}},
            },
            "customers": {"unique": ["customer"], "columns": {"customer": text, "age": {**whole, "min": 0}}},
        }
        project.set("processing", {"missing": ["", "NA"], "max_quarantined": 1, "tables": tables})
        self.arrive("customers", "all")
        for number in self.draw.permutation(range(1, 6)):
            for table in ("orders", "payments") if number % 2 else ("orders",):
                self.arrive(table, f"2020-{number:02}")

    def month(self) -> str:
        return f"2020-{self.draw.integers(1, 7):02}"

    def of(self, values: str, size: int) -> list[str]:
        return ["" if value == "_" else value for value in self.draw.choice(list(values), size)]

    def arrive(self, table: str, period: str) -> None:
        """Let one month of a table arrive: the same as before, a correction, or for the first time."""
        size = int(self.draw.integers(0, 5))
        if table == "customers":
            rows = {"customer": self.of("abcdeabcde_", 6), "age": self.of("1234567x_", 6)}
        elif table == "orders":
            people = {"customer": self.of("abcdeabcdef_", size), "giver": self.of("abc___", size)}
            numbers = [str(number) for number in self.draw.integers(1, 10, size)]
            rows = {"id": numbers, **people, "amount": self.of("12345678x", size)}
        else:
            numbers = [str(number) for number in self.draw.integers(1, 10, size)]
            rows = {"order": numbers, "part": self.of("xy__", size), "by": self.of("abc__", size)}
        self.raw[table][period] = pd.DataFrame(rows, dtype="str")
        self.project.raw(table, period, self.raw[table][period])

    def change(self) -> None:
        for _ in range(self.draw.integers(0, 3)):
            table = str(self.draw.choice(["orders", "orders", "payments", "customers"]))
            months = sorted(self.raw[table])
            if table == "customers":
                self.arrive(table, "all")
            elif self.draw.random() < 0.2 and len(months) > 1:
                gone = str(self.draw.choice(months))
                del self.raw[table][gone]
                (self.project.folder / f"data/raw/{table}/{gone}.parquet").unlink()
            else:
                self.arrive(table, str(self.draw.choice(months)) if self.draw.random() < 0.3 else self.month())

    def expected(self) -> dict[tuple[str, str, int], str]:
        """Return which rule each row breaks, none being empty; by table, month and number of the row."""
        result: dict[tuple[str, str, int], str] = {}
        people, taken, paid = set[str](), dict[str, str](), set[tuple[str, str]]()
        for place, row in self.rows("customers"):
            broken = {
                "age: not int64": row["age"] == "x",
                "customer: missing": not row["customer"],
                "age: missing": not row["age"],
                "unique: customer": row["customer"] in people,
            }
            result[place] = first_of(broken)
            people |= set() if result[place] else {row["customer"]}
        for place, row in self.rows("orders"):
            broken = {
                "amount: not float64": row["amount"] == "x",
                "customer: missing": not row["customer"],
                "customer: not in customers": row["customer"] not in people,
                "giver: not in customers": row["giver"] not in {"", *people},
                "unique: id": row["id"] in taken,
            }
            result[place] = first_of(broken)
            taken |= {} if result[place] else {row["id"]: row["customer"]}
        for place, row in self.rows("payments"):
            lost = bool(row["by"]) and taken.get(row["order"]) != row["by"]
            key = (row["order"], row["part"])
            result[place] = first_of({"order, by: not in orders": lost, "unique: order, part": key in paid})
            paid |= set() if result[place] else {key}
        return result

    def rows(self, table: str) -> Iterator[tuple[tuple[str, str, int], dict[str, str]]]:
        for period in sorted(self.raw[table]):
            for number, row in enumerate(self.raw[table][period].to_dict("records"), start=1):
                yield (table, period, number), row

    def quarantined(self) -> dict[tuple[str, str, int], str]:
        """Return the same of the quarantine, as it was made."""
        files = [(table, file) for table in self.raw for file in engine.parts(f"data/quarantine/{table}")]
        rows = [(table, row) for table, file in files for row in pd.read_parquet(file).itertuples()]
        return {(table, row.raw_period, row.raw_row): row.broken_rule for table, row in rows}


def first_of(broken: dict[str, bool]) -> str:
    return next((rule for rule, breaks in broken.items() if breaks), "")


@pytest.mark.parametrize("seed", range(25))
def test_whatever_arrives_in_whatever_order_parts_equal_the_whole(project: Any, seed: int, monkeypatch: Any) -> None:
    shop = Shop(project, seed)
    for step in range(3):
        if step:
            shop.change()
        monkeypatch.setattr(lake, "BATCH", int(shop.draw.choice([3, 1000])))
        advance()
        expected = shop.expected()
        assert shop.quarantined() == {place: rule for place, rule in expected.items() if rule}
        for table in shop.raw:
            sound = sum(not rule for (name, _, _), rule in expected.items() if name == table)
            assert engine.count(f"data/lake/{table}") == sound
        if step:
            monkeypatch.setattr(lake, "BATCH", int(shop.draw.choice([3, 1000])))
            prove(project)
