"""Have the inputs changed jointly? A classifier that tells two tables apart, and how much likelier each row is in one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ninefold.training import Words

MOST_ROWS = 10_000  # of a side; more add cost, and little power
FOLDS = 5
PERMUTATIONS = 1_999
MANY_BLOCKS = 400  # from which on the normal distribution stands in for permutations
MOST_CATEGORIES = 200  # of a column, the most frequent ones; trees take 255
PARTS = 8  # numbers that the words of a text are condensed to
HIGHEST_RATIO = 20.0
# Small trees: with many leaves it learns its days by heart, and tells new days apart worse.
LEARNER = {"max_iter": 60, "max_leaf_nodes": 5, "learning_rate": 0.1, "early_stopping": False}


class Encoded(NamedTuple):
    """Both tables as one matrix: float64, shape (n, columns), a category by its number, missing is NaN."""

    values: np.ndarray
    owner: np.ndarray  # the position of the feature that each column comes from
    categorical: np.ndarray  # whether a column holds numbers of categories


class Compared(NamedTuple):
    """How far a classifier tells two tables apart on rows of blocks that it did not learn from."""

    auc: float
    low: float
    high: float
    p: float
    importance: dict[str, float]  # by feature, the AUC that is lost without it; largest first, empty if not asked for
    before: np.ndarray  # positions of the rows compared, int64
    after: np.ndarray
    before_probability: np.ndarray  # that a row is of the second table, if both were of one size; same order
    after_probability: np.ndarray


def compare(  # noqa: PLR0913, PLR0917
    before: pd.DataFrame,
    after: pd.DataFrame,
    kinds: Mapping[str, str],
    blocks: tuple[np.ndarray, np.ndarray] | None = None,
    seed: int = 0,
    most: int = MOST_ROWS,
    explain: bool = True,
) -> Compared:
    """Return how far a classifier tells the rows of two tables apart, and what it tells them apart by.

    Classifier two-sample test: Lopez-Paz and Oquab, Revisiting classifier two-sample tests, 2017. A gradient boosting
    learns on four fifths of the blocks and ranks the rows of the last fifth; the AUC is the mean over fifths. Rows of a
    block are never on both sides. The p-value is the share of permutations of whole blocks within their fifth that
    give as high an AUC; of more than `MANY_BLOCKS` that of the normal distribution. The interval, of 95 %, is Student's,
    from the sums of blocks (Obuchowski, Biometrics 53, 1997). Blocks are taken as exchangeable: where a week resembles
    itself more than that, hold the AUC against those of earlier weeks (`limits`).

    Parameters
    ----------
    before, after : DataFrame
        The columns that `kinds` names; more than `most` rows are thinned evenly.
    kinds : mapping
        Column -> ``categorical``, ``text`` or another kind, which is of numbers. Of texts the length and words are compared.
    blocks : two ndarrays of int, optional
        The block of each row; without, each row is its own.
    seed : int
    most : int
        Rows of a side.
    explain : bool
        Whether to measure the importance of each feature, by permuting it.

    Returns
    -------
    Compared
        With fewer than two blocks on a side the p-value is NaN: what sets one day apart is not known.
    """
    picked = [thin(len(table), most) for table in (before, after)]
    block = [np.arange(len(rows)) for rows in picked]
    if blocks is not None:
        block = [pd.factorize(each[rows])[0] for each, rows in zip(blocks, picked, strict=True)]
    count = [int(each.max(initial=-1)) + 1 for each in block]
    encoded = encode(before.iloc[picked[0]], after.iloc[picked[1]], kinds, seed)
    side = np.repeat([0, 1], [len(rows) for rows in picked])
    groups = np.concatenate([block[0], count[0] + block[1]])
    if min(len(rows) for rows in picked) < 2 * FOLDS or not len(kinds):
        half = np.full(len(side), 0.5)
        return Compared(0.5, 0.0, 1.0, np.nan, {}, *picked, *np.split(half, [len(picked[0])]))
    fold = _folds(side, groups, seed)
    with threadpool_limits(1, "openmp"):  # for tables this small, threads cost more than they save
        score, lost = _rank(encoded, side, fold, list(kinds), seed, explain)
    auc = _auc(score, side, fold)
    error, freedom = _error(score, side, fold, groups, auc), max(min(count) - 1, 1)
    p = np.nan if min(count) < 2 else _p_value(score, side, fold, groups, auc, error, seed)
    reach = stats.t.ppf(0.975, freedom) * error
    low, high = max(auc - reach, 0.0), min(auc + reach, 1.0)
    probability = np.split(_calibrate(score, side), [len(picked[0])])
    importance = {name: auc - value for name, value in sorted(lost.items(), key=lambda item: item[1])}
    return Compared(auc, low, high, p, importance, *picked, *probability)


def ratios(compared: Compared) -> np.ndarray:
    """Return how much likelier each row of the first table is in the second: float64, mean 1, at most `HIGHEST_RATIO`.

    Density ratios from out-of-fold probabilities: Sugiyama, Suzuki and Kanamori, Density Ratio Estimation, 2012.
    """
    odds = compared.before_probability / (1 - compared.before_probability)
    clipped = np.clip(odds, 1 / HIGHEST_RATIO, HIGHEST_RATIO)
    return clipped / clipped.mean() if len(clipped) else clipped


def effective_rows(weight: np.ndarray) -> float:
    """Return how many equal weights would tell as much (Kish, Survey Sampling, 1965)."""
    return float(weight.sum() ** 2 / (weight**2).sum()) if len(weight) else 0.0


def thin(rows: int, most: int) -> np.ndarray:
    """Return the positions of `most` of so many rows, spread evenly (of all if there are fewer): int64."""
    return np.unique(np.linspace(0, rows - 1, min(rows, most)).astype("int64")) if rows else np.arange(0)


def encode(before: pd.DataFrame, after: pd.DataFrame, kinds: Mapping[str, str], seed: int = 0) -> Encoded:
    """Return two tables, one below the other, as numbers that trees can take."""
    columns: list[np.ndarray] = []
    owner: list[int] = []
    categorical: list[bool] = []
    for number, (name, kind) in enumerate(kinds.items()):
        both = pd.concat([before[name], after[name]], ignore_index=True)
        if kind == "text":
            words = np.asarray(Words(parts=PARTS, seed=seed).fit(both).transform(both), dtype="float64")
            numbers = np.column_stack([both.str.len().to_numpy("float64", na_value=np.nan), words])
        elif kind == "categorical":
            code, values = pd.factorize(both)
            often = pd.Series(code[code >= 0]).value_counts().index[:MOST_CATEGORIES].to_numpy()
            place = np.full(len(values) + 1, len(often), dtype="float64")  # the rest is one category
            place[often], place[-1] = np.arange(len(often)), np.nan  # the code -1 is a missing value
            numbers = place[code][:, None]
        else:
            numbers = both.to_numpy("float64", na_value=np.nan)[:, None]
        columns += list(numbers.T)
        owner += [number] * numbers.shape[1]
        categorical += [kind == "categorical"] * numbers.shape[1]
    values = np.column_stack(columns) if columns else np.empty((len(before) + len(after), 0))
    return Encoded(np.where(np.isinf(values), np.nan, values), np.array(owner), np.array(categorical, dtype="bool"))


def _folds(side: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Return the fold of each row: of each side whole blocks, dealt out at random; rows where a side is one block."""
    random, fold = np.random.default_rng(seed), np.empty(len(side), dtype="int64")
    members = [np.unique(groups[side == which], return_inverse=True) for which in (0, 1)]
    fewest = min(len(names) for names, _ in members)
    number = min(FOLDS, fewest) if fewest > 1 else FOLDS
    for which, (names, code) in enumerate(members):
        unit = code if len(names) > 1 else np.arange(len(code))
        fold[side == which] = (random.permutation(int(unit.max(initial=-1)) + 1) % number)[unit]
    return fold


def _rank(
    encoded: Encoded, side: np.ndarray, fold: np.ndarray, names: list[str], seed: int, explain: bool
) -> tuple[np.ndarray, dict[str, float]]:
    """Return the out-of-fold log odds of the second table, and the AUC with each feature permuted."""
    score = np.empty(len(side))
    without = np.empty((len(names) if explain else 0, len(side)))
    random = np.random.default_rng(seed + 1)
    for number in np.unique(fold):
        learn, test = fold != number, fold == number
        model = HistGradientBoostingClassifier(
            **LEARNER, min_samples_leaf=max(20, learn.sum() // 100),
            categorical_features=encoded.categorical, random_state=seed,
        )  # fmt: skip
        model.fit(encoded.values[learn], side[learn])  # weights would make it find its bins a hundred times slower
        values = encoded.values[test]
        score[test] = model.decision_function(values)
        for feature in range(len(without)):
            moved, columns = values.copy(), np.flatnonzero(encoded.owner == feature)
            moved[:, columns] = moved[np.ix_(random.permutation(len(moved)), columns)]
            without[feature, test] = model.decision_function(moved)
    return score, {name: _auc(each, side, fold) for name, each in zip(names, without, strict=False)}


def _auc(score: np.ndarray, side: np.ndarray, fold: np.ndarray) -> float:
    """Return the chance that a row of the second table is ranked above one of the first in its fold."""
    wins, weight = [], []
    for number in np.unique(fold):
        inside = fold == number
        ranks, second = stats.rankdata(score[inside]), side[inside] == 1
        pairs = second.sum() * (~second).sum()
        wins.append(ranks[second].sum() - second.sum() * (second.sum() + 1) / 2)
        weight.append(pairs)
    return float(np.sum(wins) / np.sum(weight))


def _error(score: np.ndarray, side: np.ndarray, fold: np.ndarray, groups: np.ndarray, auc: float) -> float:
    """Return the standard error of the AUC from how its blocks differ."""
    placed = np.empty(len(score))
    for number in np.unique(fold):
        inside = np.flatnonzero(fold == number)
        for which in (0, 1):
            mine, other = inside[side[inside] == which], np.sort(score[inside[side[inside] != which]])
            below, to = (np.searchsorted(other, score[mine], side=end) for end in ("left", "right"))
            share = (below + to) / 2 / len(other)
            placed[mine] = share if which else 1 - share
    variance = 0.0
    for which in (0, 1):
        mine = side == which
        sums = np.bincount(pd.factorize(groups[mine])[0], placed[mine] - auc)
        sums = sums - sums.mean()
        variance += len(sums) / max(len(sums) - 1, 1) * float((sums**2).sum()) / mine.sum() ** 2
    return float(np.sqrt(variance))


def _p_value(  # noqa: PLR0913, PLR0917
    score: np.ndarray, side: np.ndarray, fold: np.ndarray, groups: np.ndarray, auc: float, error: float, seed: int
) -> float:
    """Return how often blocks whose tables are permuted within their fold are told apart as well."""
    if groups.max() + 1 > MANY_BLOCKS:
        return float(stats.norm.sf((auc - 0.5) / error)) if error > 0 else 1.0
    random, total, pairs = np.random.default_rng(seed + 2), np.zeros(PERMUTATIONS), np.zeros(PERMUTATIONS)
    for number in np.unique(fold):
        inside = fold == number
        code, names = pd.factorize(groups[inside])
        ranks, size = np.bincount(code, stats.rankdata(score[inside])), np.bincount(code)
        second = np.unique(code[side[inside] == 1])
        members = random.random((PERMUTATIONS, len(names))).argsort(axis=1)[:, : len(second)]
        rows = size[members].sum(axis=1)
        total += ranks[members].sum(axis=1) - rows * (rows + 1) / 2
        pairs += rows * (size.sum() - rows)
    return float((1 + (total / pairs >= auc - 1e-12).sum()) / (1 + PERMUTATIONS))


def _calibrate(score: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Return out-of-fold log odds as probabilities for tables of one size; where nothing can be told, near one half."""
    size = np.bincount(side, minlength=2)
    map_ = LogisticRegression(C=1e3).fit(score[:, None], side, sample_weight=(len(side) / 2 / size)[side])
    if map_.coef_[0, 0] <= 0:  # ranked worse than by chance: there is nothing to tell
        return np.full(len(side), 0.5)
    return np.clip(map_.predict_proba(score[:, None])[:, 1], 1e-3, 1 - 1e-3)
