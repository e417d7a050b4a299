"""The leak screen: columns that predict the outcome too well, copy it, or are filled with one outcome alone."""

import json
import shlex
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ninefold.exploration import bands, combinations, one_sided, univariate
from ninefold.exploration.entity_leakage import ENTITIES, EntityLeakage
from ninefold.exploration.params import GAPS, SCORES, Params
from ninefold.exploration.rows import CLUSTER, LABEL, Rows
from ninefold.exploration.univariate import FEWEST, Classes, Column, Quantity, Roc, Score
from ninefold.metrics import subsample
from ninefold.problem import Problem, decisions, title
from ninefold.sentences import render

Copies = Callable[[Column, Any], str]
UNIT = {True: "", False: " standard deviations"}  # of a gap: of shares, or of a quantity
# A copy with errors. Honest columns err where the outcomes meet; the errors of a copy fall anywhere. Of 143 public tables
# of classes (KEEL's), 7 have a column that is named for that, or for one side alone, and not for its score.
RIGHT = 0.92  # share of each outcome that two groups of values classify correctly; 5 % of labels changed leave 0.95
EVEN = {"two": 0.62, "several": 0.75}  # ROC AUC inside these groups: 0.5 if errors fall anywhere, 0.65-0.9 if measured
# Numbers of rows: score above guessing, distinct values per row, correlation with the place (sorted normal ones have 0.98).
RISING, SINGLE, STEADY = 0.1, 0.8, 0.99
SAME = 0.97  # R² of the column as a prediction; noise of 5 % of the value leaves 0.97 to 0.99


def score_name(problem: Problem) -> str:
    """Return what the score of a single column is called."""
    return title("roc_auc" if problem.is_class else "r2")


def screen(rows: Rows, identifiers: list[str], missing: pd.DataFrame) -> pd.DataFrame:
    """Return how well each column alone predicts the outcome, the best first, and the evidence that it is a leak.

    `rows`: in order of time; of `identifiers`, only the score counts; `missing`: `missing_effects`. Returns ``column``, the
    fields of `univariate.Score`, ``missing gap`` (of a quantity in its standard deviations), ``evidence``: in words, empty if
    there is none, and ``comes back``: whether rows of one value may be those of one thing, and are not kept together.
    """
    df, outcome, cluster = rows.df, rows.outcome, rows.own[CLUSTER].to_numpy()
    params, problem, most = rows.params, rows.problem, rows.params.most_score(rows.problem)
    scorer = univariate.scorer(rows.part, outcome, cluster, problem)
    events = one_sided.events_of(outcome, problem)
    spread = 1.0 if problem.is_class else float(rows.own[LABEL].std(ddof=0)) or 1.0
    ends = missing[["gap", "low", "high"]].astype("float64") / spread
    by_name = missing.assign(**ends).set_index("column").to_dict("index")
    names = [name for name in rows.columns if name not in {*identifiers, *params.known_later}]
    copies: Copies = _copies_classes if problem.is_class else _copies_quantity
    copies = (lambda *_: "") if params.leak_score else copies
    scores, numbers = [], dict[str, pd.Series | None]()
    for name in rows.columns:
        column = univariate.column(df[name], scorer)
        score = univariate.score(column, scorer)
        evidence = _over(score, by_name.get(name), params, problem)
        if not evidence and name not in identifiers:
            alone = one_sided.value(df[name], events, cluster, problem), one_sided.word(df[name], events, cluster)
            evidence = [*filter(None, [*alone, copies(column, scorer)])]
            evidence = evidence or _derived(rows, df[name], scorer) or _numbers_rows(column, score, problem)
        again = bool(evidence) and name in names and problem.group is None and _comes_back(column, score, scorer, most)
        if again:
            evidence.append(render("exploration", "comes_back", group=json.dumps([name]), problem=problem))
        numbers[name] = column.numbers
        gap = by_name.get(name, {}).get("gap", np.nan)
        scores.append((name, *score, gap, ", ".join(evidence), again and not problem.time))
    titles = ["column", *Score._fields, "missing gap", "evidence", "comes back"]
    table = pd.DataFrame(scores, columns=titles).rename(columns={"event_score": "event score"})
    clear = [name for name in table.loc[table["evidence"] == "", "column"] if name not in identifiers]
    pool = [*filter(None, [problem.time]), *(name for name in clear if name in names)]
    others = combinations.evidence(df, pool, outcome, problem)
    entities = EntityLeakage(df, names, outcome, problem)
    if problem.task != "multiclass":
        days = cluster if problem.time else None
        others |= bands.group_means(df, {name: numbers[name] for name in pool}, outcome, days)
    others |= {name: entities.evidence(name, numbers[name]) for name in clear if name not in others}
    others |= _compared(rows, [name for name in pool if not others.get(name)], table, copies)
    table["evidence"] = table["evidence"].mask(table["evidence"] == "", table["column"].map(others).fillna(""))
    return table.sort_values("score", ascending=False, ignore_index=True, kind="stable")


def _compared(rows: Rows, pool: list[str], table: pd.DataFrame, copies: Copies) -> dict[str, str]:
    """Return the evidence against columns of which two, compared, are over the limits, and err half as much as each alone."""
    places, found = subsample(len(rows.df), combinations.CHECKED), dict[str, str]()
    part, outcome, cluster = (each[places] for each in (rows.part, rows.outcome, rows.own[CLUSTER].to_numpy()))
    scorer = univariate.scorer(part, outcome, cluster, rows.problem)
    alone = table.set_index("column")[["score", "event score"]].max(axis=1)
    for names, words, values in combinations.pairs(rows.df.iloc[places], pool, scorer):
        column = univariate.column(values, scorer)
        score = univariate.score(column, scorer)
        evidence = [*_over(score, None, rows.params, rows.problem), copies(column, scorer)][0]
        if evidence and 1 - np.nanmax([score.score, score.event_score]) <= (1 - alone[names].max()) / 2:
            found = dict.fromkeys(names, f"{words}: {evidence}") | found
    return {name: words for name, words in found.items() if name != rows.problem.time}


def _comes_back(column: Column, score: Score, scorer: Any, most: float) -> bool:
    """Return whether values, not their order or ranges, predict, and each stands in several rows, as that of an entity does."""
    ranges = float(np.mean(scorer.learn(column.codes[0])[0])) if len(column.codes) > 1 else 0.0
    repeats = ENTITIES <= column.values.nunique() <= column.values.notna().sum() / 2
    return repeats and not max(ranges, np.nan_to_num(score.direct)) > most


def _derived(rows: Rows, values: pd.Series, scorer: Any) -> list[str]:
    """Return the evidence against the first number in the texts of a column."""
    if not one_sided.is_text(values):
        return []
    number = univariate.column(pd.to_numeric(values.str.extract(r"(-?\d+(?:\.\d+)?)")[0]), scorer)
    found = _over(univariate.score(number, scorer), None, rows.params, rows.problem)
    return [f"{evidence} by its first number" for evidence in found]


def _numbers_rows(column: Column, score: Score, problem: Problem) -> list[str]:
    """Return the evidence against numbers that rise, or fall, evenly from row to row, in a table sorted by its outcome."""
    numbers, least = column.numbers, univariate.guess(problem) + RISING
    if problem.time or numbers is None or score.score < least or numbers.nunique() < SINGLE * len(numbers):
        return []
    rises = numbers.is_monotonic_increasing or numbers.is_monotonic_decreasing
    even = rises and abs(numbers.corr(pd.Series(np.arange(len(numbers)), numbers.index))) > STEADY
    return ["it numbers the rows, and their order predicts the outcome"] if even else []


def _over(score: Score, effect: dict[str, Any] | None, params: Params, problem: Problem) -> list[str]:
    """Return in what a column is over the limits; of a default limit on gaps, the near end of the interval has to be."""
    evidence = []
    if score.score > params.most_score(problem):
        evidence.append(f"{score_name(problem)} {score.score:.3f}")
    elif score.event_score > (params.leak_score or SCORES[True]):
        evidence.append(f"{title('roc_auc')} {score.event_score:.3f} for class {score.event}")
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
    inside = np.average([curve.inside for curve in curves], weights=[max(curve.errors, 1e-9) for curve in curves])
    return Roc(*np.mean(curves, axis=0).tolist())._replace(inside=float(inside))


def _like_a_copy(curve: Roc, several: bool) -> bool:
    """Return whether errors are few and random; those of several classes have a pattern."""
    return curve.right >= RIGHT and curve.inside <= EVEN["several" if several else "two"] and curve.errors >= FEWEST


def _copies_quantity(column: Column, scorer: Quantity) -> str:
    """Return whether it is the quantity with noise in all rows, or its bands, in words."""
    if evidence := bands.bands(column.values, scorer.outcome):
        return evidence
    known = np.zeros(0, dtype=bool) if column.numbers is None else np.isfinite(column.numbers.to_numpy())
    if column.numbers is None or known.sum() < 10 * FEWEST:
        return ""
    numbers, outcome = column.numbers.to_numpy()[known], scorer.outcome[known]
    prediction = np.clip((numbers - scorer.centre) / scorer.spread, -1e9, 1e9)
    r2 = 1 - ((outcome - prediction) ** 2).sum() / max(((outcome - outcome.mean()) ** 2).sum(), 1e-300)
    return f"it is the outcome itself with some noise (R² {r2:.3f} as a prediction)" if r2 >= SAME else ""


def expected(undecided: pd.Series, params: Params, problem: Problem) -> str:
    """Return what is expected of the columns, and the commands that decide on those still undecided: evidence by name."""
    gap = f"{params.leak_gap or GAPS[problem.is_class]:g}{UNIT[problem.is_class]}"
    facts = {"score": score_name(problem), "most": params.most_score(problem), "gap": gap, "params": params}
    text = render("exploration", "expected", **facts)
    groups = undecided.groupby(undecided, sort=False).groups.items()
    together = [list(names) for words, names in groups if len(names) > 1 and all(name in words for name in names)]
    return f"{text}; {question(list(undecided.index), together)}" if len(undecided) else text


def question(columns: list[str], together: Sequence[list[str]] = ()) -> str:
    """Return what to ask of columns that look like leaks, some only `together`, and the two commands that decide."""
    return render("exploration", "question", names=shlex.join(columns), together=together)
