"""Measure the whole pipeline: each stage, a run in which nothing changed, and how waiting threads cost others.

Writes its section of benchmarks/README.md. Absolute times depend on the machine; compare ratios of one run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

from common import ROOT, machine, write_section

FIT = """
import time, warnings
import ninefold
from ninefold import training
from ninefold.features import FeatureSchema
from ninefold.metrics import EvaluationPlan
from ninefold.params import load
from ninefold.problem import Problem
problem, plan, params = Problem.load(), EvaluationPlan.load(), load("training")
schema, train = FeatureSchema.load(), training.read(problem, plan)["train"]
chosen = next(name for name, one in params.candidates.items() if one.model == "gradient_boosting")
model = training.candidates(params, schema, problem)[chosen]
started = time.perf_counter()
model.fit(train[schema.all], train[problem.target])
print(time.perf_counter() - started)
"""


def timed(*command: str) -> float:
    """Return the seconds that a command takes; stop if it fails."""
    started = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def fit_seconds(policy: str, busy: bool) -> float:
    """Return the seconds of one fit, with waiting threads that sleep or spin, alone or beside a busy process."""
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    try:
        env = {**os.environ, "OMP_WAIT_POLICY": policy}
        done = subprocess.run(
            [sys.executable, "-c", FIT], cwd=ROOT, env=env, check=True, capture_output=True, text=True
        )
        return float(done.stdout)
    finally:
        if neighbour:
            neighbour.kill()
            neighbour.wait()


def stage_seconds() -> dict[str, float]:
    """Return the seconds of each stage in the last run."""
    files = sorted((ROOT / "reports/timings").glob("0?_*.json"))
    found = {file.stem: json.loads(file.read_text()) for file in files}
    return {name: record["seconds"] for name, record in found.items() if isinstance(record, dict)}


def main() -> None:
    """Measure, and write the section of the report."""
    whole = timed("dvc", "repro", "--force")
    stages = stage_seconds()
    nothing = timed("dvc", "repro")
    fits = {(policy, busy): fit_seconds(policy, busy) for policy in ("passive", "active") for busy in (False, True)}
    lines = [
        "## The pipeline",
        "",
        f"One run on a machine with {machine()}.",
        "",
        "| stage | seconds | share of the run |",
        "|---|---:|---:|",
        *(f"| {name} | {seconds:.1f} | {seconds / whole:.0%} |" for name, seconds in stages.items()),
        f"| site, sources, and DVC itself | {whole - sum(stages.values()):.1f} | {1 - sum(stages.values()) / whole:.0%} |",
        f"| **`dvc repro --force`** | **{whole:.1f}** | 100% |",
        f"| `dvc repro` when nothing changed | {nothing:.1f} | {nothing / whole:.1%} |",
        "",
        "### Threads that wait",
        "",
        "OpenMP's threads spin while they wait, by default, which takes the cores from whatever else runs. Ninefold sets",
        "`OMP_WAIT_POLICY=PASSIVE` unless you set it. One fit of the gradient boosting, in seconds:",
        "",
        "| | alone | beside one busy process |",
        "|---|---:|---:|",
        f"| passive, as set | {fits['passive', False]:.1f} | {fits['passive', True]:.1f} |",
        f"| active | {fits['active', False]:.1f} | {fits['active', True]:.1f} |",
        f"| active / passive | {fits['active', False] / fits['passive', False]:.1f} "
        f"| {fits['active', True] / fits['passive', True]:.1f} |",
        "",
    ]
    write_section("pipeline", lines)


if __name__ == "__main__":
    main()
