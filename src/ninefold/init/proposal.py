"""What a project for a table begins with: the task, the key, the time, the split, the contract, the features."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ninefold.errors import DataError
from ninefold.init.assumptions import Assumption
from ninefold.init.columns import Column

LEAST_ROWS = 20
SPLITS = ((0.15, 0.20), (0.20, 0.25), (0.25, 0.30))  # validation and holdout: larger where outcomes are rare


@dataclass(frozen=True)
class Wish:
    """What the user says of a table; the rest is found out."""

    target: str  # the column to predict
    time: str | None = None  # the column that says when a row's event happens; "none": there is none
    key: str | None = None  # the column that identifies a row, or an entity that comes back
    task: str = "auto"  # or binary, multiclass, regression


@dataclass
class Related:
    """A table to join: what identifies a row there, its columns, and what they are called beside the main table's."""

    name: str
    columns: dict[str, Column]
    by: list[str]
    renamed: dict[str, str]


@dataclass
class Proposal:
    """Everything that ``params.yaml`` and ``src/project`` are written from."""

    table: str
    rows: int
    columns: dict[str, Column]
    target: Column
    task: str = ""
    classes: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    focus: str | None = None
    time: Column | None = None
    label_delay: str = "1d"
    partitioned: bool = False
    key: list[str] = field(default_factory=list)
    number: str | None = None
    group: list[str] | None = None
    features: dict[str, list[str]] = field(default_factory=dict)
    related: list[Related] = field(default_factory=list)
    personal: dict[str, str] = field(default_factory=dict)  # columns -> what of persons they hold
    protected: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    warnings: list[Assumption] = field(default_factory=list)
    no_time: dict[str, str] = field(default_factory=dict)  # columns -> why they are not taken as the time of a row
    missing: list[str] = field(default_factory=list)
    quarantined: int = 0
    labelled: int = 0
    split: tuple[float, float] = SPLITS[0]
    parts: dict[str, int] = field(default_factory=dict)
    min_rarest: int = 20
    by: list[str] = field(default_factory=list)
    grain: str = "day"  # how fine the time is: one of `timestamps.GRAINS`

    def warn(self, sentence: str, /, *names: str, **values: Any) -> None:
        """Add a warning on columns, a sentence of ``templates/sentences/init.md.j2``."""
        self.warnings.append(Assumption(sentence, names, {"p": self, **values}, self.table))

    def add(self, notes: Iterable[Assumption]) -> None:
        """Put what reading the tables warned of before all else, but for a time that comes back: times do."""
        times = (self.time.name,) if self.time else ()
        self.warnings[:0] = [note for note in notes if note.kind != "comes_back" or note.names != times]

    def tables(self) -> dict[str, dict[str, Column]]:
        """Return the columns of every table by their names in the source, the main table first."""
        return {self.table: self.columns, **{one.name: one.columns for one in self.related}}

    def contract(self) -> dict[str, Column]:
        """Return the columns that the lake holds, by their names there."""
        useless = ("constant", "missing", "duplicate")
        return {column.name: column for column in self.columns.values() if column.kind not in useless}

    def feature_columns(self) -> dict[str, Column]:
        """Return the columns that could be features, by their names beside the main table's own."""
        columns = {column.name: column for column in self.columns.values()}
        for one in self.related:
            columns |= {new: one.columns[old] for old, new in one.renamed.items()}
        return columns


def find(names: list[str], name: str, option: str, table: str) -> str:
    """Return the column that is meant; raise `DataError` with the closest names if there is none."""
    alike = [each for each in names if each.strip().lower() == name.strip().lower()]
    if name in names or len(alike) == 1:
        return name if name in names else alike[0]
    begun = [each for each in names if each.lower().startswith(name.lower())]  # names of several rows are joined
    near = begun[:3] or difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else f"; it has {', '.join(names[:30])}"
    raise DataError(f"{table}: found no column {name!r}, which {option} names{hint}")
