"""What monitoring found last, as the service tells it: to Prometheus, at its review, and while a new run replaces it."""

from __future__ import annotations

import threading
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry, generate_latest

from ninefold import artifacts, monitoring
from ninefold.serving import app, monitoring_state
from ninefold.serving.bundle import Bundle

HOSTILE = "<script>alert(1)</script>"


def alert(name: str, severity: str, **more: Any) -> dict[str, Any]:
    return {"alert": name, "severity": severity, "value": 0.2, "limit": 0.1, "sentence": f"The {name} moved.", **more}


def records() -> list[dict[str, Any]]:
    """Return three weeks of stage 09; two alerts are still open in the last."""
    inputs = alert("inputs", "low", subject="amount")
    raised = [[alert("volume", "medium")], [inputs], [inputs, alert("ranking", "high")]]
    return [
        {"period": f"2020-W1{number}", "alerts": alerts, "decision": "retrain", "reasons": ["The ranking moved."]}
        for number, alerts in enumerate(raised)
    ]


def write(periods: list[dict[str, Any]], version: str = "abc") -> Path:
    """Write what stage 09 decided, as it does: the folder is replaced whole."""
    decision = monitoring.conclude(periods, SimpleNamespace(best_baseline="always wait"), version)
    artifacts.write_json(decision, artifacts.output(monitoring.MONITORING) / "decision.json")
    artifacts.publish()
    return artifacts.path(monitoring.MONITORING) / "decision.json"


def test_prometheus_reads_open_alerts_the_decision_and_its_age(bundle: Bundle) -> None:
    registry = CollectorRegistry()
    registry.register(monitoring_state.Collector())

    def samples() -> set[str]:
        return {line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")}

    assert samples() == set()
    place = write(records(), bundle.version)
    values = samples()
    (written,) = [each for each in values if each.startswith("ninefold_monitoring_timestamp_seconds ")]
    assert float(written.split()[1]) == pytest.approx(place.stat().st_mtime)
    assert values - {written} == {
        'ninefold_alert{alert="ranking",severity="high",subject=""} 1.0',
        'ninefold_alert{alert="inputs",severity="low",subject="amount"} 1.0',
        'ninefold_decision{decision="keep"} 0.0',
        'ninefold_decision{decision="retrain"} 1.0',
        'ninefold_decision{decision="roll back"} 0.0',
        'ninefold_decision{decision="stop acting"} 0.0',
        f'ninefold_monitoring_info{{model="{bundle.version}",period="2020-W12"}} 1.0',
        "ninefold_monitoring_readable 1.0",
    }
    for damaged in ("", "[{", "[7]", '{"periods": [7]}'):
        place.write_text(damaged)
        assert samples() == {"ninefold_monitoring_readable 0.0"}
    write([])
    assert not [each for each in samples() if each.startswith("ninefold_alert")]


def test_the_review_tells_what_was_found_and_where_the_report_is(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = TestClient(app.create_app(bundle))

    def state() -> str:
        return client.get("/").text.partition("<dt>monitoring</dt><dd>")[2].partition("</dd>")[0]

    assert state() == "none yet"
    place = write(records(), bundle.version)
    assert state() == "retrain, open alerts: 2, at the close of 2020-W12; see reports/09_monitoring.html"
    write([{**records()[0], "period": HOSTILE}])
    assert HOSTILE in unescape(state())
    assert HOSTILE not in state()
    write([])
    assert state() == "keep; see reports/09_monitoring.html (of model abc)"
    place.write_text("{")
    assert "cannot be read" in state()
    monkeypatch.chdir("/")
    assert monitoring_state.read() is None


def test_a_decision_that_is_replaced_while_it_is_read_is_never_read_half(bundle: Bundle) -> None:
    runs = [records()[:1], records()]
    write(runs[0])
    stop, states = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            if state := monitoring_state.read():
                states.append((state.period, len(state.open), state.failure))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(60):
        write(runs[number % 2])
    stop.set()
    reader.join()
    assert {*states} <= {("2020-W10", 1, ""), ("2020-W12", 2, "")}
