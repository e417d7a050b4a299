"""Outcomes as they come in: late, in any order, repeated or corrected; kept once, and joined to predictions exactly once.

Reads: files of outcomes; ``models/bundle/``; the prediction log and its exports.
Writes: ``data/predictions/labels/``, a Parquet file for each different delivery, beside the log.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ninefold import production
from ninefold.core import decisions, io, sources, texts
from ninefold.core.errors import DataError
from ninefold.production import MOMENT, REQUEST_ID, ROLE, ROW, identity
from ninefold.serving import log as logs
from ninefold.serving.bundle import Bundle

OUTCOME, KNOWN_AT, LABEL = "@outcome", "@known_at", "@label"
STATES = ("known", "never", "open", "contradicted", "superseded")
DECISIONS = (logs.CHAMPION, logs.CANARY)  # the roles whose answers were acted on
MISSING = ("", "NA", "N/A", "NaN", "nan", "NaT", "null", "NULL", "None")
TRUTH = {"true": "1", "false": "0"}
WHOLE = r"^([+-]?\d+)\.0+$"
LARGEST = 1e30
TIME = "a date or time in ISO format, such as 2024-02-29T12:30:00 (UTC where it names no other zone)"


class Kept(NamedTuple):
    """A delivery that was kept: where it came from, its rows as they are stored, its file, and whether that is new."""

    source: str
    rows: pd.DataFrame
    place: Path
    is_new: bool


class Joined(NamedTuple):
    """Predictions with their outcomes.

    Attributes
    ----------
    table : DataFrame
        The predictions with the target, ``@label`` (one of `STATES`) and ``@known_at`` (datetime64[us], UTC).
    counts : dict of str to int
        ``predictions`` in the table and how many of them are in each of `STATES`; ``other roles``, answers left out;
        ``outcomes``, different cases that were delivered, and of these ``unmatched``, without a prediction, and
        ``ambiguous``, an id that stands for several cases; ``foreign_rows``, whose value the problem does not know.
    unmatched : DataFrame
        The cases without a prediction: ``@request_id`` and ``@row``, or key and time.
    """

    table: pd.DataFrame
    counts: dict[str, int]
    unmatched: pd.DataFrame


def run(
    files: Iterable[str], bundle: Bundle, place: Path | None = None, options: dict[str, Any] | None = None
) -> Iterator[str]:
    """Take files of outcomes, and yield what came of it, line by line, for the command line.

    Parameters
    ----------
    files : iterable of str
        What `ninefold.core.sources.read` reads. If one is wrong, none is taken.
    bundle : Bundle
    place : Path, optional
        The prediction log; default: the project's.
    options : dict, optional
        How to read the files, see `ninefold.core.sources.read`.

    Raises
    ------
    DataError
        See `read`.
    """
    place = place or io.path(logs.LOG)
    folder = place.parent / "labels"
    for source, rows in [(file, read(file, bundle, place, options)) for file in files]:
        yield _said(Kept(source, rows, *keep(rows, folder)), bundle.stated)
    predicted = production.served(bundle, place, columns=[])
    if predicted.empty:
        yield "no prediction is logged yet; the outcomes wait for them"
        return
    counts = join(predicted, load(folder), bundle.stated).counts
    yield f"of {counts['predictions']:,} predictions: " + ", ".join(f"{counts[name]:,} {name}" for name in STATES)
    if counts["unmatched"] or counts["ambiguous"]:
        yield (
            f"of {counts['outcomes']:,} outcomes, {counts['unmatched']:,} match no prediction (kept for later), "
            f"{counts['ambiguous']:,} have a request id that stands for several cases (deliver them by key)"
        )


def read(source: str, bundle: Bundle, place: Path, options: dict[str, Any] | None = None) -> pd.DataFrame:
    """Return a file of outcomes as they are kept, each different row once.

    Parameters
    ----------
    source : str
        With the target; ``request_id`` and, if a request had several rows, ``row`` (from 0), or the key and the time of
        the problem; and, if known, ``known_at``, the moment at which the outcome was known. A target without a value
        says that it never becomes known.
    bundle : Bundle
        Tells the problem, its classes, and which fields are redacted.
    place : Path
        The prediction log, beside which the key of redacted values lies.
    options : dict, optional
        How to read it, see `ninefold.core.sources.read`.

    Returns
    -------
    DataFrame
        ``@request_id`` (str) and ``@row`` (int64), or the key (text, as the log has it; redacted as there) and the time
        (datetime64[us], UTC); ``@outcome``, the name of the class (str) or float64; ``@known_at`` (datetime64[us], UTC).

    Raises
    ------
    DataError
        Naming file, row and column, what was found and what was expected.
    """
    table, where, stated = sources.read(source, options), sources.masked(source), bundle.stated
    own = identity(stated)
    by_id = "request_id" in table and "request_id" not in own
    if not by_id and (lost := [name for name in own if name not in table]):
        raise DataError(
            f"{where}: found the columns {', '.join(table.columns)}, and neither request_id nor {', '.join(lost)}; expected "
            f"request_id (and row), or {', '.join(own)}: by these an outcome is joined to its prediction; mend the names"
        )
    io.require(table, [stated["target"]], where)
    kept = _ids(table, where) if by_id else _keys(table, where, bundle, place)
    kept[OUTCOME] = _outcomes(table[stated["target"]], where, stated)
    dated = _moments(table["known_at"], where) if "known_at" in table else pd.Series(pd.NaT, index=table.index)
    kept[KNOWN_AT] = dated.astype("datetime64[us]")
    rows = pd.DataFrame(kept)
    return rows.sort_values(list(rows.columns), ignore_index=True).drop_duplicates(ignore_index=True)


def keep(rows: pd.DataFrame, folder: Path) -> tuple[Path, bool]:
    """Write what `read` returned under a name drawn from its content; return the file, and whether it is new.

    The same rows, in whatever order and however often they came, give the same file. It appears whole, after it is on
    disk; two that are written at once do not disturb each other.
    """
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), buffer, compression="zstd")
    content = buffer.getvalue()
    place = folder / f"{hashlib.sha256(content).hexdigest()[:32]}.parquet"
    if place.exists():
        return place, False
    folder.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=folder)  # for its owner alone, as the log
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, place)
    finally:
        Path(temporary).unlink(missing_ok=True)
    io.sync(folder)
    return place, True


def load(folder: Path | None = None) -> pd.DataFrame:
    """Return all that was delivered, from every file that `keep` wrote; none if there is none.

    Parameters
    ----------
    folder : Path, optional
        Default: that of the project.
    """
    folder = folder or io.path(logs.LOG).parent / "labels"
    files = [str(file) for file in sorted(folder.glob("*.parquet")) if not file.name.startswith(".")]
    if not files:
        return pd.DataFrame({OUTCOME: pd.Series(dtype="str"), KNOWN_AT: pd.Series(dtype="datetime64[us]")})
    with duckdb.connect() as connection:
        try:
            found = connection.read_parquet(files, union_by_name=True).to_arrow_table().to_pandas()
        except duckdb.Error as error:
            raise DataError(f"{folder}: a delivery is damaged ({error}); deliver its outcomes again") from None
    return found.astype({ROW: "Int64"}) if ROW in found else found


def join(
    predictions: pd.DataFrame, delivered: pd.DataFrame, stated: dict[str, Any], roles: Collection[str] = DECISIONS
) -> Joined:
    """Return predictions with their outcomes, each joined once, whatever the order in which these came.

    A case is what key and time name; a prediction without a key is a case of its own. Of several answers for a case the
    last one before its time is the decision that counts (the last one, if all came later); the others are
    ``superseded``. An outcome, by whichever of its ids or its key it was delivered, is of the case. Equal repeats count once.
    Of different outcomes the one with the latest ``@known_at`` counts, undated ones are older than dated ones; if those
    differ, the case is ``contradicted`` until a later dated one comes. A missing outcome is one, too: ``never``.

    Parameters
    ----------
    predictions : DataFrame
        What `production.served` returned.
    delivered : DataFrame
        What `load` returned.
    stated : dict
        The problem.
    roles : collection of str
        Whose answers are joined. Those of a shadow were never decisions; alone they may be asked for.

    Returns
    -------
    Joined
        The target is float64: the number of the class, or the quantity; missing where the label is not ``known``.
    """
    role = predictions[ROLE] if ROLE in predictions else pd.Series(logs.CHAMPION, predictions.index)
    table = predictions[role.isin(list(roles))].reset_index(drop=True)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        _lay_out(connection, table, delivered, stated)
        connection.execute(RESOLVE)
        found = connection.sql("SELECT * FROM answered ORDER BY n").to_arrow_table().to_pandas()
        lost = connection.sql("SELECT number FROM unmatched ORDER BY number").fetchnumpy()["number"]
        totals = connection.sql("SELECT * FROM totals").to_arrow_table().to_pylist()[0]
    outcome = found["outcome"]
    if decisions.is_class(stated):
        outcome = outcome.map({name: float(number) for number, name in enumerate(stated["classes"])})
    added = {stated["target"]: outcome.astype("float64"), LABEL: found["label"].astype("str")}
    table = table.assign(**added, **{KNOWN_AT: found["known_at"].astype("datetime64[us]")})
    states = table[LABEL].value_counts().reindex(STATES, fill_value=0)
    counts = {"predictions": len(table), **states.astype(int).to_dict(), "other roles": len(predictions) - len(table)}
    named = [name for name in (REQUEST_ID, ROW, *identity(stated)) if name in delivered]
    return Joined(table, {**counts, **totals}, delivered[named].iloc[lost].reset_index(drop=True))


# Of the tables p (predictions) and l (outcomes), which `_lay_out` makes, the label of each prediction.
RESOLVE = """
CREATE TEMP TABLE ids AS
    SELECT request_id, row, any_value(entity) AS entity, count(DISTINCT entity) AS entities FROM p GROUP BY ALL;
CREATE TEMP TABLE placed AS
    SELECT l.* EXCLUDE (entity), coalesce(i.entities, 0) > 1 AS ambiguous,
        CASE WHEN l.request_id IS NULL THEN l.entity WHEN i.entities = 1 THEN i.entity END AS entity,
        l.entity AS named
    FROM l LEFT JOIN ids i ON i.request_id = l.request_id AND i.row = l.row;
CREATE TEMP TABLE matched AS SELECT * FROM placed SEMI JOIN p USING (entity);
CREATE TEMP TABLE resolved AS
    WITH latest AS (SELECT entity, max(known_at) AS latest FROM matched GROUP BY entity)
    SELECT entity, any_value(latest) AS known_at, any_value(outcome) AS outcome,
        count(DISTINCT outcome) + CAST(count(*) > count(outcome) AS INT) > 1 AS contradicted
    FROM matched JOIN latest USING (entity) WHERE known_at IS NOT DISTINCT FROM latest GROUP BY entity;
CREATE TEMP TABLE answered AS
    WITH ranked AS (SELECT n, entity, row_number() OVER (PARTITION BY entity
        ORDER BY coalesce(moment < due, true) DESC, moment DESC, request_id DESC, row DESC, n DESC) AS rank FROM p)
    SELECT n, CASE WHEN rank > 1 THEN 'superseded' WHEN r.entity IS NULL THEN 'open' WHEN contradicted THEN 'contradicted'
            WHEN outcome IS NULL THEN 'never' ELSE 'known' END AS label,
        CASE WHEN label = 'known' THEN outcome END AS outcome,
        CASE WHEN label IN ('known', 'never') THEN known_at END AS known_at
    FROM ranked LEFT JOIN resolved r USING (entity);
CREATE TEMP TABLE unmatched AS
    SELECT min(number) AS number FROM placed ANTI JOIN matched USING (number) WHERE NOT ambiguous
    GROUP BY request_id, row, named;
CREATE TEMP TABLE totals AS
    SELECT (SELECT count(*) FROM (SELECT DISTINCT request_id, row, named FROM placed)) AS outcomes,
        (SELECT count(*) FROM unmatched) AS unmatched,
        (SELECT count(*) FROM (SELECT DISTINCT request_id, row FROM placed WHERE ambiguous)) AS ambiguous,
        (SELECT count(*) FROM delivered) - (SELECT count(*) FROM l) AS foreign_rows;
"""
# How a key is compared, by the type that it has in the predictions: in both tables as the same text.
FORMS = {
    "text": rf"regexp_replace(CAST({{0}} AS VARCHAR), '{WHOLE}', '\1')",
    "number": "coalesce(CAST(TRY_CAST({0} AS DOUBLE) AS VARCHAR), CAST({0} AS VARCHAR))",
    "moment": "coalesce(CAST(CAST(TRY_CAST({0} AS TIMESTAMPTZ) AS TIMESTAMP) AS VARCHAR), CAST({0} AS VARCHAR))",
}
FORMS["whole"] = (
    rf"CASE WHEN regexp_full_match({FORMS['text']}, '[+-]?\d{{{{1,18}}}}') "
    rf"THEN CAST(CAST({FORMS['text']} AS BIGINT) AS VARCHAR) ELSE CAST({{0}} AS VARCHAR) END"
)


def _lay_out(
    connection: duckdb.DuckDBPyConnection, table: pd.DataFrame, delivered: pd.DataFrame, stated: dict[str, Any]
) -> None:
    """Make the tables p: n, request_id, row, moment, due, entity; and l: number, request_id, row, entity, outcome, known_at."""
    own = identity(stated)
    columns = {f"k{place}": name for place, name in enumerate(own)}
    asked = {"request_id": table[REQUEST_ID], "row": table[ROW], "moment": table[MOMENT]}
    asked |= {short: table[name] for short, name in columns.items()}
    predictions = pa.Table.from_pandas(pd.DataFrame(asked).assign(n=np.arange(len(table))), preserve_index=False)
    absent = {name: None for name in (REQUEST_ID, ROW, *own, OUTCOME, KNOWN_AT) if name not in delivered}
    given = delivered.assign(**absent)[[REQUEST_ID, ROW, *own, OUTCOME, KNOWN_AT]]
    given = given.set_axis(["request_id", "row", *columns, "outcome", "known_at"], axis=1)
    given = given.assign(number=np.arange(len(given)))
    connection.register("predictions", predictions)
    connection.register("delivered", pa.Table.from_pandas(given, preserve_index=False))
    forms = {
        short: _form(predictions.schema.field(short).type, name == stated["time"]) for short, name in columns.items()
    }
    keys = "[" + ", ".join(FORMS[form].format(short) for short, form in forms.items()) + "]"
    nameless = " AND ".join(f"{short} IS NULL" for short, name in columns.items() if name in stated["key"])
    times = [short for short, name in columns.items() if name == stated["time"]]
    due = f"TRY_CAST({times[0]} AS TIMESTAMP)" if times else "CAST(NULL AS TIMESTAMP)"
    alone = "to_json({'request_id': request_id, 'row': row})"
    connection.execute(
        f"CREATE TEMP TABLE p AS SELECT n, request_id, row, moment, {due} AS due, "
        f"CAST(CASE WHEN {nameless} THEN {alone} ELSE to_json({keys}) END AS VARCHAR) AS entity FROM predictions"
    )
    if decisions.is_class(stated):
        connection.register("classes", pa.table({"name": stated["classes"]}))
        outcome, ours = "CAST(outcome AS VARCHAR)", "IN (SELECT name FROM classes)"
    else:
        outcome, ours = "TRY_CAST(outcome AS DOUBLE)", "IS NOT NULL"
    connection.execute(
        "CREATE TEMP TABLE l AS SELECT number, CAST(request_id AS VARCHAR) AS request_id, CAST(row AS BIGINT) AS row, "
        f"CAST(CASE WHEN request_id IS NULL THEN to_json({keys}) END AS VARCHAR) AS entity, "
        f"{outcome} AS outcome, CAST(known_at AS TIMESTAMP) AS known_at "
        f"FROM delivered WHERE outcome IS NULL OR {outcome} {ours}"
    )


def _form(kind: pa.DataType, is_time: bool) -> str:
    if is_time or pa.types.is_timestamp(kind):
        return "moment"
    return "whole" if pa.types.is_integer(kind) else "number" if pa.types.is_floating(kind) else "text"


def _ids(table: pd.DataFrame, where: str) -> dict[str, pd.Series]:
    name = table["request_id"].str.strip()
    _demand(table["request_id"], name == "", where, "the id of the request, as the answer gave it")
    kept = {REQUEST_ID: name}
    if "row" in table:
        number = table["row"].str.strip().str.replace(WHOLE, r"\1", regex=True).replace("", "0")
        wrong = ~number.str.fullmatch(r"\d{1,9}")
        _demand(table["row"], wrong, where, "the number of the row in its request, from 0")
        return kept | {ROW: number.astype("int64")}
    return kept | {ROW: pd.Series(0, index=table.index, dtype="int64")}


def _keys(table: pd.DataFrame, where: str, bundle: Bundle, place: Path) -> dict[str, pd.Series]:
    """Return key and time as the log has them, redacted ones hashed by its key."""
    stated, redacted = bundle.stated, set(bundle.described["log"]["redact"])
    kinds = {field["name"]: field["type"] for field in bundle.signature}
    secret = logs.key(place) if redacted & set(identity(stated)) else b""
    kept = {}
    for name in identity(stated):
        kind, column = kinds.get(name, "any"), table[name]
        if name == stated["time"]:
            _demand(column, column.str.strip().isin(MISSING), where, TIME)
        if name in redacted:
            plain = _plain(column, "any" if kind == "date" else kind, where)
            hashed = {value: logs.pseudonym(value, secret) for value in plain.dropna().unique()}
            kept[name] = plain.map(hashed)
        else:
            kept[name] = _moments(column, where) if name == stated["time"] else _plain(column, kind, where)
    nameless = pd.DataFrame(kept)[stated["key"]].isna().all(axis=1)
    _demand(table[stated["key"][0]], nameless, where, "what identifies the row")
    return kept


def _plain(column: pd.Series, kind: str, where: str) -> pd.Series:
    """Return a key as the text by which it is joined, see `log.as_text`; missing where it is empty."""
    if kind == "date":
        moments = _moments(column, where)
        return moments.dt.strftime("%Y-%m-%dT%H:%M:%S.%f").astype("str")
    if kind == "number":
        numbers = _numbers(column, where)
        return numbers.map({value: logs.as_text(value) for value in numbers.dropna().unique()}).astype("str")
    text = column if kind == "string" else column.str.replace(WHOLE, r"\1", regex=True)
    return text.where(text != "").astype("str")


def _outcomes(column: pd.Series, where: str, stated: dict[str, Any]) -> pd.Series:
    if not decisions.is_class(stated):
        return _numbers(column, where)
    found = {text: _class(text, stated["classes"]) for text in column.unique()}
    wrong = column.isin([text for text, name in found.items() if name == ""])
    _demand(column, wrong, where, f"one of {', '.join(stated['classes'])}, or nothing where it never becomes known")
    return column.map(found).astype("str")


def _class(text: str, names: list[str]) -> str | None:
    """Return the class that a text names, None if it says that there is none, "" if it is neither."""
    if text in names:
        return text
    bare = text.strip()
    whole = {re.sub(WHOLE, r"\1", name): name for name in names}  # 1.0 is the class 1
    truth = TRUTH.get(bare.lower(), bare) if names == ["0", "1"] else bare
    return whole.get(re.sub(WHOLE, r"\1", truth), None if bare in MISSING else "")


def _numbers(column: pd.Series, where: str) -> pd.Series:
    bare = column.str.strip()
    numbers = pd.to_numeric(bare, errors="coerce").astype("float64")
    wrong = (numbers.isna() & ~bare.isin(MISSING)) | (numbers.abs() > LARGEST)
    _demand(column, wrong, where, "a finite number, or nothing where it is not known")
    return numbers


def _moments(column: pd.Series, where: str) -> pd.Series:
    bare = column.str.strip()
    moments = texts.moments(bare).astype("datetime64[us]")
    _demand(column, moments.isna() & ~bare.isin(MISSING), where, TIME)
    return moments


def _demand(column: pd.Series, wrong: pd.Series, where: str, expected: str) -> None:
    if wrong.any():
        row, others = int(np.flatnonzero(wrong)[0]), int(wrong.sum()) - 1
        raise DataError(
            f"{where}: row {row} (of the data, from 0), column {column.name!r}: found {column.iloc[row]!r}"
            f"{f', and {others:,} more such rows' if others else ''}, expected {expected}; mend the file and deliver it again: "
            "nothing of it was taken"
        )


def _said(kept: Kept, stated: Mapping[str, Any]) -> str:
    rows, by = kept.rows, "request_id" if REQUEST_ID in kept.rows else ", ".join(identity(stated))
    count, never = len(rows), int(rows[OUTCOME].isna().sum())
    again = "; the same was delivered before, and counts once" if not kept.is_new else ""
    what = f"{count:,} outcome{'s' if count != 1 else ''} by {by}, {never:,} of them never known"
    return f"{sources.masked(kept.source)}: {what}{again}"
