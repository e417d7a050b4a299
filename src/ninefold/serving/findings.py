"""What stage 09 found last, as a running service reads it: for its page, and for Prometheus."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ninefold.core import incidents
from ninefold.core.errors import ParamsError
from ninefold.core.incidents import Incident
from ninefold.core.params import root

MONITORING = "data/monitoring"
PERIODS, DECISION = "periods.json", "decision.json"
DECISIONS = ("keep", "retrain", "roll back", "stop acting")
TRIES = 3  # while a run puts a new folder in the place of the old


class Findings(NamedTuple):
    """The records of the periods, the decision, the incidents among the alerts; and why the files cannot be read, if so."""

    periods: list[dict[str, Any]]
    decision: dict[str, Any]
    incidents: list[Incident]
    failure: str = ""

    @property
    def open(self) -> list[Incident]:
        """The incidents that have not ended, the worst first."""
        return incidents.worst_first(incident for incident in self.incidents if incident.until is None)


class Folder:
    """The folder of monitoring, read again when it changes.

    Parameters
    ----------
    place : Path, optional
        None: that of the project that the service runs in, if it runs in one.
    """

    def __init__(self, place: Path | None = None) -> None:
        self.place = place
        self._reading = threading.Lock()
        self._stamp: tuple[tuple[int, int, int], ...] = ()
        self._found: Findings | None = None

    def now(self) -> Findings | None:
        """Return what stands there; None if nothing does. What cannot be read leaves what was read before, and says so."""
        place = self.place or _project()
        with self._reading:
            for _ in range(TRIES):
                try:
                    return self._read(place) if place else None
                except FileNotFoundError:
                    continue
                except (OSError, ValueError, TypeError, AttributeError) as error:  # no JSON, or of another shape
                    before = self._found or Findings([], {}, [])
                    return before._replace(failure=f"{place}: cannot be read ({error}); run `dvc repro monitoring`")
            self._stamp, self._found = (), None
            return None

    def _read(self, place: Path) -> Findings:
        folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        try:  # by the folder's own handle: both files are of one run, though the next may replace the folder meanwhile
            found = tuple(os.stat(name, dir_fd=folder) for name in (PERIODS, DECISION))
            stamp = tuple((each.st_mtime_ns, each.st_size, each.st_ino) for each in found)
            if self._found is None or stamp != self._stamp:
                periods, decision = (_json(name, folder) for name in (PERIODS, DECISION))
                self._found = Findings(list(map(dict, periods)), dict(decision), incidents.find(periods))
                self._stamp = stamp
            return self._found
        finally:
            os.close(folder)


class Alerts(Collector):
    """What Prometheus reads of the findings: ``ninefold_alert``, ``ninefold_decision`` and ``ninefold_monitoring_readable``.

    ``ninefold_alert{alert, subject, severity}`` is 1 while the incident is open, and gone after. ``ninefold_decision{decision}``
    is 1 for the one at the close of the last period, 0 for the others. Register it: ``registry.register(Alerts(folder))``.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Yield the names alone: nothing is read when it is registered."""
        return iter(_families())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the samples, as the folder stands now; none of alerts and decisions where nothing was monitored."""
        found = self.folder.now()
        alert, decision, readable = _families()
        for incident in found.open if found else []:
            alert.add_metric([incident.alert, incident.subject or "", incident.severity], 1)
        decided = str(found.decision.get("decision") or "") if found else ""
        for name in dict.fromkeys([*DECISIONS, decided]) if decided else ():
            decision.add_metric([name], float(name == decided))
        if found:
            readable.add_metric([], float(not found.failure))
        yield from (alert, decision, readable)


def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily, GaugeMetricFamily]:
    labels = ["alert", "subject", "severity"]
    return (
        GaugeMetricFamily("ninefold_alert", "1 while the alert of monitoring is open.", labels=labels),
        GaugeMetricFamily("ninefold_decision", "1 for the decision of monitoring.", labels=["decision"]),
        GaugeMetricFamily("ninefold_monitoring_readable", "0 if what monitoring found cannot be read.", labels=[]),
    )


def _project() -> Path | None:
    with suppress(ParamsError):
        return root() / MONITORING
    return None


def _json(name: str, folder: int) -> Any:
    with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=folder), encoding="utf-8") as file:
        return json.load(file)
