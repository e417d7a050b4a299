"""Is it still right in production, and should we retrain?

Reads: the source after ``collection.as_of``, as stage 02 reads it, or with ``source: log`` the prediction log and the labels
received, ``data/predictions/``; ``data/lake/``, ``data/features/``, ``data/problem.json``, ``data/metrics.json``,
``models/bundle/``.
Writes: ``data/monitoring/``: ``periods.json``, ``drift.parquet``, ``answers.parquet``, ``decision.json``, ``strategies.json``.
Gate: every period is monitored, no prediction or label is lost, and the decision has reasons. Alerts do not fail it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ninefold import artifacts, gate, incidents
from ninefold.monitoring.answers import AT_CLOSE, STATES, predictions
from ninefold.monitoring.arrivals import Record
from ninefold.monitoring.decision import UNKNOWN
from ninefold.monitoring.texts import say
from ninefold.problem import Problem

MONITORING = "data/monitoring"


def save(outputs: Mapping[str, Any]) -> None:
    """Write ``data/monitoring/``: by name each table as Parquet, all else as JSON."""
    folder = artifacts.output(MONITORING)
    for name, value in outputs.items():
        if isinstance(value, pd.DataFrame):
            artifacts.write_table(value, folder / f"{name}.parquet")
        else:
            artifacts.write_json(value, folder / f"{name}.json")


def checks(
    frame: pd.DataFrame, volume: pd.DataFrame, table: list[Record], decision: Record, problem: Problem
) -> list[gate.Check]:
    """Return the checks of the gate: no row or label is lost, every period is monitored, the decision has reasons."""
    lost = int((volume["raw"] - volume["quarantined"] - volume["ready"]).abs().sum())
    accounted = sum(record[name] for record in table for name in STATES)
    predicted, what = predictions(frame, problem).astype("float64"), "probability" if problem.is_class else "quantity"
    ordered = ((predicted >= 0) & (predicted <= 1)).all(axis=1) if problem.is_class else predicted.low <= predicted.high
    valid = np.isfinite(predicted).all(axis=1) & ordered
    return [
        gate.holds("NF901 periods monitored", len(table) == len(volume), len(table), f"all {len(volume)} that arrived"),
        gate.at_most("NF902 rows neither quarantined nor predicted", lost, 0),
        gate.at_most(f"NF903 predictions that are no {what}", int((~valid).sum()), 0),
        gate.at_most("NF904 predictions whose label is unaccounted for", len(frame) - accounted, 0),
        gate.at_least("NF905 reasons for the decision", len(decision["reasons"]), 1),
    ]


def metrics(table: list[Record], decision: Record) -> Record:
    """Return the metrics of this stage: ``periods`` for programs, ``by_period`` (scalars) for ``dvc metrics``."""
    periods = []
    for record in table:
        row = {name: record[name] for name in ("period", "predictions", "quarantined", "prediction_psi")}
        row |= {"labelled": record[AT_CLOSE], "drifted": len(record["drifted"])}
        row |= {name: figure["value"] for name, figure in record["figures"].items()}
        raised = [alert["alert"] for alert in record["alerts"]]
        periods.append({**row, "decision": record["decision"], "alerts": raised})
    counted = [{**row, "alerts": len(row["alerts"])} for row in periods]
    by_period = {row.pop("period"): row for row in counted}
    return {"decision": decision["decision"], "periods": periods, "by_period": by_period}


def headline(table: list[Record], decision: Record) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    if (last := incidents.last_closed(table)) is None:
        return {"decision": decision["decision"], "periods": "none yet"}
    return {f"alerts in {last['period']}": f"{len(last['alerts'])}", "decision": decision["decision"]}


def conclusion(table: list[Record], decision: Record) -> str:
    """Return the conclusion of this stage."""
    if (last := incidents.last_closed(table)) is None:
        return f"{decision['reasons'][0]} The model is kept."
    gain = last["figures"].get("gain")
    worth = say("gain", gain=gain) if gain else UNKNOWN
    return say("conclusion", decision=decision, period=last["period"], worth=worth)
