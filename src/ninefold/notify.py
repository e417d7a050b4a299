"""How alerts reach people: each incident is told once when it begins, again when it grows worse, and once when it ends.

Reads what stage 09 found; a stage itself sends nothing, so that it can run again and give the same.
Writes, by params, lines of a file, the log, and a webhook; beside the file, in ``alerts.state.json``, what was told.

What is to be told is noted first, and struck off when it was sent: whoever is stopped in between tells it the next time.
So nothing is lost, and nothing told twice, but one thing: what a webhook or the log took just before the process was
killed, before that was noted, goes there again, with the same ``id``. The file has each message exactly once.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ValidationError

from ninefold.core import incidents, io, webhooks
from ninefold.core.errors import DataError
from ninefold.core.incidents import Incident
from ninefold.core.params import Name, Section, Text
from ninefold.core.stages import label
from ninefold.core.webhooks import Webhook

ALERTS = "data/predictions/alerts.jsonl"
REPORTS, ANCHOR = "reports", "raise-the-alerts"  # of the heading in notebook 09 below which the alerts stand
AT_ONCE = 50  # messages in one request
WORDS = {"begun": "alert", "risen": "worse", "resolved": "resolved"}
What: TypeAlias = Literal["begun", "risen", "resolved"]
logger = logging.getLogger("ninefold.alerts")


class Deliver(Section):
    """Where alerts go, and from which severity on."""

    file: Name | None = ALERTS
    log: bool = True
    webhook: Webhook | None = None
    min_severity: Literal["low", "medium", "high"] = "low"
    base_url: Text = REPORTS


class Message(BaseModel):
    """What is told of an incident: a line of the file, and one of ``messages`` in what a webhook is sent.

    Attributes
    ----------
    id : str
        Of this message: who gets it twice sees it here.
    moment : str
        When it was made, UTC.
    state : str
        ``begun``, ``risen`` (more severe than it was told to be) or ``resolved``.
    severity : str
        The highest of the incident so far.
    since, until : str
        The period in which it began, and that in which it was gone.
    decision : str or None
        What stage 09 decided at the close of the last period.
    link : str
        The alerts in the report.
    """

    id: str
    moment: str
    state: What
    alert: str
    subject: str | None
    owner: str | None
    severity: str
    since: str
    until: str | None
    value: float | None
    limit: float | None
    sentence: str
    decision: str | None
    link: str

    def text(self) -> str:
        """Return the message as a line for people."""
        of, end = f" of {self.subject}" if self.subject else "", f", until {self.until}" if self.until else ""
        owner = f"; owner: {self.owner}" if self.owner else ""
        what = f"{self.severity}: {self.alert}{of}, since {self.since}{end}{owner}"
        return f"{WORDS[self.state]}, {what}. {self.sentence} {self.link}".replace("\n", " ")


class Told(BaseModel):
    """An incident that was told: over which periods it was seen, the highest severity told, and whether its end was not yet."""

    alert: str
    subject: str | None
    since: str
    last: str
    severity: str
    open: bool = True

    def is_of(self, incident: Incident) -> bool:
        """Return whether an incident is this one: of the same name and subject, in periods of which both have one."""
        # Late labels may add periods to an incident, or take some away; names of periods are in the order of time.
        same = (self.alert, self.subject) == (incident.alert, incident.subject)
        return same and self.since <= incident.last and incident.since <= self.last


class State(BaseModel):
    """What was told, and what waits to be sent, by channel."""

    told: list[Told] = []
    waiting: dict[str, list[Message]] = {}


def deliver(
    judged: Sequence[dict[str, Any]], params: Deliver, place: Path, now: datetime | None = None
) -> list[Message]:
    """Send what is new in the periods, and what could not be sent before; return what was sent, each message once.

    Two at once: the second waits. A channel that fails is told of in the log, and keeps its messages for the next time.

    Parameters
    ----------
    judged : sequence of dict
        What ``periods.json`` holds.
    params : Deliver
    place : Path
        The file of messages (JSON lines); ``.state.json`` and ``.lock`` of the same name belong to it, also where
        `params` has no file.
    now : datetime, optional
        With a zone.

    Raises
    ------
    DataError
        If what was told cannot be read, or written.
    """
    with _alone(place):
        state = read(place)
        new = _news(state, judged, params, now or datetime.now(UTC))
        channels = _channels(params, place)
        state.waiting = {name: [*state.waiting.get(name, []), *new] for name in channels}
        _write(state, place)
        sent: dict[str, Message] = {}
        for name, send in channels.items():
            while batch := state.waiting[name][:AT_ONCE]:
                if failure := send(batch):
                    logger.warning("alerts: %s; kept for the next time: %d", failure, len(state.waiting[name]))
                    break
                del state.waiting[name][: len(batch)]
                _write(state, place)
                sent |= {message.id: message for message in batch}
    return list(sent.values())


def read(place: Path) -> State:
    """Return what was told so far, and what waits.

    Raises
    ------
    DataError
        If it is damaged.
    """
    file = _state(place)
    try:
        return State.model_validate_json(file.read_bytes()) if file.exists() else State()
    except (OSError, ValidationError) as error:
        first = str(error).partition("\n")[0]
        advice = "mend it, or remove it: then every incident is told once more"
        raise DataError(f"{file}: cannot be read ({first}); {advice}") from None


def payload(messages: Sequence[Message]) -> dict[str, Any]:
    """Return what a webhook is sent: ``version`` 1, ``text`` (a line per message) and the ``messages`` themselves."""
    lines = "\n".join(message.text() for message in messages)
    return {"version": 1, "text": lines, "messages": [message.model_dump() for message in messages]}


def as_text(found: Sequence[Incident], sent: Sequence[Message], waiting: dict[str, int]) -> str:
    """Return what the command says: the open incidents, the worst first, the last that ended, and what was sent."""
    opened = incidents.worst_first(incident for incident in found if incident.until is None)
    ended = [incident for incident in found if incident.until is not None][-5:]
    lines = [f"{len(opened)} open"] + [f"  {_line(incident)}" for incident in opened]
    lines += [f"ended, the last {len(ended)}"] * bool(ended) + [f"  {_line(incident)}" for incident in ended]
    lines += [f"sent {len(sent)} message{'s' * (len(sent) != 1)}"]
    lines += [f"kept for the next time, {name}: {number}" for name, number in waiting.items() if number]
    return "\n".join(lines)


def _line(incident: Incident) -> str:
    of = f" of {incident.subject}" if incident.subject else ""
    end = f" until {incident.until}" if incident.until else ""
    return f"{incident.severity:<6}  {incident.alert}{of}, since {incident.since}{end}: {incident.sentence}"


def _news(state: State, judged: Sequence[dict[str, Any]], params: Deliver, now: datetime) -> list[Message]:
    """Return what is to be told, in the order in which it happened; note it in `state`."""
    news, seen = list[tuple[str, What, Incident]](), dict[int, list[Incident]]()
    for incident in incidents.find(judged):
        told = next((told for told in reversed(state.told) if told.is_of(incident)), None)
        if told is None and incidents.rank(incident.peak) < incidents.rank(params.min_severity):
            continue
        if told is None:
            told = Told(**incident.model_dump(include={"alert", "subject", "since", "last"}), severity=incident.peak)
            state.told.append(told)
            news.append((incident.since, "begun", incident))
        elif not told.open and incident.until is None:  # later labels say that it goes on
            told.open = True
            news.append((incident.since, "begun", incident))
        elif told.open and incidents.rank(incident.peak) > incidents.rank(told.severity):
            news.append((incident.last, "risen", incident))
        told.severity = max(told.severity, incident.peak, key=incidents.rank)
        seen.setdefault(id(told), []).append(incident)
    for told in state.told:
        mine = seen.get(id(told), [])
        if mine:
            told.since, told.last = mine[0].since, mine[-1].last
        if told.open and not any(incident.until is None for incident in mine):
            told.open, end = False, mine[-1] if mine else _gone(told, judged, now)
            news.append((end.until or "", "resolved", end))
    first = str(judged[0].get("period", "")) if judged else ""
    state.told = [told for told in state.told if told.open or told.last >= first]  # others can never be met again
    decision = str(judged[-1].get("decision") or "") if judged else ""
    return [
        _message(what, incident, decision, params, now) for _, what, incident in sorted(news, key=lambda each: each[0])
    ]


def _message(what: What, incident: Incident, decision: str, params: Deliver, now: datetime) -> Message:
    return Message(
        **incident.model_dump(exclude={"severity", "peak", "last"}),
        severity=incident.peak,
        id=secrets.token_hex(8),
        moment=now.astimezone(UTC).isoformat(timespec="seconds"),
        state=what,
        decision=decision or None,
        link=f"{params.base_url.rstrip('/')}/{label('monitoring')}.html#{ANCHOR}",
    )


def _gone(told: Told, judged: Sequence[dict[str, Any]], now: datetime) -> Incident:
    """Return the end of an incident that is in none of the periods any more: another model, or other labels."""
    until = str(judged[-1].get("period", "")) if judged else f"{now:%Y-%m-%d}"
    kept = told.model_dump(include={"alert", "subject", "severity", "since", "last"})
    return Incident(**kept, peak=told.severity, until=until, sentence="It is found in none of the periods any more.")


def _channels(params: Deliver, place: Path) -> dict[str, Callable[[Sequence[Message]], str]]:
    """Return the channels that are on: each sends messages, and returns why it could not, or nothing."""
    found: dict[str, Callable[[Sequence[Message]], str]] = {}
    if params.file is not None:
        found["file"] = lambda messages: _append(messages, place)
    if params.log:
        found["log"] = _log
    webhook = params.webhook
    if webhook is not None:
        found["webhook"] = lambda messages: webhooks.post(payload(messages), webhook)
    return found


def _append(messages: Sequence[Message], place: Path) -> str:
    """Append lines to a file, those that it does not have yet; what a killed process left of a line goes first."""
    try:
        with place.open("ab+") as file:
            file.seek(0)
            whole, _, torn = file.read().rpartition(b"\n")
            if torn:
                file.truncate(len(whole) + 1 if whole else 0)
            last = b"".join(whole.splitlines()[-len(messages) :])
            lines = [message.model_dump_json() + "\n" for message in messages if message.id.encode() not in last]
            file.write("".join(lines).encode())  # one write: the file is buffered
            file.flush()
            os.fsync(file.fileno())
        io.sync(place.parent)
    except OSError as error:
        return f"{place}: cannot be written ({error}); make room, or mend its rights"
    return ""


def _log(messages: Sequence[Message]) -> str:
    for message in messages:
        bad = message.state != "resolved" and message.severity == "high"
        logger.log(logging.ERROR if bad else logging.WARNING, "%s", message.text())
    return ""


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Hold the lock of telling, which dies with the process; wait for it."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = place.with_suffix(".lock").open("w")
    except OSError as error:
        raise DataError(f"{place}: nothing can be written beside it ({error}); mend its rights") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _state(place: Path) -> Path:
    return place.with_suffix(".state.json")


def _write(state: State, place: Path) -> None:
    """Write what was told, whole and on disk, or not at all."""
    file = _state(place)
    temporary = file.with_name(f".{file.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(state.model_dump_json(indent=1) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
        io.sync(file.parent)
    except OSError as error:
        raise DataError(f"{file}: cannot be written ({error}); make room, or mend its rights") from None
