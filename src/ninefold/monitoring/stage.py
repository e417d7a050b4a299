"""Is it still right in production, and should we retrain?

Reads: the source after ``collection.as_of``, as stage 02 reads it, or with ``source: log`` the prediction log and the labels
received, ``data/predictions/``; ``data/lake/``, ``data/features/``, ``data/problem.json``, ``data/metrics.json``,
``models/bundle/``.
Writes: ``data/monitoring/``: ``periods.json``, ``drift.parquet``, ``answers.parquet``, ``decision.json``, ``strategies.json``.
Gate: every period is monitored, no prediction or label is lost, and the decision has reasons. Alerts do not fail it.
"""

from collections.abc import Mapping
from functools import partial
from typing import TypeAlias

import numpy as np
import pandas as pd

from ninefold import artifacts, features, gate, incidents, timestamps
from ninefold.metrics import EvaluationPlan, against_baseline, evaluation, intervals, means
from ninefold.monitoring import data_quality
from ninefold.monitoring import period as period_rows
from ninefold.monitoring.alerts import alerts, broken_columns
from ninefold.monitoring.answers import AT_CLOSE, PERIOD, STATES, STATUS, outcomes, predictions
from ninefold.monitoring.arrivals import DAYS, Parts, Record
from ninefold.monitoring.decision import NOTHING, UNKNOWN, decide
from ninefold.monitoring.drift import feature_kinds
from ninefold.monitoring.params import Params
from ninefold.monitoring.performance import scores_of
from ninefold.monitoring.reference import Context, Reference
from ninefold.monitoring.reference import reference as reference_of
from ninefold.monitoring.report import period_report
from ninefold.monitoring.texts import say
from ninefold.problem import Problem
from ninefold.serving import Bundle

MONITORING = "data/monitoring"
DAY = pd.Timedelta(days=1)
Made: TypeAlias = features.Params | None
Details: TypeAlias = Mapping[str, Record]  # by period


def baseline_metrics(bundle: Bundle, holdout: pd.DataFrame, parts: Parts, plan: EvaluationPlan) -> Record:
    """Return ``figures`` and ``levels`` of the holdout (`performance.scores_of`), and the rows ``per_day`` of training."""
    results, problem = bundle.described["holdout"], bundle.problem
    if not results:  # of a model that the backtest has fitted
        target = outcomes(holdout, problem)
        results = evaluation.evaluate(target, predictions(holdout, problem), holdout, problem, plan)
    return gate.tidy({**scores_of(results, holdout, problem, plan), "per_day": rows_per_day(parts["train"], problem)})


def rows_per_day(train: pd.DataFrame, problem: Problem) -> float | None:
    """Return the rows a day in training, those without a label included; None without time."""
    if not problem.time:
        return None
    rows = features.load([problem.time])
    times = problem.local_times(rows[rows[problem.time] <= train[problem.time].max()])
    days = timestamps.days_of(times)
    return len(times) / ((round((times.max().normalize() - times.min().normalize()).days / days) + 1) * days)


def make_reference(bundle: Bundle, parts: Parts, params: Params, plan: EvaluationPlan) -> Reference:
    """Return the distributions of the rows a model was made from, and the control limits of every figure."""
    kinds, problem = feature_kinds(bundle), bundle.problem
    fitted = pd.concat([parts["train"], parts["validation"]], ignore_index=True)
    holdout = period_rows.rows(parts["holdout"], bundle.predict(parts["holdout"]), kinds, problem)
    known = period_rows.rows(fitted, fitted[[]], kinds, problem)
    # Without time, windows have as many rows as the smallest period with a report: limits then hold for larger ones, too.
    length = DAYS[params.period] if problem.time else data_quality.FEWEST
    return reference_of(known, holdout, Context(kinds, problem, plan), length, params.false_alarms)


def monitoring_reports(
    frame: pd.DataFrame,
    volume: pd.DataFrame,
    reference: Reference,
    params: Params,
    explain: bool = True,
    made: Made = None,
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
        report["ended"] = before = {
            name: (inputs.features[name].isna().all() and before.get(name)) or each
            for name, each in report["ended"].items()
        }
        report["joined"] = tables
    return reports


def records(
    volume: pd.DataFrame, labels: pd.DataFrame, inputs: pd.DataFrame, predicted: pd.DataFrame, *details: Details
) -> list[Record]:
    """Return all that is known of each period as plain values: what the rules read, and ``periods.json`` keeps.

    The tables are of `read_arrivals`, `label_counts`, `compare_inputs` and `compare_predictions`, the `details` by period.
    """
    table = []
    for row, span in zip(labels.to_dict("records"), volume.itertuples(), strict=True):
        moved, outputs = (each[each["period"] == row["period"]] for each in (inputs, predicted))
        drifted = moved[moved["drifted"]].sort_values("psi", ascending=False)
        record = {
            **row,
            "start": f"{span.start.isoformat()}Z",
            "end": f"{span.end.isoformat()}Z",
            "closed": span.closed,
        }
        record |= {"days": (span.end - span.start) / DAY, "features": len(moved)}
        record |= {"drifted": dict(zip(drifted["feature"], drifted["psi"], strict=True))}
        record |= {"prediction_psi": outputs["psi"].max(), "predictions_drifted": bool(outputs["drifted"].any())}
        record |= {"figures": {}, "levels": {}, "slices": []}
        for detail in details:
            record |= detail.get(row["period"], {})
        table.append(record)
    return gate.tidy(table)


def apply_rules(table: list[Record], metrics: Record, params: Params, problem: Problem) -> list[Record]:
    """Return the records with the ``alerts`` of each period, and what `decision.decide` returns at its close."""
    alerted = [{**record, "alerts": alerts(record, metrics, params.alerts, problem)} for record in table]
    return [{**record, **decide(record, params.decide)} for record in alerted]


def what_works(table: list[Record], holdout: pd.DataFrame, bundle: Bundle, plan: EvaluationPlan, policy: str) -> str:
    """Return what the model is worth without the columns with a fault in the last closed period, measured on the holdout, as a sentence."""
    last, problem = incidents.last_closed(table), bundle.problem
    if last is None or not (columns := [*broken_columns(last["alerts"])]):
        return ""
    target, empty = outcomes(holdout, problem), pd.DataFrame(index=holdout.index, columns=columns, dtype="float64")
    predicted = bundle.predict(holdout.drop(columns=columns).join(empty))
    paid, best, _ = against_baseline(target, predicted, problem, plan)
    gain = intervals(partial(means, {"gain": paid - best}), holdout, problem, problem.success.level)["gain"]
    return say("works", last=last, faulty=len(columns), gain=gain, problem=problem, policy=policy)


def save(table: list[Record], drifts: pd.DataFrame, decision: Record, answered: pd.DataFrame, backtest: Record) -> None:
    """Write ``data/monitoring/``: records of the periods, drift of each feature, the decision, every answer, the backtest."""
    folder = artifacts.output(MONITORING)
    for name, value in {"periods": table, "decision": decision, "strategies": backtest}.items():
        artifacts.write_json(value, folder / f"{name}.json")
    for name, frame in {"drift": drifts, "answers": answered}.items():
        artifacts.write_table(frame, folder / f"{name}.parquet")


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
    if not table:
        return f"{NOTHING} The model is kept."
    if (last := incidents.last_closed(table)) is None:
        return f"{decision['reasons'][0]} The model is kept."
    gain, reasons = last["figures"].get("gain"), " ".join(decision["reasons"])
    worth = say("gain", gain=gain) if gain else UNKNOWN
    texts = [f"{decision['decision'].capitalize()}, at the close of {last['period']}.", reasons, decision.get("works")]
    return " ".join(filter(None, [*texts, "" if worth in reasons else worth]))
