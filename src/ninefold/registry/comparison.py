"""Does the challenger beat the champion? Both act on the same labelled rows, which neither was fitted on."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from ninefold import features, lineage, training
from ninefold.errors import DataError
from ninefold.metrics import (
    LEAST_CLUSTERS,
    EvaluationPlan,
    Split,
    cluster_name,
    clusters,
    intervals,
    one_score,
    part_of,
)
from ninefold.problem import PRIMARY, Problem, decisions, title
from ninefold.registry import versions
from ninefold.serving import BUNDLE, Bundle, differing
from ninefold.timestamps import as_days

PLAN, PROBLEM = "data/metrics.json", "data/problem.json"
# What two models must share of the problem for a fair comparison.
SAME = ("table", "key", "time", "group", "task", "target", "classes", "actions")
LEAST_ROWS = 50  # that neither model was fitted on


def compare(
    champion: Bundle, challenger: Bundle, rows: pd.DataFrame, plan: EvaluationPlan
) -> dict[str, dict[str, float]]:
    """Return by how much the challenger is better than the champion on the same rows, with one-sided intervals.

    Each acts as it would in production, the champion by the payoffs that it was packed with; actions are valued by the
    payoffs of the challenger. Intervals resample clusters of paired differences; the lower end is exceeded with the
    confidence that the problem asks for.

    Parameters
    ----------
    champion, challenger : Bundle
        Of the same target and actions.
    rows : DataFrame
        Labelled feature rows that neither was fitted on.
    plan : EvaluationPlan

    Returns
    -------
    dict
        ``gain`` (payoff per row) and ``improvement`` (by which the primary proper score is lower), each
        ``{"value", "low", "high"}``.
    """
    problem, target = challenger.problem, rows[challenger.problem.target].to_numpy()
    old, new = champion.decide(rows), challenger.decide(rows)
    gain = decisions.payoff(new["action"], target, problem) - decisions.payoff(old["action"], target, problem)

    def statistic(weight: np.ndarray) -> dict[str, float]:
        before, after = (one_score(PRIMARY[problem.task], target, one, problem, weight) for one in (old, new))
        return {"gain": float(np.average(gain, weights=weight)), "improvement": before - after}

    one_sided = plan.bootstrap.model_copy(update={"level": 2 * problem.success.confidence - 1})
    return intervals(statistic, clusters(rows, problem), one_sided)


def unseen(rows: pd.DataFrame, champion: Bundle, commit: str) -> pd.DataFrame:
    """Return those of the holdout rows that the champion was not fitted on.

    With time, rows after the last day of its training and validation; else rows that the split of its commit put in the
    holdout, too.

    Raises
    ------
    DataError
        If that split is neither in DVC's cache nor in its remote.
    """
    if champion.problem.time:
        last = max(champion.described["periods"][part]["last"] for part in ("train", "validation"))
        end = (pd.Timestamp(last) - pd.Timestamp(0)).days + 1
        return rows[as_days(rows[champion.problem.time]) >= end].reset_index(drop=True)
    with tempfile.TemporaryDirectory() as folder:
        versions.restore(PLAN, commit, Path(folder) / "metrics.json")
        values = json.loads((Path(folder) / "metrics.json").read_text(encoding="utf-8"))
    split = Split.model_validate(values["split"])
    return rows[part_of(rows, split, champion.problem) == "holdout"].reset_index(drop=True)


def evaluate(version: str, commit: str, challenger: Bundle) -> tuple[bool, str]:
    """Return whether the challenger significantly beats the champion, and the comparison in words.

    Parameters
    ----------
    version, commit : str
        Of the champion.
    challenger : Bundle
        Made from the data at hand.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            versions.restore(BUNDLE, commit, Path(folder) / "bundle")
            champion = Bundle.load(Path(folder) / "bundle")
        _demand_same(champion, challenger)
        problem, plan = challenger.problem, EvaluationPlan.load()
        holdout = training.read(problem, plan)["holdout"]
        rows = unseen(holdout, champion, commit)
        _demand_enough(rows, len(holdout), problem)
        difference = compare(champion, challenger, rows, plan)
    except DataError as error:
        return False, f"cannot be compared with champion {version}: {error}"
    gain, better = difference["gain"], difference["improvement"]
    wins, confidence = bool(gain["low"] > 0), problem.success.confidence
    return wins, (
        f"{'beats' if wins else 'does not significantly beat'} champion {version}: gain {gain['value']:.4g} "
        f"{problem.payoff_unit} per {problem.unit}, with {confidence:.0%} confidence above {gain['low']:.4g} (expected: "
        f"above 0), {title(PRIMARY[problem.task])} lower by {better['value']:.4g} (above {better['low']:.4g}), on "
        f"{len(rows):,} of {len(holdout):,} holdout rows{_days(rows, problem)}, which neither was fitted on"
    )


def _days(rows: pd.DataFrame, problem: Problem) -> str:
    if not problem.time:
        return ""
    days = rows[problem.time].dt.normalize()
    return f" of {days.nunique()} days, {days.min().date()} to {days.max().date()}"


def _demand_same(champion: Bundle, challenger: Bundle) -> None:
    """Demand the same problem and the same fields of both, and that the data at hand are the challenger's."""
    old, new = champion.problem, challenger.problem
    if other := differing(champion, challenger, SAME):
        changes = "; ".join(f"{name} was {getattr(old, name)}, is {getattr(new, name)}" for name in other)
        raise DataError(f"it answers another question: {changes}")
    kinds = {field["name"]: (field["kind"], field["type"]) for field in challenger.signature}
    fields = {field["name"]: (field["kind"], field["type"]) for field in champion.signature}
    if lost := [name for name in champion.features if kinds.get(name) != fields[name]]:
        raise DataError(f"its features {', '.join(lost)} are not, or of another kind, in the feature table of today")
    recorded = challenger.described["lineage"]
    if changed := [name for name in (PROBLEM, PLAN, features.FEATURES) if lineage.sha256(name) != recorded.get(name)]:
        raise DataError(f"{', '.join(changed)}: not what the challenger was made from; `dvc checkout` restores it")


def _demand_enough(rows: pd.DataFrame, holdout: int, problem: Problem) -> None:
    """Demand enough rows that neither model was fitted on, and more than one outcome among them."""
    count = rows[problem.time].dt.normalize().nunique() if problem.time else len(np.unique(clusters(rows, problem)))
    if len(rows) < LEAST_ROWS or count < LEAST_CLUSTERS or rows[problem.target].nunique() < 2:
        raise DataError(
            f"the champion was not fitted on {len(rows):,} of {holdout:,} holdout rows, of {count} {cluster_name(problem)}; "
            f"expected {LEAST_ROWS} rows of {LEAST_CLUSTERS}, and two different outcomes: wait for newer rows"
        )
