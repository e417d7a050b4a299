"""What data do we have, from where, until when?

Reads: the source: a file, a folder, a database (see ``ninefold.core.sources``), or what ``project.collection.read`` gives.
Writes: ``data/raw/``, a Parquet partition per table and month, all text, exactly as the source has it; a manifest.
Gate: the source is readable, every period is present, and each has about as many rows as expected.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from ninefold.core import deliveries, gate, hooks, io, plots, show, sources, texts
from ninefold.core.errors import DataError, ParamsError
from ninefold.core.params import Day, Name, Section, Sparse, Text, load
from ninefold.core.tabular import demand_columns

RAW = "data/raw"
WHOLE = "all"
SOURCE = "data/source"
LANDING = "data/stream/landing"
MANIFEST = ["table", "period", "start", "end", "recipe", "source", "rows", "sha256"]


class Options(Sparse):
    """How the default reader reads a source, where that is not the default; see `ninefold.core.sources.read`."""

    delimiter: str | None = None
    encoding: Text | None = None
    quote: str | None = None
    escape: str | None = None
    header: bool | None = None
    final_newline: bool | None = None
    sheet: str | None = None
    table: str | None = None
    query: Text | None = None


class Source(Section):
    """One raw table: the text column with its time (none for a table without time), its least size, its source."""

    time: Name | None = None
    format: Text | None = None
    min_rows: int = Field(default=1, ge=0)
    source: Text | None = None
    options: Options = Options()
    number: Name | None = None

    @model_serializer(mode="wrap")
    def _brief(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {
            key: value for key, value in handler(self).items() if key in {"time", "min_rows", *self.model_fields_set}
        }

    @field_validator("format")
    @classmethod
    def _format(cls, value: str | None) -> str | None:
        return value if value is None else texts.known_format(value)

    @field_validator("source")
    @classmethod
    def _secret(cls, value: str | None) -> str | None:
        if value is not None and sources.masked(value) != value:
            # No ValueError: its message would show the value.
            raise ParamsError(
                f"params.yaml: collection.tables: source {sources.masked(value)}: found a password, which everybody could "
                "read; put it into an environment variable, and write its name: ${PASSWORD}"
            )
        return value

    @model_validator(mode="after")
    def _timed(self) -> Source:
        if self.format and not self.time:
            raise ValueError("time to name the column whose format is given")
        return self


class Params(Section):
    """Section ``collection`` of ``params.yaml``."""

    start: Day | None = None
    as_of: Day | None = None
    tables: dict[Name, Source] = Field(min_length=1)
    datasheet: dict[Text, Text] = Field(min_length=1)

    @field_validator("tables")
    @classmethod
    def _folders(cls, tables: dict[str, Source]) -> dict[str, Source]:
        if bad := [name for name in tables if name.startswith(".") or set(name) & set('/\\:*?"<>|')]:
            raise ValueError(f"names that can be those of a folder; {', '.join(bad)} cannot")
        return tables

    @model_validator(mode="after")
    def _in_order(self) -> Params:
        timed = [name for name, source in self.tables.items() if source.time]
        if timed and (self.start is None or self.as_of is None):
            raise ValueError(f'start and as_of, days such as "2013-09-30", as table {timed[0]} has a time')
        if self.start and self.as_of and self.as_of < self.start:
            raise ValueError(f"as_of on or after start ({self.start})")
        return self


def periods(params: Params) -> pd.DataFrame:
    """Return the months to hold: ``period`` ("2013-01"), ``start`` and ``end`` (UTC), the last cut after `as_of`.

    There are none where `start` or `as_of` is not given.
    """
    if params.start is None or params.as_of is None:
        return pd.DataFrame({"period": pd.Series(dtype="str")}).assign(start=pd.NaT, end=pd.NaT)
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
    """Return every partition that should exist: ``table``, ``period``, ``start``, ``end``, ``recipe``, ``source``.

    The recipe is the digest of what else decides on its content: how the source is read, and which files of a folder
    hold rows of it; ``source`` is the SHA-256 of any other source. Both are empty where they cannot be known: for a
    function of the user, and for a database.

    Raises
    ------
    DataError
        If a file of a folder cannot be read.
    """
    calendar = periods(params)
    whole = pd.DataFrame({"period": [WHOLE], "start": [pd.NaT], "end": [pd.NaT]})
    parts = []
    for name, table in params.tables.items():
        part = calendar if table.time else whole
        lasts = [place == len(part) - 1 for place in range(len(part))]
        recipes = [_recipe(name, params, row.period, last) for row, last in zip(part.itertuples(), lasts, strict=True)]
        parts.append(part.assign(table=name, recipe=recipes, source=_sum(name, table)))
    return pd.concat(parts, ignore_index=True)[["table", "period", "start", "end", "recipe", "source"]]


def outline(wanted: pd.DataFrame) -> pd.DataFrame:
    """Return the plan a line per table: ``table``, ``partitions``, ``first`` and ``last`` period, ``start``, ``end``."""
    grouped = wanted.groupby("table", sort=False)
    return grouped.agg(
        partitions=("period", "size"),
        first=("period", "first"),
        last=("period", "last"),
        start=("start", "min"),
        end=("end", "max"),
    ).reset_index()


def describe_plan(wanted: pd.DataFrame, params: Params) -> str:
    """Return, as a sentence, how many partitions there should be, and whether the last month is unfinished."""
    months = wanted[wanted["period"] != WHOLE]
    if months.empty or params.as_of is None:
        return f"{_count(len(wanted), 'partition')} due: one for every table, as none is cut by time."
    unfinished = params.as_of < pd.Period(params.as_of, freq="M").end_time.date()
    return (
        f"{_count(len(wanted), 'partition')} due by {params.as_of}: "
        f"{_number(months['period'].nunique(), 'month')} of {_number(months['table'].nunique(), 'table')} with time, "
        f"and {_number(len(wanted) - len(months), 'table')} without. "
        + ("The last month is unfinished, and will be collected anew." if unfinished else "Every month is finished.")
    )


def manifest() -> pd.DataFrame:
    """Return the partitions that earlier runs kept, as they noted them: see `collect`; no row where there is none."""
    return pd.DataFrame(_noted().get("partitions", [])).reindex(columns=MANIFEST, fill_value="")


def held() -> pd.DataFrame:
    """Return the partitions that earlier runs kept, by the manifest, each proved unchanged by its checksum.

    Raises
    ------
    DataError
        If a partition is missing or differs from what was written: raw data is immutable.
    """
    parts = manifest()
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
    """Return the partitions of `wanted` that `kept` lacks, or holds for another span, recipe or state of the source."""
    if kept.empty:
        return wanted
    have = {(*_identity(row), row.recipe): row.source for row in kept.itertuples()}
    news = []
    for row in wanted.itertuples():
        before = have.get((*_identity(row), row.recipe))
        news.append(before is None or row.source not in ("", before))
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
        ``table``, ``period``, ``start``, ``end``, ``recipe`` and ``source`` (see `plan`), ``rows`` (int64), ``sha256``,
        in a fixed order.

    Raises
    ------
    DataError
        If the source cannot be read, a table lacks its time column, or holds anything but text.
    """
    read = reader(params)
    folder = io.output(RAW)
    wanted = plan(params)
    known = {(row.table, row.period): row for row in kept.itertuples()}
    fresh = set(zip(new["table"], new["period"], strict=True))
    rows = []
    for part in wanted.itertuples():
        file, source = _file(folder, part.table, part.period), part.source
        if (part.table, part.period) in fresh:
            rows_of = _with_deliveries(read, part, params)
            count = _write(rows_of, params.tables[part.table].time, part.table, file)
        else:
            before = known[part.table, part.period]
            count, source = int(before.rows), part.source or before.source
            file.parent.mkdir(parents=True, exist_ok=True)
            io.link(_file(io.path(RAW), part.table, part.period), file)
        span = (_iso(part.start), _iso(part.end))
        rows.append((part.table, part.period, *span, part.recipe, source, count, io.sha256(file)))
    manifest = pd.DataFrame(rows, columns=MANIFEST)
    files = {f"{name} in {place}": found for name in params.tables for place, found in _folders(name, params).items()}
    listed = {name: [one.model_dump(exclude_defaults=True) for one in found] for name, found in files.items()}
    io.write_json({"partitions": manifest.to_dict("records"), "files": listed}, folder / "manifest.json")
    repeated = [
        f"{name}: {one.name} repeats {one.repeats}" for name, found in files.items() for one in found if one.repeats
    ]
    done = f"collected {len(new)} partition{'' if len(new) == 1 else 's'}, kept {len(wanted) - len(new)}"
    io.note("collection", "\n".join([done, *repeated]))
    return manifest


def read_file(
    table: str, start: pd.Timestamp | None, end: pd.Timestamp | None, params: Params | None = None
) -> pd.DataFrame:
    """Read a table from its ``source`` as text: the default where ``project.collection.read`` is absent.

    A row whose time cannot be read is in no month; it comes with the last one, so that the next stage can judge it.

    Parameters
    ----------
    table : str
    start, end : Timestamp or None
        Return the rows with ``start <= time < end`` (UTC); None for all rows.
    params : Params, optional
        Default: those of ``params.yaml``.

    Raises
    ------
    DataError
        If the source cannot be read, or lacks the column of time.
    """
    params = params or load("collection")
    if table not in params.tables:
        raise DataError(f"collection.tables: found no {table!r}, expected one of {', '.join(params.tables)}")
    source = params.tables[table]
    last = _is_last(end, params)
    if (folder := _folder(table, source)) and start is not None and end is not None:
        files = _folders(table, params)[folder]
        held = deliveries.holding(files, _months(start, end, last)) or files[:1]  # of none the columns
        rows, times = deliveries.rows(folder, held, partial(_part, table, source.model_dump_json()))
    else:
        rows, times = _whole(table, source.model_dump_json(), _sum(table, source))
    if start is None or end is None or times is None:
        return rows
    return rows[_inside(times, start, end, last)]


def read_landed(table: str, source: Source, file: str, sha256: str) -> tuple[pd.DataFrame, pd.Series]:
    """Return the rows of one file of a table, all text, and their times (datetime64[us], NaT where none can be read).

    Raises
    ------
    DataError
        If it cannot be read, or lacks the column of time.
    """
    return _part(table, source.model_dump_json(), file, sha256)


def place(table: str, source: Source) -> str:
    """Return where the default reader finds a table: its ``source``, or the one file or folder of its name.

    Raises
    ------
    DataError
        If no ``source`` is given, and ``data/source`` holds no file or folder of that name, or several.
    """
    if source.source:
        return source.source
    names = sorted(file.name for file in io.path(SOURCE).glob("*") if file.suffix != ".dvc")
    found = [name for name in names if name == table or name.startswith(f"{table}.")]
    if not found:
        raise DataError(
            f"{SOURCE}/{table}.csv: not found; put the file there, or write project.collection.read, or name where it "
            f"lies: collection.tables.{table}.source"
        )
    if len(found) > 1:
        raise DataError(f"{SOURCE}: found {', '.join(found)}, expected one; name it: collection.tables.{table}.source")
    return f"{SOURCE}/{found[0]}"


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
    """Return the last partition of a raw table that holds any rows, all text.

    Raises
    ------
    ParamsError
        If there is no such table.
    """
    parts = manifest[manifest["table"] == table]
    if parts.empty:
        known = ", ".join(manifest["table"].unique())
        raise ParamsError(f"problem.table: found {table!r}, expected one of collection.tables: {known}")
    filled = parts.loc[parts["rows"] > 0, "period"]
    return io.read_table(f"{RAW}/{table}/{(filled if len(filled) else parts['period']).iloc[-1]}.parquet")


def example(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the first of some raw rows, a line per column, and how many distinct texts each column holds."""
    first = rows.iloc[0].to_numpy() if len(rows) else ""
    return pd.DataFrame({"column": rows.columns, "first value": first, "distinct values": rows.nunique().to_numpy()})


def describe_columns(rows: pd.DataFrame) -> str:
    """Return, as a sentence, the most varied column of some raw rows, and those that are the same throughout."""
    distinct = rows.nunique().sort_values(kind="stable")
    constant = [show.code(name) for name in distinct.index[distinct <= 1]]
    return (
        f"The most varied column is {show.code(distinct.index[-1])}, with {distinct.iloc[-1]:,} distinct values in "
        f"{_number(len(rows), 'row')}; the same throughout: {', '.join(constant) or 'none'}."
    )


def datasheet(params: Params) -> pd.DataFrame:
    """Return what a reader has to know about the data: ``question``, ``answer``."""
    rows = [(key.replace("_", " "), answer) for key, answer in params.datasheet.items()]
    return pd.DataFrame(rows, columns=["question", "answer"])


def plot_volume(manifest: pd.DataFrame, params: Params) -> Figure:
    """Draw the rows that arrived, and the least that is believable: per month, a panel per table with time, or per table."""
    timed = [name for name, source in params.tables.items() if source.time]
    if not timed:
        return _plot_sizes(manifest, params)
    columns, lines = min(len(timed), 3), -(-len(timed) // 3)
    fig, axes = plots.canvas(
        "Did every month arrive whole?", height=3.6 * lines, ncols=columns, nrows=lines, squeeze=False
    )
    for axis in axes.flat[len(timed) :]:
        axis.set_visible(False)
    for axis, name in zip(axes.flat, timed, strict=False):
        part = manifest[manifest["table"] == name]
        colors = [plots.BLUE if _is_whole(row) else plots.SKY for row in part.itertuples()]
        axis.bar(part["period"].str[2:], part["rows"], color=colors)
        axis.axhline(params.tables[name].min_rows, color=plots.RED, ls="--", lw=1, label="least expected")
        axis.set(
            title=plots.plain(name),
            ylabel="rows",
            xlabel="month (UTC)",
            xticks=range(0, len(part), 1 + len(part) // 13),
        )
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
            f"A whole month of {show.code(name)} holds {whole['rows'].min():,} to {whole['rows'].max():,} rows; "
            + (f"too few in {', '.join(few)}." if len(few) else f"none fewer than the {source.min_rows:,} expected.")
        )
    if sentences or any(source.time for source in params.tables.values()):
        return " ".join(sentences) or "No table has a whole month yet."
    rows = manifest.groupby("table", sort=False)["rows"].sum()
    few = [name for name, source in params.tables.items() if rows[name] < source.min_rows]
    sizes = ", ".join(f"{show.code(name)} {_number(count, 'row')}" for name, count in rows.items())
    return f"No table is cut by time. They hold: {sizes}; " + (
        f"too few in {', '.join(few)}." if few else "as expected."
    )


def checks(manifest: pd.DataFrame, params: Params) -> list[gate.Check]:
    """Return the gate: every period of every table is there, and believable in size (where ``min_rows`` is 0, any is)."""
    wanted = plan(params)
    filled = manifest["rows"] > 0
    demanded = wanted[wanted["table"].map(lambda name: params.tables[name].min_rows > 0)]
    present = demanded.merge(manifest.loc[filled, ["table", "period"]], on=["table", "period"])
    results = [gate.at_least("partitions with rows", len(present), len(demanded))]
    for name, source in params.tables.items():
        part = manifest[manifest["table"] == name]
        whole = part[[_is_whole(row) for row in part.itertuples()]]
        least = int(whole["rows"].min()) if len(whole) else int(part["rows"].sum())
        what = "fewest rows in a whole month" if source.time else "rows"
        results.append(
            gate.at_least(f"{name}: {what}", least, source.min_rows if len(whole) else min(source.min_rows, 1))
        )
    return results if all(check.passed for check in results) else [*results, _thin(manifest, params)]


def metrics(manifest: pd.DataFrame, params: Params) -> dict[str, Any]:
    """Return the figures of this stage for ``dvc metrics``."""
    rows = manifest.groupby("table", sort=False)["rows"].sum()
    until = {"as_of": str(params.as_of)} if params.as_of else {}
    return {"rows": rows.to_dict(), "partitions": len(manifest), **until}


def headline(manifest: pd.DataFrame, params: Params, stated: dict[str, Any]) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    rows = manifest.loc[manifest["table"] == stated["table"], "rows"].sum()
    last = {"until": str(params.as_of)} if params.as_of else {"tables": f"{manifest['table'].nunique():,}"}
    return {stated["units"]: f"{rows:,}", **last}


def verdict(manifest: pd.DataFrame, params: Params, stated: dict[str, Any]) -> str:
    """Return the bottom line."""
    rows = manifest.loc[manifest["table"] == stated["table"], "rows"].sum()
    others = manifest.loc[manifest["table"] != stated["table"], "table"].nunique()
    timed = stated["table"] in params.tables and params.tables[stated["table"]].time
    span = f" from {params.start} to {params.as_of}" if timed else ""
    related = f", with {_number(others, 'related table')}" if others else ""
    many = len(manifest) > 1
    where = f"{len(manifest)} immutable partitions" if many else "one immutable partition"
    return f"{rows:,} {stated['units']}{span} have arrived{related}, in {where}."


def reader(params: Params) -> Callable[..., pd.DataFrame]:
    """Return ``project.collection.read``, or `read_file` of `params` where the project has none: what reads a raw table."""
    read = hooks.project("collection", "read", read_file)
    return partial(read_file, params=params) if read is read_file else read


@lru_cache(maxsize=1)  # a table is asked for month by month; more than one would fill the memory
def _whole(table: str, described: str, state: str) -> tuple[pd.DataFrame, pd.Series | None]:
    """Return all rows of a table's source, numbered if asked for, and their times; `state` is part of the cache's key."""
    source = Source.model_validate_json(described)
    rows = sources.read(place(table, source), source.options.model_dump())
    if source.number in rows:
        raise DataError(
            f"collection.tables.{table}.number: the source has a column {source.number!r}; choose another name"
        )
    if source.number:
        rows.insert(0, source.number, pd.Series(range(1, len(rows) + 1), dtype="int64").astype("str"))
    if source.time is None:
        return rows, None
    io.require(rows, [source.time], f"collection.tables.{table}")
    times = texts.moments(rows[source.time], source.format)
    _refuse_untimed(table, source, rows, times)
    return rows, times


def _recipe(table: str, params: Params, period: str, last: bool) -> str:
    """Return the digest of what decides on a partition beside its span: how it is read, from which files, if it is the last."""
    source = params.tables[table]
    months = [period, *([deliveries.UNDATED] if last else [])]
    if not source.time:
        months = [deliveries.UNDATED]
    files = [deliveries.digest(deliveries.holding(found, months)) for found in _folders(table, params).values()]
    own = hooks.project("collection", "read", read_file) is not read_file
    if own and not any(files):
        return ""
    how = {} if own else source.model_dump(mode="json", exclude={"min_rows"}) | {"last": last and bool(source.time)}
    return hashlib.sha256(json.dumps([how, files], sort_keys=True).encode()).hexdigest()[:16]


def _folders(table: str, params: Params) -> dict[str, list[deliveries.File]]:
    """Return the folders of which a table is made file by file -> their files: its source, if it is one, and what landed."""
    source = params.tables[table]
    places = [_folder(table, source), f"{LANDING}/{table}"]
    found = {place: deliveries.glance(place) for place in places if place and sources.local(place).is_dir()}
    return {place: _indexed(table, source.model_dump_json(), place, state) for place, state in found.items()}


@lru_cache(maxsize=64)
def _indexed(table: str, described: str, folder: str, state: str) -> list[deliveries.File]:
    """Return the index of a folder; `state` is part of the cache's key."""
    known = _noted().get("files", {}).get(f"{table} in {folder}", [])
    files = deliveries.index(folder, partial(_part, table, described), [deliveries.File(**one) for one in known])
    if folder.startswith(LANDING) or any(set(one.months) - {deliveries.UNDATED} for one in files):
        return files
    source = Source.model_validate_json(described)
    if source.time:
        _refuse_untimed(table, source, *deliveries.rows(folder, files[:1], partial(_part, table, described)))
    return files


def _folder(table: str, source: Source) -> str | None:
    """Return the folder from which the default reader takes a table month by month, file by file; None if it does not."""
    if not source.time or source.number or hooks.project("collection", "read", read_file) is not read_file:
        return None
    try:
        where = place(table, source)
    except DataError:
        return None
    local = "://" not in where or where.startswith("file://")
    return where if local and sources.local(where).is_dir() else None


@lru_cache(maxsize=8)
def _part(table: str, described: str, file: str, sha256: str) -> tuple[pd.DataFrame, pd.Series]:
    """Return the rows of one file of a folder, and their times; without time all are undated."""
    source = Source.model_validate_json(described)
    rows = sources.read_part(file, source.options.model_dump())
    if source.time is None:
        return rows, pd.Series(pd.NaT, rows.index, dtype="datetime64[us]")
    io.require(rows, [source.time], file)
    return rows, texts.moments(rows[source.time], source.format)


def _with_deliveries(read: Callable[..., pd.DataFrame], part: Any, params: Params) -> pd.DataFrame:
    """Return the rows of a partition: its source's, and those that landed; a file called as the period replaces the former."""
    source, folder, span = params.tables[part.table], f"{LANDING}/{part.table}", _span(part)
    landed = _folders(part.table, params).get(folder, [])
    last = _is_last(span[1], params)
    months = [deliveries.UNDATED] if span[0] is None or span[1] is None else _months(*span, last)
    files = deliveries.holding(landed, months)
    replaced = deliveries.whole(files, part.period)
    base = [] if replaced else [read(part.table, *span)]
    if not files:
        return base[0]
    rows, times = deliveries.rows(folder, files, partial(_part, part.table, source.model_dump_json()))
    if span[0] is not None and span[1] is not None:
        rows = rows[_inside(times, span[0], span[1], last)]
    if base:
        where, remedy = f"{folder}/{files[0].name}", "mend the file's first line, or take it away"
        demand_columns(rows.columns, base[0].columns, where, f"the source of {part.table} has", remedy)
    return pd.concat([*base, rows[base[0].columns] if base else rows], ignore_index=True)


def _months(start: pd.Timestamp, end: pd.Timestamp, last: bool) -> list[str]:
    """Return the calendar months of a span; for the last one also that of rows without a readable time."""
    months = pd.period_range(start, end - pd.Timedelta("1us"), freq="M").astype(str).tolist()
    return [*months, *([deliveries.UNDATED] if last else [])]


def _is_last(end: pd.Timestamp | None, params: Params) -> bool:
    """Return whether a span ends with what has arrived."""
    return params.as_of is not None and end == pd.Timestamp(params.as_of) + pd.Timedelta(days=1)


def _inside(times: pd.Series, start: pd.Timestamp, end: pd.Timestamp, last: bool) -> pd.Series:
    return ((times >= start) & (times < end)) | (times.isna() if last else False)


def _noted() -> dict[str, Any]:
    return io.published(f"{RAW}/manifest.json") or {}


def _refuse_untimed(table: str, source: Source, rows: pd.DataFrame, times: pd.Series) -> None:
    """Refuse a table of which no row has a time that can be read."""
    if times.notna().any():
        return
    first = ", ".join(f"row {number} {text!r}" for number, text in enumerate(rows[source.time].head(3), start=1))
    raise DataError(
        f"collection.tables.{table}.time: found no time in column {source.time!r} of any of {len(rows):,} rows, such "
        f"as {first}; expected them in the format {source.format or 'iso'}; set collection.tables.{table}.format to "
        'how the source writes them, such as "%d/%m/%Y"'
    )


def _sum(table: str, source: Source) -> str:
    """Return the SHA-256 of a table's local source, empty if there is none."""
    if hooks.project("collection", "read", read_file) is not read_file:
        return ""
    try:
        where = place(table, source)
    except DataError:
        return ""
    return "" if _folder(table, source) else sources.fingerprint(where) or ""


def _identity(part: Any) -> tuple[str, str, str, str]:
    return part.table, part.period, _iso(part.start), _iso(part.end)


def _thin(manifest: pd.DataFrame, params: Params) -> gate.Check:
    """Return a failed check that names the partitions which are too small, and what to do."""
    least = [
        params.tables[row.table].min_rows if _is_whole(row) else min(params.tables[row.table].min_rows, 1)
        for row in manifest.itertuples()
    ]
    few = [f"{row.table} {row.period} ({row.rows:,})" for row in manifest[manifest["rows"] < least].itertuples()]
    remedy = "as many rows as min_rows says; fetch what is missing, or, if it is all, lower collection.tables.<table>.min_rows"
    return gate.holds("partitions too small", False, ", ".join(few[:10]) + (" ..." if few[10:] else ""), remedy)


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _count(count: int, what: str) -> str:
    return f"{_number(count, what)} {'is' if count == 1 else 'are'}"


def _plot_sizes(manifest: pd.DataFrame, params: Params) -> Figure:
    rows = manifest.groupby("table", sort=False)["rows"].sum()
    fig, axes = plots.canvas("Did every table arrive whole?", height=max(2.0, 0.4 * len(rows) + 1))
    names = [plots.plain(name) for name in rows.index]
    axes.barh(names, rows, color=plots.BLUE)
    least = [params.tables[name].min_rows for name in rows.index]
    axes.scatter(least, names, color=plots.RED, marker="|", s=300, label="least expected", zorder=3)
    axes.invert_yaxis()
    axes.set(xlabel="rows")
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.legend(loc="lower right", framealpha=1)
    return fig


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
