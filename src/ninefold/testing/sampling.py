"""A copy of the project that runs on a sample of its source: the same code and notebooks, in two minutes.

What a sample cannot reach is not asked of it: minimum numbers of rows, the success criteria, the latency.
"""

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import reduce
from pathlib import Path
from typing import Any

import pandas as pd

from ninefold import collection, gate
from ninefold.params import FILE, load, parse, root
from ninefold.testing import project

ENTITIES = 200  # of fewer entities no sample is taken: rows are sampled instead
OF_A_CLASS = 200  # rows that a sample keeps of a rare class
SIZES: dict[str, Any] = parse(Path(__file__).with_name("sample.yaml").read_text("utf-8"))
EMPTY = "features without any value"  # a check of stage 06


@dataclass(frozen=True)
class Sample:
    """The rows of `table` that are read: those of which a hash, 0-1, is below `share`, so the same rows each time.

    The hash is that of the columns `together`, which name an entity, or of the whole row if there are none. Rows with a
    rare value of `target` have a larger share: `rare`.
    """

    table: str
    share: float
    together: list[str]
    target: str
    rare: dict[str, float]

    def of(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the sampled rows of the table."""
        shares: Any = rows[self.target].map(self.rare).fillna(self.share) if self.rare else self.share
        return rows[_hash(rows, self.together) < shares]

    def reader(self, read: Callable[..., pd.DataFrame] | None) -> Callable[..., pd.DataFrame]:
        """Return `read`, or the default reader, with the sampled rows of the table alone."""

        def sampled(table: str, start: pd.Timestamp | None, end: pd.Timestamp | None) -> pd.DataFrame:
            rows = (read or collection.read_file)(table, start, end)
            return self.of(rows) if table == self.table else rows

        return sampled


def choose(rows: int) -> Sample:
    """Return a sample of about `rows` rows of ``problem.table``, of which every row is read once."""
    problem, read, parts = load("problem"), collection.reader(load("collection")), []
    for span in project.spans(problem.table):
        part = read(problem.table, *span)
        together = [name for name in problem.group or [] if name in part]
        value = part[problem.target] if problem.task != "regression" and problem.target in part else None
        parts.append(pd.DataFrame({"entity": _hash(part, together), "class": value}, index=part.index))
    keys = pd.concat(parts)
    share = min(1.0, rows / max(len(keys), 1))
    if together and keys["entity"].nunique() * share >= ENTITIES:
        return Sample(problem.table, share, together, problem.target, {})
    shares = (OF_A_CLASS / keys["class"].value_counts()).clip(upper=1.0)
    rare = shares[shares > share].rename(str).to_dict()
    return Sample(problem.table, share, [], problem.target, rare)


def copy_project(folder: Path, sample: Sample) -> None:
    """Copy the project to `folder`, where it reads the sample, fits few trees, and monitors two months at most."""
    project.copy_project(folder)
    values = smaller(parse((folder / FILE).read_text(encoding="utf-8")), sample)
    (folder / FILE).write_text(json.dumps(values, indent=1, ensure_ascii=False), encoding="utf-8")  # JSON is YAML 1.2
    read = f"read = _sampling.{sample!r}.reader(globals().get('read'))"
    for name, line in (("__init__", "_sampling.ease_gates()"), ("collection", read)):
        with (folder / f"src/project/{name}.py").open("a", encoding="utf-8") as module:
            module.write(f"\n\nfrom ninefold.testing import sampling as _sampling\n\n{line}\n")


def smaller(params: dict[str, Any], sample: Sample) -> dict[str, Any]:
    """Return all sections of ``params.yaml`` for a run on a sample."""
    params = {name: section or {} for name, section in copy.deepcopy(params).items()}
    for name, nearer in (("at_most", min), ("at_least", max)):
        for path, limit in SIZES[name].items():
            *sections, key = path.split(".")
            inner = reduce(lambda values, name: values.setdefault(name, {}), sections, params)
            inner[key] = limit if inner.get(key) is None else nearer(inner[key], limit)
    training, monitoring = params["training"], params["monitoring"]
    for candidate in training["candidates"].values():
        if option := SIZES["number_of_trees"].get(candidate["model"]):
            candidate[option] = min(candidate.get(option, SIZES["trees"]), SIZES["trees"])
    if training.get("search", {}).get("budget"):
        training["search"]["budget"] = SIZES["trials"]
    tables, contracts = params["collection"]["tables"], params["processing"]["tables"]
    for table in tables.values():  # a path outside the folders that are copied
        place = table.get("source")
        if place and "://" not in place and not place.startswith(project.SOURCES):
            table["source"] = str(root() / place)
    if as_of := params["collection"].get("as_of"):
        months = pd.period_range(date.fromisoformat(as_of) + timedelta(days=1), periods=SIZES["months"], freq="M")
        last = str(months[-1].end_time.date())
        monitoring["replay_until"] = min(monitoring.get("replay_until") or last, last)
        monitoring["period"] = "month"
    if sample.share < 1:
        tables[sample.table]["min_rows"] = 0
        contracts[sample.table].pop("newest", None)
        for contract in contracts.values():
            references = [each for each in contract.get("references", []) if each["table"] != sample.table]
            contract.update({"references": references} if "references" in contract else {})
    return params


def ease_gates() -> None:
    """Let checks pass, in this process, that depend on the number of rows: those of stage 07, and features without values."""
    close = gate.close

    def eased(section: str, checks: Sequence[gate.Check], *others: Any, **named: Any) -> None:
        for check in checks:
            depends = section == "training" or check.name == EMPTY
            if depends and not check.passed and check.value is not None:
                check.passed, check.limit = True, f"{check.limit} (not asked of a sample)"
        close(section, checks, *others, **named)

    gate.close = eased


def _hash(rows: pd.DataFrame, columns: list[str]) -> pd.Series:
    """Return a number per row, 0-1, that is equal where the columns are (none named: all of them)."""
    return pd.util.hash_pandas_object(rows[columns or list(rows)], index=False) / 2.0**64
