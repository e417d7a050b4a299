"""The guides of ``docs/``, which an installed engine brings along, so that they are those of its version."""

import re
from functools import cache
from pathlib import Path

from ninefold.errors import DataError

HERE = Path(__file__).parents[1]
PLACES = (HERE / "guides", HERE.parents[1] / "docs")  # installed; in the repository of the template
INDEX, CHECKS = "README", "checks"


@cache
def checks() -> dict[str, str]:
    """Return what the guide says of each check, by its code, in Markdown; empty if the guides are not at hand."""
    if (folder := _folder()) is None:
        return {}
    parts = re.split(r"(?m)^## (NF\d{3})", _linked((folder / f"{CHECKS}.md").read_text(encoding="utf-8")))
    return {code: f"## {code}{text.rstrip()}\n" for code, text in zip(parts[1::2], parts[2::2], strict=True)}


def read(name: str | None = None) -> str:
    """Return the text of a guide, such as ``add-a-feature``, of a check, such as ``NF303``, or the list of all; Markdown."""
    if (folder := _folder()) is None:
        raise DataError("the guides are not installed with this engine; run `make setup`")
    names = sorted(place.stem for place in folder.glob("*.md") if place.stem != INDEX)
    if name and re.fullmatch(r"(?i)NF\d{3}", name):
        if (text := checks().get(name.upper())) is None:
            raise DataError(f"there is no check {name!r}; `ninefold guide {CHECKS}` shows all")
        return text
    if name is not None and (name := name.removesuffix(".md")) not in names:
        raise DataError(f"there is no guide {name!r}; the guides are {', '.join(names)}")
    return _linked((folder / f"{name or INDEX}.md").read_text(encoding="utf-8"))


def _folder() -> Path | None:
    return next((place for place in PLACES if place.is_dir()), None)


def _linked(text: str) -> str:
    """Return a guide whose links to others are the commands that show them."""
    return re.sub(r"\[([^\]]+)\]\(([\w-]+)\.md\)", r"**\1** (`ninefold guide \2`)", text)
