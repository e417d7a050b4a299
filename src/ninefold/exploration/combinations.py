"""Quantities made of columns that are the outcome in most rows: sums, differences, products and ratios."""

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.linalg import lstsq

from ninefold.exploration.univariate import FEW_VALUES, Classes, Quantity, as_numbers
from ninefold.metrics import subsample
from ninefold.problem import Problem

ROWS, CHECKED, FEWEST = 20_000, 4000, 60  # most rows, and of these without gaps; the fewest: half fit, others check
COLUMNS, SCALES, QUANTITY = 100, 30, 12  # most columns, and those to divide by, by rank correlation; most in a quantity
COMPARED, PAIRS = 60, 40  # most columns to compare with one another; most pairs to score, by their ranks
LARGEST = 1e50  # numbers whose squares are finite
NEAR, EXACT = 0.03, 0.9  # of the spread: how far off an exact row may be; share of such rows, beyond chance
HOPELESS = 0.2  # standard deviations of the target that half of the rows are off, from which a fit is given up
SMALL = 0.02  # share of that error under which a term does not matter


class Form(NamedTuple):
    """A way to combine columns: ``target`` is linear in ``design``: the columns, then a constant."""

    design: np.ndarray
    target: np.ndarray
    around: tuple[str, str] = ("", "")  # texts before and after the terms
    scale: int | None = None  # the column by which all are divided or multiplied
    power: bool = False  # columns are multiplied, not added


def evidence(frame: pd.DataFrame, names: list[str], outcome: np.ndarray, problem: Problem) -> dict[str, str]:
    """Return, by column, the quantity that is the outcome (of classes, their number from 0), in words.

    `names`: columns that are no leak alone. Quantities are linear combinations of up to twelve columns, or of one, times or
    over another one, and products of powers, found on half of the rows and confirmed on the other half.
    """
    rows = subsample(len(frame), ROWS)
    sample, y, found = frame.iloc[rows], np.asarray(outcome, dtype="float64")[rows], dict[str, str]()
    columns = pd.DataFrame({name: _numbers(sample[name]) for name in names}, sample.index).dropna(axis=1, how="all")
    order = columns.rank().corrwith(pd.Series(y, columns.index).rank()).abs()
    columns = columns[order.sort_values(ascending=False, kind="stable").index[:COLUMNS]]
    for name in list(columns):
        found |= _shortest(columns[[name]], y, problem)
    while new := _shortest(columns.drop(columns=[*found]), y, problem):
        found |= new
    return found


def pairs(frame: pd.DataFrame, names: list[str], scorer: Classes | Quantity) -> list[tuple[list[str], str, pd.Series]]:
    """Return the pairs that rank the outcome best: differences of times or numbers, ratios of positive numbers, both of few values.

    Each with its two columns and in words; `scorer` is that of the frame's rows.
    """
    columns = pd.DataFrame({name: _numbers(frame[name]) for name in names}, frame.index).dropna(axis=1, how="all")
    columns = columns.iloc[:, :COMPARED]
    times = {name for name in columns if pd.api.types.is_datetime64_any_dtype(frame[name])}
    positive = [name for name in columns if name not in times and columns[name].min() > 0]
    alike = [(one, other) for one, other in combinations(columns, 2) if (one in times) == (other in times)]
    made = [([one, other], f"{one} - {other}", columns[one] - columns[other]) for one, other in alike]
    made += [([a, b], f"{a} / {b}", columns[a] / columns[b]) for a, b in combinations(positive, 2)]
    ranks = [max(scorer.rank(way.to_numpy()).max() for way in (values, values.abs())) for *_, values in made]
    few = [name for name in names if 2 <= frame[name].nunique() <= FEW_VALUES][:COMPARED]
    codes = {name: pd.factorize(frame[name])[0] + 1 for name in few}
    both = [([a, b], f"{a} and {b}", codes[a] * (FEW_VALUES + 1) + codes[b]) for a, b in combinations(few, 2)]
    made += [(pair, words, pd.Series(code, frame.index).astype("category")) for pair, words, code in both]
    ranks += [scorer.learn(code)[0].max() for *_, code in both]
    return [made[place] for place in np.argsort(-np.array(ranks), kind="stable")[:PAIRS]]


def _shortest(columns: pd.DataFrame, y: np.ndarray, problem: Problem) -> dict[str, str]:
    """Return the columns of the quantity of the fewest that is the outcome, each with its words; empty if there is none."""
    known = np.flatnonzero(columns.notna().all(axis=1))
    known = known[:: -(-len(known) // CHECKED) or 1]
    exact = [_exact(form, list(columns), problem.target) for form in _forms(columns.iloc[known], y[known])]
    return min(filter(None, exact), key=len, default={})


def _numbers(values: pd.Series) -> pd.Series:
    """Return a column as float64, times in days; all missing if it is constant, no number, or mostly missing."""
    time = pd.api.types.is_datetime64_any_dtype(values)
    numbers = as_numbers(values.dt.as_unit("us") if time else values)
    if numbers is None or numbers.nunique() < 2 or numbers.isna().mean() > 0.5:
        return pd.Series(np.nan, values.index)
    return numbers / 86_400e6 if time else numbers.where(numbers.abs() < LARGEST)


def _forms(columns: pd.DataFrame, y: np.ndarray) -> Iterator[Form]:
    """Yield the forms that are tried, the simplest first."""
    table = np.column_stack([columns.to_numpy("float64"), np.ones(len(y))])
    with np.errstate(all="ignore"):  # what is not finite is left out
        yield Form(table, y)
        yield Form(table, 1 / y, ("1 / (", ")"))
        logs = np.log(np.where((table > 0).mean(axis=0) > 0.5, table, 1.0))
        logs[:, -1] = 1.0
        yield Form(logs, np.log(y), power=True)
        for place, name in enumerate(columns.columns[:SCALES]):
            scale = table[:, [place]]
            yield Form(table / scale, y, ("(", f") / {name}"), place)
            yield Form(table * scale, y, (f"{name} * (", ")"), place)
            yield Form(table / scale, 1 / y, (f"{name} / (", ")"), place)


def _exact(form: Form, names: list[str], outcome: str) -> dict[str, str]:
    """Return the fewest columns that a form needs to be the outcome, each with how, in words; empty if it is not."""
    finite = np.isfinite(form.design).all(axis=1) & np.isfinite(form.target)
    half = np.random.default_rng(0).permutation(len(finite)) % 2 == 0
    fit, check = np.flatnonzero(finite & half), np.flatnonzero(finite & ~half)
    if min(len(fit), len(check)) < max(FEWEST // 2, len(names) + 10):
        return {}
    fit = fit[: max(400, 8 * len(names))]
    size = np.sqrt((form.design[finite] ** 2).mean(axis=0))
    design, target = form.design / np.where(size > 0, size, 1), form.target
    fixed = [len(names), *([] if form.scale is None else [form.scale])]

    def solve(used: list[int]) -> tuple[float, np.ndarray]:
        weight = _trimmed(design[fit][:, used], target[fit])
        return exact_share(target[check], design[check][:, used] @ weight), weight

    whole, weight = solve([*range(len(names) + 1)])
    matter = np.abs(weight) * design[fit].std(axis=0)
    order = [place for place in np.argsort(-matter, kind="stable").tolist() if place not in fixed]
    for count in range(1, min(QUANTITY, len(order)) + 1 if whole >= EXACT else 1):
        for used in (order[:count], [*order[:count], *fixed]):
            share, weight = solve(used)
            if share >= EXACT:
                kept = np.flatnonzero(np.abs(weight) > SMALL * NEAR * target[check].std())
                terms = {used[n]: weight[n] / size[used[n]] for n in kept}
                words = f"{_formula(terms, names, form.power).join(form.around)} is {outcome} in {share:.1%} of rows"
                return {names[n]: words for n in [*terms, *fixed[1:]] if n < len(names)} if terms else {}
    return {}


def _trimmed(design: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the weights of a linear fit to the three quarters of the rows that it fits best.

    Least trimmed squares by concentration steps (Rousseeuw and Van Driessen, Data Mining and Knowledge Discovery 12, 2006).
    """
    rows, inner = np.arange(len(target)), max(len(target) * 3 // 4, 1)
    for step in range(8):
        weight = lstsq(design[rows], target[rows], lapack_driver="gelsy", check_finite=False)[0]
        error = np.abs(target - design @ weight)
        if step and np.median(error) > HOPELESS * target.std():
            break
        rows = np.argpartition(error, inner - 1)[:inner]
    return np.asarray(weight)


def exact_share(target: np.ndarray, predicted: np.ndarray) -> float:
    """Return the share of rows that are exact; 0 if a constant is about as good."""
    spread = min(target.std(), np.ptp(np.quantile(target, [0.1, 0.9])) / 2.56 or np.inf)
    exact = float((np.abs(target - predicted) <= NEAR * spread).mean()) if spread > 0 else 0.0
    chance = np.unique(target, return_counts=True)[1].max() / len(target)
    return exact if exact - chance >= EXACT * (1 - chance) else 0.0


def _formula(terms: dict[int, float], names: list[str], power: bool) -> str:
    """Return a sum, or a product of powers; the term after the last name is a constant."""
    parts = []
    for place, number in terms.items():
        name, size = "" if place == len(names) else names[place], f"{abs(number):.3g}"
        if power:
            sign, text = "/" if name and number < 0 else "*", f"{name}^{size}".removesuffix("^1")
            text = text if name else f"{np.exp(number):.3g}"
        else:
            sign, text = "-" if number < 0 else "+", f"{size} * {name}".removeprefix("1 * ") if name else size
        parts.append(f"{sign} {text}")
    whole = " ".join(sorted(parts, key=lambda part: part[0] in "-/"))
    return f"1 {whole}" if whole[0] == "/" else whole.removeprefix("+ ").removeprefix("* ")
