"""The concurrency limiter: all but the probes is parsed, answered and written in threads, a few requests at a time."""

import asyncio
import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from ninefold.serving.middleware import PUBLIC, RETRY, App, Check, read_body, refuse

# Python computes one answer at a time; more threads let small requests pass large ones. Explanations take long, and pages
# after a change of their rows; neither delays an answer, or what Prometheus reads.
THREADS = {"answer": (os.cpu_count() or 1) + 2, "explanation": 1, "page": 1, "other": 1}


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


def _kind(path: str) -> str:
    if path == "/predict" or path.endswith("/infer"):
        return "answer"
    return "explanation" if path.startswith("/review/") else "page" if path == "/" else "other"


async def _messages(app: App, body: bytes, scope: Any) -> list[Any]:
    received, sent = asyncio.Queue[Any](), asyncio.Queue[Any]()
    received.put_nowait({"type": "http.request", "body": body})
    await app(scope, received.get, sent.put)
    return [sent.get_nowait() for _ in range(sent.qsize())]
