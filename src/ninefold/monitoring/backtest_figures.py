"""Figures, tables and sentences on the retraining policies of `backtest`; part of stage 09."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from ninefold import plotting
from ninefold.metrics import with_interval
from ninefold.monitoring.backtest import CALENDAR, NEVER, TRIGGERED, Followed
from ninefold.monitoring.figures import empty_figure
from ninefold.problem import ERROR, Problem, listed, title

MOST = 26  # periods in a figure, the last ones
NOTHING = "Nothing has arrived since the model was built, so retraining could not have gained anything yet."


def strategy_table(table: pd.DataFrame, problem: Problem) -> pd.DataFrame:
    """Return the table of `backtest.compare` for reading: figures as text with their intervals."""
    error = ERROR[problem.task]
    shown = table[["strategy", "retrainings"]].rename(columns={"strategy": "retrained"})
    for name, text in {error: title(error), "payoff": f"payoff per {problem.unit}", "gain": "above never"}.items():
        shown[text] = [_text(row, name) for _, row in table.iterrows()]
    return shown


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
    question = "What would retraining have gained?"
    if not followed:
        return empty_figure(question, "nothing has arrived to retrain on")
    fig, panels = plotting.canvas(question, height=3.2, ncols=2)
    periods = list(dict.fromkeys(table["period"]))[-MOST:]
    wide = table.pivot(index="period", columns="strategy").reindex(periods)
    gain, step = wide["payoff"].sub(wide["payoff"][NEVER], axis=0), -(-len(periods) // 7)
    texts = (f"payoff per {problem.unit} above never", title(ERROR[problem.task]))
    for axes, text, values in zip(panels, texts, (gain, wide["error"]), strict=True):
        for color, (name, one) in zip(plotting.PALETTE, followed.items(), strict=False):
            axes.plot(values[name].to_numpy(), color=color, lw=1.6, label=plotting.plain(name))
            after = [periods.index(each["close"]) + 1 for each in one.retrained if each["close"] in periods[:-1]]
            axes.plot(after, values[name].to_numpy()[after], "o", color=color, ms=6)
        axes.set_title(plotting.plain(text), fontsize=9)
        axes.set_xticks(range(0, len(periods), step), periods[::step], rotation=45)
    panels[0].axhline(0, color=plotting.GREY, lw=0.8)
    panels[1].legend(frameon=False, fontsize=8)
    return fig


def describe_strategies(table: pd.DataFrame, problem: Problem) -> str:
    """Return the gain of each policy, and which are significant; also an alt text."""
    rows = table.set_index("strategy")
    if table.empty:
        return NOTHING
    if not rows["retrainings"].any():
        return "No policy retrained: there were fewer than two periods, or too few outcomes."
    gains = listed([f"{name} gains {_text(rows.loc[name], 'gain')}" for name in (CALENDAR, TRIGGERED)])
    certain = listed([name for name in (CALENDAR, TRIGGERED) if rows.loc[name, "gain_low"] > 0]) or "none"
    return f"Per {problem.unit}, in {problem.payoff_unit} above never, retraining {gains}. Significant: {certain}."


def _text(row: pd.Series, figure: str) -> str:
    return with_interval({"value": row[figure], "low": row[f"{figure}_low"], "high": row[f"{figure}_high"]})
