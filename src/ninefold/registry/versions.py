"""Versions of the model as GTO's tags in git: registered on a commit, assigned to production; their files are DVC's.

A version is a tag on the commit whose ``dvc.lock`` records the bundle (``returns@v0.0.2``); that it is in production is
another tag (``returns#production#3``). ``gto show`` reads both.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from ninefold import artifacts, lineage, params
from ninefold.errors import DataError
from ninefold.registry import repository
from ninefold.serving import BUNDLE

STAGE = "production"
BACK = "Rolled back"  # begins the message of a tag that takes a promotion back
GIT = {"purpose": "the registry lives in git", "remedy": "the registry needs a repository with a commit"}


def git(*arguments: str) -> str:
    """Return what git prints for the project's folder."""
    return repository.git(*arguments, **GIT)


def model_name() -> str:
    """Return the name of the model, ``deployment.name`` of ``params.yaml``."""
    return str(params.load("deployment").name)


def registered(name: str) -> dict[str, dict[str, Any]]:
    """Return the versions of a model, newest first: version -> GTO's state of it."""
    from gto import api
    from gto.exceptions import ArtifactNotFound

    with _clear_errors():
        try:
            return {one["version"]: one for one in api.show(_root(), name)}
        except ArtifactNotFound:
            return {}


def stages(version: dict[str, Any]) -> list[str]:
    """Return the stages that a version is in."""
    return sorted({stage["stage"] for stage in version["stages"]})


def champions(name: str) -> list[str]:
    """Return the versions that were in production, oldest first, without those rolled back; the last is the champion.

    Tags of one second are ordered by their counter. GTO decides about versions that were unassigned by hand.
    """
    versions = registered(name)
    history: list[str] = []
    for one in _assignments(name):
        version = one["version"]
        if one["message"].startswith(BACK) and version in history:
            del history[len(history) - history[::-1].index(version) :]
        elif history[-1:] != [version]:
            history.append(version)
    history = [version for version in history if version in versions]
    current = [key for key, one in versions.items() if STAGE in stages(one)]
    if not current:
        return []
    return history if history[-1:] == current else [*history, *current]


def register(name: str, versions: dict[str, dict[str, Any]], md5: str, message: str) -> str:
    """Return the version of a bundle, registered if it was not yet, and assigned to production: both tags, or none."""
    from gto import api

    known = (version for version, one in versions.items() if outputs(one["commit_hexsha"]).get(BUNDLE) == md5)
    if version := next(known, None):
        assign(name, version, message)
        return version
    with _clear_errors():
        tag = api.register(_root(), name, git("rev-parse", "HEAD").strip(), message=message)
    try:
        assign(name, tag.version, message)
    except BaseException:
        git("tag", "--delete", tag.tag)
        raise
    return str(tag.version)


def assign(name: str, version: str, message: str) -> None:
    """Assign a version to production, in a second of its own, because GTO orders tags by whole seconds."""
    from gto import api

    last = max((one["timestamp"].timestamp() for one in _assignments(name)), default=0)
    while 0 <= (ahead := last + 1 - time.time()) <= 1:
        time.sleep(ahead + 0.001)
    with _clear_errors():
        api.assign(_root(), name, STAGE, version=version, message=message, force=True)


def outputs(revision: str) -> dict[str, str]:
    """Return the outputs that ``dvc.lock`` of a revision records: path -> MD5."""
    recorded = (yaml.safe_load(repository.file_of(revision, lineage.LOCK) or "") or {}).get("stages", {})
    return {out["path"]: out.get("md5", "") for stage in recorded.values() for out in stage.get("outs", [])}


def restore(name: str, revision: str, place: Path) -> None:
    """Write an output, as a revision records it, to `place`: from DVC's cache, or else its remote.

    Raises
    ------
    DataError
        If neither has it.
    """
    from dvc.repo.get import get  # type: ignore[import-untyped]

    try:
        get(_root(), name, out=str(place), rev=revision)
    except Exception as error:  # DVC passes on whatever the library of a remote raises
        raise DataError(
            f"{name} of {revision[:7]}: neither in DVC's cache nor in its remote ({error}); who has it runs `dvc push`"
        ) from None


@contextmanager
def locked() -> Iterator[None]:
    """Hold the lock of the registry, which ends with the process."""
    busy = "the registry: another `ninefold promote` or `rollback` is running; run this again after it"
    with artifacts.alone(repository.folder(**GIT) / "ninefold-registry.lock", busy):
        yield


def _assignments(name: str) -> list[dict[str, Any]]:
    """Return the tags that put a version into production, oldest first."""
    from gto import api

    with _clear_errors():
        events = api.history(_root(), artifact=name)
    tags = [one for one in events if one["event"] == "assignment" and one["stage"] == STAGE]
    return sorted(tags, key=lambda one: (one["timestamp"], api.parse_tag(one["ref"]).get("counter", 0)))


def _root() -> str:
    return str(params.root())


@contextmanager
def _clear_errors() -> Iterator[None]:
    from gto.exceptions import GTOException
    from scmrepo.exceptions import SCMError

    try:
        yield
    except (GTOException, SCMError) as error:
        raise DataError(f"the registry: {error}; see `ninefold models` and `gto show`, and run this again") from None
