"""The HTML of domain objects in a notebook: a caption and a table of facts."""

import html
from collections.abc import Mapping
from typing import Any


def facts_table(caption: str, facts: Mapping[str, Any]) -> str:
    """Return facts as an HTML table, a line per name and value, with the look of the reports."""
    rows = "".join(f"<tr><th>{name}</th><td>{html.escape(str(value))}</td></tr>" for name, value in facts.items())
    return f'<div class="nf-table"><table><caption>{html.escape(caption)}</caption>{rows}</table></div>'
