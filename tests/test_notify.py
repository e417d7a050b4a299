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
from pydantic import ValidationError
from typer.testing import CliRunner

from ninefold import cli, monitoring, notify
from ninefold.core import incidents, io, show, webhooks
from ninefold.core.errors import DataError
from ninefold.core.webhooks import Webhook
from ninefold.notify import Deliver

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
    """A real webhook on this machine, which answers as it is told and keeps what it took."""

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
        self.url = f"http://127.0.0.1:{self.server.server_port}/hooks/S3CRET?key=T0KEN"
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
    monkeypatch.setattr(webhooks, "PAUSE", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    started = Hook()
    monkeypatch.setenv("NINEFOLD_WEBHOOK", started.url)
    yield started
    started.close()


BY_HOOK = Deliver(log=False, webhook=Webhook(env="NINEFOLD_WEBHOOK"))


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
        notify.deliver(story[:end], FILE, place, NOW)
        assert notify.deliver(story[:end], FILE, place, NOW) == []
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
    notify.deliver([both], FILE, place)
    notify.deliver([both, period("2", alert("inputs", subject="items"))], FILE, place)
    found = [(each["state"], each["subject"], each["owner"]) for each in lines(place)]
    assert found == [("begun", "amount", "ann"), ("begun", "items", None), ("resolved", "amount", "ann")]


def test_a_history_is_told_in_the_order_in_which_it_happened(place: Path) -> None:
    story = [period("1", alert("a")), period("2", alert("b", "high")), period("3", alert("b", "high"))]
    sent = notify.deliver(story, FILE, place)
    assert [(each.state, each.alert) for each in sent] == [("begun", "a"), ("begun", "b"), ("resolved", "a")]


def test_of_alerts_under_the_least_severity_nothing_is_told_until_they_rise(place: Path) -> None:
    params = Deliver(log=False, min_severity="medium")
    story = [period("1", alert("a", "low"), alert("b")), period("2", alert("a")), period("3")]
    notify.deliver(story[:1], params, place)
    assert states(lines(place)) == [("begun", "b", "medium")]
    notify.deliver(story, Deliver(log=False, min_severity="high"), place)  # what was told is told to its end
    assert states(lines(place))[1:] == [("resolved", "b", "medium")]
    notify.deliver(story[:2], params, place)
    assert states(lines(place))[2:] == [("begun", "a", "medium")]


def test_late_labels_that_lengthen_or_shorten_an_event_tell_nothing_twice(place: Path) -> None:
    notify.deliver([period("1"), period("2"), period("3", alert())], FILE, place)
    notify.deliver([period("1"), period("2", alert()), period("3", alert())], FILE, place)
    notify.deliver([period("2"), period("3", alert()), period("4", alert())], FILE, place)
    assert states(lines(place)) == [("begun", "error", "medium")]
    notify.deliver([period("3"), period("4"), period("5")], FILE, place)  # never was one
    assert states(lines(place))[1:] == [("resolved", "error", "medium")]
    assert lines(place)[1]["until"] == "5"
    notify.deliver([period("5"), period("6")], FILE, place)
    assert notify.read(place).told == []  # what can never be met again is forgotten


def test_a_new_model_without_periods_ends_what_was_open(place: Path) -> None:
    notify.deliver([period("1", alert())], FILE, place)
    (over,) = notify.deliver([], FILE, place, NOW)
    assert (over.state, over.until, over.decision) == ("resolved", "2020-03-01", None)


def test_keys_that_are_absent_or_unknown_do_no_harm(place: Path) -> None:
    odd = [{"alerts": [{"alert": "silence", "value": float("nan"), "evidence": {}}]}, {"period": 7, "more": 1}]
    sent = notify.deliver(odd, FILE, place)
    assert [(each.state, each.value, each.sentence) for each in sent] == [("begun", None, ""), ("resolved", None, "")]


def test_the_link_leads_to_the_heading_of_the_alerts_in_the_report(place: Path) -> None:
    notebook = json.loads((Path(__file__).parent.parent / "notebooks/09_monitoring.ipynb").read_text())
    text = "".join("".join(cell["source"]) + "\n" for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    headings = [re.sub(r"\W+", "-", each.lower()) for each in re.findall(r"^## (.*)$", text, re.MULTILINE)]
    assert notify.ANCHOR in headings
    (first,) = notify.deliver([period("1", alert())], FILE, place)
    assert first.link == f"reports/09_monitoring.html#{notify.ANCHOR}"
    served = Deliver(log=False, base_url="https://example.org/r/")
    (other,) = notify.deliver([period("1", alert(), alert("gain"))], served, place)
    assert other.link == f"https://example.org/r/09_monitoring.html#{notify.ANCHOR}"


def test_the_log_has_a_line_for_each(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    story = [period("1", alert(severity="high", sentence="It\nis up.", owner="ann")), period("2")]
    with caplog.at_level(logging.INFO):
        notify.deliver(story, Deliver(file=None), place)
    bad, good = caplog.records
    assert (bad.levelname, good.levelname) == ("ERROR", "WARNING")
    assert bad.getMessage().startswith("alert, high: error, since 1, until 2; owner: ann. It is up. reports/")
    assert good.getMessage().startswith("resolved, high: error, since 1, until 2")
    assert not place.exists()


def test_a_webhook_gets_what_the_file_gets(place: Path, hook: Hook) -> None:
    notify.deliver([period("1", alert(), alert("gain", "low"), decision="retrain")], BY_HOOK, place)
    (asked,) = hook.asked
    assert asked["path"] == "/hooks/S3CRET?key=T0KEN"
    assert asked["version"] == 1
    assert asked["messages"] == lines(place)
    assert asked["messages"][0]["decision"] == "retrain"
    assert asked["text"].splitlines()[0].startswith("alert, medium: error, since 1. The error is up.")


def test_a_webhook_that_fails_is_tried_again_then_and_the_next_time(
    place: Path, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    hook.answers = [503, 200]
    assert len(notify.deliver([period("1", alert())], BY_HOOK, place)) == 1
    assert [each["status"] for each in hook.asked] == [503, 200]
    hook.answers = [500, 500, 500]
    sent = notify.deliver([period("1", alert()), period("2")], BY_HOOK, place)
    assert states(lines(place)) == [("begun", "error", "medium"), ("resolved", "error", "medium")]
    assert [each.state for each in sent] == ["resolved"]  # by the file
    assert len(notify.read(place).waiting["webhook"]) == 1
    assert "at 127.0.0.1, answered 500; kept for the next time: 1" in caplog.text
    hook.answers = [404]  # which no second try mends
    before = len(hook.asked)
    notify.deliver([period("2")], BY_HOOK, place)
    assert len(hook.asked) == before + 1
    (late,) = notify.deliver([period("2")], BY_HOOK, place)
    assert late.state == "resolved"
    assert hook.taken() == lines(place)


@pytest.mark.parametrize("given", ["", "ftp://h/S3CRET", "S3CRET", "http://127.0.0.1:99999/S3CRET", "http://[S3CRET"])
def test_an_address_that_is_none_is_told_of_and_keeps_the_alert(
    place: Path, hook: Hook, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("NINEFOLD_WEBHOOK", given)
    notify.deliver([period("1", alert())], BY_HOOK, place)
    assert "the webhook in NINEFOLD_WEBHOOK" in caplog.text
    assert "S3CRET" not in caplog.text
    monkeypatch.setenv("NINEFOLD_WEBHOOK", hook.url)
    notify.deliver([period("1", alert())], BY_HOOK, place)
    assert hook.taken() == lines(place)


def test_the_address_is_never_told(
    place: Path, hook: Hook, caplog: pytest.LogCaptureFixture, shown: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show, "display", lambda thing, **_: shown.append(getattr(thing, "data", thing)))
    literal = Deliver(log=False, webhook=Webhook(url=hook.url))
    show.params(literal)
    with caplog.at_level(logging.DEBUG):
        hook.answers = [500, 500, 500]
        notify.deliver([period("1", alert())], literal, place)
        notify.deliver([period("1", alert())], literal, place)
        hook.close()
        notify.deliver([period("1", alert("gain"))], literal, place)
    assert len(hook.taken()) == 1
    kept = "".join(file.read_text() for file in place.parent.iterdir())
    for secret in ("S3CRET", "T0KEN"):
        assert secret not in caplog.text + kept + repr(literal) + str(shown)


@pytest.mark.parametrize("wrong", [{}, {"timeout_s": 5}, {"env": "A", "timeout_s": 0}, {"ur": "x"}])
def test_a_webhook_that_is_not_one_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Webhook(**wrong)


class Killed(BaseException):
    """The process ends here."""


def test_killed_anywhere_nothing_is_lost_and_the_file_has_each_once(
    tmp_path: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = [period("1", alert("a")), period("2", alert("b", "high"))]
    steps = {"_write": notify, "_append": notify, "post": webhooks}
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
            notify.deliver(story, BY_HOOK, place)
        except Killed:
            stopped += 1
        for name, module in steps.items():
            monkeypatch.setattr(module, name, real[name])
        notify.deliver(story, BY_HOOK, place)
        assert states(lines(place)) == [("begun", "a", "medium"), ("begun", "b", "high"), ("resolved", "a", "medium")]
        twice = [each["id"] for each in hook.taken()]
        assert list(dict.fromkeys(twice)) == [each["id"] for each in lines(place)]
        assert len(twice) in (3, 6)
    assert stopped == 10


def test_half_a_line_of_a_killed_process_is_replaced(place: Path) -> None:
    notify.deliver([period("1", alert("a"))], FILE, place)
    with place.open("a") as file:
        file.write('{"id": "half')
    notify.deliver([period("1", alert("a"), alert("b"))], FILE, place)
    assert [each["alert"] for each in lines(place)] == ["a", "b"]


def test_two_at_once_tell_each_event_once(place: Path) -> None:
    story = [period("1", *(alert(f"rule {number}") for number in range(20)))]
    both = [threading.Thread(target=notify.deliver, args=(story, FILE, place)) for _ in range(4)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert len(lines(place)) == len({each["alert"] for each in lines(place)}) == 20


def test_a_damaged_state_is_told_of(place: Path) -> None:
    notify.deliver([period("1", alert())], FILE, place)
    place.with_suffix(".state.json").write_text("{")
    with pytest.raises(DataError, match=r"alerts\.state\.json: cannot be read .* every incident is told once more"):
        notify.deliver([period("1", alert())], FILE, place)


def test_a_file_that_cannot_be_written_keeps_its_messages(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    place.mkdir(parents=True)
    assert notify.deliver([period("1", alert())], FILE, place) == []
    assert "alerts.jsonl: cannot be written" in caplog.text
    place.rmdir()
    assert len(notify.deliver([period("1", alert())], FILE, place)) == len(lines(place)) == 1


def test_the_command_tells_and_lists(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    story = [period("1", alert("gain", "low")), period("2", alert("error", "high", subject="north"))]
    run, deliver = CliRunner().invoke, Deliver(log=False)
    monkeypatch.setattr(cli, "_deliver", lambda: deliver)
    said = run(cli.app, ["alerts"])
    assert said.exit_code == 1
    assert "data/monitoring/periods.json: not found" in said.output
    io.write_json(story, io.path(f"{monitoring.MONITORING}/periods.json"))
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
    assert len(lines(io.path(notify.ALERTS))) == 3


def test_of_two_alerts_alike_the_more_severe_counts() -> None:
    (incident,) = incidents.find([period("1", alert(severity="low"), alert(severity="high", sentence="worse"))])
    assert (incident.severity, incident.sentence) == ("high", "worse")
