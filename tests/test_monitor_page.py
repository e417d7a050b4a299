"""The monitor: the same numbers as the report, what is open and who answers, kept fresh; safe to open, for all hands and eyes."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from browser import CONTRAST, asked, chromium, press, screen, served, tab_to, until
from bundles import lay_out, pack
from conftest import Project
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry, generate_latest

from ninefold import monitoring
from ninefold.core import io
from ninefold.core.decisions import show_level
from ninefold.core.scores import with_interval
from ninefold.serving import findings, monitor, rollout, service, traffic, versions
from ninefold.serving.bundle import Bundle
from ninefold.serving.log import CHAMPION, SHADOW, Log
from ninefold.serving.operations import Meters

HOSTILE = "<script>alert(1)</script>"
NOW = datetime.now(UTC)


def alert(name: str, severity: str, **more: Any) -> dict[str, Any]:
    return {"alert": name, "severity": severity, "value": 0.2, "limit": 0.1, "sentence": f"The {name} moved.", **more}


def figure(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


def records() -> list[dict[str, Any]]:
    """Return four weeks as stage 09 keeps them, the second without labels."""
    alerts = [
        [alert("volume", "medium")],
        [alert("inputs", "low", subject="amount", owner="the data team")],
        [alert("inputs", "low", subject="amount", owner="the data team"), alert("ranking", "medium")],
        [alert("inputs", "low", subject="amount", owner="the data team"), alert("ranking", "high", owner="the shop")],
    ]
    found = []
    for number, raised in enumerate(alerts):
        figures = {"roc_auc": figure(0.7 - number / 50), "brier": figure(0.1 + number / 50), "gain": {"value": 1e-4}}
        found.append(
            {
                "period": f"2020-W1{number}",
                "predictions": 1200 + number,
                "at close": 1100,
                "quarantined": number,
                "drifted": {"amount": 0.4} if number else {},
                "figures": {} if number == 1 else figures,
                "levels": {"share of events": figure(0.2)},
                "alerts": raised,
                "decision": "retrain" if number == 3 else "keep",
                "reasons": ["The ranking moved."] if number == 3 else ["Nothing is wrong."],
                "evidence of tomorrow": {},
            }
        )
    return found


def write(found: Any, decision: dict[str, Any], folder: str = monitoring.MONITORING) -> Path:
    """Write what stage 09 writes, as it does: the folder is replaced whole."""
    place = io.output(folder)
    io.write_json(found, place / "periods.json")
    io.write_json(decision, place / "decision.json")
    io.publish()
    return io.path(folder)


def decided(bundle: Bundle) -> dict[str, Any]:
    return {"decision": "retrain", "reasons": ["The ranking moved."], "model": bundle.version, "periods": []}


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with closing(Log(tmp_path / "data/predictions/log.sqlite")) as opened:
        yield opened


def app_of(bundle: Bundle, log: Log | None = None, meters: Meters | None = None, **more: Any) -> FastAPI:
    app = service.create_app(bundle, log)
    own = monitor.router(lambda: bundle, None, log, meters or Meters(bundle), **more)
    paths = {getattr(route, "path", "") for route in own.routes}
    others = [route for route in app.router.routes if getattr(route, "path", "") not in paths]
    app.router.routes[:] = [*own.routes, *others]  # in place of one that the service has itself
    return app


def client_of(bundle: Bundle, log: Log | None = None, meters: Meters | None = None, **more: Any) -> TestClient:
    return TestClient(app_of(bundle, log, meters, **more))


def board(client: TestClient) -> dict[str, Any]:
    answer = client.get("/monitor.json")
    assert answer.status_code == 200
    return dict(answer.json())


def text(client: TestClient) -> str:
    page = client.get("/monitor")
    assert page.status_code == 200
    return re.sub(r"\s+", " ", unescape(re.sub(r"<(script|style).*?</\1>|<[^>]+>", " ", page.text, flags=re.DOTALL)))


def test_the_numbers_are_those_of_the_report(bundle: Bundle) -> None:
    place = write(records(), decided(bundle))
    stood, shown = json.loads((place / "periods.json").read_text()), board(client_of(bundle))
    assert [each["period"] for each in shown["periods"]] == [each["period"] for each in stood]
    for told, record in zip(shown["periods"], stood, strict=True):
        for kind in ("figures", "levels"):
            bare = {name: {end: x for end, x in each.items() if x is not None} for name, each in told[kind].items()}
            assert bare == record[kind]
        assert (told["predictions"], told["labelled"]) == (record["predictions"], record["at close"])
        assert (told["drifted"], told["alerts"]) == (len(record["drifted"]), len(record["alerts"]))
        assert told["decision"] == record["decision"]
    assert shown["decision"] == {"decision": "retrain", "reasons": ["The ranking moved."], "model": bundle.version}
    assert shown["promise"]["roc_auc"] == bundle.described["holdout"]["roc_auc"]
    page = text(client_of(bundle))
    for record in stood[-monitor.COLUMNS :]:
        for each in record["figures"].values():
            assert with_interval(each) in page
    assert with_interval(bundle.described["holdout"]["roc_auc"]) in page


def test_open_alerts_stand_there_the_worst_first_with_their_beginning(bundle: Bundle) -> None:
    write(records(), decided(bundle))
    shown = board(client_of(bundle))
    told = [(each["alert"], each["subject"], each["severity"], each["since"], each["owner"]) for each in shown["open"]]
    assert told == [
        ("ranking", None, "high", "2020-W12", "the shop"),
        ("inputs", "amount", "low", "2020-W11", "the data team"),
    ]
    assert [(each["alert"], each["until"]) for each in shown["ended"]] == [("volume", "2020-W11")]
    page = text(client_of(bundle))
    assert "high ranking The ranking moved. since 2020-W12 · owner: the shop" in page
    assert page.index("high ranking") < page.index("low inputs amount")


def test_where_nothing_was_monitored_the_page_says_what_to_run(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    client = client_of(bundle)
    assert "Nothing was monitored yet" in text(client)
    assert "`dvc repro`" in board(client)["notice"]
    write([], {"decision": "keep", "reasons": ["Nothing has arrived."], "model": bundle.version})
    assert "Nothing has arrived since the model was built" in board(client)["notice"]
    assert board(client)["decision"]["decision"] == "keep"
    shutil.rmtree(io.path(monitoring.MONITORING))
    assert board(client)["decision"] is None
    monkeypatch.chdir("/")
    assert "Nothing was monitored yet" in board(client_of(bundle))["notice"]


def test_a_new_run_is_seen_without_a_restart_and_a_damaged_one_told_of(bundle: Bundle) -> None:
    write(records()[:1], decided(bundle))
    client = client_of(bundle)
    assert len(board(client)["periods"]) == 1
    place = write(records(), decided(bundle))
    assert len(board(client)["periods"]) == 4
    (place / "periods.json").write_text("[{")
    shown = board(client)
    assert len(shown["periods"]) == 4
    assert "cannot be read" in shown["notice"]
    write([7], decided(bundle))
    assert "cannot be read" in board(client)["notice"]


def test_records_of_another_make_are_shown_as_far_as_they_go(bundle: Bundle) -> None:
    odd = [{"period": "2020-03"}, {"figures": {"x": {"value": None}, "y": 3}, "drifted": 2, "alerts": [{}]}]
    write(odd, {})
    shown = board(client_of(bundle))
    assert shown["decision"] is None
    assert shown["periods"][0]["predictions"] is None
    assert shown["periods"][1]["figures"] == {"x": {"value": None, "low": None, "high": None}}
    assert shown["periods"][1]["drifted"] == 2
    assert "–" in text(client_of(bundle))


def test_the_promise_of_another_model_is_not_held_against_this_one(bundle: Bundle) -> None:
    write(records(), {**decided(bundle), "model": "0123456789ab"})
    shown = board(client_of(bundle))
    assert shown["promise"] == {}
    assert f"is of model 0123456789ab; now {bundle.version} answers" in shown["notice"]


def test_the_model_that_answers_now_is_shown_when_it_changes(project: Project) -> None:
    first = pack(lay_out())
    second = pack(lay_out(model="linear"))
    answering, trial = [first], rollout.Trial(Meters(first))
    own, app = monitor.router(lambda: answering[0], None, None, Meters(first), trial), FastAPI()
    app.include_router(own)
    client = TestClient(app)
    shown = board(client)["versions"]
    assert shown["answers"]["bundle"] == first.version
    assert (shown["challenger"]["bundle"], shown["challenger"]["mode"]) == (second.version, None)  # packed, not in use
    trial.now = rollout.Tried(second, "canary", 0.1)
    assert board(client)["versions"]["challenger"]["mode"] == "canary"
    trial.now, trial.reason, answering[:] = None, "it answers another question", [second]
    shown = board(client)
    assert shown["versions"]["answers"]["bundle"] == second.version != first.version
    assert shown["versions"]["challenger"] is None
    assert "No challenger is tried: it answers another question." in shown["notice"]


@pytest.mark.parametrize("case", ["binary", "multiclass", "regression"])
def test_live_numbers_are_those_of_the_log_whatever_the_task(project: Project, log: Log, case: str) -> None:
    parts = lay_out(case)
    bundle = pack(parts)
    frame = parts["holdout"].head(12)
    answers = bundle.decide(frame)[bundle.answers]
    rows = [{} for _ in range(12)]
    counting = traffic.Tally(log.place)
    for number, (start, ago) in enumerate(((0, 2), (4, 30), (8, 300))):
        some = answers.iloc[start : start + 4].to_dict("records")
        log.append(f"r{number}", NOW - timedelta(minutes=ago), bundle, rows[start : start + 4], some)
        counting.now(NOW, bundle.stated)  # what was counted is not counted again
    log.append("old", NOW - timedelta(days=2), bundle, rows[:4], answers.head(4).to_dict("records"))
    shadow = log.entry("r0", NOW, bundle, rows[:4], answers.head(4).to_dict("records"), SHADOW)
    log.submit(shadow).result()  # given to nobody
    hour, day = counting.now(NOW, bundle.stated) or pytest.fail("not counted")
    _, again = traffic.Tally(log.place).now(NOW, bundle.stated) or pytest.fail("not counted")
    assert (hour.requests, hour.rows, day.requests, day.rows) == (2, 8, 3, 12)
    level = {"binary": "probability", "regression": "prediction"}
    column = answers[level.get(case, 'probability_the "l"')]
    assert hour.mean_forecast == pytest.approx(column.head(8).mean())
    assert day.mean_forecast == pytest.approx(column.mean())
    assert again.mean_forecast == pytest.approx(day.mean_forecast)
    wanted = {None: 12} if case == "regression" else answers["action"].value_counts().to_dict()
    assert {share.action: share.rows for share in day.by if share.role == CHAMPION} == wanted
    assert sum(share.rows for share in day.by if share.role == SHADOW) == 4
    assert {share.version for share in day.by} == {bundle.version}
    assert show_level(float(column.mean()), bundle.stated) in text(client_of(bundle, log))


def test_a_log_that_is_made_anew_is_counted_anew(bundle: Bundle, log: Log) -> None:
    answer = {"probability": 0.5, "action": "act", "expected_payoff": -1.0}
    counting = traffic.Tally(log.place)
    log.append("a", NOW, bundle, [{}, {}], [answer, answer])
    assert [span.rows for span in counting.now(NOW, bundle.stated) or ()] == [2, 2]
    for file in log.place.parent.glob("log.sqlite*"):
        file.unlink()
    log.append("b", NOW, bundle, [{}], [answer])
    assert [span.rows for span in counting.now(NOW, bundle.stated) or ()] == [1, 1]
    with closing(sqlite3.connect(log.place)) as connection:
        connection.execute("DROP TABLE predictions")
    assert "the prediction log cannot be read" in board(client_of(bundle, log))["notice"]


def test_nobody_waits_until_a_long_log_is_counted(bundle: Bundle, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    log.append("a", NOW, bundle, [{}], [{"probability": 0.5, "action": "act", "expected_payoff": -1.0}])
    go, real, client = threading.Event(), traffic.Tally._count, client_of(bundle, log)
    monkeypatch.setattr(traffic, "WAIT", 0.0)
    monkeypatch.setattr(traffic.Tally, "_count", lambda self, *given: go.wait(20) and real(self, *given))
    shown = board(client)
    assert (shown["counting"], shown["hour"]) == (True, None)
    assert "The prediction log is being counted." in text(client)
    go.set()
    traffic.tally_of(log)._counting.result()  # type: ignore[union-attr]
    assert board(client)["hour"]["rows"] == 1


def test_requests_are_counted_by_how_they_ended(bundle: Bundle) -> None:
    meters = Meters(bundle)
    client = client_of(bundle, meters=meters)
    assert board(client)["service"] == {"requests": 0, "refused": 0, "errors": 0, "p95_ms": None}
    for status, count in (("200", 90), ("422", 7), ("503", 3)):
        meters.requests.labels("/predict", "POST", status).inc(count)
    meters.requests.labels("/health", "GET", "200").inc(1000)
    for seconds, count in ((0.004, 90), (0.09, 10)):
        for _ in range(count):
            meters.seconds.labels("/predict", "POST").observe(seconds)
    shown = board(client)["service"]
    assert (shown["requests"], shown["refused"], shown["errors"]) == (100, 7, 3)
    assert shown["p95_ms"] == pytest.approx(1000 * (0.075 + 0.025 * 0.5))


def test_prometheus_reads_open_alerts_and_the_decision(bundle: Bundle) -> None:
    registry = CollectorRegistry()
    registry.register(findings.Alerts(findings.Folder()))

    def samples() -> set[str]:
        return {line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")}

    assert samples() == set()
    place = write(records(), decided(bundle))
    assert samples() == {
        'ninefold_alert{alert="ranking",severity="high",subject=""} 1.0',
        'ninefold_alert{alert="inputs",severity="low",subject="amount"} 1.0',
        'ninefold_decision{decision="keep"} 0.0',
        'ninefold_decision{decision="retrain"} 1.0',
        'ninefold_decision{decision="roll back"} 0.0',
        'ninefold_decision{decision="stop acting"} 0.0',
        "ninefold_monitoring_readable 1.0",
    }
    (place / "decision.json").write_text("")
    assert "ninefold_monitoring_readable 0.0" in samples()
    assert len(samples()) == 7
    write([{"period": "1", "alerts": []}], {"decision": "keep"})
    assert not [each for each in samples() if each.startswith("ninefold_alert")]


def test_a_folder_that_is_replaced_while_it_is_read_is_never_read_half(bundle: Bundle) -> None:
    runs = [(records()[:count], {"decision": "keep", "reasons": [str(count)]}) for count in (1, 4)]
    write(*runs[0])
    folder, stop, seen = findings.Folder(), threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            if found := folder.now():
                seen.append((len(found.periods), found.decision["reasons"][0], found.failure))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(60):
        write(*runs[number % 2])
    stop.set()
    reader.join()
    assert {*seen} <= {(1, "1", ""), (4, "4", "")}


def test_versions_come_from_the_registry_and_are_read_again_when_tags_change(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    tags = ["returns@v0.0.1 2020-03-01T10:00:00+01:00", "returns#production#1 2020-03-02T10:00:00+01:00"]
    listed = [{"version": "v0.0.1", "tag": "returns@v0.0.1", "bundle": bundle.version, "champion": True}]
    asked: list[str] = []

    def run(command: list[str], _: Path) -> str:
        asked.append(command[0])
        return "\n".join(tags) if command[0] == "git" else json.dumps(listed)

    monkeypatch.setattr(versions, "_run", run)
    monkeypatch.setattr(versions, "WAIT", 20.0)
    monkeypatch.setattr(versions, "AGAIN", -1.0)
    registry = versions.Registry()

    def look() -> versions.Versions:
        registry.now(bundle)
        assert registry._thread is not None
        registry._thread.join()
        return registry._told(bundle, "")

    found = look()
    assert found.production == versions.Version(
        bundle=bundle.version, registered="v0.0.1", since="2020-03-02T09:00:00+00:00"
    )
    assert found.answers.registered == "v0.0.1"
    assert found.challenger is None
    assert look() == found
    assert asked.count("git") == len(asked) - 1
    tags.append("returns@v0.0.2 2020-03-05T10:00:00+01:00")
    newer = {"version": "v0.0.2", "tag": "returns@v0.0.2", "bundle": "abc", "date": "2020-03-05T10:00:00+01:00"}
    listed.insert(0, {**newer, "champion": False})
    challenger = look().challenger
    assert challenger == versions.Version(bundle="abc", registered="v0.0.2", since="2020-03-05T09:00:00+00:00")


def test_without_a_registry_the_bundle_is_the_version(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "WAIT", 20.0)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", "/")
    shown = board(client_of(bundle))["versions"]
    assert shown["answers"]["bundle"] == bundle.version
    assert shown["production"] is shown["challenger"] is None
    assert "The registry cannot be read: fatal: not a git repository" in shown["notice"]


def test_what_comes_from_data_is_never_markup(bundle: Bundle, log: Log) -> None:
    found = records()
    for record in found:
        record["alerts"] = [alert(HOSTILE, HOSTILE, subject=f'">{HOSTILE}', owner=HOSTILE, sentence=HOSTILE)]
        record["figures"] |= {f'"{HOSTILE}': figure(0.5)}
        record |= {"period": f"{record['period']}{HOSTILE}", "decision": HOSTILE}
    write(found, {"decision": HOSTILE, "reasons": [HOSTILE], "model": f'"{HOSTILE}'})
    log.append("a", NOW, bundle, [{}], [{"probability": 0.5, "action": f'"{HOSTILE}', "expected_payoff": -1.0}])
    bundle.stated["title"] += HOSTILE
    page = client_of(bundle, log, report=f'https://x/"{HOSTILE}').get("/monitor").text
    assert "<script>" not in page
    assert unescape(page).count(HOSTILE) > 10


def test_the_page_loads_and_runs_nothing_but_its_own_script_and_works_without_it(bundle: Bundle) -> None:
    write(records(), decided(bundle))
    page = client_of(bundle).get("/monitor")
    (nonce,) = re.findall(r"script-src 'nonce-([^']{16,})'", page.headers["Content-Security-Policy"])
    assert re.findall(r"<script[^>]*>", page.text) == [f'<script nonce="{nonce}">']
    assert '<noscript><meta http-equiv="refresh" content="30"></noscript>' in page.text
    assert not re.search(r"(?:href|src|action)=[\"'](?:https?:)?//", page.text)
    assert '<a href="/monitor" aria-current="page">' in page.text
    assert 'href="/monitor"' in client_of(bundle).get("/").text  # the desk leads there
    linked = client_of(bundle, report="https://example.org/09_monitoring.html").get("/monitor").text
    assert 'href="https://example.org/09_monitoring.html"' in linked


def test_openapi_describes_the_numbers_and_a_token_guards_them(bundle: Bundle, log: Log) -> None:
    import jsonschema

    write(records(), decided(bundle))
    client = client_of(bundle, log)
    document = client.get("/openapi.json").json()
    assert "/monitor" not in document["paths"]
    schema = document["paths"]["/monitor.json"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.validate(board(client), {**schema, "components": document["components"]})
    assert {"Event", "Predictions", "Board"} <= set(document["components"]["schemas"])  # no name is taken twice
    guarded = TestClient(service.create_app(bundle, token="a-token"))
    assert [guarded.get(path).status_code for path in ("/monitor", "/monitor.json")] == [401, 401]


def test_a_drawing_has_gaps_where_figures_are_not_known() -> None:
    values = [monitor.Figure(**figure(x)) if x else None for x in (0.5, 0.6, None, 0.4)]
    drawn = monitor.trace(values, monitor.Figure(value=0.5, low=0.45, high=0.55))
    assert [len(points.split()) for points in drawn["lines"]] == [2, 1]
    assert len(drawn["areas"]) == 1
    heights = [float(point.split(",")[1]) for points in drawn["lines"] for point in points.split()]
    assert heights[1] < heights[0] < heights[2]  # more stands higher
    assert drawn["level"] == heights[0]
    assert drawn["band"][1] > 0
    assert monitor.trace([None], None) == {"lines": [], "areas": [], "dots": [], "band": None, "level": None}


def test_findings_and_stage_09_agree_where_they_stand() -> None:
    assert findings.MONITORING == monitoring.MONITORING


@pytest.fixture
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


def test_in_a_real_browser_the_page_stays_fresh_fits_and_can_be_read(
    chrome: Any, bundle: Bundle, log: Log, parts: dict[str, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "WAIT", 20.0)
    found = records()
    found[-1]["alerts"].append(alert("inputs", "medium", subject="x" * 300, sentence="y" * 300))
    write(found, decided(bundle))
    answers = bundle.decide(parts["holdout"].head(20))[bundle.answers].to_dict("records")
    log.append("a", datetime.now(UTC), bundle, [{} for _ in answers], answers)
    with served(app_of(bundle, log)) as address:
        for width, scheme in ((390, "light"), (390, "dark"), (1280, "dark"), (1280, "light")):
            screen(chrome, width, scheme)
            chrome.get(f"{address}/monitor")
            assert chrome.execute_script("return document.documentElement.scrollWidth") <= width
            contrast, where = chrome.execute_script(CONTRAST)
            assert contrast >= 4.5, f"{width} {scheme}: {where}"
        assert chrome.execute_script('return document.querySelectorAll(".spark polyline").length') == 6
        tab_to(chrome, "#ended")
        press(chrome, " ")
        assert until(chrome, 'document.querySelector(".ended").open')
        write([*found[:3], {**found[3], "alerts": []}], {**decided(bundle), "decision": "keep"})
        chrome.execute_script("look()")
        assert (
            until(chrome, 'document.querySelector("h1").textContent === "keep" && document.activeElement.id') == "ended"
        )
        assert chrome.execute_script('return document.querySelector(".ended").open')
        assert chrome.execute_script("return state.textContent").startswith("Updated ")
        assert [url for url in asked(chrome) if not url.startswith(f"{address}/")] == []
        assert chrome.get_log("browser") == []
