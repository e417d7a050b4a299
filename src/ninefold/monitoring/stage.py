"""Is it still right in production, and should we retrain?

Reads: the source after ``collection.as_of``, as stage 02 reads it; ``data/lake/`` and ``data/features/``;
``data/problem.json``, ``data/metrics.json``; ``models/bundle/``. With ``source: log``, instead of the source, the prediction
log and the labels received, ``data/predictions/``.
Writes: ``data/monitoring/``: ``periods.json``, ``drift.parquet``, ``answers.parquet``, ``decision.json``, ``strategies.json``.
Gate: every period is monitored, no prediction or label is lost, and the decision has reasons. Alerts, and a decision to
retrain, are results and do not fail the gate. Where nothing has arrived yet, the reports show the holdout alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ninefold import artifacts, features, gate
from ninefold.metrics import EvaluationPlan, with_interval
from ninefold.monitoring import period as period_rows
from ninefold.monitoring.alerts import alerts
from ninefold.monitoring.answers import AT_CLOSE, PERIOD, STATES, STATUS, predict_holdout, predictions
from ninefold.monitoring.arrivals import label_counts
from ninefold.monitoring.decision import NOTHING, decide
from ninefold.monitoring.drift_by_period import compare_inputs, compare_predictions, feature_kinds
from ninefold.monitoring.params import Params
from ninefold.monitoring.performance import scores_by_period, scores_of
from ninefold.monitoring.reference import Context, Reference
from ninefold.monitoring.reference import reference as reference_of
from ninefold.monitoring.replay import DAYS
from ninefold.monitoring.report import period_report
from ninefold.problem import Problem, listed
from ninefold.serving import Bundle

MONITORING = "data/monitoring"
Record = dict[str, Any]


class Baseline(NamedTuple):
    """What the periods of a model are compared with; made once for it.

    Attributes
    ----------
    bundle : Bundle
    parts, holdout : dict of DataFrame, DataFrame
        The rows it was made from, and the holdout with its answers (`answers.predict_holdout`).
    metrics : dict
        See `baseline_metrics`.
    reference : Reference
        See `make_reference`.
    """

    bundle: Bundle
    parts: dict[str, pd.DataFrame]
    holdout: pd.DataFrame
    metrics: dict[str, Any]
    reference: Reference


def baseline(bundle: Bundle, parts: dict[str, pd.DataFrame], params: Params, plan: EvaluationPlan) -> Baseline:
    """Return what the periods of a model are compared with."""
    holdout = predict_holdout(parts["holdout"], bundle)
    figures = baseline_metrics(bundle, holdout, parts, plan)
    return Baseline(bundle, parts, holdout, figures, make_reference(bundle, parts, params, plan))


def baseline_metrics(
    bundle: Bundle, holdout: pd.DataFrame, parts: dict[str, pd.DataFrame], plan: EvaluationPlan
) -> dict[str, Any]:
    """Return ``figures`` and ``levels`` of the holdout (`performance.scores_of`), and the rows ``per_day`` of training."""
    scores = scores_of(bundle.described["holdout"], holdout, bundle.problem, plan)
    return gate.tidy({**scores, "per_day": rows_per_day(parts["train"], bundle.problem)})


def rows_per_day(train: pd.DataFrame, problem: Problem) -> float | None:
    """Return the rows a day in training, those without a label included; None without time."""
    if not problem.time:
        return None
    times = features.load([problem.time])[problem.time]
    times = times[times <= train[problem.time].max()]
    return len(times) / ((times.max().normalize() - times.min().normalize()).days + 1)


def make_reference(bundle: Bundle, parts: dict[str, pd.DataFrame], params: Params, plan: EvaluationPlan) -> Reference:
    """Return the distributions of the rows a model was made from, and the control limits of every figure."""
    kinds, problem = feature_kinds(bundle), bundle.problem
    fitted = pd.concat([parts["train"], parts["validation"]], ignore_index=True)
    held = period_rows.rows(parts["holdout"], bundle.predict(parts["holdout"]), kinds, problem)
    known = period_rows.rows(fitted, pd.DataFrame(), kinds, problem)
    return reference_of(known, held, Context(kinds, problem, plan), DAYS[params.period], params.false_alarms)


def monitoring_reports(
    frame: pd.DataFrame, volume: pd.DataFrame, reference: Reference, params: Params, explain: bool = True
) -> dict[str, Record]:
    """Return the monitoring report of each period by the labels known at its close; see `report.period_report`.

    Returns
    -------
    dict
        Period -> the report, with ``natural`` for ``figures``: figure -> ``value``, and the control limits ``low`` and
        ``high`` with the ``usual`` value (None: no limit).
    """
    reports = {}
    for span in volume.itertuples():
        rows = frame[frame[PERIOD] == span.period].copy()
        predicted, target = predictions(rows, reference.problem), reference.problem.target
        rows[target] = rows[target].where(rows[STATUS] == AT_CLOSE)
        inputs = period_rows.rows(rows, predicted, reference.kinds, reference.problem)
        days = (span.end - span.start) / pd.Timedelta(days=1)
        report = period_report(reference, inputs, days, params.alpha, explain)
        natural = {
            name: {end: value if np.isfinite(value) else None for end, value in figure.items()}
            for name, figure in report.pop("figures").items()
        }
        reports[span.period] = {"natural": natural, **report}
    return reports


def records(
    volume: pd.DataFrame,
    labels: pd.DataFrame,
    inputs: pd.DataFrame,
    predicted: pd.DataFrame,
    *details: Mapping[str, Record],
) -> list[Record]:
    """Return all that is known of each period as plain values: what the rules read, and ``periods.json`` keeps.

    Parameters
    ----------
    volume, labels, inputs, predicted : DataFrame
        Of `read_arrivals`, `label_counts`, `compare_inputs` and `compare_predictions`.
    *details : mapping
        Period -> more of it: of `scores_by_period`, `monitoring_reports`, `worse_slices`, `service_reports`.
    """
    table = []
    for row, span in zip(labels.to_dict("records"), volume.itertuples(), strict=True):
        moved, outputs = (
            each[each["period"] == row["period"]].sort_values("psi", ascending=False) for each in (inputs, predicted)
        )
        drifted = moved[moved["drifted"]]
        record = {
            **row,
            "start": f"{span.start:%Y-%m-%d}",
            "days": (span.end - span.start) / pd.Timedelta(days=1),
            "features": len(moved),
            "drifted": dict(zip(drifted["feature"], drifted["psi"], strict=True)),
            "prediction_psi": outputs["psi"].max(),
            "predictions_drifted": bool(outputs["drifted"].any()),
            "figures": {},
            "levels": {},
            "slices": [],
        }
        for detail in details:
            record |= detail.get(row["period"], {})
        table.append(record)
    return gate.tidy(table)


def apply_rules(table: list[Record], metrics: dict[str, Any], params: Params, problem: Problem) -> list[Record]:
    """Return the records with the ``alerts`` of each period, and the ``decision`` and its ``reasons`` at the close."""
    alerted = [{**record, "alerts": alerts(record, metrics, params.alerts, problem)} for record in table]
    return [{**record, **decide(record, params.decide)} for record in alerted]


def evaluate_period(
    frame: pd.DataFrame, volume: pd.DataFrame, compared: Baseline, params: Params, plan: EvaluationPlan
) -> Record:
    """Return the record of one period with its alerts and decision, by all steps of this stage; without causes.

    Parameters
    ----------
    frame : DataFrame
        The rows of the period with answers and label status.
    volume : DataFrame
        Its line of the volume.
    compared : Baseline
        Of the model that answered.
    params : Params
    plan : EvaluationPlan
    """
    problem = compared.bundle.problem
    table = records(
        volume,
        label_counts(frame, volume, problem),
        compare_inputs(frame, compared.parts, compared.bundle, params, holdout=False),
        compare_predictions(frame, compared.holdout, params, problem),
        scores_by_period(frame, problem, plan),
        monitoring_reports(frame, volume, compared.reference, params, explain=False),
    )
    return apply_rules(table, compared.metrics, params, problem)[0]


def save(table: list[Record], drifts: pd.DataFrame, decision: Record, answered: pd.DataFrame, backtest: Record) -> None:
    """Write ``data/monitoring/``: records of the periods, drift of each feature, the decision, every answer, the backtest."""
    folder = artifacts.output(MONITORING)
    artifacts.write_json(table, folder / "periods.json")
    artifacts.write_table(drifts, folder / "drift.parquet")
    artifacts.write_table(answered, folder / "answers.parquet")
    artifacts.write_json(decision, folder / "decision.json")
    artifacts.write_json(backtest, folder / "strategies.json")


def checks(
    frame: pd.DataFrame, volume: pd.DataFrame, table: list[Record], decision: Record, problem: Problem
) -> list[gate.Check]:
    """Return the checks of the gate: no row or label is lost, every period is monitored, the decision has reasons."""
    lost = int((volume["raw"] - volume["quarantined"] - volume["ready"]).abs().sum())
    accounted = sum(record[name] for record in table for name in STATES)
    what = "probability" if problem.is_class else "quantity"
    return [
        gate.holds("periods monitored", len(table) == len(volume), len(table), f"all {len(volume)} that arrived"),
        gate.at_most("rows neither quarantined nor predicted", lost, 0),
        gate.at_most(f"predictions that are no {what}", _invalid(predictions(frame, problem), problem), 0),
        gate.at_most("predictions whose label is unaccounted for", len(frame) - accounted, 0),
        gate.at_least("reasons for the decision", len(decision["reasons"]), 1),
    ]


def metrics(table: list[Record], decision: Record) -> dict[str, Any]:
    """Return the metrics of this stage: ``periods`` for programs, ``by_period`` (scalars) for ``dvc metrics``."""
    periods = [
        {
            "period": record["period"],
            **{name: record[name] for name in ("predictions", "quarantined", "prediction_psi")},
            "labelled": record[AT_CLOSE],
            "drifted": len(record["drifted"]),
            **{name: figure["value"] for name, figure in record["figures"].items()},
            "decision": record["decision"],
            "alerts": [alert["alert"] for alert in record["alerts"]],
        }
        for record in table
    ]
    by_period = {
        row["period"]: {**{key: value for key, value in row.items() if key != "period"}, "alerts": len(row["alerts"])}
        for row in periods
    }
    return {"decision": decision["decision"], "periods": periods, "by_period": by_period}


def headline(table: list[Record], decision: Record) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    if not table:
        return {"decision": decision["decision"], "periods": "none yet"}
    return {f"alerts in {table[-1]['period']}": f"{len(table[-1]['alerts'])}", "decision": decision["decision"]}


def conclusion(table: list[Record], decision: Record) -> str:
    """Return the conclusion of this stage."""
    if not table:
        return f"{NOTHING} The model is kept."
    last = table[-1]
    names = listed([alert["alert"] for alert in last["alerts"]]) or "nothing"
    gain = last["figures"].get("gain")
    worth = f"; the gain per row over the best policy without a model is {with_interval(gain)}" if gain else ""
    return f"{decision['decision'].capitalize()}: at the close of {last['period']} alerts came from {names}{worth}."


def _invalid(predicted: pd.DataFrame, problem: Problem) -> int:
    """Return the number of predictions outside of 0-1, or with an end that is not finite or on the wrong side."""
    if problem.is_class:
        valid = predicted.apply(lambda p: p.between(0, 1)).all(axis=1).to_numpy()
    else:
        finite = np.isfinite(predicted.to_numpy("float64")).all(axis=1)
        valid = finite & (predicted["low"] <= predicted["high"]).to_numpy()
    return int((~valid).sum())
