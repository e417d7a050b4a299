"""The hot swap of a model: ``models/production`` is a link, and a running service follows it without losing a request."""

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ninefold import artifacts
from ninefold.errors import DataError, NinefoldError
from ninefold.sentences import render
from ninefold.serving.bundle import BUNDLE, CHECKSUMS, Bundle, verify

PRODUCTION, VERSIONS = "models/production", "models/versions"
KEPT = 5  # copies of bundles in `VERSIONS`: those that were installed last
RETRY = 5.0  # seconds after which a bundle that could not be loaded is tried again
PATIENCE = 5.0  # seconds to wait at the end for the work of a thread
STALLED = 60.0  # seconds without a look after which the watcher is taken for dead


def install(place: Path) -> Path:
    """Put a copy of the bundle at `place` into production, and return it: ``models/versions/<version>``.

    ``models/production`` is a link to it, replaced atomically: readers find the old bundle or the new one, complete, also
    after a loss of power, because all files are on disk before the link is. `DataError` if the bundle is not as it was packed.
    """
    version, present = verify(place), None
    copy, link = artifacts.path(f"{VERSIONS}/{version}"), artifacts.path(PRODUCTION)
    with suppress(DataError):
        present = verify(copy)
    if present != version:
        with artifacts.replacing(copy) as temporary:
            shutil.copytree(place, temporary)
            verify(temporary)
            for each in (*temporary.rglob("*"), temporary):
                artifacts.sync(each)
    os.utime(copy)  # the time of its installation, for `prune`
    artifacts.sync(copy.parent)
    fresh = link.with_name(f".production.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(os.path.relpath(copy, link.parent))
    os.replace(fresh, link)
    artifacts.sync(link.parent)
    return copy


def prune(needed: Collection[str] = ()) -> None:
    """Remove copies of bundles but the `KEPT` last ones, that in production and `needed`; run no `install` beside."""
    used = {*needed, artifacts.path(PRODUCTION).resolve().name}
    copies = sorted(artifacts.path(VERSIONS).iterdir(), key=lambda copy: copy.stat().st_mtime_ns, reverse=True)
    whole = [copy.name for copy in copies if not copy.name.startswith(".")]
    for copy in copies:
        if copy.name not in {*used, *whole[:KEPT]}:
            shutil.rmtree(copy, ignore_errors=True)


def in_production() -> str:
    """Return which bundle is in production: the promoted one (`DataError` if it is lost), else the newest."""
    link = artifacts.path(PRODUCTION)
    if link.is_symlink() and not link.exists():
        raise DataError(render("serving", "production_lost", production=PRODUCTION, target=os.readlink(link)))
    return PRODUCTION if link.exists() else BUNDLE


def load(place: Path | None = None) -> Bundle:
    """Read and verify the bundle in production, or the one at `place`; a link is followed once, for all of its files."""
    place = place or artifacts.path(in_production())
    return Bundle.load(place.resolve() if place.is_symlink() else place)


class Watcher:
    """Loads the bundle in the folder that `folder()` returns when it changes, completely or not at all.

    `bundle` is the one loaded last, `reason` why the one in the folder is not loaded, or None; `looked` the last look's time.
    """

    def __init__(self, folder: Callable[[], Path]) -> None:
        self.folder = folder
        self.bundle: Bundle | None = None
        self.reason: str | None = None
        self.looked = time.monotonic()
        self._stamp: tuple[Any, ...] | None = None
        self._failed = 0.0

    def load(self, use: Callable[[Bundle], None] = lambda _: None) -> Bundle:
        """Load the bundle, answer its example, and pass it to `use` if its version is new; `DataError` if it is damaged."""
        folder = self.folder()
        current = stamp(folder / CHECKSUMS)  # first: a change during loading is noticed at the next look
        loaded = load(folder)
        loaded.answer([loaded.described["example"]])  # the first answer also starts threads and fills caches
        if self.bundle is None or loaded.version != self.bundle.version:
            use(loaded)
        self.bundle, self.reason, self._stamp = loaded, None, current
        return loaded

    def look(self, use: Callable[[Bundle], None] = lambda _: None) -> None:
        """Load the bundle if it changed, see `load`. After any error the old one stays `RETRY` s."""
        self.looked = time.monotonic()
        try:
            if stamp(self.folder() / CHECKSUMS) == self._stamp:
                self.reason = None  # what could not be loaded is gone again
            elif not self.reason or self.looked >= self._failed + RETRY:
                self.load(use)
        except Exception as error:  # the bundle of a newer engine may raise anything
            self.reason, self._failed = because(error), time.monotonic()

    def state(self) -> str:
        """Return in words whether the bundle in the folder reaches its users: ``following``, or what is wrong."""
        if self.reason:
            return f"failing: {self.reason}"
        age = time.monotonic() - self.looked
        return "following" if age < STALLED else f"stalled: the last look was {age:.0f} seconds ago"


class SwappableApp:
    """The service as an ASGI application, which `build` makes of a bundle; that finishes the requests that it began."""

    def __init__(self, bundle: Bundle, build: Callable[[Bundle], Any]) -> None:
        self._build = build
        self.swap(bundle)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on."""
        await self._app(scope, receive, send)

    def swap(self, bundle: Bundle) -> None:
        """Answer with another bundle from the next request on."""
        self._app, self.bundle = self._build(bundle), bundle


def stamp(file: Path) -> tuple[Any, ...] | None:
    """Return a value that changes with a file, and with the folder that a link leads to; None without it."""
    with suppress(OSError):
        status = file.stat()
        return (str(file.parent.resolve()), status.st_ino, status.st_mtime_ns, status.st_size)
    return None


@contextmanager
def repeated(work: Callable[[], object], seconds: float, failed: str) -> Iterator[None]:
    """Do `work` at once, then every `seconds`, in a thread, until the context ends; an error is printed, after `failed`."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            try:
                work()
            except Exception as error:
                say(f"warning: {failed}: {because(error)}")
            stop.wait(seconds)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(PATIENCE)


def say(text: str) -> None:
    """Print a line for whoever operates the service, who may not read it any more."""
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def because(error: Exception) -> str:
    """Return why something failed, in one text: errors of ours say all, others need their kind."""
    return str(error) if isinstance(error, NinefoldError) else f"{type(error).__name__}: {error}"
