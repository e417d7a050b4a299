"""The figures, the tables for reading and the sentences of what retraining would have been worth; part of stage 09."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ninefold.core import plots
from ninefold.core.scores import ERROR, title, with_interval
from ninefold.problem import listed
from ninefold.strategies import CALENDAR, NEVER, TRIGGERED, Followed, captured

MOST = 26  # periods in a figure, the last ones
NOTHING = "Nothing has arrived since the model was built, so there is nothing yet that retraining could have won."


def strategy_table(table: pd.DataFrame, stated: dict[str, Any]) -> pd.DataFrame:
    """Return what `strategies.compare` found, for reading: figures as text with their intervals."""
    error = ERROR[stated["task"]]

    def told(row: dict[str, Any], figure: str) -> str:
        return with_interval({"value": row[figure], "low": row[f"{figure}_low"], "high": row[f"{figure}_high"]})

    rows = [
        {
            "retrained": row["strategy"],
            "retrainings": row["retrainings"],
            title(error): told(row, error),
            f"payoff per {stated['unit']}": told(row, "payoff"),
            "above never": "–" if row["strategy"] == NEVER else told(row, "gain"),
        }
        for row in table.to_dict("records")
    ]
    return pd.DataFrame(
        rows, columns=["retrained", "retrainings", title(error), f"payoff per {stated['unit']}", "above never"]
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


def plot_strategies(table: pd.DataFrame, followed: dict[str, Followed], stated: dict[str, Any]) -> Figure:
    """Draw, per period, what each strategy paid above `NEVER`, and its error; marks are where it had just retrained."""
    if not followed:
        fig, axes = plots.canvas("What would retraining have won?", height=1.4)
        axes.text(0.5, 0.5, "nothing has arrived to retrain on", ha="center")
        axes.set_axis_off()
        return fig
    periods = list(dict.fromkeys(table["period"]))[-MOST:]
    fig, panels = plots.canvas("What would retraining have won?", height=3.2, ncols=2)
    payoff = table.pivot(index="period", columns="strategy", values="payoff").reindex(periods)
    error = table.pivot(index="period", columns="strategy", values="error").reindex(periods)
    shown = {
        f"payoff per {stated['unit']} above never": payoff.sub(payoff[NEVER], axis=0),
        title(ERROR[stated["task"]]): error,
    }
    for axes, (label, values) in zip(panels, shown.items(), strict=True):
        for number, name in enumerate(followed):
            axes.plot(values[name].to_numpy(), color=plots.PALETTE[number], lw=1.6, label=plots.plain(name))
            after = [
                periods.index(each["close"]) + 1 for each in followed[name].retrained if each["close"] in periods[:-1]
            ]
            axes.plot(after, values[name].to_numpy()[after], "o", color=plots.PALETTE[number], ms=6)
        axes.set_title(plots.plain(label), fontsize=9)
        step = max(1, int(np.ceil(len(periods) / 7)))
        axes.set_xticks(range(0, len(periods), step), periods[::step], rotation=45)
    panels[0].axhline(0, color=plots.GREY, lw=0.8)
    panels[1].legend(frameon=False, fontsize=8)
    return fig


def describe_strategies(table: pd.DataFrame, stated: dict[str, Any]) -> str:
    """Return what retraining would have won, and whether the monitor called for it at the right time; also an alt text."""
    if table.empty:
        return NOTHING
    rows = table.set_index("strategy")
    error = title(ERROR[stated["task"]])
    never, monthly, called = (rows.loc[name] for name in (NEVER, CALENDAR, TRIGGERED))
    if not monthly["retrainings"] and not called["retrainings"]:
        return "No strategy came to retrain: fewer than two periods, or outcomes, were there to learn from."

    def gain(row: pd.Series) -> str:
        return with_interval({"value": row["gain"], "low": row["gain_low"], "high": row["gain_high"]})

    sure = [name for name in (CALENDAR, TRIGGERED) if rows.loc[name, "gain_low"] > 0]
    share = captured(table)
    told = (
        f" Retrained when the monitor said so, it brings {share:.0%} of the gain of every month, with "
        f"{called['retrainings']:.0f} retrainings instead of {monthly['retrainings']:.0f}."
        if share is not None
        else " Every month wins nothing, so that there is no gain of which the monitor could save a part."
    )
    certain = (
        f"Sure to be a gain is that of {listed(sure)}."
        if sure
        else "Neither interval leaves zero: these rows do not show that retraining pays, or that it does not."
    )
    return (
        f"Per {stated['unit']}, in {stated['payoff_unit']}, retraining every month wins {gain(monthly)} above never, and when "
        f"the monitor says so {gain(called)}. {certain}{told} The {error} is {never[ERROR[stated['task']]]:.4f}, "
        f"{monthly[ERROR[stated['task']]]:.4f} and {called[ERROR[stated['task']]]:.4f}."
    )
