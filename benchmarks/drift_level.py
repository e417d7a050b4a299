"""Measure the tests of drift on days that differ: false alarms of stable periods, and the power for a shift.

The rows of the table are kept in `drift_level.csv`, and `drift_level.md` is written from them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from ninefold.monitoring import shift_tests
from ninefold.monitoring.drift import arrangements, corrected_p, psi

HERE = Path(__file__).parent
RESULTS, REPORT = HERE / "drift_level.csv", HERE / "drift_level.md"
BEFORE, DAILY, BINS = 54, 40, 10
MILD, STRONG = 0.1, 0.3  # standard deviations of the days' means, in those of the rows
SHIFT = 0.3  # of the mean, in standard deviations of the rows
LEVELS = {"rows": 0.05, "drift": 0.05, "moved": 0.01}  # rule -> level
NAMES = {
    "rows": "Kolmogorov-Smirnov test, rows taken as independent",
    "drift": "PSI, neighbouring days permuted together (`drift.corrected_p`)",
    "moved": "Student's t of a mean, correlated days (`shift_tests.moved`)",
}


def stream(days: int, correlation: float, spread: float, features: int, random: np.random.Generator) -> np.ndarray:
    """Return rows whose days differ, and resemble the day before (AR(1)): float64, shape (days, DAILY, features)."""
    noise = random.normal(size=(days, features))
    day = noise.copy()
    for number in range(1, days):
        day[number] = correlation * day[number - 1] + np.sqrt(1 - correlation**2) * noise[number]
    return spread * day[:, None] + random.normal(size=(days, DAILY, features))


def drift(values: np.ndarray, days: int) -> np.ndarray:
    """Return the p-value of each feature, as `drift.compare_inputs` computes it."""
    inside, index = arrangements(len(values), days, timed=True).astype("float64"), []
    for feature in np.moveaxis(values, 2, 0):
        place = np.searchsorted(np.quantile(feature, np.arange(1, BINS) / BINS), feature) + 1
        counts = np.stack([(place == number).sum(axis=1) for number in range(BINS + 1)], axis=1)
        index.append(psi(counts.sum(axis=0) - inside @ counts, inside @ counts))
    return corrected_p(np.column_stack(index), inside.sum(axis=1) * DAILY)


def rows(values: np.ndarray, days: int) -> np.ndarray:
    """Return the p-value of the first feature, with rows taken as independent."""
    return np.array([stats.ks_2samp(values[:-days, :, 0].ravel(), values[-days:, :, 0].ravel(), method="asymp").pvalue])


def moved(values: np.ndarray, days: int) -> np.ndarray:
    """Return the p-value of the mean of the first feature."""
    block = np.repeat(np.arange(len(values)), DAILY)
    parts = [(part[: -days * DAILY], part[-days * DAILY :]) for part in (values[:, :, 0].ravel(), block)]
    return shift_tests.moved(*parts)["p"].to_numpy()


RULES: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {"rows": rows, "drift": drift, "moved": moved}


def rates(
    days: int, correlation: float, spread: float, replicates: int, features: int = 1, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return, by rule, the share of stable periods in which any feature is called moved, and of those whose first one did."""
    random = np.random.default_rng(seed)
    hits: dict[str, list[tuple[bool, bool]]] = {rule: [] for rule in RULES}
    for _ in range(replicates):
        values = stream(BEFORE + days, correlation, spread, features, random)
        shifted = values.copy()
        shifted[-days:, :, 0] += SHIFT
        for rule, test in RULES.items():
            hits[rule].append((test(values, days).min() <= LEVELS[rule], test(shifted, days)[0] <= LEVELS[rule]))
    return {rule: tuple(np.mean(each, axis=0).tolist()) for rule, each in hits.items()}


def report(table: pd.DataFrame) -> str:
    """Return the text of the table."""
    lines = [
        "# False alarms of the tests of drift, and their power",
        "",
        f"{BEFORE} days before, {DAILY} rows a day. The means of the days differ by a standard deviation of {MILD:g} or {STRONG:g} (of the rows' own),",
        "and each is correlated with the day before (AR(1)). A false alarm is any feature of a stable period that the rule calls",
        f"moved; power is the share of periods in which the one feature that moved by {SHIFT:g} standard deviations is named.",
        "",
        "| rule | level | features | spread of days | correlation | days of the period | false alarms | power |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in table.itertuples():
        start = f"| {NAMES[row.rule]} | {LEVELS[row.rule]:.0%} | {row.features} | {row.spread:g} | {row.correlation:g} | {row.days} "
        lines.append(f"{start}| {row.alarms:.1%} | {row.power:.0%} |")
    drifted = table[table["rule"] != "rows"]
    worst = (drifted["alarms"] - drifted["rule"].map(LEVELS)).max()
    lines += [
        "",
        f"Largest excess of the two rules in use over their level: {100 * worst:.1f} points; at most 2 are allowed. Of "
        f"{table['replicates'].max():,} streams each.",
        "With time, p of a short period is at least one by the number of days, so that fewer than 20 days tell nothing at 5 %.",
        "",
        "Made by `python benchmarks/drift_level.py`, from [drift_level.csv](drift_level.csv).",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure all cases, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=1000)
    replicates, table = parser.parse_args().replicates, []
    cases = [
        (1, spread, correlation, days) for spread in (MILD, STRONG) for correlation in (0.0, 0.5) for days in (7, 30)
    ]
    for features, spread, correlation, days in [*cases, (20, MILD, 0.0, 7), (20, MILD, 0.5, 7), (20, STRONG, 0.5, 7)]:
        count = replicates if features == 1 else replicates // 4
        for rule, (alarms, power) in rates(days, correlation, spread, count, features).items():
            if features == 1 or rule == "drift":
                table.append((rule, features, spread, correlation, days, count, round(alarms, 4), round(power, 4)))
        print(table[-1], flush=True)
    columns = ["rule", "features", "spread", "correlation", "days", "replicates", "alarms", "power"]
    result = pd.DataFrame(table, columns=columns)
    result = result.sort_values("rule", key=lambda rule: rule.map([*RULES].index), kind="stable")
    result.to_csv(RESULTS, index=False, lineterminator="\n")
    REPORT.write_text(report(pd.read_csv(RESULTS)), encoding="utf-8")


if __name__ == "__main__":
    main()
