"""What alerts in period after period as incidents: each begins once, lasts as long as it alerts, and ends."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, Field

SEVERITIES = ("low", "medium", "high")


class Incident(BaseModel):
    """An alert of one name and subject in periods without a gap between them."""

    alert: str = Field(description="the rule that alerts")
    subject: str | None = Field(None, description="the feature, slice or route concerned; null where it is all of them")
    owner: str | None = Field(None, description="who has to look at it")
    severity: str = Field(description="in the last of its periods: low, medium or high")
    peak: str = Field(description="the highest severity of its periods")
    since: str = Field(description="its first period")
    last: str = Field(description="its last period so far")
    until: str | None = Field(None, description="the period in which it was gone; null while it is open")
    value: float | None = Field(None, description="what was found in its last period")
    limit: float | None = Field(None, description="from which on it alerts")
    sentence: str = Field("", description="what was found, in words")


def find(judged: Iterable[Mapping[str, Any]]) -> list[Incident]:
    """Return the incidents of periods as ``periods.json`` has them, in order: the earliest first; those still open have no end.

    Keys that are absent are not known, others are ignored. Of alerts of one name and subject in one period the most
    severe counts.
    """
    done: list[Incident] = []
    going: dict[tuple[str, str], Incident] = {}
    for record in judged:
        period, before, going = str(record.get("period", "")), going, {}
        for alert in record.get("alerts") or []:
            now = _incident(alert, period)
            key, twin = (now.alert, now.subject or ""), going.get((now.alert, now.subject or ""))
            if twin is None or rank(now.severity) > rank(twin.severity):
                going[key] = _continued(before[key], now) if key in before else now
        done += [incident.model_copy(update={"until": period}) for key, incident in before.items() if key not in going]
    return sorted(
        [*done, *going.values()], key=lambda incident: (incident.since, incident.alert, incident.subject or "")
    )


def worst_first(found: Iterable[Incident]) -> list[Incident]:
    """Return incidents by severity, the highest first, then by their beginning."""
    return sorted(
        found, key=lambda incident: (-rank(incident.severity), incident.since, incident.alert, incident.subject or "")
    )


def as_text(found: Sequence[Incident]) -> str:
    """Return the open incidents, the worst first, and the last five that ended, a line each."""
    opened = worst_first(incident for incident in found if incident.until is None)
    ended = [incident for incident in found if incident.until is not None][-5:]
    lines = [f"{len(opened)} open"] + [f"  {_line(incident)}" for incident in opened]
    return "\n".join(lines + [f"ended, the last {len(ended)}"] * bool(ended) + [f"  {_line(each)}" for each in ended])


def rank(severity: str) -> int:
    """Return how severe a severity is: -1 if it is none that is known."""
    return SEVERITIES.index(severity) if severity in SEVERITIES else -1


def finite(value: Any) -> float | None:
    """Return a value as a number; None if it is none, or not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _incident(alert: Mapping[str, Any], period: str) -> Incident:
    severity = str(alert.get("severity") or "medium")
    return Incident(
        alert=str(alert.get("alert") or "alert"),
        subject=_text(alert.get("subject")),
        owner=_text(alert.get("owner")),
        severity=severity,
        peak=severity,
        since=period,
        last=period,
        value=finite(alert.get("value")),
        limit=finite(alert.get("limit")),
        sentence=str(alert.get("sentence") or ""),
    )


def _continued(before: Incident, now: Incident) -> Incident:
    peak = max(before.peak, now.severity, key=rank)
    return now.model_copy(update={"since": before.since, "peak": peak})


def _line(incident: Incident) -> str:
    of = f" of {incident.subject}" if incident.subject else ""
    end = f" until {incident.until}" if incident.until else ""
    return f"{incident.severity:<6}  {incident.alert}{of}, since {incident.since}{end}: {incident.sentence}"


def _text(value: Any) -> str | None:
    return str(value) if value not in (None, "") else None
