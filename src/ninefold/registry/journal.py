"""The journal of a retraining in git's directory: what is in progress, so that an interrupted run can continue."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ninefold import artifacts
from ninefold.errors import DataError
from ninefold.registry import repository

JOURNAL, LOCK = "ninefold-retrain.json", "ninefold-retrain.lock"  # in git's directory
GIT = {"purpose": "retraining is recorded in git", "remedy": "mend it, and run this again"}
STEPS = ("params", "repro", "compare", "commit", "push", "promote", "finish")


@dataclass(frozen=True)
class Run:
    """A retraining as the journal records it; `step` is the current one."""

    root: str
    base: str  # the commit from which it began ...
    onto: str  # ... and the branch that was checked out
    branch: str  # of the challenger
    as_of: str | None  # None: the project has no time
    reason: str | None
    step: str = STEPS[0]
    champion: str | None = None
    fit: bool = False
    moves: bool = False  # the checked-out branch moves on to the challenger
    result: str = ""
    error: str = ""


def place() -> Path:
    """Return the path of the journal."""
    return repository.folder(**GIT) / JOURNAL


def write(run: Run) -> None:
    """Write the journal, before the step that it names begins."""
    artifacts.write_json(asdict(run), place())
    artifacts.sync(place())


def read() -> Run | None:
    """Return the run that was interrupted; None if there is none."""
    file = place()
    try:
        return Run(**json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None
    except (ValueError, TypeError):
        raise DataError(
            f"{file}: no journal of a retraining that this version knows; see `git status`, and delete it"
        ) from None


def git(*arguments: str) -> str:
    """Return what git prints for the project's folder."""
    return repository.git(*arguments, **GIT)


def tip(branch: str) -> str:
    """Return the commit of a branch, empty if there is none."""
    return git("for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}").strip()


def until(run: Run) -> str:
    """Return which data a run uses, in words."""
    return f"until {run.as_of}" if run.as_of else "of today"


@contextmanager
def locked(wait: bool) -> Iterator[int]:
    """Hold the lock of retraining; return its descriptor."""
    busy = "another `ninefold retrain` is running, or the `dvc repro` that it started; `--wait` waits for its end"
    with artifacts.alone(repository.folder(**GIT) / LOCK, busy, wait) as lock:
        yield lock
