"""The sentences of stage 09's figures, which are alt texts too; where nothing has arrived, of the holdout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from ninefold import display
from ninefold.metrics import FOLLOW, against_zero, cluster_name, with_interval
from ninefold.monitoring.answers import HOLDOUT
from ninefold.monitoring.arrivals import Parts, Record
from ninefold.monitoring.backtest import CALENDAR, TRIGGERED
from ninefold.monitoring.tables import figures_by_period, row_figure, sign_text
from ninefold.problem import ERROR, RANKING, Problem, decisions, listed, title

ONLY_TIME = "The model sees nothing but the time of the event, which moves by itself."
IN_WORDS = 3  # periods that are named, of more their number
NOTHING = "Nothing has arrived since the model was built, so retraining could not have gained anything yet."


def describe_drift(drifts: pd.DataFrame, frame: pd.DataFrame, parts: Parts, problem: Problem) -> str:
    """Return which features moved, and whether a season is seen for the first time; also an alt text."""
    if drifts.empty:
        return ONLY_TIME
    periods = drifts.groupby("period", sort=False)
    counts, tested = periods["drifted"].sum(), periods["p"].count() > 0
    later = drifts[(drifts["period"] != HOLDOUT) | (len(counts) == 1)]
    top = later[later["psi"].round(2) == later["psi"].max().round(2)]
    features, where = ([*top[name].unique()] for name in ("feature", "period"))
    text = (
        f"Features that drifted, of {drifts['feature'].nunique()}: {counts.get(HOLDOUT, 0)} on the holdout"
        f"{_over(counts.drop(HOLDOUT, errors='ignore'), str)}. The largest PSI is {top['psi'].max():.2f}, of "
        f"{listed([*map(display.code, features)])} in "
        f"{listed(where) if len(where) <= IN_WORDS else f'{len(where)} periods'}."
    )
    if unsure := [*tested.index[~tested]]:
        text += f" In {listed(unsure[-IN_WORDS:])} no test is possible: too few {cluster_name(problem)} to tell."
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
    """Return by how much the predictions are off on the holdout and in the periods; also an alt text."""
    gaps = {record["period"]: record["figures"]["gap"] for record in records if "gap" in record["figures"]}
    values = pd.Series({period: gap["value"] for period, gap in gaps.items()}, dtype="float64")
    text = f"{against_zero(baseline['figures'].get('gap'))} on the holdout{_over(values, lambda value: f'{value:.3f}')}"
    return f"Predicted less observed {decisions.level_name(problem)}: {text}.{_signs(gaps)} Above zero the model predicts too much."


def describe_weeks(weeks: pd.DataFrame, baseline: Record, problem: Problem) -> str:
    """Return in which week the prediction was farthest off; without time, how far on the holdout; also an alt text."""
    level, worst = decisions.level_name(problem), {name: each["value"] for name, each in baseline["figures"].items()}
    where = "on the holdout, as rows without time have no weeks, was"
    if len(weeks):
        worst = weeks.loc[(weeks["predicted"] - weeks["observed"]).abs().idxmax()]
        where = f"is farthest off in the week of {worst['week'].date()}, of {len(weeks)} weeks from the holdout on"
    predicted, observed = (decisions.show_level(worst[name], problem) for name in ("predicted", "observed"))
    return f"The {level} {where}: {predicted} predicted, {observed} observed."


def describe_policies(table: pd.DataFrame, records: Sequence[Record] = ()) -> str:
    """Return what the model paid more than the best policy without one, and in how many periods; also an alt text."""
    means = table.pivot(index="period", columns="policy", values="payoff").drop(columns=decisions.FORESIGHT)
    others = means.drop(columns=FOLLOW)
    won, best = means[FOLLOW] - others.max(axis=1), others.idxmax(axis=1)
    over = {name: f"{sign_text(won[name])} over *{best[name]}*" for name in won.index}
    gains = {record["period"]: record["figures"]["gain"] for record in records if "gain" in record["figures"]}
    return (
        f"Payoff per row of the model above the best constant policy on the same rows: {over[HOLDOUT]} on the holdout"
        f"{_over(won.drop(HOLDOUT), lambda value: over[won.index[won == value][0]])}.{_signs(gains)}"
    )


def describe_strategies(table: pd.DataFrame, problem: Problem) -> str:
    """Return the gain of each policy, and which are significant; also an alt text."""
    rows = table.set_index("strategy")
    if table.empty:
        return NOTHING
    if not rows["retrainings"].any():
        return "No policy retrained: there were fewer than two periods, or too few outcomes."
    gains = [f"{name} gains {against_zero(row_figure(rows.loc[name], 'gain'))}" for name in (CALENDAR, TRIGGERED)]
    return f"Per {problem.unit}, in {problem.payoff_unit} above never, retraining {'; '.join(gains)}."


def _over(values: pd.Series, show: Callable[[Any], str]) -> str:
    """Return the range of a figure over all later periods, each end with its period, and the last value; empty without any."""
    if len(values) < 2:
        return "".join(f", {show(value)} in {period}" for period, value in values.items())
    least, most = values.idxmin(), values.idxmax()
    ends = f"from {show(values[least])} (in {least}) to {show(values[most])} (in {most})"
    return f", over {len(values)} periods {ends}, in the last {show(values.iloc[-1])}"


def _signs(figures: dict[str, dict[str, float]]) -> str:
    """Return in how many periods a difference is above zero, below zero, and not distinguishable from it."""
    above, below = (
        sum(sign * each.get(end, 0.0) > 0 for each in figures.values()) for sign, end in ((1, "low"), (-1, "high"))
    )
    other, text = len(figures) - above - below, f" In {above} of {len(figures)} periods its interval is above zero, in"
    return f"{text} {below} below; in the other {other} it is not distinguishable from zero." if figures else ""
