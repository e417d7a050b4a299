"""Outcomes received late, in any order, repeated or corrected: stored once, and joined to predictions exactly once.

Reads: files of outcomes; the bundle in production; the prediction log and its exports.
Writes: ``data/predictions/labels/``, a Parquet file for each different delivery, beside the log.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from ninefold import artifacts
from ninefold.collection import datetimes, failing, sources
from ninefold.errors import DataError
from ninefold.monitoring import production
from ninefold.monitoring.answers import identity
from ninefold.monitoring.production import MOMENT, REQUEST_ID, ROLE, ROW
from ninefold.monitoring.texts import say
from ninefold.params import LARGEST
from ninefold.problem import Problem
from ninefold.serving import CANARY, CHAMPION, LOG, NO_NUMBER, Bundle, as_text, key, pseudonym

LABEL, OUTCOME, KNOWN_AT = "@label", "@outcome", "@known_at"
STATES = ("known", "never", "open", "contradicted", "superseded")
TRUTH = {"true": "1", "false": "0"}
WHOLE = r"^([+-]?\d+)\.0+$"
RESOLVE = Path(__file__).with_name("labels.sql").read_text("utf-8")
TIME = "a date or time in ISO format, such as 2024-02-29T12:30:00 (UTC where it names no other zone)"


def run(
    files: Iterable[str], bundle: Bundle, place: Path | None = None, options: dict[str, Any] | None = None
) -> Iterator[str]:
    """Store files of outcomes, see `read`, and yield the lines of ``ninefold labels``; if one file is wrong, none is stored."""
    place = place or artifacts.path(LOG)
    folder = place.parent / "labels"
    for source, rows in [(file, read(file, bundle, place, options)) for file in files]:
        by = "request_id" if REQUEST_ID in rows else ", ".join(identity(bundle.problem))
        facts = {"source": sources.masked(source), "by": by, "count": len(rows), "never": rows[OUTCOME].isna().sum()}
        yield say("delivered", **facts, is_new=keep(rows, folder))
    predicted = production.served(bundle, place, columns=[])
    if predicted.empty:
        yield "no prediction is logged yet; the outcomes are stored until there is one"
        return
    _, counts = join(predicted, load(folder), bundle.problem)
    yield f"of {counts['predictions']:,} predictions: " + ", ".join(f"{counts[name]:,} {name}" for name in STATES)
    if counts["unmatched"] or counts["ambiguous"]:
        yield say("unmatched", **counts)


def read(source: str, bundle: Bundle, place: Path, options: dict[str, Any] | None = None) -> pd.DataFrame:
    """Return a file of outcomes as it is stored, each different row once; raise DataError at the first wrong row.

    The file has the target (empty: never known); ``request_id`` and perhaps ``row`` (from 0), or key and time; and perhaps
    ``known_at``. `place` is the prediction log. The table has ``@request_id`` (str) and ``@row`` (int64), or the key (text, as
    in the log) and time (datetime64[us], UTC); ``@outcome`` (class as str, or float64); ``@known_at`` (as the time).
    """
    table, where, own = sources.read(source, options), sources.masked(source), identity(bundle.problem)
    by_id = "request_id" in table and "request_id" not in own
    if not by_id and (missing := [name for name in own if name not in table]):
        raise DataError(say("no_key", where=where, columns=table.columns, missing=missing, own=own))
    artifacts.require(table, [bundle.problem.target], where)
    try:
        columns = _ids(table) if by_id else _keys(table, bundle, place)
        columns[OUTCOME] = _outcomes(table[bundle.problem.target], bundle.problem)
        known_at = _moments(table["known_at"]) if "known_at" in table else pd.Series(pd.NaT, index=table.index)
    except DataError as error:
        raise DataError(f"{where}: {error}; correct the file and deliver it again: nothing of it was stored") from None
    rows = pd.DataFrame({**columns, KNOWN_AT: known_at.astype("datetime64[us]")})
    return rows.sort_values(list(rows.columns), ignore_index=True).drop_duplicates(ignore_index=True)


def keep(rows: pd.DataFrame, folder: Path) -> bool:
    """Store the rows of `read` in a file named by their content, whole and on disk; return whether it is new."""
    content = rows.to_parquet(index=False, compression="zstd")
    place = folder / f"{hashlib.sha256(content).hexdigest()[:32]}.parquet"
    if place.exists():
        return False
    artifacts.write_durable(content, place)
    return True


def load(folder: Path | None = None) -> pd.DataFrame:
    """Return all outcomes received, from the files of `keep` in `folder`; default: that of the project."""
    folder = folder or artifacts.path(LOG).parent / "labels"
    files = [str(file) for file in sorted(folder.glob("[!.]*.parquet"))]
    if not files:
        return pd.DataFrame({OUTCOME: pd.Series(dtype="str"), KNOWN_AT: pd.Series(dtype="datetime64[us]")})
    remedy = "a delivery is damaged; deliver its outcomes again"
    with failing(str(folder), "read", remedy, duckdb.Error), duckdb.connect() as connection:
        return connection.read_parquet(files, union_by_name=True).to_arrow_table().to_pandas()


def join(predictions: pd.DataFrame, delivered: pd.DataFrame, problem: Problem) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return predictions (of `production.served`) with their outcomes (of `load`), each joined once, and counts.

    Key and time identify a case; a prediction without a key is its own. A shadow's answers are omitted. Of several answers for
    a case the last before its time is the decision (the last, if all came later); the others are ``superseded``. An outcome
    belongs to the case, by whichever id or key it came; one that the problem does not have is omitted. That with the latest
    ``@known_at`` counts (undated ones are older); if several with that date differ, the case is ``contradicted``. A missing
    outcome counts as one: ``never``. The table has the target (float64: the number of the class, or the quantity; missing
    where not ``known``), ``@label`` (of `STATES`) and ``@known_at`` (datetime64[us], UTC). The counts are of ``predictions``,
    by `STATES`; of ``outcomes``, and those ``unmatched`` (no prediction) or ``ambiguous`` (an id of several cases).
    """
    table = predictions[predictions[ROLE].isin([CHAMPION, CANARY])].reset_index(drop=True)
    resolved, totals = _resolve(table, delivered, problem)
    table[problem.target] = resolved["outcome"].astype("float64")
    table[LABEL] = resolved["label"].astype("str")
    table[KNOWN_AT] = resolved["known_at"].astype("datetime64[us]")
    states = table[LABEL].value_counts().reindex(STATES, fill_value=0).astype(int)
    return table, {"predictions": len(table), **states.to_dict(), **totals}


def _resolve(table: pd.DataFrame, delivered: pd.DataFrame, problem: Problem) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the label of each prediction, and the counts of outcomes: ``answered`` and ``totals`` of ``labels.sql``."""
    keys = {name: f"k{place}" for place, name in enumerate(identity(problem))}  # the user's column -> ours
    requests = table[[REQUEST_ID, ROW, MOMENT, *keys]].set_axis(["request_id", "row", "moment", *keys.values()], axis=1)
    predictions = pa.Table.from_pandas(requests.assign(n=np.arange(len(table))), preserve_index=False)
    outcome, numbers = delivered[OUTCOME], {name: float(number) for number, name in enumerate(problem.classes or [])}
    value = outcome.astype("str").map(numbers) if problem.is_class else pd.to_numeric(outcome, errors="coerce")
    columns = {REQUEST_ID: "request_id", ROW: "row", KNOWN_AT: "known_at", **keys}
    received = pd.DataFrame({ours: delivered.get(name) for name, ours in columns.items()}, delivered.index)
    received = received.assign(outcome=value.astype("float64"))[outcome.isna() | value.notna()]
    time = keys.get(problem.time or "")
    kinds = {pa.types.is_timestamp: "time", pa.types.is_floating: "float", pa.types.is_integer: "whole"}
    types = {ours: predictions.schema.field(ours).type for ours in keys.values() if ours != time}
    forms = {
        ours: next((form for is_kind, form in kinds.items() if is_kind(kind)), "text") for ours, kind in types.items()
    }
    texts = [f"as_{forms.get(ours, 'time')}({ours})" for ours in keys.values()]
    without_key = " AND ".join(f"{keys[name]} IS NULL" for name in problem.key)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("predictions", predictions)
        connection.register("received", pa.Table.from_pandas(received, preserve_index=False))
        connection.execute(RESOLVE.format(time=time or "NULL", without_key=without_key, texts=", ".join(texts)))
        resolved = connection.sql("SELECT * FROM answered ORDER BY n").to_arrow_table().to_pandas()
        return resolved, connection.sql("SELECT * FROM totals").to_arrow_table().to_pylist()[0]


def _ids(table: pd.DataFrame) -> dict[str, pd.Series]:
    name, row = table["request_id"].str.strip(), table.get("row", pd.Series("0", table.index, name="row"))
    _require(table["request_id"], name != "", "the id of the request, as the answer gave it")
    number = row.str.strip().str.replace(WHOLE, r"\1", regex=True).replace("", "0")
    _require(row, number.str.fullmatch(r"\d{1,9}"), "the number of the row in its request, from 0")
    return {REQUEST_ID: name, ROW: number.astype("int64")}


def _keys(table: pd.DataFrame, bundle: Bundle, place: Path) -> dict[str, pd.Series]:
    """Return key and time as the log has them, redacted ones hashed by its key."""
    problem, redacted = bundle.problem, set(bundle.described["log"]["redact"])
    kinds = {field["name"]: field["type"] for field in bundle.signature}
    secret = key(place) if redacted & set(identity(problem)) else b""
    columns = {}
    for name in identity(problem):
        kind, column = kinds.get(name, "any"), table[name]
        if name == problem.time:
            _require(column, ~column.str.strip().isin(NO_NUMBER), TIME)
        if name in redacted:
            plain = _plain(column, "any" if kind == "date" else kind)
            columns[name] = plain.map({value: pseudonym(value, secret) for value in plain.dropna().unique()})
        else:
            columns[name] = _moments(column) if name == problem.time else _plain(column, kind)
    _require(table[problem.key[0]], pd.DataFrame(columns)[problem.key].notna().any(axis=1), "what identifies the row")
    return columns


def _plain(column: pd.Series, kind: str) -> pd.Series:
    """Return a key as the text by which it is joined, see `log.as_text`; missing where it is empty."""
    if kind == "date":
        return _moments(column).dt.strftime("%Y-%m-%dT%H:%M:%S.%f").astype("str")
    if kind == "number":
        numbers = _numbers(column)
        return numbers.map({value: as_text(value) for value in numbers.dropna().unique()}).astype("str")
    text = column if kind == "string" else column.str.replace(WHOLE, r"\1", regex=True)
    return text.where(text != "").astype("str")


def _outcomes(column: pd.Series, problem: Problem) -> pd.Series:
    if not problem.is_class:
        return _numbers(column)
    bare, classes = column.str.strip(), problem.classes
    truth = bare.str.lower().map(TRUTH).fillna(bare) if classes == ["0", "1"] else bare
    whole = {re.sub(WHOLE, r"\1", name): name for name in classes}  # 1.0 is the class 1
    names = column.where(column.isin(classes), truth.str.replace(WHOLE, r"\1", regex=True).map(whole))
    expected = f"one of {', '.join(classes)}, or nothing where it never becomes known"
    _require(column, names.notna() | bare.isin(NO_NUMBER), expected)
    return names.astype("str")


def _numbers(column: pd.Series) -> pd.Series:
    bare = column.str.strip()
    numbers = pd.to_numeric(bare, errors="coerce").astype("float64")
    _require(column, (numbers.abs() <= LARGEST) | bare.isin(NO_NUMBER), "a finite number, or nothing if it is unknown")
    return numbers


def _moments(column: pd.Series) -> pd.Series:
    bare = column.str.strip()
    moments = datetimes.parse_series(bare).astype("datetime64[us]")
    _require(column, moments.notna() | bare.isin(NO_NUMBER), TIME)
    return moments


def _require(column: pd.Series, valid: pd.Series, expected: str) -> None:
    """Raise a DataError for the first wrong row."""
    if not valid.all():
        rows = np.flatnonzero(~valid)
        facts = {"name": repr(column.name), "value": repr(column.iloc[rows[0]]), "expected": expected}
        raise DataError(say("wrong_row", row=rows[0], others=len(rows) - 1, **facts))
