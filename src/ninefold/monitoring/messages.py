"""What there is to tell of incidents: that one has begun, got worse, or ended; and the file that keeps what was told."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, Field, ValidationError

from ninefold import artifacts, incidents
from ninefold.errors import DataError
from ninefold.incidents import Incident

WORDS = {"begun": "alert", "risen": "worse", "resolved": "resolved"}
Event: TypeAlias = Literal["begun", "risen", "resolved"]


class Message(BaseModel):
    """What is told of an incident: a line of the file, and one of ``messages`` in what ``json://`` is sent."""

    id: str = Field(description="of this message: who gets it twice sees it here")
    moment: str = Field(description="when it was made, UTC")
    state: Event
    alert: str
    subject: str | None
    owner: str | None
    severity: str = Field(description="the highest of the incident so far")
    since: str = Field(description="the period in which it began")
    until: str | None = Field(description="the period in which it was gone")
    value: float | None
    limit: float | None
    sentence: str
    decision: str | None = Field(description="of stage 09 at the close of the last period")
    link: str = Field(description="to the alerts in the report")

    def text(self) -> str:
        """Return the message as a line for people."""
        of, end = f" of {self.subject}" if self.subject else "", f", until {self.until}" if self.until else ""
        owner = f"; owner: {self.owner}" if self.owner else ""
        what = f"{self.severity}: {self.alert}{of}, since {self.since}{end}{owner}"
        return f"{WORDS[self.state]}, {what}. {self.sentence} {self.link}".replace("\n", " ")


class Told(BaseModel):
    """An incident that was told: its periods, the highest severity told, and whether its end was not told yet."""

    alert: str
    subject: str | None
    since: str
    last: str
    severity: str
    open: bool = True
    seen: list[Incident] = Field([], exclude=True, description="what it is in the present periods")

    def is_of(self, incident: Incident) -> bool:
        """Return whether an incident is this one: of the same name and subject, in periods of which both have one."""
        # Late labels may add periods to an incident, or take some away; names of periods are in the order of time.
        same = (self.alert, self.subject) == (incident.alert, incident.subject)
        return same and self.since <= incident.last and incident.since <= self.last


class State(BaseModel):
    """What was told, and what waits to be sent, by channel."""

    told: list[Told] = []
    waiting: dict[str, list[Message]] = {}


def read(place: Path) -> State:
    """Return the state beside the file of messages, ``.state.json``; an empty one if there is none.

    Raises
    ------
    DataError
        If it is damaged.
    """
    file = place.with_suffix(".state.json")
    try:
        return State.model_validate_json(file.read_bytes()) if file.exists() else State()
    except (OSError, ValidationError) as error:
        first = str(error).partition("\n")[0]
        advice = "mend it, or remove it: then every incident is told once more"
        raise DataError(f"{file}: cannot be read ({first}); {advice}") from None


def write(state: State, place: Path) -> None:
    """Write the state, whole and on disk, or not at all."""
    artifacts.write_durable(state.model_dump_json(indent=1).encode() + b"\n", place.with_suffix(".state.json"))


def news(state: State, judged: Sequence[Mapping[str, Any]], least: str, link: str, now: datetime) -> list[Message]:
    """Return what is to be told, in the order in which it happened, and note in the state that it is told.

    Parameters
    ----------
    state : State
    judged : sequence of mapping
        What ``periods.json`` holds.
    least : str
        The severity under which no incident is begun to be told.
    link : str
    now : datetime
        With a zone.
    """
    events = list[tuple[str, Event, Incident]]()
    for incident in incidents.find(judged):
        known = next((each for each in reversed(state.told) if each.is_of(incident)), None)
        if known is None and incidents.rank(incident.peak) < incidents.rank(least):
            continue
        if known is None:
            known = Told(**incident.model_dump(include={"alert", "subject", "since", "last"}), severity=incident.peak)
            state.told.append(known)
            events.append((incident.since, "begun", incident))
        elif not known.open and incident.until is None:  # later labels say that it goes on
            known.open = True
            events.append((incident.since, "begun", incident))
        elif known.open and incidents.rank(incident.peak) > incidents.rank(known.severity):
            events.append((incident.last, "risen", incident))
        known.severity = max(known.severity, incident.peak, key=incidents.rank)
        known.seen.append(incident)
    for each in state.told:
        if each.seen:
            each.since, each.last = each.seen[0].since, each.seen[-1].last
        if each.open and all(incident.until for incident in each.seen):
            each.open, end = False, each.seen[-1] if each.seen else _gone(each, judged, now)
            events.append((end.until or "", "resolved", end))
    first = str(judged[0].get("period", "")) if judged else ""
    decision = str(judged[-1].get("decision") or "") if judged else ""
    common = {"moment": now.astimezone(UTC).isoformat(timespec="seconds"), "decision": decision or None, "link": link}
    state.told = [each for each in state.told if each.open or each.last >= first]  # others can never be met again
    return [_message(event, incident, common) for _, event, incident in sorted(events, key=lambda each: each[0])]


def _message(event: Event, incident: Incident, common: Mapping[str, Any]) -> Message:
    fields = incident.model_dump(exclude={"severity", "peak", "last"})
    return Message(**fields, **common, id=secrets.token_hex(8), state=event, severity=incident.peak)


def _gone(told: Told, judged: Sequence[Mapping[str, Any]], now: datetime) -> Incident:
    """Return the end of an incident that is in none of the periods any more: another model, or other labels."""
    until = str(judged[-1].get("period", "")) if judged else f"{now:%Y-%m-%d}"
    kept = told.model_dump(include={"alert", "subject", "severity", "since", "last"})
    return Incident(**kept, peak=told.severity, until=until, sentence="It is found in none of the periods any more.")
