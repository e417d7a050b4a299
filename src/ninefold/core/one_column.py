"""How much does one column alone know of the outcome? One that knows too much was filled in after it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from ninefold.core import decisions

BINS = 50  # of a numeric column, whose order need not match the outcome's
PRIOR_ROWS = 20  # weight of the overall share in the share of a group (Micci-Barreca, SIGKDD Explorations 3, 2001)
SMALL = 200  # validation rows, under which luck may look like knowledge
MANY = 5000  # validation rows, from which errors are counted on them alone
FEWEST = 10  # rows of an outcome, under which a ranking says nothing
FEW_VALUES = 31  # a column with no more values marks cases, as text does
FOLDS = 5

Folds = list[tuple[np.ndarray, np.ndarray]]
Found = list[tuple[np.ndarray, np.ndarray]]  # scores of judged rows, and of those in groups seen, per way of grouping


class Score(NamedTuple):
    """What one column knows, 0-1: ROC AUC (of several classes the mean over them), or R²."""

    learned: float  # of what its groups had on other rows, judged on rows not learned from
    direct: (
        float  # of its numbers as they are, in the better direction (R²: the squared rank correlation); NaN for text
    )
    score: float  # the largest of these, and of `learned` on rows whose group had been seen
    given: str | None  # what it gives away best: one of several classes; of a quantity, by gaps, whether it is high
    given_score: float  # how well, as ROC AUC (NaN if there is none to judge by)


class Column(NamedTuple):
    """A column as it is judged: its values, these as float64 if they are numbers, ways to put its rows into groups."""

    values: pd.Series
    numbers: pd.Series | None
    codes: list[np.ndarray]


class Roc(NamedTuple):
    """What the ROC curve of groups tells of one class."""

    auc: float
    right: float  # of either outcome told right at the best cut, the mean of both (Youden, Cancer 3, 1950)
    inside: float  # ROC AUC among rows on one side of that cut
    errors: float  # rows on the wrong side


def guess(stated: dict[str, Any]) -> float:
    """Return the score of a column that knows nothing."""
    return 0.5 if decisions.is_class(stated) else 0.0


def folds(
    part: np.ndarray, outcome: np.ndarray, block: np.ndarray, stated: dict[str, Any], small: int = SMALL
) -> Folds:
    """Return masks of the rows that learn and of those that are judged: training and validation, or five folds.

    Where validation has few rows, or few of an outcome, all open rows are judged, each by what was learned on the other
    folds, so that luck does not look like knowledge. Rows of one block are in one fold.
    """
    train, valid = part == "train", part == "validation"
    if valid.sum() >= small and _enough(outcome[valid], outcome, stated):
        return [(train, valid)]
    fold = block % FOLDS if block.max(initial=0) >= FOLDS - 1 else np.arange(len(block)) % FOLDS
    return [(fold != number, fold == number) for number in range(FOLDS)]


def judge(part: np.ndarray, outcome: np.ndarray, block: np.ndarray, stated: dict[str, Any]) -> Classes | Quantity:
    """Return what `score` holds columns against.

    Parameters
    ----------
    part : ndarray of str, shape (n,)
        ``train`` or ``validation``.
    outcome : ndarray, shape (n,)
        As `decisions.outcome` has it.
    block : ndarray of int, shape (n,)
        Rows that hang together.
    stated : dict
        The problem.
    """
    masks = folds(part, outcome, block, stated)
    if not decisions.is_class(stated):
        return Quantity(outcome, masks)
    finer = masks if len(masks) > 1 else folds(part, outcome, block, stated, MANY)
    return Classes(outcome, masks, finer, stated)


def column(values: pd.Series, by: Classes | Quantity) -> Column:
    """Return a column as `score` takes it; missing is a group of its own."""
    numbers = as_numbers(values)
    return Column(values, numbers, _codes(values, numbers, by.masks))


def score(one: Column, by: Classes | Quantity) -> Score:
    """Return how well a column alone foresees the outcome."""
    found = [by.learn(code) for code in one.codes]
    learned = max([float(np.mean(all_rows)) for all_rows, _ in found], default=by.guess)
    seen = max([float(np.mean(some)) for _, some in found], default=by.guess)
    direct = np.nan if one.numbers is None else float(np.mean(by.rank(one.numbers.to_numpy("float64"))))
    return Score(learned, direct, float(np.nanmax([learned, seen, direct])), *by.best(one, found))


def as_numbers(values: pd.Series) -> pd.Series | None:
    """Return a column as float64: numbers, times, yes and no, and text that holds numbers; None for other text."""
    if pd.api.types.is_datetime64_any_dtype(values):
        return values.astype("int64").where(values.notna()).astype("float64")
    if pd.api.types.is_numeric_dtype(values):
        return values.astype("float64")
    if isinstance(values.dtype, pd.CategoricalDtype):
        return None
    code, names = pd.factorize(values)
    parsed = pd.to_numeric(pd.Series(names, dtype="object"), errors="coerce").astype("float64").to_numpy()
    if not len(parsed) or np.isnan(parsed).mean() > 0.05:  # a few words among numbers, such as "unknown"
        return None
    return pd.Series(np.append(parsed, np.nan)[code], values.index)


def is_identifier(values: pd.Series, outcome: np.ndarray, stated: dict[str, Any]) -> bool:
    """Return whether a column numbers the rows: whole numbers without gaps to speak of, none twice.

    How a file is sorted may tell its outcomes apart, and so may such numbers; they are no knowledge of the case. An
    outcome that is itself such a number, as a rank is, leaves the two apart no more: then nothing is an identifier.
    """
    numbers = as_numbers(values)
    if numbers is None or pd.api.types.is_datetime64_any_dtype(values) or not _counts(numbers.to_numpy()):
        return False
    return decisions.is_class(stated) or not _counts(np.asarray(outcome, dtype="float64"))


def edges(values: pd.Series, bins: int) -> np.ndarray:
    """Return where bins of about equal size begin; a value that fills a bin by itself gets one."""
    known = np.sort(values.dropna().to_numpy(dtype="float64"))
    starts = np.flatnonzero(np.append(True, known[1:] != known[:-1])) if len(known) else np.array([], dtype=int)
    rows = np.diff(np.append(starts, len(known)))
    often = rows > len(known) / bins
    common, rest = known[starts[often]], known[~np.repeat(often, rows)]
    inner = np.linspace(0, 1, max(bins - len(common), 1) + 1)[1:-1]
    cuts = np.quantile(rest, inner, method="lower") if len(rest) else []
    return np.unique(np.concatenate([cuts, common, np.nextafter(common, np.inf)]))


def _codes(values: pd.Series, numbers: pd.Series | None, masks: Folds) -> list[np.ndarray]:
    """Return the ways to put rows into groups, from 1, missing is 0: by bins of numbers, by values that repeat."""
    learn = np.logical_or.reduce([rows for rows, _ in masks])
    distinct, known = values.nunique(), int(values.notna().sum())
    ways = []
    if numbers is not None:
        bins = np.searchsorted(edges(numbers[learn], BINS), numbers, side="right") + 1
        ways.append(np.where(numbers.isna(), 0, bins))
    repeats = distinct <= known / 2 or known < len(values)  # of values that do not repeat, only being missing can tell
    if repeats and (numbers is None or BINS < distinct <= known / 2):
        ways.append(pd.factorize(values)[0] + 1)
    return ways


class Classes:
    """Judges by ROC AUC, each class against the rest (of two, the event alone)."""

    guess = 0.5

    def __init__(self, outcome: np.ndarray, masks: Folds, finer: Folds, stated: dict[str, Any]) -> None:
        self.outcome, self.masks, self.names = outcome.astype("int64"), masks, stated["classes"]
        rows = np.bincount(self.outcome, minlength=len(self.names))
        self.wide = rows >= SMALL
        large = np.flatnonzero((rows >= FEWEST) & (len(outcome) - rows >= FEWEST))
        self.classes = large if stated["task"] == "multiclass" else np.intersect1d(large, [1])
        learn = np.logical_or.reduce([rows for rows, _ in masks])
        self.prior = np.bincount(self.outcome[learn], minlength=len(self.names)) / max(learn.sum(), 1)
        self.places = self._places(masks)
        self.finer = self.places if finer is masks or len(finer) == 1 else self._places(finer)

    def learn(self, code: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the ROC AUC per class of the shares learned by group: of judged rows, and of those in groups seen."""
        rows, judged, tallies = self._tally(code, self.places)
        seen = rows > 0
        most = judged[seen].sum() >= judged.sum() / 2
        found, among = [], []
        for hits, share in tallies:
            found.append(roc(hits, judged - hits, share).auc)
            among.append(roc(hits[seen], (judged - hits)[seen], share[seen]).auc if most else 0.5)
        return np.array(found or [0.5]), np.array(among or [0.5])

    def rank(self, numbers: np.ndarray) -> np.ndarray:
        """Return the ROC AUC per class of the numbers as they are, in the better direction, on rows that have one."""
        known = ~np.isnan(numbers)
        outcome, place = self.outcome[known], stats.rankdata(numbers[known])
        rows = np.bincount(outcome, minlength=len(self.names)).astype("float64")
        sums = np.bincount(outcome, place, minlength=len(self.names))
        rest = known.sum() - rows
        enough = np.intersect1d(self.classes, np.flatnonzero((rows >= FEWEST) & (rest >= FEWEST)))
        auc = (sums[enough] - rows[enough] * (rows[enough] + 1) / 2) / (rows[enough] * rest[enough])
        return np.maximum(auc, 1 - auc) if len(enough) else np.array([0.5])

    def best(self, one: Column, found: Found) -> tuple[str | None, float]:
        """Return the class of many rows that text, or a few values, foresee best, and how well.

        A range of a measured quantity may well hold all rows of a class and none of another; a mark is different.
        """
        wide = self.marked(one)
        if not found or not wide.any():
            return None, np.nan
        known = np.where(wide, np.max([every for every, _ in found], axis=0), -1)
        place = int(known.argmax())
        return self.names[self.classes[place]], float(known[place])

    def marked(self, one: Column) -> np.ndarray:
        """Return which of several classes have rows enough to be marked by a column; none, if it is measured."""
        marks = len(self.names) > 2 and (one.numbers is None or one.values.nunique() <= FEW_VALUES)
        return self.wide[self.classes] & marks

    def curves(self, code: np.ndarray) -> list[Roc]:
        """Return the ROC curve of each class, on as many judged rows as it takes to count errors."""
        _, judged, tallies = self._tally(code, self.finer)
        return [roc(hits, judged - hits, share) for hits, share in tallies]

    def cuts(self, numbers: np.ndarray) -> list[tuple[Roc, Roc]]:
        """Return the ROC curves of each class by the numbers as they are, rising and falling, on rows that have one."""
        known = ~np.isnan(numbers)
        distinct, code = np.unique(numbers[known], return_inverse=True)
        rows, found = np.bincount(code), []
        for number in self.classes:
            hits = np.bincount(code, self.outcome[known] == number, minlength=len(distinct))
            found.append((roc(hits, rows - hits, distinct), roc(hits, rows - hits, -distinct)))
        return found

    def _places(self, masks: Folds) -> list[tuple[Any, ...]]:
        """Return, per fold, the places of rows that learn and that are judged, and of these those of each class."""
        events = [self.outcome == number for number in self.classes]
        return [
            tuple(
                (np.flatnonzero(rows), [np.flatnonzero(rows & event) for event in events]) for rows in (learn, judged)
            )
            for learn, judged in masks
        ]

    def _tally(
        self, code: np.ndarray, places: list[tuple[Any, ...]]
    ) -> tuple[np.ndarray, np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
        """Return the rows learned from and judged per group and fold; per class its judged rows and its share learned."""
        size = int(code.max(initial=0)) + 1

        def count(of: list[np.ndarray]) -> np.ndarray:
            return np.concatenate([np.bincount(code[rows], minlength=size) for rows in of])

        rows, judged = (count([fold[side][0] for fold in places]) for side in (0, 1))
        tallies = []
        for place, number in enumerate(self.classes):
            had, hits = (count([fold[side][1][place] for fold in places]) for side in (0, 1))
            tallies.append((hits, (had + PRIOR_ROWS * self.prior[number]) / (rows + PRIOR_ROWS)))
        return rows, judged, tallies


class Quantity:
    """Judges by R²."""

    guess = 0.0

    def __init__(self, outcome: np.ndarray, masks: Folds) -> None:
        outcome = np.asarray(outcome, dtype="float64")
        self.centre, self.spread = outcome.mean(), outcome.std() or 1.0
        self.outcome, self.masks = (outcome - self.centre) / self.spread, masks

    def learn(self, code: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the R² of the means learned by group: of judged rows, and of those in groups seen."""
        size = int(code.max(initial=0)) + 1
        said, seen = np.zeros(len(code)), np.zeros(len(code), dtype=bool)
        for learn, judged in self.masks:
            mean, rows = _means(code[learn], self.outcome[learn], size)
            said[judged], seen[judged] = mean[code[judged]], rows[code[judged]] > 0
        every = np.logical_or.reduce([judged for _, judged in self.masks])
        some = every & seen if (every & seen).sum() >= every.sum() / 2 else every
        return np.array([_r2(self.outcome[every], said[every])]), np.array([_r2(self.outcome[some], said[some])])

    def rank(self, numbers: np.ndarray) -> np.ndarray:
        """Return the squared rank correlation with the numbers as they are, on rows that have one."""
        known = ~np.isnan(numbers)
        one, other = (stats.rankdata(column[known]) for column in (numbers, self.outcome))
        if known.sum() < 2 * FEWEST or np.ptp(one) == 0 or np.ptp(other) == 0:
            return np.array([0.0])
        return np.array([min(np.corrcoef(one, other)[0, 1] ** 2, 1.0)])

    def best(self, one: Column, found: Found) -> tuple[str | None, float]:
        """Return how well it tells high quantities from low ones by being missing, in the better direction."""
        absent = one.values.isna().to_numpy()
        if min(absent.sum(), (~absent).sum()) < FEWEST:
            return None, np.nan
        place, rows = stats.rankdata(self.outcome), float(absent.sum())
        auc = (place[absent].sum() - rows * (rows + 1) / 2) / (rows * (len(place) - rows))
        return "high", float(max(auc, 1 - auc))


def _means(code: np.ndarray, outcome: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of each group, drawn towards that of all the more it rests on luck, and its rows.

    Empirical Bayes: the overall mean counts as so many rows as the variance within groups is that between them; of a
    column that gives the outcome away, none (Micci-Barreca, SIGKDD Explorations 3, 2001, section 3).
    """
    rows = np.bincount(code, minlength=size)
    mean, groups = outcome.mean(), int((rows > 0).sum())
    own = np.bincount(code, outcome, minlength=size) / np.maximum(rows, 1)
    if len(code) <= groups:
        return np.full(size, mean), rows
    within = ((outcome - own[code]) ** 2).sum() / (len(code) - groups)
    between = max(outcome.var() - within, 1e-9)
    weight = rows / np.maximum(rows + within / between, 1e-9)
    return mean + weight * (own - mean), rows


def _r2(outcome: np.ndarray, said: np.ndarray) -> float:
    spread = ((outcome - outcome.mean()) ** 2).sum() if len(outcome) else 0.0
    return float(max(1 - ((outcome - said) ** 2).sum() / spread, 0.0)) if spread > 0 else 0.0


def roc(hits: np.ndarray, misses: np.ndarray, share: np.ndarray) -> Roc:
    """Return what scores that whole groups of rows have in common tell; nothing where an outcome has few rows."""
    if min(hits.sum(), misses.sum()) < FEWEST:
        return Roc(0.5, 0.5, 0.5, 0.0)
    _, place = np.unique(share, return_inverse=True)
    above, below = np.bincount(place, hits), np.bincount(place, misses)
    events, rest = above.sum(), below.sum()
    lower = np.cumsum(below)
    auc = min((above * (lower - below / 2)).sum() / (events * rest), 1.0)
    true, false = 1 - np.cumsum(above) / events, lower / rest  # of events above each cut, of the others below it
    cut = int((true + false).argmax())
    true, false = float(true[cut]), float(false[cut])
    # Of pairs that the cut orders rightly all count, of those on one side of it the share that ranking adds.
    split = true + false - 2 * true * false
    inside = (auc - true * false) / split if split > 1e-9 else 0.5
    return Roc(float(auc), (true + false) / 2, float(inside), float((1 - true) * events + (1 - false) * rest))


def _counts(numbers: np.ndarray) -> bool:
    if not len(numbers) or not np.isfinite(numbers).all() or (numbers != np.floor(numbers)).any():
        return False
    return bool(np.ptp(numbers) < 2 * len(numbers) and len(np.unique(numbers)) == len(numbers))


def _enough(judged: np.ndarray, outcome: np.ndarray, stated: dict[str, Any]) -> bool:
    if not decisions.is_class(stated):
        return True
    count = len(stated["classes"])
    rows, here = (np.bincount(values.astype("int64"), minlength=count) for values in (outcome, judged))
    return bool((here[rows >= FEWEST] >= FEWEST).all())
