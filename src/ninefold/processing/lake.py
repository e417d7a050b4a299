"""A lake kept up to its raw partitions: what these made before is kept, and only the rest is made.

Each partition of the lake, and of the quarantine, is made of the raw partition of the same name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir

from ninefold import artifacts, engine, hooks, timestamps
from ninefold.collection import datetimes, numbers
from ninefold.collection import files as places
from ninefold.engine import PERIOD, ROW
from ninefold.errors import DataError
from ninefold.processing import contract as contracts
from ninefold.processing.contract import RULE, Contract

BATCH = 2_000_000  # raw rows that are judged at once


@dataclass(frozen=True)
class Places:
    """Where raw partitions, lake, quarantine, and what is noted of them lie; tables that one lacks may lie in `beside`."""

    raw: str
    lake: str
    quarantine: str
    state: str
    beside: Places | None = None


@dataclass
class Lake:
    """One run: `raw` are the SHA-256 of the raw partitions, by table and period; `code` tells what else decides.

    `give_types` takes all raw tables and gives them their types, `derive` what that returned, and the raw tables.
    """

    places: Places
    tables: dict[str, Contract]
    raw: dict[str, dict[str, str]]
    give_types: Callable[[dict[str, ir.Table]], dict[str, ir.Table]]
    derive: Callable[[dict[str, ir.Table], dict[str, ir.Table]], dict[str, ir.Table]]
    code: list[Any]
    connection: ibis.BaseBackend
    state: dict[str, Any] = field(default_factory=dict)

    def update(self) -> int:
        """Bring lake and quarantine up to the raw partitions; return how many partitions were made.

        Made again are the partitions whose raw text, contract, code or engine changed, and those that a change elsewhere
        concerns: by a key that they share, or a reference. The result is the same as if all had been made anew.
        """
        before = self._before()
        artifacts.output(self.places.lake).mkdir()
        # Never empty, of which DVC would warn at every run.
        note = "Rows that broke their contract, each with the first rule it broke.\n"
        artifacts.write_text(note, artifacts.output(self.places.quarantine) / "README.txt")
        made = [len(self._bring_up(name, before)) for name in contracts.in_order(self.tables) if name in self.raw]
        state = {"tables": {name: self.state[name] for name in self.tables if name in self.state}}
        artifacts.write_json(state, artifacts.output(self.places.state))
        return sum(made)

    def _bring_up(self, name: str, before: dict[str, Any]) -> list[str]:
        """Bring one table up to its raw partitions; return those that were made."""
        contract, raw, old = self.tables[name], self.raw[name], before.get(name, {"periods": {}})
        recipe, by_row = self._recipe(name)
        kept = {
            period: part
            for period, part in old["periods"].items()
            if old.get("recipe") == recipe and raw.get(period) == part["raw"]
        }
        for reference in contract.references:
            for period in self._concerned_by(reference, name, list(kept), before):
                kept.pop(period)
        gone = [period for period in old["periods"] if period not in raw]
        for period in self._sharing_keys(name, gone, list(kept)):
            kept.pop(period)
        if not by_row and not kept.keys() == raw.keys() == old["periods"].keys():
            kept = {}  # rows of one partition may depend on any other
        engine.carry(f"{self.places.lake}/{name}", kept)
        engine.carry(f"{self.places.quarantine}/{name}", kept)
        made: list[str] = []
        while todo := sorted(set(raw) - set(kept) - set(made)):
            batch = self._batch(name, todo, list(kept)) if by_row else todo
            self._make(name, batch)
            made += batch
            for period in self._sharing_keys(name, batch, [one for one in kept if one > batch[0]]):
                kept.pop(period)
                for output in (self.places.lake, self.places.quarantine):
                    artifacts.remove(artifacts.pending(f"{output}/{name}") / f"period={period}")
        notes = {
            period: kept.get(period) or self._note(name, period, raw[period], artifacts.pending)
            for period in sorted(raw)
        }
        self.state[name] = {"recipe": recipe, "periods": notes}
        return made

    def _make(self, name: str, periods: list[str]) -> None:
        """Judge some raw partitions of a table, and write them."""
        contract, lake = self.tables[name], f"{self.places.lake}/{name}"
        raw = {other: self._raw(other) for other in self.tables if other != name}
        files = [artifacts.pending(self.places.raw) / name / f"{period}.parquet" for period in periods]
        raw[name] = engine.scan(self.connection, files, numbered=True)
        typed = engine.settle(self.derive(self.give_types(raw), raw)[name])
        others = {one.table: self._sound(one.table) for one in contract.references}
        before = [period for period in engine.periods(lake) if period < periods[0]]
        earlier = engine.read(self.connection, lake, before) if before else None
        judged = engine.keep(contracts.judge(typed, contract, others, earlier))
        good = judged.filter(judged[RULE].isnull()).select(*contract.columns, PERIOD)
        engine.write(good, artifacts.pending(lake), contract.unique, periods)
        bad = judged.filter(judged[RULE].notnull())
        if broken := sorted(bad[[PERIOD]].distinct().to_pandas()[PERIOD]):
            origin = {"raw_period": bad[PERIOD], "raw_row": bad[ROW].cast("int64") + 1}
            bad = bad.select(*contract.columns, RULE, PERIOD, **origin)
            engine.write(bad, artifacts.pending(f"{self.places.quarantine}/{name}"), [RULE, "raw_row"], broken)

    def _batch(self, name: str, todo: list[str], kept: list[str]) -> list[str]:
        """Return the first partitions to be made at once: as many as hold `BATCH` raw rows, with no kept one among them."""
        rows = 0
        for number, period in enumerate(todo):
            rows += artifacts.parquet_metadata(artifacts.pending(self.places.raw) / name / f"{period}.parquet").num_rows
            if number and (rows > BATCH or any(todo[0] < other < period for other in kept)):
                return todo[:number]
        return todo

    def _raw(self, name: str) -> ir.Table:
        """Return the whole raw table, numbered."""
        where = self.places.raw if name in self.raw or not self.places.beside else self.places.beside.raw
        return engine.read(self.connection, f"{where}/{name}", numbered=True)

    def _sound(self, name: str) -> ir.Table:
        """Return the whole table of the lake."""
        where = self.places.lake if name in self.raw or not self.places.beside else self.places.beside.lake
        return engine.read(self.connection, f"{where}/{name}")

    @cached_property
    def _whole(self) -> tuple[dict[str, set[str]], dict[str, ir.Table]]:
        """Return what each whole typed table reads, and the tables derived of them: to look into, not to compute."""
        tables = {name: self._raw(name) for name in self.tables}
        typed = self.give_types(tables)
        return {name: engine.reads(table) for name, table in typed.items()}, self.derive(typed, tables)

    def _recipe(self, name: str) -> tuple[str, bool]:
        """Return what decides on a table's partitions beside their raw text, and whether each row is made of one alone."""
        leaves, derived = self._whole
        read = engine.reads(derived[name])
        others = [other for other in self.tables if other != name and leaves[other] & read]
        problem = {
            "contract": self.tables[name].model_dump(mode="json"),
            "engine": engine.identity(self.connection),
            "code": [
                hooks.digest(Lake, contracts, *engine.modules(self.connection), timestamps, datetimes, numbers),
                *self.code,
            ],
            "reads": {other: self.raw.get(other) or self._beside("raw", other) for other in others},
            "refers": {
                one.table: self._beside("lake", one.table)
                for one in self.tables[name].references
                if one.table not in self.raw
            },
        }
        text = json.dumps(problem, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16], engine.row_by_row(derived[name], leaves[name])

    def _beside(self, kind: str, name: str) -> list[Any]:
        """Return what tells the state of a table that lies beside: of its files, which are replaced and never changed."""
        files = engine.parts(f"{getattr(self.places.beside, kind)}/{name}") if self.places.beside else []
        return [[file.name, file.parent.name, *places.state_of(file)] for file in files]

    def _before(self) -> dict[str, Any]:
        """Return what the last run noted of each table, if lake and quarantine still are as it left them; else nothing."""
        try:
            tables = (artifacts.published(self.places.state) or {"tables": {}})["tables"]
            intact = all(
                part == self._note(name, period, part["raw"], artifacts.path)
                for name, table in tables.items()
                for period, part in table["periods"].items()
            )
        except (DataError, TypeError, KeyError, AttributeError):  # not what a run writes
            return {}
        return tables if intact else {}

    def _note(self, name: str, period: str, raw: str, at: Callable[[str], Path]) -> dict[str, str]:
        """Return of what a partition was made, and what was made."""
        made = {"lake": self.places.lake, "quarantine": self.places.quarantine}
        return {"raw": raw, **{key: engine.fingerprint(at(f"{to}/{name}"), period) for key, to in made.items()}}

    def _concerned_by(
        self, reference: contracts.Reference, name: str, kept: list[str], before: dict[str, Any]
    ) -> list[str]:
        """Return the kept partitions in which a reference may hold no longer, or may hold now."""
        other = reference.table
        if not kept or before.get(other) == self.state.get(other):
            return []
        if other not in before or not (old := engine.parts(artifacts.path(f"{self.places.lake}/{other}"))):
            return kept
        keys = reference.keys()
        was = engine.scan(self.connection, old).select(*keys.values()).distinct()
        now = self._sound(other).select(*keys.values()).distinct()
        lost = was.anti_join(now, list(keys.values()))
        found = set(self._with_keys(self._last(self.places.lake, name, kept), lost, keys))
        rows = self._last(self.places.quarantine, name, kept)
        if rows is not None:
            rules = list(self.tables[name].rules())
            later = rules[rules.index(reference.rule()) + 1 :]  # which a row only breaks where this one holds
            found |= set(self._with_keys(rows.filter(rows[RULE] == reference.rule()), now, keys))
            found |= set(self._with_keys(rows.filter(rows[RULE].isin(later)), lost, keys))
        return sorted(found)

    def _sharing_keys(self, name: str, changed: list[str], later: list[str]) -> list[str]:
        """Return the later partitions that hold a key which changed partitions held and hold no longer, or hold now."""
        later = [period for period in later if changed and period > min(changed)]
        if not later:
            return []
        contract, lake = self.tables[name], f"{self.places.lake}/{name}"
        keys = {key: key for key in contract.unique}
        was = [file for period in changed for file in engine.parts(artifacts.path(lake), period)]
        now = [file for period in changed for file in engine.parts(lake, period)]
        old, new = (engine.scan(self.connection, files).select(*keys) if files else None for files in (was, now))
        found: set[str] = set()
        if new is not None:
            added = new if old is None else new.anti_join(old, self._both(new, old, contract))
            found |= set(self._with_keys(self._last(self.places.lake, name, later), added, keys))
        rows = self._last(self.places.quarantine, name, later)
        if old is not None and rows is not None:
            removed = old if new is None else old.anti_join(new, self._both(old, new, contract))
            found |= set(self._with_keys(rows.filter(rows[RULE] == contract.uniqueness()), removed, keys))
        return sorted(found)

    def _last(self, where: str, name: str, periods: Iterable[str]) -> ir.Table | None:
        """Return partitions of the last run, numbered; None if there is no file."""
        files = [file for period in periods for file in engine.parts(artifacts.path(f"{where}/{name}"), period)]
        return engine.scan(self.connection, files, numbered=True) if files else None

    @staticmethod
    def _both(one: ir.Table, other: ir.Table, contract: Contract) -> list[ir.BooleanValue]:
        return [contracts.same(one[key], other[key], contract.columns[key].nullable) for key in contract.unique]

    @staticmethod
    def _with_keys(rows: ir.Table | None, other: ir.Table, keys: dict[str, str]) -> list[str]:
        """Return the partitions of the rows whose key the other table has."""
        if rows is None:
            return []
        theirs = other.select(**{f"@ {one}": other[one] for one in keys.values()}).distinct()
        same = [contracts.same(rows[mine], theirs[f"@ {one}"]) for mine, one in keys.items()]
        return sorted(rows.semi_join(theirs, same)[[PERIOD]].distinct().to_pandas()[PERIOD])
