"""A model in production: what the rows of its periods are compared with, and what is known of each period."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from ninefold import gate, incidents, timestamps
from ninefold.metrics import Evaluation, EvaluationPlan
from ninefold.monitoring import data_quality, stage
from ninefold.monitoring import period as period_rows
from ninefold.monitoring.alerts import broken_columns
from ninefold.monitoring.answers import AT_CLOSE, LATER, STATUS, outcomes, predict_holdout, predictions
from ninefold.monitoring.arrivals import DAYS, Parts, Record, label_counts
from ninefold.monitoring.decision import conclude
from ninefold.monitoring.drift import compare_inputs, compare_predictions, feature_kinds
from ninefold.monitoring.params import Params
from ninefold.monitoring.performance import scores_by_period, scores_of, worse_slices
from ninefold.monitoring.production import service_reports
from ninefold.monitoring.reference import Context, Reference, reference
from ninefold.monitoring.texts import say
from ninefold.problem import Problem, decisions
from ninefold.serving import Bundle


@dataclass(frozen=True)
class Monitor:
    """A model to monitor: its bundle, the parts it was made from, the params of this stage, and the evaluation plan."""

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
        """The holdout with the model's answers, as a period of its own."""
        return predict_holdout(self.parts["holdout"], self.bundle)

    @cached_property
    def baseline(self) -> Record:
        """``figures`` and ``levels`` of the holdout (`performance.scores_of`), and the rows ``per_day`` of training."""
        results, problem = self.bundle.described["holdout"], self.problem
        if not results:  # of a model that the backtest has fitted
            target, predicted = outcomes(self.holdout, problem), predictions(self.holdout, problem)
            results = Evaluation(target, predicted, self.holdout, problem, self.plan).results()
        scores = scores_of(results, self.holdout, problem, self.plan)
        return gate.tidy({**scores, "per_day": stage.rows_per_day(self.parts["train"], problem)})

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
        """Return how far each feature moved per period, the holdout included: `compare_inputs`."""
        return compare_inputs(frame, self.parts, self.bundle, self.params)

    def records(
        self,
        frame: pd.DataFrame,
        volume: pd.DataFrame,
        drift: pd.DataFrame,
        reports: dict[str, Record],
        details: bool = True,
    ) -> list[Record]:
        """Return all that is known of each period as plain values, with its alerts and its decision: ``periods.json``.

        `drift` is of `compare_inputs`, `reports` of `stage.monitoring_reports`; `details`: slices and service, too.
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
            record |= {"closed": span.closed, "days": (span.end - span.start) / stage.DAY, "features": len(moved)}
            record |= {"drifted": dict(zip(drifted["feature"], drifted["psi"], strict=True))}
            record |= {"prediction_psi": outputs["psi"].max(), "predictions_drifted": bool(outputs["drifted"].any())}
            record |= {"figures": {}, "levels": {}, "slices": []}
            for detail in known:
                record |= detail.get(span.period, {})
            table.append(record)
        return stage.apply_rules(gate.tidy(table), self.baseline, self.params, problem)

    def evaluate(self, frame: pd.DataFrame, volume: pd.DataFrame) -> Record:
        """Return the record of one period, without causes, slices and service: what the backtest decides by."""
        drift = compare_inputs(frame, self.parts, self.bundle, self.params, holdout=False)
        reports = stage.monitoring_reports(frame, volume, self.reference, self.params, explain=False)
        return self.records(frame, volume, drift, reports, details=False)[0]

    def what_works(self, table: list[Record], policy: str) -> str:
        """Return what the model is worth on the holdout without the columns with a fault in the last closed period, as a sentence."""
        last, problem, holdout = incidents.last_closed(table), self.problem, self.parts["holdout"]
        if last is None or not (columns := [*broken_columns(last["alerts"])]):
            return ""
        target, empty = outcomes(holdout, problem), pd.DataFrame(np.nan, holdout.index, columns)
        predicted = self.bundle.predict(holdout.drop(columns=columns).join(empty))
        gain = Evaluation(target, predicted, holdout, problem, self.plan).gain(problem.success.level)
        return say("works", last=last, faulty=len(columns), gain=gain, problem=problem, policy=policy)

    def decide(self, records: list[Record], policy: str) -> Record:
        """Return the decision of the last closed period (`conclude`); `policy` is followed where the model is not."""
        return conclude(records, self.plan, self.bundle.version, self.what_works(records, policy), policy)

    def checks(
        self, frame: pd.DataFrame, volume: pd.DataFrame, records: list[Record], decision: Record
    ) -> list[gate.Check]:
        """Return the checks of the gate: `stage.checks`."""
        return stage.checks(frame, volume, records, decision, self.problem)
