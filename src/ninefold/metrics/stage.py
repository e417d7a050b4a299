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
from ninefold.metrics.scores import task_scores
from ninefold.metrics.splits import PARTS, part_of, parts
from ninefold.problem import FORESIGHT, MEANING, Problem, decisions
from ninefold.sentences import render


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


def baselines(frame: pd.DataFrame, points: Split, problem: Problem) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the baseline policies, name to action, and their mean payoff: ``policy``, ``train``, ``validation``."""
    part, target = part_of(frame, points, problem), frame[problem.target].to_numpy()
    policies = decisions.policies(target[part_of(frame, points, problem, "validation") == "train"], problem)
    means = decisions.policy_payoffs(target, problem, policies).groupby(part).mean().T[["train", "validation"]]
    return policies, means.rename_axis("policy").rename_axis(None, axis=1).reset_index()


def best_baseline(table: pd.DataFrame) -> tuple[str, float]:
    """Return the baseline policy that the model has to beat, and its mean payoff: the best one on validation."""
    payoffs = table.set_index("policy")["validation"].drop(FORESIGHT)
    return str(payoffs.idxmax()), float(payoffs.max())


def potential_gain(table: pd.DataFrame) -> float:
    """Return the payoff per row, on validation, of perfect foresight above the best baseline policy."""
    return float(table.set_index("policy")["validation"][FORESIGHT] - best_baseline(table)[1])


def naive(frame: pd.DataFrame, points: Split, problem: Problem) -> list[float]:
    """Return the forecast without features: the shares of the classes on open rows, or the mean of the quantity."""
    rows = frame[np.isin(part_of(frame, points, problem), PARTS[:2])]
    return _indicators(rows[problem.target], problem).mean().tolist()


def reference_scores(frame: pd.DataFrame, points: Split, problem: Problem) -> pd.DataFrame:
    """Return the scores on validation of forecasts without features: ``forecast`` and a column per metric.

    *Training mean* always forecasts the training rows' shares of the classes, or their mean; where there is time, *last
    four weeks* (months, quarters or years, where times stand for these) forecasts those whose outcomes are known by the day.
    """
    part = part_of(frame, points, problem)
    validation, indicators = frame[part == "validation"], _indicators(frame[problem.target], problem)
    mean = indicators[part_of(frame, points, problem, "validation") == "train"].mean()
    forecasts = {"training mean": np.tile(mean.to_numpy(), (len(validation), 1))}
    if problem.time:
        day = problem.local_days(frame)
        by_day = indicators.groupby(day)
        daily = (each.asfreq("D", fill_value=0) for each in (by_day.sum(), by_day.size()))
        unit = timestamps.coarser(day, "week")
        sums, sizes = (each.rolling(f"{4 * timestamps.GRAINS[unit][1]}D", closed="left").sum() for each in daily)
        known = problem.known_before(day[validation.index]).dt.normalize()
        forecasts[f"last four {unit}s"] = sums.div(sizes, axis=0).reindex(known).fillna(mean).to_numpy()
    target, table = validation[problem.target].to_numpy(), []
    for name, values in forecasts.items():
        table.append({"forecast": name, **task_scores(target, decisions.forecast(values, problem), problem)})
    return pd.DataFrame(table)


def part_counts(frame: pd.DataFrame, points: Split, problem: Problem) -> pd.DataFrame:
    """Return the rows of each part, a column of each (int64), per period of a readable number where there is time.

    Without time the index is the class of the outcome or its decile, and the holdout has no rows: its outcomes stay hidden.
    """
    part = pd.Series(part_of(frame, points, problem), frame.index)
    if problem.time:
        times = problem.local_times(frame)
        days = (times.max() - times.min()).days
        unit = "day" if days <= 60 else "week" if days <= 500 else "month" if days <= 5000 else "year"
        unit = timestamps.GRAINS[timestamps.coarser(times, unit)][0]
        form = {"Y": "%Y", "M": "%Y-%m"}.get(unit, "%Y-%m-%d")
        group = times.dt.to_period(unit).dt.start_time.dt.strftime(form).rename(f"period ({problem.timezone})")
    else:
        group, part = _outcome_group(frame, problem).rename("outcome"), part[part != "holdout"]
    return pd.crosstab(group[part.index], part).reindex(columns=list(PARTS), fill_value=0).rename_axis(columns=None)


def describe_split(frame: pd.DataFrame, points: Split, problem: Problem) -> str:
    """Return what the figure of the split shows, in words."""
    copies = frame.get(COPIES, pd.Series(dtype="int64"))
    facts = {
        "points": points,
        "group": " and ".join(problem.group or []),
        "equal": copies[copies.duplicated(keep=False)],
    }
    table = parts(frame, points, problem).set_index("part")
    return render("metrics", "split", **facts, table=table, level=decisions.level_name(problem))


def describe_baselines(table: pd.DataFrame, problem: Problem) -> str:
    """Return what the figure of the baselines shows, in words."""
    values = table.set_index("policy")["validation"]
    shown = [*values.drop(FORESIGHT).nlargest(6).items(), (FORESIGHT, values[FORESIGHT])]
    facts = {"shown": shown, "best": best_baseline(table)[0], "number": decisions.number}
    return render("metrics", "baselines", **facts, problem=problem)


def make_plan(
    frame: pd.DataFrame, points: Split, policies: dict[str, Any], table: pd.DataFrame, params: Params, problem: Problem
) -> EvaluationPlan:
    """Return the evaluation plan of later stages: metrics, thresholds, split, policies and baselines."""
    meaning = MEANING[problem.task]
    return EvaluationPlan(
        primary=Primary(name=params.primary, better=meaning[params.primary][0]),
        metrics={name: {"better": better, "meaning": text} for name, (better, text) in meaning.items()},
        thresholds=problem.success,
        split=points,
        level=params.level,
        policies=policies,
        naive=naive(frame, points, problem),
        best_baseline=best_baseline(table)[0],
        baselines=gate.tidy(table.set_index("policy").to_dict("index")),
        rows=len(frame),
    )


def checks(
    frame: pd.DataFrame, points: Split, table: pd.DataFrame, params: Params, problem: Problem
) -> list[gate.Check]:
    """Return the gate: enough outcomes of each kind in each part, and thresholds within reach."""
    part, kinds = part_of(frame, points, problem), np.zeros(len(frame), dtype=int)
    what = "rows of the rarest class in the smallest part" if problem.is_class else "rows of the smallest part"
    if problem.is_class:
        kinds = pd.Categorical(frame[problem.target].astype(int), range(len(problem.classes)))
    counts = pd.crosstab(kinds, pd.Categorical(part, PARTS), dropna=False)
    result = [gate.at_least(what, int(counts.to_numpy().min()), params.split.min_rarest)]
    if problem.is_class and (absent := [*zip(*np.nonzero(counts.to_numpy() == 0), strict=True)]):
        absences = "; ".join(f"no {problem.classes[row]} in {PARTS[column]}" for row, column in absent)
        expected = "rows of each class in each part: collect more, pool classes, or change metrics.split"
        result.append(gate.holds(f"classes of {problem.target} without rows", False, absences, expected))
    count = count_clusters(clusters(frame[part == "holdout"], problem))  # with fewer there are no intervals
    result.append(gate.at_least(f"{cluster_name(problem)} in the holdout", count, LEAST_CLUSTERS))
    least, most = problem.success.min_payoff_gain, potential_gain(table)
    reachable = most > 0 and most >= least
    return [*result, gate.holds("potential gain by perfect foresight", reachable, most, f"> 0 and >= {least:g}")]


def metrics(table: pd.DataFrame, references: pd.DataFrame, points: Split) -> dict[str, Any]:
    """Return the figures of this stage for ``dvc metrics``."""
    return {
        "baselines": table.set_index("policy")["validation"].to_dict(),
        "references": references.set_index("forecast").to_dict("index"),
        "split": points.model_dump(exclude={"copies"}),
        "potential_gain": potential_gain(table),
    }


def headline(table: pd.DataFrame, problem: Problem) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    name, value = best_baseline(table)
    gain, best = decisions.number(potential_gain(table), "+"), f"{name}, {decisions.number(value, '+')}"
    return {"best baseline policy": best, "potential gain": gain}


def conclusion(table: pd.DataFrame, problem: Problem) -> str:
    """Return the bottom line."""
    (best, value), least, most = best_baseline(table), problem.success.min_payoff_gain, potential_gain(table)
    facts = {"best": repr(best), "value": value, "least": least, "most": most, "number": decisions.number}
    return render("metrics", "conclusion", **facts, problem=problem)


def _outcome_group(frame: pd.DataFrame, problem: Problem) -> pd.Series:
    """Return the class of each row, or the decile of its outcome named by where it begins, as ordered categories."""
    target = frame[problem.target]
    if problem.is_class:
        return pd.Series(pd.Categorical.from_codes(target.astype(int), problem.classes), index=frame.index)
    decile = pd.qcut(target, 10, labels=False, duplicates="drop").fillna(0)  # NaN where all are equal
    decile = decile.rank(method="dense").astype(int) - 1  # of whole numbers, some deciles have no row
    start = target.groupby(decile).min()
    digits = next(digits for digits in range(4, 18) if start.map(f"{{:.{digits}g}}".format).is_unique)
    return pd.Series(pd.Categorical.from_codes(decile, start.map(f"from {{:.{digits}g}}".format)), index=frame.index)


def _indicators(target: pd.Series, problem: Problem) -> pd.DataFrame:
    if not problem.is_class:
        return target.to_frame("prediction")
    return pd.DataFrame({number: (target == number).astype("float64") for number in range(len(problem.classes))})
