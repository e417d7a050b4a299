"""Tell people of alerts: each incident once when it begins, again when it gets worse, and once when it ends.

Stage 09 itself sends nothing, so that it can run again and give the same. `deliver` reads what it found, and tells it to a
file, the log and, by Apprise, to mail and chats. ``alerts.state.json`` beside the file holds what was told and what waits: a
message is noted there before it is sent, and struck off after. So none is lost, and the file has each once; elsewhere one that
was sent just before the process was killed comes again, with the same ``id``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from ninefold import artifacts, incidents
from ninefold.errors import DataError, ParamsError
from ninefold.incidents import Incident
from ninefold.monitoring import messages
from ninefold.monitoring.messages import Message
from ninefold.params import Name, Section, Text
from ninefold.stages import label

ALERTS = "data/predictions/alerts.jsonl"
REPORTS, ANCHOR = "reports", "raise-the-alerts"  # of the heading in notebook 09 below which the alerts stand
AT_ONCE = 20  # messages in one notification
TRIES, PAUSE = 3, 1.0  # seconds before the second try; twice as long before each further one
logger = logging.getLogger("ninefold.monitoring.alerts")


def _variable(name: str) -> str:
    if name.isidentifier():
        return name
    advice = "put the Apprise URL into an environment variable, and name that, such as NINEFOLD_NOTIFY"
    raise ParamsError(
        f"params.yaml: monitoring.deliver.notify: found no name of a variable; {advice}"
    )  # nor what it is


class Deliver(Section):
    """Where alerts go, and from which severity on; `notify` names environment variables, each with an Apprise URL."""

    file: Name | None = ALERTS
    log: bool = True
    notify: list[Annotated[str, AfterValidator(_variable)]] | None = None
    min_severity: Literal["low", "medium", "high"] = "low"
    base_url: Text = REPORTS


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
    channels: dict[str, Callable[[Sequence[Message]], str]] = {}
    channels |= {"file": partial(_append, place)} if params.file is not None else {}
    channels |= {"log": _log} if params.log else {}
    channels |= {name: partial(_send, name) for name in params.notify or []}
    link, sent = f"{params.base_url.rstrip('/')}/{label('monitoring')}.html#{ANCHOR}", dict[str, Message]()
    try:
        with artifacts.alone(place.with_suffix(".lock"), "", wait=True):
            state = messages.read(place)
            new = messages.news(state, judged, params.min_severity, link, now or datetime.now(UTC))
            state.waiting = {name: [*state.waiting.get(name, []), *new] for name in channels}
            messages.write(state, place)
            for name, send in channels.items():
                while batch := state.waiting[name][:AT_ONCE]:
                    if failure := send(batch):
                        logger.warning("alerts: %s; kept for the next time: %d", failure, len(state.waiting[name]))
                        break
                    del state.waiting[name][: len(batch)]
                    messages.write(state, place)
                    sent |= {message.id: message for message in batch}
    except OSError as error:
        raise DataError(f"{place}: nothing can be written beside it ({error}); make room, or mend its rights") from None
    return list(sent.values())


def as_text(found: Sequence[Incident], sent: Sequence[Message], waiting: dict[str, int]) -> str:
    """Return what the command says: the incidents, and what was sent and is kept."""
    lines = [incidents.as_text(found), f"sent {len(sent)} message{'s' * (len(sent) != 1)}"]
    return "\n".join(
        lines + [f"kept for the next time, {name}: {number}" for name, number in waiting.items() if number]
    )


def _append(place: Path, batch: Sequence[Message]) -> str:
    """Append the lines that a file does not have yet; what a killed process left of a line goes first."""
    try:
        with place.open("ab+") as file:
            file.seek(0)
            whole = file.read().rpartition(b"\n")
            file.truncate(len(whole[0] + whole[1]))
            last = b"".join(whole[0].splitlines()[-len(batch) :])
            lines = [message.model_dump_json() + "\n" for message in batch if message.id.encode() not in last]
            file.write("".join(lines).encode())  # one write: the file is buffered
        artifacts.sync(place)
        artifacts.sync(place.parent)
    except OSError as error:
        return f"{place}: cannot be written ({error}); make room, or mend its rights"
    return ""


def _log(batch: Sequence[Message]) -> str:
    for message in batch:
        bad = message.state != "resolved" and message.severity == "high"
        logger.log(logging.ERROR if bad else logging.WARNING, "%s", message.text())
    return ""


def _send(name: str, batch: Sequence[Message]) -> str:
    """Send messages to the Apprise URL in an environment variable; return why not, or nothing. Nobody is told the URL."""
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
    worst = incidents.SEVERITIES[max(incidents.rank(message.severity) for message in batch)]
    over = all(message.state == "resolved" for message in batch)
    tries = Retrying(
        stop=stop_after_attempt(TRIES),
        wait=wait_exponential(PAUSE),
        retry=retry_if_not_result(bool),
        retry_error_callback=lambda _: False,
    )
    sent = tries(
        channel.notify,
        title=f"{len(batch)} alert{'s' * (len(batch) > 1)}, {'resolved' if over else f'severity up to {worst}'}",
        body="\n".join(message.text() for message in batch),
        notify_type="success" if over else "failure" if worst == "high" else "warning",
        body_format="text",
    )
    return "" if sent else f'{name}: Apprise could not send it; `apprise -vv -b test "${name}"` says why'
