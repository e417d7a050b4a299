"""The checksums of a bundle: its version, and whether each file is as it was packed."""

import json
from pathlib import Path
from typing import Any

from ninefold import artifacts
from ninefold.collection import failing
from ninefold.errors import DataError

LIST = "checksums.json"


def write(folder: Path) -> None:
    """Write the checksums of all files in a folder."""
    artifacts.write_json({name: artifacts.sha256(folder / name) for name in files(folder)}, folder / LIST)


def verify(place: Path) -> str:
    """Return the version of the bundle at `place`; `DataError` names files that are missing, changed, or not listed."""
    if not (place / LIST).is_file():
        raise DataError(f"{place}: holds no bundle (no {LIST}); write it with `dvc repro deployment`")
    expected, present = read_json(place / LIST), set(files(place))
    wrong = {
        "missing": expected.keys() - present,
        "changed": {name for name in expected.keys() & present if artifacts.sha256(place / name) != expected[name]},
        "not listed": present - expected.keys(),
    }
    if listed := "; ".join(f"{how}: {', '.join(sorted(names))}" for how, names in wrong.items() if names):
        raise DataError(f"{place}: not as it was packed; {listed}; {artifacts.RESTORE}")
    return artifacts.sha256(place / LIST)[:12]


def files(place: Path) -> list[str]:
    """Return the sorted files of a folder, relative to it, without hidden ones and without the list of checksums."""
    names = [file.relative_to(place) for file in place.rglob("*") if file.is_file()]
    return sorted({name.as_posix() for name in names if not any(part[0] == "." for part in name.parts)} - {LIST})


def read_json(file: Path) -> dict[str, Any]:
    """Return the object in a file of a bundle; `DataError` if it is not readable, or not an object."""
    with failing(str(file), "read as JSON", artifacts.RESTORE, OSError, ValueError):
        value = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise DataError(f"{file}: found {type(value).__name__}, expected an object; {artifacts.RESTORE}")
    return value
