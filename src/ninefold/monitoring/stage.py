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

from ninefold import artifacts, features, gate, incidents, timestamps
from ninefold.monitoring import period as period_rows
from ninefold.monitoring.alerts import alerts
from ninefold.monitoring.answers import AT_CLOSE, PERIOD, STATES, STATUS, predictions
from ninefold.monitoring.arrivals import Record
from ninefold.monitoring.decision import UNKNOWN, decide
from ninefold.monitoring.params import Params
from ninefold.monitoring.reference import Reference
from ninefold.monitoring.report import period_report
from ninefold.monitoring.texts import say
from ninefold.problem import Problem

MONITORING = "data/monitoring"
DAY = pd.Timedelta(days=1)


def rows_per_day(train: pd.DataFrame, problem: Problem) -> float | None:
    """Return the rows a day in training, those without a label included; None without time."""
    if not problem.time:
        return None
    rows = features.load([problem.time])
    times = problem.local_times(rows[rows[problem.time] <= train[problem.time].max()])
    days = timestamps.days_of(times)
    return len(times) / ((round((times.max().normalize() - times.min().normalize()).days / days) + 1) * days)


def monitoring_reports(
    frame: pd.DataFrame,
    volume: pd.DataFrame,
    reference: Reference,
    params: Params,
    explain: bool = True,
    made: features.Params | None = None,
) -> dict[str, Record]:
    """Return the `report.period_report` of each period by the labels known at its close; of an open one without its volume.

    ``ended`` counts from the period in which a feature lost its values; ``joined`` is the table of a feature, by `made`.
    """
    reports, problem, before = dict[str, Record](), reference.problem, dict[str, Record]()
    joins = features.declared(made, problem).joins if made else []
    tables = {name: join.table for join in joins for name in join.renamed().values()}
    for span in volume.itertuples():
        rows = frame[frame[PERIOD] == span.period].copy()
        rows[problem.target] = rows[problem.target].where(rows[STATUS] == AT_CLOSE)
        inputs = period_rows.rows(rows, predictions(rows, problem), reference.kinds, problem)
        days = (span.end - span.start) / DAY if span.closed else None
        report = reports[span.period] = period_report(reference, inputs, days, params.alpha, explain)
        for name in report["ended"].keys() & before:
            if inputs.features[name].isna().all():
                report["ended"][name] = before[name]
        before, report["joined"] = report["ended"], tables
    return reports


def apply_rules(table: list[Record], metrics: Record, params: Params, problem: Problem) -> list[Record]:
    """Return the records with the ``alerts`` of each period, and what `decision.decide` returns at its close."""
    alerted = [{**record, "alerts": alerts(record, metrics, params.alerts, problem)} for record in table]
    return [{**record, **decide(record, params.decide)} for record in alerted]


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
        gate.holds("periods monitored", len(table) == len(volume), len(table), f"all {len(volume)} that arrived"),
        gate.at_most("rows neither quarantined nor predicted", lost, 0),
        gate.at_most(f"predictions that are no {what}", int((~valid).sum()), 0),
        gate.at_most("predictions whose label is unaccounted for", len(frame) - accounted, 0),
        gate.at_least("reasons for the decision", len(decision["reasons"]), 1),
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
