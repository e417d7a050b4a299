"""Propose a project for a table: the task, the key, the time, the split, the contract, the features and the models.

What cannot be known from a table, such as prices, is assumed; what could be otherwise is a numbered warning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ninefold.init.columns import Column

LEAST_ROWS = 20
ENTITY_NAME = re.compile(
    r"(^|[\W_])(customer|user|patient|client|subject|account|person|member|household|device|machine|store|shop|employee|"
    r"driver|vehicle|player|student|sensor|company|site|unit|engine)([\W_]?(id|no|nr|number|key|code|name))?$",
    re.I,
)
SPLITS = ((0.15, 0.20), (0.20, 0.25), (0.25, 0.30))  # validation and holdout: larger where outcomes are rare


@dataclass(frozen=True)
class Wish:
    """What the user says of a table; the rest is found out."""

    target: str
    time: str | None = None  # "none": the table has no time
    key: str | None = None
    task: str = "auto"


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
    months: int = 0
    partitioned: bool = False
    key: list[str] = field(default_factory=list)
    number: str | None = None
    group: list[str] | None = None
    features: dict[str, list[str]] = field(default_factory=dict)
    related: list[Related] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    leaks: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    quarantined: int = 0
    labelled: int = 0
    split: tuple[float, float] = SPLITS[0]
    parts: dict[str, int] = field(default_factory=dict)
    min_rarest: int = 20
    by: list[str] = field(default_factory=list)
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)

    def contract(self) -> dict[str, Column]:
        """Return the columns that the lake holds, by their names there."""
        useless = ("constant", "missing", "duplicate")
        return {column.name: column for column in self.columns.values() if column.kind not in useless}


def feature_columns(p: Proposal) -> dict[str, Column]:
    """Return the columns that could be features, by their names beside the main table's own."""
    columns = {column.name: column for column in p.columns.values()}
    for one in p.related:
        columns |= {new: one.columns[old] for old, new in one.renamed.items()}
    return columns


def share(p: Proposal) -> float:
    """Return the share of the event, or of the class in focus, among the rows with an outcome."""
    return p.sizes[str(p.focus)] / sum(p.sizes.values())


def spread(p: Proposal) -> float:
    """Return the standard deviation of a quantity."""
    return float(np.nanstd(p.target.rows()))
