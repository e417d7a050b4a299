"""Notify people of alerts: each incident once when it begins, again when it gets worse, and once when it ends.

Stage 09 itself sends nothing, so that it can run again. ``alerts.state.json`` beside the file of messages holds what was sent and
what waits: a message is noted there before it is sent, and removed after. So none is lost, and the file has each once; elsewhere
one that was sent just before the process was killed comes again, with the same ``id``.
"""

import logging
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from ninefold import artifacts, incidents
from ninefold.errors import DataError, ParamsError
from ninefold.incidents import Incident, rank
from ninefold.monitoring.texts import say
from ninefold.params import Name, Section, Text
from ninefold.stages import label

ALERTS = "data/predictions/alerts.jsonl"
REPORTS, ANCHOR = "reports", "alerts"  # of the heading in notebook 09 below which the alerts stand
AT_ONCE = 20  # messages in one notification
TRIES, PAUSE = 3, 1.0  # seconds before the second try; twice as long before each further one
GONE = "It is found in none of the periods any more."  # of another model, or by other labels
WORDS = {"begun": "alert", "risen": "worse", "resolved": "resolved"}
Event: TypeAlias = Literal["begun", "risen", "resolved"]
logger = logging.getLogger("ninefold.monitoring.alerts")


def _variable(name: str) -> str:
    if name.isidentifier():
        return name
    raise ParamsError(say("no_variable"))  # which does not show what was found: it may be a secret


class Deliver(Section):
    """Where alerts go, and from which severity on; `notify` names environment variables, each with an Apprise URL."""

    file: Name | None = ALERTS
    log: bool = True
    notify: list[Annotated[str, AfterValidator(_variable)]] | None = None
    min_severity: Literal["low", "medium", "high"] = "low"
    base_url: Text = REPORTS


class Message(Incident):
    """What is sent of an incident: a line of the file, and one of ``messages`` in what ``json://`` is sent."""

    id: str  # the same where a message comes twice
    moment: str  # UTC
    state: Event
    peak: str = Field("", exclude=True)  # it is the severity here
    last: str = Field("", exclude=True)
    decision: str | None  # of stage 09 at the close of the last closed period
    link: str  # to the alerts in the report

    def text(self) -> str:
        """Return the message as a line for people."""
        return say("message", message=self, word=WORDS[self.state]).replace("\n", " ")


class Told(BaseModel):
    """An incident that was sent; `severity` is the highest that was sent, `current` its incidents in the present periods."""

    alert: str
    subject: str | None
    since: str
    last: str
    severity: str
    open: bool = True
    current: list[Incident] = Field([], exclude=True)

    def is_of(self, incident: Incident) -> bool:
        """Return whether an incident is this one: both have a period in common, since late labels may change its ends."""
        same = (self.alert, self.subject) == (incident.alert, incident.subject)
        return same and self.since <= incident.last and incident.since <= self.last


class State(BaseModel):
    """What was sent, and what waits to be sent, by channel."""

    told: list[Told] = []
    waiting: dict[str, list[Message]] = {}


def deliver(
    periods: Sequence[dict[str, Any]], params: Deliver, place: Path, now: datetime | None = None
) -> list[Message]:
    """Send what is new in `periods` (of ``periods.json``), and what could not be sent before; return each message sent once.

    Two at once: the second waits. A channel that fails is named in the log, and keeps its messages for the next time.
    `place` is the file of messages (JSON lines); ``.state.json`` and ``.lock`` of the same name belong to it, also where
    `params` has no file. `now` has a zone. DataError is raised if the state cannot be read, or written.
    """
    channels: dict[str, Callable[[Sequence[Message]], str]] = {"file": partial(_append, place)} if params.file else {}
    channels |= {"log": _log} if params.log else {}
    channels |= {name: partial(_send, name) for name in params.notify or []}
    link, sent = f"{params.base_url.rstrip('/')}/{label('monitoring')}.html#{ANCHOR}", dict[str, Message]()
    try:
        with artifacts.alone(place.with_suffix(".lock"), "", wait=True):
            state = read(place)
            new = news(state, periods, params.min_severity, link, now or datetime.now(UTC))
            state.waiting = {name: [*state.waiting.get(name, []), *new] for name in channels}
            _write(state, place)
            for name, send in channels.items():
                while batch := state.waiting[name][:AT_ONCE]:
                    if failure := send(batch):
                        logger.warning("alerts: %s; kept for the next time: %d", failure, len(state.waiting[name]))
                        break
                    del state.waiting[name][: len(batch)]
                    _write(state, place)
                    sent |= {message.id: message for message in batch}
    except OSError as error:
        raise DataError(f"{place}: nothing can be written beside it ({error}); make room, or fix its rights") from None
    return list(sent.values())


def read(place: Path) -> State:
    """Return the state beside the file of messages; an empty one if there is none; raise DataError if it is damaged."""
    file = place.with_suffix(".state.json")
    try:
        return State.model_validate_json(file.read_bytes()) if file.exists() else State()
    except (OSError, ValidationError) as error:
        raise DataError(say("damaged_state", file=file, error=str(error).partition("\n")[0])) from None


def _write(state: State, place: Path) -> None:
    artifacts.write_durable(state.model_dump_json(indent=1).encode() + b"\n", place.with_suffix(".state.json"))


def news(state: State, periods: Sequence[Mapping[str, Any]], least: str, link: str, now: datetime) -> list[Message]:
    """Return what is to be sent, in the order in which it happened, from severity `least` on, and note it in the state."""
    events = list[tuple[str, Event, Incident]]()
    for incident in incidents.find(periods):
        known = next((each for each in reversed(state.told) if each.is_of(incident)), None)
        if known is None:
            if rank(incident.peak) < rank(least):
                continue
            known = Told(**incident.model_dump(exclude={"severity"}), severity=incident.peak)
            state.told.append(known)
            events.append((incident.since, "begun", incident))
        elif not known.open and incident.until is None:  # later labels say that it goes on
            known.open = True
            events.append((incident.since, "begun", incident))
        elif known.open and rank(incident.peak) > rank(known.severity):
            events.append((incident.last, "risen", incident))
        known.severity = max(known.severity, incident.peak, key=rank)
        known.current.append(incident)
    first, end = (str(periods[at]["period"]) for at in (0, -1)) if periods else ("", f"{now:%Y-%m-%d}")
    for each in state.told:
        if each.current:
            each.since, each.last = each.current[0].since, each.current[-1].last
        if each.open and all(incident.until for incident in each.current):
            ended = Incident(**each.model_dump(), peak=each.severity, until=end, sentence=GONE)
            each.open, over = False, each.current[-1] if each.current else ended
            events.append((over.until or "", "resolved", over))
    state.told = [each for each in state.told if each.open or each.last >= first]  # others can never be met again
    decision = (incidents.last_closed(periods) or {}).get("decision")
    common = {"moment": now.astimezone(UTC).isoformat(timespec="seconds"), "decision": decision, "link": link}
    return [
        Message(**(one.model_dump() | common | {"severity": one.peak}), id=secrets.token_hex(8), state=event)
        for _, event, one in sorted(events, key=itemgetter(0))
    ]


def as_text(alerts: Sequence[Incident], sent: Sequence[Message], waiting: dict[str, int]) -> str:
    """Return what the command says: the incidents, and what was sent and is kept."""
    waits = [f"kept for the next time, {name}: {number}" for name, number in waiting.items() if number]
    return "\n".join([incidents.as_text(alerts), f"sent {len(sent)} message{'s' * (len(sent) != 1)}", *waits])


def _append(place: Path, batch: Sequence[Message]) -> str:
    """Append the lines that the file lacks; what a killed process left of a line goes first; return why not, or nothing."""
    try:
        with artifacts.private(place, "ab+") as file:
            file.seek(0)
            whole = file.read().rpartition(b"\n")
            file.truncate(len(whole[0] + whole[1]))
            last = b"".join(whole[0].splitlines()[-len(batch) :])
            lines = [message.model_dump_json() + "\n" for message in batch if message.id.encode() not in last]
            file.write("".join(lines).encode())  # one write: the file is buffered
        artifacts.sync(place)
        artifacts.sync(place.parent)
    except OSError as error:
        return f"{place}: cannot be written ({error}); make room, or fix its rights"
    return ""


def _log(batch: Sequence[Message]) -> str:
    for message in batch:
        is_bad = message.state != "resolved" and message.severity == "high"
        logger.log(logging.ERROR if is_bad else logging.WARNING, "%s", message.text())
    return ""


def _send(name: str, batch: Sequence[Message]) -> str:
    """Send messages to the Apprise URL in an environment variable; return why not, or nothing; never the URL."""
    from apprise import Apprise, AppriseAsset
    from apprise.plugins.custom_json import NotifyJSON
    from tenacity import Retrying, retry_if_not_result, stop_after_attempt, wait_exponential

    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # it and urllib3 may log parts of the URL
    logging.getLogger("urllib3").setLevel(logging.WARNING)
    if not (url := os.environ.get(name)):
        return f"{name} is not set; set it to an Apprise URL, or take it out of monitoring.deliver.notify"
    channel = Apprise(asset=AppriseAsset(app_id="Ninefold"))
    if not channel.add(url) or len(channel) != 1:
        return f"{name}: expected one Apprise URL, such as jsons://host/path; see https://appriseit.com"
    for service in channel:
        if isinstance(service, NotifyJSON):  # read by programs
            service.payload_extras["messages"] = [message.model_dump() for message in batch]
    worst = max((message.severity for message in batch), key=rank)
    over = all(message.state == "resolved" for message in batch)
    pauses: dict[str, Any] = {"stop": stop_after_attempt(TRIES), "wait": wait_exponential(PAUSE)}
    tries = Retrying(**pauses, retry=retry_if_not_result(bool), retry_error_callback=lambda _: False)
    sent = tries(
        channel.notify,
        title=f"{len(batch)} alert{'s' * (len(batch) > 1)}, {'resolved' if over else f'severity up to {worst}'}",
        body="\n".join(message.text() for message in batch),
        notify_type="success" if over else "failure" if worst == "high" else "warning",
        body_format="text",
    )
    return "" if sent else f'{name}: Apprise could not send it; `apprise -vv -b test "${name}"` says why'
