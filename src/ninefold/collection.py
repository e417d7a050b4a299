"""What data do we have, from where, until when?

Reads: the source, through ``project.collection.read``.
Writes: ``data/raw/``, a Parquet partition per table and month, all text, exactly as the source has it; a manifest.
Gate: the source is readable, every period is present, and each has about as many rows as expected.
"""

from __future__ import annotations

import hashlib
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from pydantic import Field, field_validator, model_validator

from ninefold.core import gate, hooks, io, plots
from ninefold.core.errors import DataError, ParamsError
from ninefold.core.params import Section
from ninefold.problem import Text

RAW = "data/raw"
WHOLE = "all"


class Source(Section):
    """One raw table: the text column with its time (none for a table without time), and its least size."""

    time: Text | None = None
    min_rows: int = Field(default=1, ge=0)


class Params(Section):
    """Section ``collection`` of ``params.yaml``."""

    start: date
    as_of: date
    tables: dict[Text, Source] = Field(min_length=1)
    datasheet: dict[Text, Text] = Field(min_length=1)

    @field_validator("start", "as_of", mode="before")
    @classmethod
    def _iso(cls, value: Any) -> Any:
        try:
            return date.fromisoformat(value) if isinstance(value, str) else value
        except ValueError:
            raise ValueError('a day written as "2013-09-30"') from None

    @model_validator(mode="after")
    def _in_order(self) -> Params:
        if self.as_of < self.start:
            raise ValueError(f"as_of on or after start ({self.start})")
        return self


def periods(params: Params) -> pd.DataFrame:
    """Return the months to hold: ``period`` ("2013-01"), ``start`` and ``end`` (UTC), the last cut after `as_of`."""
    end = pd.Timestamp(params.as_of) + pd.Timedelta(days=1)
    months = pd.period_range(params.start, params.as_of, freq="M")
    return pd.DataFrame(
        {
            "period": months.astype(str),
            "start": [max(month.start_time, pd.Timestamp(params.start)) for month in months],
            "end": [min(month.end_time.ceil("D"), end) for month in months],
        }
    )


def plan(params: Params) -> pd.DataFrame:
    """Return every partition that should exist: ``table``, ``period``, ``start``, ``end``."""
    calendar = periods(params)
    whole = pd.DataFrame({"period": [WHOLE], "start": [pd.NaT], "end": [pd.NaT]})
    parts = [
        (calendar if source.time else whole).assign(table=name, time=source.time)
        for name, source in params.tables.items()
    ]
    return pd.concat(parts, ignore_index=True)[["table", "period", "start", "end"]]


def describe_plan(wanted: pd.DataFrame, params: Params) -> str:
    """Return, as a sentence, how many partitions there should be, and whether the last month is unfinished."""
    months = wanted[wanted["period"] != WHOLE]
    unfinished = len(months) and params.as_of < pd.Period(params.as_of, freq="M").end_time.date()
    return (
        f"{len(wanted)} partitions are due by {params.as_of}: {months['period'].nunique()} months of "
        f"{months['table'].nunique()} tables with time, and {len(wanted) - len(months)} tables without. "
        + ("The last month is unfinished, and will be collected anew." if unfinished else "Every month is finished.")
    )


def held() -> pd.DataFrame:
    """Return the partitions that earlier runs kept, by the manifest, each proved unchanged by its checksum.

    Raises
    ------
    DataError
        If a partition is missing or differs from what was written: raw data is immutable.
    """
    place = io.path(RAW) / "manifest.json"
    if not place.exists():
        return pd.DataFrame(columns=["table", "period", "start", "end", "rows", "sha256"])
    parts = pd.DataFrame(io.read_json(f"{RAW}/manifest.json")["partitions"])
    for part in parts.itertuples():
        file = _file(io.path(RAW), part.table, part.period)
        if not file.exists() or io.sha256(file) != part.sha256:
            found = "was changed" if file.exists() else "is missing"
            raise DataError(
                f"{RAW}/{part.table}/{file.name}: {found} since it was collected; raw data is immutable. "
                f"Restore it with `dvc checkout {RAW}`, or delete {RAW} to collect all of it again"
            )
    return parts


def missing(wanted: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """Return the partitions of `wanted` that `kept` lacks, or holds for another span of time (a month then unfinished)."""
    if kept.empty:
        return wanted
    have = set(zip(kept["table"], kept["period"], kept["start"].map(_iso), kept["end"].map(_iso), strict=True))
    news = [(row.table, row.period, _iso(row.start), _iso(row.end)) not in have for row in wanted.itertuples()]
    return wanted[news].reset_index(drop=True)


def collect(params: Params, new: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """Write the new partitions beside the kept ones, and the manifest of all; return the manifest as a table.

    How many were new is noted beside the reports only: the result is the same however many runs it took.

    Parameters
    ----------
    params : Params
    new : DataFrame
        What `missing` returned.
    kept : DataFrame
        What `held` returned.

    Returns
    -------
    DataFrame
        ``table``, ``period``, ``start``, ``end``, ``rows`` (int64), ``sha256``, in a fixed order.

    Raises
    ------
    DataError
        If the source cannot be read, a table lacks its time column, or holds anything but text.
    """
    read = hooks.project("collection", "read", read_file)
    folder = io.output(RAW)
    wanted = plan(params)
    known = {(row.table, row.period): row for row in kept.itertuples()}
    fresh = set(zip(new["table"], new["period"], strict=True))
    rows = []
    for part in wanted.itertuples():
        file = _file(folder, part.table, part.period)
        if (part.table, part.period) in fresh:
            count = _write(read(part.table, *_span(part)), params.tables[part.table].time, part.table, file)
        else:
            count = int(known[part.table, part.period].rows)
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(_file(io.path(RAW), part.table, part.period), file)
        rows.append((part.table, part.period, _iso(part.start), _iso(part.end), count, io.sha256(file)))
    manifest = pd.DataFrame(rows, columns=["table", "period", "start", "end", "rows", "sha256"])
    io.write_json({"partitions": manifest.to_dict("records")}, folder / "manifest.json")
    io.note("collection", f"collected {len(new)} partitions, kept {len(wanted) - len(new)}")
    return manifest


def read_file(table: str, start: pd.Timestamp | None, end: pd.Timestamp | None) -> pd.DataFrame:
    """Read ``data/source/<table>.csv`` as text: the default where ``project.collection.read`` is absent.

    Raises
    ------
    DataError
        If there is no such file, or a period is asked for, which needs a function that knows the column of time.
    """
    file = io.path(f"data/source/{table}.csv")
    if not file.exists():
        raise DataError(f"data/source/{table}.csv: not found; put the file there, or write project.collection.read")
    if start is not None:
        raise DataError(f"collection.tables.{table}.time: set, but only project.collection.read can cut by time")
    return pd.read_csv(file, dtype=str, keep_default_na=False)


def tables(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return a line per table: ``rows``, ``partitions``, ``first`` and ``last`` period, and a ``fingerprint``.

    The fingerprint is drawn from the checksums of all partitions: where it agrees, so does every byte.
    """
    grouped = manifest.groupby("table", sort=False)
    return grouped.agg(
        rows=("rows", "sum"),
        partitions=("period", "size"),
        first=("period", "first"),
        last=("period", "last"),
        fingerprint=("sha256", lambda sums: hashlib.sha256("".join(sums).encode()).hexdigest()[:16]),
    ).reset_index()


def last_part(manifest: pd.DataFrame, table: str) -> pd.DataFrame:
    """Return the last partition of a raw table, all text.

    Raises
    ------
    ParamsError
        If there is no such table.
    """
    periods = manifest.loc[manifest["table"] == table, "period"]
    if periods.empty:
        known = ", ".join(manifest["table"].unique())
        raise ParamsError(f"problem.table: found {table!r}, expected one of collection.tables: {known}")
    return io.read_table(f"{RAW}/{table}/{periods.iloc[-1]}.parquet")


def example(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the first of some raw rows, a line per column, and how many distinct texts each column holds."""
    return pd.DataFrame(
        {"column": rows.columns, "first value": rows.iloc[0].to_numpy(), "distinct values": rows.nunique().to_numpy()}
    )


def datasheet(params: Params) -> pd.DataFrame:
    """Return what a reader has to know about the data: ``question``, ``answer``."""
    rows = [(key.replace("_", " "), answer) for key, answer in params.datasheet.items()]
    return pd.DataFrame(rows, columns=["question", "answer"])


def plot_volume(manifest: pd.DataFrame, params: Params) -> Figure:
    """Draw the rows that arrived per month, a panel per table with time, and the least that is believable."""
    timed = [name for name, source in params.tables.items() if source.time]
    fig, axes = plots.canvas("Did every month arrive whole?", ncols=max(len(timed), 1), squeeze=False)
    for axis, name in zip(axes[0], timed, strict=False):
        part = manifest[manifest["table"] == name]
        colors = [plots.BLUE if _is_whole(row) else plots.SKY for row in part.itertuples()]
        axis.bar(part["period"].str[2:], part["rows"], color=colors)
        axis.axhline(params.tables[name].min_rows, color=plots.RED, ls="--", lw=1, label="least expected")
        axis.set(title=name, ylabel="rows", xlabel="month (UTC)", xticks=range(0, len(part), 1 + len(part) // 13))
        axis.tick_params(axis="x", rotation=45)
        axis.grid(axis="x", visible=False)
        axis.yaxis.set_major_formatter("{x:,.0f}")
        axis.legend(loc="lower right", framealpha=1)
    return fig


def describe_volume(manifest: pd.DataFrame, params: Params) -> str:
    """Return what the figure of volumes shows, in words."""
    sentences = []
    for name, source in params.tables.items():
        part = manifest[manifest["table"] == name]
        whole = part[[_is_whole(row) for row in part.itertuples()]]
        if not source.time or whole.empty:
            continue
        few = whole.loc[whole["rows"] < source.min_rows, "period"]
        sentences.append(
            f"A whole month of {name} holds {whole['rows'].min():,} to {whole['rows'].max():,} rows; "
            + (f"too few in {', '.join(few)}." if len(few) else f"none fewer than the {source.min_rows:,} expected.")
        )
    return " ".join(sentences) or "No table has a whole month yet."


def checks(manifest: pd.DataFrame, params: Params) -> list[gate.Check]:
    """Return the gate: every period of every table is there, and believable in size."""
    wanted = plan(params)
    present = wanted.merge(manifest[manifest["rows"] > 0], on=["table", "period"])
    results = [gate.at_least("partitions with rows", len(present), len(wanted))]
    for name, source in params.tables.items():
        part = manifest[manifest["table"] == name]
        whole = part[[_is_whole(row) for row in part.itertuples()]]
        least = int(whole["rows"].min()) if len(whole) else int(part["rows"].sum())
        what = "fewest rows in a whole month" if source.time else "rows"
        results.append(gate.at_least(f"{name}: {what}", least, source.min_rows if len(whole) else 1))
    return results


def metrics(manifest: pd.DataFrame, params: Params) -> dict[str, Any]:
    """Return the figures of this stage for ``dvc metrics``."""
    rows = manifest.groupby("table", sort=False)["rows"].sum()
    return {"rows": rows.to_dict(), "partitions": len(manifest), "as_of": str(params.as_of)}


def headline(manifest: pd.DataFrame, params: Params, stated: dict[str, Any]) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    rows = manifest.loc[manifest["table"] == stated["table"], "rows"].sum()
    return {stated["units"]: f"{rows:,}", "until": str(params.as_of)}


def verdict(manifest: pd.DataFrame, params: Params, stated: dict[str, Any]) -> str:
    """Return the bottom line."""
    rows = manifest.loc[manifest["table"] == stated["table"], "rows"].sum()
    others = manifest.loc[manifest["table"] != stated["table"], "table"].nunique()
    return (
        f"{rows:,} {stated['units']} from {params.start} to {params.as_of} have arrived, "
        f"with {others} related tables, in {len(manifest)} immutable partitions."
    )


def _span(part: Any) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
    return (None, None) if part.period == WHOLE else (part.start, part.end)


def _write(rows: pd.DataFrame, time: str | None, table: str, file: Path) -> int:
    io.require(rows, [time] if time else [], f"collection.tables.{table}")
    kinds = {name: pd.api.types.infer_dtype(rows[name], skipna=True) for name in rows}
    if typed := [f"{name} ({kind})" for name, kind in kinds.items() if kind not in ("string", "empty")]:
        raise DataError(
            f"collection.tables.{table}: found {', '.join(typed)}, expected text alone, as the source has it; "
            "let project.collection.read return it with dtype=str (types are given in the next stage)"
        )
    io.write_table(rows.astype("str").reset_index(drop=True), file)
    return len(rows)


def _file(folder: Path, table: str, period: str) -> Path:
    return folder / table / f"{period}.parquet"


def _iso(moment: Any) -> str:
    return "" if pd.isna(moment) or moment == "" else pd.Timestamp(moment).isoformat()


def _is_whole(part: Any) -> bool:
    if part.period == WHOLE:
        return True
    month = pd.Period(part.period, freq="M")
    return pd.Timestamp(part.start) == month.start_time and pd.Timestamp(part.end) == month.end_time.ceil("D")
