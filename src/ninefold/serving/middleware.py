"""The service in operation: request ids, metrics, hosts, a bearer token; limits on time, size and requests at once."""

import asyncio
import hmac
import ipaddress
import json
import math
import os
import re
import threading
import time
import uuid
from collections import Counter as Counts
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from fastapi.responses import Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from ninefold.collection import failing
from ninefold.errors import NinefoldError
from ninefold.serving import monitoring_state
from ninefold.serving.bundle import Bundle
from ninefold.serving.log import Log

HEADER = "X-Request-ID"
VALID_ID = re.compile(r"[\x21-\x7e]{1,128}")  # visible ASCII: harmless in headers, logs and terminals
TOKEN, TOKEN_FILE = "NINEFOLD_TOKEN", "NINEFOLD_TOKEN_FILE"
TOKEN_PATTERN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # a bearer token (RFC 6750, section 2.1)
HOSTS, LOCAL = "NINEFOLD_ALLOWED_HOSTS", ("localhost", "127.0.0.1", "[::1]")
HOST_PATTERN = re.compile(r"\*|(\*\.)?[\w-]+(\.[\w-]+)*|\[[0-9a-f:.]+\]", re.ASCII | re.IGNORECASE)
PUBLIC = frozenset({"/health", "/ready", "/v2/health/live", "/v2/health/ready"})  # probes: no token, any host
SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)
RETRY = {"Retry-After": "1"}
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
ROUTE = ("route", "method")
# Python computes one answer at a time; more threads let small requests pass large ones. Explanations take long, and pages
# after a change of their rows; neither delays an answer, or what Prometheus reads.
THREADS = {"answer": (os.cpu_count() or 1) + 2, "explanation": 1, "page": 1, "other": 1}

App = Callable[[Any, Any, Any], Awaitable[None]]
Check = Callable[[Headers], None]  # raises `HTTPException`
Routes = Sequence[tuple[re.Pattern[str], str]]  # of each route its pattern and its template


class Metrics:
    """The metrics of a service for Prometheus, in their own registry; they continue when another bundle takes over."""

    def __init__(self, bundle: Bundle, log: Log | None = None) -> None:
        self.log, self.registry = log, CollectorRegistry()
        self.registry.register(monitoring_state.Collector())
        counter, gauge = partial(Counter, registry=self.registry), partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry, buckets=SECONDS)
        self.requests = counter("ninefold_requests", "Requests answered or refused.", [*ROUTE, "status"])
        self.seconds = histogram("ninefold_request_seconds", "Time to the last byte of the answer.", ROUTE)
        self.rows = counter("ninefold_rows", "Rows predicted.")
        self.actions = counter("ninefold_actions", "Actions chosen.", ["action"])
        self.swaps = counter("ninefold_swaps", "Bundles that took over while the service ran.")
        about = "Answers of a challenger: a canary's are returned, a shadow's only logged."
        self.challenger_answers = counter("ninefold_challenger_answers", about, ["role"])
        self.challenger_failures = counter("ninefold_challenger_failures", "Requests on which a challenger failed.")
        self.shadow_dropped = counter("ninefold_shadow_dropped", "Requests that a shadow had no time for.")
        self.bundle = Info("ninefold_bundle", "The bundle that answers.", registry=self.registry)
        self.stale = gauge("ninefold_swap_failing", "1 while the bundle in production cannot take over.")
        self.looked = gauge("ninefold_swap_look_age_seconds", "Since the last look for another bundle in production.")
        self.set_bundle(bundle)
        if log:
            waiting = gauge("ninefold_log_queue", "Requests that wait to be written to the prediction log.")
            waiting.set_function(lambda: len(log.queue))

    def set_bundle(self, bundle: Bundle) -> None:
        """Record which bundle answers from now on."""
        self.budget = bundle.described["limits"].get("latency_budget_ms", math.inf) / 1000
        self.bundle.info({"model": bundle.name, "version": bundle.version, "history_as_of": bundle.moment or ""})
        for action in bundle.problem.actions:  # none of a regression: its quantities have no end of values
            self.actions.labels(action)

    def count_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request, and its time."""
        self.requests.labels(route, method, status).inc()
        self.seconds.labels(route, method).observe(seconds)
        if self.log:
            self.log.count(route, status, seconds, seconds > self.budget)

    def count_answers(self, records: Sequence[Mapping[str, Any]], bundle: Bundle) -> None:
        """Count the rows of an answer of `bundle`, and their actions."""
        self.rows.inc(len(records))
        for action, count in Counts(record["action"] for record in records if bundle.problem.is_class).items():
            self.actions.labels(action).inc(count)


class Limiter:
    """Answers requests in threads of its own. Those beyond its queue are refused with 503, and those that take too long.

    The event loop reads the bodies, at most `max_body_mb` each, and sends the answers; it never waits for a computation. A
    computation that has begun cannot be stopped: a late one occupies its thread until it ends.
    """

    def __init__(self, threads: int, limits: Mapping[str, Any]) -> None:
        self.size, self.timeout = int(limits["max_body_mb"] * 1_000_000), limits["timeout_s"]
        self.capacity = threads + limits["max_waiting"]
        self._free, self._threads = threading.Semaphore(self.capacity), ThreadPoolExecutor(threads, "answer")

    async def answer(self, app: App, scope: Any, receive: Any) -> list[Any]:
        """Return the messages that answer a request, which is in hand until then; `HTTPException` refuses it."""
        if not self._free.acquire(blocking=False):
            raise HTTPException(503, f"busy: {self.capacity} requests are in hand; send it again in a second", RETRY)
        try:
            body = await read_body(self.size, self.timeout, scope, receive)
            scope["state"]["deadline"] = time.monotonic() + self.timeout
            async with asyncio.timeout(self.timeout):  # what no thread has begun with by then is never computed
                # The thread runs it to its end, in an event loop of its own.
                return await asyncio.wrap_future(self._threads.submit(lambda: asyncio.run(_messages(app, body, scope))))
        except TimeoutError:
            error = f"not answered within {self.timeout:g} s; send fewer rows, or send it again later"
            raise HTTPException(503, error, RETRY) from None
        finally:
            self._free.release()


async def count_requests(app: App, metrics: Metrics, routes: Routes, scope: Any, receive: Any, send: Any) -> None:
    """Give every request an id, return it in the header X-Request-ID, and count the request by the template of its route.

    The id is the caller's, if it is at most 128 visible ASCII characters, else a random UUID; routes may change
    ``request.state.request_id``. Requests without a route are counted as ``unmatched``: callers cannot invent labels.
    """
    if scope["type"] != "http":
        return await app(scope, receive, send)
    own_id, state = Headers(scope=scope).get(HEADER, ""), scope.setdefault("state", {})
    state["request_id"] = own_id if VALID_ID.fullmatch(own_id) else str(uuid.uuid4())
    began, status = time.perf_counter(), None

    async def send_with_id(message: dict[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            MutableHeaders(scope=message)[HEADER] = state["request_id"]
        await send(message)

    try:
        return await app(scope, receive, send_with_id)
    except Exception:
        status = status or 500  # uvicorn sends it
        raise
    finally:
        if status is not None:  # else the caller has disconnected
            route = next((name for pattern, name in routes if pattern.match(scope["path"])), "unmatched")
            method = scope["method"] if scope["method"] in METHODS else "other"
            metrics.count_request(route, method, status, time.perf_counter() - began)


async def limit(app: App, check: Check, limiters: Mapping[str, Limiter], scope: Any, receive: Any, send: Any) -> None:
    """Answer a request by the limiter of its kind, unless `check` refuses it; the probes (`PUBLIC`) at once, without either."""
    if scope["type"] != "http" or scope["path"] in PUBLIC:
        return await app(scope, receive, send)
    try:
        check(Headers(scope=scope))
        messages = await limiters[_kind(scope["path"])].answer(app, scope, receive)
    except HTTPException as error:
        return await refuse(error.status_code, error.detail, headers=error.headers)(scope, receive, send)
    except ClientDisconnect:
        return None
    for message in messages:
        await send(message)


def check_caller(hosts: Sequence[str], token: str | None, headers: Headers) -> None:
    """Refuse with 400 callers whose header Host is not in `hosts`, see `allowed_hosts`, with 401 those without the token.

    Without the first any web page could have its own name lead to this service, and read it as if it were its own (DNS
    rebinding). The second is a bearer token (RFC 6750), compared in constant time.
    """
    host = headers.get("host", "").lower()
    if not _is_allowed(re.sub(r":\d*$", "", host), hosts):
        add = f"add it to serving.allowed_hosts in params.yaml or to {HOSTS}, and start again"
        raise HTTPException(400, f"host: found {host!r}, expected {', '.join(hosts)}; if callers use this name, {add}")
    kind, _, sent = headers.get("authorization", "").partition(" ")
    given = sent.strip() if kind.lower() == "bearer" else ""
    if token is not None and not hmac.compare_digest(given.encode("latin-1"), token.encode()):
        found, wrong = ("another token", ', error="invalid_token"') if sent else ("none", "")
        error = f"token: found {found}, expected the header Authorization: Bearer ..."
        raise HTTPException(401, error, {"WWW-Authenticate": f'Bearer realm="ninefold"{wrong}'})


async def read_body(limit: int, timeout: float, scope: Any, receive: Any) -> bytes:
    """Return the body of a request; refuse one of more than `limit` bytes with 413, one late by `timeout` seconds with 408.

    Bytes beyond the limit are read and dropped (up to a few times as much): a client that is still sending would see a
    broken connection instead of the answer.
    """
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(timeout):
            async for chunk in Request(scope, receive).stream():
                size += len(chunk)
                if size <= limit:
                    body += chunk
                elif size > 4 * limit:
                    break
    except TimeoutError:
        late = f"body: not here within {timeout:g} s; send fewer rows, or use `ninefold predict`"
        raise HTTPException(408, late, {"Connection": "close"}) from None
    if size > limit:
        raise HTTPException(413, f"body: more than {limit / 1e6:g} MB; send fewer rows, or use `ninefold predict`")
    return bytes(body)


def refuse(status: int, error: str, problems: Sequence[Any] = (), headers: Mapping[str, str] | None = None) -> Response:
    """Return a refusal as JSON: ``error`` in words, and the ``problems`` one by one."""
    # json.dumps escapes half a surrogate pair, which a caller may send, and UTF-8 cannot encode.
    content = json.dumps({"error": error, "problems": problems})
    return Response(content, status, media_type="application/json", headers=dict(headers or {}))


def host_name(text: str) -> str:
    """Return a name for `allowed_hosts` in lower case; `ValueError` if it is none, or has a scheme or a port."""
    if not HOST_PATTERN.fullmatch(text.strip()):
        raise ValueError("a host without scheme and port, such as model.example.org, *.example.org or [::1]")
    return text.strip().lower()


def allowed_hosts(host: str, listed: Sequence[str] = (), environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the hosts by which callers may call: this machine's own, `host`, those `listed` or in NINEFOLD_ALLOWED_HOSTS.

    ``*.example.org`` are all names below example.org, ``*`` all names. Where `host` is 0.0.0.0 or ::, every address of the
    machine, any IP address is allowed: a page that leads a name here cannot be called by an address. `NinefoldError` if
    the variable holds what is no host.
    """
    try:
        added = [host_name(each) for each in environment.get(HOSTS, "").split(",") if each.strip()]
    except ValueError as error:
        raise NinefoldError(f"{HOSTS}: found {environment[HOSTS]!r}, expected, between commas, {error}") from None
    return list(dict.fromkeys([*LOCAL, f"[{host}]" if ":" in host else host.lower(), *listed, *added]))


def token(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the bearer token that callers have to send, from NINEFOLD_TOKEN or the file NINEFOLD_TOKEN_FILE; or None.

    `NinefoldError` if both are set, the file cannot be read, or it is not a token: an empty one would let everybody in.
    """
    secret, file = environment.get(TOKEN), environment.get(TOKEN_FILE)
    if secret is not None and file is not None:
        raise NinefoldError(f"{TOKEN} and {TOKEN_FILE}: both are set; keep one of them")
    if file is not None:
        with failing(f"{TOKEN_FILE}: {file}", "read", "name a file with the token", OSError, ValueError):
            secret = Path(file).read_text(encoding="utf-8").strip()
    if secret is not None and not TOKEN_PATTERN.fullmatch(secret):
        where, value = TOKEN if file is None else f"{TOKEN_FILE}: {file}", "other characters" if secret else "nothing"
        raise NinefoldError(f"{where}: found {value}, expected a token of letters, digits and -._~+/, such as a UUID")
    return secret


def warning(host: str, secret: str | None) -> str | None:
    """Return a warning if other machines can reach `host` without a token."""
    local = host == "localhost"
    with suppress(ValueError):  # another name
        local = local or ipaddress.ip_address(host).is_loopback
    advice = f"set {TOKEN}, or put a login in front of it"
    return None if local or secret else f"warning: other machines can reach {host} without a token; {advice}"


def _is_allowed(host: str, hosts: Sequence[str]) -> bool:
    if any(each in (host, "*") or (each.startswith("*.") and host.endswith(each[1:])) for each in hosts):
        return True
    with suppress(ValueError):  # a name
        ipaddress.ip_address(host.strip("[]"))
        return "0.0.0.0" in hosts or "[::]" in hosts
    return False


def _kind(path: str) -> str:
    if path == "/predict" or path.endswith("/infer"):
        return "answer"
    return "explanation" if path.startswith("/review/") else "page" if path == "/" else "other"


async def _messages(app: App, body: bytes, scope: Any) -> list[Any]:
    received, sent = asyncio.Queue[Any](), asyncio.Queue[Any]()
    received.put_nowait({"type": "http.request", "body": body})
    await app(scope, received.get, sent.put)
    return [sent.get_nowait() for _ in range(sent.qsize())]
