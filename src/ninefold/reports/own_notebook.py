"""Add a notebook of your own: numbered, of the same anatomy as the nine, run by the pipeline and shown on the site."""

import re
import unicodedata
from pathlib import Path
from string import Template
from typing import Any

import yaml

from ninefold import artifacts
from ninefold.errors import NinefoldError
from ninefold.jinja import TEMPLATES
from ninefold.reports import runner
from ninefold.sentences import render
from ninefold.stages import FLOOR, is_own, label

TEMPLATE = TEMPLATES / "own_notebook.ipynb"
LONGEST = 60  # letters of a title that name its file; some file systems take 143 bytes, and a letter may have three
HEAD = """# Your own notebooks, in the order in which they run, after stage 05. `ninefold notebook "Title"` adds one here.
# To drop one, delete its line and its notebook.
"""


def add(title: str) -> Path:
    """Write a new exploration notebook, list it in ``notebooks/own.yaml``, by which the pipeline runs it; return its path.

    ``add("Seasonality by region")`` writes ``notebooks/05b_seasonality_by_region.ipynb``; the next is ``05c_...``. A
    `NinefoldError` says that the title names no file, or that a notebook has its name already.
    """
    title = " ".join(title.split())
    slug = slugify(title)
    existing = [place.stem for place in sorted(artifacts.path("notebooks").glob("*.ipynb"))]
    if other := next((name for name in existing if name.partition("_")[2] == slug), None):
        raise NinefoldError(f"notebooks/{other}.ipynb is there already; open that one, or choose another title")
    listed = runner.own()
    name = f"{_next_number([*existing, *listed])}_{slug}"
    place = artifacts.path(f"notebooks/{name}.ipynb")
    artifacts.write_text(runner.nbformat.writes(_filled(name, title)) + "\n", place)  # as Jupyter will save it
    entries = HEAD + yaml.safe_dump({"own": [*listed, name]}, allow_unicode=True)
    artifacts.write_text(entries, artifacts.path(runner.OWN))
    return place


def slugify(title: str) -> str:
    """Return the letters and digits of a title, in lower case, without accents; `NinefoldError` if it has none."""
    parts = unicodedata.normalize("NFKD", title)
    plain = unicodedata.normalize("NFC", "".join(part for part in parts if not unicodedata.combining(part)).casefold())
    slug = re.sub(r"[\W_]+", "_", plain).strip("_")
    if not slug:
        raise NinefoldError(render("reports", "no_name", title=repr(title)))
    return slug if len(slug) <= LONGEST else slug[: LONGEST + 1].rpartition("_")[0] or slug[:LONGEST]


def _next_number(names: list[str]) -> str:
    """Return the number after the last that is taken: 05b, 05c ... 05z, 05zb, 05zc ..., which sort in this order."""
    floor = label(FLOOR)[:2]
    last = max((name.partition("_")[0] for name in names if is_own(name)), default=f"{floor}a")
    return f"{last}b" if last.endswith("z") else f"{last[:-1]}{chr(ord(last[-1]) + 1)}"


def _filled(name: str, title: str) -> Any:
    """Return the notebook that a new one starts from, under its own name and title."""
    marked = re.sub(r"([\\`*_\[\]<>$&~|#])", r"\\\1", title)  # no letter of a title is a mark of Markdown
    filled = runner.read(TEMPLATE)
    for cell in filled.cells:
        cell.source = Template(cell.source).safe_substitute(number=name.partition("_")[0], name=name, title=marked)
    return runner.clean(filled)
