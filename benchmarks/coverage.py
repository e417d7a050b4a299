"""Count how often intervals of 95 % hold the true value, and how often the gate on the gain passes at a true gain of zero.

Rows of one day (or entity) share random effects on the outcome and on the score; those of days are autocorrelated.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from common import HERE, ROOT, machine, merge_rows, read_rows, write_section
from scipy import integrate, stats

from ninefold.metrics import EvaluationPlan, against_baseline, intervals, means, scorer
from ninefold.problem import Problem

sys.path.insert(0, str(ROOT / "tests"))

RESULTS = HERE / "coverage.csv"
ROWS = ("5", "random", "1000")
KEY = ["clusters", "count", "autocorrelation", "rows"]
EFFECT, SCORE_EFFECT, CUT = 0.5, 0.25, 0.8  # standard deviations of effects beside noise of 1, and the cut of an event
NOMINAL, WIDEST = 0.1, 0.02  # share of false passes of the gate, and what may be added to it
FIGURES, UNRELATED = ("mean", "difference", "ROC AUC"), "AUC, unrelated"
GATES = ("gate", "gate, one policy")


def true_auc(covariance: float) -> float:
    """Return the chance that an event is ranked above a non-event of another day; the covariance is of score and outcome."""
    spread, noise = np.hypot(1, SCORE_EFFECT), np.hypot(EFFECT, 1)  # of the score, and of the rest of the outcome
    slope = covariance / spread**2
    rest = np.sqrt(noise**2 + 1 - slope * covariance)
    events = stats.norm.sf(CUT / np.hypot(noise, 1))

    def density(score: float) -> float:
        return stats.norm.pdf(score, scale=spread) * stats.norm.sf((CUT - slope * score) / rest) / events

    def below(score: float) -> float:
        both = stats.multivariate_normal.cdf([score, CUT], cov=[[spread**2, covariance], [covariance, noise**2 + 1]])
        return both / (1 - events)

    return integrate.quad(lambda score: density(score) * below(score), -6 * spread, 6 * spread)[0]


def effects(count: int, autocorrelation: float, random: np.random.Generator) -> np.ndarray:
    """Return four effects of each cluster: float64, shape (4, count)."""
    values = random.standard_normal((4, count))
    for day in range(1, count):
        values[:, day] = autocorrelation * values[:, day - 1] + np.sqrt(1 - autocorrelation**2) * values[:, day]
    return values


def sample(
    cell: dict[str, Any], problem: Problem, plan: EvaluationPlan, truth: dict[str, float], random: np.random.Generator
) -> dict[str, bool]:
    """Return whether each interval of a new sample holds the true value, and whether each gate passes."""
    count, rows = cell["count"], cell["rows"]
    size = np.maximum(random.poisson(30 * random.lognormal(-0.125, 0.5, count)), 1) if rows == "random" else int(rows)
    cluster = np.repeat(np.arange(count), size)
    one, other, score, selected = effects(count, cell["autocorrelation"], random)[:, cluster]
    noise, more, signal, shared = random.standard_normal((4, len(cluster)))
    frame = pd.DataFrame({"placed": pd.Timestamp("2020-01-01") + pd.to_timedelta(cluster, "D"), "customer": cluster})
    columns = {"mean": EFFECT * one + noise, "difference": EFFECT * one + noise - (shared + EFFECT * other + more)}
    columns["difference"] += shared  # paired: the rows of both have it
    event = signal + EFFECT * one + noise > CUT
    ranks = {
        name: scorer(
            "roc_auc", event, pd.DataFrame({"probability": stats.norm.cdf(signal + SCORE_EFFECT * each)}), problem
        )
        for name, each in ((FIGURES[-1], one), (UNRELATED, score))
    }
    statistic = lambda weight: {**means(columns, weight), **{name: rank(weight) for name, rank in ranks.items()}}  # noqa: E731
    found = intervals(statistic, frame, problem, 0.95, list(ranks))
    held = {name: each["low"] <= truth[name] <= each["high"] for name, each in found.items()}
    # Acting costs 1, and waiting 4 at one outcome of four: a forecast that knows nothing gains nothing.
    outcome = (random.random(len(cluster)) < 0.05 + 0.4 * stats.norm.cdf(one)).astype("int64")
    forecast = pd.DataFrame({"probability": 0.5 * stats.norm.cdf(selected * EFFECT + more)})
    paid, best, _ = against_baseline(outcome, forecast, problem, plan)  # and as `Evaluation.gain_floor` does
    gains = dict(zip(GATES, (paid - best, paid + 1), strict=True))
    floors = intervals(partial(means, gains), frame, problem, 1 - 2 * NOMINAL)
    return held | {name: each["low"] > 0 for name, each in floors.items()}


def simulate(cell: dict[str, Any], samples: int) -> dict[str, Any]:
    """Return a cell of the table with the share of intervals that hold the true value, and of gates that pass."""
    from conftest import statement

    changes = {} if cell["clusters"] == "days" else {"time": None, "group": ["customer"]}
    plan = EvaluationPlan(
        primary={"name": "log_loss", "better": "lower"}, thresholds=statement().success, level=0.95,
        split={"by": "time", "validation": "2020-01-01", "holdout": "2020-01-02"},
        policies={"always act": "act", "always wait": "wait"},
    )  # fmt: skip
    truth = dict(zip((*FIGURES, UNRELATED), (0.0, 0.0, true_auc(1 + EFFECT * SCORE_EFFECT), true_auc(1)), strict=True))
    random = np.random.default_rng(1)
    table = pd.DataFrame([sample(cell, statement(**changes), plan, truth, random) for _ in range(samples)])
    return {**cell, "samples": samples, **table.mean().round(4).to_dict()}


def cells() -> Iterator[dict[str, Any]]:
    """Yield what is simulated, without the results."""
    days = product(["days"], (7, 12, 30, 60), (0.0, 0.5), ROWS)
    for cell in (*days, *product(["entities"], (12, 30, 100), (0.0,), ("5", "random"))):
        yield dict(zip(KEY, cell, strict=True))


def report(rows: list[dict[str, str]]) -> list[str]:
    """Return the section of the report."""
    held = [float(row[name]) for row in rows for name in FIGURES]
    passed = [f"{max(float(row[name]) for row in rows):.1%}" for name in GATES]
    names = [*KEY, "samples", *FIGURES, UNRELATED, *GATES]
    lines = [
        "## Coverage of intervals",
        "",
        "The share of simulated intervals of 95 % that hold the true value, and the share of samples that pass the gate on the",
        f"gain (a confidence of {1 - NOMINAL:.0%}) at a true gain of zero: over the better of two policies on the same rows, and over",
        f"one. Days (or entities) share effects with a standard deviation of {EFFECT} on outcomes, of which the score knows half; rows",
        "have noise of 1; *random* rows are about 30, twice as many on some days as on others. The true ROC AUC is that over",
        "infinitely many days. *AUC, unrelated* has a score with effects of the day that say nothing of the outcome: within a few",
        "correlated days these vary less than over many, so the ROC AUC of the sample is too high, which no interval sees.",
        "",
        f"Machine: {machine()}.",
        "",
        f"| {' | '.join(names)} |",
        f"|---|{'---:|' * (len(names) - 1)}",
    ]
    for row in rows:
        shares = [f"{float(row[name]):.1%}" for name in (*FIGURES, UNRELATED, *GATES)]
        lines.append("| " + " | ".join([*(row[name] for name in KEY), row["samples"], *shares]) + " |")
    lines += [
        "",
        f"Coverage, *unrelated* omitted: {min(held):.1%} to {max(held):.1%} (asked for: 92 % to 98 %). The gate passes {passed[0]} at most (asked for:",
        f"{NOMINAL + WIDEST:.0%}), over one policy {passed[1]}.",
        "",
        "Made by `python benchmarks/coverage.py --help`, from [coverage.csv](coverage.csv).",
    ]
    return lines


def main() -> None:
    """Simulate the cells that are asked for, and write the section of the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1000, help="of a cell")
    parser.add_argument("--clusters", default="days,entities")
    parser.add_argument("--rows", default=",".join(ROWS), help="rows of a day")
    options = parser.parse_args()
    order = [tuple(map(str, cell.values())) for cell in cells()]
    for cell in cells():
        if cell["clusters"] in options.clusters.split(",") and cell["rows"] in options.rows.split(","):
            row = simulate(cell, options.samples)
            merge_rows(RESULTS, [row], KEY, lambda row: order.index(tuple(row[name] for name in KEY)))
            print(row, flush=True)
    write_section("coverage", report(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
