"""The hot swap of a model: ``models/production`` is a link, and a running service follows it without losing a request."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ninefold import artifacts
from ninefold.errors import DataError, NinefoldError
from ninefold.serving.bundle import BUNDLE, Bundle
from ninefold.serving.checksums import LIST, verify

PRODUCTION, VERSIONS = "models/production", "models/versions"
RETRY = 5.0  # seconds after which a bundle that could not be loaded is tried again


def install(place: Path) -> Path:
    """Put a copy of the bundle at `place` into production, and return it: ``models/versions/<version>``.

    ``models/production`` is a link to it, replaced atomically: readers find the old bundle or the new one, complete.
    `DataError` if the bundle is not as it was packed.
    """
    version, present = verify(place), None
    copy, link = artifacts.path(f"{VERSIONS}/{version}"), artifacts.path(PRODUCTION)
    with suppress(DataError):
        present = verify(copy)
    if present != version:
        temporary = copy.with_name(f".{version}.{os.getpid()}")
        shutil.copytree(place, temporary)
        verify(temporary)
        shutil.rmtree(copy, ignore_errors=True)
        temporary.rename(copy)
    fresh = link.with_name(f".production.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(os.path.relpath(copy, link.parent))
    os.replace(fresh, link)
    artifacts.sync(link.parent)
    return copy


def in_production() -> str:
    """Return the bundle that `ninefold serve` answers with: the promoted one, or the newest if none was promoted."""
    return PRODUCTION if artifacts.path(PRODUCTION).exists() else BUNDLE


class Watcher:
    """Loads the bundle in the folder that `folder()` returns when it changes, completely or not at all.

    `bundle` is the one loaded last, `reason` why the one in the folder is not loaded; or None.
    """

    def __init__(self, folder: Callable[[], Path]) -> None:
        self.folder = folder
        self.bundle: Bundle | None = None
        self.reason: str | None = None
        self._stamp: tuple[Any, ...] | None = None
        self._failed = 0.0

    def load(self, use: Callable[[Bundle], None] = lambda _: None) -> Bundle:
        """Load the bundle, answer its example, and pass it to `use` if its version is new; `DataError` if it is damaged."""
        folder = self.folder()
        current = stamp(folder / LIST)  # first: a change during loading is noticed at the next look
        loaded = Bundle.load(folder.resolve() if folder.is_symlink() else folder)
        loaded.answer([loaded.described["example"]])  # the first answer also starts threads and fills caches
        if self.bundle is None or loaded.version != self.bundle.version:
            use(loaded)
        self.bundle, self.reason, self._stamp = loaded, None, current
        return loaded

    def look(self, use: Callable[[Bundle], None] = lambda _: None) -> bool:
        """Load the bundle if it changed, see `load`; return whether its version is new.

        If it cannot be loaded, or `use` raises, the bundle before stays; the next attempt is after `RETRY` seconds.
        """
        if stamp(self.folder() / LIST) == self._stamp or (self.reason and time.monotonic() < self._failed + RETRY):
            return False
        before = self.bundle
        try:
            return self.load(use).version != (before and before.version)
        except (NinefoldError, OSError, KeyError, ValueError) as error:
            self.reason, self._failed = str(error), time.monotonic()
            return False


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
    try:
        status = file.stat()
    except OSError:
        return None
    return (str(file.parent.resolve()), status.st_ino, status.st_mtime_ns, status.st_size)
