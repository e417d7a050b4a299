"""The service in operation: ids, metrics, a token, limits on time and waiting, and a stop that finishes what it began."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from bundles import lay_out, pack
from conftest import Project
from fastapi import HTTPException
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from ninefold.errors import NinefoldError
from ninefold.serving import app as service
from ninefold.serving import log_export, middleware
from ninefold.serving.bundle import Bundle
from ninefold.serving.log import Log
from ninefold.serving.middleware import ConcurrencyLimiter, LimitBody

ROWS = {"rows": [{"customer": "ann"}]}
INFER = "/v2/models/returns/infer"
INPUTS = [{"name": "customer", "shape": [1], "datatype": "BYTES", "data": ["ann"]}]
TOKEN = "s3cr3t-token"
DASHBOARD = Path(__file__).parents[2] / "deploy/grafana.json"
SLOW = """
import time
from ninefold.serving import app as service
from ninefold.serving.bundle import Bundle
quick = Bundle.answer
def answer(self, rows):
    time.sleep({seconds})
    return quick(self, rows)
Bundle.answer = answer
service.run(__import__("pathlib").Path({bundle!r}), port=0, log=__import__("pathlib").Path({log!r}))
"""


@pytest.fixture
def client(bundle: Bundle) -> TestClient:
    return TestClient(service.create_app(bundle))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    opened = Log(tmp_path / "log.sqlite")
    yield opened
    opened.close()


def samples(client: TestClient, **headers: str) -> dict[tuple[str, ...], float]:
    """Return the samples of /metrics by name and the values of their labels."""
    text = client.get("/metrics", headers=headers).text
    return {
        (each.name, *(each.labels[name] for name in sorted(each.labels))): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }


@pytest.mark.parametrize("given", ["a", "7f/3:x", "x" * 128, "~!"])
def test_a_sane_request_id_is_kept(client: TestClient, given: str) -> None:
    answer = client.post("/predict", json=ROWS, headers={"X-Request-ID": given})
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", [None, b"", b"x" * 129, b"a b", b"a\tb", b"\xc3\xa9", b"\x7f"])
def test_another_request_id_is_replaced_by_a_random_one(client: TestClient, given: bytes | None) -> None:
    answer = client.post("/predict", json=ROWS, headers={} if given is None else {"X-Request-ID": given})
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]
    assert str(uuid.UUID(answer.json()["request_id"])) == answer.json()["request_id"]


def test_refusals_have_a_request_id_too(client: TestClient) -> None:
    for answer in (client.get("/nowhere"), client.post("/predict", json={}), client.post("/predict", content=b"{")):
        assert uuid.UUID(answer.headers["X-Request-ID"])


def test_the_open_inference_protocol_has_its_own_id(client: TestClient) -> None:
    answer = client.post(INFER, json={"id": "mine", "inputs": INPUTS}, headers={"X-Request-ID": "other"})
    assert answer.json()["id"] == answer.headers["X-Request-ID"] == "mine"
    answer = client.post(INFER, json={"inputs": INPUTS}, headers={"X-Request-ID": "other"})
    assert answer.json()["id"] == answer.headers["X-Request-ID"] == "other"
    answer = client.post(INFER, json={"id": "é 1", "inputs": INPUTS})  # comes back, but fits no header
    assert answer.json()["id"] == "é 1"
    assert uuid.UUID(answer.headers["X-Request-ID"])


def test_metrics_count_requests_by_the_template_of_their_route(client: TestClient) -> None:
    client.post("/predict", json=ROWS)
    client.post("/predict", json={"rows": [{"customer": 5}]})
    client.post("/predict", content=b" " * 60_000)
    for name in ("returns", "a", "b"):
        client.post(f"/v2/models/{name}/infer", json={"inputs": INPUTS})
    for path in ("/x", "/y", "/%0ax"):
        client.get(path)
    client.request("MADEUP", "/predict")
    found = samples(client)
    requests = {key[1:]: value for key, value in found.items() if key[0] == "ninefold_requests_total"}
    assert requests == {
        ("POST", "/predict", "200"): 1,
        ("POST", "/predict", "422"): 1,
        ("POST", "/predict", "413"): 1,
        ("POST", "/v2/models/{name}/infer", "200"): 1,
        ("POST", "/v2/models/{name}/infer", "404"): 2,
        ("GET", "unmatched", "404"): 3,
        ("other", "/predict", "405"): 1,
    }
    assert found["ninefold_request_seconds_count", "POST", "/predict"] == 3
    assert found["ninefold_request_seconds_bucket", "+Inf", "POST", "/predict"] == 3


def test_metrics_count_rows_and_actions_and_name_the_bundle(client: TestClient, bundle: Bundle) -> None:
    before = samples(client)
    assert before["ninefold_actions_total", "act"] == before["ninefold_actions_total", "wait"] == 0
    rows = [{"customer": "eve", "amount": amount} for amount in (1, 99, 98)]
    answer = client.post("/predict", json={"rows": rows}).json()
    client.post(INFER, json={"inputs": INPUTS})
    after, chosen = samples(client), [each["action"] for each in answer["predictions"]]
    assert after["ninefold_rows_total",] == 4
    assert after["ninefold_actions_total", "act"] == chosen.count("act") > 0
    assert after["ninefold_actions_total", "act"] + after["ninefold_actions_total", "wait"] == 4
    assert after["ninefold_bundle_info", "2020-02-20T00:00:00", "returns", bundle.version] == 1


def test_actions_that_are_quantities_make_no_labels(project: Project) -> None:
    bundle = pack(lay_out("regression"))
    client = TestClient(service.create_app(bundle))
    client.post("/predict", json={"rows": [{"prediction": 5}, {"prediction": 6}]})
    found = samples(client)
    assert found["ninefold_rows_total",] == 2
    assert not any(name.startswith("ninefold_actions") for name, *_ in found)


def test_two_services_in_one_process_do_not_mix(bundle: Bundle, client: TestClient) -> None:
    client.post("/predict", json=ROWS)
    assert samples(TestClient(service.create_app(bundle)))["ninefold_rows_total",] == 0


def test_the_log_is_measured(bundle: Bundle, log: Log) -> None:
    client = TestClient(service.create_app(bundle, log))
    before = samples(client)
    client.post("/predict", json=ROWS)
    assert before["ninefold_log_queue",] == 0
    assert samples(client)["ninefold_log_commits",] == before["ninefold_log_commits",] + 1


def test_every_panel_of_the_dashboard_asks_for_metrics_that_the_service_has(bundle: Bundle, log: Log) -> None:
    client = TestClient(service.create_app(bundle, log))
    client.post("/predict", json=ROWS)
    declared = re.findall(r"^# TYPE (\S+)", client.get("/metrics").text, flags=re.M)  # also of what has no sample yet
    exposed = {*declared, *(name for name, *_ in samples(client))}
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        for target in panel["targets"]:
            named = set(re.findall(r"\bninefold_\w+", target["expr"]))
            assert named, panel["title"]
            assert named <= exposed, panel["title"]


@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer ", "Bearer s3cr3t-toke", f"Basic {TOKEN}", TOKEN])
def test_without_the_token_all_but_health_is_refused(bundle: Bundle, given: str | None) -> None:
    client = TestClient(service.create_app(bundle, token=TOKEN))
    headers = {} if given is None else {"Authorization": given}
    for path in ("/metrics", "/openapi.json", "/v2", "/v2/models/returns", "/v2/models/returns/ready", "/nowhere"):
        answer = client.get(path, headers=headers)
        assert (answer.status_code, "Bearer" in answer.headers["WWW-Authenticate"]) == (401, True)
        assert "expected the header Authorization: Bearer" in answer.json()["error"]
        assert TOKEN not in answer.text
    for path in ("/predict", INFER):
        assert client.post(path, content=b"{", headers=headers).status_code == 401
    for path in ("/health", "/ready", "/v2/health/live", "/v2/health/ready"):
        assert client.get(path, headers=headers).status_code == 200


def test_with_the_token_all_is_answered(bundle: Bundle) -> None:
    client = TestClient(service.create_app(bundle, token=TOKEN))
    for given in (f"Bearer {TOKEN}", f"bearer  {TOKEN}"):
        assert client.post("/predict", json=ROWS, headers={"Authorization": given}).status_code == 200
    found = samples(client, Authorization=f"Bearer {TOKEN}")
    assert found["ninefold_rows_total",] == 2


def test_the_token_comes_from_the_environment_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from-the-file\n")
    assert middleware.token({}) is None
    assert middleware.token({"NINEFOLD_TOKEN": TOKEN}) == TOKEN
    assert middleware.token({"NINEFOLD_TOKEN_FILE": str(file)}) == "from-the-file"


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"NINEFOLD_TOKEN": ""}, "NINEFOLD_TOKEN: found nothing"),
        ({"NINEFOLD_TOKEN": "two words"}, "NINEFOLD_TOKEN: found other characters"),
        ({"NINEFOLD_TOKEN": "a", "NINEFOLD_TOKEN_FILE": "b"}, "both are set"),
        ({"NINEFOLD_TOKEN_FILE": "/nowhere/token"}, "cannot be read"),
        ({"NINEFOLD_TOKEN_FILE": os.devnull}, "found nothing"),
    ],
)
def test_a_token_that_would_let_everybody_in_is_refused(environment: dict[str, str], says: str) -> None:
    with pytest.raises(NinefoldError, match=says):
        middleware.token(environment)


@pytest.mark.parametrize(
    ("host", "token", "warns"),
    [
        ("127.0.0.1", None, False),
        ("::1", None, False),
        ("localhost", None, False),
        ("0.0.0.0", TOKEN, False),
        ("0.0.0.0", None, True),
        ("::", None, True),
        ("10.0.0.7", None, True),
    ],
)
def test_letting_others_in_without_a_token_is_warned_of(host: str, token: str | None, warns: bool) -> None:
    assert bool(middleware.warning(host, token)) == warns


def test_an_answer_that_takes_too_long_is_refused_and_not_logged(
    bundle: Bundle, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(bundle.described["limits"], "timeout_s", 0.2)
    quick, slow = type(bundle).answer, [0.8]
    monkeypatch.setattr(type(bundle), "answer", lambda self, rows: (time.sleep(slow[0]), quick(self, rows))[1])
    client = TestClient(service.create_app(bundle, log))
    began = time.monotonic()
    for answer in (client.post("/predict", json=ROWS), client.post(INFER, json={"inputs": INPUTS})):
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert answer.json()["error"].startswith("not answered within 0.2 s")
    assert time.monotonic() - began < 0.8  # neither waited for its computation
    slow[0] = 0
    time.sleep(0.8)
    assert client.post("/predict", json=ROWS).status_code == 200
    assert len(log_export.read(log.place)) == 1


def test_what_cannot_wait_is_refused_at_once(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bundle.described["limits"], "max_waiting", 0)
    quick, release = type(bundle).answer, threading.Event()
    monkeypatch.setattr(type(bundle), "answer", lambda self, rows: (release.wait(10), quick(self, rows))[1])
    app = service.create_app(bundle)

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            held = [asyncio.create_task(client.post("/predict", json=ROWS)) for _ in range(middleware.WORKERS)]
            await asyncio.sleep(0.3)
            refused = await client.post("/predict", json=ROWS)
            alive = await client.get("/health")
            release.set()
            return [refused, alive, *await asyncio.gather(*held), await client.post("/predict", json=ROWS)]

    refused, *others = asyncio.run(ask())
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert refused.json()["error"].startswith(f"busy: {middleware.WORKERS} requests are in hand")
    assert [each.status_code for each in others] == [200] * (middleware.WORKERS + 2)


def test_what_waited_too_long_is_never_computed() -> None:
    limiter, done = ConcurrencyLimiter(timeout=0.2, waiting=1, workers=1), []

    async def take(name: str) -> None:
        async with limiter.slot():
            await limiter.compute(lambda: (time.sleep(0.5), done.append(name)))

    async def both() -> list[Any]:
        return await asyncio.gather(take("first"), take("second"), return_exceptions=True)

    assert [type(each) for each in asyncio.run(both())] == [HTTPException, HTTPException]
    time.sleep(0.6)
    assert done == ["first"]


def test_a_body_that_does_not_arrive_is_refused() -> None:
    said: list[dict[str, Any]] = []

    async def never() -> dict[str, Any]:
        await asyncio.sleep(60)
        return {}

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    async def unreached(*_: Any) -> None:
        raise AssertionError

    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": []}
    receive: Callable[[], Awaitable[dict[str, Any]]] = never
    asyncio.run(LimitBody(unreached, limit=100, timeout=0.1)(scope, receive, send))
    assert said[0]["status"] == 408
    assert b"not here within 0.1 s" in said[1]["body"]


def test_a_stop_finishes_what_was_begun_and_the_next_start_goes_on(bundle: Bundle, tmp_path: Path) -> None:
    place = tmp_path / "log.sqlite"
    code = SLOW.format(seconds=1, bundle=str(bundle.place), log=str(place))
    env = {**os.environ, "PYTHONPATH": str(Path(service.__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    for round_ in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            assert child.stdout is not None
            url = child.stdout.readline().split()[-1]
            with ThreadPoolExecutor(3) as pool:
                asked = [
                    pool.submit(httpx.post, f"{url}/predict", json=ROWS, trust_env=False, timeout=30) for _ in range(3)
                ]
                time.sleep(0.6)
                assert not any(each.done() for each in asked)
                child.send_signal(signal.SIGTERM)
                answers = [each.result() for each in asked]
            _, complaints = child.communicate(timeout=20)
        finally:
            child.kill()
            child.wait()
        assert (child.returncode, complaints) == (0, "")
        assert [answer.status_code for answer in answers] == [200] * 3
        assert sorted(file.name for file in tmp_path.glob("log.*")) == ["log.sqlite"]  # nothing is left in its WAL
        found = log_export.read(place)["request_id"].tolist()
        assert len(found) == 3 * (round_ + 1)
        assert {answer.json()["request_id"] for answer in answers} <= set(found)
