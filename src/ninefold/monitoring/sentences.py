"""The sentences of stage 09's figures, which are alt texts too; where nothing has arrived, of the holdout."""

from collections.abc import Sequence

import pandas as pd

from ninefold.metrics import FOLLOW, cluster_name
from ninefold.monitoring.answers import HOLDOUT
from ninefold.monitoring.arrivals import Parts, Record
from ninefold.monitoring.backtest import CALENDAR, TRIGGERED
from ninefold.monitoring.tables import figures_by_period, row_figure, sign_text
from ninefold.monitoring.texts import say
from ninefold.problem import ERROR, RANKING, Problem, decisions

ONLY_TIME = "The model sees nothing but the time of the event, which moves by itself."
NOTHING = "Nothing has arrived since the model was built, so retraining could not have gained anything yet."


def describe_drift(drifts: pd.DataFrame, frame: pd.DataFrame, parts: Parts, problem: Problem) -> str:
    """Return which features moved, and whether a season is seen for the first time; also an alt text."""
    if drifts.empty:
        return ONLY_TIME
    periods = drifts.groupby("period", sort=False)
    counts, tested = periods["drifted"].sum(), periods["p"].count() > 0
    later = drifts[(drifts["period"] != HOLDOUT) | (len(counts) == 1)]
    top = later[later["psi"].round(2) == later["psi"].max().round(2)]
    months = set[int]()
    if problem.time and len(frame):
        fitted = pd.concat([problem.local_times(parts[name]) for name in ("train", "validation")])
        months = set(problem.local_times(frame).dt.month) - set(fitted.dt.month)
    facts = {"features": [*top["feature"].unique()], "where": [*top["period"].unique()], "psi": top["psi"].max()}
    facts |= {"count": drifts["feature"].nunique(), "holdout": counts.get(HOLDOUT, 0), "new": len(months)}
    unsure, clusters = [*tested.index[~tested]], cluster_name(problem)
    later_counts = counts.drop(HOLDOUT, errors="ignore")
    return say("drift", **facts, unsure=unsure, clusters=clusters, values=later_counts, show=str)


def describe_performance(records: list[Record], baseline: Record, problem: Problem) -> str:
    """Return how the periods compare with the holdout, as sentences; also an alt text."""
    spans, rows = figures_by_period(records, baseline), []
    for name, sign in ((RANKING[problem.task], 1), (ERROR[problem.task], -1), ("skill", 1)):
        later = {period: figures[name] for period, figures in spans.items() if period != HOLDOUT and name in figures}
        worst = min(later, key=lambda period: sign * later[period]["value"], default="")
        rows.append((name, spans[HOLDOUT].get(name), worst, later.get(worst)))
    return say("performance", rows=rows)


def describe_calibration(records: list[Record], baseline: Record, problem: Problem) -> str:
    """Return by how much the predictions are off on the holdout and in the periods; also an alt text."""
    gaps = {record["period"]: record["figures"]["gap"] for record in records if "gap" in record["figures"]}
    values = pd.Series({period: gap["value"] for period, gap in gaps.items()}, dtype="float64")
    gap = baseline["figures"].get("gap")
    return say("gaps", gap=gap, figures=gaps, values=values, show="{:.3f}".format, problem=problem)


def describe_weeks(weeks: pd.DataFrame, baseline: Record, problem: Problem) -> str:
    """Return in which week the prediction was farthest off; without time, how far on the holdout; also an alt text."""
    worst = {name: each["value"] for name, each in baseline["figures"].items()}
    if len(weeks):
        worst = weeks.loc[(weeks["predicted"] - weeks["observed"]).abs().idxmax()]
    return say("weeks", worst=worst, count=len(weeks), unit=weeks.attrs.get("unit", "week"), problem=problem)


def describe_policies(table: pd.DataFrame, records: Sequence[Record] = ()) -> str:
    """Return what the model paid more than the best policy without one, and in how many periods; also an alt text."""
    means = table.pivot(index="period", columns="policy", values="payoff").drop(columns=decisions.FORESIGHT)
    others = means.drop(columns=FOLLOW)
    won, best = means[FOLLOW] - others.max(axis=1), others.idxmax(axis=1)
    over = {name: f"{sign_text(won[name])} over *{best[name]}*" for name in won.index}
    gains = {record["period"]: record["figures"]["gain"] for record in records if "gain" in record["figures"]}
    later = won.drop(HOLDOUT)
    shown = {won[name]: over[name] for name in reversed(later.index)}
    return say("paid", holdout=over[HOLDOUT], values=later, show=shown.get, figures=gains)


def describe_strategies(table: pd.DataFrame, problem: Problem) -> str:
    """Return the gain of each policy, and which are significant; also an alt text."""
    rows = table.set_index("strategy")
    if table.empty:
        return NOTHING
    if not rows["retrainings"].any():
        return "No policy retrained: there were fewer than two periods, or too few outcomes."
    gains = {name: row_figure(rows.loc[name], "gain") for name in (CALENDAR, TRIGGERED)}
    return say("strategies", gains=gains, problem=problem)
