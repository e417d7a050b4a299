"""Join a related table by the columns that both have."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from ninefold.errors import DataError
from ninefold.init import inference
from ninefold.init.columns import Column, blanked
from ninefold.init.proposal import Proposal, Related


def join(p: Proposal, name: str, frame: pd.DataFrame) -> None:
    """Add a related table: its key is what both have in common and no two rows there share."""
    common = [column for column in frame.columns if column in p.columns]
    if not common:
        raise DataError(
            f"--join {name}: found no column that {p.table} has too, among {', '.join(frame.columns[:20])}; rename its key "
            f"as {p.table} calls it"
        )
    single = [column for column in common if not frame[column].duplicated().any()]
    by = single[:1] or common
    if frame.duplicated(by).any():
        twice = frame.loc[frame.duplicated(by), by].iloc[0].to_dict()
        raise DataError(f"--join {name}: several rows have the same {', '.join(by)}, such as {twice}; expected one row for each; aggregate it first, or, where they hold from a time on, join it in params.yaml with features.joins and as_of")  # fmt: skip
    columns = inference.describe(frame)
    for key in by:
        columns[key], p.columns[key] = _same_type(columns[key], p.columns[key])
    mine = pd.MultiIndex.from_frame(pd.DataFrame({key: p.columns[key].rows() for key in by}))
    theirs = pd.MultiIndex.from_frame(pd.DataFrame({key: columns[key].rows() for key in by}))
    matched = float(mine.isin(theirs).mean())
    if not matched:
        raise DataError(f"--join {name}: no row of {p.table} has its {', '.join(by)} there; do both write it alike?")
    if matched < 0.5:
        p.warnings.append(f"only {matched:.0%} of the rows find their {', '.join(by)} in {name}: features.joins")
    useful = [
        column for key, column in columns.items() if key not in by and column.kind in ("number", "category", "text", "timestamp")
    ]  # fmt: skip
    names_in_use = {column.name.lower() for column in p.columns.values()} | {
        new.lower() for one in p.related for new in one.renamed.values()
    }
    renamed = {
        column.name: column.name if column.name.lower() not in names_in_use else f"{name}_{column.name}"
        for column in useful
    }
    if not renamed:
        raise DataError(f"--join {name}: holds no column of use beside its key {', '.join(by)}")
    columns_used = {**{key: columns[key] for key in by}, **{column.name: column for column in useful}}
    p.related.append(Related(name, columns_used, by, renamed))


def _same_type(one: Column, other: Column) -> tuple[Column, Column]:
    if one.type == other.type and one.format == other.format:
        return one, other
    if {one.type, other.type} == {"int64", "float64"}:
        return replace(one, type="float64"), replace(other, type="float64")
    return tuple(plain(column) for column in (one, other))  # type: ignore[return-value]


def plain(column: Column) -> Column:
    """Return a column as text."""
    kind = "category" if column.kind in ("number", "timestamp") else column.kind
    texts = blanked(column.texts, column.gap)
    return replace(column, kind=kind, type="string", values=texts, format=None, decimal=None, thousands=None)
