"""Rows of a table that belong together: those of an entity that comes back, and exact copies."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from ninefold.init.columns import Column, called
from ninefold.init.proposal import Proposal
from ninefold.init.tasks import encoded

LEAST_ENTITIES, LEAST_UNNAMED = 10, 30  # fewer values are kinds of things; the second, where no name says more
# Of a measured thing: the least correlation of its outcomes, and the share of its values with one of another column.
ALIKE, SAME = 0.2, 0.8
SETTLED = 0.05  # share of the variance of the outcome
MOST_ROWS = {False: 20, True: 50}  # of an entity that no name tells, by whether its values are measured


def copies(p: Proposal) -> int:
    """Return how many rows equal an earlier one in all but the key; 0 where columns are so coarse that many do."""
    codes = {place: column.codes for place, (name, column) in enumerate(p.columns.items()) if [name] != p.key}
    repeats = int(pd.DataFrame(codes).duplicated().sum())
    return repeats if (p.rows - repeats) ** 2 >= p.rows else 0


def find(p: Proposal, repeats: int) -> dict[str, str]:
    """Return columns of entities that come back, and what says so: their names, a join, else values, at last measured ones.

    `repeats` rows are `copies`. Where rows have a time, texts are looked at only if their name says so, and persons are not.
    """
    found, joined = list[tuple[int, str, str]](), {name for one in p.related for name in one.by}
    joined |= {name for name, kind in p.personal.items() if kind == "contact"}
    has_batches = p.time is None and repeats < 0.1 * p.rows  # of copies, every measurement comes back
    for name, column in p.contract().items():
        is_measured, is_known = column.type == "float64", not column.missing
        fits = column.kind in ("category", "number", "identifier") and is_known and (has_batches or not is_measured)
        is_named = called(name, "id", "entity") and column.distinct >= LEAST_UNNAMED
        if p.time is not None and (name in joined or name in p.personal or not (column.kind == "number" or is_named)):
            continue
        if not fits or name == p.target.name or not LEAST_ENTITIES <= column.distinct <= 0.8 * p.rows:
            continue
        is_id = column.distinct >= min(LEAST_UNNAMED, p.rows / 10) and (called(name, "id") or name in joined)
        if not is_measured and (called(name, "entity") or is_id):
            found.append((0, name, f"it comes back ({p.rows / column.distinct:.1f} rows each)"))
        elif column.distinct >= max(LEAST_UNNAMED, p.rows / MOST_ROWS[is_measured]) and not called(name, "time"):
            found += [(1 + is_measured, name, why)] if (why := _belong_together(column, p)) else []
    best = [each for each in found if each[0] == min(found)[0]]
    return {name: why for _, name, why in sorted(best, key=lambda each: each[1] in p.personal)}


def settled(p: Proposal, named: Iterable[str]) -> str | None:
    """Return the entity of which all rows have nearly the same outcome, so that its first row tells the later ones; or None.

    A text whose name says so may be one (of another, stage 05 asks), or a column that is `named` by `find`. The outcome varies within it by less than `SETTLED` of its variance.
    """
    outcome, least = pd.Series(encoded(p)), SETTLED
    best, variance = None, outcome.var()
    for name, column in p.contract().items():
        fits = column.type == "string" and called(name, "id", "entity", "code", "numbered")
        if name == p.target.name or not (fits or name in named) or not LEAST_UNNAMED <= column.distinct <= p.rows / 2:
            continue
        groups = outcome.groupby(column.codes).agg(["var", "count"]).query("count > 1")
        within = np.average(groups["var"], weights=groups["count"] - 1) if len(groups) >= LEAST_UNNAMED else np.inf
        if within < least * variance:
            best, least = name, within / variance
    return best


def _belong_together(column: Column, p: Proposal) -> str | None:
    """Return why the rows of each value seem to be those of one thing.

    The column is called a number; or numbers of many digits come back, and none far more often than others, as of counts; or
    each value stands in as many rows; or a measurement is the same in all of these. Of measurements only outcomes say so.
    """
    code = pd.factorize(column.rows(), sort=True, use_na_sentinel=False)[0]
    sizes, first = np.bincount(code), np.unique(code, return_index=True)[1]
    mean, even = sizes.mean(), sizes.max() <= 5 * sizes.mean()
    if column.type == "float64":
        share = _alike(code, p) if even and mean >= 2 else 0.0
        why = f"outcomes of one value are alike, those of near ones are not (correlation {share:.2f})"
        return why if share else None
    is_name = called(column.name, "number") or (column.kind == "number" and mean >= 2 and _is_sparse(column))
    if is_name and even:
        return f"it comes back ({mean:.1f} rows each)"
    if sizes.min() == sizes.max():
        return f"each of its values stands in {sizes[0]} rows"
    for each in p.contract().values():
        is_other = each.type == "float64" and each.name not in (p.target.name, column.name)
        if is_other and each.distinct > len(first) / 2 and (each.codes == each.codes[first][code]).all():
            return f"{each.name} is the same in all its rows"
    return None


def _alike(code: np.ndarray, p: Proposal) -> float:
    """Return the intraclass correlation of outcomes in groups of rows, beyond that of near groups; 0 if not significant.

    By mean square successive differences (von Neumann, Annals of Mathematical Statistics 12, 1941) of the groups' means, in
    the order of `code`, and of each number that is the same in the rows of a group, of which the outcome may be a function.
    """
    outcome = encoded(p)
    known = ~np.isnan(outcome)
    ranks, code = pd.Series(outcome[known]).rank(), code[known]
    mean, size, spread = ranks.groupby(code).agg(["mean", "count", "var"]).to_numpy().T
    within, share = np.nansum(spread * (size - 1)) / max((size - 1).sum(), 1), 1.0
    numbers = [
        each.rows()[known] for name, each in p.contract().items() if each.kind == "number" and name != p.target.name
    ]
    for values in (code, *numbers):
        low, high = pd.Series(values).groupby(code).agg(["min", "max"]).to_numpy().T
        order = np.argsort(high)
        between = np.nanmean(np.diff(mean[order]) ** 2 / (1 / size[order][1:] + 1 / size[order][:-1]))
        if (low == high).mean() > SAME:
            share = min(share, (between - within) / size.mean() / ranks.var())
            if share < ALIKE or between < (1 + 4 * np.sqrt(3 / len(size))) * within:
                return 0.0
    return share


def _is_sparse(column: Column) -> bool:
    """Return whether whole numbers have equally many digits, lie far apart, and are not rounded, unlike what is measured."""
    lengths = {len(text.strip()) for text in column.texts[~column.gap]}
    values = np.unique(column.values[~np.isnan(column.values)])
    last = np.unique(values % 10, return_counts=True)[1]
    return len(lengths) == 1 and len(values) < 0.05 * np.ptp(values) and bool(last.max() < 0.3 * len(values))


def are_codes(column: Column) -> bool:
    """Return whether numbers have as many digits each, as those of phones and articles: nine if they come back, else eleven."""
    low, high = column.bounds()
    is_long = low >= 1e10 and f"{low:.0e}"[1:] == f"{high:.0e}"[1:]
    return is_long or (low >= 1e8 and 2 * column.distinct <= len(column.codes) and _is_sparse(column))
