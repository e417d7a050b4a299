"""The concurrency limiter: all but the probes is parsed, answered and written in threads, a few requests at a time."""

import asyncio
import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from ninefold.serving.middleware import PUBLIC, RETRY, App, limit_body, refuse

WORKERS = (os.cpu_count() or 1) + 2  # Python computes one at a time; more threads let small requests pass large ones
# Explanations take long, and pages after a change of their rows; neither delays an answer, or what Prometheus reads.
THREADS = {"answer": WORKERS, "explanation": 1, "page": 1, "other": 1}


class Limiter:
    """Answers requests in threads of its own. Those beyond its queue are refused with 503, and those that take too long.

    The event loop reads the bodies, at most `max_body_mb` each, and sends the answers; it never waits for a computation. A
    computation that has begun cannot be stopped: a late one occupies its thread until it ends.
    """

    def __init__(self, threads: int, limits: Mapping[str, Any]) -> None:
        self.size, self.timeout = int(limits["max_body_mb"] * 1_000_000), limits["timeout_s"]
        self.capacity = threads + limits["max_waiting"]
        self._free, self._threads = threading.Semaphore(self.capacity), ThreadPoolExecutor(threads, "answer")

    async def __call__(self, app: App, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request; it counts as in hand from here on, until its answer is ready to be sent."""
        if not self._free.acquire(blocking=False):
            error = f"busy: {self.capacity} requests are in hand; send it again in a second"
            return await refuse(503, error, headers=RETRY)(scope, receive, send)
        try:
            whole = partial(limit_body, partial(self._answer, app), self.size, self.timeout)
            messages = await _messages(whole, scope, receive)
        finally:
            self._free.release()
        for message in messages:
            await send(message)

    async def _answer(self, app: App, scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["deadline"] = time.monotonic() + self.timeout
        try:
            async with asyncio.timeout(self.timeout):  # what no thread has begun with by then is never computed
                # The thread runs it to its end, in an event loop of its own.
                answered = self._threads.submit(lambda: asyncio.run(_messages(app, scope, receive)))
                messages = await asyncio.wrap_future(answered)
        except TimeoutError:
            error = f"not answered within {self.timeout:g} s; send fewer rows, or send it again later"
            return await refuse(503, error, headers=RETRY)(scope, receive, send)
        for message in messages:
            await send(message)


async def limit(app: App, limiters: Mapping[str, Limiter], scope: Any, receive: Any, send: Any) -> None:
    """Pass a request to the limiter of its kind; answer the probes (`PUBLIC`) at once, without one."""
    if scope["type"] != "http" or scope["path"] in PUBLIC:
        return await app(scope, receive, send)
    return await limiters[_kind(scope["path"])](app, scope, receive, send)


def _kind(path: str) -> str:
    if path == "/predict" or path.endswith("/infer"):
        return "answer"
    return "explanation" if path.startswith("/review/") else "page" if path == "/" else "other"


async def _messages(app: App, scope: Any, receive: Any) -> list[Any]:
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    await app(scope, receive, send)
    return messages
