"""The service in operation: ids, metrics, a token, limits on time and waiting, and a stop that finishes what it began."""

import asyncio
import json
import os
import re
import signal
import sqlite3
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
from browser import served
from bundles import logged_rows
from fastapi import Request
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from servers import started
from starlette.exceptions import HTTPException

from ninefold.errors import NinefoldError
from ninefold.serving import app as service
from ninefold.serving import middleware, review
from ninefold.serving.bundle import Bundle
from ninefold.serving.log import Log

ROWS = {"rows": [{"customer": "ann"}]}
INFER = "/v2/models/returns/infer"
INPUTS = [{"name": "customer", "shape": [1], "datatype": "BYTES", "data": ["ann"]}]
TOKEN = "s3cr3t-token"
DASHBOARD = Path(__file__).parents[2] / "deploy/grafana.json"
SLOW = """
import sys, time
from pathlib import Path
from ninefold.serving import app as service
from ninefold.serving.bundle import Bundle
quick = Bundle.answer
Bundle.answer = lambda self, rows: (time.sleep(1), quick(self, rows))[1]
service.run(Path(sys.argv[1]), port=0, log=Path(sys.argv[2]))
"""


def samples(client: TestClient) -> dict[tuple[str, ...], float]:
    """Return the samples of /metrics by name and the values of their labels."""
    return {
        (each.name, *(each.labels[name] for name in sorted(each.labels))): each.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for each in family.samples
    }


@pytest.mark.parametrize("sent", ["7f/3:x", "x" * 128, "~!", None, b"x" * 129, b"a b", b"a\tb", b"\xc3\xa9"])
def test_a_sane_request_id_is_kept_and_another_one_replaced_by_a_random_one(client: TestClient, sent: Any) -> None:
    answer = client.post("/predict", json=ROWS, headers={} if sent is None else {"X-Request-ID": sent})
    number = answer.json()["request_id"]
    assert number == answer.headers["X-Request-ID"]
    assert number == sent if isinstance(sent, str) else uuid.UUID(number)
    assert uuid.UUID(client.post("/predict", content=b"{").headers["X-Request-ID"])  # refusals have one too


def test_the_open_inference_protocol_has_its_own_id(client: TestClient) -> None:
    for body, wanted in (({"id": "mine"}, "mine"), ({}, "other"), ({"id": "é 1"}, "é 1")):
        answer = client.post(INFER, json={**body, "inputs": INPUTS}, headers={"X-Request-ID": "other"})
        assert answer.json()["id"] == wanted
        assert answer.headers["X-Request-ID"] == (wanted if wanted.isascii() else "other")  # é fits no header


def test_requests_are_counted_by_the_template_of_their_route_and_in_the_log_by_minute(bundle: Bundle, log: Log) -> None:
    client = TestClient(service.create_app(bundle, log))
    client.post("/predict", json=ROWS)
    client.post("/predict", json={"rows": [{"customer": 5}]})
    for path in ("/v2/models/a", "/v2/models/b", "/x", "/y", "/%0ax"):
        client.get(path)
    client.request("MADEUP", "/predict")
    values = samples(client)
    wanted = {
        ("POST", "/predict", "200"): 1,
        ("POST", "/predict", "422"): 1,
        ("GET", "/v2/models/{name}", "404"): 2,
        ("GET", "unmatched", "404"): 3,
        ("other", "/predict", "405"): 1,
    }
    assert {key[1:]: value for key, value in values.items() if key[0] == "ninefold_requests_total"} == wanted
    assert values["ninefold_request_seconds_count", "POST", "/predict"] == 2
    log.close()
    with sqlite3.connect(log.place) as connection:
        table = pd.read_sql("SELECT * FROM traffic", connection, dtype={"status": "str"})
    counts = table.groupby(["route", "status"])["requests"].sum().to_dict()
    assert counts == {key[1:]: value for key, value in wanted.items()} | {("/metrics", "200"): 1}
    assert abs(table["minute"].iloc[0] - time.time() / 60) < 2
    assert (table["seconds"] > 0).all()


def test_metrics_count_rows_and_actions_and_name_the_bundle(client: TestClient, bundle: Bundle) -> None:
    assert samples(client)["ninefold_actions_total", "act"] == 0
    rows = [{"customer": "eve", "amount": amount} for amount in (1, 99, 98)]
    answer = client.post("/predict", json={"rows": rows}).json()
    client.post(INFER, json={"inputs": INPUTS})
    after, chosen = samples(client), [each["action"] for each in answer["predictions"]]
    assert after["ninefold_rows_total",] == 4
    assert after["ninefold_actions_total", "act"] == chosen.count("act") > 0
    assert after["ninefold_actions_total", "act"] + after["ninefold_actions_total", "wait"] == 4
    assert after["ninefold_bundle_info", "2020-02-20T00:00:00", "returns", bundle.version] == 1


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


@pytest.mark.parametrize("given", [None, "Bearer ", "Bearer s3cr3t-toke", f"Basic {TOKEN}", TOKEN])
def test_without_the_token_all_but_health_is_refused(bundle: Bundle, given: str | None) -> None:
    client = TestClient(service.create_app(bundle, token=TOKEN))
    headers = {} if given is None else {"Authorization": given}
    for path in ("/", "/metrics", "/openapi.json", "/v2", "/v2/models/returns/ready", "/predict", INFER, "/nowhere"):
        answer = client.post(path, content=b"{", headers=headers)
        assert (answer.status_code, "Bearer" in answer.headers["WWW-Authenticate"]) == (401, True)
        assert "expected the header Authorization: Bearer" in answer.json()["error"]
        assert TOKEN not in answer.text
    for path in ("/health", "/ready", "/v2/health/live", "/v2/health/ready"):
        assert client.get(path, headers=headers).status_code == 200
    for right in (f"Bearer {TOKEN}", f"bearer  {TOKEN}"):
        assert client.post("/predict", json=ROWS, headers={"Authorization": right}).status_code == 200
    document = client.get("/openapi.json", headers={"Authorization": right}).json()
    guarded = {path for path, ways in document["paths"].items() if "security" in next(iter(ways.values()))}
    assert guarded == {*document["paths"]} - middleware.PUBLIC


def test_the_token_comes_from_the_environment_or_a_file_and_none_that_lets_everybody_in(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-the-file\n")
    assert (middleware.token({}), middleware.token({"NINEFOLD_TOKEN": TOKEN})) == (None, TOKEN)
    assert middleware.token({"NINEFOLD_TOKEN_FILE": f"{tmp_path}/token"}) == "from-the-file"
    for token, file, says in (
        ("", None, "NINEFOLD_TOKEN: found nothing"),
        ("two words", None, "NINEFOLD_TOKEN: found other characters"),
        ("a", "b", "both are set"),
        (None, "/nowhere/token", "cannot be read"),
        (None, os.devnull, "found nothing"),
    ):
        given = {"NINEFOLD_TOKEN": token, "NINEFOLD_TOKEN_FILE": file}
        with pytest.raises(NinefoldError, match=says):
            middleware.token({name: value for name, value in given.items() if value is not None})
    warned = [host for host in ("::1", "localhost", "0.0.0.0", "10.0.0.7", "a") if middleware.warning(host, None)]
    assert warned == ["0.0.0.0", "10.0.0.7", "a"]
    assert middleware.warning("0.0.0.0", TOKEN) is None


def test_an_answer_that_takes_too_long_is_refused_and_not_logged(bundle: Bundle, log: Log) -> None:
    bundle.described["limits"]["timeout_s"] = 1
    quick, release = bundle.answer, threading.Event()
    vars(bundle)["answer"] = lambda rows: (release.wait(30), quick(rows))[1]
    client = TestClient(service.create_app(bundle, log))
    began = time.monotonic()
    for answer in (client.post("/predict", json=ROWS), client.post(INFER, json={"inputs": INPUTS})):
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert answer.json()["error"].startswith("not answered within 1 s")
    assert time.monotonic() - began < 30  # neither waited for its computation
    release.set()
    assert client.post("/predict", json=ROWS).status_code == 200
    assert len(logged_rows(log.place)) == 1


def test_a_host_is_allowed_by_name_by_domain_or_where_every_address_is_served_by_address(bundle: Bundle) -> None:
    def status(path: str, name: str, *given: Any) -> int:
        client = TestClient(service.create_app(bundle, token=TOKEN, hosts=middleware.allowed_hosts(*given)))
        return client.get(path, headers={"Host": name, "Authorization": f"Bearer {TOKEN}"}).status_code

    given = ("10.0.0.7", ["*.example.org"], {"NINEFOLD_ALLOWED_HOSTS": "Shop.example, other"})
    names = ["LOCALHOST:1", "[::1]", "10.0.0.7:8000", "a.b.example.org", "shop.example", "other"]
    assert {status("/metrics", name, *given) for name in names} == {200}
    foreign = ["example.org", "10.0.0.8", "[::2]", "shop.example.evil", "evil@localhost", "localhost:x", "::1", ""]
    assert {status("/metrics", name, *given) for name in foreign} == {400}
    assert {status(path, "10.0.0.8", *given) for path in middleware.PUBLIC} == {200}  # as load balancers ask
    wild = {name: status("/metrics", name, "0.0.0.0") for name in ("10.0.0.8", "[fd00::8]:80", "evil.example")}
    assert list(wild.values()) == [200, 200, 400]
    for wrong in ("http://a", "a:80", "a b", "*a"):
        with pytest.raises(NinefoldError, match=r"NINEFOLD_ALLOWED_HOSTS: found .* without scheme and port"):
            middleware.allowed_hosts("::", [], {"NINEFOLD_ALLOWED_HOSTS": f"a,{wrong}"})


def test_probes_and_answers_wait_neither_for_explanations_nor_for_large_bodies(bundle: Any, monkeypatch: Any) -> None:
    release, explain, parse = threading.Event(), review.explanation.explain, Request.json

    async def slowly(call: Request) -> Any:
        release.wait(0.0 if b"ann" in await call.body() else 20)
        return await parse(call)

    monkeypatch.setattr(review.explanation, "explain", lambda *given: (release.wait(20), explain(*given))[1])
    monkeypatch.setattr(Request, "json", slowly)
    bundle.described["limits"]["max_waiting"], options = 44, {"trust_env": False, "timeout": 30}
    with served(service.create_app(bundle)) as url, ThreadPoolExecutor(48) as pool:
        why = [pool.submit(httpx.get, f"{url}/review/why?row=0", **options) for _ in range(46)]
        large = pool.submit(httpx.post, f"{url}/predict", json={"rows": [{"customer": "bob"}]}, **options)
        time.sleep(1)
        began = time.monotonic()
        paths = ("/health", "/ready", "/v2/health/ready", "/", "/metrics")
        answers = [httpx.get(f"{url}{path}", **options) for path in paths]
        answers.append(httpx.post(f"{url}/predict", json=ROWS, **options))
        assert time.monotonic() - began < 5
        assert [each.status_code for each in answers] == [200] * 6
        assert sum(each.done() for each in [*why, large]) == 1
        release.set()
        busy = [each.result() for each in why if each.result().status_code != 200]
        assert [(each.status_code, each.headers["Retry-After"]) for each in busy] == [(503, "1")]
        assert busy[0].json()["error"].startswith("busy: 45 requests are in hand")
        assert large.result().status_code == 200


def test_a_body_that_does_not_arrive_is_refused() -> None:
    with pytest.raises(HTTPException, match=r"408: body: not here within 0\.1 s"):
        asyncio.run(middleware.read_body(100, 0.1, {"type": "http"}, partial(asyncio.sleep, 60)))


def test_a_stop_finishes_what_was_begun_and_the_next_start_goes_on(bundle: Bundle, tmp_path: Path) -> None:
    place, numbers = tmp_path / "log.sqlite", []
    for _ in range(2):
        with started("-c", SLOW, str(bundle.place), str(place)) as (child, line), ThreadPoolExecutor(3) as pool:
            options: dict[str, Any] = {"json": ROWS, "trust_env": False, "timeout": 30}
            futures = [pool.submit(httpx.post, f"{line.split()[-1]}/predict", **options) for _ in range(3)]
            time.sleep(0.6)
            assert not any(each.done() for each in futures)
            child.send_signal(signal.SIGTERM)
            numbers += [each.result().json()["request_id"] for each in futures]
            _, complaints = child.communicate(timeout=20)
        assert (child.returncode, complaints) == (0, "")
        assert sorted(file.name for file in tmp_path.glob("log.*")) == ["log.sqlite"]  # nothing is left in its WAL
        assert sorted(logged_rows(place)["request_id"]) == sorted(numbers)
