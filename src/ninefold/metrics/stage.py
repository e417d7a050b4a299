"""How will we know that the model is good, and that it solves the problem?

Reads: ``data/problem.json``; ``data/lake/``.
Writes: ``data/metrics.json``: the metrics and their directions, the thresholds, the split, the scores of the baselines.
Gate: each part of the split has enough outcomes, and the thresholds can be reached.
"""

from typing import Any

import numpy as np
import pandas as pd

from ninefold import gate, timestamps
from ninefold.metrics.plan import EvaluationPlan, Params, Primary, Split
from ninefold.metrics.resampling import COPIES, LEAST_CLUSTERS, cluster_name, clusters, count_clusters
from ninefold.metrics.splits import PARTS, part_of
from ninefold.problem import FORESIGHT, MEANING, Problem, decisions
from ninefold.sentences import render


def best_payoff(plan: EvaluationPlan) -> float:
    """Return the mean payoff on validation of the baseline policy that the model has to beat."""
    return float(plan.baselines[plan.best_baseline]["validation"] or 0)


def potential_gain(plan: EvaluationPlan) -> float:
    """Return the payoff per row, on validation, of perfect foresight above the best baseline policy."""
    return float(plan.baselines[FORESIGHT]["validation"] or 0) - best_payoff(plan)


def recent_outcomes(frame: pd.DataFrame, split: Split, problem: Problem) -> tuple[str, Any]:
    """Return the name and the values of a forecast without features for the validation rows: the mean of the newest outcomes.

    It is the share of each class (columns: their codes), or the mean quantity, of the *last four weeks* (months, quarters or
    years, where times stand for these) whose outcomes are known by the day; where there is none, of the training rows.
    """
    part, indicators = part_of(frame, split, problem), _indicators(frame[problem.target], problem)
    mean = indicators[part_of(frame, split, problem, "validation") == "train"].mean()
    day = problem.local_days(frame)
    by_day = indicators.groupby(day)
    daily = (each.asfreq("D", fill_value=0) for each in (by_day.sum(), by_day.size()))
    unit = timestamps.coarser(day, "week")
    sums, sizes = (each.rolling(f"{4 * timestamps.GRAINS[unit][1]}D", closed="left").sum() for each in daily)
    known = problem.known_before(day[part == "validation"]).dt.normalize()
    values = sums.div(sizes, axis=0).reindex(known).fillna(mean).reset_index(drop=True)
    return f"last four {unit}s", values if problem.is_class else values["prediction"]


def describe_split(frame: pd.DataFrame, split: Split, problem: Problem) -> str:
    """Return what the figure of the split shows, in words; nothing of the outcomes in the holdout."""
    part = pd.Series(part_of(frame, split, problem), frame.index)
    copies = frame.get(COPIES, pd.Series(dtype="int64"))
    means = pd.Series(decisions.event(frame[problem.target], problem), frame.index).groupby(part).mean()
    facts = {"points": split, "copies": copies, "part": part, "means": means, "problem": problem}
    return render("metrics", "split", **facts, level=decisions.level_name(problem), show=decisions.show_level)


def make_plan(frame: pd.DataFrame, split: Split, params: Params, problem: Problem) -> EvaluationPlan:
    """Return the evaluation plan of later stages: metrics, thresholds, split, policies and baselines.

    The best baseline policy, which the model has to beat, is that of the highest mean payoff on validation.
    """
    meaning, target = MEANING[problem.task], frame[problem.target]
    part, known = part_of(frame, split, problem), part_of(frame, split, problem, "validation") == "train"
    policies = decisions.policies(target[known].to_numpy(), problem)
    payoffs = decisions.policy_payoffs(target.to_numpy(), problem, policies).groupby(part).mean().T
    payoffs = payoffs[["train", "validation"]]
    return EvaluationPlan(
        primary=Primary(name=params.primary, better=meaning[params.primary][0]),
        metrics={name: {"better": better, "meaning": text} for name, (better, text) in meaning.items()},
        thresholds=problem.success,
        split=split,
        level=params.level,
        policies=policies,
        naive=_indicators(target[np.isin(part, PARTS[:2])], problem).mean().tolist(),
        best_baseline=payoffs["validation"].drop(FORESIGHT).idxmax(),
        baselines=payoffs.to_dict("index"),
        rows=len(frame),
    )


def checks(frame: pd.DataFrame, plan: EvaluationPlan, params: Params, problem: Problem) -> list[gate.Check]:
    """Return the gate: enough outcomes of each kind in each part, and thresholds within reach."""
    part, kinds = part_of(frame, plan.split, problem), np.zeros(len(frame), dtype=int)
    of = " of the rarest class" if problem.is_class else ""
    if problem.is_class:
        kinds = pd.Categorical(frame[problem.target].astype(int), range(len(problem.classes)))
    counts = pd.crosstab(kinds, pd.Categorical(part, PARTS), dropna=False)
    rarest = params.split.min_rarest
    result = [gate.at_least(f"NF401 rows{of} in the smallest part", int(counts.min(axis=None)), rarest)]
    if problem.is_class and (absent := [*zip(*np.nonzero(counts.to_numpy() == 0), strict=True)]):
        absences = "; ".join(f"no {problem.classes[row]} in {PARTS[column]}" for row, column in absent)
        expected = "rows of each class in each part: collect more, pool classes, or change metrics.split"
        result.append(gate.holds(f"NF402 classes of {problem.target} without rows", False, absences, expected))
    count = count_clusters(clusters(frame[part == "holdout"], problem))  # with fewer there are no intervals
    text = render("metrics", "clusters", count=count, least=LEAST_CLUSTERS, name=cluster_name(problem), problem=problem)
    result.append(gate.holds(f"NF403 {cluster_name(problem)} in the holdout", count >= LEAST_CLUSTERS, count, text))
    least, most = problem.success.min_payoff_gain, potential_gain(plan)
    reachable = most > 0 and most >= least
    return [*result, gate.holds("NF404 potential gain by perfect foresight", reachable, most, f"> 0 and >= {least:g}")]


def metrics(plan: EvaluationPlan, scores: pd.DataFrame) -> dict[str, Any]:
    """Return the figures of this stage for ``dvc metrics``; `scores` has a row for each forecast without features."""
    return {
        "baselines": {name: payoffs["validation"] for name, payoffs in plan.baselines.items()},
        "references": scores.to_dict("index"),
        "split": plan.split.model_dump(exclude={"copies"}),
        "potential_gain": potential_gain(plan),
    }


def headline(plan: EvaluationPlan) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    gain, value = (decisions.number(each(plan), "+") for each in (potential_gain, best_payoff))
    return {"best baseline policy": f"{plan.best_baseline}, {value}", "potential gain": gain}


def conclusion(plan: EvaluationPlan, problem: Problem) -> str:
    """Return the bottom line."""
    least, most = problem.success.min_payoff_gain, potential_gain(plan)
    facts = {"best": repr(plan.best_baseline), "value": best_payoff(plan), "least": least, "most": most}
    return render("metrics", "conclusion", **facts, number=decisions.number, problem=problem)


def _indicators(target: pd.Series, problem: Problem) -> pd.DataFrame:
    if not problem.is_class:
        return target.to_frame("prediction")
    return pd.DataFrame({number: (target == number).astype("float64") for number in range(len(problem.classes))})
