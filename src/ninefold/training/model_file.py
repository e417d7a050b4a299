"""Write and read models as skops files, never pickle: types are trusted by name, equal models give equal bytes."""

import json
import re
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import skops.io
import yaml

from ninefold.errors import DataError

# Files with any other type are refused.
TRUSTED: list[str] = yaml.safe_load(Path(__file__).with_name("trusted.yaml").read_text("utf-8"))
EPOCH = (1980, 1, 1, 0, 0, 0)


def dump(model: Any, place: Path) -> None:
    """Write a fitted estimator; memory addresses and times, which skops writes too, are replaced."""
    source, numbers = zipfile.ZipFile(BytesIO(skops.io.dumps(model))), dict[str, str]()

    def renumber(match: re.Match[str]) -> str:
        return match[1] + numbers.setdefault(match[2], str(len(numbers) + 1)) + match[3]

    schema = re.sub(r'("__id__": )(\d+)()', renumber, source.read("schema.json").decode())
    schema = re.sub(r'("file": ")(\d+)(\.\w+")', renumber, schema)
    members = {"schema.json": json.dumps(json.loads(schema)).encode()}
    renamed = {name: numbers.get(name.split(".")[0], name.split(".")[0]) for name in source.namelist()}
    for name in sorted(source.namelist(), key=lambda name: (len(renamed[name]), renamed[name])):
        members.setdefault(f"{renamed[name]}.{name.split('.', 1)[1]}", source.read(name))
    place.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(place, "w") as target:
        for name, content in members.items():
            target.writestr(zipfile.ZipInfo(name, EPOCH), content, zipfile.ZIP_DEFLATED)


def load(place: Path) -> Any:
    """Read a fitted estimator; raise DataError if it is missing, damaged, or asks for a type not in `TRUSTED`."""
    try:
        if unknown := sorted(set(skops.io.get_untrusted_types(file=place)) - set(TRUSTED)):
            raise DataError(f"{place.name}: asks for types that are not trusted: {', '.join(unknown)}")
        return skops.io.load(place, trusted=TRUSTED)
    except FileNotFoundError:
        raise DataError(f"{place}: not found; run stage 07 with `dvc repro`") from None
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise DataError(f"{place.name}: damaged ({error}); restore it with `dvc checkout`") from None
