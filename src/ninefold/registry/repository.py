"""The registry in the project's git repository: GTO's tags name the versions of the model; their files are DVC's.

A version is a tag on the commit whose ``dvc.lock`` records the bundle (``returns@v0.0.2``); that it is in production is
another tag (``returns#production#3``). ``gto show`` reads both. Retraining records itself there, too.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from ninefold import artifacts, lineage, params
from ninefold.errors import DataError
from ninefold.sentences import render
from ninefold.serving import BUNDLE

STAGE = "production"
BACK = "Rolled back"  # begins the message of a tag that takes a promotion back
say = partial(render, "registry", stage=STAGE)


def git(*arguments: str) -> str:
    """Return what git prints for the project's folder; raise `DataError` if it is not installed, or fails."""
    command = ["git", "--no-optional-locks", "-C", str(params.root()), *arguments]
    try:
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout
    except FileNotFoundError:
        raise DataError("git: not found; the registry and retraining are recorded in git, install it") from None
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).strip()
        raise DataError(say("git_failed", command=arguments[0], message=said)) from None


def head() -> str:
    """Return the commit that is checked out."""
    return git("rev-parse", "HEAD").strip()


def changed(*names: str) -> list[str]:
    """Return which of some files and folders differ from the commit that is checked out, or are new."""
    return [line[3:] for line in git("status", "--porcelain", "--", *names).splitlines()]


def outputs(revision: str) -> dict[str, str]:
    """Return the outputs that ``dvc.lock`` of a revision records: path -> MD5."""
    recorded: dict[str, Any] = (yaml.safe_load(lineage.file_of(revision, lineage.LOCK) or "") or {}).get("stages", {})
    return {out["path"]: out.get("md5", "") for stage in recorded.values() for out in stage.get("outs", [])}


def folder() -> Path:
    """Return git's own folder, which all work trees of the repository share; `DataError` if it is not the project's."""
    lineage.demand_own_repository()
    return Path(git("rev-parse", "--path-format=absolute", "--git-common-dir").strip())


@contextmanager
def locked(name: str, busy: str, wait: bool = False) -> Iterator[int]:
    """Hold a lock in git's folder, which processes started with ``close_fds=False`` inherit; give its descriptor."""
    with artifacts.alone(folder() / f"ninefold-{name}.lock", busy, wait) as lock:
        os.set_inheritable(lock, os.name != "nt")  # Windows hands no locks on
        yield lock


def registered(name: str) -> dict[str, dict[str, Any]]:
    """Return the versions of a model, newest first: version -> GTO's state of it."""
    from gto.exceptions import ArtifactNotFound

    with _gto() as api:
        try:
            return {one["version"]: one for one in api.show(str(params.root()), name)}
        except ArtifactNotFound:
            return {}


def champions(name: str) -> list[str]:
    """Return the versions that were in production, oldest first, without those rolled back; the last is the champion."""
    versions, history = registered(name), list[str]()
    for one in assignments(name):
        version = one["version"]
        if one["message"].startswith(BACK) and version in history:
            del history[len(history) - history[::-1].index(version) :]
        elif history[-1:] != [version]:
            history.append(version)
    history = [version for version in history if version in versions]
    current = [key for key, one in versions.items() if any(stage["stage"] == STAGE for stage in one["stages"])]
    return [*history, *(current if history[-1:] != current else [])] if current else []


def register(name: str, versions: dict[str, dict[str, Any]], md5: str, message: str) -> str:
    """Return the version of a bundle, registered if it was not yet, and assigned to production: both tags, or none."""
    for version, one in versions.items():
        if outputs(one["commit_hexsha"]).get(BUNDLE) == md5:
            assign(name, version, message)
            return version
    with _gto() as api:
        tag = api.register(str(params.root()), name, head(), message=message)
    try:
        assign(name, tag.version, message)
    except BaseException:
        git("tag", "--delete", tag.tag)
        raise
    return str(tag.version)


def assign(name: str, version: str, message: str) -> None:
    """Assign a version to production, in a second of its own, because GTO orders tags by whole seconds."""
    last = max((one["timestamp"].timestamp() for one in assignments(name)), default=0)
    while 0 <= (ahead := last + 1 - time.time()) <= 1:
        time.sleep(ahead + 0.001)
    with _gto() as api:
        api.assign(str(params.root()), name, STAGE, version=version, message=message, force=True)


@contextmanager
def restored(name: str, revision: str) -> Iterator[Path]:
    """Give an output, as a revision records it, in a temporary place; raise `DataError` if neither cache nor remote has it."""
    from dvc.repo.get import get  # type: ignore[import-untyped]

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / Path(name).name
        try:
            get(str(params.root()), name, out=str(place), rev=revision)
        except Exception as error:  # DVC passes on whatever the library of a remote raises
            raise DataError(say("not_stored", name=name, revision=revision, error=error)) from None
        yield place


def assignments(name: str) -> list[dict[str, Any]]:
    """Return the tags that put a version into production, oldest first; those of one second by their counter."""
    with _gto() as api:
        events = api.history(str(params.root()), artifact=name)
        tags = [one for one in events if one["event"] == "assignment" and one["stage"] == STAGE]
        return sorted(tags, key=lambda one: (one["timestamp"], api.parse_tag(one["ref"]).get("counter", 0)))


@contextmanager
def _gto() -> Iterator[Any]:
    """Give GTO's functions, whose errors become ours."""
    from gto import api
    from gto.exceptions import GTOException
    from scmrepo.exceptions import SCMError

    try:
        yield api
    except (GTOException, SCMError) as error:
        raise DataError(f"the registry: {error}; see `ninefold models` and `gto show`, and run this again") from None
