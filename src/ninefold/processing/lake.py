"""A lake kept up to its raw partitions: what these made before is kept, and only the rest is made.

Each partition of the lake, and of the quarantine, is made of the raw partition of the same name.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import ibis
import ibis.expr.types as ir
import pandas as pd

from ninefold import artifacts, engine, hooks, lineage, timestamps
from ninefold.collection import datetimes, numbers
from ninefold.collection import files as places
from ninefold.engine import PERIOD, ROW
from ninefold.errors import DataError
from ninefold.processing import contract as contracts
from ninefold.processing.contract import RULE, Params, Reference, Tables
from ninefold.sentences import render

BATCH = 2_000_000  # raw rows that are judged at once
Rows: TypeAlias = ir.Table | None


@dataclass(frozen=True)
class Places:
    """Where raw partitions, lake, quarantine, and what is noted of them lie; tables that one lacks may lie in `beside`."""

    raw: str
    lake: str
    quarantine: str
    state: str
    beside: "Places | None" = None

    def outputs(self, name: str) -> list[str]:
        """Return the folders of a table in lake and quarantine."""
        return [f"{self.lake}/{name}", f"{self.quarantine}/{name}"]

    def counts(self, tables: Iterable[str]) -> pd.DataFrame:
        """Return the rows of each table (int64): ``table``, ``raw``, ``lake``, ``quarantine``."""
        kinds = (self.raw, self.lake, self.quarantine)
        rows = [(name, *(engine.count(f"{kind}/{name}") for kind in kinds)) for name in tables]
        return pd.DataFrame(rows, columns=["table", "raw", "lake", "quarantine"])


def derive(raw: Tables, params: Params) -> tuple[Tables, Tables]:
    """Return the typed tables, and what ``project.processing.refine`` makes of them; `DataError` if a column lacks."""
    typed = {name: contracts.convert(raw[name], params.tables[name], params.missing) for name in params.tables}
    try:
        refined = _refine()(typed)
    except (AttributeError, KeyError, ibis.IbisError) as error:
        known = "; ".join(f"{name}: {', '.join(engine.columns(table))}" for name, table in raw.items())
        raise DataError(f"project.processing.refine: {error} not found; the raw tables have {known}") from None
    for name, contract in params.tables.items():
        columns = refined[name].columns if name in refined else ()
        if lost := [column for column in contract.columns if column not in columns]:
            raise DataError(render("processing", "lacks", table=name, lost=lost, columns=engine.columns(raw[name])))
        if lost := [column for column in (RULE, ROW, PERIOD) if column not in columns]:
            state = f"{name} lost {', '.join(lost)}, by which rows are told apart"
            raise DataError(f"project.processing.refine: {state}; add columns, as `mutate` does, and take none away")
    return typed, refined


def _refine() -> Callable[[Tables], Tables]:
    return hooks.project("processing", "refine", lambda tables: tables)


@dataclass
class Lake:
    """One run: `raw` are the SHA-256 of the raw partitions, by table and period."""

    places: Places
    raw: dict[str, dict[str, str]]
    params: Params
    connection: ibis.BaseBackend
    state: dict[str, Any] = field(default_factory=dict)

    def update(self) -> int:
        """Bring lake and quarantine up to the raw partitions; return how many partitions were made.

        Made again are the partitions whose raw text, contract, code or engine changed, and those that a change elsewhere
        concerns: by a key that they share, or a reference. The result is the same as if all had been made again.
        """
        before = self._before()
        artifacts.output(self.places.lake).mkdir()
        # Never empty, of which DVC would warn at every run.
        note = "Rows that broke their contract, each with the first rule it broke.\n"
        artifacts.write_text(note, artifacts.output(self.places.quarantine) / "README.txt")
        updated = [self._bring_up(name, before) for name in contracts.in_order(self.params.tables) if name in self.raw]
        artifacts.write_json({"tables": self.state}, artifacts.output(self.places.state))
        return sum(updated)

    def _bring_up(self, name: str, before: dict[str, Any]) -> int:
        """Bring one table up to its raw partitions; return how many were made."""
        raw, old = self.raw[name], before.get(name, {"periods": {}})
        recipe, by_row = self._recipe(name)
        is_same = old.get("recipe") == recipe
        unchanged = {one: part for one, part in old["periods"].items() if is_same and raw.get(one) == part["raw"]}
        stale = self._sharing_keys(name, [one for one in old["periods"] if one not in raw], unchanged)
        for reference in self.params.tables[name].references:
            stale |= self._concerned_by(reference, name, list(unchanged), before)
        unchanged = {one: part for one, part in unchanged.items() if one not in stale}
        if not by_row and not unchanged.keys() == raw.keys() == old["periods"].keys():
            unchanged = {}  # rows of one partition may depend on any other
        for output in self.places.outputs(name):
            engine.carry(output, unchanged)
        updated: list[str] = []
        while todo := sorted(set(raw) - set(unchanged) - set(updated)):
            batch = self._batch(name, todo, list(unchanged)) if by_row else todo
            self._make(name, batch)
            updated += batch
            again = self._sharing_keys(name, batch, unchanged)
            unchanged = {one: part for one, part in unchanged.items() if one not in again}
            for output in self.places.outputs(name):
                for period in again:
                    artifacts.remove(artifacts.pending(f"{output}/period={period}"))
        periods = {one: unchanged.get(one) or self._note(name, one, raw[one], artifacts.pending) for one in sorted(raw)}
        self.state[name] = {"recipe": recipe, "periods": periods}
        return len(updated)

    def _make(self, name: str, periods: list[str]) -> None:
        """Judge some raw partitions of a table, and write them."""
        contract, (lake, quarantine) = self.params.tables[name], self.places.outputs(name)
        raw = {other: self._whole("raw", other) for other in self.params.tables if other != name}
        raw[name] = engine.scan(self.connection, [self._raw_file(name, period) for period in periods], numbered=True)
        typed = engine.settle(derive(raw, self.params)[1][name])
        others = {one.table: self._whole("lake", one.table) for one in contract.references}
        before = [period for period in engine.periods(lake) if period < periods[0]]
        earlier = self._scan(artifacts.pending(lake), before)
        checked = contracts.judge(typed, contract, others, earlier).cache()
        good = checked.filter(checked[RULE].isnull()).select(*contract.columns, PERIOD)
        engine.write(good, artifacts.pending(lake), contract.unique, periods)
        bad = checked.filter(checked[RULE].notnull())
        if broken := sorted(bad[[PERIOD]].distinct().to_pandas()[PERIOD]):
            origin = {"raw_period": bad[PERIOD], "raw_row": bad[ROW].cast("int64") + 1}
            bad = bad.select(*contract.columns, RULE, PERIOD, **origin)
            engine.write(bad, artifacts.pending(quarantine), [RULE, "raw_row"], broken)

    def _batch(self, name: str, todo: list[str], unchanged: list[str]) -> list[str]:
        """Return the first partitions to be made at once: as many as hold `BATCH` raw rows, with no kept one among them."""
        rows = 0
        for number, period in enumerate(todo):
            rows += artifacts.parquet_metadata(self._raw_file(name, period)).num_rows
            if number and (rows > BATCH or any(todo[0] < other < period for other in unchanged)):
                return todo[:number]
        return todo

    def _raw_file(self, name: str, period: str) -> Path:
        return artifacts.pending(self.places.raw) / name / f"{period}.parquet"

    def _whole(self, kind: str, name: str) -> ir.Table:
        """Return a whole table, raw (numbered) or of the lake."""
        place = self.places if name in self.raw or not self.places.beside else self.places.beside
        return engine.read(self.connection, f"{getattr(place, kind)}/{name}", numbered=kind == "raw")

    @cached_property
    def _derived(self) -> tuple[dict[str, set[str]], Tables]:
        """Return what each whole typed table reads, and the tables derived of them: to look into, not to compute."""
        typed, derived = derive({name: self._whole("raw", name) for name in self.params.tables}, self.params)
        return {name: engine.reads(table) for name, table in typed.items()}, derived

    def _recipe(self, name: str) -> tuple[str, bool]:
        """Return what decides on a table's partitions beside their raw text, and whether each row is made of one alone."""
        leaves, derived = self._derived
        read, contract = engine.reads(derived[name]), self.params.tables[name]
        others = [other for other in self.params.tables if other != name and leaves[other] & read]
        outside = [one.table for one in contract.references if one.table not in self.raw]
        recipe = {
            "contract": contract.model_dump(mode="json"),
            "missing": self.params.missing,
            "engine": engine.identity(self.connection),
            "code": hooks.digest(Lake, contracts, timestamps, datetimes, numbers, _refine()),
            "reads": {other: self.raw.get(other) or self._beside("raw", other) for other in others},
            "refers": {other: self._beside("lake", other) for other in outside},
        }
        return lineage.of_values(recipe), engine.row_by_row(derived[name], leaves[name])

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
        lake, quarantine = (engine.fingerprint(at(place), period) for place in self.places.outputs(name))
        return {"raw": raw, "lake": lake, "quarantine": quarantine}

    def _concerned_by(self, reference: Reference, name: str, unchanged: list[str], before: dict[str, Any]) -> set[str]:
        """Return the unchanged partitions in which a reference may hold no longer, or may hold now."""
        other, keys = reference.table, reference.keys()
        if not unchanged or before.get(other) == self.state.get(other):
            return set()
        files = engine.parts(artifacts.path(f"{self.places.lake}/{other}"))
        if other not in before or not files:
            return set(unchanged)
        now = self._whole("lake", other).select(*dict.fromkeys(keys.values())).distinct()
        was = engine.scan(self.connection, files).select(*now.columns).distinct()
        return self._stale(name, unchanged, reference.rule(), keys, [was.anti_join(now, now.columns), now])

    def _sharing_keys(self, name: str, changed: list[str], later: Iterable[str]) -> set[str]:
        """Return the later partitions that hold a key which changed partitions held and hold no longer, or hold now."""
        later = [period for period in later if changed and period > min(changed)]
        if not later:
            return set()
        contract, lake = self.params.tables[name], f"{self.places.lake}/{name}"
        keys = {key: key for key in contract.unique}
        old, new = (self._scan(at(lake), changed) for at in (artifacts.path, artifacts.pending))
        added, removed = new, old
        if old is not None and new is not None:
            added = new.anti_join(*contracts.matches(new, old, keys, contract))
            removed = old.anti_join(*contracts.matches(old, new, keys, contract))
        return self._stale(name, later, contract.uniqueness(), keys, [added, removed])

    def _stale(self, name: str, periods: list[str], rule: str, keys: dict[str, str], others: list[Rows]) -> set[str]:
        """Return the last run's partitions with rows that may break a rule on keys now, or keep it again: see `others`."""
        contract, (breaking, mending), result = self.params.tables[name], others, set[str]()
        rules = list(contract.rules())
        later = rules[rules.index(rule) + 1 :]  # which a row only breaks where this one holds
        good, bad = (self._scan(artifacts.path(place), periods) for place in self.places.outputs(name))
        pairs = [(good, breaking)]
        if bad is not None:
            pairs += [(bad.filter(bad[RULE] == rule), mending), (bad.filter(bad[RULE].isin(later)), breaking)]
        for rows, other in pairs:
            if rows is not None and other is not None:
                having = rows.semi_join(*contracts.matches(rows, other, keys, contract))
                result |= set(having[[PERIOD]].distinct().to_pandas()[PERIOD])
        return result

    def _scan(self, folder: Path, periods: Iterable[str]) -> Rows:
        """Return partitions of a folder, numbered; None if there is no file."""
        files = [file for period in periods for file in engine.parts(folder, period)]
        return engine.scan(self.connection, files, numbered=True) if files else None
