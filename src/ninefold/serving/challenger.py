"""A challenger beside the champion: in the shadow, or as a canary that answers a share of the requests."""

import hashlib
import json
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Field

from ninefold.params import FILE, Section, Text
from ninefold.params import load as load_params
from ninefold.serving.bundle import BUNDLE, Answered, Bundle
from ninefold.serving.fields import names
from ninefold.serving.hot_swap import SwappableApp, Watcher, because, repeated, say, stamp
from ninefold.serving.log import CANARY, CHAMPION, SHADOW, Log, Rows
from ninefold.serving.middleware import Metrics, host_name

SHADOWS = 100  # requests that may wait for a shadow; it skips further ones
SAME = ("task", "target", "classes", "actions", "positive")  # of the problem, for all challengers
POLL = 0.5  # seconds between two looks at models/production


class Params(Section):
    """Section ``serving`` of ``params.yaml``, read while it serves; `allowed_hosts`, names of callers, at the start."""

    challenger: Text = BUNDLE
    mode: Literal["none", "shadow", "canary"] = "none"
    share: float = Field(default=0.05, ge=0, le=1)
    allowed_hosts: list[Annotated[str, AfterValidator(host_name)]] = Field(default=[])


class Active(NamedTuple):
    """The bundle of a challenger, its mode, and the share of the requests of a canary."""

    bundle: Bundle
    mode: str
    share: float


class Challenger:
    """A challenger beside the champion, which ``params.yaml`` in the folder `project` names; None: there is none.

    A canary gets requests by the key of their first row: the same customer always gets the same model. The champion
    answers what the canary cannot. A shadow works after the answer, in one thread, and only while it keeps up.
    `active` is None without a challenger; `reason` says why there is none, although the params name one.
    """

    def __init__(self, metrics: Metrics, log: Log | None = None, project: Path | None = None) -> None:
        self.metrics, self.log, self.project = metrics, log, project
        self.champion: Watcher | None = None  # what follows the bundle in production; None where nothing does
        self.active: Active | None = None
        self.reason: str | None = None
        self._params: Params | None = None
        self._watcher = Watcher(lambda: Path(BUNDLE))
        self._stamp: Any = None  # of the params that were read last
        self._shadows, self._free = ThreadPoolExecutor(1, "shadow"), threading.Semaphore(SHADOWS)

    def refresh(self, champion: Bundle) -> None:
        """Read the params and load the challenger, where they changed; use it if it is comparable with the champion."""
        if self.project is None:
            return None
        try:
            if (current := stamp(self.project / FILE)) != self._stamp:  # parsing takes many times as long as a look
                self._stamp, self._params = current, None
                self._params = load_params("serving")
            if (params := self._params) is None:
                return None
            if params.mode == "none":
                return self._use(None)
            folder = self.project / params.challenger
            if self._watcher.folder() != folder:
                self._watcher = Watcher(lambda: folder)
            self._watcher.look()
            if (bundle := self._watcher.bundle) is None:
                return self._use(None, self._watcher.reason or f"{folder}: no bundle there")
            reason = incompatible(bundle, champion)
            usable = reason is None and bundle.version != champion.version
            self._use(Active(bundle, params.mode, params.share) if usable else None, reason)
        except Exception as error:  # whatever it is, such as params that are just replaced, or no text
            self._use(self.active, f"{because(error)}; the challenger stays as it was")

    def answer(self, rows: Rows, champion: Bundle, number: str) -> tuple[Answered, Bundle, str]:
        """Return the answer to a request, by whom, in which role: the canary for its share, if it can; else the champion."""
        active = self.active
        if active and active.mode == CANARY and _position(rows, number, active.bundle) < active.share:
            try:
                answered = active.bundle.answer(rows)
                self.metrics.challenger_answers.labels(CANARY).inc()
                return answered, active.bundle, CANARY
            except Exception:  # of any kind: the champion can answer
                self.metrics.challenger_failures.inc()
        return champion.answer(rows), champion, CHAMPION

    def shadow(self, number: str, moment: datetime, rows: Rows) -> None:
        """Let a shadow answer the rows, too; its answer is only logged."""
        active, log = self.active, self.log
        if active is None or active.mode != SHADOW or log is None:
            return
        if not self._free.acquire(blocking=False):
            return self.metrics.shadow_dropped.inc()

        def work() -> None:
            try:
                records = active.bundle.answer(rows).records
                log.submit(log.entry(number, moment, active.bundle, rows, records, SHADOW))
                self.metrics.challenger_answers.labels(SHADOW).inc()
            except Exception:  # no caller waits for it
                self.metrics.challenger_failures.inc()
            finally:
                self._free.release()

        self._shadows.submit(work)

    def close(self) -> None:
        """Let the shadow finish the current request, and drop the others."""
        self._shadows.shutdown(cancel_futures=True)

    def _use(self, active: Active | None, reason: str | None = None) -> None:
        if reason and reason != self.reason:
            say(f"warning: challenger: {reason}")
        self.active, self.reason = active, reason


def incompatible(challenger: Bundle, champion: Bundle) -> str | None:
    """Return why a challenger cannot answer the champion's requests; None if it can."""
    if other := differing(champion, challenger, SAME):
        return f"{challenger.version} answers another question: {other[0]} differs"
    types = {field["name"]: field["type"] for field in champion.signature}
    needed = [field for field in challenger.signature if field["kind"] not in ("identity", "history")]
    if missing := [field["name"] for field in needed if types.get(field["name"]) != field["type"]]:
        return f"{challenger.version} needs {', '.join(missing)}, which callers do not send in this type"
    return None


def differing(champion: Bundle, challenger: Bundle, parts: Sequence[str]) -> list[str]:
    """Return which of the named parts of the problem differ between two bundles; empty parts count as absent."""
    old, new = champion.problem, challenger.problem
    return [name for name in parts if (getattr(old, name) or None) != (getattr(new, name) or None)]


@contextmanager
def watching(app: SwappableApp, champion: Watcher, challenger: Challenger) -> Iterator[None]:
    """Look every `POLL` s, in a thread that nothing ends, for another bundle in production and another challenger."""
    metrics, challenger.champion = challenger.metrics, champion
    metrics.stale.set_function(lambda: float(champion.reason is not None))
    metrics.looked.set_function(lambda: time.monotonic() - champion.looked)
    challenger.refresh(app.bundle)

    def take_over(newer: Bundle) -> None:
        app.swap(newer)
        metrics.set_bundle(newer)
        metrics.swaps.inc()
        say(f"bundle {newer.version} answers now")

    def look() -> None:
        reason = champion.reason
        champion.look(take_over)
        if champion.reason and champion.reason != reason:
            say(f"warning: {app.bundle.version} goes on: {champion.reason}")
        challenger.refresh(app.bundle)

    with closing(challenger), repeated(look, POLL, "no look for another bundle"):
        yield


def _position(rows: Rows, number: str, challenger: Bundle) -> float:
    """Return a hash, 0-1, of the key of the first row: the same for the same key, another for each challenger."""
    row = rows[0]
    key = {name: row[name] for name in names(challenger.signature, "identity", "key") if row.get(name) is not None}
    text = json.dumps(key or number, sort_keys=True, default=str)
    return int.from_bytes(hashlib.sha256(f"{challenger.version} {text}".encode()).digest()[:8]) / 2**64
