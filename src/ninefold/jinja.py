"""The templates of pages and texts, how all of them are read, and the HTML of domain objects in a notebook."""

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import BaseLoader, Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).with_name("templates")


def environment(source: Path | BaseLoader = TEMPLATES, **options: Any) -> Environment:
    """Return Jinja's environment of a folder, or of a loader: absent names are errors, and blocks leave no line behind."""
    loader = FileSystemLoader(source) if isinstance(source, Path) else source
    return Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, **options)


def facts_table(caption: str, facts: Mapping[str, Any]) -> str:
    """Return facts as an HTML table, a line per name and value, with the look of the reports."""
    rows = "".join(f"<tr><th>{name}</th><td>{html.escape(str(value))}</td></tr>" for name, value in facts.items())
    return f'<div class="nf-table"><table><caption>{html.escape(caption)}</caption>{rows}</table></div>'
