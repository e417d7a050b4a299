"""A model in production: what the rows of its periods are compared with, and what is known of each period."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from ninefold import features, gate, incidents, timestamps
from ninefold.metrics import Evaluation, EvaluationPlan
from ninefold.monitoring import data_quality
from ninefold.monitoring import period as period_rows
from ninefold.monitoring.alerts import alerts, broken_columns
from ninefold.monitoring.answers import AT_CLOSE, HOLDOUT, LATER, PERIOD, STATUS, outcomes, predict, predictions
from ninefold.monitoring.arrivals import DAYS, Parts, Record, Reports, label_counts
from ninefold.monitoring.decision import conclude, decide
from ninefold.monitoring.drift import compare_inputs, compare_predictions, feature_kinds
from ninefold.monitoring.params import Params
from ninefold.monitoring.performance import evaluation, scores_by_period, scores_of, worse_slices
from ninefold.monitoring.production import service_reports
from ninefold.monitoring.reference import Context, Reference, reference
from ninefold.monitoring.report import period_report
from ninefold.monitoring.texts import say
from ninefold.problem import Problem, decisions
from ninefold.serving import Bundle

DAY = pd.Timedelta(days=1)


def rows_per_day(train: pd.DataFrame, problem: Problem) -> float | None:
    """Return the rows a day in training, those without a label included; None without time."""
    if not problem.time:
        return None
    rows = features.load([problem.time])
    times = problem.local_times(rows[rows[problem.time] <= train[problem.time].max()])
    days = timestamps.days_of(times)
    return len(times) / ((round((times.max().normalize() - times.min().normalize()).days / days) + 1) * days)


def apply_rules(table: list[Record], baseline: Record, params: Params, problem: Problem) -> list[Record]:
    """Return the records with the ``alerts`` of each period, and what `decision.decide` returns at its close."""
    alerted = [{**record, "alerts": alerts(record, baseline, params.alerts, problem)} for record in table]
    return [{**record, **decide(record, params.decide)} for record in alerted]


@dataclass(frozen=True)
class Monitor:
    """A model to monitor: its bundle, the parts of the rows, the params of this stage, and the evaluation plan."""

    bundle: Bundle
    parts: Parts
    params: Params
    plan: EvaluationPlan

    def __repr__(self) -> str:
        """Return which model is monitored, and how often."""
        return f"Monitor(model {self.bundle.version}, by {self.params.period})"

    @property
    def problem(self) -> Problem:
        """The problem of the bundle."""
        return self.bundle.problem

    @cached_property
    def holdout(self) -> pd.DataFrame:
        """The holdout with the model's answers, as a period of its own; all its outcomes are known."""
        return predict(self.parts["holdout"].assign(**{PERIOD: HOLDOUT, STATUS: AT_CLOSE}), self.bundle)

    @cached_property
    def baseline(self) -> Record:
        """``figures`` and ``levels`` of the holdout (`performance.scores_of`), and the rows ``per_day`` of training."""
        holdout = evaluation(self.holdout, self.problem, self.plan)
        results = self.bundle.described["holdout"] or holdout.results()  # the backtest fits models without
        return gate.tidy({**scores_of(holdout, results), "per_day": rows_per_day(self.parts["train"], self.problem)})

    @cached_property
    def reference(self) -> Reference:
        """The distributions of the rows the model was made from, and the control limits of every figure."""
        kinds, problem, part = feature_kinds(self.bundle), self.problem, self.parts["holdout"]
        fitted = pd.concat([self.parts["train"], self.parts["validation"]], ignore_index=True)
        holdout = period_rows.rows(part, self.bundle.predict(part), kinds, problem)
        known = period_rows.rows(fitted, fitted[[]], kinds, problem)
        # Without time, windows have as many rows as the smallest period with a report: limits then hold for larger ones, too.
        length = DAYS[self.params.period] if problem.time else data_quality.FEWEST
        return reference(known, holdout, Context(kinds, problem, self.plan), length, self.params.false_alarms)

    def log(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the holdout and the rows that arrived, with ``@expected``, ``@observed`` and ``@payoff``, float64.

        These are `decisions.expected`, and where the outcome is known `decisions.event` and what the action paid. Where there
        is time, ``@week`` is the first day of the local week, or of the month, quarter or year for which times stand.
        """
        log = pd.concat([self.holdout, frame], ignore_index=True) if len(frame) else self.holdout
        known = log[log[STATUS].isin([AT_CLOSE, LATER])]
        target = outcomes(known, self.problem)
        columns = {
            "@expected": pd.Series(decisions.expected(predictions(log, self.problem), self.problem), log.index),
            "@observed": pd.Series(decisions.event(target, self.problem), known.index),
            "@payoff": pd.Series(decisions.payoff(known["@action"], target, self.problem), known.index),
        }
        if self.problem.time:
            times = self.problem.local_times(log)
            columns["@week"] = times.dt.to_period(timestamps.GRAINS[timestamps.coarser(times, "week")][0]).dt.start_time
        return log.assign(**columns)

    def inputs(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the features as drift compares them: categories as str; numbers, days before the event, text lengths."""
        kinds = feature_kinds(self.bundle)
        rows = rows.infer_objects()  # a log may hold dates as days, the holdout as times: object, of both together
        features = period_rows.rows(rows, rows[[]], kinds, self.problem).features
        for name, kind in kinds.items():
            if kind == "text":
                features[name] = period_rows.measured(features[name], kind)
        return features

    def drift(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return how far each feature moved per period, see `compare_inputs`; the holdout, against the others, is the first."""
        fitted = {name: part for name, part in self.parts.items() if name != HOLDOUT}
        first = compare_inputs(self.holdout, fitted, self.bundle, self.params)
        return pd.concat([first, compare_inputs(frame, self.parts, self.bundle, self.params)], ignore_index=True)

    def reports(
        self, frame: pd.DataFrame, volume: pd.DataFrame, params: features.Params | None = None, explain: bool = True
    ) -> Reports:
        """Return the `report.period_report` of each period by the labels known at its close; of an open one without its volume.

        ``ended`` counts from the period in which a feature lost its values; ``joined``: the table of each (`params`: of stage 06).
        """
        reports, problem, before = Reports(), self.problem, Record()
        joins = features.declared(params, problem).joins if params else []
        tables = {name: join.table for join in joins for name in join.renamed().values()}
        for span in volume.itertuples():
            rows = frame[frame[PERIOD] == span.period].copy()
            rows[problem.target] = rows[problem.target].where(rows[STATUS] == AT_CLOSE)
            inputs = period_rows.rows(rows, predictions(rows, problem), self.reference.kinds, problem)
            days = (span.end - span.start) / DAY if span.closed else None
            report = reports[span.period] = period_report(self.reference, inputs, days, self.params.alpha, explain)
            for name in report["ended"].keys() & before:
                if inputs.features[name].isna().all():
                    report["ended"][name] = before[name]
            before, report["joined"] = report["ended"], tables
        return reports

    def records(
        self, frame: pd.DataFrame, volume: pd.DataFrame, drift: pd.DataFrame, reports: Reports, details: bool = True
    ) -> list[Record]:
        """Return all that is known of each period as plain values, with its alerts and its decision: ``periods.json``.

        `drift` is of `compare_inputs`; `details`: slices and service, too.
        """
        problem, plan, table = self.problem, self.plan, list[Record]()
        labels = label_counts(frame, volume, problem).to_dict("records")
        predicted = compare_predictions(frame, self.holdout, self.params, problem)
        known: list[dict[str, Any]] = [scores_by_period(frame, problem, plan), reports]
        if details:
            known += [worse_slices(frame, self.holdout, self.bundle, plan)]
            known += [service_reports(frame, volume, self.params, self.bundle)]
        for row, span in zip(labels, volume.itertuples(), strict=True):
            moved, outputs = (each[each["period"] == span.period] for each in (drift, predicted))
            drifted = moved[moved["drifted"]].sort_values("psi", ascending=False)
            record = {**row, "start": f"{span.start.isoformat()}Z", "end": f"{span.end.isoformat()}Z"}
            record |= {"closed": span.closed, "days": (span.end - span.start) / DAY, "features": len(moved)}
            record |= {"drifted": dict(zip(drifted["feature"], drifted["psi"], strict=True))}
            record |= {"prediction_psi": outputs["psi"].max(), "predictions_drifted": bool(outputs["drifted"].any())}
            record |= {"figures": {}, "levels": {}, "slices": []}
            for detail in known:
                record |= detail.get(span.period, {})
            table.append(record)
        return apply_rules(gate.tidy(table), self.baseline, self.params, problem)

    def evaluate(self, frame: pd.DataFrame, volume: pd.DataFrame) -> Record:
        """Return the record of one period, without causes, slices and service: what the backtest decides by."""
        drift = compare_inputs(frame, self.parts, self.bundle, self.params)
        return self.records(frame, volume, drift, self.reports(frame, volume, explain=False), details=False)[0]

    def decide(self, records: list[Record], policy: str) -> Record:
        """Return the decision of the last closed period (`conclude`); `policy` is followed where the model is not.

        If columns have a fault then, ``works`` says what the model is worth on the holdout without these.
        """
        last, problem, works = incidents.last_closed(records), self.problem, ""
        if last and (columns := [*broken_columns(last["alerts"])]):
            rows = self.parts["holdout"]
            empty = pd.DataFrame(np.nan, rows.index, columns)
            predicted = self.bundle.predict(rows.drop(columns=columns).join(empty))
            gain = Evaluation(outcomes(rows, problem), predicted, rows, problem, self.plan).gain(problem.success.level)
            works = say("works", last=last, faulty=len(columns), gain=gain, problem=problem, policy=policy)
        return conclude(records, self.bundle.version, policy, works)
