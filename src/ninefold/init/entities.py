"""Rows of a table that belong together: those of an entity that comes back, and exact copies."""

import numpy as np
import pandas as pd

from ninefold.init.columns import Column, called
from ninefold.init.proposal import Proposal

LEAST_ENTITIES, LEAST_UNNAMED = 10, 30  # fewer values are kinds of things; the second, where no name says more
MOST_ROWS = {False: 20, True: 50}  # of an entity that no name tells, by whether its values are measured


def copies(p: Proposal) -> int:
    """Return how many rows equal an earlier one in all but the key; 0 where columns are so coarse that many do."""
    codes = {place: column.codes for place, (name, column) in enumerate(p.columns.items()) if [name] != p.key}
    repeats = int(pd.DataFrame(codes).duplicated().sum())
    return repeats if (p.rows - repeats) ** 2 >= p.rows else 0


def find(p: Proposal, repeats: int) -> dict[str, str]:
    """Return columns of entities that come back, and what says so: their names, a join, else values, at last measured ones.

    `repeats` rows are `copies`. Where rows have a time, no texts are looked at but those that a name says, as these are
    categories anyway, and no persons.
    """
    found, joined = list[tuple[int, str, str]](), {name for one in p.related for name in one.by}
    has_batches = p.time is None and repeats < 0.1 * p.rows  # of copies, every measurement comes back
    for name, column in p.contract().items():
        is_measured, is_known = column.type == "float64", not column.missing
        fits = column.kind in ("category", "number", "identifier") and is_known and (has_batches or not is_measured)
        is_named = called(name, "id", "entity") and column.distinct >= LEAST_UNNAMED
        if p.time is not None and (name in joined or name in p.personal or not (column.kind == "number" or is_named)):
            continue
        if not fits or name == p.target.name or not LEAST_ENTITIES <= column.distinct <= 0.8 * p.rows:
            continue
        is_id = called(name, "id") or p.personal.get(name) == "contact" or name in joined
        many = column.distinct >= min(LEAST_UNNAMED, p.rows / 10)
        if not is_measured and (called(name, "entity") or (is_id and many)):
            found.append((0, name, f"it comes back ({p.rows / column.distinct:.1f} rows each)"))
        elif column.distinct >= max(LEAST_UNNAMED, p.rows / MOST_ROWS[is_measured]) and (
            why := _belong_together(column, p)
        ):
            found.append((1 + is_measured, name, why))
    best = [each for each in found if each[0] == min(found)[0]]
    return {name: why for _, name, why in sorted(best, key=lambda each: each[1] in p.personal)}


def _belong_together(column: Column, p: Proposal) -> str | None:
    """Return why the rows of each value seem to be those of one thing.

    The column is called a number, and none is far more frequent than others, as of counts; or each value stands in as
    many rows; or numbers of many digits come back, as quantities do not; or a measurement, which differs among the values,
    is the same in all rows of a value (of a measured one, in most, and it is no smooth function of it, as by a formula).
    """
    code = pd.factorize(column.rows(), sort=True, use_na_sentinel=False)[0]
    sizes, first, is_measured = np.bincount(code), np.unique(code, return_index=True)[1], column.type == "float64"
    even = sizes.mean() >= 2 and sizes.max() <= 5 * sizes.mean()
    if called(column.name, "time"):
        return None
    if called(column.name, "number") and sizes.max() <= 5 * sizes.mean():
        return f"it comes back ({sizes.mean():.1f} rows each)"
    if sizes.min() == sizes.max() and not is_measured:
        return f"each of its values stands in {sizes[0]} rows"
    if column.kind == "number" and even and _is_sparse(column) and not (is_measured and called(column.name, "price")):
        return f"it comes back ({sizes.mean():.1f} rows each)"
    for name, other in p.contract().items() if even or not is_measured else ():
        if other.type == "float64" and name not in (p.target.name, column.name) and other.distinct > len(first) / 2:
            agree = (other.codes == other.codes[first][code]).sum() - len(first)
            rank = pd.factorize(other.rows(), sort=True)[0]
            is_rough = np.abs(np.diff(rank[first])).mean() > rank.max() / 15 and other.counts.max() < 0.1 * p.rows
            if agree >= (0.8 if is_measured else 1) * (p.rows - len(first)) and (is_rough or not is_measured):
                return f"{name} is the same in {'nearly ' if is_measured else ''}all its rows"
    return None


def _is_sparse(column: Column) -> bool:
    """Return whether numbers lie far apart, by their least distance, and are not rounded: others would hardly come back."""
    values = np.unique(column.values[~np.isnan(column.values)])
    place = values if column.type == "int64" else np.rint((values - values[0]) / np.diff(values).min())
    last = np.unique(place % 10, return_counts=True)[1]
    return len(values) < 0.05 * np.ptp(place) and bool(last.max() < 0.3 * len(values))


def are_codes(column: Column) -> bool:
    """Return whether numbers that come back have the same nine digits or more each, as those of phones and articles."""
    lengths = {len(text.strip()) for text in column.texts[~column.gap]}
    return len(lengths) == 1 and min(lengths) >= 9 and 2 * column.distinct <= len(column.codes) and _is_sparse(column)
