"""The hot swap of a model: ``models/production`` is a link, and a running service follows it without losing a request."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

from ninefold import artifacts
from ninefold.errors import DataError, NinefoldError
from ninefold.serving.bundle import BUNDLE, Bundle
from ninefold.serving.checksums import LIST, verify

PRODUCTION, VERSIONS = "models/production", "models/versions"
RETRY = 5.0  # seconds after which a bundle that could not be loaded is tried again

App: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]


def install(place: Path) -> Path:
    """Put a copy of the bundle at `place` into production, and return it: ``models/versions/<version>``.

    ``models/production`` is a link to it, replaced atomically: readers find the old bundle or the new one, complete.

    Raises
    ------
    DataError
        If the bundle is not as it was packed.
    """
    version = verify(place)
    copy, link = artifacts.path(f"{VERSIONS}/{version}"), artifacts.path(PRODUCTION)
    if not _is_complete(copy, version):
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
    """Watches the folder of a bundle, and loads it when it changes, completely or not at all.

    Parameters
    ----------
    folder : callable
        Returns the folder.

    Attributes
    ----------
    bundle : Bundle or None
        The bundle loaded last.
    reason : str or None
        Why the bundle in the folder is not loaded.
    """

    def __init__(self, folder: Callable[[], Path]) -> None:
        self.folder = folder
        self.bundle: Bundle | None = None
        self.reason: str | None = None
        self._stamp: tuple[Any, ...] | None = None
        self._failed = 0.0

    def load(self, use: Callable[[Bundle], None] = lambda _: None) -> Bundle:
        """Load the bundle, answer its example, and pass it to `use` if its version is new.

        Raises
        ------
        DataError
            If it is not as it was packed.
        """
        folder = self.folder()
        current = stamp(folder)  # first: a change during loading is noticed at the next look
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
        if stamp(self.folder()) == self._stamp or (self.reason and time.monotonic() < self._failed + RETRY):
            return False
        before = self.bundle
        try:
            return self.load(use).version != (before and before.version)
        except (NinefoldError, OSError, KeyError, ValueError) as error:
            self.reason, self._failed = str(error), time.monotonic()
            return False


class SwappableApp:
    """The service as an ASGI application: each request is finished by the bundle that began it.

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


def stamp(folder: Path) -> tuple[Any, ...] | None:
    """Return a value that changes with the bundle in a folder; None without one."""
    try:
        status = (folder / LIST).stat()
    except OSError:
        return None
    return (str(folder.resolve()), status.st_ino, status.st_mtime_ns, status.st_size)


def _is_complete(copy: Path, version: str) -> bool:
    try:
        return verify(copy) == version
    except DataError:
        return False
