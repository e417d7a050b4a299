"""The sentences of stage 09's figures, which are alt texts too; where nothing has arrived, of the holdout."""

from __future__ import annotations

import pandas as pd

from ninefold import display
from ninefold.metrics import FOLLOW, cluster_name, with_interval
from ninefold.monitoring.answers import HOLDOUT
from ninefold.monitoring.arrivals import Parts, Record
from ninefold.monitoring.backtest import CALENDAR, TRIGGERED
from ninefold.monitoring.tables import figures_by_period, row_interval, sign_text
from ninefold.problem import ERROR, RANKING, Problem, decisions, listed, title

LAST = 5  # periods named in a sentence
ONLY_TIME = "The model sees nothing but the time of the event, which moves by itself."
NOTHING = "Nothing has arrived since the model was built, so retraining could not have gained anything yet."


def describe_drift(drifts: pd.DataFrame, frame: pd.DataFrame, parts: Parts, problem: Problem) -> str:
    """Return which features moved, and whether a season is seen for the first time; also an alt text."""
    if drifts.empty:
        return ONLY_TIME
    periods = drifts.groupby("period")
    counts, told = periods["drifted"].sum(), periods["p"].count() > 0
    names = [*counts.index[counts.index == HOLDOUT], *counts.index.drop(HOLDOUT, errors="ignore")[-LAST:]]
    later = drifts[(drifts["period"] != HOLDOUT) | (len(counts) == 1)]
    top = later[later["psi"].round(2) == later["psi"].max().round(2)]
    features, where = ([*top[name].unique()] for name in ("feature", "period"))
    text = (
        f"Features that drifted, of {drifts['feature'].nunique()}: {_by_period({name: str(counts[name]) for name in names})}. "
        f"The largest PSI is {top['psi'].max():.2f}, of {listed([display.code(each) for each in features])} in "
        f"{listed(where) if len(where) <= LAST else f'{len(where)} periods'}."
    )
    if unsure := [*told.index[~told]]:
        text += f" In {listed(unsure[-LAST:])} no test is possible: too few {cluster_name(problem)} to tell."
    if problem.time and len(frame):
        fitted = pd.concat([problem.local_times(parts[name]) for name in ("train", "validation")])
        if new := len(set(problem.local_times(frame).dt.month) - set(fitted.dt.month)):
            text += f" {new} of these calendar months are not in the training rows: season and change look alike."
    return text


def describe_performance(records: list[Record], baseline: Record, problem: Problem) -> str:
    """Return how the periods compare with the holdout, as sentences; also an alt text."""
    spans, texts = figures_by_period(records, baseline), []
    for name, sign in ((RANKING[problem.task], 1), (ERROR[problem.task], -1), ("skill", 1)):
        later = {period: figures[name] for period, figures in spans.items() if period != HOLDOUT and name in figures}
        worst = min(later, key=lambda period: sign * later[period]["value"], default="")
        since = f", and at worst {with_interval(later[worst])} in {worst}" if worst else ""
        texts.append(f"The {title(name)} is {with_interval(spans[HOLDOUT].get(name))} on the holdout{since}.")
    return " ".join(texts)


def describe_calibration(records: list[Record], baseline: Record, problem: Problem) -> str:
    """Return by how much the predictions are off on the holdout and in the last periods; also an alt text."""
    spans = figures_by_period(records[-LAST:], baseline)
    gaps = {period: with_interval(figures["gap"]) for period, figures in spans.items() if "gap" in figures}
    level = decisions.level_name(problem)
    return f"Predicted less observed {level}: {_by_period(gaps)}. Above zero the model predicts too much."


def describe_weeks(weeks: pd.DataFrame, baseline: Record, problem: Problem) -> str:
    """Return in which week the prediction was farthest off; without time, how far on the holdout; also an alt text."""
    level, worst = decisions.level_name(problem), {name: each["value"] for name, each in baseline["figures"].items()}
    where = "on the holdout, as rows without time have no weeks, was"
    if len(weeks):
        worst = weeks.loc[(weeks["predicted"] - weeks["observed"]).abs().idxmax()]
        where = f"is farthest off in the week of {worst['week'].date()}, of {len(weeks)} weeks"
    predicted, observed = (decisions.show_level(worst[name], problem) for name in ("predicted", "observed"))
    return f"The {level} {where}: {predicted} predicted, {observed} observed."


def describe_policies(table: pd.DataFrame) -> str:
    """Return what the model paid more than the best policy without one, in each of the last periods; also an alt text."""
    means = table.pivot(index="period", columns="policy", values="payoff").drop(columns=decisions.FORESIGHT)
    others = means.drop(columns=FOLLOW)
    won, best = means[FOLLOW] - others.max(axis=1), others.idxmax(axis=1)
    later = won.index.drop(HOLDOUT)
    texts = {name: f"{sign_text(won[name])} over *{best[name]}*" for name in [HOLDOUT, *later[-LAST:]]}
    end = f" The model paid more in {(won[later] > 0).sum()} of {len(later)} later periods." if len(later) else ""
    return f"Payoff per row of the model above the best policy without one: {_by_period(texts)}.{end}"


def describe_strategies(table: pd.DataFrame, problem: Problem) -> str:
    """Return the gain of each policy, and which are significant; also an alt text."""
    rows = table.set_index("strategy")
    if table.empty:
        return NOTHING
    if not rows["retrainings"].any():
        return "No policy retrained: there were fewer than two periods, or too few outcomes."
    gains = listed([f"{name} gains {row_interval(rows.loc[name], 'gain')}" for name in (CALENDAR, TRIGGERED)])
    certain = listed([name for name in (CALENDAR, TRIGGERED) if rows.loc[name, "gain_low"] > 0]) or "none"
    return f"Per {problem.unit}, in {problem.payoff_unit} above never, retraining {gains}. Significant: {certain}."


def _by_period(texts: dict[str, str]) -> str:
    return listed([f"{text} {'on the' if period == HOLDOUT else 'in'} {period}" for period, text in texts.items()])
