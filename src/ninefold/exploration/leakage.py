"""The leak screen: columns that predict the outcome too well, copy it, or are filled with one outcome alone."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from ninefold.exploration import univariate
from ninefold.exploration.entity_leakage import EntityLeakage
from ninefold.exploration.group_rates import CLUSTER, LABEL, cells, difference
from ninefold.exploration.univariate import FEWEST, Classes, Column, Quantity, Roc, Score
from ninefold.params import parse
from ninefold.problem import Problem, decisions, title

# Default limits, which columns without a leak hardly reach. Columns of the frames beside those of `group_rates`:
# the encoded outcome, the part of the split.
OUTCOME, PART = "@outcome", "@part"
SCORES = {"classes": 0.995, "regression": 0.99}  # a noise of 5 % of the quantity's spread leaves 0.9975
GAPS = {"classes": 0.5, "regression": 1.5}  # of shares, and of standard deviations
DECISIONS = {
    "known_later": "WHY IT IS KNOWN TOO LATE",
    "justified": "WHY IT IS KNOWN WHEN DECIDING",
}
# A copy with errors. Honest columns err where the outcomes meet; the errors of a copy fall anywhere. Of 143 public tables
# of classes (KEEL's), 7 have a column that is named for that, or for one side alone, and not for its score.
RIGHT = 0.92  # share of each outcome that two groups of values classify correctly; 5 % of labels changed leave 0.95
EVEN = {"two": 0.62, "several": 0.75}  # ROC AUC inside these groups: 0.5 if errors fall anywhere, 0.65-0.9 if measured
EXACT = 0.97  # half of the rows predicted to within 3 % of a random distance; 5 % of the rows replaced leave 1
SAME = 0.97  # R² of the column as a prediction; noise of 5 % of the value leaves 0.97 to 0.99
# A value that occurs with one outcome alone.
ODDS = {"missing": 6.0, "usual": 20.0}  # least odds ratio, at the near end of its interval of 99 %
PURE = 0.995  # share of one class where a column is not what it usually is, such as 0 or "none"
WIDE = 0.1  # share of the rows of that class
ROWS, CLUSTERS = {"missing": FEWEST, "usual": 30}, 10  # fewer may be sampling noise, or one bad day


class Columns(NamedTuple):
    """Columns to screen; of those, identifiers and the time, of which only the score counts; and those known later."""

    names: list[str]
    identifiers: list[str]
    later: list[str]


class Limits(NamedTuple):
    """The params' limits on a score and on the effect of missing values; None stands for `SCORES` and `GAPS`."""

    score: float | None
    gap: float | None

    def most_score(self, problem: Problem) -> float:
        """Return the limit on the score of a single column."""
        return self.score or SCORES["classes" if problem.is_class else "regression"]

    def most_gap(self, problem: Problem) -> float:
        """Return the limit on the effect of missing values: in shares, or in standard deviations of the quantity."""
        return self.gap or GAPS["classes" if problem.is_class else "regression"]


def missing_effects(frame: pd.DataFrame, columns: list[str], rows: int, problem: Problem, level: float) -> pd.DataFrame:
    """Return, per column with so many rows missing and present, how the outcome differs where it is missing.

    Returns
    -------
    DataFrame
        ``column``, ``missing`` (share of rows), ``outcome`` (what is compared: the event, the class that differs most,
        or the quantity), ``if missing``, ``if present`` (its means), ``gap``, ``low``, ``high``: missing less present,
        with its interval over clusters. The largest difference first.
    """
    effects, pair = [], ("missing", "present")
    for column in columns:
        absent = frame[column].isna()
        if min(absent.sum(), (~absent).sum()) >= max(rows, FEWEST):
            label, name = _differs(frame, absent, problem)
            group = absent.map({True: "missing", False: "present"})
            sums, sizes = cells(pd.DataFrame({CLUSTER: frame[CLUSTER], LABEL: label}), group, 1)
            mean, gap = sums.sum() / sizes.sum(), difference(sums, sizes, pair, shares=problem.is_class, level=level)
            effects.append((column, absent.mean(), name, mean["missing"], mean["present"], *gap))
    names = ["column", "missing", "outcome", "if missing", "if present", "gap", "low", "high"]
    table = pd.DataFrame(effects, columns=names)
    return table.sort_values("gap", key=abs, ascending=False, ignore_index=True, kind="stable")


def screen(
    frame: pd.DataFrame, columns: Columns, missing: pd.DataFrame, limits: Limits, problem: Problem
) -> pd.DataFrame:
    """Return how well each column alone predicts the outcome, the best first, and the evidence that it is a leak.

    Parameters
    ----------
    frame : DataFrame
        Rows in order of time, where they have one, with ``@outcome``, ``@part``, ``@cluster`` and ``@label``.
    columns : Columns
    missing : DataFrame
        What `missing_effects` returned.
    limits : Limits
    problem : Problem

    Returns
    -------
    DataFrame
        ``column``, the fields of `univariate.Score`, ``missing gap`` (of a quantity in its standard deviations),
        ``evidence``: in words, empty if there is none.
    """
    outcome, cluster = frame[OUTCOME].to_numpy(), frame[CLUSTER].to_numpy()
    scorer = univariate.scorer(frame[PART].to_numpy(), outcome, cluster, problem)
    effects = _effects(frame, missing, problem)
    names = [name for name in columns.names if name not in {*columns.identifiers, *columns.later}]
    entities = EntityLeakage(frame, names, outcome, problem)
    rows = []
    for name in columns.names:
        column = univariate.column(frame[name], scorer)
        score = univariate.score(column, scorer)
        evidence = over(score, effects.get(name), limits, problem)
        if not evidence and name not in columns.identifiers:
            noisy = "" if limits.score else copies(column, scorer)
            evidence = [text for text in (one_sided(frame[name], outcome, cluster, problem), noisy) if text]
            evidence = evidence or [text for text in [entities.evidence(name, column.numbers)] if text]
        rows.append((name, *score, effects.get(name, {}).get("gap", np.nan), ", ".join(evidence)))
    titles = ["column", *Score._fields, "missing gap", "evidence"]
    table = pd.DataFrame(rows, columns=titles).rename(columns={"event_score": "event score"})
    return table.sort_values("score", ascending=False, ignore_index=True, kind="stable")


def over(score: Score, effect: dict[str, Any] | None, limits: Limits, problem: Problem) -> list[str]:
    """Return in what a column is over the limits, in words.

    `effect` is its row of `missing_effects`; of a quantity, ``gap``, ``low`` and ``high`` in its standard deviations.
    Where the limit is the default, the near end of the interval has to be over it.
    """
    is_class, evidence = problem.is_class, []
    if score.score > limits.most_score(problem):
        evidence.append(f"{title(_measure(problem))} {score.score:.3f}")
    elif score.event_score > (limits.score or SCORES["classes"]):
        what = f"for class {score.event}" if is_class else "of its gaps for high values"
        evidence.append(f"{title('roc_auc')} {score.event_score:.3f} {what}")
    if effect is not None:
        near = abs(effect["gap"]) if limits.gap else max(effect["low"], -effect["high"])
        if near > limits.most_gap(problem):
            level = decisions.level_name(problem.changed(focus=effect["outcome"]))
            deviations = "" if is_class else " standard deviations"
            evidence.append(f"where it is missing the {level} changes by {effect['gap']:+.2f}{deviations}")
    return evidence


def copies(column: Column, scorer: Classes | Quantity) -> str:
    """Return how a column copies the outcome with errors, in words; empty if it does not."""
    return _copies_classes(column, scorer) if isinstance(scorer, Classes) else _copies_quantity(column, scorer)


def _copies_classes(column: Column, scorer: Classes) -> str:
    """Return whether two groups of its values classify the outcome with errors at random, in words."""
    if not column.codes or not len(scorer.classes):
        return ""
    ways = [scorer.curves(code) for code in column.codes]
    if column.numbers is not None and max(map(_right, ways)) > RIGHT - 0.05:  # bins are a little too coarse
        pairs = scorer.cuts(column.numbers.to_numpy("float64"))
        ways.append([max(pair, key=lambda curve: curve.right) for pair in pairs])
    several, words = len(scorer.names) > 2, "correctly with random errors, as a noisy copy does"
    whole = [_right(way) for way in ways if _like_a_copy(_mean(way), several)]
    if whole:
        return f"it classifies {max(whole):.1%} of each outcome {words}"
    numbers = scorer.classes[scorer.marked(column)]
    single = [
        (curve.right, scorer.names[number])
        for way in ways
        for curve, number in zip(way, scorer.classes, strict=True)
        if number in numbers and _like_a_copy(curve, several=False)
    ]
    return f"it classifies {max(single)[0]:.1%} of class {max(single)[1]} and of the rest {words}" if single else ""


def _mean(curves: list[Roc]) -> Roc:
    """Return the mean over classes, `inside` weighted by errors."""
    errors = [each.errors for each in curves]
    inside = float(np.average([each.inside for each in curves], weights=np.maximum(errors, 1e-9)))
    return Roc(float(np.mean([each.auc for each in curves])), _right(curves), inside, float(np.mean(errors)))


def _right(curves: list[Roc]) -> float:
    return float(np.mean([each.right for each in curves]))


def _like_a_copy(curve: Roc, several: bool) -> bool:
    """Return whether errors are few and random; those of several classes have a pattern."""
    return curve.right >= RIGHT and curve.inside <= EVEN["several" if several else "two"] and curve.errors >= FEWEST


def _copies_quantity(column: Column, scorer: Quantity) -> str:
    """Return whether it is the quantity with noise in all rows, or exactly in half of them, in words."""
    known = np.zeros(0, dtype=bool) if column.numbers is None else np.isfinite(column.numbers.to_numpy())
    if column.numbers is None or known.sum() < 10 * FEWEST:
        return ""
    numbers, outcome = column.numbers.to_numpy()[known], scorer.outcome[known]
    prediction = np.clip((numbers - scorer.centre) / scorer.spread, -1e9, 1e9)
    r2 = 1 - ((outcome - prediction) ** 2).sum() / max(((outcome - outcome.mean()) ** 2).sum(), 1e-300)
    if r2 >= SAME:
        return f"it is the outcome itself with some noise (R² {r2:.3f} as a prediction)"
    exact = _exactness(outcome, numbers)
    return f"it orders half of the rows to within {1 - exact:.1%} of a random distance" if exact >= EXACT else ""


def _exactness(outcome: np.ndarray, numbers: np.ndarray) -> float:
    """Return how near in rank the outcomes of neighbours by a column are: 1 less their median distance over chance's.

    As Chatterjee's coefficient (Journal of the American Statistical Association 116, 2021), but by the median, which
    replaced rows do not move. Outcomes of few values are near by chance, and count as 0.
    """
    random = np.random.default_rng(0)
    place = stats.rankdata(outcome)
    order = np.lexsort((random.permutation(len(place)), numbers))
    chance = np.abs(np.diff(random.permutation(place)))
    if (chance == 0).mean() > 0.05:
        return 0.0
    return 1 - float(np.median(np.abs(np.diff(place[order]))) / np.median(chance))


def one_sided(values: pd.Series, outcome: np.ndarray, cluster: np.ndarray, problem: Problem) -> str:
    """Return which value occurs with one outcome alone, in words: a missing one, or any but the usual one.

    By the odds ratio of the two by two table (rows there or not, outcome or not), the near end of its interval
    (Haldane's correction; Agresti, Categorical Data Analysis, 2013, section 3.1.1). Of a quantity, the outcome is to be
    above each of its deciles.
    """
    if min(len(values), len(outcome)) < 2 * FEWEST:
        return ""
    events = _events(outcome, problem)
    absent = values.isna().to_numpy()
    evidence = _apart(absent, events, cluster, ("missing", "where it is missing"))
    if evidence or not problem.is_class:
        return evidence
    known = values[~absent]
    often = known.value_counts()
    if len(often) < 2 or not len(known) / 2 < often.iloc[0] < len(known):
        return ""
    other = (known != often.index[0]).to_numpy()
    inside = {name: event[~absent] for name, event in events.items()}
    return _apart(other, inside, cluster[~absent], ("usual", f"where it is not {often.index[0]}"))


def _events(outcome: np.ndarray, problem: Problem) -> dict[str, np.ndarray]:
    """Return the possible events: the event, each class, or being above a decile of the quantity; bool, by name."""
    if problem.task == "binary":
        return {decisions.level_name(problem): outcome == 1}
    if problem.task == "multiclass":
        return {
            decisions.level_name(problem.changed(focus=name)): outcome == number
            for number, name in enumerate(problem.classes)
        }
    deciles = np.unique(np.quantile(outcome, np.arange(0, 1, 0.1)))
    return {f"share of {problem.target} above {decisions.number(float(cut))}": outcome > cut for cut in deciles}


def _apart(marked: np.ndarray, events: dict[str, np.ndarray], cluster: np.ndarray, value: tuple[str, str]) -> str:
    """Return the outcome whose odds there and elsewhere differ most, if significantly over the limit, in words."""
    kind, where = value
    few = len(np.unique(cluster[marked])) < CLUSTERS
    if few or min(marked.sum(), (~marked).sum()) < ROWS[kind]:
        return ""
    z, worst, words = stats.norm.ppf(1 - 0.005 / max(len(events), 1)), np.log(ODDS[kind]), ""
    for name, event in events.items():
        inside, outside = event[marked], event[~marked]
        cells = np.array([inside.sum(), (~inside).sum(), outside.sum(), (~outside).sum()], dtype="float64")
        size = abs(np.log(cells + 0.5) @ [1, -1, -1, 1]) - z * np.sqrt((1 / (cells + 0.5)).sum())
        side = int(cells[1] > cells[0] and len(events) == 1)  # the event, or its absence
        pure = cells[side] >= PURE * marked.sum() and cells[side] >= WIDE * (cells[side] + cells[side + 2])
        if size > worst and (kind == "missing" or pure):
            worst = size
            words = (
                f"{where} the {name} is {inside.mean():.1%} of {marked.sum():,} rows, elsewhere {outside.mean():.1%}"
            )
    return words


def _differs(frame: pd.DataFrame, absent: pd.Series, problem: Problem) -> tuple[np.ndarray, str]:
    """Return what to compare where a column is missing: the label, or the class whose share differs most; its name."""
    if problem.task != "multiclass":
        return frame[LABEL].to_numpy(), problem.focus or problem.target
    code, outcome = absent.to_numpy().astype(int), frame[OUTCOME].to_numpy().astype(int)
    counts = np.bincount(2 * outcome + code, minlength=2 * len(problem.classes)).reshape(-1, 2)
    most = int(np.abs(np.diff(counts / counts.sum(axis=0), axis=1)).argmax())
    return (outcome == most).astype("float64"), problem.classes[most]


def expected(undecided: list[str], limits: Limits, problem: Problem) -> str:
    """Return what is expected of the columns, and the lines of the params that decide on those still undecided."""
    deviations = "" if problem.is_class else " standard deviations"
    name, most, gap = title(_measure(problem)), limits.most_score(problem), limits.most_gap(problem)
    text = (
        f"none undecided with a {name} above {most:g} or an effect of missing values above {gap:g}{deviations}, none "
        "that occurs with one outcome alone or contains outcomes of other rows"
    )
    text += "" if limits.score else ", no copy with errors"
    if not undecided:
        return text
    lines = [f"    {key}: {{{', '.join(f'{_yaml(c)}: {why}' for c in undecided)}}}" for key, why in DECISIONS.items()]
    return (
        f"{text}; decide on each in params.yaml: add it to exploration.known_later and take it out of section features, "
        "or, if it is known when deciding, add it to exploration.justified:\n" + "\n".join(lines)
    )


def _measure(problem: Problem) -> str:
    return "roc_auc" if problem.is_class else "r2"


def _effects(frame: pd.DataFrame, missing: pd.DataFrame, problem: Problem) -> dict[str, dict[str, Any]]:
    """Return the rows of `missing_effects` by column, of a quantity in its standard deviations."""
    spread = 1.0 if problem.is_class else float(frame[LABEL].std(ddof=0)) or 1.0
    scaled = missing.set_index("column")
    scaled[["gap", "low", "high"]] = scaled[["gap", "low", "high"]].astype("float64") / spread
    return scaled.to_dict("index")


def _yaml(name: str) -> str:
    """Return a name as a key of YAML."""
    plain = re.fullmatch(r"[A-Za-z_][\w.]*", name) and parse(name) == name
    return name if plain else json.dumps(name, ensure_ascii=False)
