"""Run the service safely: request ids, metrics, a bearer token, and limits on how much waits and for how long."""

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

from ninefold.core import decisions
from ninefold.core.errors import NinefoldError
from ninefold.serving import findings
from ninefold.serving.bundle import Bundle
from ninefold.serving.log import Log

HEADER = "X-Request-ID"
SANE = re.compile(r"[\x21-\x7e]{1,128}")  # visible ASCII: harmless in headers, logs and terminals
TOKEN, TOKEN_FILE = "NINEFOLD_TOKEN", "NINEFOLD_TOKEN_FILE"
B68 = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # what a bearer token may hold (RFC 6750, section 2.1)
OPEN = frozenset({"/health", "/ready", "/v2/health/live", "/v2/health/ready"})  # probes hold no secrets, and no token
WORKERS = (os.cpu_count() or 1) + 2  # Python computes one at a time; a few more, so that small requests pass large ones
RETRY = {"Retry-After": "1"}
SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})

Scope: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[dict[str, Any]]]
Send: TypeAlias = Callable[..., Awaitable[None]]
App: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
T = TypeVar("T")


class Turns:
    """A bounded queue before the model: so many requests may be in hand, each for so long; others are refused with 503.

    A computation that has begun cannot be stopped: one that is too late is finished, and its result thrown away, before
    another takes its thread. That is why what waits is bounded by number, too.
    """

    def __init__(self, timeout: float, waiting: int, workers: int = WORKERS) -> None:
        self.timeout, self.places = timeout, workers + waiting
        self._free = threading.Semaphore(self.places)
        self._threads = ThreadPoolExecutor(workers, "answer")

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold one of the places for the time of the block.

        Raises
        ------
        HTTPException
            503 with Retry-After, if none is free, or the block takes longer than the time limit.
        """
        if not self._free.acquire(blocking=False):
            raise HTTPException(503, f"busy: {self.places} requests are in hand; send it again in a second", RETRY)
        try:
            async with asyncio.timeout(self.timeout):
                yield
        except TimeoutError:
            advice = "send fewer rows, or send it again later"
            raise HTTPException(503, f"not answered within {self.timeout:g} s; {advice}", RETRY) from None
        finally:
            self._free.release()

    async def compute(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, from a thread; if it is cancelled before it began, it never begins."""
        return await asyncio.wrap_future(self._threads.submit(work))


class Meters:
    """What Prometheus reads at ``/metrics``, in a registry of its own: two services in one process do not mix.

    The counts go on when another bundle takes over (`serves`). By the minute, the log keeps them too.
    """

    def __init__(self, bundle: Bundle, log: Log | None = None) -> None:
        self.registry, self.log = CollectorRegistry(), log
        own = self.registry
        own.register(findings.Alerts())
        labels = ["route", "method", "status"]
        self.requests = Counter("ninefold_requests", "Requests answered or refused.", labels, registry=own)
        self.seconds = Histogram(
            "ninefold_request_seconds",
            "Time to the last byte of the answer.",
            labels[:2],
            buckets=SECONDS,
            registry=own,
        )
        self.rows = Counter("ninefold_rows", "Rows predicted.", registry=own)
        self.bundle = Info("ninefold_bundle", "The bundle that answers.", registry=own)
        self.actions: Counter | None = None
        self.swaps = Counter("ninefold_swaps", "Bundles that took over while the service ran.", registry=own)
        self.stale = Gauge("ninefold_swap_failing", "1 while a newer bundle cannot take over.", registry=own)
        asked = "Answers of a challenger: of a canary given, of a shadow only logged."
        self.tried = Counter("ninefold_challenger_answers", asked, ["role"], registry=own)
        self.failed = Counter(
            "ninefold_challenger_failures", "Requests that a challenger could not answer.", registry=own
        )
        self.dropped = Counter("ninefold_shadow_dropped", "Requests that a shadow had no time for.", registry=own)
        self.serves(bundle)
        if log:
            queue = Gauge("ninefold_log_queue", "Requests that wait to be written to the prediction log.", registry=own)
            queue.set_function(log.waiting)
            commits = Gauge("ninefold_log_commits", "Commits to the prediction log since the start.", registry=own)
            commits.set_function(lambda: log.commits)

    def serves(self, bundle: Bundle) -> None:
        """Note which bundle answers from now on."""
        self.budget = bundle.described["limits"].get("latency_budget_ms", math.inf) / 1000
        self.bundle.info({"model": bundle.name, "version": bundle.version, "history_as_of": bundle.moment or ""})
        if decisions.is_class(bundle.stated):  # an action that is a quantity has no end of values
            self.actions = self.actions or Counter(
                "ninefold_actions", "Actions chosen.", ["action"], registry=self.registry
            )
            for action in bundle.stated["actions"]:
                self.actions.labels(action)

    def observed(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request, and its time."""
        self.requests.labels(route, method, status).inc()
        self.seconds.labels(route, method).observe(seconds)
        if self.log:
            self.log.count(route, status, seconds, seconds > self.budget)

    def answered(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Count the rows of an answer, and their actions."""
        self.rows.inc(len(records))
        if self.actions:
            for action, count in Counts(record["action"] for record in records).items():
                self.actions.labels(action).inc(count)


class Observe:
    """Give every request an id, send it back in the header X-Request-ID, and measure the request.

    The id is the caller's if it is at most 128 visible ASCII characters, else a random UUID; routes read and may change
    it as ``request.state.request_id``. Routes are counted by their templates, such as ``/v2/models/{name}/infer``, and
    what is none of them as ``unmatched``: callers cannot make up labels.
    """

    def __init__(self, app: App, meters: Meters, templates: Iterable[str]) -> None:
        self.app, self.meters = app, meters
        self.templates = [(compile_path(template)[0], template) for template in templates]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id(_header(scope, b"x-request-id"))
        began, status = time.perf_counter(), None

        async def tell(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                named = (HEADER.lower().encode(), state["request_id"].encode())
                message = {**message, "headers": [*message.get("headers", []), named]}
            await send(message)

        try:
            await self.app(scope, receive, tell)
        except Exception:
            status = status or 500  # the server answers it
            raise
        finally:
            if status is not None:  # else the caller was gone
                self._count(scope, status, time.perf_counter() - began)
        return None

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = next((name for form, name in self.templates if form.match(scope["path"])), "unmatched")
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.meters.observed(route, method, status, seconds)


class AskToken:
    """Refuse with 401 what does not bring the bearer token (RFC 6750), before its body is read.

    Open are the health probes (`OPEN`), which say no more than that the service lives. ``/metrics`` is not: it tells how
    much is asked and decided, and Prometheus sends a token where its ``authorization`` has one.
    """

    def __init__(self, app: App, token: str) -> None:
        self.app, self.token = app, token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http" or scope["path"] in OPEN:
            return await self.app(scope, receive, send)
        kind, _, sent = (_header(scope, b"authorization") or b"").partition(b" ")
        right = hmac.compare_digest(sent.strip(), self.token)  # takes equally long, however wrong
        if kind.lower() == b"bearer" and right:
            return await self.app(scope, receive, send)
        wrong = ', error="invalid_token"' if sent else ""
        headers = {"WWW-Authenticate": f'Bearer realm="ninefold"{wrong}'}
        found = "another token" if sent else "none"
        refusal = refuse(401, f"token: found {found}, expected the header Authorization: Bearer ...", headers=headers)
        return await refusal(scope, receive, send)


class LimitBody:
    """Refuse bodies above a limit with 413, those that are late with 408; hold no more than the limit in memory.

    What comes beyond the limit is read and forgotten (up to a few times as much), or the sender, still sending, would
    see a broken connection instead of the answer. Nothing reads the body of a GET, so that it has no limit.
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
            refusal = refuse(
                413, f"body: more than {self.limit / 1e6:g} MB; send fewer rows, or use `ninefold predict`"
            )
            return await refusal(scope, receive, send)
        whole = [{"type": "http.request", "body": b"".join(chunks), "more_body": False}]

        async def replay() -> dict[str, Any]:
            return whole.pop() if whole else await receive()

        return await self.app(scope, replay, send)

    async def _read(self, receive: Receive) -> tuple[list[bytes] | None, int]:
        """Return the body, up to the limit, and its size; None if the caller is gone."""
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
    """Return a refusal: ``error`` in words, and the ``problems`` one by one."""
    # Names and values come from outside, and may hold half a character, which no UTF-8 can carry.
    content = json.dumps({"error": error, "problems": list(problems)})
    return Response(content, status_code=status, media_type="application/json", headers=dict(headers or {}))


def request_id(given: bytes | str | None) -> str:
    """Return the caller's id of a request if it is sane, at most 128 visible ASCII characters; else a random UUID."""
    text = given.decode("latin-1") if isinstance(given, bytes) else given or ""
    return text if SANE.fullmatch(text) else str(uuid.uuid4())


def token(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the bearer token that callers have to bring, from NINEFOLD_TOKEN or the file NINEFOLD_TOKEN_FILE; or None.

    Raises
    ------
    NinefoldError
        If both are there, the file cannot be read, or it is no token: an empty one would let everybody in.
    """
    given, file = environment.get(TOKEN), environment.get(TOKEN_FILE)
    if given is not None and file is not None:
        raise NinefoldError(f"{TOKEN} and {TOKEN_FILE}: both are set; keep one of them")
    if file is not None:
        try:
            given = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise NinefoldError(f"{TOKEN_FILE}: {file}: cannot be read ({error}); name a file with the token") from None
    if given is not None and not B68.fullmatch(given):
        where = TOKEN if file is None else f"{TOKEN_FILE}: {file}"
        found = "nothing" if not given else "other characters"
        raise NinefoldError(f"{where}: found {found}, expected a token of letters, digits and -._~+/, such as a UUID")
    return given


def warning(host: str, asked: str | None) -> str | None:
    """Return what to say of listening at `host` with or without a token; None if nothing."""
    try:
        here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = host == "localhost"
    if here or asked:
        return None
    return f"warning: {host} lets other machines in, and no token is asked for; set {TOKEN}, or put a login before it"


def _header(scope: Scope, name: bytes) -> bytes | None:
    return next((value for key, value in scope["headers"] if key == name), None)
