"""Figures, tables and sentences on the retraining policies of `backtest`; part of stage 09."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ninefold import plotting
from ninefold.metrics import with_interval
from ninefold.monitoring.backtest import CALENDAR, NEVER, TRIGGERED, Followed, captured
from ninefold.problem import ERROR, Problem, listed, title

MOST = 26  # periods in a figure, the last ones
NOTHING = "Nothing has arrived since the model was built, so retraining could not have gained anything yet."


def strategy_table(table: pd.DataFrame, problem: Problem) -> pd.DataFrame:
    """Return the table of `backtest.compare` for reading: figures as text with their intervals."""
    error = ERROR[problem.task]

    def text(row: dict[str, Any], figure: str) -> str:
        return with_interval({"value": row[figure], "low": row[f"{figure}_low"], "high": row[f"{figure}_high"]})

    rows = [
        {
            "retrained": row["strategy"],
            "retrainings": row["retrainings"],
            title(error): text(row, error),
            f"payoff per {problem.unit}": text(row, "payoff"),
            "above never": "–" if row["strategy"] == NEVER else text(row, "gain"),
        }
        for row in table.to_dict("records")
    ]
    return pd.DataFrame(
        rows, columns=["retrained", "retrainings", title(error), f"payoff per {problem.unit}", "above never"]
    )


def retraining_table(followed: dict[str, Followed]) -> pd.DataFrame:
    """Return every retraining, for reading: ``strategy``, ``at the close of``, ``fitted on`` rows, ``because``."""
    rows = [
        (name, each["close"], each["rows"], " ".join(each["reasons"]))
        for name, one in followed.items()
        for each in one.retrained
    ]
    rows = rows or [("none", None, None, "No strategy retrained.")]
    return pd.DataFrame(rows, columns=["strategy", "at the close of", "fitted on", "because"])


def plot_strategies(table: pd.DataFrame, followed: dict[str, Followed], problem: Problem) -> Figure:
    """Draw, per period, what each strategy paid above `NEVER`, and its error; marks are where it had just retrained."""
    if not followed:
        fig, axes = plotting.canvas("What would retraining have gained?", height=1.4)
        axes.text(0.5, 0.5, "nothing has arrived to retrain on", ha="center")
        axes.set_axis_off()
        return fig
    periods = list(dict.fromkeys(table["period"]))[-MOST:]
    fig, panels = plotting.canvas("What would retraining have gained?", height=3.2, ncols=2)
    payoff = table.pivot(index="period", columns="strategy", values="payoff").reindex(periods)
    error = table.pivot(index="period", columns="strategy", values="error").reindex(periods)
    shown = {
        f"payoff per {problem.unit} above never": payoff.sub(payoff[NEVER], axis=0),
        title(ERROR[problem.task]): error,
    }
    for axes, (label, values) in zip(panels, shown.items(), strict=True):
        for number, name in enumerate(followed):
            axes.plot(values[name].to_numpy(), color=plotting.PALETTE[number], lw=1.6, label=plotting.plain(name))
            after = [
                periods.index(each["close"]) + 1 for each in followed[name].retrained if each["close"] in periods[:-1]
            ]
            axes.plot(after, values[name].to_numpy()[after], "o", color=plotting.PALETTE[number], ms=6)
        axes.set_title(plotting.plain(label), fontsize=9)
        step = max(1, int(np.ceil(len(periods) / 7)))
        axes.set_xticks(range(0, len(periods), step), periods[::step], rotation=45)
    panels[0].axhline(0, color=plotting.GREY, lw=0.8)
    panels[1].legend(frameon=False, fontsize=8)
    return fig


def describe_strategies(table: pd.DataFrame, problem: Problem) -> str:
    """Return the gain of each policy, and which are significant; also an alt text."""
    if table.empty:
        return NOTHING
    rows = table.set_index("strategy")
    error = title(ERROR[problem.task])
    never, monthly, called = (rows.loc[name] for name in (NEVER, CALENDAR, TRIGGERED))
    if not monthly["retrainings"] and not called["retrainings"]:
        return "No policy retrained: there were fewer than two periods, or too few outcomes."

    def gain(row: pd.Series) -> str:
        return with_interval({"value": row["gain"], "low": row["gain_low"], "high": row["gain_high"]})

    sure = [name for name in (CALENDAR, TRIGGERED) if rows.loc[name, "gain_low"] > 0]
    share = captured(table)
    monitored = (
        f" Retrained when the monitor said so, it brings {share:.0%} of the gain of every month, with "
        f"{called['retrainings']:.0f} retrainings instead of {monthly['retrainings']:.0f}."
        if share is not None
        else " Retraining every month gains nothing."
    )
    certain = f"The gain is significant for {listed(sure)}." if sure else "Neither gain is significant."
    return (
        f"Per {problem.unit}, in {problem.payoff_unit}, retraining every month gains {gain(monthly)} over never, and when "
        f"the monitor says so {gain(called)}. {certain}{monitored} The {error} is {never[ERROR[problem.task]]:.4f}, "
        f"{monthly[ERROR[problem.task]]:.4f} and {called[ERROR[problem.task]]:.4f}."
    )
