"""Tables and sentences of stage 07: how the model was chosen, what it is worth, where it is biased, what it relies on."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ninefold import labels, plotting
from ninefold.gate import Check
from ninefold.metrics import FOLLOW, EvaluationPlan, against_zero, cluster_name, with_interval
from ninefold.problem import FORESIGHT, RANKING, Problem, decisions, title
from ninefold.sentences import render
from ninefold.training.selection import NAIVE
from ninefold.training.stage import Chosen, Results

MOSTLY = 0.9  # of the flagged slices that are biased alike, from which on the whole is biased
IN_WORDS = 3  # contributions to a prediction
LONG_LOSS = 7  # days without a gain at the end of the holdout, from which on a sentence says so
HELPERS = (against_zero, with_interval, title, decisions.number, decisions.show_level)
_say = partial(render, "training", **{each.__name__: each for each in HELPERS})


def describe_choice(compared: pd.DataFrame, name: str, plan: EvaluationPlan) -> str:
    """Return which model was chosen, and why, as a sentence."""
    table = compared.set_index("model")
    is_best, rest = name == table["behind"].idxmin(), table.drop([name, NAIVE], errors="ignore")
    other = rest["behind"].idxmin() if is_best and len(rest) else name
    facts = {"name": name, "naive": NAIVE, "best": is_best, "score": table.loc[name, plan.primary.name]}
    return _say("choice", **facts, other=table.loc[other], metric=title(plan.primary.name))


def describe_policies(table: pd.DataFrame, results: Results, problem: Problem) -> str:
    """Return what following the model is worth, as sentences; also the alt text of its figure."""
    by_policy = table.set_index("policy")["payoff"]
    facts = {"pays": by_policy[FOLLOW], "foresight": by_policy[FORESIGHT], "results": results, "problem": problem}
    return _say("policies", **facts, baselines=by_policy.drop([FOLLOW, FORESIGHT]))


def describe_slices(table: pd.DataFrame, problem: Problem) -> str:
    """Return in which slices predictions are biased, and the most significant one; also an alt text."""
    (scale, unit), biased = _unit(problem), table[table["flagged"]]
    facts = {"biased": biased, "mostly": MOSTLY, "scale": scale, "unit": unit, "clusters": cluster_name(problem)}
    return _say("slices", table=table, **facts, cut=plotting.cut)


def describe_gains(spread: dict[str, Any]) -> str:
    """Return how the gain is spread over days, entities or rows (`slices.concentration`), as a sentence; also an alt text."""
    return _say("gains", spread=spread, lost=spread.get("loss_days", 0), long=LONG_LOSS)


def largest(part: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return the largest contributions to one prediction, each with its ``name``, and in a last row the sum of the others."""
    pairs = zip(part["feature"], part["value"], strict=True)
    names = [f"{plotting.cut(labels.of(feature), 40)} = {plotting.cut(value, 24)}" for feature, value in pairs]
    table = part.assign(name=names).sort_values("contribution", key=np.abs, ascending=False, kind="stable")
    if (rest := table.iloc[most:]).empty:
        return table
    others = {"contribution": rest["contribution"].sum(), "standard_error": np.nan}
    return pd.concat([table.head(most), pd.DataFrame({"name": [f"other features: {len(rest)}"], **others})])


def describe_contributions(table: pd.DataFrame, titles: Sequence[str], problem: Problem) -> str:
    """Return what moved each prediction most, as a sentence each."""
    texts = []
    for (_, part), name in zip(table.groupby("row"), titles, strict=True):
        base, top = part["base"].iloc[0], list(largest(part, IN_WORDS).head(IN_WORDS).itertuples())
        level, average = (decisions.show_level(value, problem) for value in (base + part["contribution"].sum(), base))
        texts.append(_say("contribution", name=name, level=level, average=average, top=top, problem=problem))
    return " ".join(texts)


def headline(results: Results, problem: Problem) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    gain, ranking = with_interval(results["gain"]), RANKING[problem.task]
    return {f"{title(ranking)} on the holdout": with_interval(results[ranking]), f"gain per {problem.unit}": gain}


def conclusion(chosen: Chosen, checks: Sequence[Check], problem: Problem) -> str:
    """Return the conclusion of the stage, which recommends to deploy only if all `checks` of its gate pass."""
    failed = [check.name for check in checks if not check.passed]
    return _say("conclusion", chosen=chosen, failed=failed, ranking=RANKING[problem.task], problem=problem)


def _unit(problem: Problem) -> tuple[int, str]:
    """Return the scale and the unit in which differences of means are written: points, or the target's own."""
    return (100, " points") if problem.is_class else (1, "")
