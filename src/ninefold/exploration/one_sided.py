"""Missing values, other unusual values, and words of texts that occur with one outcome alone."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import sparse, stats
from sklearn.feature_extraction.text import CountVectorizer

from ninefold.exploration.univariate import FEW_VALUES, FEWEST, as_numbers
from ninefold.problem import Problem, decisions

# A value that occurs with one outcome alone.
ODDS = {"missing": 6.0, "usual": 20.0}  # least odds ratio, at the near end of its interval of 99 %
PURE, WIDE = 0.995, 0.1  # share of one class where a column is unusual (not 0 or "none", say); of the class's rows
ROWS, CLUSTERS = {"missing": FEWEST, "usual": 30}, 10  # fewer may be sampling noise, or one bad day
MOST_TEXTS, MOST_WORDS = 20_000, 3000  # rows of which words are counted; most of these
CHANCE = 0.1  # levels or words that have one outcome alone by chance, expected of all of a column
TELLING, OFTEN = 0.92, 0.25  # share of each outcome that a word classifies correctly; of the texts of its only one


def value(values: pd.Series, events: dict[str, np.ndarray], cluster: np.ndarray, problem: Problem) -> str:
    """Return which value has one outcome alone, in words: a missing one; of classes any, or any but the usual."""
    absent = values.isna().to_numpy()
    evidence = _apart(absent, events, cluster, ("missing", "where it is missing"))
    if evidence or not problem.is_class:
        return evidence
    often = (known := values[~absent]).value_counts()
    inside = {name: event[~absent] for name, event in events.items()}
    marks = [(known == level, f"where it is {level}") for level in often.index[:FEW_VALUES] if often[level] >= FEWEST]
    if len(often) > 1 and len(known) / 2 < often.iloc[0]:
        marks.insert(0, (known != often.index[0], f"where it is not {often.index[0]}"))
    found = (_apart(mark.to_numpy(), inside, cluster[~absent], ("usual", where)) for mark, where in marks)
    evidence = next(filter(None, found), "")
    if evidence or known.empty or pd.api.types.is_numeric_dtype(values):
        return evidence
    codes, levels = pd.factorize(known)
    table = sparse.csr_array((np.ones(len(codes), "int64"), (np.arange(len(codes)), codes)))
    return _together(table, levels.astype("str"), inside, cluster[~absent], "where it is")


def events_of(outcome: np.ndarray, problem: Problem) -> dict[str, np.ndarray]:
    """Return the event, each class, or being above each decile of the quantity; bool, by name."""
    if not problem.is_class:
        deciles = np.unique(np.quantile(outcome, np.arange(0, 1, 0.1)))
        return {f"share of {problem.target} above {decisions.number(float(cut))}": outcome > cut for cut in deciles}
    names = {number: problem.changed(focus=name) for number, name in enumerate(problem.classes)}
    return {decisions.level_name(names[n]): outcome == n for n in ([1] if problem.task == "binary" else names)}


def _apart(marked: np.ndarray, events: dict[str, np.ndarray], cluster: np.ndarray, value: tuple[str, str]) -> str:
    """Return the outcome whose odds there and elsewhere differ most, if significantly over the limit, in words.

    By the near end of the interval of the odds ratio (Haldane's correction; Agresti, Categorical Data Analysis, 2013, 3.1.1).
    """
    kind, where = value
    if len(np.unique(cluster[marked])) < CLUSTERS or min(marked.sum(), (~marked).sum()) < ROWS[kind]:
        return ""
    z, worst, words = stats.norm.ppf(1 - 0.005 / max(len(events), 1)), np.log(ODDS[kind]), ""
    for name, event in events.items():
        inside, outside = event[marked], event[~marked]
        counts = np.array([inside.sum(), (~inside).sum(), outside.sum(), (~outside).sum()], dtype="float64")
        size = abs(np.log(counts + 0.5) @ [1, -1, -1, 1]) - z * np.sqrt((1 / (counts + 0.5)).sum())
        side = int(counts[1] > counts[0] and len(events) == 1)  # the event, or its absence
        pure = counts[side] >= PURE * marked.sum() and counts[side] >= WIDE * (counts[side] + counts[side + 2])
        if size > worst and (kind == "missing" or pure):
            rates = f"{inside.mean():.1%} of {marked.sum():,} rows, elsewhere {outside.mean():.1%}"
            worst, words = size, f"{where} the {name} is {rates}"
    return words


def _together(
    table: sparse.csr_array, names: Sequence[str], events: dict[str, np.ndarray], cluster: np.ndarray, where: str
) -> str:
    """Return the outcome that several levels or words have alone, in words; `table` marks the rows of each, one per name.

    They are chosen in one half of the clusters, so often and with one outcome alone that chance hardly gives one of them;
    together they are tested in the other half, as one value is.
    """
    first = np.random.default_rng(0).random(cluster.max(initial=0) + 1)[cluster] < 0.5
    for name, event in events.items():
        for side in (event, ~event) if len(events) == 1 else (event,):
            rows, same = table[first].sum(axis=0), table[first].T @ side[first].astype("int64")
            chance = np.where(rows == same, side[first].mean(), 1.0) ** rows
            chosen = np.flatnonzero(chance < CHANCE / len(names))
            if len(chosen) > 1:
                marked = table[:, chosen].sum(axis=1)[~first] > 0
                shown = ", ".join(f'"{names[place]}"' for place in chosen[rows[chosen].argsort()[::-1]][:3])
                text = f"{where} {shown}{' or the like' * (len(chosen) > 3)}"
                if evidence := _apart(marked, {name: event[~first]}, cluster[~first], ("usual", text)):
                    return evidence
    return ""


def word(values: pd.Series, events: dict[str, np.ndarray], cluster: np.ndarray) -> str:
    """Return the word of a text column that tells an outcome from the others, or is in many texts of it alone, in words."""
    if not is_text(values):
        return ""
    texts = values.iloc[:: -(-len(values) // MOST_TEXTS)].fillna("").astype("str")
    if texts.nunique() <= FEW_VALUES or (texts.str.count(r"\b\w\w") > 1).mean() < 0.5:
        return ""
    counter = CountVectorizer(binary=True, min_df=FEWEST, max_features=MOST_WORDS)
    try:
        table, names = counter.fit_transform(texts), counter.get_feature_names_out()
    except ValueError:  # no word is in so many texts
        return ""
    chosen, words, best = texts.index.to_numpy(), "", 0.0
    for name, event in ((name, event[chosen]) for name, event in events.items()):
        if min(event.sum(), (~event).sum()) < FEWEST:
            continue
        counts = np.array([table.T @ event, table.T @ ~event])  # of texts with each word
        shares = counts / [[event.sum()], [(~event).sum()]]
        right = (1 + np.abs(shares[0] - shares[1])) / 2
        pure = counts.max(axis=0) >= PURE * counts.sum(axis=0)
        wide = np.where(counts[0] > counts[1], *shares) >= OFTEN
        for place in np.flatnonzero((right >= TELLING) | (pure & wide)):
            marked = table[:, [place]].toarray().ravel() > 0
            kind = "missing" if right[place] >= TELLING else "usual"
            value = kind, f'where it contains "{names[place]}"'
            evidence = _apart(marked, {name: event}, cluster[chosen], value)
            if evidence and right[place] > best:
                words, best = evidence, right[place]
    events = {name: event[chosen] for name, event in events.items()}
    return words or _together(sparse.csr_array(table), names, events, cluster[chosen], "where it contains")


def is_text(values: pd.Series) -> bool:
    """Return whether a column holds texts, of which words can be counted, and not numbers or names of kinds."""
    return pd.api.types.is_string_dtype(values) and as_numbers(values) is None
