"""Does the challenger beat the champion? Both act on the same labelled rows, which neither was fitted on."""

import json

import numpy as np
import pandas as pd
from pydantic import ValidationError

from ninefold import features, lineage, metrics, training
from ninefold.errors import DataError
from ninefold.metrics import EvaluationPlan, Split
from ninefold.problem import PRIMARY, Problem, decisions, title
from ninefold.registry import repository
from ninefold.registry.repository import say
from ninefold.serving import BUNDLE, Bundle, differing

PLAN, PROBLEM = "data/metrics.json", "data/problem.json"
# What two models must share of the problem for a fair comparison.
SAME = ("table", "key", "time", "group", "task", "target", "classes", "actions")
LEAST_ROWS = 50  # that neither model was fitted on


def compare(champion: Bundle, challenger: Bundle, rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return ``gain`` (payoff per row) and ``improvement`` (of the proper score) of the challenger, on rows new to both.

    Each acts as it would in production, the champion by the payoffs that it was packed with; actions are valued by the
    payoffs of the challenger. The lower end of an interval is exceeded with the confidence that the problem asks for.
    """
    problem, target = challenger.problem, rows[challenger.problem.target].to_numpy()
    old, new = champion.decide(rows), challenger.decide(rows)
    gain = decisions.payoff(new["action"], target, problem) - decisions.payoff(old["action"], target, problem)

    before, after = (metrics.scorer(PRIMARY[problem.task], target, one, problem) for one in (old, new))

    def statistic(weight: np.ndarray) -> dict[str, float]:
        return {**metrics.means({"gain": gain}, weight), "improvement": before(weight) - after(weight)}

    return metrics.intervals(statistic, rows, problem, problem.success.level)


def unseen(rows: pd.DataFrame, champion: Bundle, commit: str) -> pd.DataFrame:
    """Return those of the holdout rows that the champion was not fitted on.

    With time, rows after the last local day of its training and validation; else rows that the split of its commit put in the
    holdout, too. Raises `DataError` if that split is neither in DVC's cache nor in its remote, or an older version wrote it.
    """
    if champion.problem.time:
        last = max(champion.described["periods"][part]["last"] for part in ("train", "validation"))
        end = pd.Timestamp(last) + pd.Timedelta(days=1)
        return rows[champion.problem.local_times(rows) >= end].reset_index(drop=True)
    with repository.restored(PLAN, commit) as file:
        stored = json.loads(file.read_text(encoding="utf-8"))["split"]
    try:
        split = Split.model_validate(stored)
    except ValidationError:
        raise DataError(say("old_split", plan=PLAN, stored=stored)) from None
    return rows[metrics.part_of(rows, split, champion.problem) == "holdout"].reset_index(drop=True)


def evaluate(version: str, commit: str, challenger: Bundle) -> tuple[bool, str]:
    """Return whether the challenger, made from the data at hand, significantly beats a champion, and how it compares."""
    try:
        with repository.restored(BUNDLE, commit) as folder:
            champion = Bundle.load(folder)
        _demand_same(champion, challenger)
        problem, plan = challenger.problem, EvaluationPlan.load()
        holdout = training.read(problem, plan)["holdout"]
        rows = unseen(holdout, champion, commit)
        _demand_enough(rows, len(holdout), problem)
        difference = compare(champion, challenger, rows)
    except DataError as error:
        return False, f"cannot be compared with champion {version}: {error}"
    wins = bool(difference["gain"]["low"] > 0)
    facts = {"metric": title(PRIMARY[problem.task]), "days": problem.local_days(rows) if problem.time else None}
    facts |= {"problem": problem, "rows": rows, "holdout": holdout, **difference}
    return wins, say("compared", wins=wins, version=version, **facts)


def _demand_same(champion: Bundle, challenger: Bundle) -> None:
    """Demand the same problem and the same fields of both, and that the data at hand are the challenger's."""
    both = champion, challenger
    if other := differing(*both, SAME):
        values = [(name, *(getattr(each.problem, name) for each in both)) for name in other]
        changes = "; ".join(f"{name} was {old}, is {new}" for name, old, new in values)
        raise DataError(f"it answers another question: {changes}")
    before, now = ({field["name"]: (field["kind"], field["type"]) for field in each.signature} for each in both)
    if lost := [name for name in champion.features if now.get(name) != before[name]]:
        raise DataError(f"its features {', '.join(lost)} are not, or of another kind, in the feature table of today")
    recorded = challenger.described["lineage"]
    if changed := [name for name in (PROBLEM, PLAN, features.FEATURES) if lineage.sha256(name) != recorded.get(name)]:
        raise DataError(f"{', '.join(changed)}: not what the challenger was made from; `dvc checkout` restores it")


def _demand_enough(rows: pd.DataFrame, holdout: int, problem: Problem) -> None:
    """Demand enough rows that neither model was fitted on, and more than one outcome among them."""
    count = metrics.count_clusters(metrics.clusters(rows, problem))
    if len(rows) < LEAST_ROWS or count < metrics.LEAST_CLUSTERS or rows[problem.target].nunique() < 2:
        least = {"least_rows": LEAST_ROWS, "least_clusters": metrics.LEAST_CLUSTERS}
        clusters = metrics.cluster_name(problem)
        raise DataError(say("few_rows", rows=rows, holdout=holdout, count=count, clusters=clusters, **least))
