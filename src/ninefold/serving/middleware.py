"""The service in operation: request ids, Prometheus metrics, a bearer token, and limits on size, time and concurrency."""

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
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from fastapi import HTTPException
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
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
SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)
RETRY = {"Retry-After": "1"}
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
ROUTE = ("route", "method")
COUNTERS = {  # name -> what it counts, and its labels
    "requests": ("Requests answered or refused.", *ROUTE, "status"),
    "rows": ("Rows predicted.",),
    "actions": ("Actions chosen.", "action"),
    "swaps": ("Bundles that took over while the service ran.",),
    "challenger_answers": ("Answers of a challenger: a canary's are returned, a shadow's only logged.", "role"),
    "challenger_failures": ("Requests that a challenger could not answer.",),
    "shadow_dropped": ("Requests that a shadow had no time for.",),
}

App = Callable[[Any, Any, Any], Awaitable[None]]
T = TypeVar("T")


class ConcurrencyLimiter:
    """A bounded queue in front of the model: it refuses further requests with 503, and those that take too long.

    A computation that has begun cannot be stopped: a late one occupies its thread until it ends.
    """

    def __init__(self, timeout: float, waiting: int) -> None:
        self.timeout, self.capacity = timeout, WORKERS + waiting
        self._free = threading.Semaphore(self.capacity)
        self._threads = ThreadPoolExecutor(WORKERS, "answer")

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Occupy a place in the queue; 503 with Retry-After if none is free, or the block exceeds the time limit."""
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
    """The metrics of a service for Prometheus, in their own registry; they continue when another bundle takes over."""

    def __init__(self, bundle: Bundle, log: Log | None = None) -> None:
        self.log, self.registry = log, CollectorRegistry()
        self.registry.register(monitoring_state.Collector())
        self.counters = {
            name: Counter(f"ninefold_{name}", about, labels, registry=self.registry)
            for name, (about, *labels) in COUNTERS.items()
        }
        gauge = partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry, buckets=SECONDS)
        self.seconds = histogram("ninefold_request_seconds", "Time to the last byte of the answer.", ROUTE)
        self.bundle = Info("ninefold_bundle", "The bundle that answers.", registry=self.registry)
        self.stale = gauge("ninefold_swap_failing", "1 while a newer bundle cannot take over.")
        self.set_bundle(bundle)
        if log:
            waiting = gauge("ninefold_log_queue", "Requests that wait to be written to the prediction log.")
            waiting.set_function(log.waiting)

    def set_bundle(self, bundle: Bundle) -> None:
        """Record which bundle answers from now on."""
        self.budget = bundle.described["limits"].get("latency_budget_ms", math.inf) / 1000
        self.bundle.info({"model": bundle.name, "version": bundle.version, "history_as_of": bundle.moment or ""})
        for action in bundle.problem.actions:  # none of a regression: its quantities have no end of values
            self.count("actions", action, by=0)

    def count(self, name: str, *labels: str, by: int = 1) -> None:
        """Add to one of the `COUNTERS`."""
        counter = self.counters[name]
        (counter.labels(*labels) if labels else counter).inc(by)

    def count_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request, and its time."""
        self.count("requests", route, method, str(status))
        self.seconds.labels(route, method).observe(seconds)
        if self.log:
            self.log.count(route, status, seconds, seconds > self.budget)

    def count_answers(self, records: Sequence[Mapping[str, Any]], bundle: Bundle) -> None:
        """Count the rows of an answer of `bundle`, and their actions."""
        self.count("rows", by=len(records))
        for action, count in Counts(record["action"] for record in records if bundle.problem.is_class).items():
            self.count("actions", action, by=count)


def count_requests(app: App, metrics: Metrics, templates: Iterable[str]) -> App:
    """Give every request an id, return it in the header X-Request-ID, and count the request by the template of its route.

    The id is the caller's, if it is at most 128 visible ASCII characters, else a random UUID; routes may change
    ``request.state.request_id``. Requests without a route are counted as ``unmatched``: callers cannot invent labels.
    """
    patterns = [(compile_path(template)[0], template) for template in templates]

    async def counted(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        own_id, state = Headers(scope=scope).get(HEADER, ""), scope.setdefault("state", {})
        state["request_id"] = own_id if VALID_ID.fullmatch(own_id) else str(uuid.uuid4())
        began, status = time.perf_counter(), None

        async def send_with_id(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                header = (HEADER.lower().encode(), state["request_id"].encode())
                message = {**message, "headers": [*message.get("headers", []), header]}
            await send(message)

        try:
            return await app(scope, receive, send_with_id)
        except Exception:
            status = status or 500  # uvicorn sends it
            raise
        finally:
            if status is not None:  # else the caller has disconnected
                route = next((name for pattern, name in patterns if pattern.match(scope["path"])), "unmatched")
                method = scope["method"] if scope["method"] in METHODS else "other"
                metrics.count_request(route, method, status, time.perf_counter() - began)

    return counted


def require_token(app: App, token: str) -> App:
    """Refuse with 401 requests without the bearer token (RFC 6750), before their body is read; not the probes (`PUBLIC`)."""

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] in PUBLIC:
            return await app(scope, receive, send)
        kind, _, sent = Headers(scope=scope).get("authorization", "").partition(" ")
        right = hmac.compare_digest(sent.strip().encode("latin-1"), token.encode())  # in constant time
        if kind.lower() == "bearer" and right:
            return await app(scope, receive, send)
        wrong = ', error="invalid_token"' if sent else ""
        headers = {"WWW-Authenticate": f'Bearer realm="ninefold"{wrong}'}
        error = f"token: found {'another token' if sent else 'none'}, expected the header Authorization: Bearer ..."
        return await refuse(401, error, headers=headers)(scope, receive, send)

    return guarded


def limit_body(app: App, limit: int, timeout: float) -> App:
    """Refuse bodies above a limit with 413, late ones with 408; keep no more than the limit in memory.

    Bytes beyond the limit are read and dropped (up to a few times as much): a client that is still sending would see a
    broken connection instead of the answer.
    """

    async def limited(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            return await app(scope, receive, send)
        body, size = bytearray(), 0
        try:
            async with asyncio.timeout(timeout):
                async for chunk in Request(scope, receive).stream():
                    size += len(chunk)
                    if size <= limit:
                        body += chunk
                    elif size > 4 * limit:
                        break
        except ClientDisconnect:
            return None
        except TimeoutError:
            late = f"body: not here within {timeout:g} s; send fewer rows, or use `ninefold predict`"
            return await refuse(408, late, headers={"Connection": "close"})(scope, receive, send)
        if size > limit:
            error = f"body: more than {limit / 1e6:g} MB; send fewer rows, or use `ninefold predict`"
            return await refuse(413, error)(scope, receive, send)
        whole = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def replay() -> Any:
            return whole.pop() if whole else await receive()

        return await app(scope, replay, send)

    return limited


def refuse(
    status: int, error: str, problems: Iterable[Mapping[str, Any]] = (), headers: Mapping[str, str] | None = None
) -> Response:
    """Return a refusal as JSON: ``error`` in words, and the ``problems`` one by one."""
    # json.dumps escapes half a surrogate pair, which a caller may send, and UTF-8 cannot encode.
    content = json.dumps({"error": error, "problems": list(problems)})
    return Response(content, status, media_type="application/json", headers=dict(headers or {}))


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
    local = host == "localhost"
    with suppress(ValueError):  # another name
        local = local or ipaddress.ip_address(host).is_loopback
    advice = f"set {TOKEN}, or put a login in front of it"
    return None if local or secret else f"warning: other machines can reach {host} without a token; {advice}"
