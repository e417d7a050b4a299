"""What stage 09 found last, as a running service tells it: at its desk, and to Prometheus."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from ninefold.core import incidents
from ninefold.core.errors import ParamsError
from ninefold.core.incidents import Incident
from ninefold.core.params import root

DECISION, REPORT = "data/monitoring/decision.json", "reports/09_monitoring.html"
DECISIONS = ("keep", "retrain", "roll back", "stop acting")
TRIES = 3  # while a run puts a new folder in the place of the old


class Findings(NamedTuple):
    """What was decided at the close of which period, on which model; or why that cannot be read.

    `written` is the time of the file, in seconds since 1970; `open` the incidents that have not ended, the worst first.
    """

    decision: str = ""
    period: str = ""
    model: str = ""
    written: float = 0.0
    open: tuple[Incident, ...] = ()
    failure: str = ""

    def __str__(self) -> str:
        """Return it in a line."""
        if self.failure:
            return self.failure
        alerts = f"{len(self.open)} open alert{'s' if len(self.open) != 1 else ''}"
        when = f", {alerts}, at the close of {self.period}" if self.period else ""
        return f"{self.decision}{when}; see {REPORT}"


def read() -> Findings | None:
    """Return what was found in the project that the service runs in; None if it runs in none, or nothing was monitored."""
    try:
        place = root() / DECISION
    except ParamsError:
        return None
    for _ in range(TRIES):
        try:
            written, found = place.stat().st_mtime, json.loads(place.read_text(encoding="utf-8"))
            periods = found["periods"]
            going = [incident for incident in incidents.find(periods) if incident.until is None]
            last = str(periods[-1]["period"]) if periods else ""
            worst = tuple(incidents.worst_first(going))
            return Findings(found["decision"], last, found["model"], written, worst)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:  # no JSON, or of another shape
            return Findings(failure=f"{DECISION}: cannot be read ({error}); run `dvc repro monitoring`")
    return None


class Alerts(Collector):
    """What Prometheus reads of the findings, as they stand now; nothing where nothing was monitored.

    ``ninefold_alert{alert, subject, severity}`` is 1 while the incident is open, and gone after. ``ninefold_decision{decision}``
    is 1 for the one at the close of the last period, 0 for the others.
    """

    def collect(self) -> Iterator[Metric]:
        """Yield the samples."""
        labels, found = ["alert", "subject", "severity"], read()
        alert = GaugeMetricFamily("ninefold_alert", "1 while the alert of monitoring is open.", labels=labels)
        decision = GaugeMetricFamily("ninefold_decision", "1 for the decision of monitoring.", labels=["decision"])
        info = InfoMetricFamily("ninefold_monitoring", "The last period that was monitored, and the model.", labels=[])
        written = GaugeMetricFamily("ninefold_monitoring_timestamp_seconds", "When monitoring ran last.", labels=[])
        readable = GaugeMetricFamily("ninefold_monitoring_readable", "0 if what was found cannot be read.", labels=[])
        if found and not found.failure:
            for incident in found.open:
                alert.add_metric([incident.alert, incident.subject or "", incident.severity], 1)
            for name in dict.fromkeys([*DECISIONS, found.decision]):
                decision.add_metric([name], float(name == found.decision))
            info.add_metric([], {"period": found.period, "model": found.model})
            written.add_metric([], found.written)
        if found:
            readable.add_metric([], float(not found.failure))
        yield from (alert, decision, info, written, readable)
