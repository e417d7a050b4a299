"""What a model comes from: hashes of data, params and code, and the commit whose ``dvc.lock`` recorded it."""

import hashlib
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ninefold import artifacts
from ninefold.errors import DataError
from ninefold.params import FILE
from ninefold.sentences import render

NO_COMMIT = "not committed yet"
SHORT = 12  # hexadecimal digits of a SHA-256 that is shown
LOCK = "dvc.lock"
SOURCES = ("params.yaml", "data/raw", "data/features", "src", "ninefold.yaml")


def lineage() -> dict[str, str]:
    """Return the short SHA-256 of params, raw data, feature table and code as they are now, by path; of those there are."""
    return {name: of_folder(name) for name in SOURCES if artifacts.pending(name).exists()}


def of_folder(name: str | Path) -> str:
    """Return the first 12 digits of `sha256`."""
    return sha256(name)[:SHORT]


def sha256(name: str | Path) -> str:
    """Return the SHA-256 of a file, or of a folder: of the list of its files' names and sums, in the order of names.

    Neither times nor the order on the disk count, nor hidden and compiled files. `name` is relative to the project's
    root, or absolute; an output that is being written is read where it is. `DataError` if there is no such file or folder.
    """
    place = artifacts.existing(str(name))
    if place.is_file():
        return artifacts.sha256(place)
    names = (file.relative_to(place) for file in place.rglob("*") if file.is_file())
    visible = (name for name in names if not any(part.startswith(".") or part == "__pycache__" for part in name.parts))
    listed = sorted(name.as_posix() for name in visible)
    sums = "".join(f"{each} {artifacts.sha256(place / each)}\n" for each in listed)
    return hashlib.sha256(sums.encode()).hexdigest()


def of_values(values: Any) -> str:
    """Return the first 12 digits of the SHA-256 of plain values, such as params: the same in whichever order they stand."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:SHORT]


def dvc_md5(name: str | Path) -> str:
    """Return the hash by which ``dvc.lock`` knows a file or folder, without an import of DVC, which takes a second."""
    place = artifacts.pending(str(name))
    if place.is_file():
        return _md5(place.read_bytes())
    files = sorted(file.relative_to(place).as_posix() for file in place.rglob("*") if file.is_file())
    listed = [{"md5": _md5((place / file).read_bytes()), "relpath": file} for file in files]
    return f"{_md5(json.dumps(listed, sort_keys=True).encode())}.dir"


def commit(*md5: str) -> str:
    """Return the newest commit whose ``dvc.lock`` holds the first of the hashes, as DVC writes them, that any commit's holds.

    Without one the commit that is checked out, and that there are changes; without git, that there is none. This differs
    between equal runs: no output of the pipeline may hold it.
    """
    if git("rev-parse", "--git-dir") is None:
        return "not in a git repository"
    if around() is not None:
        return "not in a git repository of its own"
    for one in filter(None, md5):
        changed = git("log", "--no-show-signature", "--format=%H", f"-S{one}", "--", LOCK) or ""
        for revision in changed.split():  # a commit that removed the hash has changed it too
            if git("grep", "--quiet", "--fixed-strings", "-e", one, revision, "--", LOCK) is not None:
                return revision
    head = git("rev-parse", "--verify", "HEAD")
    return NO_COMMIT if head is None else f"{head.strip()} with changes that are not committed"


def differing(*names: str) -> str | None:
    """Return the newest commit in which files or folders are not as they are now; None without one, or without git."""
    commits = "" if around() is not None else git("log", "--no-show-signature", "--format=%H", "--", *names) or ""
    return next((one for one in commits.split() if git("diff", "--quiet", one, "--", *names) is None), None)


def file_of(revision: str, name: str) -> str | None:
    """Return a file of the project as a revision has it; None if it has none."""
    return git("show", f"{revision}:./{name}")


def around() -> str | None:
    """Return the folder of a git repository around the project that holds no file of it; None if there is none."""
    if not (git("rev-parse", "--show-prefix") or "").strip() or git("ls-files", "--", FILE, LOCK, "dvc.yaml"):
        return None
    return (git("rev-parse", "--show-toplevel") or "").strip()


def demand_own_repository() -> None:
    """Raise `DataError` if the only git repository is one around the project that has nothing to do with it."""
    if other := around():
        raise DataError(render("spine", "no_own_repository", place=artifacts.path("."), other=other))


@contextmanager
def dvc_repository(where: str) -> Iterator[Any]:
    """Give DVC's view of the project; an error of DVC becomes a `DataError` that begins with `where`."""
    from dvc.exceptions import DvcException  # type: ignore[import-untyped]
    from dvc.repo import Repo  # type: ignore[import-untyped]

    try:
        with Repo(str(artifacts.path("."))) as repo:
            yield repo
    except DvcException as error:
        raise DataError(f"{where}: {error}; fix it, and run this again") from None


def default_remote() -> tuple[str, str]:
    """Return the name and the URL of DVC's default remote, empty if there is none; `DataError` if they cannot be read."""
    with dvc_repository(".dvc/config") as repo:
        name = repo.config["core"].get("remote") or ""
        return name, str(repo.config["remote"].get(name, {}).get("url", ""))


def demand_own_store() -> None:
    """Raise `DataError` if DVC's default remote is a folder in a git work tree, where `git add` would take its files."""
    name, url = default_remote()
    if not url or "://" in url:
        return
    store = artifacts.path(url).resolve()
    place = next(each for each in (store, *store.parents) if each.is_dir())
    top = git("-C", str(place), "rev-parse", "--show-toplevel")
    if top and git("-C", str(place), "check-ignore", "--quiet", str(store / "files")) is None:
        raise DataError(render("spine", "no_own_store", name=name, store=store, repository=top.strip()))


def git(*arguments: str) -> str | None:
    """Return what git says of the project's folder; None where it fails, or is not installed."""
    command = ["git", "-C", str(artifacts.path(".")), *arguments]
    try:
        return str(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    except (OSError, subprocess.CalledProcessError):
        return None


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
