"""Outcomes received late, in any order, repeated or corrected: stored once, and joined to predictions exactly once.

Reads: files of outcomes; ``models/bundle/``; the prediction log and its exports.
Writes: ``data/predictions/labels/``, a Parquet file for each different delivery, beside the log.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ninefold import artifacts
from ninefold.collection import sources
from ninefold.errors import DataError
from ninefold.monitoring import production
from ninefold.monitoring.label_files import KNOWN_AT, OUTCOME, read
from ninefold.monitoring.label_join import DECISIONS, LABEL, STATES, Joined, join
from ninefold.monitoring.production import REQUEST_ID, ROW, identity
from ninefold.serving import LOG, Bundle

__all__ = ["DECISIONS", "KNOWN_AT", "LABEL", "OUTCOME", "STATES", "Joined", "join", "keep", "load", "read", "run"]


def run(
    files: Iterable[str], bundle: Bundle, place: Path | None = None, options: dict[str, Any] | None = None
) -> Iterator[str]:
    """Store files of outcomes and yield the lines of ``ninefold labels``. If one file is wrong, none is stored.

    Parameters
    ----------
    files : iterable of str
        What `ninefold.collection.sources.read` reads, with its `options`.
    bundle : Bundle
    place : Path, optional
        The prediction log; default: the project's.

    Raises
    ------
    DataError
        See `label_files.read`.
    """
    place = place or artifacts.path(LOG)
    folder = place.parent / "labels"
    for source, rows in [(file, read(file, bundle, place, options)) for file in files]:
        _, is_new = keep(rows, folder)
        by = "request_id" if REQUEST_ID in rows else ", ".join(identity(bundle.problem))
        yield (
            f"{sources.masked(source)}: {len(rows):,} outcome{'s' if len(rows) != 1 else ''} by {by}, "
            f"{rows[OUTCOME].isna().sum():,} of them never known"
            f"{'' if is_new else '; the same was delivered before, and counts once'}"
        )
    predicted = production.served(bundle, place, columns=[])
    if predicted.empty:
        yield "no prediction is logged yet; the outcomes are stored until there is one"
        return
    counts = join(predicted, load(folder), bundle.problem).counts
    yield f"of {counts['predictions']:,} predictions: " + ", ".join(f"{counts[name]:,} {name}" for name in STATES)
    if counts["unmatched"] or counts["ambiguous"]:
        yield (
            f"of {counts['outcomes']:,} outcomes, {counts['unmatched']:,} match no prediction (kept for later), "
            f"{counts['ambiguous']:,} have a request id that stands for several cases (deliver them by key)"
        )


def keep(rows: pd.DataFrame, folder: Path) -> tuple[Path, bool]:
    """Store the rows of `read` in a file named by their content; return the file, and whether it is new.

    The same rows give the same file. It appears whole, after it is on disk, also if two processes write it at once.
    """
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), buffer, compression="zstd")
    content = buffer.getvalue()
    place = folder / f"{hashlib.sha256(content).hexdigest()[:32]}.parquet"
    if place.exists():
        return place, False
    folder.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(
        prefix=".", suffix=".tmp", dir=folder
    )  # readable by its owner alone, as the log
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, place)
    finally:
        Path(temporary).unlink(missing_ok=True)
    artifacts.sync(folder)
    return place, True


def load(folder: Path | None = None) -> pd.DataFrame:
    """Return all outcomes received, from the files of `keep` in `folder`; default: that of the project."""
    folder = folder or artifacts.path(LOG).parent / "labels"
    files = [str(file) for file in sorted(folder.glob("*.parquet")) if not file.name.startswith(".")]
    if not files:
        return pd.DataFrame({OUTCOME: pd.Series(dtype="str"), KNOWN_AT: pd.Series(dtype="datetime64[us]")})
    with duckdb.connect() as connection:
        try:
            rows = connection.read_parquet(files, union_by_name=True).to_arrow_table().to_pandas()
        except duckdb.Error as error:
            raise DataError(f"{folder}: a delivery is damaged ({error}); deliver its outcomes again") from None
    return rows.astype({ROW: "Int64"}) if ROW in rows else rows
