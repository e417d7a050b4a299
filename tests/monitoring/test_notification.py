"""Alerts reach people: told once, again when worse, once when over; nothing is lost, and no secret is told."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import Project
from typer.testing import CliRunner

from ninefold import artifacts, cli, incidents
from ninefold.errors import DataError, ParamsError
from ninefold.monitoring import messages, notification
from ninefold.monitoring import stage as monitoring
from ninefold.monitoring.notification import Deliver

NOW = datetime(2020, 3, 1, 12, tzinfo=UTC)
FILE = Deliver(log=False)


def alert(name: str = "error", severity: str = "medium", **more: Any) -> dict[str, Any]:
    return {"alert": name, "severity": severity, "value": 0.2, "limit": 0.1, "sentence": f"The {name} is up.", **more}


def period(name: str, *alerts: dict[str, Any], decision: str = "keep") -> dict[str, Any]:
    return {"period": name, "alerts": list(alerts), "decision": decision}


def lines(place: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in place.read_text().splitlines()] if place.exists() else []


def states(messages: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(each["state"], each["alert"], each["severity"]) for each in messages]


class Hook:
    """A service on this machine that Apprise sends JSON to; it answers as it is told and keeps what it took."""

    def __init__(self) -> None:
        self.answers: list[int] = []  # for the next requests; 200 after
        self.asked: list[dict[str, Any]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status = hook.answers.pop(0) if hook.answers else 200
                hook.asked.append({"status": status, "path": self.path, **body})
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://127.0.0.1:{self.server.server_port}/hooks/S3CRET?-key=T0KEN"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def taken(self) -> list[dict[str, Any]]:
        return [message for each in self.asked if each["status"] == 200 for message in each["messages"]]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "predictions/alerts.jsonl"


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    monkeypatch.setattr(notification, "PAUSE", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    started = Hook()
    monkeypatch.setenv("NINEFOLD_NOTIFY", started.url)
    yield started
    started.close()


BY_HOOK = Deliver(log=False, notify=["NINEFOLD_NOTIFY"])


def test_an_event_is_told_when_it_begins_grows_worse_and_ends(place: Path) -> None:
    story = [
        period("2020-01"),
        period("2020-02", alert()),
        period("2020-03", alert()),
        period("2020-04", alert(severity="high")),
        period("2020-05", alert(severity="low")),
        period("2020-06", alert(severity="high")),
        period("2020-07"),
        period("2020-08", alert()),
    ]
    told = []
    for end in range(1, len(story) + 1):
        notification.deliver(story[:end], FILE, place, NOW)
        assert notification.deliver(story[:end], FILE, place, NOW) == []
        told.append([each["state"] for each in lines(place)])
    new = [now[len(before) :] for before, now in zip([[], *told], told, strict=False)]
    assert new == [[], ["begun"], [], ["risen"], [], [], ["resolved"], ["begun"]]
    begun, risen, over, again = lines(place)
    assert (begun["since"], begun["until"], risen["severity"]) == ("2020-02", None, "high")
    assert (over["since"], over["until"], over["severity"]) == ("2020-02", "2020-07", "high")
    assert again["since"] == "2020-08"
    assert begun["moment"] == "2020-03-01T12:00:00+00:00"
    assert (begun["value"], begun["limit"], begun["sentence"]) == (0.2, 0.1, "The error is up.")
    assert len({each["id"] for each in lines(place)}) == 4


def test_one_name_has_an_event_for_each_subject(place: Path) -> None:
    both = period("1", alert("inputs", subject="amount", owner="ann"), alert("inputs", subject="items"))
    notification.deliver([both], FILE, place)
    notification.deliver([both, period("2", alert("inputs", subject="items"))], FILE, place)
    found = [(each["state"], each["subject"], each["owner"]) for each in lines(place)]
    assert found == [("begun", "amount", "ann"), ("begun", "items", None), ("resolved", "amount", "ann")]


def test_a_history_is_told_in_the_order_in_which_it_happened(place: Path) -> None:
    story = [period("1", alert("a")), period("2", alert("b", "high")), period("3", alert("b", "high"))]
    sent = notification.deliver(story, FILE, place)
    assert [(each.state, each.alert) for each in sent] == [("begun", "a"), ("begun", "b"), ("resolved", "a")]


def test_of_alerts_under_the_least_severity_nothing_is_told_until_they_rise(place: Path) -> None:
    params = Deliver(log=False, min_severity="medium")
    story = [period("1", alert("a", "low"), alert("b")), period("2", alert("a")), period("3")]
    notification.deliver(story[:1], params, place)
    assert states(lines(place)) == [("begun", "b", "medium")]
    notification.deliver(story, Deliver(log=False, min_severity="high"), place)  # what was told is told to its end
    assert states(lines(place))[1:] == [("resolved", "b", "medium")]
    notification.deliver(story[:2], params, place)
    assert states(lines(place))[2:] == [("begun", "a", "medium")]


def test_late_labels_that_lengthen_or_shorten_an_event_tell_nothing_twice(place: Path) -> None:
    notification.deliver([period("1"), period("2"), period("3", alert())], FILE, place)
    notification.deliver([period("1"), period("2", alert()), period("3", alert())], FILE, place)
    notification.deliver([period("2"), period("3", alert()), period("4", alert())], FILE, place)
    assert states(lines(place)) == [("begun", "error", "medium")]
    notification.deliver([period("3"), period("4"), period("5")], FILE, place)  # never was one
    assert states(lines(place))[1:] == [("resolved", "error", "medium")]
    assert lines(place)[1]["until"] == "5"
    notification.deliver([period("5"), period("6")], FILE, place)
    assert messages.read(place).told == []  # what can never be met again is forgotten


def test_a_new_model_without_periods_ends_what_was_open(place: Path) -> None:
    notification.deliver([period("1", alert())], FILE, place)
    (over,) = notification.deliver([], FILE, place, NOW)
    assert (over.state, over.until, over.decision) == ("resolved", "2020-03-01", None)


def test_keys_that_are_absent_or_unknown_do_no_harm(place: Path) -> None:
    odd = [{"alerts": [{"alert": "silence", "value": float("nan"), "evidence": {}}]}, {"period": 7, "more": 1}]
    sent = notification.deliver(odd, FILE, place)
    assert [(each.state, each.value, each.sentence) for each in sent] == [("begun", None, ""), ("resolved", None, "")]


def test_the_link_leads_to_the_heading_of_the_alerts_in_the_report(place: Path) -> None:
    notebook = json.loads((Path(__file__).parents[2] / "notebooks/09_monitoring.ipynb").read_text())
    text = "".join("".join(cell["source"]) + "\n" for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    headings = [re.sub(r"\W+", "-", each.lower()) for each in re.findall(r"^## (.*)$", text, re.MULTILINE)]
    assert notification.ANCHOR in headings
    (first,) = notification.deliver([period("1", alert())], FILE, place)
    assert first.link == f"reports/09_monitoring.html#{notification.ANCHOR}"
    served = Deliver(log=False, base_url="https://example.org/r/")
    (other,) = notification.deliver([period("1", alert(), alert("gain"))], served, place)
    assert other.link == f"https://example.org/r/09_monitoring.html#{notification.ANCHOR}"


def test_the_log_has_a_line_for_each(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    story = [period("1", alert(severity="high", sentence="It\nis up.", owner="ann")), period("2")]
    with caplog.at_level(logging.INFO):
        notification.deliver(story, Deliver(file=None), place)
    bad, good = caplog.records
    assert (bad.levelname, good.levelname) == ("ERROR", "WARNING")
    assert bad.getMessage().startswith("alert, high: error, since 1, until 2; owner: ann. It is up. reports/")
    assert good.getMessage().startswith("resolved, high: error, since 1, until 2")
    assert not place.exists()


def test_apprise_is_sent_what_the_file_gets(place: Path, hook: Hook) -> None:
    notification.deliver([period("1", alert(), alert("gain", "low"), decision="retrain")], BY_HOOK, place)
    (asked,) = hook.asked
    assert asked["path"] == "/hooks/S3CRET?key=T0KEN"
    assert (asked["title"], asked["type"]) == ("2 alerts, severity up to medium", "warning")
    assert asked["messages"] == lines(place)
    assert asked["messages"][0]["decision"] == "retrain"
    first, second = asked["message"].splitlines()
    assert first.startswith("alert, medium: error, since 1. The error is up. reports/")
    assert second.startswith("alert, low: gain, since 1. The gain is up.")
    notification.deliver([period("1", alert(), alert("gain", "low")), period("2", alert())], BY_HOOK, place)
    assert (hook.asked[1]["title"], hook.asked[1]["type"]) == ("1 alert, resolved", "success")


def test_what_cannot_be_sent_is_tried_again_then_and_the_next_time(
    place: Path, hook: Hook, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Hook()
    monkeypatch.setenv("OTHER", other.url)
    both = Deliver(log=False, notify=["NINEFOLD_NOTIFY", "OTHER"])
    hook.answers = [503, 200]
    assert len(notification.deliver([period("1", alert())], both, place)) == 1
    assert [each["status"] for each in hook.asked] == [503, 200]
    hook.answers = [500, 500, 500]
    sent = notification.deliver([period("1", alert()), period("2")], both, place)
    assert states(lines(place)) == [("begun", "error", "medium"), ("resolved", "error", "medium")]
    assert [each.state for each in sent] == ["resolved"]  # by the file, and the other one
    waiting = {name: len(kept) for name, kept in messages.read(place).waiting.items()}
    assert waiting == {"file": 0, "NINEFOLD_NOTIFY": 1, "OTHER": 0}
    says = 'NINEFOLD_NOTIFY: Apprise could not send it; `apprise -vv -b test "$NINEFOLD_NOTIFY"` says why'
    assert f"{says}; kept for the next time: 1" in caplog.text
    (late,) = notification.deliver([period("2")], both, place)
    assert late.state == "resolved"
    assert hook.taken() == other.taken() == lines(place)
    other.close()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("", " is not set"),
        ("https://127.0.0.1/S3CRET", ": expected one Apprise URL"),
        ("S3CRET", ": expected one Apprise URL"),
        ("json://[S3CRET", ": expected one Apprise URL"),
        ("json://127.0.0.1:1/S3CRET json://127.0.0.1:2/S3CRET", ": expected one Apprise URL"),
        ("json://127.0.0.1:99999/S3CRET", ": Apprise could not send it"),
    ],
)
def test_an_address_that_is_none_is_told_of_and_keeps_the_alert(
    place: Path, hook: Hook, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, given: str, says: str
) -> None:
    monkeypatch.setenv("NINEFOLD_NOTIFY", given)
    with caplog.at_level(logging.DEBUG):
        notification.deliver([period("1", alert())], BY_HOOK, place)
    assert f"NINEFOLD_NOTIFY{says}" in caplog.text
    assert "S3CRET" not in caplog.text
    monkeypatch.setenv("NINEFOLD_NOTIFY", hook.url)
    notification.deliver([period("1", alert())], BY_HOOK, place)
    assert hook.taken() == lines(place)


def test_the_address_is_never_told(
    place: Path, hook: Hook, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG):
        hook.answers = [500, 500, 500]
        for _ in range(2):
            notification.deliver([period("1", alert())], BY_HOOK, place)
        hook.close()
        notification.deliver([period("1", alert("gain"))], BY_HOOK, place)
    assert len(hook.taken()) == 1
    kept = "".join(file.read_text() for file in place.parent.iterdir())
    for secret in ("S3CRET", "T0KEN", "127.0.0.1"):
        assert secret not in caplog.text + kept + "".join(capfd.readouterr())


def test_an_address_in_the_params_is_refused_and_not_told() -> None:
    with pytest.raises(ParamsError, match=r"monitoring\.deliver\.notify: found no name of a variable") as refused:
        Deliver(notify=["json://127.0.0.1/S3CRET"])
    assert "S3CRET" not in str(refused.value)


class Killed(BaseException):
    """The process ends here."""


def test_killed_anywhere_nothing_is_lost_and_the_file_has_each_once(
    tmp_path: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = [period("1", alert("a")), period("2", alert("b", "high"))]
    steps: dict[str, Any] = {"write": messages, "_append": notification, "_send": notification}
    real: dict[str, Callable[..., Any]] = {name: getattr(module, name) for name, module in steps.items()}
    stopped = 0
    for at in range(11):
        place, calls = tmp_path / f"{at}/alerts.jsonl", [0]
        hook.asked.clear()

        def step(name: str, *given: Any, at: int = at, calls: list[int] = calls) -> Any:
            calls[0] += 2
            if calls[0] - 1 > at:
                raise Killed  # before it
            done = real[name](*given)
            if calls[0] > at:
                raise Killed  # after it, before that is noted
            return done

        for name, module in steps.items():
            monkeypatch.setattr(module, name, lambda *given, name=name, step=step: step(name, *given))
        try:
            notification.deliver(story, BY_HOOK, place)
        except Killed:
            stopped += 1
        for name, module in steps.items():
            monkeypatch.setattr(module, name, real[name])
        notification.deliver(story, BY_HOOK, place)
        assert states(lines(place)) == [("begun", "a", "medium"), ("begun", "b", "high"), ("resolved", "a", "medium")]
        twice = [each["id"] for each in hook.taken()]
        assert list(dict.fromkeys(twice)) == [each["id"] for each in lines(place)]
        assert len(twice) in (3, 6)
    assert stopped == 10


def test_half_a_line_of_a_killed_process_is_replaced(place: Path) -> None:
    notification.deliver([period("1", alert("a"))], FILE, place)
    with place.open("a") as file:
        file.write('{"id": "half')
    notification.deliver([period("1", alert("a"), alert("b"))], FILE, place)
    assert [each["alert"] for each in lines(place)] == ["a", "b"]


def test_two_at_once_tell_each_event_once(place: Path) -> None:
    story = [period("1", *(alert(f"rule {number}") for number in range(20)))]
    both = [threading.Thread(target=notification.deliver, args=(story, FILE, place)) for _ in range(4)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert len(lines(place)) == len({each["alert"] for each in lines(place)}) == 20


def test_a_damaged_state_is_told_of(place: Path) -> None:
    notification.deliver([period("1", alert())], FILE, place)
    place.with_suffix(".state.json").write_text("{")
    with pytest.raises(DataError, match=r"alerts\.state\.json: cannot be read .* every incident is told once more"):
        notification.deliver([period("1", alert())], FILE, place)


def test_a_file_that_cannot_be_written_keeps_its_messages(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    place.mkdir(parents=True)
    assert notification.deliver([period("1", alert())], FILE, place) == []
    assert "alerts.jsonl: cannot be written" in caplog.text
    place.rmdir()
    assert len(notification.deliver([period("1", alert())], FILE, place)) == len(lines(place)) == 1


def test_the_command_tells_and_lists(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    story = [period("1", alert("gain", "low")), period("2", alert("error", "high", subject="north"))]
    run, deliver = CliRunner().invoke, Deliver(log=False)
    monkeypatch.setattr("ninefold.cli.production._deliver", lambda: deliver)
    said = run(cli.app, ["alerts"])
    assert said.exit_code == 1
    assert "data/monitoring/periods.json: not found" in said.output
    artifacts.write_json(story, artifacts.path(f"{monitoring.MONITORING}/periods.json"))
    said = run(cli.app, ["alerts"])
    assert said.output.splitlines() == [
        "1 open",
        "  high    error of north, since 2: The error is up.",
        "ended, the last 1",
        "  low     gain, since 1 until 2: The gain is up.",
        "sent 3 messages",
    ]
    told = json.loads(run(cli.app, ["alerts", "--json"]).output)
    assert [each["alert"] for each in told["open"]] == ["error"]
    assert told["sent"] == []
    assert told["waiting"] == {"file": 0}
    assert len(lines(artifacts.path(notification.ALERTS))) == 3


def test_of_two_alerts_alike_the_more_severe_counts() -> None:
    (incident,) = incidents.find([period("1", alert(severity="low"), alert(severity="high", sentence="worse"))])
    assert (incident.severity, incident.sentence) == ("high", "worse")
