"""A search whose best options are known, for tests that kill and resume it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ninefold.training import search
from ninefold.training.models import Range
from ninefold.training.search import Space, Trial

SPACES = {"hill": {"x": Range(-4.0, 4.0), "steps": Range(1, 100, log=True)}, "flat": {}}


START: dict[str, dict[str, Any]] = {"hill": {"x": 3.0, "steps": 50}, "flat": {"any": 1}}


def far(name: str, options: dict[str, Any], rung: int) -> float:
    """Return how far a point is from the best one; the rungs before the last see it blurred."""
    if name == "flat":
        return 5.0
    return abs(options["x"] - 1) + abs(options["steps"] - 10) / 50 + 0.01 * (2 - rung)


def slow(seconds: float, place: str, name: str, options: dict[str, Any], rung: int) -> float:
    """Do the same, leaving a trace of each evaluation."""
    time.sleep(seconds)
    with open(place, "a", encoding="utf-8") as stream:
        stream.write(f"{name} {options} {rung}\n")
    return far(name, options, rung)


def trials_of(
    memory: Path, budget: int | str = 20, rungs: int = 1, seed: int = 1, score: search.Score = far
) -> list[Trial]:
    return search.search(Space(START, SPACES, rungs, seed), score, budget, memory)
