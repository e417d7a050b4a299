"""How will we know that the model is good, and that it solves the problem?

Reads: ``data/problem.json``; ``data/lake/``.
Writes: ``data/metrics.json``: the metrics and their directions, the thresholds, the split, the scores of the baselines.
Gate: each part of the split has both outcomes, the baselines are measured, and the thresholds can be reached.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pydantic import Field
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from ninefold import problem
from ninefold.core import gate, io, plots
from ninefold.core.errors import DataError
from ninefold.core.params import Section

PARTS = ("train", "validation", "holdout")
MEANING = {
    "log_loss": ("lower", "surprise at the outcomes; a proper score, which only true probabilities make best"),
    "brier": ("lower", "mean squared error of the probability; a proper score"),
    "roc_auc": ("higher", "chance that a random event is ranked above a random non-event"),
    "average_precision": ("higher", "mean precision over all recalls"),
}


class Split(Section):
    """Shares of the labelled rows, by time, at day boundaries: the rest, the oldest, is for training."""

    validation: float = Field(gt=0, lt=0.5)
    holdout: float = Field(ge=0.2, le=0.3)


class Bootstrap(Section):
    """Intervals by resampling whole days."""

    replicates: int = Field(ge=20, le=10_000)
    level: float = Field(gt=0.5, lt=1)
    seed: int = Field(ge=0)


class Params(Section):
    """Section ``metrics`` of ``params.yaml``."""

    primary: Literal["log_loss", "brier", "roc_auc", "average_precision"]
    split: Split
    bootstrap: Bootstrap


def outcomes(stated: dict[str, Any]) -> pd.DataFrame:
    """Return the labelled rows of the lake: ``time`` (datetime64) and ``target`` (int64, 0 or 1), by time.

    Raises
    ------
    DataError
        If the lake lacks the columns, or no row has an outcome.
    """
    name = f"data/lake/{stated['table']}"
    frame = io.read_table(name, [stated["time"], stated["target"]]).dropna()
    if frame.empty:
        raise DataError(f"{name}: {stated['target']} is missing in every row; there is nothing to learn from")
    frame.columns = ["time", "target"]
    return frame.astype({"target": "int64"}).sort_values("time", ignore_index=True)


def split_points(times: pd.Series, params: Params) -> dict[str, str]:
    """Return where validation and holdout begin, as ISO days (UTC); rows before the first train.

    Parameters
    ----------
    times : Series of datetime64
        Of the labelled rows.
    params : Params
    """
    rows = times.dt.normalize().value_counts().sort_index().cumsum() / len(times)
    first = rows.index[rows.searchsorted(1 - params.split.holdout - params.split.validation)]
    second = rows.index[rows.searchsorted(1 - params.split.holdout)]
    return {"validation": first.date().isoformat(), "holdout": second.date().isoformat()}


def part_of(times: pd.Series, points: dict[str, str]) -> np.ndarray:
    """Return, per row, the part of the split that it falls into: ``train``, ``validation`` or ``holdout``."""
    edges = pd.to_datetime([points["validation"], points["holdout"]])
    return np.array(PARTS, dtype=object)[np.searchsorted(edges, times.to_numpy(), side="right")]


def scores(target: np.ndarray, probability: np.ndarray, weight: np.ndarray | None = None) -> dict[str, float]:
    """Return log loss, Brier score, ROC AUC and average precision.

    Parameters
    ----------
    target : ndarray of int, shape (n,)
        1 where the event happened.
    probability : ndarray of float, shape (n,)
        Of the event, 0-1.
    weight : ndarray of float, shape (n,), optional
    """
    return {
        "log_loss": float(log_loss(target, probability, sample_weight=weight, labels=[0, 1])),
        "brier": float(brier_score_loss(target, probability, sample_weight=weight)),
        "roc_auc": float(roc_auc_score(target, probability, sample_weight=weight)),
        "average_precision": float(average_precision_score(target, probability, sample_weight=weight)),
    }


def intervals(
    statistic: Callable[[np.ndarray], dict[str, float]], times: pd.Series, bootstrap: Bootstrap
) -> dict[str, dict[str, float]]:
    """Return each figure of `statistic` as ``{"value", "low", "high"}``: a percentile interval over resampled days.

    Rows of one day share weather and congestion, so days are drawn, not rows (block bootstrap; Efron and Tibshirani,
    An Introduction to the Bootstrap, 1993, section 8.6).

    Parameters
    ----------
    statistic : callable
        From row weights (float64, shape (n,)) to named figures.
    times : Series of datetime64, shape (n,)
    bootstrap : Bootstrap
    """
    day, days = pd.factorize(times.dt.normalize())
    random = np.random.default_rng(bootstrap.seed)
    draws = random.multinomial(len(days), np.full(len(days), 1 / len(days)), size=bootstrap.replicates)
    samples = pd.DataFrame([statistic(draw[day].astype("float64")) for draw in draws])
    tail = (1 - bootstrap.level) / 2
    value, low, high = statistic(np.ones(len(times))), samples.quantile(tail), samples.quantile(1 - tail)
    return {name: {"value": value[name], "low": low[name], "high": high[name]} for name in value}


def with_interval(figure: dict[str, float] | None) -> str:
    """Return a figure as text: ``0.738 (0.702 to 0.770)``; without an interval the value alone, without a figure a dash."""
    if not figure:
        return "–"
    interval = f" ({figure['low']:.3f} to {figure['high']:.3f})" if "low" in figure else ""
    return f"{figure['value']:.3f}{interval}"


def policy_payoffs(target: np.ndarray, stated: dict[str, Any]) -> pd.DataFrame:
    """Return, per row, what each policy without a model pays, and what perfect foresight would: a column each."""
    payoffs = stated["payoffs"]
    always = {
        f"always {action}": problem.payoff(np.repeat(action, len(target)), target, payoffs)
        for action in stated["actions"]
    }
    foresight = problem.best_action(target.astype("float64"), payoffs)
    return pd.DataFrame({**always, "perfect foresight": problem.payoff(foresight, target, payoffs)})


def baselines(frame: pd.DataFrame, points: dict[str, str], stated: dict[str, Any]) -> pd.DataFrame:
    """Return the mean payoff of each policy without a model, on training and validation: ``policy``, a column per part.

    The holdout stays closed until a model has been chosen.
    """
    part = part_of(frame["time"], points)
    payoffs = policy_payoffs(frame["target"].to_numpy(), stated)
    means = payoffs.groupby(part).mean().T[["train", "validation"]]
    return means.rename_axis("policy").rename_axis(None, axis=1).reset_index()


def reference_scores(frame: pd.DataFrame, points: dict[str, str]) -> pd.DataFrame:
    """Return the scores on validation of forecasts that see no features: ``forecast`` and a column per metric.

    *Training share* always forecasts the training period's share; *last four weeks* that of the 28 days before the day.
    """
    part = part_of(frame["time"], points)
    valid, day = frame[part == "validation"], frame["time"].dt.normalize()
    daily = frame.groupby(day)["target"].agg(["sum", "count"])
    rolling = daily.rolling("28D", closed="left").sum()
    recent = (rolling["sum"] / rolling["count"]).reindex(day[valid.index]).to_numpy()
    share = np.full(len(valid), frame.loc[part == "train", "target"].mean())
    forecasts = {"training share": share, "last four weeks": recent}
    rows = [{"forecast": name, **scores(valid["target"].to_numpy(), p)} for name, p in forecasts.items()]
    return pd.DataFrame(rows)


def definitions(params: Params, stated: dict[str, Any]) -> pd.DataFrame:
    """Return every metric: ``metric``, ``better``, ``role``, ``meaning``."""
    roles: dict[str, str] = {params.primary: "chooses the model", "roc_auc": "success criterion"}
    if params.primary == "roc_auc":
        roles = {"roc_auc": "chooses the model; success criterion"}
    rows = [(name, better, roles.get(name, "reported"), text) for name, (better, text) in MEANING.items()]
    business = f"mean payoff per {stated['unit']}, in units of {stated['payoff_unit']}"
    rows.append(("payoff", "higher", "success criterion: the business metric", business))
    return pd.DataFrame(rows, columns=["metric", "better", "role", "meaning"])


def parts(frame: pd.DataFrame, points: dict[str, str]) -> pd.DataFrame:
    """Return the split: ``part``, ``from``, ``to``, ``rows``, ``share of rows``, ``share positive`` (holdout: hidden)."""
    groups = frame.assign(part=part_of(frame["time"], points)).groupby("part")
    table = groups.agg(
        **{"from": ("time", "min"), "to": ("time", "max"), "rows": ("time", "size"), "positive": ("target", "mean")}
    ).reindex(list(PARTS))
    table["share of rows"] = table["rows"] / len(frame)
    table.loc["holdout", "positive"] = np.nan
    table["from"], table["to"] = table["from"].dt.date.astype(str), table["to"].dt.date.astype(str)
    return table.reset_index()


def plot_split(frame: pd.DataFrame, points: dict[str, str]) -> Figure:
    """Draw the labelled rows per week, coloured by the part of the split that they fall into."""
    weeks = frame.assign(part=part_of(frame["time"], points), week=frame["time"].dt.to_period("W").dt.start_time)
    counts = weeks.groupby(["week", "part"]).size().unstack(fill_value=0)
    fig, axes = plots.canvas("Which weeks train, choose and judge?")
    below = np.zeros(len(counts))
    for part, color in zip(PARTS, (plots.BLUE, plots.ORANGE, plots.GREEN), strict=True):
        axes.bar(counts.index, counts[part], width=6, bottom=below, color=color, label=part)
        below += counts[part].to_numpy()
    axes.set(xlabel="week (UTC)", ylabel="rows with an outcome")
    axes.legend(frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.18))
    return fig


def plot_baselines(table: pd.DataFrame, stated: dict[str, Any]) -> Figure:
    """Draw the mean payoff of the policies without a model, and of perfect foresight, on training and validation."""
    fig, axes = plots.canvas("How much is there to win?", height=2.6)
    long = table.melt("policy", var_name="part", value_name="payoff")
    for offset, (part, color) in enumerate([("train", plots.BLUE), ("validation", plots.ORANGE)]):
        rows = long[long["part"] == part]
        axes.barh(np.arange(len(rows)) + 0.36 * offset - 0.18, rows["payoff"], height=0.34, color=color, label=part)
    axes.set_yticks(np.arange(len(table)), table["policy"])
    axes.invert_yaxis()
    axes.set(xlabel=f"mean payoff per {stated['unit']} ({stated['payoff_unit']})")
    axes.grid(axis="y", visible=False)
    axes.legend(frameon=False)
    return fig


def describe_outcomes(frame: pd.DataFrame, stated: dict[str, Any]) -> str:
    """Return, as a sentence, how many outcomes are known, and over which days."""
    first, last = frame["time"].iloc[0].date(), frame["time"].iloc[-1].date()
    return f"The outcome of **{len(frame):,}** {stated['units']} is known, from {first} to {last}."


def describe_split(frame: pd.DataFrame, points: dict[str, str]) -> str:
    """Return what the figure of the split shows, in words."""
    share = parts(frame, points).set_index("part")
    return (
        f"Training ends before {points['validation']} with {share.loc['train', 'positive']:.1%} events; validation, up "
        f"to {points['holdout']}, has {share.loc['validation', 'positive']:.1%}. The holdout is the newest "
        f"{share.loc['holdout', 'share of rows']:.0%} of the rows."
    )


def describe_baselines(table: pd.DataFrame, stated: dict[str, Any]) -> str:
    """Return what the figure of the baselines shows, in words."""
    values = table.set_index("policy")["validation"]
    listed = ", ".join(f"{policy} {value:+.3f}" for policy, value in values.items())
    return f"Mean payoff per {stated['unit']} on validation: {listed}. The policy to beat is {best_baseline(table)!r}."


def describe_references(references: pd.DataFrame, params: Params) -> str:
    """Return what the scores of the naive forecasts show, in words."""
    better = MEANING[params.primary][0]
    scored = references.set_index("forecast")[params.primary]
    best = scored.idxmin() if better == "lower" else scored.idxmax()
    return (
        f"The naive forecast to beat is *{best}*, with a {params.primary.replace('_', ' ')} of **{scored[best]:.4f}**."
    )


def best_baseline(table: pd.DataFrame) -> str:
    """Return the name of the best policy without a model on validation: what the model has to beat."""
    policies = table[table["policy"] != "perfect foresight"]
    return str(policies.loc[policies["validation"].idxmax(), "policy"])


def room(table: pd.DataFrame) -> float:
    """Return the payoff per row, on validation, between the best policy without a model and perfect foresight."""
    by_policy = table.set_index("policy")["validation"]
    return float(by_policy["perfect foresight"] - by_policy[best_baseline(table)])


def agreement(
    frame: pd.DataFrame, points: dict[str, str], table: pd.DataFrame, params: Params, stated: dict[str, Any]
) -> dict[str, Any]:
    """Return what later stages hold themselves to: metrics, thresholds, split and baselines, as plain values."""
    return {
        "primary": {"name": params.primary, "better": MEANING[params.primary][0]},
        "metrics": {name: {"better": better, "meaning": text} for name, (better, text) in MEANING.items()},
        "thresholds": stated["success"],
        "split": points,
        "bootstrap": params.bootstrap.model_dump(),
        "best_baseline": best_baseline(table),
        "baselines": gate.tidy(table.set_index("policy").to_dict("index")),
        "rows": len(frame),
    }


def checks(
    frame: pd.DataFrame, points: dict[str, str], table: pd.DataFrame, stated: dict[str, Any]
) -> list[gate.Check]:
    """Return the gate: both outcomes in each part, baselines measured, thresholds within reach."""
    rarest = frame.groupby(part_of(frame["time"], points))["target"].agg(lambda part: min(part.sum(), (1 - part).sum()))
    smallest = int(rarest.reindex(list(PARTS), fill_value=0).min())
    gain = stated["success"]["min_payoff_gain"]
    return [
        gate.at_least("rows of the rarer outcome in the smallest part", smallest, 20),
        gate.at_least("policies measured", len(table) - 1, len(stated["actions"])),
        gate.at_least("payoff to be won by perfect foresight", room(table), gain),
    ]


def metrics(table: pd.DataFrame, references: pd.DataFrame, points: dict[str, str]) -> dict[str, Any]:
    """Return the figures of this stage for ``dvc metrics``."""
    return {
        "baselines": {row["policy"]: row["validation"] for row in table.to_dict("records")},
        "references": references.set_index("forecast").to_dict("index"),
        "split": points,
        "room": room(table),
    }


def headline(table: pd.DataFrame, stated: dict[str, Any]) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    best = best_baseline(table)
    value = table.set_index("policy").loc[best, "validation"]
    return {"best without a model": f"{best}, {value:+.3f}", "to be won at most": f"{room(table):+.3f}"}


def verdict(table: pd.DataFrame, stated: dict[str, Any]) -> str:
    """Return the bottom line."""
    best = best_baseline(table)
    value = table.set_index("policy").loc[best, "validation"]
    return (
        f"The policy to beat is {best!r}: {value:+.3f} per {stated['unit']} on validation. Perfect foresight would win "
        f"{room(table):.3f} more, so a model has to keep at least "
        f"{stated['success']['min_payoff_gain'] / room(table):.0%} of that."
    )


def save(agreed: dict[str, Any]) -> None:
    """Write ``data/metrics.json``."""
    io.write_json(agreed, io.output("data/metrics.json"))


def load() -> dict[str, Any]:
    """Read the agreement that `save` wrote."""
    return io.read_json("data/metrics.json")
