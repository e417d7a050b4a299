"""The HTML of domain objects in a notebook: a caption and a table of facts; and a small histogram for a cell of a table."""

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


def facts_table(caption: str, facts: Mapping[str, Any]) -> str:
    """Return facts as an HTML table, a line per name and value, with the look of the reports."""
    rows = "".join(f"<tr><th>{name}</th><td>{html.escape(str(value))}</td></tr>" for name, value in facts.items())
    return f'<div class="nf-table"><table><caption>{html.escape(caption)}</caption>{rows}</table></div>'


@dataclass(frozen=True)
class Histogram:
    """A small histogram of shares (0-1) by bin, drawn in a cell of `display.table`; its text, a tooltip too, are the shares."""

    shares: tuple[float, ...]
    most: float  # the share of a bar of full height

    def __str__(self) -> str:
        """Return the shares as text."""
        return ", ".join(f"{share:.0%}" for share in self.shares) or "no value"

    def __html__(self) -> str:
        """Return the picture as SVG, in the colour of the text."""
        heights = [f"{28 * share / self.most:.1f}" if self.most else "0" for share in self.shares]
        bars = (f"M{8 * place},28v-{height}h7v{height}z" for place, height in enumerate(heights))
        return (
            f'<svg role="img" width="{6 * len(heights)}" height="28" viewBox="0 0 {8 * len(heights)} 28" fill="currentColor" '
            f'preserveAspectRatio="none"><title>{self}</title><path d="{"".join(bars)}"/></svg>'
        )
