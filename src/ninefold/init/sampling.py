"""Rows of a table that may be larger than memory: all of a small one, else blocks of rows spread over the whole of it."""

from collections.abc import Iterable
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from ninefold.init.assumptions import Assumption

MOST = 200 << 20  # bytes of text that are looked at
BLOCK = 1000  # rows that follow one another, as those of an entity may
HASHES = 4096  # the smallest of a column, by which its distinct values are estimated
UNIQUE, COMES_BACK = 0.95, 0.9  # distinct values per row of a sample, and of the whole table


def sample(parts: Iterable[pd.DataFrame], name: str) -> tuple[pd.DataFrame, list[Assumption]]:
    """Return the rows of a table (texts), or blocks spread evenly over it and its last one; and what that may hide.

    Distinct values of the whole table are estimated from its smallest hashes (Bar-Yossef et al., Counting Distinct Elements
    in a Data Stream, 2002), so that the key of an entity, which is nearly unique in a sample, is told of.
    """
    kept, rows, step, hashes, last = list[pd.DataFrame](), 0, 1, dict[Any, np.ndarray](), pd.DataFrame()
    near = list[Any]()  # columns that are nearly unique in what is kept first: of no others values are estimated
    for part in parts:
        part.index = pd.RangeIndex(rows, rows + len(part))
        rows, last = rows + len(part), part.tail(BLOCK)
        kept.append(part[part.index // BLOCK % step == 0])
        new = [part] if step > 1 else []  # of a table that fits, nothing has to be estimated
        while len(kept) > 1 and sum(one.memory_usage(deep=True).sum() for one in kept) > MOST:
            if step == 1:
                near = [name for name in part if pd.concat([one[name] for one in kept]).nunique() > COMES_BACK * rows]
            new, step = new or kept, step * 2
            kept = [one[one.index // BLOCK % step == 0] for one in kept]
        for one, column in product(new, near):
            values = pd.util.hash_array(one[column].to_numpy(dtype=object), categorize=False)
            hashes[column] = np.union1d(hashes.get(column, values[:0]), np.unique(values)[:HASHES])[:HASHES]
    frame = pd.concat([*kept, last[~last.index.isin(kept[-1].index)]], ignore_index=True)
    if step == 1:
        return frame, []
    notes = [Assumption("sampled", (), {"rows": rows, "looked_at": len(frame)}, name)]
    for column, least in hashes.items():
        distinct = (HASHES - 1) / (float(least[-1]) / 2**64) if len(least) == HASHES else len(least)
        if frame[column].nunique() > UNIQUE * len(frame) and distinct < COMES_BACK * rows:
            notes.append(Assumption("comes_back", (column,), {"distinct": distinct, "rows": rows}, name))
    return frame, notes
