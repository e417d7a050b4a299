"""Have the inputs changed jointly? A classifier that tells two tables apart, and how much likelier each row is in one."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ninefold.metrics import clustered_variance, student, subsample
from ninefold.monitoring import period
from ninefold.monitoring.period import Rows
from ninefold.training import Words

MOST_ROWS = 10_000  # of a side; more add cost, and little power
JOINT_ROWS = 2_500  # of a side, for an AUC alone
FOLDS = 5
PERMUTATIONS = 1_999
MANY_BLOCKS = 400  # from which on the normal distribution stands in for permutations
MOST_CATEGORIES = 60  # of a column, the most frequent ones; at most the bins of the learner
PARTS = 8  # numbers that the words of a text are condensed to
HIGHEST_RATIO = 20.0
# Small trees: with many leaves they overfit their days, and distinguish new days worse.
LEARNER = {"max_iter": 30, "max_leaf_nodes": 5, "learning_rate": 0.2, "max_bins": 63, "early_stopping": False}


class Compared(NamedTuple):
    """How well a classifier distinguishes two tables on rows of blocks that it was not fitted on."""

    auc: float
    low: float
    high: float
    p: float
    importance: dict[str, float]  # by feature, the AUC that is lost without it; largest first
    before: np.ndarray  # positions of the rows compared, int64
    after: np.ndarray
    before_probability: np.ndarray  # that a row is of the second table, if both were of one size; same order
    after_probability: np.ndarray


def compare(before: Rows, after: Rows, kinds: Mapping[str, str], explain: bool = True) -> Compared:
    """Return how well a classifier distinguishes two tables, and with `explain` by which features.

    Classifier two-sample test (Lopez-Paz and Oquab, 2017): gradient boosting ranks the rows of each fifth of the blocks. The
    p-value is by permutation of whole blocks within their fifth (of more than `MANY_BLOCKS` by the normal distribution); NaN
    with fewer than two blocks on a side. The interval, of 95 %, is Student's, from the sums of blocks (Obuchowski, 1997).
    Both take blocks as independent: `report.causes` asks for an AUC beyond the control limit of windows too.
    """
    picked = [subsample(len(rows.block), MOST_ROWS if explain else JOINT_ROWS) for rows in (before, after)]
    if min(len(rows) for rows in picked) < 2 * FOLDS or not kinds:
        return Compared(0.5, 0.0, 1.0, np.nan, {}, *picked, *(np.full(len(rows), 0.5) for rows in picked))
    sides = [period.take(rows, where) for rows, where in zip((before, after), picked, strict=True)]
    second = np.repeat([False, True], [len(rows) for rows in picked])
    block = pd.factorize(np.concatenate([2 * each.block for each in sides]) + second)[0]
    rows = pd.DataFrame({"second": second, "block": block})
    blocks = int(rows.groupby("second")["block"].nunique().min())
    rows["fold"] = _folds(rows, blocks)
    features = pd.concat([each.features for each in sides], ignore_index=True)
    with threadpool_limits(1, "openmp"):  # for tables this small, threads cost more than they save
        score, permuted = _rank(*_encode(features, kinds), rows, len(kinds) if explain else 0)
    auc, error = _auc(score, rows)
    lost = zip(kinds, [auc - _auc(each, rows)[0] for each in permuted], strict=False)
    importance = dict(sorted(lost, key=lambda item: -item[1]))
    p = np.nan if blocks < 2 else _p_value(score, rows, auc, error)
    reach = float(student(0.95, blocks)) * error
    probability = np.split(_calibrate(score, second), [len(picked[0])])
    return Compared(auc, max(auc - reach, 0.0), min(auc + reach, 1.0), p, importance, *picked, *probability)


def ratios(compared: Compared) -> np.ndarray:
    """Return how much likelier each row of the first table is in the second (Sugiyama et al., 2012)."""
    odds = compared.before_probability / (1 - compared.before_probability)
    clipped = np.clip(odds, 1 / HIGHEST_RATIO, HIGHEST_RATIO)
    return clipped / clipped.mean()


def _encode(frame: pd.DataFrame, kinds: Mapping[str, str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a table as numbers that trees can take, the position of the feature of each column, and the categories."""
    parts = []
    for name, kind in kinds.items():
        column, words = frame[name], np.empty((len(frame), 0))
        if kind == "categorical":
            often = column.value_counts().index[:MOST_CATEGORIES]
            place = often.get_indexer(pd.Index(column))
            rare_as_one = np.where(place < 0, len(often), place)
            number = np.where(column.isna(), np.nan, rare_as_one)
        else:
            number = period.measured(column, kind)
        if kind == "text":
            words = np.asarray(Words(parts=PARTS, seed=0).fit(column).transform(column), dtype="float64")
        parts.append(np.column_stack([number, words]))
    owner = np.repeat(np.arange(len(parts)), [part.shape[1] for part in parts])
    values, categorical = np.hstack(parts), np.array([kind == "categorical" for kind in kinds.values()])
    return np.where(np.isinf(values), np.nan, values), owner, categorical[owner]


def _folds(rows: pd.DataFrame, blocks: int) -> np.ndarray:
    """Return the fold of each row: of each side whole blocks, assigned at random; rows where a side is one block."""
    random, fold = np.random.default_rng(0), np.empty(len(rows), dtype="int64")
    number = min(FOLDS, blocks) if blocks > 1 else FOLDS
    for _, block in rows.groupby("second")["block"]:
        code, names = pd.factorize(block) if block.nunique() > 1 else (np.arange(len(block)), block)
        fold[block.index] = (random.permutation(len(names)) % number)[code]
    return fold


def _rank(
    values: np.ndarray, owner: np.ndarray, categorical: np.ndarray, rows: pd.DataFrame, features: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the out-of-fold log odds of the second table, and those with each of the first so many features permuted."""
    second, fold, random = rows["second"].to_numpy(), rows["fold"].to_numpy(), np.random.default_rng(1)
    score, permuted = np.empty(len(rows)), np.empty((features, len(rows)))
    for number in np.unique(fold):
        train, test = fold != number, fold == number
        options = {**LEARNER, "min_samples_leaf": max(20, train.sum() // 100), "random_state": 0}
        model = HistGradientBoostingClassifier(**options, categorical_features=categorical)
        known = np.where(np.isnan(values[train]).all(axis=0), 0.0, values[train])  # its binning fails without any value
        model.fit(known, second[train])  # weights would make its binning a hundred times slower
        score[test] = model.decision_function(values[test])
        for feature in range(features):
            moved, columns = values[test], np.flatnonzero(owner == feature)
            moved[:, columns] = moved[np.ix_(random.permutation(len(moved)), columns)]
            permuted[feature, test] = model.decision_function(moved)
    return score, permuted


def _auc(score: np.ndarray, rows: pd.DataFrame) -> tuple[float, float]:
    """Return the chance that a row of the second table is ranked above one of the first in its fold, and its error."""
    second, table = rows["second"].to_numpy(), rows.assign(score=score)
    every, own = table.groupby("fold")["score"], table.groupby(["fold", "second"])["score"]
    above = every.rank() - own.rank()  # rows of the other table, ties half
    others = every.transform("size") - own.transform("size")
    auc, share = float(above[second].sum() / others[second].sum()), above / others
    sums = np.bincount(rows["block"], share.where(second, 1 - share) - auc)
    sides = zip(np.split(sums, [rows["block"][second].iloc[0]]), np.bincount(second), strict=True)
    variance = sum(clustered_variance((each - each.mean()) / count, len(each)) for each, count in sides)
    return auc, float(np.sqrt(variance))


def _p_value(score: np.ndarray, rows: pd.DataFrame, auc: float, error: float) -> float:
    """Return how often an AUC is as high if whole blocks change tables at random within their fold."""
    if rows["block"].max() + 1 > MANY_BLOCKS:
        return float(stats.norm.sf((auc - 0.5) / error)) if error > 0 else 1.0
    random, total, pairs = np.random.default_rng(2), np.zeros(PERMUTATIONS), np.zeros(PERMUTATIONS)
    for _, part in rows.assign(score=score).groupby("fold"):
        code, names = pd.factorize(part["block"])
        ranks, size = np.bincount(code, part["score"].rank()), np.bincount(code)
        second = len(np.unique(code[part["second"]]))
        members = random.random((PERMUTATIONS, len(names))).argsort(axis=1)[:, :second]
        count = size[members].sum(axis=1)
        total += ranks[members].sum(axis=1) - count * (count + 1) / 2
        pairs += count * (size.sum() - count)
    return float((1 + (total / pairs >= auc - 1e-12).sum()) / (1 + PERMUTATIONS))


def _calibrate(score: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return out-of-fold log odds as probabilities for tables of one size; one half where ranks are worse than chance."""
    model = LogisticRegression(C=1e3, class_weight="balanced").fit(score[:, None], second)
    if model.coef_[0, 0] <= 0:
        return np.full(len(second), 0.5)
    return np.clip(model.predict_proba(score[:, None])[:, 1], 1e-3, 1 - 1e-3)
