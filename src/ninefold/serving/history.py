"""The online history of a bundle: the last values of the history features by key, looked up for rows and for tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd


class Store(NamedTuple):
    """The values of one history feature by the values of its keys, and the prior of other keys."""

    by: list[str]
    values: dict[tuple[Any, ...], float]
    prior: float | None

    @classmethod
    def read(cls, folder: Path, entry: Mapping[str, Any]) -> Store:
        """Return the store that an entry of ``online.json`` describes."""
        table = pd.read_parquet(folder / entry["file"])
        values = dict(zip(_keys(table, entry["by"]), table["value"].tolist(), strict=True))
        return cls(entry["by"], values, entry.get("prior"))

    def of(self, key: tuple[Any, ...]) -> float | None:
        """Return the value of a key, or the prior."""
        return self.values.get(key, self.prior)


NO_HISTORY = Store([], {}, None)


def look_up(frame: pd.DataFrame, stores: Mapping[str, Store]) -> pd.DataFrame:
    """Return a table with the history columns that it lacks."""
    completed = frame.copy(deep=False)
    distinct: dict[tuple[str, ...], tuple[list[Any], np.ndarray]] = {}
    for name, store in stores.items():
        if name not in frame:
            by = tuple(store.by)
            if by not in distinct:  # each key once, of many rows
                positions = frame.groupby(store.by, dropna=False, sort=False).ngroup().to_numpy()
                first = np.unique(positions, return_index=True)[1]
                distinct[by] = list(_keys(frame.iloc[first], store.by)), positions
            keys, positions = distinct[by]
            completed[name] = np.array([store.of(key) for key in keys], dtype="float64")[positions]
    return completed


def _keys(frame: pd.DataFrame, by: list[str]) -> Any:
    """Return the tuple of the keys of each row; a missing one is None, as in JSON."""
    return zip(*(frame[key].astype(object).where(frame[key].notna(), None).tolist() for key in by), strict=True)
