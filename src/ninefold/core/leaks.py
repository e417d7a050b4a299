"""Signs that a column was filled in after the outcome: it foresees too well, copies it, or is there on one side alone."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from ninefold.core import decisions, one_column
from ninefold.core.later_rows import Others
from ninefold.core.levels import BLOCK, LABEL, cells, difference
from ninefold.core.one_column import FEWEST, Classes, Column, Quantity, Roc, Score
from ninefold.core.params import parse
from ninefold.core.scores import title

# Where the params leave a limit to us: hardly seen without a leak.
SCORES = {"classes": 0.995, "regression": 0.99}  # a noise of 5 % of the quantity's spread leaves 0.9975
GAPS = {"classes": 0.5, "regression": 1.5}  # of shares, and of standard deviations
DECISIONS = {
    "known_later": "WHY IT IS KNOWN TOO LATE",
    "justified": "WHY IT IS KNOWN WHEN DECIDING",
}
# A copy with errors. Honest columns err where the outcomes meet; the errors of a copy fall anywhere. Of 143 public tables
# of classes (KEEL's), 7 have a column that is named for that, or for one side alone, and not for its score.
RIGHT = 0.92  # of each outcome told right by two groups of its values; 5 % of labels turned leave 0.95
EVEN = {"two": 0.62, "several": 0.75}  # ROC AUC inside these groups: 0.5 if errors fall anywhere, 0.65-0.9 if measured
EXACT = 0.97  # half of the rows told to within 3 % of what chance would; 5 % of the rows replaced leave 1
SAME = 0.97  # R² of a quantity taken as it stands for another; 5 % of its value as noise leave 0.97 to 0.99
# A value that goes with one outcome alone.
ODDS = {"missing": 6.0, "usual": 20.0}  # least odds ratio, at the near end of its interval of 99 %
PURE = 0.995  # share of one class where a column is not what it usually is, such as 0 or "none"
WIDE = 0.1  # share of the rows of that class
ROWS, BLOCKS = {"missing": FEWEST, "usual": 30}, 10  # fewer are luck, or one bad day


class Limits(NamedTuple):
    """The params' limits on a score and on the effect of missing values; None leaves them to `SCORES` and `GAPS`."""

    score: float | None
    gap: float | None

    def most_score(self, stated: dict[str, Any]) -> float:
        """Return the limit on the score of a single column."""
        return self.score or SCORES["classes" if decisions.is_class(stated) else "regression"]

    def most_gap(self, stated: dict[str, Any]) -> float:
        """Return the limit on the effect of missing values: in shares, or in standard deviations of the quantity."""
        return self.gap or GAPS["classes" if decisions.is_class(stated) else "regression"]


def missing_effects(
    frame: pd.DataFrame, columns: list[str], outcome: np.ndarray, rows: int, stated: dict[str, Any], level: float
) -> pd.DataFrame:
    """Return, per column with so many rows with and without gaps, how the outcome differs where it is missing.

    Returns
    -------
    DataFrame
        ``column``, ``missing`` (share of rows), ``outcome`` (what is compared: the event, the class that differs most,
        or the quantity), ``if missing``, ``if present`` (its levels), ``gap``, ``low``, ``high``: missing less present,
        with its interval by blocks. The largest difference first.
    """
    found = []
    for column in columns:
        absent = frame[column].isna()
        if min(absent.sum(), (~absent).sum()) >= max(rows, FEWEST):
            event, name = _differs(frame, outcome, absent, stated)
            sums, sizes = cells(
                frame[[BLOCK]].assign(**{LABEL: event}), absent.map({True: "missing", False: "present"}), 1
            )
            mean, gap = sums.sum() / sizes.sum(), difference(sums, sizes, "missing", "present", stated, level=level)
            found.append((column, absent.mean(), name, mean["missing"], mean["present"], *gap))
    names = ["column", "missing", "outcome", "if missing", "if present", "gap", "low", "high"]
    table = pd.DataFrame(found, columns=names)
    return table.sort_values("gap", key=abs, ascending=False, ignore_index=True, kind="stable")


def judged(
    frame: pd.DataFrame,
    names: list[str],
    known: list[str],
    later: list[str],
    missing: pd.DataFrame,
    added: tuple[str, str],
    limits: Limits,
    stated: dict[str, Any],
) -> pd.DataFrame:
    """Return how well each column alone foresees the outcome, the best first, and what gives it away.

    Parameters
    ----------
    frame : DataFrame
        Rows in order of time, where they have one.
    names : list of str
        The columns.
    known : list of str
        Those of which no more than the score is asked: what numbers the rows, and the time itself.
    later : list of str
        Those declared known later: they name no entities.
    missing : DataFrame
        What `missing_effects` returned.
    added : tuple of str
        The columns of the part of the split and of the encoded outcome.
    limits : Limits
    stated : dict
        The problem.

    Returns
    -------
    DataFrame
        ``column``, the fields of `one_column.Score`, ``missing gap`` (of a quantity in its standard deviations),
        ``evidence``: in words, empty if there is none.
    """
    part, outcome, block = (frame[name].to_numpy() for name in (*added, BLOCK))
    by, effects = one_column.judge(part, outcome, block, stated), _effects(frame, missing, stated)
    others = Others(frame, [name for name in names if name not in (*known, *later)], outcome, stated)
    rows = []
    for name in names:
        column = one_column.column(frame[name], by)
        found = one_column.score(column, by)
        signs = over(found, effects.get(name), limits, stated)
        if not signs and name not in known:
            signs = [one_sided(frame[name], outcome, block, stated), "" if limits.score else copies(column, by)]
            signs = [sign for sign in signs if sign] or [sign for sign in [others.known(name, column.numbers)] if sign]
        rows.append((name, *found, effects.get(name, {}).get("gap", np.nan), ", ".join(signs)))
    titles = ["column", *Score._fields, "missing gap", "evidence"]
    table = pd.DataFrame(rows, columns=titles).rename(columns={"given_score": "given score"})
    return table.sort_values("score", ascending=False, ignore_index=True, kind="stable")


def over(found: Score, effect: dict[str, Any] | None, limits: Limits, stated: dict[str, Any]) -> list[str]:
    """Return what a column gives away over the limits, in words.

    Parameters
    ----------
    found : Score
    effect : dict, optional
        Its row of `missing_effects`; of a quantity, ``gap``, ``low`` and ``high`` in its standard deviations. Where the
        limit is ours, the near end of the interval has to be over it.
    limits : Limits
    stated : dict
        The problem.
    """
    is_class, signs = decisions.is_class(stated), []
    if found.score > limits.most_score(stated):
        signs.append(f"{title(_measure(stated))} {found.score:.3f}")
    elif found.given_score > (limits.score or SCORES["classes"]):
        what = f"for class {found.given}" if is_class else "of its gaps for high values"
        signs.append(f"{title('roc_auc')} {found.given_score:.3f} {what}")
    if effect is not None:
        near = abs(effect["gap"]) if limits.gap else max(effect["low"], -effect["high"])
        if near > limits.most_gap(stated):
            level = decisions.level_name({**stated, "focus": effect["outcome"]})
            deviations = "" if is_class else " standard deviations"
            signs.append(f"where it is missing the {level} changes by {effect['gap']:+.2f}{deviations}")
    return signs


def copies(one: Column, by: Classes | Quantity) -> str:
    """Return how a column repeats the outcome with errors, in words; empty if it does not."""
    return _repeats_classes(one, by) if isinstance(by, Classes) else _repeats_quantity(one, by)


def _repeats_classes(one: Column, by: Classes) -> str:
    """Return whether two groups of its values tell the outcomes apart with errors that fall anywhere, in words."""
    if not one.codes or not len(by.classes):
        return ""
    ways = [by.curves(code) for code in one.codes]
    if one.numbers is not None and max(map(_right, ways)) > RIGHT - 0.05:  # bins are a little too coarse to tell
        ways += [[max(each, key=lambda curve: curve.right) for each in by.cuts(one.numbers.to_numpy("float64"))]]
    several, words = len(by.names) > 2, "right, its errors anywhere, as a noisy copy does"
    whole = [_right(way) for way in ways if _like_a_copy(_mean(way), several)]
    if whole:
        return f"it tells {max(whole):.1%} of each outcome {words}"
    numbers = by.classes[by.marked(one)]
    marked = [
        (each.right, by.names[number])
        for way in ways
        for each, number in zip(way, by.classes, strict=True)
        if number in numbers and _like_a_copy(each, several=False)
    ]
    return f"of class {max(marked)[1]} and the rest it tells {max(marked)[0]:.1%} {words}" if marked else ""


def _mean(curves: list[Roc]) -> Roc:
    """Return the mean of classes: what is inside counts by its errors."""
    errors = [each.errors for each in curves]
    inside = float(np.average([each.inside for each in curves], weights=np.maximum(errors, 1e-9)))
    return Roc(float(np.mean([each.auc for each in curves])), _right(curves), inside, float(np.mean(errors)))


def _right(curves: list[Roc]) -> float:
    return float(np.mean([each.right for each in curves]))


def _like_a_copy(found: Roc, several: bool) -> bool:
    """Return whether errors are few and fall anywhere; those of several classes have a pattern."""
    return found.right >= RIGHT and found.inside <= EVEN["several" if several else "two"] and found.errors >= FEWEST


def _repeats_quantity(one: Column, by: Quantity) -> str:
    """Return whether it repeats the quantity, all rows about or half of them exactly, in words."""
    known = np.zeros(0, dtype=bool) if one.numbers is None else np.isfinite(one.numbers.to_numpy())
    if one.numbers is None or known.sum() < 10 * FEWEST:
        return ""
    numbers = one.numbers.to_numpy()[known]
    ours, theirs = by.outcome[known], np.clip((numbers - by.centre) / by.spread, -1e9, 1e9)
    if (same := 1 - ((ours - theirs) ** 2).sum() / max(((ours - ours.mean()) ** 2).sum(), 1e-300)) >= SAME:
        return f"it is the outcome itself but for some noise (R² {same:.3f} as it stands)"
    exact = _exactness(ours, numbers)
    return f"it tells half of the rows to within {1 - exact:.1%} of what chance would" if exact >= EXACT else ""


def _exactness(outcome: np.ndarray, numbers: np.ndarray) -> float:
    """Return how near in rank the outcomes of neighbours by a column are: 1 less their median distance over chance's.

    As Chatterjee's coefficient (Journal of the American Statistical Association 116, 2021), but by the median, which
    rows that were replaced do not move. Outcomes of few values are near by chance, and count as 0.
    """
    random = np.random.default_rng(0)
    place = stats.rankdata(outcome)
    order = np.lexsort((random.permutation(len(place)), numbers))
    chance = np.abs(np.diff(random.permutation(place)))
    if (chance == 0).mean() > 0.05:
        return 0.0
    return 1 - float(np.median(np.abs(np.diff(place[order]))) / np.median(chance))


def one_sided(values: pd.Series, outcome: np.ndarray, block: np.ndarray, stated: dict[str, Any]) -> str:
    """Return which value goes with one outcome alone, in words: being missing, or not being what is usual.

    By the odds ratio of the two by two table (rows there or not, outcome or not), the near end of its interval
    (Haldane's correction; Agresti, Categorical Data Analysis, 2013, section 3.1.1). Of a quantity, the outcome is to be
    above each of its tenths.
    """
    if min(len(values), len(outcome)) < 2 * FEWEST:
        return ""
    events = _events(outcome, stated)
    absent = values.isna().to_numpy()
    found = _apart(absent, events, block, "missing", "where it is missing")
    if found or not decisions.is_class(stated):
        return found
    known = values[~absent]
    often = known.value_counts()
    if len(often) < 2 or not len(known) / 2 < often.iloc[0] < len(known):
        return ""
    other = (known != often.index[0]).to_numpy()
    inside = {name: event[~absent] for name, event in events.items()}
    return _apart(other, inside, block[~absent], "usual", f"where it is not {often.index[0]}")


def _events(outcome: np.ndarray, stated: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return what can happen: the event, each class, or being above a tenth of the quantity; bool, by name."""
    if stated["task"] == "binary":
        return {decisions.level_name(stated): outcome == 1}
    if stated["task"] == "multiclass":
        return {
            decisions.level_name({**stated, "focus": name}): outcome == number
            for number, name in enumerate(stated["classes"])
        }
    tenths = np.unique(np.quantile(outcome, np.arange(0, 1, 0.1)))
    return {f"share of {stated['target']} above {decisions.number(float(cut))}": outcome > cut for cut in tenths}


def _apart(marked: np.ndarray, events: dict[str, np.ndarray], block: np.ndarray, kind: str, where: str) -> str:
    """Return the outcome whose odds there and elsewhere are farthest apart, if surely over the limit, in words."""
    if min(marked.sum(), (~marked).sum()) < ROWS[kind] or len(np.unique(block[marked])) < BLOCKS:
        return ""
    z, worst, words = stats.norm.ppf(1 - 0.005 / max(len(events), 1)), np.log(ODDS[kind]), ""
    for name, event in events.items():
        inside, outside = event[marked], event[~marked]
        cells = np.array([inside.sum(), (~inside).sum(), outside.sum(), (~outside).sum()], dtype="float64")
        size = abs(np.log(cells + 0.5) @ [1, -1, -1, 1]) - z * np.sqrt((1 / (cells + 0.5)).sum())
        one = int(cells[1] > cells[0] and len(events) == 1)  # the outcome that it goes with: the event, or its absence
        pure = cells[one] >= PURE * marked.sum() and cells[one] >= WIDE * (cells[one] + cells[one + 2])
        if size > worst and (kind == "missing" or pure):
            worst = size
            words = (
                f"{where} the {name} is {inside.mean():.1%} of {marked.sum():,} rows, elsewhere {outside.mean():.1%}"
            )
    return words


def _differs(
    frame: pd.DataFrame, outcome: np.ndarray, absent: pd.Series, stated: dict[str, Any]
) -> tuple[np.ndarray, str]:
    """Return what to compare where a column is missing: the label, or the class whose share differs most; its name."""
    if stated["task"] != "multiclass":
        return frame[LABEL].to_numpy(), stated["focus"] or stated["target"]
    code, outcome = absent.to_numpy().astype(int), outcome.astype(int)
    counts = np.bincount(2 * outcome + code, minlength=2 * len(stated["classes"])).reshape(-1, 2)
    most = int(np.abs(np.diff(counts / counts.sum(axis=0), axis=1)).argmax())
    return (outcome == most).astype("float64"), stated["classes"][most]


def expected(undecided: list[str], limits: Limits, stated: dict[str, Any]) -> str:
    """Return what is expected of the columns, and the lines of the params that decide on those still undecided."""
    deviations = "" if decisions.is_class(stated) else " standard deviations"
    name, most, gap = title(_measure(stated)), limits.most_score(stated), limits.most_gap(stated)
    text = (
        f"none undecided with a {name} above {most:g} or an effect of missing values above {gap:g}{deviations}, none "
    )
    text += "that goes with one outcome alone or holds outcomes of other rows" + (
        ", no copy with errors" * (not limits.score)
    )
    if not undecided:
        return text
    lines = [
        f"    {key}: {{{', '.join(f'{_yaml(one)}: {why}' for one in undecided)}}}" for key, why in DECISIONS.items()
    ]
    return (
        f"{text}; decide on each in params.yaml: add it to exploration.known_later and take it out of section features, "
        "or, if it is truly known when deciding, add it to exploration.justified:\n" + "\n".join(lines)
    )


def _measure(stated: dict[str, Any]) -> str:
    return "roc_auc" if decisions.is_class(stated) else "r2"


def _effects(frame: pd.DataFrame, missing: pd.DataFrame, stated: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the rows of `missing_effects` by column, of a quantity in its standard deviations."""
    spread = 1.0 if decisions.is_class(stated) else float(frame[LABEL].std(ddof=0)) or 1.0
    scaled = missing.assign(**{name: missing[name].astype("float64") / spread for name in ("gap", "low", "high")})
    return scaled.set_index("column").to_dict("index")


def _yaml(name: str) -> str:
    """Return a name as a key of YAML."""
    return (
        name if re.fullmatch(r"[A-Za-z_][\w.]*", name) and parse(name) == name else json.dumps(name, ensure_ascii=False)
    )
