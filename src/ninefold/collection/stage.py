"""What data do we have, from where, until when?

Reads: the source: a file, a folder, a database (see ``ninefold.collection.sources``), or what ``project.collection.read``
returns.
Writes: ``data/raw/``, a Parquet partition per table and month, all text, exactly as the source has it; a manifest.
Gate: the source is readable, every period is present, and each has about as many rows as expected.
"""

from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ninefold import artifacts, engine, gate
from ninefold.collection import reading
from ninefold.collection.settings import Params
from ninefold.errors import DataError, ParamsError
from ninefold.problem import Problem
from ninefold.sentences import render

RAW = "data/raw"
WHOLE = "all"  # the period of a table without time
MOST_ROWS = 200_000  # to look at
ROW_GROUP = 1 << 15  # rows; so many of each period wait in memory
PLAN = ["table", "period", "start", "end", "recipe", "source"]
MANIFEST = [*PLAN, "rows", "sha256"]


def periods(params: Params) -> pd.DataFrame:
    """Return the months to collect: ``period`` ("2013-01"), ``start`` and ``end`` (UTC), the last cut after `as_of`."""
    if params.start is None or params.as_of is None:
        return pd.DataFrame({"period": pd.Series(dtype="str")}).assign(start=pd.NaT, end=pd.NaT)
    start, end = pd.Timestamp(params.start), pd.Timestamp(params.as_of) + pd.Timedelta(days=1)
    months = pd.period_range(start, params.as_of, freq="M")
    starts, ends = pd.Series(months.start_time), pd.Series((months + 1).start_time)
    return pd.DataFrame({"period": months.astype(str), "start": starts.clip(start), "end": ends.clip(upper=end)})


def plan(params: Params) -> pd.DataFrame:
    """Return every partition that should exist: ``table``, ``period``, ``start``, ``end``, ``recipe``, ``source``.

    The recipe is a digest of how the source is read, and of the files of a folder that hold rows of it; ``source`` is the
    SHA-256 of any other source. Both are empty where they cannot be known: for a function of the user, and for a database.
    """
    calendar = periods(params)
    whole = pd.DataFrame({"period": [WHOLE], "start": [pd.NaT], "end": [pd.NaT]})
    parts = []
    for name, table in params.tables.items():
        part = calendar if table.time else whole
        last = part["period"].iloc[-1]
        recipes = [reading.recipe(name, params, period, period == last) for period in part["period"]]
        parts.append(part.assign(table=name, recipe=recipes, source=reading.source_digest(name, table)))
    return pd.concat(parts, ignore_index=True)[PLAN]


def manifest() -> pd.DataFrame:
    """Return the manifest of the last run as `collect` returned it; empty if there is none."""
    record = artifacts.published(reading.MANIFEST) or {}
    return pd.DataFrame(record.get("partitions", [])).reindex(columns=MANIFEST, fill_value="")


def verified_manifest() -> pd.DataFrame:
    """Return the last run's manifest; `DataError` if a partition is missing or changed, as raw data is immutable."""
    parts = manifest()
    for part in parts.itertuples():
        file = _file(artifacts.path(RAW), part)
        if not file.exists() or artifacts.sha256(file) != part.sha256:
            problem = "was changed" if file.exists() else "is missing"
            raise DataError(render("collection", "not_as_collected", raw=RAW, part=part, problem=problem))
    return parts


def missing(plan: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """Return the planned partitions that a manifest lacks, or has for another span, recipe or state of the source."""
    known = {_identity(part): part.source for part in manifest.itertuples()}
    before = [known.get(_identity(part)) for part in plan.itertuples()]
    is_new = [old is None or now not in ("", old) for now, old in zip(plan["source"], before, strict=True)]
    return plan[is_new].reset_index(drop=True)


def collect(params: Params, new: pd.DataFrame, previous: pd.DataFrame) -> pd.DataFrame:
    """Write the new partitions beside those of the last run, and the manifest of all; return the manifest.

    `new` and `previous` are what `missing` and `verified_manifest` returned. The manifest has the columns of `plan`, ``rows``
    (int64) and ``sha256``, in a fixed order. How many were new is noted beside the reports only: the result is the same
    however many runs it took. Raises `DataError` if the source cannot be read, a table lacks its time column, or holds
    anything but text.
    """
    folder, planned = artifacts.output(RAW), plan(params)
    known = {(part.table, part.period): part for part in previous.itertuples()}
    to_read = set(zip(new["table"], new["period"], strict=True))
    lines, counts = [], dict[str, dict[str, int]]()
    for name, table in params.tables.items():
        parts = planned[planned["table"] == name].itertuples()
        todo = [part for part in parts if (name, part.period) in to_read or (name, part.period) not in known]
        counts[name] = _write(reading.pieces(name, todo, params), folder / name, table.time)
    for part in planned.itertuples():
        file, count, source = _file(folder, part), counts[part.table].get(part.period), part.source
        if count is None:
            before = known[part.table, part.period]
            count, source = int(before.rows), part.source or before.source
            artifacts.link(_file(artifacts.path(RAW), part), file)
        span = (_iso(part.start), _iso(part.end))
        lines.append((part.table, part.period, *span, part.recipe, source, count, artifacts.sha256(file)))
    result = pd.DataFrame(lines, columns=MANIFEST)
    listed, note = {}, [f"collected {len(new)} partition{'' if len(new) == 1 else 's'}, kept {len(planned) - len(new)}"]
    for name in params.tables:
        for place, files in reading.folders(name, params).items():
            listed[f"{name} in {place}"] = [file.model_dump(exclude_defaults=True) for file in files]
            note += [f"{name} in {place}: {one.name} repeats {one.repeats}" for one in files if one.repeats]
    artifacts.write_json({"partitions": result.to_dict("records"), "files": listed}, folder / "manifest.json")
    artifacts.note("collection", "\n".join(note))
    return result


def last_part(manifest: pd.DataFrame, table: str) -> pd.DataFrame:
    """Return the last partition of a raw table that holds any rows, all text; raise `ParamsError` if it is unknown.

    Of a partition of more than `MOST_ROWS`, these are the first.
    """
    parts = manifest[manifest["table"] == table]
    if parts.empty:
        known = ", ".join(manifest["table"].unique())
        raise ParamsError(f"problem.table: found {table!r}, expected one of collection.tables: {known}")
    filled = parts.loc[parts["rows"] > 0, "period"]
    file = artifacts.existing(f"{RAW}/{table}/{(filled if len(filled) else parts['period']).iloc[-1]}.parquet")
    return engine.scan(engine.local(), [file]).limit(MOST_ROWS).to_pandas().astype("str")


def checks(manifest: pd.DataFrame, params: Params) -> list[gate.Check]:
    """Return the gate: every period of every table is present, and has `min_rows` rows (where that is 0, any number)."""
    least = manifest["table"].map({name: source.min_rows for name, source in params.tables.items()})
    whole = is_whole(manifest)
    expected = least.where(whole, least.clip(upper=1))
    planned = plan(params)
    demanded = planned[planned["table"].map(lambda name: params.tables[name].min_rows > 0)]
    present = demanded.merge(manifest.loc[manifest["rows"] > 0, ["table", "period"]], on=["table", "period"])
    results = [gate.at_least("NF201 partitions with rows", len(present), len(demanded))]
    for name, source in params.tables.items():
        rows = manifest.loc[manifest["table"] == name, "rows"]
        complete = rows[whole.loc[rows.index]]
        value, limit = (complete.min(), source.min_rows) if len(complete) else (rows.sum(), min(source.min_rows, 1))
        what = "fewest rows in a whole month" if source.time else "rows"
        results.append(gate.at_least(f"NF202 {name}: {what}", int(value), limit))
    if not all(check.passed for check in results):
        parts = manifest[manifest["rows"] < expected]
        small = [f"{part.table} {part.period} ({part.rows:,})" for part in parts.itertuples()]
        few = ", ".join(small[:10]) + " ..." * (len(small) > 10)
        remedy = "as many rows as min_rows says; fetch what is missing, or, if it is all, lower collection.tables.<table>.min_rows"
        results.append(gate.holds("NF203 partitions too small", False, few, remedy))
    return results


def metrics(manifest: pd.DataFrame, params: Params) -> dict[str, Any]:
    """Return the figures of this stage for ``dvc metrics``."""
    rows = manifest.groupby("table", sort=False)["rows"].sum()
    until = {"as_of": str(params.as_of)} if params.as_of else {}
    return {"rows": rows.to_dict(), "partitions": len(manifest), **until}


def headline(manifest: pd.DataFrame, params: Params, problem: Problem) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    rows = manifest.loc[manifest["table"] == problem.table, "rows"].sum()
    last = {"until": str(params.as_of)} if params.as_of else {"tables": f"{manifest['table'].nunique():,}"}
    return {problem.units: f"{rows:,}", **last}


def conclusion(manifest: pd.DataFrame, params: Params, problem: Problem) -> str:
    """Return the stage's conclusion: rows, span, related tables, partitions."""
    return render("collection", "conclusion", manifest=manifest, params=params, problem=problem)


def is_whole(manifest: pd.DataFrame) -> pd.Series:
    """Return whether partitions hold a whole calendar month, or all of a table without time (bool)."""
    timeless = manifest["period"] == WHOLE
    months = pd.PeriodIndex(manifest["period"].mask(timeless), freq="M")
    start, end = (pd.to_datetime(manifest[name].mask(timeless)) for name in ("start", "end"))
    return timeless | ((start == months.start_time) & (end == (months + 1).start_time))


def _write(pieces: Iterable[tuple[str, pd.DataFrame]], folder: Path, time: str | None) -> dict[str, int]:
    """Write a table's rows, which come in pieces (period, rows), into a file for each period; return their number by period.

    The same rows give the same bytes, in whatever pieces they come, and no file has to fit in memory.
    """
    folder.mkdir(parents=True, exist_ok=True)
    counts, waiting, writers = Counter[str](), dict[str, pa.Table](), dict[str, pq.ParquetWriter]()
    with ExitStack() as stack:

        def put(period: str, group: pa.Table) -> None:
            if period not in writers:
                file = folder / f"{period}.parquet"
                writers[period] = stack.enter_context(pq.ParquetWriter(file, group.schema, compression="zstd"))
            writers[period].write_table(group.combine_chunks())

        for period, rows in pieces:
            table = pa.Table.from_pandas(_text(rows, folder.name, time), preserve_index=False)
            table = pa.concat_tables([waiting[period], table]) if period in waiting else table
            while len(table) >= ROW_GROUP:
                put(period, table.slice(0, ROW_GROUP))
                table = table.slice(ROW_GROUP)
            waiting[period], counts[period] = table, counts[period] + len(rows)
        for period, rest in waiting.items():
            if len(rest) or period not in writers:
                put(period, rest)
            writers[period].close()
    return dict(counts)


def _text(rows: pd.DataFrame, table: str, time: str | None) -> pd.DataFrame:
    artifacts.require(rows, [time] if time else [], f"collection.tables.{table}")
    kinds = {name: pd.api.types.infer_dtype(rows[name], skipna=True) for name in rows if rows[name].dtype != "str"}
    if typed := [f"{name} ({kind})" for name, kind in kinds.items() if kind not in ("string", "empty")]:
        raise DataError(render("collection", "typed", table=table, typed=typed))
    return rows.astype("str")


def _file(folder: Path, part: Any) -> Path:
    return folder / part.table / f"{part.period}.parquet"


def _identity(part: Any) -> tuple[str, ...]:
    return part.table, part.period, _iso(part.start), _iso(part.end), part.recipe


def _iso(time: Any) -> str:
    return "" if pd.isna(time) or time == "" else pd.Timestamp(time).isoformat()
