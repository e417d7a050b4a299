"""The templates of pages and texts, and how all of them are read."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).with_name("templates")


def environment(folder: Path = TEMPLATES, **options: Any) -> Environment:
    """Return Jinja's environment of a folder: a name that is not given is an error, and a block leaves no line behind."""
    loader = FileSystemLoader(folder)
    return Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, **options)
