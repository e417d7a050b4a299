"""How will we know that the model is good, and that it solves the problem?

Reads: ``data/problem.json``; ``data/lake/``.
Writes: ``data/metrics.json``: the metrics and their directions, the thresholds, the split, the scores of the baselines.
Gate: each part of the split has enough outcomes, and the thresholds can be reached.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ninefold import display, gate, plotting
from ninefold.metrics.baseline_policies import best_baseline, naive, potential_gain
from ninefold.metrics.plan import EvaluationPlan, Metric, Params, Primary, Split
from ninefold.metrics.resampling import LEAST_CLUSTERS
from ninefold.metrics.splits import PARTS, entity_hash, part_of, parts
from ninefold.problem import FORESIGHT, MEANING, Problem, decisions, title


def definitions(params: Params, problem: Problem) -> pd.DataFrame:
    """Return every metric: ``metric``, ``better``, ``role``, ``meaning``."""
    rows = []
    for name, (better, text) in MEANING[problem.task].items():
        roles = ["chooses the model"] * (name == params.primary)
        roles += ["success criterion"] * (name in problem.success.scores)
        rows.append((name, better, "; ".join(roles) or "reported", text))
    business = f"mean payoff per {problem.unit}, in units of {problem.payoff_unit}"
    rows.append(("payoff", "higher", "success criterion: the business metric", business))
    return pd.DataFrame(rows, columns=["metric", "better", "role", "meaning"])


def plot_split(frame: pd.DataFrame, points: Split, problem: Problem) -> Figure:
    """Draw the rows of each part: per period where there is time, else per class or decile of the outcome."""
    part = pd.Series(part_of(frame, points, problem), frame.index)
    if problem.time:
        group, label = _period(frame[problem.time]), "period (UTC)"
    else:  # the outcomes of the holdout stay hidden
        group, label, part = _outcome_group(frame, problem), "outcome", part[part != "holdout"]
    counts = pd.crosstab(group[part.index], part).reindex(columns=list(PARTS), fill_value=0)
    fig, axes = plotting.canvas("Which rows train, choose and evaluate?")
    below = np.zeros(len(counts))
    for name, color in zip(PARTS, (plotting.BLUE, plotting.ORANGE, plotting.GREEN), strict=True):
        axes.bar(range(len(counts)), counts[name], 0.85, bottom=below, color=color, label=name)
        below += counts[name].to_numpy()
    step = -(-len(counts) // 12)
    names = [plotting.plain(name) for name in counts.index[::step]]
    axes.set_xticks(range(0, len(counts), step), names, rotation=30 if max(map(len, names)) > 7 else 0)
    axes.set(xlabel=label, ylabel="rows with an outcome")
    axes.grid(axis="x", visible=False)
    fig.legend(frameon=False, ncols=3, loc="outside lower center")
    return fig


def plot_baselines(table: pd.DataFrame, problem: Problem, most: int = 10) -> Figure:
    """Draw the mean payoff of the policies without a model, and of perfect foresight, on training and validation."""
    policies = table[table["policy"] != FORESIGHT].nlargest(most, "validation", keep="all").index
    table = table[table.index.isin(policies) | (table["policy"] == FORESIGHT)]
    fig, axes = plotting.canvas("How much can a model gain?", height=max(2.6, 0.45 * len(table) + 1))
    places = np.arange(len(table))
    for offset, part, color in ((-0.18, "train", plotting.BLUE), (0.18, "validation", plotting.ORANGE)):
        axes.barh(places + offset, table[part], height=0.34, color=color, label=part)
    axes.set_yticks(places, [plotting.plain(name) for name in table["policy"]])
    axes.invert_yaxis()
    axes.set(xlabel=plotting.plain(f"mean payoff per {problem.unit} ({problem.payoff_unit})"))
    axes.grid(axis="y", visible=False)
    axes.legend(frameon=False)
    return fig


def describe_outcomes(frame: pd.DataFrame, problem: Problem) -> str:
    """Return, as a sentence, how many outcomes are known, and over which days."""
    days = ""
    if problem.time:
        days = f", from {frame[problem.time].min().date()} to {frame[problem.time].max().date()}"
    return f"The outcome of **{len(frame):,}** {problem.units} is known{days}."


def describe_split(frame: pd.DataFrame, points: Split, problem: Problem) -> str:
    """Return what the figure of the split shows, in words."""
    table, name = parts(frame, points, problem).set_index("part"), decisions.level_name(problem)
    share = f"{table.loc['holdout', 'share of rows']:.0%} of the rows"
    means = f"The {name} is {table.loc['train', name]} in training and {table.loc['validation', name]} in validation"
    if points.by == "time":
        return (
            f"Training ends before {points.validation}, validation before {points.holdout}. {means}. The holdout "
            f"is the newest {share}."
        )
    how = {
        "group": f"All rows of one {display.code(' and '.join(problem.group or []))} are in the same part",
        "rows": "There is no time, so rows are split at random" + (" within each class" if problem.is_class else ""),
    }
    return f"{how[points.by]}. {means}. The holdout is {share}; it represents rows like these, not later times."


def describe_baselines(table: pd.DataFrame, problem: Problem, most: int = 6) -> str:
    """Return what the figure of the baselines shows, in words."""
    values = table.set_index("policy")["validation"]
    shown = [*values.drop(FORESIGHT).nlargest(most).items(), (FORESIGHT, values[FORESIGHT])]
    payoffs = ", ".join(f"{policy} {decisions.number(value, '+')}" for policy, value in shown)
    return f"Mean payoff per {problem.unit} on validation: {payoffs}. The policy to beat is *{best_baseline(table)}*."


def describe_references(references: pd.DataFrame, params: Params, problem: Problem) -> str:
    """Return what the scores of the naive forecasts show, in words."""
    scores = references.set_index("forecast")[params.primary]
    best = scores.idxmin() if MEANING[problem.task][params.primary][0] == "lower" else scores.idxmax()
    value = decisions.number(scores[best])
    return f"The naive forecast to beat is *{best}*, with a {title(params.primary)} of **{value}**."


def make_plan(
    frame: pd.DataFrame,
    points: Split,
    policies: dict[str, Any],
    table: pd.DataFrame,
    params: Params,
    problem: Problem,
) -> EvaluationPlan:
    """Return the evaluation plan of later stages: metrics, thresholds, split, policies and baselines."""
    meaning = MEANING[problem.task]
    return EvaluationPlan(
        primary=Primary(name=params.primary, better=meaning[params.primary][0]),
        metrics={name: Metric(better=better, meaning=text) for name, (better, text) in meaning.items()},
        thresholds=problem.success,
        split=points,
        bootstrap=params.bootstrap,
        policies=policies,
        naive=naive(frame, points, problem),
        best_baseline=best_baseline(table),
        baselines=gate.tidy(table.set_index("policy").to_dict("index")),
        rows=len(frame),
    )


def checks(
    frame: pd.DataFrame, points: Split, table: pd.DataFrame, params: Params, problem: Problem
) -> list[gate.Check]:
    """Return the gate: enough outcomes of each kind in each part, and thresholds within reach."""
    part, target = part_of(frame, points, problem), frame[problem.target]
    what = "rows of the rarest class in the smallest part" if problem.is_class else "rows of the smallest part"
    kinds = pd.Series(0, index=target.index)
    if problem.is_class:
        kinds = pd.Series(pd.Categorical(target.astype(int), range(len(problem.classes))), index=target.index)
    counts = pd.crosstab(kinds, pd.Categorical(part, PARTS), dropna=False)
    result = [gate.at_least(what, int(counts.to_numpy().min()), params.split.min_rarest)]
    if points.by == "group":
        entities = entity_hash(frame, problem).groupby(part).nunique().reindex(list(PARTS), fill_value=0)
        result.append(gate.at_least("entities in the smallest part", int(entities.min()), LEAST_CLUSTERS))
    least, most = problem.success.min_payoff_gain, potential_gain(table)
    reachable = most > 0 and most >= least
    return [*result, gate.holds("potential gain by perfect foresight", reachable, most, f"> 0 and >= {least:g}")]


def metrics(table: pd.DataFrame, references: pd.DataFrame, points: Split) -> dict[str, Any]:
    """Return the figures of this stage for ``dvc metrics``."""
    return {
        "baselines": table.set_index("policy")["validation"].to_dict(),
        "references": references.set_index("forecast").to_dict("index"),
        "split": points.points(),
        "potential_gain": potential_gain(table),
    }


def headline(table: pd.DataFrame, problem: Problem) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    best = best_baseline(table)
    value = table.set_index("policy").loc[best, "validation"]
    return {
        "best without a model": f"{best}, {decisions.number(value, '+')}",
        "potential gain": f"{decisions.number(potential_gain(table), '+')}",
    }


def conclusion(table: pd.DataFrame, problem: Problem) -> str:
    """Return the bottom line."""
    best, least, most = best_baseline(table), problem.success.min_payoff_gain, potential_gain(table)
    value = decisions.number(table.set_index("policy").loc[best, "validation"], "+")
    needed = f"at least {least / most:.0%} of that" if least and most > 0 else "significantly more than nothing"
    return (
        f"The policy to beat is {best!r}: {value} per {problem.unit} on validation. Perfect foresight would gain "
        f"{decisions.number(most)} more; a model has to gain {needed}."
    )


def _period(times: pd.Series) -> pd.Series:
    """Return the day, week, month or year of each time, as text: the one that gives a readable number of bars."""
    days = (times.max() - times.min()).days
    unit = "D" if days <= 60 else "W" if days <= 500 else "M" if days <= 5000 else "Y"
    form = {"Y": "%Y", "M": "%Y-%m"}.get(unit, "%Y-%m-%d")
    return times.dt.to_period(unit).dt.start_time.dt.strftime(form)


def _outcome_group(frame: pd.DataFrame, problem: Problem) -> pd.Series:
    """Return the class of each row, or the decile of its outcome named by where it begins, as ordered categories."""
    target = frame[problem.target]
    if problem.is_class:
        return pd.Series(pd.Categorical.from_codes(target.astype(int), problem.classes), index=frame.index)
    decile = pd.qcut(target, 10, labels=False, duplicates="drop").fillna(0).astype(int)  # NaN where all are equal
    start = target.groupby(decile).min()
    names = [[f"from {value:.{digits}g}" for value in start] for digits in range(4, 18)]
    short = next(each for each in names if len(set(each)) == len(each))
    return pd.Series(pd.Categorical.from_codes(decile, short), index=frame.index)
