"""Figures of the notebooks, a module per stage: change them as you like. Here is what two stages draw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd


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


def histograms(parts: Mapping[str, pd.DataFrame], bins: int = 12) -> pd.DataFrame:
    """Return, per column (the index), small histograms of its values in each part, in the same bins."""
    *_, last = parts.values()
    rows = []
    for name in last:
        shares = _shares([part[name] for part in parts.values()], bins)
        most = max([0.0, *(share for each in shares for share in each)])
        rows.append([Histogram(each, most) for each in shares])
    return pd.DataFrame(rows, last.columns, list(parts))


def _shares(parts: list[pd.Series], bins: int) -> list[tuple[float, ...]]:
    """Return the shares of the values in each bin, extreme numbers in the outer ones; of text, of the most frequent values."""
    if pd.api.types.is_datetime64_any_dtype(parts[0]):
        parts = [each.astype("int64").where(each.notna()) for each in parts]
    both = pd.concat(parts).replace([np.inf, -np.inf], np.nan).dropna()
    if not pd.api.types.is_numeric_dtype(both) or pd.api.types.is_bool_dtype(both):
        top = both.value_counts().index[:bins]
        return [tuple(each.value_counts(normalize=True).reindex(top, fill_value=0)) for each in parts]
    low, high = both.quantile([0.01, 0.99]) if len(both) else (0.0, 1.0)
    counts = [np.histogram(each.dropna().clip(low, high), bins, (low, high))[0] for each in parts]
    return [tuple(each / max(each.sum(), 1)) for each in counts]
