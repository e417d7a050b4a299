"""The leak screen: columns that predict the outcome too well, copy it, or are filled with one outcome alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ninefold.exploration import univariate
from ninefold.exploration.entity_leakage import EntityLeakage
from ninefold.exploration.group_rates import CLUSTER, LABEL, OUTCOME, PART, candidates, cells, difference, least
from ninefold.exploration.params import GAPS, SCORES, Params
from ninefold.exploration.univariate import FEWEST, Classes, Column, Quantity, Roc, Score
from ninefold.problem import Problem, decisions, title

UNIT = {True: "", False: " standard deviations"}  # of a gap: of shares, or of a quantity
DECISIONS = {"known_later": "WHY IT IS KNOWN TOO LATE", "justified": "WHY IT IS KNOWN WHEN DECIDING"}
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


def score_name(problem: Problem) -> str:
    """Return what the score of a single column is called."""
    return title("roc_auc" if problem.is_class else "r2")


def missing_effects(frame: pd.DataFrame, params: Params, problem: Problem, level: float) -> pd.DataFrame:
    """Return, per column with enough rows missing and present, how the outcome differs there, the largest gap first.

    ``column``, ``missing`` (share of rows), ``outcome`` (what is compared: the event, the class that differs most, or the
    quantity), ``if missing``, ``if present`` (its means), ``gap``, ``low``, ``high`` (missing less present, its interval).
    """
    effects, pair, rows = [], ("missing", "present"), max(least(frame, params), FEWEST)
    for column in candidates(frame):
        absent = frame[column].isna()
        if min(absent.sum(), (~absent).sum()) >= rows:
            label, name = _differs(frame, absent, problem)
            group = absent.map({True: "missing", False: "present"})
            sums, sizes = cells(pd.DataFrame({CLUSTER: frame[CLUSTER], LABEL: label}), group, 1)
            mean, gap = sums.sum() / sizes.sum(), difference(sums, sizes, pair, shares=problem.is_class, level=level)
            effects.append((column, absent.mean(), name, mean["missing"], mean["present"], *gap))
    names = ["column", "missing", "outcome", "if missing", "if present", "gap", "low", "high"]
    order = {"key": abs, "ascending": False, "ignore_index": True, "kind": "stable"}
    return pd.DataFrame(effects, columns=names).sort_values("gap", **order)


def screen(
    frame: pd.DataFrame, identifiers: list[str], missing: pd.DataFrame, params: Params, problem: Problem
) -> pd.DataFrame:
    """Return how well each column alone predicts the outcome, the best first, and the evidence that it is a leak.

    `frame`: as of `stage.read`, in order of time; of `identifiers`, only the score counts; `missing`: `missing_effects`.
    Returns ``column``, the fields of `univariate.Score`, ``missing gap`` (of a quantity in its standard deviations), and
    ``evidence``: in words, empty if there is none.
    """
    outcome, cluster = frame[OUTCOME].to_numpy(), frame[CLUSTER].to_numpy()
    scorer = univariate.scorer(frame[PART].to_numpy(), outcome, cluster, problem)
    spread = 1.0 if problem.is_class else float(frame[LABEL].std(ddof=0)) or 1.0
    ends = ["gap", "low", "high"]
    effects = missing.set_index("column").assign(**missing.set_index("column")[ends].astype("float64") / spread)
    by_name = effects.to_dict("index")
    names = [name for name in candidates(frame) if name not in {*identifiers, *params.known_later}]
    entities = EntityLeakage(frame, names, outcome, problem)
    copies: Callable[[Column, Any], str] = _copies_classes if problem.is_class else _copies_quantity
    rows = []
    for name in candidates(frame):
        column = univariate.column(frame[name], scorer)
        score = univariate.score(column, scorer)
        evidence = _over(score, by_name.get(name), params, problem)
        if not evidence and name not in identifiers:
            noisy = "" if params.leak_score else copies(column, scorer)
            evidence = [*filter(None, (_one_sided(frame[name], outcome, cluster, problem), noisy))]
            evidence = evidence or [entities.evidence(name, column.numbers)]
        rows.append((name, *score, by_name.get(name, {}).get("gap", np.nan), ", ".join(evidence)))
    titles = ["column", *Score._fields, "missing gap", "evidence"]
    table = pd.DataFrame(rows, columns=titles).rename(columns={"event_score": "event score"})
    return table.sort_values("score", ascending=False, ignore_index=True, kind="stable")


def _over(score: Score, effect: dict[str, Any] | None, params: Params, problem: Problem) -> list[str]:
    """Return in what a column is over the limits; of a default limit on gaps, the near end of the interval has to be."""
    evidence = []
    if score.score > params.most_score(problem):
        evidence.append(f"{score_name(problem)} {score.score:.3f}")
    elif score.event_score > (params.leak_score or SCORES[True]):
        what = f"for class {score.event}" if problem.is_class else "of its gaps for high values"
        evidence.append(f"{title('roc_auc')} {score.event_score:.3f} {what}")
    if effect is not None:
        near = abs(effect["gap"]) if params.leak_gap else max(effect["low"], -effect["high"])
        if near > (params.leak_gap or GAPS[problem.is_class]):
            level = decisions.level_name(problem.changed(focus=effect["outcome"]))
            evidence.append(f"where it is missing the {level} changes by {effect['gap']:+.2f}{UNIT[problem.is_class]}")
    return evidence


def _copies_classes(column: Column, scorer: Classes) -> str:
    """Return whether two groups of its values classify the outcome with errors at random, in words."""
    if not column.codes or not len(scorer.classes):
        return ""
    ways = [scorer.curves(code) for code in column.codes]
    # Bins are a little too coarse.
    if column.numbers is not None and max(_mean(way).right for way in ways) > RIGHT - 0.05:
        ways.append(scorer.cuts(column.numbers.to_numpy("float64")))
    several, words = len(scorer.names) > 2, "correctly with random errors, as a noisy copy does"
    if whole := [mean.right for mean in map(_mean, ways) if _like_a_copy(mean, several)]:
        return f"it classifies {max(whole):.1%} of each outcome {words}"
    triples = [each for way in ways for each in zip(way, scorer.classes, scorer.marked(column), strict=True)]
    single = [(curve.right, scorer.names[n]) for curve, n, marked in triples if marked and _like_a_copy(curve, False)]
    return f"it classifies {max(single)[0]:.1%} of class {max(single)[1]} and of the rest {words}" if single else ""


def _mean(curves: list[Roc]) -> Roc:
    """Return the mean over classes, `inside` weighted by errors."""
    auc, right, inside, errors = np.array(curves).T
    weighted = np.average(inside, weights=np.maximum(errors, 1e-9))
    return Roc(float(auc.mean()), float(right.mean()), float(weighted), float(errors.mean()))


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


def _one_sided(values: pd.Series, outcome: np.ndarray, cluster: np.ndarray, problem: Problem) -> str:
    """Return which value occurs with one outcome alone, in words: a missing one, or any but the usual one."""
    if min(len(values), len(outcome)) < 2 * FEWEST:
        return ""
    events, absent = _events(outcome, problem), values.isna().to_numpy()
    evidence = _apart(absent, events, cluster, ("missing", "where it is missing"))
    if evidence or not problem.is_class:
        return evidence
    known = values[~absent]
    often = known.value_counts()
    if len(often) < 2 or not len(known) / 2 < often.iloc[0] < len(known):
        return ""
    inside = {name: event[~absent] for name, event in events.items()}
    other = (known != often.index[0]).to_numpy()
    return _apart(other, inside, cluster[~absent], ("usual", f"where it is not {often.index[0]}"))


def _events(outcome: np.ndarray, problem: Problem) -> dict[str, np.ndarray]:
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
    few = len(np.unique(cluster[marked])) < CLUSTERS
    if few or min(marked.sum(), (~marked).sum()) < ROWS[kind]:
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


def _differs(frame: pd.DataFrame, absent: pd.Series, problem: Problem) -> tuple[np.ndarray, str]:
    """Return what to compare where a column is missing: the label, or the class whose share differs most; its name."""
    if problem.task != "multiclass":
        return frame[LABEL].to_numpy(), problem.focus or problem.target
    code, outcome = absent.to_numpy().astype(int), frame[OUTCOME].to_numpy().astype(int)
    counts = np.bincount(2 * outcome + code, minlength=2 * len(problem.classes)).reshape(-1, 2)
    most = int(np.abs(np.diff(counts / counts.sum(axis=0), axis=1)).argmax())
    return (outcome == most).astype("float64"), problem.classes[most]


def expected(undecided: list[str], params: Params, problem: Problem) -> str:
    """Return what is expected of the columns, and the lines of the params that decide on those still undecided."""
    gap = f"{params.leak_gap or GAPS[problem.is_class]:g}{UNIT[problem.is_class]}"
    text = (
        f"none undecided with a {score_name(problem)} above {params.most_score(problem):g} or an effect of missing values "
        f"above {gap}, none that occurs with one outcome alone or contains outcomes of other rows"
        f"{'' if params.leak_score else ', no copy with errors'}"
    )
    if not undecided:
        return text
    names = [json.dumps(name, ensure_ascii=False) for name in undecided]
    lines = [f"    {key}: {{{', '.join(f'{name}: {why}' for name in names)}}}" for key, why in DECISIONS.items()]
    return (
        f"{text}; decide on each in params.yaml: add it to exploration.known_later and take it out of section features, "
        "or, if it is known when deciding, add it to exploration.justified:\n" + "\n".join(lines)
    )
