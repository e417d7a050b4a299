"""The service in operation: request ids, metrics, a bearer token, and limits on size, time and concurrency."""

from __future__ import annotations

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
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from fastapi import HTTPException
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from starlette.routing import compile_path

from ninefold.errors import NinefoldError
from ninefold.serving import monitoring_state
from ninefold.serving.bundle import Bundle
from ninefold.serving.log import Log

HEADER = "X-Request-ID"
VALID_ID = re.compile(r"[\x21-\x7e]{1,128}")  # visible ASCII: harmless in headers, logs and terminals
TOKEN, TOKEN_FILE = "NINEFOLD_TOKEN", "NINEFOLD_TOKEN_FILE"
TOKEN_PATTERN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # a bearer token (RFC 6750, section 2.1)
PUBLIC = frozenset({"/health", "/ready", "/v2/health/live", "/v2/health/ready"})  # probes, which need no token
WORKERS = (os.cpu_count() or 1) + 2  # Python computes one at a time; more threads let small requests pass large ones
RETRY = {"Retry-After": "1"}
SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})

Scope: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[dict[str, Any]]]
Send: TypeAlias = Callable[..., Awaitable[None]]
App: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
T = TypeVar("T")


class ConcurrencyLimiter:
    """A bounded queue in front of the model: it refuses further requests with 503, and those that take too long.

    A computation that has begun cannot be stopped: a late one finishes, its result is dropped, and only then is its
    thread free again. This is why the number of waiting requests has a limit, too.
    """

    def __init__(self, timeout: float, waiting: int, workers: int = WORKERS) -> None:
        self.timeout, self.capacity = timeout, workers + waiting
        self._free = threading.Semaphore(self.capacity)
        self._threads = ThreadPoolExecutor(workers, "answer")

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold a place in the queue for the time of the block.

        Raises
        ------
        HTTPException
            503 with Retry-After, if none is free, or the block takes longer than the time limit.
        """
        if not self._free.acquire(blocking=False):
            raise HTTPException(503, f"busy: {self.capacity} requests are in hand; send it again in a second", RETRY)
        try:
            async with asyncio.timeout(self.timeout):
                yield
        except TimeoutError:
            advice = "send fewer rows, or send it again later"
            raise HTTPException(503, f"not answered within {self.timeout:g} s; {advice}", RETRY) from None
        finally:
            self._free.release()

    async def compute(self, work: Callable[[], T]) -> T:
        """Return the result of `work`, computed in a thread; if it is cancelled before it begins, it never begins."""
        return await asyncio.wrap_future(self._threads.submit(work))


class Metrics:
    """The metrics of a service for Prometheus, in a registry of their own.

    The counts continue when another bundle takes over (`set_bundle`). The prediction log counts requests by the minute, too.
    """

    def __init__(self, bundle: Bundle, log: Log | None = None) -> None:
        own = CollectorRegistry()
        self.registry, self.log = own, log
        own.register(monitoring_state.Collector())
        labels = ["route", "method", "status"]
        self.requests = Counter("ninefold_requests", "Requests answered or refused.", labels, registry=own)
        self.seconds = Histogram(
            "ninefold_request_seconds",
            "Time to the last byte of the answer.",
            labels[:2],
            registry=own,
            buckets=SECONDS,
        )
        self.rows = Counter("ninefold_rows", "Rows predicted.", registry=own)
        self.bundle = Info("ninefold_bundle", "The bundle that answers.", registry=own)
        self.actions: Counter | None = None
        self.swaps = Counter("ninefold_swaps", "Bundles that took over while the service ran.", registry=own)
        self.stale = Gauge("ninefold_swap_failing", "1 while a newer bundle cannot take over.", registry=own)
        answers = "Answers of a challenger: a canary's are returned, a shadow's only logged."
        self.challenger_answers = Counter("ninefold_challenger_answers", answers, ["role"], registry=own)
        failures = "Requests that a challenger could not answer."
        self.challenger_failures = Counter("ninefold_challenger_failures", failures, registry=own)
        self.dropped = Counter("ninefold_shadow_dropped", "Requests that a shadow had no time for.", registry=own)
        self.set_bundle(bundle)
        if log:
            queue = Gauge("ninefold_log_queue", "Requests that wait to be written to the prediction log.", registry=own)
            queue.set_function(log.waiting)
            commits = Gauge("ninefold_log_commits", "Commits to the prediction log since the start.", registry=own)
            commits.set_function(lambda: log.commits)

    def set_bundle(self, bundle: Bundle) -> None:
        """Record which bundle answers from now on."""
        self.budget = bundle.described["limits"].get("latency_budget_ms", math.inf) / 1000
        self.bundle.info({"model": bundle.name, "version": bundle.version, "history_as_of": bundle.moment or ""})
        if bundle.problem.is_class:  # actions that are quantities have no end of values
            own = self.registry
            self.actions = self.actions or Counter("ninefold_actions", "Actions chosen.", ["action"], registry=own)
            for action in bundle.problem.actions:
                self.actions.labels(action)

    def count_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request, and its time."""
        self.requests.labels(route, method, status).inc()
        self.seconds.labels(route, method).observe(seconds)
        if self.log:
            self.log.count(route, status, seconds, seconds > self.budget)

    def count_answers(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Count the rows of an answer, and their actions."""
        self.rows.inc(len(records))
        if self.actions:
            for action, count in Counts(record["action"] for record in records).items():
                self.actions.labels(action).inc(count)


class CountRequests:
    """Give every request an id, return it in the header X-Request-ID, and count the request.

    Routes may read and change the id as ``request.state.request_id``, see `request_id`. Requests are counted by the
    template of their route, such as ``/v2/models/{name}/infer``, others as ``unmatched``: callers cannot invent labels.
    """

    def __init__(self, app: App, metrics: Metrics, templates: Iterable[str]) -> None:
        self.app, self.metrics = app, metrics
        self.templates = [(compile_path(template)[0], template) for template in templates]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id(_header(scope, b"x-request-id"))
        began, status = time.perf_counter(), None

        async def send_with_id(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                named = (HEADER.lower().encode(), state["request_id"].encode())
                message = {**message, "headers": [*message.get("headers", []), named]}
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception:
            status = status or 500  # uvicorn sends it
            raise
        finally:
            if status is not None:  # else the caller has disconnected
                self._count(scope, status, time.perf_counter() - began)
        return None

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = next((name for form, name in self.templates if form.match(scope["path"])), "unmatched")
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.metrics.count_request(route, method, status, seconds)


class RequireToken:
    """Refuse with 401 requests without the bearer token (RFC 6750), before their body is read; not the probes (`PUBLIC`).

    ``/metrics`` needs the token, too: it shows traffic and decisions, and Prometheus can send one.
    """

    def __init__(self, app: App, token: str) -> None:
        self.app, self.token = app, token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http" or scope["path"] in PUBLIC:
            return await self.app(scope, receive, send)
        kind, _, sent = (_header(scope, b"authorization") or b"").partition(b" ")
        right = hmac.compare_digest(sent.strip(), self.token)  # in constant time
        if kind.lower() == b"bearer" and right:
            return await self.app(scope, receive, send)
        wrong = ', error="invalid_token"' if sent else ""
        headers = {"WWW-Authenticate": f'Bearer realm="ninefold"{wrong}'}
        error = f"token: found {'another token' if sent else 'none'}, expected the header Authorization: Bearer ..."
        return await refuse(401, error, headers=headers)(scope, receive, send)


class LimitBody:
    """Refuse bodies above a limit with 413, late ones with 408; keep no more than the limit in memory.

    Bytes beyond the limit are read and dropped (up to a few times as much), since a client that is still sending would
    see a broken connection instead of the answer. The body of a GET is never read and has no limit.
    """

    def __init__(self, app: App, limit: int, timeout: float) -> None:
        self.app, self.limit, self.timeout = app, limit, timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body, then pass it on or refuse it."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            return await self.app(scope, receive, send)
        try:
            async with asyncio.timeout(self.timeout):
                chunks, size = await self._read(receive)
        except TimeoutError:
            late = f"body: not here within {self.timeout:g} s; send fewer rows, or use `ninefold predict`"
            return await refuse(408, late, headers={"Connection": "close"})(scope, receive, send)
        if chunks is None:
            return None
        if size > self.limit:
            error = f"body: more than {self.limit / 1e6:g} MB; send fewer rows, or use `ninefold predict`"
            return await refuse(413, error)(scope, receive, send)
        whole = [{"type": "http.request", "body": b"".join(chunks), "more_body": False}]

        async def replay() -> dict[str, Any]:
            return whole.pop() if whole else await receive()

        return await self.app(scope, replay, send)

    async def _read(self, receive: Receive) -> tuple[list[bytes] | None, int]:
        """Return the body, up to the limit, and its size; None if the caller has disconnected."""
        chunks: list[bytes] = []
        size, more = 0, True
        while more and size <= 4 * self.limit:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None, 0
            size, more = size + len(message.get("body", b"")), message.get("more_body", False)
            if size <= self.limit:
                chunks.append(message.get("body", b""))
        return chunks, size


def refuse(
    status: int, error: str, problems: Iterable[dict[str, Any]] = (), headers: Mapping[str, str] | None = None
) -> Response:
    """Return a refusal as JSON: ``error`` in words, and the ``problems`` one by one."""
    # Names and values of callers may hold half a surrogate pair, which UTF-8 cannot encode: json.dumps escapes it.
    content = json.dumps({"error": error, "problems": list(problems)})
    return Response(content, status_code=status, media_type="application/json", headers=dict(headers or {}))


def request_id(header: bytes | None) -> str:
    """Return the caller's id of a request if it is at most 128 visible ASCII characters; else a random UUID."""
    text = (header or b"").decode("latin-1")
    return text if VALID_ID.fullmatch(text) else str(uuid.uuid4())


def token(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the bearer token that callers have to send, from NINEFOLD_TOKEN or the file NINEFOLD_TOKEN_FILE; or None.

    Raises
    ------
    NinefoldError
        If both are set, the file cannot be read, or it is not a token: an empty one would let everybody in.
    """
    secret, file = environment.get(TOKEN), environment.get(TOKEN_FILE)
    if secret is not None and file is not None:
        raise NinefoldError(f"{TOKEN} and {TOKEN_FILE}: both are set; keep one of them")
    if file is not None:
        try:
            secret = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise NinefoldError(f"{TOKEN_FILE}: {file}: cannot be read ({error}); name a file with the token") from None
    if secret is not None and not TOKEN_PATTERN.fullmatch(secret):
        where, value = TOKEN if file is None else f"{TOKEN_FILE}: {file}", "other characters" if secret else "nothing"
        raise NinefoldError(f"{where}: found {value}, expected a token of letters, digits and -._~+/, such as a UUID")
    return secret


def warning(host: str, secret: str | None) -> str | None:
    """Return a warning if other machines can reach `host` without a token."""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if local or secret:
        return None
    return f"warning: other machines can reach {host} without a token; set {TOKEN}, or put a login in front of it"


def _header(scope: Scope, name: bytes) -> bytes | None:
    return next((value for key, value in scope["headers"] if key == name), None)
