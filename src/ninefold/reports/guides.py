"""The guides of ``docs/``, which an installed engine brings along, so that they are those of its version."""

import re
from pathlib import Path

from ninefold.errors import DataError

HERE = Path(__file__).parents[1]
PLACES = (HERE / "guides", HERE.parents[1] / "docs")  # installed; in the repository of the template
INDEX = "README"


def read(name: str | None = None) -> str:
    """Return the text of a guide, such as ``add-a-feature``, or the list of all, in Markdown."""
    folder = next((place for place in PLACES if place.is_dir()), None)
    if folder is None:
        raise DataError("the guides are not installed with this engine; run `make setup`")
    names = sorted(place.stem for place in folder.glob("*.md") if place.stem != INDEX)
    if name is not None and (name := name.removesuffix(".md")) not in names:
        raise DataError(f"there is no guide {name!r}; the guides are {', '.join(names)}")
    text = (folder / f"{name or INDEX}.md").read_text(encoding="utf-8")
    return re.sub(r"\[([^\]]+)\]\(([\w-]+)\.md\)", r"**\1** (`ninefold guide \2`)", text)
