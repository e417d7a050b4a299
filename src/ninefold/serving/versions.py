"""Which versions of the model there are, for a page: from the registry in git, where the service runs beside it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from ninefold.core import io
from ninefold.core.errors import ParamsError
from ninefold.core.params import root
from ninefold.serving.bundle import BUNDLE, Bundle
from ninefold.serving.rollout import Trial

AGAIN = 60.0  # seconds between two looks at the tags, and only while somebody asks
WAIT = 0.5  # seconds that the first one who asks waits
LONGEST = 120.0  # seconds for `ninefold models`
ASSIGNED = re.compile(r"(?P<name>.+)#production#(?P<number>\d+)")  # what GTO calls an assignment


class Version(BaseModel):
    """A version of the model."""

    bundle: str = Field(description="the version of its bundle")
    registered: str | None = Field(None, description="such as v0.0.2; null where the registry does not know it")
    since: str | None = Field(None, description="since when it is what it is, UTC")
    mode: str | None = Field(None, description="how a challenger is tried: shadow or canary; null where it is not")


class Versions(BaseModel):
    """Which version answers, which is in production by the registry, and which one may follow it.

    The challenger is the one that is tried beside the champion; else the newest that was packed, if it is not the one that
    answers; else the newest that was registered after the one in production.
    """

    answers: Version
    production: Version | None = None
    challenger: Version | None = None
    pending: bool = Field(False, description="the registry is being read")
    notice: str = Field("", description="why production and challenger are not known")


class Registry:
    """The registry in git, read in a thread when its tags change: who asks never waits for git for long."""

    def __init__(self) -> None:
        self._asking, self._looked = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        self._when, self._tags = float("-inf"), ""
        self._found: list[dict[str, Any]] = []
        self._since: str | None = None
        self._notice = ""
        self._answering: dict[str, str] = {}

    def now(self, bundle: Bundle, trial: Trial | None = None) -> Versions:
        """Return the versions, as the last look found them."""
        found = self._now(bundle)
        tried, packed = trial.now if trial else None, _packed()
        if tried:
            return found.model_copy(update={"challenger": self._named(tried.bundle.version, tried.mode)})
        known = [each.bundle for each in (found.answers, found.production, found.challenger) if each]
        if packed and packed not in known:
            return found.model_copy(update={"challenger": self._named(packed)})
        return found

    def _named(self, version: str, mode: str | None = None) -> Version:
        one = next((one for one in self._found if one.get("bundle") == version), {})
        return _version({**one, "bundle": version}, one.get("date")).model_copy(update={"mode": mode})

    def _now(self, bundle: Bundle) -> Versions:
        with self._asking:
            since = self._answering.setdefault(bundle.version, _utc(datetime.now(UTC)))
            self._answering = {bundle.version: since}  # one that comes back later answers since then
            running = self._thread is not None and self._thread.is_alive()
            if not running and time.monotonic() - self._when > AGAIN:
                self._when = time.monotonic()
                self._thread = threading.Thread(target=self._look, name="registry", daemon=True)
                self._thread.start()
        self._looked.wait(WAIT)
        if not self._looked.is_set():
            return Versions(answers=Version(bundle=bundle.version, since=since), pending=True)
        return self._told(bundle, since)

    def _told(self, bundle: Bundle, since: str) -> Versions:
        found, champion = self._found, next((one for one in self._found if one.get("champion")), None)
        known = next((one for one in found if one.get("bundle") == bundle.version), {})
        answers = Version(bundle=bundle.version, registered=known.get("version"), since=since)
        if not found:
            return Versions(answers=answers, notice=self._notice)
        later = found[: found.index(champion)] if champion else found[:1]  # the newest stand first
        return Versions(
            answers=answers,
            production=_version(champion, self._since) if champion else None,
            challenger=_version(later[0], later[0].get("date")) if later else None,
            notice=self._notice,
        )

    def _look(self) -> None:
        try:
            place = root()
            tags = _run(
                ["git", "for-each-ref", "refs/tags", "--format=%(refname:short) %(creatordate:iso-strict)"], place
            )
            if not any("@v" in line for line in tags.splitlines()):
                self._found, self._tags = [], ""
                self._notice = "No version is registered; `ninefold promote` registers one."
            elif tags != self._tags:
                # In a process of its own: what the registry stands on takes hundreds of MB, and answers come first.
                told = _run([sys.executable, "-m", "ninefold", "models", "--json"], place)
                self._found, self._notice = list(json.loads(told)), ""
                champion = next((one for one in self._found if one.get("champion")), {})
                self._since, self._tags = _assigned(tags, str(champion.get("tag", "")).partition("@")[0]), tags
        except ParamsError:
            self._notice = "The service runs in no project, so the registry is not known here."
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            said = str(getattr(error, "stderr", None) or error).strip().splitlines()
            self._notice = f"The registry cannot be read: {said[-1] if said else 'no answer'}"
        finally:
            self._looked.set()


def _version(one: dict[str, Any], since: str | None) -> Version:
    with suppress(ValueError):
        since = _utc(datetime.fromisoformat(since)) if since else None
    return Version(bundle=str(one.get("bundle") or "–"), registered=one.get("version"), since=since)


def _assigned(tags: str, name: str) -> str | None:
    """Return when production was assigned last, by the date of the tag."""
    found: dict[int, str] = {}
    for line in tags.splitlines():
        tag, _, moment = line.rpartition(" ")
        if (match := ASSIGNED.fullmatch(tag)) and match["name"] == name:
            found[int(match["number"])] = moment
    return found[max(found)] if found else None


def _packed() -> str | None:
    """Return the version of the bundle that the pipeline of the project packed last."""
    with suppress(ParamsError, OSError):
        return io.sha256(root() / BUNDLE / "checksums.json")[:12]  # as `bundle.verify` names it
    return None


def _run(command: list[str], place: Path) -> str:
    return subprocess.run(command, cwd=place, capture_output=True, check=True, text=True, timeout=LONGEST).stdout


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
