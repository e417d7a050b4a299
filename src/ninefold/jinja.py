"""The templates of pages and texts, and how all of them are read."""

from pathlib import Path
from typing import Any

from jinja2 import BaseLoader, Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).with_name("templates")


def environment(source: Path | BaseLoader = TEMPLATES, **options: Any) -> Environment:
    """Return Jinja's environment of a folder, or of a loader: absent names are errors, and blocks leave no line behind."""
    loader = FileSystemLoader(source) if isinstance(source, Path) else source
    return Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, **options)
