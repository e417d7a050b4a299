"""The git repository of the project, for what records itself there: the registry and retraining."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ninefold import params
from ninefold.errors import DataError


def git(*arguments: str, purpose: str, remedy: str) -> str:
    """Return what git says of the project's folder.

    Parameters
    ----------
    *arguments : str
    purpose, remedy : str
        What git is needed for, and what to do: the ends of the messages where it is not installed, and where it fails.

    Raises
    ------
    DataError
        If git is not installed, or fails.
    """
    command = ["git", "--no-optional-locks", "-C", str(params.root()), *arguments]
    try:
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout
    except FileNotFoundError:
        raise DataError(f"git: not found; {purpose}, install it") from None
    except subprocess.CalledProcessError as error:
        message = (error.stderr or error.stdout).strip()
        raise DataError(f"git {arguments[0]}: {message}; {remedy}") from None


def file_of(revision: str, name: str) -> str | None:
    """Return a file of the project as a revision has it; None if it has none."""
    try:
        return git("show", f"{revision}:./{name}", purpose="", remedy="")
    except DataError:
        return None


def folder(purpose: str, remedy: str) -> Path:
    """Return git's own folder, which all work trees of the repository share."""
    return Path(git("rev-parse", "--path-format=absolute", "--git-common-dir", purpose=purpose, remedy=remedy).strip())
