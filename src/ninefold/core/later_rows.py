"""Does a column know outcomes of other rows of its entity that were still to come? Then it was filled in after them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

# Of 452 public tables with entities 33 have such a column: means by group, formulas, leads, and some slow series.
ENTITIES, MOST_ENTITIES, MOST_ROWS = 30, 4, 20_000  # fewest of them; columns that name them; rows looked at
LUCK = 0.35  # share of the rows' luck that is gone where a column of the entity is known; honestly none
AHEAD = 0.1  # R² with later outcomes, less that with earlier ones
CHANCE = 1e-5  # of a sign by luck
PIECES, PIECE = 50, 50  # of time, whose shared moves are taken out: the most, and the fewest rows of each
FEW, CLASSES = 20, 5  # values of a column that a design may balance; classes looked at
MEASURE, SAMPLE = 0.5, 5000  # rank correlation from which a whole number measures, and names nothing; rows to tell by


class Others:
    """Tells whether a column knows outcomes of its entity's rows that were still to come, its own among them."""

    def __init__(self, frame: pd.DataFrame, names: list[str], outcome: np.ndarray, stated: dict[str, Any]) -> None:
        """Find the entities among the columns `names`; rows are in their order of time, where they have one.

        None of these columns should be known later than the outcome: rows of one such value are chosen by it.
        """
        self.time = frame[stated["time"]].to_numpy() if stated["time"] else None
        self.piece = np.arange(len(frame)) * int(np.clip(len(frame) // PIECE, 1, PIECES)) // max(len(frame), 1)
        self.design = [code for name in names if (code := _design(frame[name])) is not None]
        self.labels = _labels(outcome, stated)
        self.entities = [(name, _Groups.of(code)) for name, code in _entities(frame, names, stated)]

    def known(self, name: str, numbers: pd.Series | None) -> str:
        """Return what a column knows of other rows, in words; empty if nothing."""
        if numbers is None:
            return ""
        values = numbers.to_numpy("float64")
        values = values / max(np.abs(values[np.isfinite(values)]).max(initial=0), 1e-300)  # of which squares are finite
        for entity, groups in self.entities:
            if name in entity.split(" and "):
                continue
            kept = groups.only(np.isfinite(values))
            if kept.many < ENTITIES or len(kept.rows) < 2 * ENTITIES:
                continue
            for label in self.labels:
                if found := self._signs(values[kept.rows], label, kept, entity):
                    return found
        return ""

    def _signs(self, values: np.ndarray, label: np.ndarray, groups: _Groups, entity: str) -> str:
        whose = "own and later" if self.time is not None else "own"
        steady = (values == values[groups.first]).all()
        if steady and len(np.unique(values)) >= 5 and (gone := self._luck(values, label, groups)) >= LUCK:
            return f"it holds outcomes of the {whose} rows of each {entity}: given it, {gone:.0%} of their luck is gone"
        if not steady and _straight(values, label[groups.rows], groups):
            return f"within each {entity} it is a straight line of the outcome"
        if not steady and self.time is not None:
            later, earlier = self._ahead(values, label, groups, self.time[groups.rows])
            if later > earlier:
                return f"it goes with later outcomes of its {entity} (R² {later:.2f}), not with earlier ones ({earlier:.2f})"
        return ""

    def _luck(self, values: np.ndarray, label: np.ndarray, groups: _Groups) -> float:
        """Return the share of the luck of an entity's rows that is gone once a column of the entity is known.

        What is left of outcomes hangs together within an entity, or not at all, as what was known before cannot know
        their luck. If their sums are less spread than luck would have it, the column was made of them. Outcomes that
        exclude each other, or that a design balances, look alike; the first is tested, the second taken out.
        """
        design = [code[groups.rows] for code in self.design]
        design = [code for code in design if groups.balances(code)]
        if self.time is not None:
            design += [self.piece[groups.rows], np.minimum(groups.place, FEW)]
        left = _swept(label[groups.rows], design)
        limit = stats.t.ppf(1 - CHANCE, groups.many - 1)
        alike = len(np.unique(label)) == 2
        if groups.together(left, alike)[1] < -3:
            return 0.0
        size, each = groups.size[groups.code], (values - values.mean()) / (values.std() or 1)
        known = np.column_stack([np.ones(len(each)), each, each / size, each**2, size, 1 / size])
        known /= np.sqrt((known**2).mean(axis=0))
        gone, sure = groups.together(left - known @ np.linalg.lstsq(known, left, rcond=None)[0], alike)
        return -gone if sure < -limit else 0.0

    def _ahead(self, values: np.ndarray, label: np.ndarray, groups: _Groups, moment: np.ndarray) -> tuple[float, float]:
        """Return the partial R² of a column with an entity's later and earlier outcomes, if the first is surely more.

        Each given the other and the row's own outcome; both 0 if not. What was known in time goes with the past at
        least as well. Moves over time that all share are taken out. The error is by entity.
        """
        piece, between = self.piece[groups.rows], groups.between
        apart = (moment[1:] != moment[:-1]) | (groups.place[1:] == 0)
        if between.sum() < 2 * ENTITIES or apart.mean() < 0.9 or _within(values, groups) < 0.1:
            return 0.0, 0.0
        y = _swept(stats.rankdata(label[groups.rows]), [piece])
        before = np.cumsum(y) - y
        before = before - before[groups.first]
        after = groups.total(y)[groups.code] - before - y
        past, future = (before / np.maximum(groups.place, 1))[between], (after / np.maximum(groups.ahead, 1))[between]
        best = (0.0, 0.0)
        for each in (values, values / np.maximum(groups.ahead, 1)):  # a mean, or a sum, of what comes
            x = _swept(stats.rankdata(each), [piece])[between]
            found = _asymmetry(x, y[between], past, future, groups.code[between])
            best = max(best, found, key=lambda two: two[0] - two[1])
        return best


class _Groups:
    """Rows by entity, each entity's together and in their order."""

    def __init__(self, rows: np.ndarray, code: np.ndarray) -> None:
        self.rows = rows
        self.code = np.unique(code, return_inverse=True)[1]
        self.size = np.bincount(self.code).astype("float64")
        starts = (np.cumsum(self.size) - self.size).astype("int64")
        self.first = starts[self.code]
        self.place = np.arange(len(rows)) - self.first
        self.ahead = self.size[self.code] - 1 - self.place
        self.between = (self.place > 0) & (self.ahead > 0)
        self.many = int((self.size > 1).sum())

    @classmethod
    def of(cls, code: np.ndarray) -> _Groups:
        """Return the groups of rows by code; -1 is in none."""
        order = np.argsort(code, kind="stable")
        order = order[code[order] >= 0]
        return cls(order, code[order])

    def only(self, kept: np.ndarray) -> _Groups:
        """Return the groups of some rows alone."""
        inside = kept[self.rows]
        return self if inside.all() else _Groups(self.rows[inside], self.code[inside])

    def total(self, values: np.ndarray) -> np.ndarray:
        """Return the sum of each entity."""
        return np.bincount(self.code, values, len(self.size))

    def together(self, values: np.ndarray, alike: bool = True) -> tuple[float, float]:
        """Return how much values hang together within entities: -1 if they cancel, 0 if not at all; and in its errors.

        Where values are not alike, as a quantity's, every entity counts for the same, or the largest would decide.
        """
        square = (self.total(values**2) / self.size)[self.size > 1]
        excess = (self.total(values) ** 2 / self.size)[self.size > 1] - square
        if not alike:
            excess, square = excess / np.maximum(square, 1e-300), np.ones(len(square))
        error = np.sqrt((excess**2).sum())
        return float(excess.sum() / max(square.sum(), 1e-300)), float(excess.sum() / max(error, 1e-300))

    def balances(self, code: np.ndarray) -> bool:
        """Return whether entities have the values of a column more evenly than chance would, by Pearson's chi square."""
        width = int(code.max()) + 1
        table = np.bincount(self.code * width + code, minlength=len(self.size) * width).reshape(-1, width)
        expected = np.outer(self.size, table.sum(axis=0)) / len(code)
        freedom = (len(self.size) - 1) * ((expected > 0).any(axis=0).sum() - 1)
        square = ((table - expected) ** 2 / np.where(expected > 0, expected, 1)).sum()
        return bool(freedom > 0 and square / freedom < 0.5)


def _entities(frame: pd.DataFrame, names: list[str], stated: dict[str, Any]) -> list[tuple[str, np.ndarray]]:
    """Return what comes back in several rows: the problem's group, texts, then whole numbers, each the finest first.

    Their codes; of more rows than are looked at, those of some entities, and -1.
    """
    found: list[tuple[tuple[int, int], str, np.ndarray]] = []
    measures = _measures(frame[names]) - set(stated["key"])
    if stated["group"]:
        code = frame.groupby(stated["group"], sort=False).ngroup().to_numpy()
        found.append(((0, 0), " and ".join(stated["group"]), code))
    for name in names:
        values = frame[name]
        whole = pd.api.types.is_integer_dtype(values) and name not in measures
        if not (whole or pd.api.types.is_string_dtype(values) or values.dtype == object) or [name] == stated["group"]:
            continue
        code, distinct = pd.factorize(values)
        if ENTITIES <= len(distinct) <= (code >= 0).sum() / 2:
            found.append(((2 if whole else 1, -len(distinct)), name, code))
    found.sort(key=lambda each: each[0])
    steps = [max(-(-int((code >= 0).sum()) // MOST_ROWS), 1) for _, _, code in found]
    kept = [(name, np.where(code % step == 0, code, -1)) for (_, name, code), step in zip(found, steps, strict=True)]
    return kept[:MOST_ENTITIES]


def _measures(frame: pd.DataFrame) -> set[str]:
    """Return the columns that go with another number, by their ranks in a sample of rows: they measure, and name nothing."""
    rows = frame.iloc[:: max(len(frame) // SAMPLE, 1)].select_dtypes(["number", "datetime"])
    ranks = rows.rank().apply(lambda column: column.fillna(column.mean())).fillna(0).to_numpy("float64")
    with np.errstate(invalid="ignore", divide="ignore"):  # of a constant
        together = np.abs(np.atleast_2d(np.corrcoef(ranks, rowvar=False)))
    np.fill_diagonal(together, 0)
    return {
        name for name, most in zip(rows, np.nan_to_num(together).max(axis=1, initial=0), strict=True) if most > MEASURE
    }


def _design(values: pd.Series) -> np.ndarray | None:
    """Return the code of a column of few values, which a design may balance; None of many."""
    code, distinct = pd.factorize(values, use_na_sentinel=False)
    return code if 2 <= len(distinct) <= FEW else None


def _labels(outcome: np.ndarray, stated: dict[str, Any]) -> list[np.ndarray]:
    """Return the outcome as numbers, float64: the event, each of the most frequent classes, or the quantity."""
    if stated["task"] == "regression":
        return [np.asarray(outcome, dtype="float64")]
    rows = np.bincount(outcome.astype("int64"), minlength=len(stated["classes"]))
    often = [1] if stated["task"] == "binary" else np.argsort(-rows, kind="stable")[:CLASSES]
    return [(outcome == number).astype("float64") for number in often]


def _swept(values: np.ndarray, codes: list[np.ndarray]) -> np.ndarray:
    """Return values less their means by each code, twice over."""
    left = values - values.mean()
    for code in codes * 2:
        left = left - (np.bincount(code, left) / np.maximum(np.bincount(code), 1))[code]
    return left


def _straight(values: np.ndarray, label: np.ndarray, groups: _Groups) -> bool:
    """Return whether a column is a straight line of the outcome within each entity, as a mean of the other rows is."""
    x, y = (each - (groups.total(each) / groups.size)[groups.code] for each in (values, label))
    xx, yy, xy = groups.total(x * x), groups.total(y * y), groups.total(x * y)
    moves = (groups.size >= 4) & (xx > 1e-9 * values.var()) & (yy > 1e-9 * label.var())
    exact = 0.99 if len(np.unique(label)) == 2 else 1 - 1e-6
    return bool(moves.sum() >= ENTITIES and (xy[moves] ** 2 / xx[moves] / yy[moves]).mean() > exact)


def _asymmetry(
    x: np.ndarray, own: np.ndarray, past: np.ndarray, future: np.ndarray, code: np.ndarray
) -> tuple[float, float]:
    entities = len(np.unique(code))
    if entities < ENTITIES or past.var() < 0.5 * future.var():  # an outcome that ends an entity has no past
        return 0.0, 0.0
    moves, found = np.zeros(int(code.max()) + 1), []
    for other, given, sign in ((future, past, 1), (past, future, -1)):
        basis = np.linalg.qr(np.column_stack([np.ones(len(x)), own, given]))[0]
        one, two = (each - basis @ (basis.T @ each) for each in (x, other))
        one, two = (each / (each.std() or 1) for each in (one, two))
        r = float((one * two).mean())
        moves += np.bincount(code, sign * 2 * r * (one * two - r * (one**2 + two**2) / 2)) / len(x)
        found.append(r * r)
    more, error = found[0] - found[1], np.sqrt((moves**2).sum())
    sure = more > AHEAD and more > stats.t.ppf(1 - CHANCE, entities - 1) * error
    return (found[0], found[1]) if sure else (0.0, 0.0)


def _within(values: np.ndarray, groups: _Groups) -> float:
    """Return the share of a column's variance that is within entities."""
    within = values - (groups.total(values) / groups.size)[groups.code]
    return float(within.var() / (values.var() or 1))
