"""The last decision of stage 09, as a running service shows it: on its review page, and to Prometheus."""

import json
from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.core import InfoMetricFamily, Metric
from prometheus_client.registry import Collector as Base

from ninefold import artifacts, incidents
from ninefold.incidents import Incident
from ninefold.params import in_project

DECISION, REPORT = "data/monitoring/decision.json", "reports/09_monitoring.html"
DECISIONS = ("keep", "retrain", "repair", "roll back", "stop acting")
TRIES = 3  # a run replaces the folder


class MonitoringState(NamedTuple):
    """The decision at the close of the last period, and on which model; or why it cannot be read."""

    decision: str = ""
    period: str = ""
    model: str = ""
    written: float = 0.0  # the time of the file, in seconds since 1970
    open: tuple[Incident, ...] = ()  # the worst first
    failure: str = ""

    def __str__(self) -> str:
        when = f", open alerts: {len(self.open)}, at the close of {self.period}" if self.period else ""
        return self.failure or f"{self.decision}{when}; see {REPORT}"


def read() -> MonitoringState | None:
    """Return the state of the project that the service runs in; None without a project, or before it was monitored."""
    if not in_project():
        return None
    for _ in range(TRIES):
        try:
            place = artifacts.path(DECISION)
            written, report = place.stat().st_mtime, json.loads(place.read_text(encoding="utf-8"))
            periods = report["periods"]
            worst = incidents.worst_first([each for each in incidents.find(periods) if each.until is None])
            last = str((incidents.last_closed(periods) or {"period": ""})["period"])
            return MonitoringState(report["decision"], last, report["model"], written, tuple(worst))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:  # no JSON, or of another shape
            return MonitoringState(failure=f"{DECISION}: cannot be read ({error}); run `dvc repro monitoring`")
    return None


class Collector(Base):
    """Yields the monitoring state to Prometheus; nothing before the project was monitored."""

    def collect(self) -> Iterator[Metric]:
        """Yield 1 for each open alert, 1 for the decision and 0 for the others, the period, and when it was written."""
        labels = ["alert", "subject", "severity"]
        alerts = Gauge("ninefold_alert", "1 while the alert of monitoring is open.", labels=labels)
        decisions = Gauge("ninefold_decision", "1 for the decision of monitoring.", labels=["decision"])
        info = InfoMetricFamily("ninefold_monitoring", "The last period that was monitored, and the model.", labels=[])
        written = Gauge("ninefold_monitoring_timestamp_seconds", "When monitoring ran last.", labels=[])
        readable = Gauge("ninefold_monitoring_readable", "0 if the decision cannot be read.", labels=[])
        if state := read():
            readable.add_metric([], float(not state.failure))
            if not state.failure:
                for incident in state.open:
                    alerts.add_metric([incident.alert, incident.subject or "", incident.severity], 1)
                for name in dict.fromkeys([*DECISIONS, state.decision]):
                    decisions.add_metric([name], float(name == state.decision))
                info.add_metric([], {"period": state.period, "model": state.model})
                written.add_metric([], state.written)
        yield from (alerts, decisions, info, written, readable)
