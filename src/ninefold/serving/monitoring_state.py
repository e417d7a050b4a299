"""The last decision of stage 09, as a running service shows it: on its review page, and to Prometheus."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector as Base

from ninefold import incidents
from ninefold.errors import ParamsError
from ninefold.incidents import Incident
from ninefold.params import root

DECISION, REPORT = "data/monitoring/decision.json", "reports/09_monitoring.html"
DECISIONS = ("keep", "retrain", "roll back", "stop acting")
TRIES = 3  # a run replaces the folder


class MonitoringState(NamedTuple):
    """The decision at the close of the last period, and on which model; or why it cannot be read.

    `written` is the time of the file, in seconds since 1970; `open` holds the open incidents, the worst first.
    """

    decision: str = ""
    period: str = ""
    model: str = ""
    written: float = 0.0
    open: tuple[Incident, ...] = ()
    failure: str = ""

    def __str__(self) -> str:
        """Return the state in one line."""
        if self.failure:
            return self.failure
        alerts = f"{len(self.open)} open alert{'s' if len(self.open) != 1 else ''}"
        when = f", {alerts}, at the close of {self.period}" if self.period else ""
        return f"{self.decision}{when}; see {REPORT}"


def read() -> MonitoringState | None:
    """Return the state of the project that the service runs in; None without a project, or before it was monitored."""
    try:
        place = root() / DECISION
    except ParamsError:
        return None
    for _ in range(TRIES):
        try:
            written, report = place.stat().st_mtime, json.loads(place.read_text(encoding="utf-8"))
            periods = report["periods"]
            worst = incidents.worst_first([each for each in incidents.find(periods) if each.until is None])
            last = str(periods[-1]["period"]) if periods else ""
            return MonitoringState(report["decision"], last, report["model"], written, tuple(worst))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:  # no JSON, or of another shape
            return MonitoringState(failure=f"{DECISION}: cannot be read ({error}); run `dvc repro monitoring`")
    return None


class Collector(Base):
    """Yields the monitoring state to Prometheus; nothing before the project was monitored.

    ``ninefold_alert{alert, subject, severity}`` is 1 while the incident is open, else absent. ``ninefold_decision{decision}``
    is 1 for the decision at the close of the last period, 0 for the others.
    """

    def collect(self) -> Iterator[Metric]:
        """Yield the samples."""
        labels, state = ["alert", "subject", "severity"], read()
        alert = GaugeMetricFamily("ninefold_alert", "1 while the alert of monitoring is open.", labels=labels)
        decision = GaugeMetricFamily("ninefold_decision", "1 for the decision of monitoring.", labels=["decision"])
        info = InfoMetricFamily("ninefold_monitoring", "The last period that was monitored, and the model.", labels=[])
        written = GaugeMetricFamily("ninefold_monitoring_timestamp_seconds", "When monitoring ran last.", labels=[])
        readable = GaugeMetricFamily("ninefold_monitoring_readable", "0 if the decision cannot be read.", labels=[])
        if state and not state.failure:
            for incident in state.open:
                alert.add_metric([incident.alert, incident.subject or "", incident.severity], 1)
            for name in dict.fromkeys([*DECISIONS, state.decision]):
                decision.add_metric([name], float(name == state.decision))
            info.add_metric([], {"period": state.period, "model": state.model})
            written.add_metric([], state.written)
        if state:
            readable.add_metric([], float(not state.failure))
        yield from (alert, decision, info, written, readable)
