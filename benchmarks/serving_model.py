"""Compare a bundle's pipeline with the compiled predictor of its model: one row and a hundred, from JSON rows to decisions.

`python benchmarks/serving_model.py [BUNDLE]` prints a Markdown table; without BUNDLE it takes that of the project. HTTP is
not in it. Both forms answer the same rows, and how far they are apart is said below the table.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ninefold.serving import compiled
from ninefold.serving.bundle import Bundle

COUNTS = (1, 100)
REPEATS, WARM = 300, 10
MANY = 10_000


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", nargs="?", type=Path, help="a folder; that of the project if absent")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    asked = parser.parse_args()
    bundle = Bundle.load(asked.bundle)
    slow = dataclasses.replace(bundle)
    vars(slow)["compiled"] = compiled.CompiledPredictor(None, "left out")
    rows = compiled.probes(bundle.described["example"], bundle.signature, bundle.reference)
    print(f"Bundle {bundle.version}; compiled predictor: {bundle.compiled.reason or 'in use'}.\n")
    print("| rows | way | p50 | p95 |")
    print("|---:|---|---:|---:|")
    for count in COUNTS:
        sent = [rows[number % len(rows)] for number in range(count)]
        for way, each in (("scikit-learn pipeline", _by_tables(slow)), ("compiled predictor", bundle.answer)):
            p50, p95 = _milliseconds(each, sent, asked.repeats)
            print(f"| {count} | {way} | {p50:.2f} ms | {p95:.2f} ms |")
    print(f"\n{_agreement(bundle, slow)}")


def _by_tables(bundle: Bundle) -> Callable[[list[dict[str, Any]]], Any]:
    """Return what the service did without a compiled predictor."""

    def answer(rows: list[dict[str, Any]]) -> Any:
        frame = bundle.complete(rows)
        return bundle.decide(frame)[bundle.answers].to_dict("records"), bundle.warnings(frame)

    return answer


def _milliseconds(answer: Callable[[list[dict[str, Any]]], Any], rows: list[dict[str, Any]], repeats: int) -> Any:
    taken = []
    for _ in range(WARM + repeats):
        started = time.perf_counter()
        answer(rows)
        taken.append(1000 * (time.perf_counter() - started))
    return np.quantile(taken[WARM:], [0.5, 0.95])


def _agreement(bundle: Bundle, slow: Bundle) -> str:
    """Return how far rows one by one are from the same rows through the pipeline, all at once."""
    rows = _rows(bundle, MANY)
    found, wanted = [bundle.answer([row]).records[0] for row in rows], slow.answer(rows).records
    text = {name for name, value in wanted[0].items() if isinstance(value, str)}
    names = [name for name in bundle.answers if name not in text]
    values = [np.array([[each[name] for name in names] for each in records]) for records in (found, wanted)]
    apart = (np.abs(values[0] - values[1]) / np.maximum(np.abs(values[1]), 1)).max()
    other = sum(one[name] != two[name] for one, two in zip(found, wanted, strict=True) for name in text)
    return f"{len(rows):,} rows one by one: {apart:.2g} at most from the pipeline, {other} other actions."


def _rows(bundle: Bundle, count: int) -> list[dict[str, Any]]:
    """Return rows with values of the probes, each field drawn by itself."""
    drawn, random = (
        compiled.probes(bundle.described["example"], bundle.signature, bundle.reference),
        np.random.default_rng(1),
    )
    names = sorted({name for row in drawn for name in row})
    held = {name: [row[name] for row in drawn if name in row] for name in names}
    return [{name: values[random.integers(len(values))] for name, values in held.items()} for _ in range(count)]


if __name__ == "__main__":
    main()
