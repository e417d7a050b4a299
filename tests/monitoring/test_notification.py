"""Alerts reach people: told once, again when worse, once when over; nothing is lost, and no secret is told."""

import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import Project
from typer.testing import CliRunner

from ninefold import artifacts, cli, gate, incidents
from ninefold.errors import DataError, GateFailed, ParamsError
from ninefold.monitoring import notification
from ninefold.monitoring.notification import Deliver
from ninefold.reports import runner, site

NOW = datetime(2020, 3, 1, 12, tzinfo=UTC)
FILE = Deliver(log=False)


def alert(name: str = "error", severity: str = "medium", **more: Any) -> dict[str, Any]:
    return {"alert": name, "severity": severity, "value": 0.2, "limit": 0.1, "sentence": f"The {name} is up.", **more}


def period(name: str, *alerts: dict[str, Any], decision: str = "keep") -> dict[str, Any]:
    return {"period": name, "alerts": list(alerts), "decision": decision}


def lines(place: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in place.read_text().splitlines()] if place.exists() else []


def states(place: Path) -> list[tuple[str, str, str]]:
    return [(each["state"], each["alert"], each["severity"]) for each in lines(place)]


class Hook(ThreadingHTTPServer):
    """A service on this machine that Apprise sends JSON to; it answers with `answers`, then 200, and keeps what it got."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.asked = list[int](), list[dict[str, Any]]()
        self.url = f"json://127.0.0.1:{self.server_port}/hooks/S3CRET?-key=T0KEN"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def taken(self) -> list[dict[str, Any]]:
        return [message for each in self.asked if each["status"] == 200 for message in each["messages"]]

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = self.server.answers.pop(0) if self.server.answers else 200
        self.server.asked.append({"status": status, "path": self.path, **body})
        self.send_response_only(status)  # and log nothing
        self.send_header("Content-Length", "0")
        self.end_headers()


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


def test_an_incident_is_sent_when_it_begins_grows_worse_and_ends(place: Path) -> None:
    severities = [None, "medium", "medium", "high", "low", "high", None, "medium"]
    story = [period(f"2020-0{n + 1}", *([alert(severity=each)] if each else [])) for n, each in enumerate(severities)]
    new = []
    for end in range(1, len(story) + 1):
        new.append([each.state for each in notification.deliver(story[:end], FILE, place, NOW)])
        assert notification.deliver(story[:end], FILE, place, NOW) == []
    assert new == [[], ["begun"], [], ["risen"], [], [], ["resolved"], ["begun"]]
    times = [(each["since"], each["until"], each["severity"]) for each in lines(place)]
    since, begun = "2020-02", lines(place)[0]
    assert times[:3] == [(since, None, "medium"), (since, None, "high"), (since, "2020-07", "high")]
    assert times[3:] == [("2020-08", None, "medium")]
    assert (begun["value"], begun["limit"], begun["moment"]) == (0.2, 0.1, "2020-03-01T12:00:00+00:00")
    assert len({each["id"] for each in lines(place)}) == 4


def test_each_subject_has_an_incident_and_all_are_sent_in_the_order_in_which_they_happened(place: Path) -> None:
    items = alert("inputs", subject="items")
    both = period("1", alert("inputs", subject="amount", owner="ann"), items)
    for story in ([both], [both, period("2", items, alert("b")), period("3", items)]):
        notification.deliver(story, FILE, place)
    begun = [("begun", "inputs", "amount", "ann"), ("begun", "inputs", "items", None), ("begun", "b", None, None)]
    ended = [("resolved", "inputs", "amount", "ann"), ("resolved", "b", None, None)]
    found = [(each["state"], each["alert"], each["subject"], each["owner"]) for each in lines(place)]
    assert found == begun + ended


def test_of_alerts_under_the_least_severity_nothing_is_told_until_they_rise(place: Path) -> None:
    params = Deliver(log=False, min_severity="medium")
    story = [period("1", alert("a", "low"), alert("b")), period("2", alert("a")), period("3")]
    notification.deliver(story[:1], params, place)
    assert states(place) == [("begun", "b", "medium")]
    notification.deliver(story, Deliver(log=False, min_severity="high"), place)  # what was told is told to its end
    assert states(place)[1:] == [("resolved", "b", "medium")]
    notification.deliver(story[:2], params, place)
    assert states(place)[2:] == [("begun", "a", "medium")]


def test_late_labels_that_lengthen_or_shorten_an_incident_and_a_new_model_send_nothing_twice(place: Path) -> None:
    notification.deliver([period("1"), period("2"), period("3", alert())], FILE, place)
    notification.deliver([period("1"), period("2", alert()), period("3", alert())], FILE, place)
    notification.deliver([period("2"), period("3", alert()), period("4", alert())], FILE, place)
    assert states(place) == [("begun", "error", "medium")]
    notification.deliver([period("3"), period("4"), period("5")], FILE, place)  # never was one
    assert states(place)[1:] == [("resolved", "error", "medium")]
    assert lines(place)[1]["until"] == "5"
    notification.deliver([period("5"), period("6")], FILE, place)
    with place.open("a") as file:
        file.write('{"id": "half')  # of a process that was killed
    notification.deliver([period("7", alert("gain"))], FILE, place)
    (over,) = notification.deliver([], FILE, place, NOW)  # a new model
    assert (over.state, over.until, over.decision) == ("resolved", "2020-03-01", None)
    assert states(place)[2:] == [("begun", "gain", "medium"), ("resolved", "gain", "medium")]


def test_the_link_leads_to_the_heading_of_the_alerts_in_the_report(place: Path) -> None:
    notebook = json.loads((Path(__file__).parents[2] / "notebooks/09_monitoring.ipynb").read_text())
    sources = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    headings = re.findall(r"^## (.*)$", "\n".join(sources), re.MULTILINE)
    params = Deliver(log=False, base_url="https://example.org/r/")
    (message,) = notification.deliver([period("1", alert())], params, place)
    page, anchor = message.link.split("#")
    assert page == "https://example.org/r/09_monitoring.html"
    assert anchor in [re.sub(r"\W+", "-", each.lower()) for each in headings]


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
    assert asked["message"].splitlines()[1].startswith("alert, low: gain, since 1. The gain is up. reports/")
    notification.deliver([period("1", alert(), alert("gain", "low")), period("2", alert())], BY_HOOK, place)
    assert (hook.asked[1]["title"], hook.asked[1]["type"]) == ("1 alert, resolved", "success")


def test_what_cannot_be_sent_is_tried_again_and_next_time(
    place: Path, hook: Hook, caplog: Any, monkeypatch: Any
) -> None:
    other = Hook()
    monkeypatch.setenv("OTHER", other.url)
    both = Deliver(log=False, notify=["NINEFOLD_NOTIFY", "OTHER"])
    hook.answers = [503, 200]
    notification.deliver([period("1", alert())], both, place)
    assert [each["status"] for each in hook.asked] == [503, 200]
    hook.answers = [500, 500, 500]
    sent = notification.deliver([period("1", alert()), period("2")], both, place)
    assert [each.state for each in sent] == ["resolved"]  # by the file, and the other one
    says = 'NINEFOLD_NOTIFY: Apprise could not send it; `apprise -vv -b test "$NINEFOLD_NOTIFY"` says why'
    assert f"{says}; kept for the next time: 1" in caplog.text
    (late,) = notification.deliver([period("2")], both, place)
    assert late.state == "resolved"
    assert states(place) == [("begun", "error", "medium"), ("resolved", "error", "medium")]
    assert hook.taken() == other.taken() == lines(place)
    other.close()


@pytest.mark.parametrize(("given", "says"), [
    ("", " is not set"), ("https://127.0.0.1/S3CRET", ": expected one Apprise URL"),
    ("json://[S3CRET", ": expected one Apprise URL"), ("json://127.0.0.1:99999/S3CRET", ": Apprise could not send it"),
    ("json://127.0.0.1:1/S3CRET json://127.0.0.1:2/S3CRET", ": expected one Apprise URL"),
])  # fmt: skip
def test_an_address_that_is_none_keeps_the_alert(
    place: Path, hook: Hook, caplog: pytest.LogCaptureFixture, monkeypatch: Any, given: str, says: str
) -> None:
    monkeypatch.setenv("NINEFOLD_NOTIFY", given)
    with caplog.at_level(logging.DEBUG):
        notification.deliver([period("1", alert())], BY_HOOK, place)
    assert f"NINEFOLD_NOTIFY{says}" in caplog.text
    assert "S3CRET" not in caplog.text
    monkeypatch.setenv("NINEFOLD_NOTIFY", hook.url)
    notification.deliver([period("1", alert())], BY_HOOK, place)
    assert hook.taken() == lines(place)


def test_the_address_is_never_told(place: Path, hook: Hook, caplog: pytest.LogCaptureFixture, capfd: Any) -> None:
    with caplog.at_level(logging.DEBUG):
        notification.deliver([period("1", alert())], BY_HOOK, place)
        hook.answers = [500, 500, 500]
        notification.deliver([period("1", alert("gain"))], BY_HOOK, place)
        hook.close()
        notification.deliver([period("1", alert("gain"))], BY_HOOK, place)
    with pytest.raises(ParamsError, match=r"monitoring\.deliver\.notify: found no name of a variable") as refused:
        Deliver(notify=["json://127.0.0.1/S3CRET"])
    kept = "".join(file.read_text() for file in place.parent.iterdir())
    assert {file.stat().st_mode & 0o777 for file in place.parent.glob("*.json*")} == {0o600}, "for their owner alone"
    for secret in ("S3CRET", "T0KEN", "127.0.0.1"):
        assert secret not in caplog.text + kept + "".join(capfd.readouterr()) + str(refused.value)


@pytest.mark.parametrize("at", range(11))
def test_killed_anywhere_nothing_is_lost_and_the_file_has_each_once(place: Path, hook: Hook, at: int) -> None:
    story, calls = [period("1", alert("a")), period("2", alert("b", "high"))], [0]

    def step(real: Callable[..., Any], *given: Any) -> Any:
        calls[0] += 2
        if calls[0] - 1 > at:
            raise KeyboardInterrupt  # before it
        done = real(*given)
        if calls[0] > at:
            raise KeyboardInterrupt  # after it, before that is noted
        return done

    with pytest.MonkeyPatch.context() as patched, suppress(KeyboardInterrupt):
        for name in ("_write", "_append", "_send"):
            patched.setattr(notification, name, partial(step, getattr(notification, name)))
        notification.deliver(story, BY_HOOK, place)
        assert at == 10, "there are ten moments to be killed in"
    notification.deliver(story, BY_HOOK, place)
    assert states(place) == [("begun", "a", "medium"), ("begun", "b", "high"), ("resolved", "a", "medium")]
    sent = [each["id"] for each in hook.taken()]
    assert list(dict.fromkeys(sent)) == [each["id"] for each in lines(place)]
    assert len(sent) in (3, 6)


def test_two_at_once_send_each_incident_once(place: Path) -> None:
    story = [period("1", *(alert(f"rule {number}") for number in range(20)))]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: notification.deliver(story, FILE, place), range(4)))
    assert len(lines(place)) == len({each["alert"] for each in lines(place)}) == 20


def test_a_file_that_cannot_be_written_keeps_its_messages_and_damage_is_told_of(place: Path, caplog: Any) -> None:
    place.mkdir(parents=True)
    assert notification.deliver([period("1", alert())], FILE, place) == []
    assert "alerts.jsonl: cannot be written" in caplog.text
    place.rmdir()
    assert len(notification.deliver([period("1", alert())], FILE, place)) == len(lines(place)) == 1
    place.with_suffix(".state.json").write_text("{")
    with pytest.raises(DataError, match=r"alerts\.state\.json: cannot be read .* every incident is told once more"):
        notification.deliver([period("1", alert())], FILE, place)


def test_monitor_delivers_the_alerts_of_a_failed_gate_too_and_then_fails(project: Project, monkeypatch: Any) -> None:
    def run(*_: Any) -> None:
        artifacts.write_json([period("2", alert())], artifacts.output("data/monitoring") / "periods.json")
        with pytest.raises(GateFailed):
            gate.close("monitoring", [gate.at_most("lost rows", 1, 0)], {}, "Lost.")
        raise runner.StageFailed("lost rows: found 1")

    artifacts.write_json([period("1")], artifacts.path("data/monitoring/periods.json"))
    monkeypatch.setattr(runner, "execute", run)
    monkeypatch.setattr(site, "render", lambda: None)
    monkeypatch.setattr("ninefold.params.load", lambda _: SimpleNamespace(deliver=FILE, source="log", silenced={}))
    failed = CliRunner().invoke(cli.app, ["monitor"])
    assert (failed.exit_code, "lost rows: found 1" in failed.output) == (1, True)
    assert states(artifacts.path(notification.ALERTS)) == [("begun", "error", "medium")]
    assert artifacts.published("data/monitoring/periods.json") == [period("1")]


def test_an_open_period_begins_incidents_and_ends_none() -> None:
    closed, current = period("1", alert("gain")), {**period("2", alert("missing")), "closed": False}
    assert [each.until for each in incidents.find([closed, current])] == [None, None]
    assert [each.until for each in incidents.find([closed, {**current, "closed": True}])] == ["2", None]
    assert incidents.last_closed([closed, current]) == closed


def test_the_command_sends_and_lists(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    story = [period("1", alert("gain", "low")), period("2", alert("error", "high", subject="north"))]
    monkeypatch.setattr("ninefold.params.load", lambda _: SimpleNamespace(deliver=FILE))
    refused = CliRunner().invoke(cli.app, ["alerts"])
    assert (refused.exit_code, "data/monitoring/periods.json: not found" in refused.output) == (1, True)
    artifacts.write_json(story, artifacts.path("data/monitoring/periods.json"))
    opened = ["1 open", "  high    error of north, since 2: The error is up."]
    ended = ["ended, the last 1", "  low     gain, since 1 until 2: The gain is up.", "sent 3 messages"]
    assert CliRunner().invoke(cli.app, ["alerts"]).output.splitlines() == opened + ended
    report = json.loads(CliRunner().invoke(cli.app, ["alerts", "--json"]).output)
    assert [each["alert"] for each in report["open"]] == ["error"]
    assert (report["sent"], report["waiting"]) == ([], {"file": 0})
