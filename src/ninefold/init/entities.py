"""Rows of a table that belong together: those of an entity that comes back, and exact copies."""

import numpy as np
import pandas as pd

from ninefold.init.columns import Column, called
from ninefold.init.proposal import Proposal

LEAST_ENTITIES, LEAST_UNNAMED = 10, 30  # fewer values are kinds of things; the second, where no name says more
MOST_ROWS = 20  # of an entity that no name tells


def copies(p: Proposal) -> int:
    """Return how many rows equal an earlier one in all but the key; 0 where columns are so coarse that many do."""
    codes = {place: column.codes for place, (name, column) in enumerate(p.columns.items()) if [name] != p.key}
    repeats = int(pd.DataFrame(codes).duplicated().sum())
    return repeats if (p.rows - repeats) ** 2 >= p.rows else 0


def find(p: Proposal) -> dict[str, str]:
    """Return columns of entities that come back, and what says so: their names, a join, else values.

    Where rows have a time, no texts are looked at but those that a name says, as these are categories anyway.
    """
    named, unnamed, joined = {}, {}, {name for one in p.related for name in one.by}
    for name, column in p.contract().items():
        fits = column.kind in ("category", "number", "identifier") and column.type != "float64" and not column.missing
        is_named = called(name, "id", "entity") and column.distinct >= LEAST_UNNAMED
        if p.time is not None and (name in joined or not (column.kind == "number" or is_named)):
            continue
        if not fits or name == p.target.name or not LEAST_ENTITIES <= column.distinct <= 0.8 * p.rows:
            continue
        is_id = called(name, "id") or p.personal.get(name) == "contact" or name in joined
        many = column.distinct >= min(LEAST_UNNAMED, p.rows / 10)
        if called(name, "entity") or (is_id and many):
            named[name] = f"it comes back ({p.rows / column.distinct:.1f} rows each)"
        elif column.distinct >= max(LEAST_UNNAMED, p.rows / MOST_ROWS) and (why := _belong_together(column, p)):
            unnamed[name] = why
    return named or unnamed


def _belong_together(column: Column, p: Proposal) -> str | None:
    """Return why the rows of each value seem to be those of one thing.

    The column is called a number, and none is far more frequent than others, as of counts; or each value stands in as
    many rows; or numbers of many digits come back, as quantities do not; or a measurement, which differs among the values,
    is the same in all rows of a value.
    """
    code = pd.factorize(column.rows())[0]
    sizes, first = np.bincount(code), np.unique(code, return_index=True)[1]
    if called(column.name, "time"):
        return None
    if called(column.name, "number") and sizes.max() <= 5 * sizes.mean():
        return f"it comes back ({sizes.mean():.1f} rows each)"
    if sizes.min() == sizes.max():
        return f"each of its values stands in {sizes[0]} rows"
    if column.kind == "number" and 5 * sizes.mean() >= sizes.max() and sizes.mean() >= 2 and _is_sparse(column):
        return f"it comes back ({sizes.mean():.1f} rows each)"
    for name, other in p.contract().items():
        measured = other.type == "float64" and name != p.target.name and other.distinct > len(first) / 2
        if measured and (other.codes == other.codes[first][code]).all():
            return f"{name} is the same in all its rows"
    return None


def _is_sparse(column: Column) -> bool:
    """Return whether whole numbers lie far apart and are not rounded: measured ones would hardly come back."""
    low, high = column.bounds()
    last = np.unique(np.unique(column.values[~np.isnan(column.values)]) % 10, return_counts=True)[1]
    return column.distinct < 0.05 * (high - low) and bool(last.max() < 0.3 * column.distinct)
