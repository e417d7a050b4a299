"""What alerts in period after period as incidents: each begins once, lasts as long as it alerts, and ends."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from ninefold.sentences import render

rank = ("low", "medium", "high").index  # how severe a severity is, from 0


class Incident(BaseModel):
    """An alert of one name and subject in periods without a gap between them; the alert is that of the last one."""

    alert: str  # the rule
    subject: str | None = None  # the feature concerned; None where it is all of them
    owner: str | None = None  # who has to look at it
    severity: str
    peak: str  # the highest severity of its periods
    since: str  # its first period
    last: str  # its last period so far
    until: str | None = None  # the period in which it was gone; None while it is open
    value: float | None = None
    limit: float | None = None
    sentence: str = ""


def find(periods: Iterable[Mapping[str, Any]]) -> list[Incident]:
    """Return the incidents of periods as ``periods.json`` has them, the earliest first; a period that is not closed ends none."""
    ended: list[Incident] = []
    going: dict[tuple[str, str], Incident] = {}
    for record in periods:
        period, before, going = str(record["period"]), going, {}
        for alert in record.get("alerts") or []:
            incident = Incident(**alert, peak=alert["severity"], since=period, last=period)
            key = (incident.alert, incident.subject or "")
            if earlier := before.pop(key, None):
                incident.since, incident.peak = earlier.since, max(earlier.peak, incident.severity, key=rank)
            going[key] = incident
        if not record.get("closed", True):
            going = before | going
            continue
        ended += [incident.model_copy(update={"until": period}) for incident in before.values()]
    return sorted([*ended, *going.values()], key=lambda each: (each.since, each.alert, each.subject or ""))


def last_closed(periods: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the last period that is closed, whose decision counts; None if there is none."""
    return next((record for record in reversed(periods) if record.get("closed", True)), None)


def worst_first(incidents: Iterable[Incident]) -> list[Incident]:
    """Return incidents by severity, the highest first; those of one severity stay in their order."""
    return sorted(incidents, key=lambda incident: -rank(incident.severity))


def as_text(incidents: Sequence[Incident]) -> str:
    """Return the open incidents, the worst first, and the last five that ended, a line each."""
    opened = worst_first(incident for incident in incidents if incident.until is None)
    ended = [incident for incident in incidents if incident.until is not None][-5:]
    return render("spine", "incidents", opened=opened, ended=ended)
