"""Rows that arrived since the model was built, with the model's answers, and when their labels were received."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from ninefold import features
from ninefold.monitoring import labels, production
from ninefold.monitoring.answers import AT_CLOSE, LATER, PERIOD, STATES, STATUS, outcomes, predict
from ninefold.monitoring.params import Params
from ninefold.monitoring.replay import cut, period_of, periods, replay
from ninefold.problem import Problem, decisions
from ninefold.serving import Bundle


def read_arrivals(params: Params, earlier: dict[str, Any], bundle: Bundle) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows since the model was built with its answers, and their ``volume``: replayed or from the log.

    See `replay.replay` and `from_log`; `earlier` holds the params of ``collection``, ``processing`` and ``features``.
    """
    if params.source == "log":
        return from_log(params, bundle)
    calendar = periods(params, earlier["collection"], bundle.problem)
    frame, volume = replay(calendar, earlier, bundle.problem)
    return predict(frame, bundle), volume


def from_log(params: Params, bundle: Bundle) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the decisions of the service and of batch runs, each once, with the outcomes received.

    A row belongs to the period of its time, or without one of its answer. Periods reach to today, so that silence
    shows. A label counts at the close of its period if it was known by then: by its ``known_at``, or else
    `params.label_delay` after the event.

    Returns
    -------
    frame : DataFrame
        Of `production.served` and `labels.join`, ``@period`` and ``@status``.
    volume : DataFrame
        As of `replay`; nothing is quarantined, because the service refuses rows that break its schema.
    """
    problem = bundle.problem
    table = labels.join(production.served(bundle, like=features.load().iloc[:0]), labels.load(), problem).table
    table = table[table[labels.LABEL] != "superseded"].reset_index(drop=True)
    if table.empty:
        calendar = cut(date.today(), date.today(), params.period).iloc[:0]
        return table.assign(**{PERIOD: "", STATUS: ""}), calendar.assign(raw=0, quarantined=0, ready=0)
    times = table[problem.time].fillna(table[production.MOMENT]) if problem.time else table[production.MOMENT]
    calendar = cut(times.min().date(), max(times.max().date(), date.today()), params.period)
    period = period_of(times, calendar)
    rows = calendar["period"].map(period.value_counts()).fillna(0).astype("int64")
    close = calendar.set_index("period")["end"].reindex(period).to_numpy()
    known_at = table[labels.KNOWN_AT].fillna(times + pd.Timedelta(params.label_delay)).to_numpy()
    label = table[labels.LABEL]
    status = np.select([label == "never", label != "known", known_at > close], ["never", "open", "later"], AT_CLOSE)
    return table.assign(**{PERIOD: period, STATUS: status}), calendar.assign(raw=rows, quarantined=0, ready=rows)


def add_label_status(frame: pd.DataFrame, volume: pd.DataFrame, params: Params, problem: Problem) -> pd.DataFrame:
    """Add ``@status``, one of `STATES`: whether the label is known at the close, `params.label_delay` after the event.

    Rows of the log have it already: it says when each label was received.
    """
    if STATUS in frame:
        return frame
    if frame.empty:
        return frame.assign(**{STATUS: ""})
    known_at = frame[problem.time] + pd.Timedelta(params.label_delay)
    close = volume.set_index("period")["end"].reindex(frame[PERIOD]).to_numpy()
    conditions = [known_at > volume["end"].max(), frame[problem.target].isna(), known_at > close]
    return frame.assign(**{STATUS: np.select(conditions, ["open", "never", "later"], AT_CLOSE)})


def label_counts(frame: pd.DataFrame, volume: pd.DataFrame, problem: Problem) -> pd.DataFrame:
    """Return per period how many labels were received when, and the mean of `decisions.event` at its close and in the end."""
    counts = pd.crosstab(frame[PERIOD], frame[STATUS]).reindex(index=volume["period"], columns=STATES, fill_value=0)
    table = volume[["period", "raw", "quarantined"]].assign(predictions=counts.sum(axis=1).to_numpy())
    table = table.join(counts, on="period")
    for name, states in {"level at close": [AT_CLOSE], "level in the end": [AT_CLOSE, LATER]}.items():
        rows = frame[frame[STATUS].isin(states) & frame[problem.target].notna()]
        event = pd.Series(decisions.event(outcomes(rows, problem), problem), rows.index)
        table[name] = table["period"].map(event.groupby(rows[PERIOD]).mean()).astype("float64")
    return table
