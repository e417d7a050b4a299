"""What monitoring found last, as the service tells it: to Prometheus, at its review, and while a new run replaces it."""

import re
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from ninefold import artifacts, monitoring
from ninefold.serving import app, monitoring_state
from ninefold.serving.bundle import Bundle

HOSTILE = "<script>alert(1)</script>"


def records() -> list[dict[str, Any]]:
    """Return three weeks of stage 09; two alerts are still open in the last."""
    volume = {"alert": "volume", "severity": "medium"}
    inputs = {"alert": "inputs", "severity": "low", "subject": "amount"}
    ranking = {"alert": "ranking", "severity": "high"}
    return [
        {"period": f"2020-W1{number}", "alerts": alerts, "decision": "retrain", "reasons": ["The ranking moved."]}
        for number, alerts in enumerate([[volume], [inputs], [inputs, ranking]])
    ]


def write(periods: list[dict[str, Any]], version: str = "abc") -> Path:
    """Write what stage 09 decided, as it does: the folder is replaced whole."""
    decision = monitoring.conclude(periods, version, "always wait")
    artifacts.write_json(decision, artifacts.output(monitoring.MONITORING) / "decision.json")
    artifacts.publish()
    return artifacts.path(monitoring.MONITORING) / "decision.json"


def test_prometheus_reads_open_alerts_the_decision_and_its_age_and_the_review_tells_them(bundle: Bundle) -> None:
    client = TestClient(app.create_app(bundle))

    def samples() -> set[str]:
        return {*re.findall(r"^ninefold_(?:alert|decision|monitoring).*", client.get("/metrics").text, flags=re.M)}

    def review() -> str:
        return client.get("/").text.partition("<dt>monitoring</dt><dd>")[2].partition("</dd>")[0]

    assert (samples(), review()) == (set(), "none yet")
    place = write(records(), bundle.version)
    values = samples()
    (written,) = [each for each in values if each.startswith("ninefold_monitoring_timestamp_seconds ")]
    assert float(written.split()[1]) == pytest.approx(place.stat().st_mtime)
    assert values - {written} == {
        'ninefold_alert{alert="ranking",severity="high",subject=""} 1.0',
        'ninefold_alert{alert="inputs",severity="low",subject="amount"} 1.0',
        *(f'ninefold_decision{{decision="{name}"}} 0.0' for name in ("keep", "repair", "roll back", "stop acting")),
        'ninefold_decision{decision="retrain"} 1.0',
        f'ninefold_monitoring_info{{model="{bundle.version}",period="2020-W12"}} 1.0',
        "ninefold_monitoring_readable 1.0",
    }
    assert review() == "retrain, open alerts: 2, at the close of 2020-W12; see reports/09_monitoring.html"
    for damaged in ("", "[7]", '{"periods": [7]}'):
        place.write_text(damaged)
        assert samples() == {"ninefold_monitoring_readable 0.0"}
        assert "cannot be read" in review()
    write([])
    assert review() == "keep; see reports/09_monitoring.html (of model abc)"
    write([{**records()[0], "period": HOSTILE}])
    assert (HOSTILE in review(), HOSTILE in unescape(review())) == (False, True)


def test_a_decision_that_is_replaced_while_it_is_read_is_never_read_half(bundle: Bundle) -> None:
    write(records()[:1])
    states: set[Any] = set()
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(lambda: [write(records()[: 1 + 2 * (number % 2)]) for number in range(60)])
        while not writing.done():
            if state := monitoring_state.read():
                states.add((state.period, len(state.open), state.failure))
    assert len(writing.result()) == 60
    assert states <= {("2020-W10", 1, ""), ("2020-W12", 2, "")}
