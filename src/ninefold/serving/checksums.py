"""The checksums of a bundle: its version, and whether each file is as it was packed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ninefold import artifacts
from ninefold.errors import DataError

LIST = "checksums.json"


def write(folder: Path) -> None:
    """Write the checksums of all files in a folder."""
    checksums = {name: artifacts.sha256(folder / name) for name in sorted(files(folder))}
    artifacts.write_json(checksums, folder / LIST)


def verify(place: Path) -> str:
    """Return the version of the bundle at `place`, if every file is as it was packed.

    This detects damage and careless edits. Whoever rewrites the checksums too makes another bundle, of another version.

    Raises
    ------
    DataError
        Naming the files that are missing, changed, or not listed.
    """
    listing = place / LIST
    if not listing.is_file():
        raise DataError(f"{place}: holds no bundle (no checksums.json); write it with `dvc repro deployment`")
    expected, present = read_json(listing), files(place)
    wrong = {
        "missing": [name for name in expected if name not in present],
        "changed": [name for name in expected if name in present and artifacts.sha256(place / name) != expected[name]],
        "not listed": [name for name in present if name not in expected],
    }
    if any(wrong.values()):
        listed = "; ".join(f"{how}: {', '.join(sorted(names))}" for how, names in wrong.items() if names)
        raise DataError(f"{place}: not as it was packed; {listed}; {artifacts.RESTORE}")
    return artifacts.sha256(listing)[:12]


def files(place: Path) -> list[str]:
    """Return the files of a folder, relative to it, without hidden ones and without the list of checksums."""
    names = (file.relative_to(place) for file in place.rglob("*") if file.is_file())
    visible = (name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts))
    return [name for name in visible if name != LIST]


def read_json(file: Path) -> dict[str, Any]:
    """Return the object in a file of a bundle.

    Raises
    ------
    DataError
        If it is not readable, or not an object.
    """
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: not readable as JSON ({error}); {artifacts.RESTORE}") from None
    if not isinstance(value, dict):
        raise DataError(f"{file}: found {type(value).__name__}, expected an object; {artifacts.RESTORE}")
    return value
