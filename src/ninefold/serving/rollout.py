"""Which bundle answers: the one in production, exchanged while the service runs, and a challenger tried beside it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from pydantic import Field

from ninefold.core import io
from ninefold.core.errors import DataError, NinefoldError, ParamsError
from ninefold.core.params import FILE, Section, Text
from ninefold.core.params import load as load_params
from ninefold.serving.bundle import BUNDLE, Answered, Bundle, load, verify
from ninefold.serving.log import CANARY, CHAMPION, SHADOW, Log, filled
from ninefold.serving.operations import Meters
from ninefold.serving.signature import names

PRODUCTION, VERSIONS = "models/production", "models/versions"
POLL = 0.5  # seconds between two looks at what is in production
AGAIN = 5.0  # seconds after which a bundle that could not be loaded is tried again
SHADOWS = 100  # requests that may wait for a shadow; it lets go what comes beside them
SAME = ("task", "target", "classes", "actions", "positive")  # of the problem, that a challenger must share

App: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
Rows: TypeAlias = Sequence[Mapping[str, Any]]


class Params(Section):
    """Section ``serving`` of ``params.yaml``: how a newer bundle is tried beside the champion; read while it serves."""

    challenger: Text = BUNDLE
    mode: Literal["none", "shadow", "canary"] = "none"
    share: float = Field(default=0.05, ge=0, le=1)


class Tried(NamedTuple):
    """A challenger, how it is tried, and with which share of the requests."""

    bundle: Bundle
    mode: str
    share: float


class Reply(NamedTuple):
    """What was answered, by which bundle, in which role."""

    answered: Answered
    bundle: Bundle
    role: str


def install(place: Path) -> Path:
    """Put a copy of the bundle at `place` into production, and return it: ``models/versions/<version>``.

    ``models/production`` is a link to it, exchanged at once: who follows it finds the old bundle or the new one, whole.

    Raises
    ------
    DataError
        If the bundle is not as it was packed.
    """
    version = verify(place)
    kept, link = io.path(f"{VERSIONS}/{version}"), io.path(PRODUCTION)
    if not _whole(kept, version):
        temporary = kept.with_name(f".{version}.{os.getpid()}")
        shutil.copytree(place, temporary)
        verify(temporary)
        shutil.rmtree(kept, ignore_errors=True)
        temporary.rename(kept)
    fresh = link.with_name(f".production.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(os.path.relpath(kept, link.parent))
    os.replace(fresh, link)
    io.sync(link.parent)
    return kept


def in_production() -> str:
    """Return what `ninefold serve` answers with, in the project: the promoted bundle, or the newest for want of it."""
    return PRODUCTION if io.path(PRODUCTION).exists() else BUNDLE


class Place:
    """A bundle's folder that is looked at again and again: it is loaded where it has changed, whole or not at all.

    Parameters
    ----------
    folder : callable
        Which folder it is now.

    Attributes
    ----------
    bundle : Bundle or None
        What was loaded last.
    reason : str or None
        Why what stands there now is not loaded.
    """

    def __init__(self, folder: Callable[[], Path]) -> None:
        self.folder = folder
        self.bundle: Bundle | None = None
        self.reason: str | None = None
        self._stamp: tuple[Any, ...] | None = None
        self._failed = 0.0

    def load(self) -> Bundle:
        """Load what stands there now, and try it.

        Raises
        ------
        DataError
            If it is not as it was packed.
        """
        return self._take(lambda _: None)

    def look(self, take: Callable[[Bundle], None] = lambda _: None) -> bool:
        """Load what stands there, if it is another bundle than the last one, and have it taken; return whether it was.

        If it cannot be loaded, or `take` refuses it, what was there before stays; it is tried again after `AGAIN` s.
        """
        if stamp(self.folder()) == self._stamp or (self.reason and time.monotonic() < self._failed + AGAIN):
            return False
        before = self.bundle
        try:
            return self._take(take).version != (before and before.version)
        except (NinefoldError, OSError, KeyError, ValueError) as error:
            self.reason, self._failed = str(error), time.monotonic()
            return False

    def _take(self, take: Callable[[Bundle], None]) -> Bundle:
        folder = self.folder()
        found = stamp(folder)  # first: what changes meanwhile is seen at the next look
        loaded = load(folder.resolve() if folder.is_symlink() else folder)
        loaded.answer([loaded.described["example"]])  # the first one also pays for threads and caches
        if self.bundle is None or loaded.version != self.bundle.version:
            take(loaded)
        self.bundle, self.reason, self._stamp = loaded, None, found
        return loaded


class Live:
    """The service, an ASGI application: each request is finished by the bundle that began it.

    Parameters
    ----------
    bundle : Bundle
    build : callable
        Bundle -> the application that answers with it.
    """

    def __init__(self, bundle: Bundle, build: Callable[[Bundle], App]) -> None:
        self.bundle, self._build, self._app = bundle, build, build(bundle)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on."""
        await self._app(scope, receive, send)

    def swap(self, bundle: Bundle) -> None:
        """Answer with another bundle from the next request on."""
        app = self._build(bundle)
        self.bundle, self._app = bundle, app


class Trial:
    """A challenger beside the champion: in the shadow, or answering a share of the requests (a canary).

    A canary takes requests by the key of their first row: the same customer meets the same model. What it cannot answer,
    the champion answers. A shadow works after the answer was given, in one thread, and only while it keeps up.

    Attributes
    ----------
    now : Tried or None
    reason : str or None
        Why there is none, although the params ask for one.
    meters : Meters
        Where its answers and failures are counted.
    log : Log or None
        Where they are logged.
    """

    def __init__(self, meters: Meters, log: Log | None = None) -> None:
        self.now: Tried | None = None
        self.reason: str | None = None
        self.meters, self.log = meters, log
        self._shadows, self._free = ThreadPoolExecutor(1, "shadow"), threading.Semaphore(SHADOWS)

    def set(self, params: Params, challenger: Place, champion: Bundle) -> None:
        """Try what stands at the challenger's place as the params say, if it can be compared with the champion."""
        self.now, self.reason = None, None
        if params.mode != "none" and (bundle := challenger.bundle) is None:
            self.reason = challenger.reason or f"{challenger.folder()}: no bundle there"
        elif params.mode != "none" and bundle and bundle.version != champion.version:
            self.reason = unlike(bundle, champion)
            self.now = None if self.reason else Tried(bundle, params.mode, params.share)

    def answer(self, rows: Rows, champion: Bundle, number: str) -> Reply:
        """Return the answer to a request: a canary's, if it is its turn and it can, or else the champion's."""
        tried = self.now
        if tried and tried.mode == "canary" and _lot(rows, number, tried.bundle) < tried.share:
            try:
                reply = Reply(tried.bundle.answer(rows), tried.bundle, CANARY)
            except Exception:  # whatever it is: there is one who can answer
                self.meters.failed.inc()
            else:
                self.meters.tried.labels(CANARY).inc()
                return reply
        return Reply(champion.answer(rows), champion, CHAMPION)

    def shadow(self, number: str, moment: datetime, rows: Rows) -> None:
        """Have a shadow answer what was answered; it is logged, and given to nobody."""
        tried, log = self.now, self.log
        if tried is None or tried.mode != SHADOW or log is None:
            return
        if not self._free.acquire(blocking=False):
            self.meters.dropped.inc()
            return
        self._shadows.submit(self._follow, tried.bundle, log, number, moment, rows)

    def close(self) -> None:
        """Let the shadow finish what it has begun, and forget the rest."""
        self._shadows.shutdown(cancel_futures=True)

    def _follow(self, bundle: Bundle, log: Log, number: str, moment: datetime, rows: Rows) -> None:
        try:
            answered = bundle.answer(rows)
            log.submit(log.entry(number, moment, bundle, filled(rows, bundle), answered.records, SHADOW))
            self.meters.tried.labels(SHADOW).inc()
        except Exception:  # nobody waits for it
            self.meters.failed.inc()
        finally:
            self._free.release()


def unlike(challenger: Bundle, champion: Bundle) -> str | None:
    """Return why a challenger cannot answer what the champion is asked; None if it can."""
    if other := differing(champion, challenger, SAME):
        return f"challenger {challenger.version} answers another question: {other[0]} differs"
    sent = {field["name"]: field["type"] for field in champion.signature}
    asked = [field for field in challenger.signature if field["kind"] not in ("identity", "history")]
    if lost := [field["name"] for field in asked if sent.get(field["name"]) != field["type"]]:
        return f"challenger {challenger.version} needs {', '.join(lost)}, which the champion's callers do not send so"
    return None


def differing(champion: Bundle, challenger: Bundle, names: Sequence[str]) -> list[str]:
    """Return in which of the named parts of the problem two bundles differ; what is empty is not there."""
    old, new = champion.stated, challenger.stated
    return [name for name in names if (old.get(name) or None) != (new.get(name) or None)]


def stamp(folder: Path) -> tuple[Any, ...] | None:
    """Return what tells whether a bundle's folder has changed; None where there is none."""
    try:
        found = (folder / "checksums.json").stat()
    except OSError:
        return None
    return (str(folder.resolve()), found.st_ino, found.st_mtime_ns, found.st_size)


@contextmanager
def watched(live: Live, champion: Place, trial: Trial, meters: Meters, project: Path | None) -> Iterator[None]:
    """Look every `POLL` s, in a thread, which bundle is in production, and who challenges it.

    Parameters
    ----------
    live : Live
    champion : Place
    trial : Trial
    meters : Meters
    project : Path, optional
        The project's folder, whose section ``serving`` of ``params.yaml`` names the challenger. None: there is none.
    """
    stop = threading.Event()
    challenge = _challenge(trial, project)
    challenge(live.bundle)

    def work() -> None:
        while not stop.wait(POLL):
            told = champion.reason
            if champion.look(live.swap):
                meters.serves(live.bundle)
                meters.swaps.inc()
                print(f"bundle {live.bundle.version} answers now", file=sys.stderr, flush=True)
            meters.stale.set(champion.reason is not None)
            if champion.reason and champion.reason != told:
                print(f"warning: {live.bundle.version} goes on: {champion.reason}", file=sys.stderr, flush=True)
            challenge(live.bundle)

    thread = threading.Thread(target=work, name="rollout", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        trial.close()


def _whole(kept: Path, version: str) -> bool:
    try:
        return verify(kept) == version
    except DataError:
        return False


def _challenge(trial: Trial, project: Path | None) -> Callable[[Bundle], None]:
    """Return what reads the params, loads the challenger where it has changed, and sets the trial anew."""
    place: Place | None = None
    params: Params | None = None
    read: Any = None
    last: Any = None

    def look(champion: Bundle) -> None:
        nonlocal place, params, read, last
        if project is None:
            return
        if (written := _written(project / FILE)) != read:  # parsing it takes many times as long as looking
            read = written
            try:
                params = load_params("serving")
            except ParamsError as error:
                params, last = None, None
                trial.reason = f"{error}; what was tried before goes on"
                print(f"warning: {trial.reason}", file=sys.stderr, flush=True)
        if params is None:
            return
        folder = project / params.challenger
        if place is None or place.folder() != folder:
            place = Place(lambda: folder)
        if params.mode != "none":
            place.look()
        now = (params, champion.version, place.bundle and place.bundle.version, place.reason)
        if now != last:
            last = now
            trial.set(params, place, champion)
            if trial.reason:
                print(f"warning: nothing is tried: {trial.reason}", file=sys.stderr, flush=True)

    return look


def _written(file: Path) -> tuple[int, int] | None:
    """Return what tells whether a file was written since; None where there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size)


def _lot(rows: Rows, number: str, challenger: Bundle) -> float:
    """Return the lot of a request, 0-1: the same for the same key of its first row, another for each challenger."""
    told = {
        name: rows[0][name] for name in names(challenger.signature, "identity", "key") if rows[0].get(name) is not None
    }
    text = json.dumps(told or number, sort_keys=True, default=str)
    return int.from_bytes(hashlib.sha256(f"{challenger.version} {text}".encode()).digest()[:8]) / 2**64
