"""Univariate scores: how well each column alone predicts the outcome. One that predicts too well may be a leak."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from ninefold.problem import Problem

BINS = 50  # of a numeric column, whose order need not match the outcome's
PRIOR_ROWS = 20  # weight of the overall share in the share of a group (Micci-Barreca, SIGKDD Explorations 3, 2001)
SMALL = 200  # rows of a class; with fewer, a column does not label it
MANY = 5000  # validation rows; with fewer, scores and errors are counted in five folds
FEWEST = 10  # rows of an outcome; with fewer, a ranking is meaningless
FEW_VALUES = 31  # a column with no more values labels cases, as text does
FOLDS = 5

Folds = list[tuple[np.ndarray, np.ndarray]]
Scores = list[tuple[np.ndarray, np.ndarray]]  # of all scored rows, and of those in known groups, per way of grouping


class Score(NamedTuple):
    """How well one column predicts the outcome, 0-1: ROC AUC (of several classes the mean over them), or R²."""

    learned: float  # of the means of its groups on other rows, out of sample
    direct: float  # of its numbers as they are, in the better direction (squared rank correlation); NaN for text
    score: float  # the largest of these, and of `learned` on rows whose group is among the training rows
    event: str | None  # what it predicts best, of several classes
    event_score: float  # how well, as ROC AUC; NaN if there is none


class Column(NamedTuple):
    """A column to score."""

    values: pd.Series
    numbers: pd.Series | None  # its values as float64
    codes: list[np.ndarray]  # ways to group its rows: by bins of numbers, by values that repeat; 0 is missing


class Roc(NamedTuple):
    """Summary of the ROC curve of one class."""

    auc: float
    right: float  # balanced accuracy at the best cut (Youden, Cancer 3, 1950)
    inside: float  # ROC AUC among rows on one side of that cut
    errors: float  # rows on the wrong side


def guess(problem: Problem) -> float:
    """Return the score of a column without information."""
    return 0.5 if problem.is_class else 0.0


def folds(part: np.ndarray, outcome: np.ndarray, cluster: np.ndarray, problem: Problem) -> Folds:
    """Return masks of training and of scored rows: the parts train and validation, or five folds.

    The latter where validation has few rows, or few of an outcome. Rows of one cluster are in one fold.
    """
    train, valid = part == "train", part == "validation"
    enough = valid.sum() >= MANY
    if problem.is_class:
        count = len(problem.classes)
        rows, scored = (np.bincount(y.astype("int64"), minlength=count) for y in (outcome, outcome[valid]))
        enough &= (scored[rows >= FEWEST] >= FEWEST).all()
    if enough:
        return [(train, valid)]
    fold = cluster % FOLDS if cluster.max(initial=0) >= FOLDS - 1 else np.arange(len(cluster)) % FOLDS
    return [(fold != number, fold == number) for number in range(FOLDS)]


def scorer(part: np.ndarray, outcome: np.ndarray, cluster: np.ndarray, problem: Problem) -> "Classes | Quantity":
    """Return the scorer of columns for an outcome, encoded as by `decisions.outcome`; `part`: train or validation."""
    masks = folds(part, outcome, cluster, problem)
    return Classes(outcome, masks, problem) if problem.is_class else Quantity(outcome, masks)


def column(values: pd.Series, scorer: "Classes | Quantity") -> Column:
    """Return a column for `score`."""
    numbers, distinct, known, ways = as_numbers(values), values.nunique(), int(values.notna().sum()), []
    if numbers is not None:
        learn = np.logical_or.reduce([rows for rows, _ in scorer.masks])
        bins = np.searchsorted(edges(numbers[learn], BINS), numbers, side="right") + 1
        ways.append(np.where(numbers.isna(), 0, bins))
    # Of values that do not repeat, only being missing can predict.
    repeats = distinct <= known / 2 or known < len(values)
    if repeats and (numbers is None or BINS < distinct <= known / 2):
        ways.append(pd.factorize(values)[0] + 1)
    return Column(values, numbers, ways)


def score(column: Column, scorer: "Classes | Quantity") -> Score:
    """Return how well a column alone predicts the outcome."""
    scores = [scorer.learn(code) for code in column.codes]
    learned, known = (max((float(np.mean(each[of])) for each in scores), default=scorer.guess) for of in (0, 1))
    direct = np.nan if column.numbers is None else float(np.mean(scorer.rank(column.numbers.to_numpy("float64"))))
    best = scorer.best(column, scores) if isinstance(scorer, Classes) else (None, np.nan)
    return Score(learned, direct, float(np.nanmax([learned, known, direct])), *best)


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


def is_identifier(values: pd.Series, outcome: np.ndarray, problem: Problem) -> bool:
    """Return whether a column numbers the rows: unique whole numbers with few gaps.

    If a file is sorted by outcome, such numbers predict it without being a leak. If the outcome itself is such a
    number, as a rank is, the two cannot be distinguished: then nothing is an identifier.
    """
    if pd.api.types.is_datetime64_any_dtype(values) or (numbers := as_numbers(values)) is None:
        return False
    return _counts(numbers.to_numpy()) and (problem.is_class or not _counts(np.asarray(outcome, dtype="float64")))


def edges(values: pd.Series, bins: int) -> np.ndarray:
    """Return where bins of about equal size begin; a value that fills a bin by itself gets one."""
    distinct, rows = np.unique(values.dropna().to_numpy(dtype="float64"), return_counts=True)
    often = rows > rows.sum() / bins
    common, rest = distinct[often], np.repeat(distinct[~often], rows[~often])
    inner = np.linspace(0, 1, max(bins - len(common), 1) + 1)[1:-1]
    cuts = np.quantile(rest, inner, method="lower") if len(rest) else []
    return np.unique(np.concatenate([cuts, common, np.nextafter(common, np.inf)]))


class Classes:
    """Scores by ROC AUC, each class against the rest (of two, the event alone)."""

    guess = 0.5

    def __init__(self, outcome: np.ndarray, masks: Folds, problem: Problem) -> None:
        self.outcome, self.masks, self.names = outcome.astype("int64"), masks, problem.classes
        rows = np.bincount(self.outcome, minlength=len(self.names))
        self.large = rows >= SMALL
        large = np.flatnonzero((rows >= FEWEST) & (len(outcome) - rows >= FEWEST))
        self.classes = large if problem.task == "multiclass" else np.intersect1d(large, [1])
        learn = np.logical_or.reduce([rows for rows, _ in masks])
        self.prior = np.bincount(self.outcome[learn], minlength=len(self.names)) / max(learn.sum(), 1)

    def learn(self, code: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the ROC AUC per class of the shares learned by group: of scored rows, and of those in known groups."""
        known, counts = self._counts(code)
        every = [roc(*classes).auc for classes in counts]
        some = [roc(*(values[known] for values in classes)).auc for classes in counts]
        return np.array(every or [0.5]), np.array(some or [0.5])

    def rank(self, numbers: np.ndarray) -> np.ndarray:
        """Return the ROC AUC per class of the numbers as they are, in the better direction, on rows that have one."""
        known = ~np.isnan(numbers)
        outcome, place = self.outcome[known], stats.rankdata(numbers[known])
        rows = np.bincount(outcome, minlength=len(self.names)).astype("float64")
        rest, sums = known.sum() - rows, np.bincount(outcome, place, minlength=len(self.names))
        enough = np.intersect1d(self.classes, np.flatnonzero((rows >= FEWEST) & (rest >= FEWEST)))
        auc = (sums[enough] - rows[enough] * (rows[enough] + 1) / 2) / (rows[enough] * rest[enough])
        return np.maximum(auc, 1 - auc) if len(enough) else np.array([0.5])

    def best(self, column: Column, scores: Scores) -> tuple[str | None, float]:
        """Return the class of many rows that text, or a few values, predict best, and how well."""
        large = self.marked(column)
        if not scores or not large.any():
            return None, np.nan
        values = np.where(large, np.max([every for every, _ in scores], axis=0), -1)
        return self.names[self.classes[values.argmax()]], float(values.max())

    def marked(self, column: Column) -> np.ndarray:
        """Return which of several classes have enough rows for a column to label them; none, if it is a measurement.

        A range of a measurement may well contain all rows of a class and none of another.
        """
        labels = len(self.names) > 2 and (column.numbers is None or column.values.nunique() <= FEW_VALUES)
        return self.large[self.classes] & labels

    def curves(self, code: np.ndarray) -> list[Roc]:
        """Return the ROC curve of each class on the scored rows."""
        return [roc(*classes) for classes in self._counts(code)[1]]

    def cuts(self, numbers: np.ndarray) -> list[Roc]:
        """Return the ROC curve of each class by the numbers as they are, on rows that have one, in the better direction."""
        known = ~np.isnan(numbers)
        distinct, code = np.unique(numbers[known], return_inverse=True)
        rows, curves = np.bincount(code), []
        for number in self.classes:
            hits = np.bincount(code, self.outcome[known] == number, minlength=len(distinct))
            ways = [roc(hits, rows - hits, share) for share in (distinct, -distinct)]
            curves.append(max(ways, key=lambda curve: curve.right))
        return curves

    def _counts(self, code: np.ndarray) -> tuple[np.ndarray, list[tuple[np.ndarray, ...]]]:
        """Return which groups of each fold have training rows (none, if these hold less than half of the scored rows).

        And per class the scored rows of it, those of others, and the share that is learned: shape (folds * groups,).
        """
        size, width = int(code.max(initial=0)) + 1, len(self.names)
        cell, length = code * width + self.outcome, size * width
        shape = (len(self.masks) * size, width)
        sides = ([np.bincount(cell[rows], minlength=length) for rows in side] for side in zip(*self.masks, strict=True))
        learned, scored = (np.concatenate(counts).reshape(shape) for counts in sides)
        rows, total = learned.sum(axis=1), scored.sum(axis=1)
        share = (learned + PRIOR_ROWS * self.prior) / (rows + PRIOR_ROWS)[:, None]
        known = (rows > 0) & (total[rows > 0].sum() >= total.sum() / 2)
        return known, [(scored[:, n], total - scored[:, n], share[:, n]) for n in self.classes]


class Quantity:
    """Scores by R²."""

    guess = 0.0

    def __init__(self, outcome: np.ndarray, masks: Folds) -> None:
        outcome = np.asarray(outcome, dtype="float64")
        self.centre, self.spread = outcome.mean(), outcome.std() or 1.0
        self.outcome, self.masks = (outcome - self.centre) / self.spread, masks

    def learn(self, code: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the R² of the means learned by group: of scored rows, and of those in known groups."""
        predicted, known = np.zeros(len(code)), np.zeros(len(code), dtype=bool)
        for train, scored in self.masks:
            mean, rows = _means(code[train], self.outcome[train], int(code.max(initial=0)) + 1)
            predicted[scored], known[scored] = mean[code[scored]], rows[code[scored]] > 0
        every = np.logical_or.reduce([scored for _, scored in self.masks])
        some = every & known if (every & known).sum() >= every.sum() / 2 else every
        return self._r2(predicted, every), self._r2(predicted, some)

    def _r2(self, predicted: np.ndarray, rows: np.ndarray) -> np.ndarray:
        outcome = self.outcome[rows]
        spread = ((outcome - outcome.mean()) ** 2).sum() if len(outcome) else 0.0
        return np.array([max(1 - ((outcome - predicted[rows]) ** 2).sum() / spread, 0.0) if spread > 0 else 0.0])

    def rank(self, numbers: np.ndarray) -> np.ndarray:
        """Return the squared rank correlation with the numbers as they are, on rows that have one."""
        ranks = pd.DataFrame({"numbers": numbers, "outcome": self.outcome}).dropna().rank()
        squared = ranks.corr(min_periods=2 * FEWEST).iloc[0, 1] ** 2
        return np.array([min(np.nan_to_num(squared), 1.0)])


def _means(code: np.ndarray, outcome: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of each group, shrunk towards the overall mean, and its rows.

    Empirical Bayes: the weight of the overall mean, in rows, is the variance within groups over that between them
    (Micci-Barreca, SIGKDD Explorations 3, 2001, section 3).
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


def roc(hits: np.ndarray, misses: np.ndarray, share: np.ndarray) -> Roc:
    """Return the ROC curve of scores shared by groups of rows; a random one where an outcome has few rows."""
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
    # All pairs that the cut orders correctly count; of those on one side of it, the share that the ranking adds.
    split = true + false - 2 * true * false
    inside = (auc - true * false) / split if split > 1e-9 else 0.5
    return Roc(float(auc), (true + false) / 2, float(inside), float((1 - true) * events + (1 - false) * rest))


def _counts(numbers: np.ndarray) -> bool:
    if not len(numbers) or not np.isfinite(numbers).all() or (numbers != np.floor(numbers)).any():
        return False
    return bool(np.ptp(numbers) < 2 * len(numbers) and len(np.unique(numbers)) == len(numbers))
