"""The sentences of stage 09's figures, which are alt texts too; where nothing has arrived, of the holdout."""

from collections.abc import Sequence

import pandas as pd

from ninefold import timestamps
from ninefold.metrics import FOLLOW, cluster_name
from ninefold.monitoring.answers import HOLDOUT
from ninefold.monitoring.arrivals import Parts, Record
from ninefold.monitoring.backtest import CALENDAR, TRIGGERED
from ninefold.monitoring.tables import row_figure, sign_text
from ninefold.monitoring.texts import say
from ninefold.problem import ERROR, RANKING, Problem, decisions

ONLY_TIME = "The model sees nothing but the time of the event, which moves by itself."


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
    facts |= {"unsure": [*tested.index[~tested]], "values": counts.drop(HOLDOUT, errors="ignore")}
    return say("drift", **facts, clusters=cluster_name(problem), show=str)


def describe_performance(records: list[Record], baseline: Record, problem: Problem) -> str:
    """Return how the periods compare with the holdout, as sentences; also an alt text."""
    spans, rows = {record["period"]: record["figures"] for record in records}, []
    for name, sign in ((RANKING[problem.task], 1), (ERROR[problem.task], -1), ("skill", 1)):
        later = {period: figures[name] for period, figures in spans.items() if name in figures}
        worst = min(later, key=lambda period: sign * later[period]["value"], default="")
        rows.append((name, baseline["figures"].get(name), worst, later.get(worst)))
    return say("performance", rows=rows)


def describe_calibration(records: list[Record], baseline: Record, problem: Problem) -> str:
    """Return by how much the predictions are off on the holdout and in the periods; also an alt text."""
    gaps = {record["period"]: record["figures"]["gap"] for record in records if "gap" in record["figures"]}
    values = pd.Series({period: gap["value"] for period, gap in gaps.items()}, dtype="float64")
    gap = baseline["figures"].get("gap")
    return say("gaps", gap=gap, figures=gaps, values=values, show="{:.3f}".format, problem=problem)


def describe_weeks(weeks: pd.DataFrame, problem: Problem) -> str:
    """Return in which week (or month, quarter, year) predictions were farthest from outcomes; also an alt text."""
    start = (weeks["@expected"] - weeks["@observed"]).abs().idxmax()
    unit = timestamps.coarser(weeks.index.to_series(), "week")
    return say("weeks", weeks=weeks, week=weeks.loc[start], unit=unit, problem=problem)


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
    rows = table[table["strategy"].isin([CALENDAR, TRIGGERED])].set_index("strategy")
    gains = {name: row_figure(row, "gain") for name, row in rows.iterrows()}
    return say("strategies", gains=gains, retrained=table["retrainings"].any(), problem=problem)
