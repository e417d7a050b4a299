"""The fields of a row that a caller sends: their kinds and types, and rows as JSON, in which a date is ISO text."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd

from ninefold.problem import Problem
from ninefold.timestamps import MICROSECONDS, local

TYPES = {"numeric": "number", "history": "number", "categorical": "string", "text": "string", "date": "date"}
FEATURE_KINDS = tuple(TYPES)
EPOCH = datetime(1970, 1, 1)
FIRST_DAY, LAST_DAY = -719_162.0, 2_932_897.0  # of the years 1 to 9999, which ISO text can name
Bounds = Mapping[str, Mapping[str, Any]]  # of columns: min, max, allowed, of which each may be absent
NO_NUMBER = ("", "NA", "N/A", "NaN", "nan", "NaT", "null", "NULL", "None")  # texts of a CSV file for what is missing
DATE = 'a date or time in ISO format, such as "2024-02-29" or "2024-02-29T12:30:00" (UTC)'


class Store(NamedTuple):
    """The last values of one history feature by the values of its keys, and the prior of other keys."""

    by: list[str]
    values: dict[tuple[Any, ...], float]
    prior: float | None

    @classmethod
    def read(cls, folder: Path, entry: Mapping[str, Any]) -> Self:
        """Return the store that an entry of ``online.json`` describes."""
        table = pd.read_parquet(folder / entry["file"])
        values = dict(zip(_keys(table, entry["by"]), table["value"].tolist(), strict=True))
        return cls(entry["by"], values, entry.get("prior"))


def signature(
    parts: Mapping[str, pd.DataFrame], online: Mapping[str, Any], problem: Problem, bounds: Bounds | None = None
) -> list[dict[str, Any]]:
    """Return every field of a row: the features in the model's order, other lookup keys, what identifies the row.

    `parts` are the labelled rows (categories of ``train`` and ``validation`` are known), `online` what stage 06 wrote
    beside the online values. A field has a ``name``; a ``kind``: one of `FEATURE_KINDS`, ``key`` or ``identity``; a
    ``type``: number, string, date or any; it is ``required`` if history is looked up by it, and then ``nullable`` or not;
    a category has its ``known`` values, a number the ``bounds`` of its column, unless one of `parts` breaks them.
    """
    keys = list(dict.fromkeys(key for store in online["stores"] for key in store["by"]))
    fields = {feature["name"]: {**feature, "type": TYPES[feature["kind"]]} for feature in online["features"]}
    for name, field in fields.items():
        if field["kind"] == "categorical":
            values = pd.concat([parts[part][name] for part in ("train", "validation")])
            field["known"] = sorted(values.dropna().unique().tolist())
        limits = (bounds or {}).get(name) if field["kind"] == "numeric" else None
        if limits and not any(outside(rows[name].to_numpy("float64"), limits).any() for rows in parts.values()):
            field["bounds"] = dict(limits)
    for name in keys:
        kind = "number" if pd.api.types.is_numeric_dtype(parts["train"][name]) else "string"
        fields.setdefault(name, {"name": name, "kind": "key", "type": kind})
    for name in filter(None, [*problem.key, problem.time]):
        fields.setdefault(name, {"name": name, "kind": "identity", "type": "any"})
    for name, field in fields.items():
        field["required"] = name in keys
        if name in keys:
            field["nullable"] = any(bool(rows[name].isna().any()) for rows in parts.values())
    return list(fields.values())


def outside(numbers: np.ndarray, bounds: Mapping[str, Any]) -> np.ndarray:
    """Return which numbers, float64, are not within bounds: bool, of the same shape; a missing one is never outside."""
    wrong = (numbers < bounds.get("min", -np.inf)) | (numbers > bounds.get("max", np.inf))
    return wrong | ~(np.isin(numbers, bounds["allowed"]) | np.isnan(numbers)) if "allowed" in bounds else wrong


def names(schema: list[dict[str, Any]], *kinds: str) -> list[str]:
    """Return the names of the fields of these kinds, in order."""
    return [field["name"] for field in schema if field["kind"] in kinds]


def free(name: str, suffix: str, used: Collection[str]) -> str:
    """Return a name that is not used: the suffix stands after it as often as it takes."""
    return free(name + suffix, suffix, used) if name in used else name


def as_rows(frame: pd.DataFrame, schema: list[dict[str, Any]], without: str = "") -> list[dict[str, Any]]:
    """Return a table as the JSON rows that a caller would send, of the fields of `schema` but those of a kind."""
    columns = {field["name"]: sendable(frame[field["name"]], field) for field in schema if field["kind"] != without}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def sendable(column: pd.Series, field: Mapping[str, Any]) -> list[Any]:
    """Return a column as JSON values: missing is None, moments and dates given in days are ISO text."""
    plain = column
    if pd.api.types.is_datetime64_any_dtype(column):
        plain = local(column, "UTC").map(lambda moment: moment.isoformat())
    elif field["type"] == "date":
        plain = column.map(iso, na_action="ignore")
    return plain.astype(object).where(column.notna(), None).tolist()


def days(text: str) -> float:
    """Return an ISO date or time, UTC where it names no other zone, as days since 1970-01-01; `ValueError` if it is none."""
    if text[4:5] != "-":  # 20240229 is ISO too, but looks like a number
        raise ValueError(f"expected {DATE}")
    moment = datetime.fromisoformat(text)
    return (moment.replace(tzinfo=None) - EPOCH - (moment.utcoffset() or timedelta(0))) / timedelta(days=1)


def iso(number: float) -> str:
    """Return days since 1970-01-01 as ISO text (UTC), to the microsecond."""
    return (EPOCH + timedelta(microseconds=round(number * MICROSECONDS))).isoformat()


def with_history(row: Mapping[str, Any], stores: Mapping[str, Store]) -> dict[str, Any]:
    """Return a row with the history that it lacks, looked up by its keys; what is not known of it is None."""
    lacking = {name: store for name, store in stores.items() if name not in row}
    history = {name: each.values.get(tuple(map(row.get, each.by)), each.prior) for name, each in lacking.items()}
    return {**{name: None if value != value else value for name, value in history.items()}, **row}


def look_up(frame: pd.DataFrame, stores: Mapping[str, Store]) -> pd.DataFrame:
    """Return a table with the history columns that it lacks, as `with_history`; each key is looked up once."""
    completed = frame.copy(deep=False)
    distinct: dict[tuple[str, ...], tuple[list[Any], np.ndarray]] = {}
    for name, store in stores.items():
        if name not in frame:
            by = tuple(store.by)
            if by not in distinct:
                positions = frame.groupby(store.by, dropna=False, sort=False).ngroup().to_numpy()
                first = np.unique(positions, return_index=True)[1]
                distinct[by] = list(_keys(frame.iloc[first], store.by)), positions
            keys, positions = distinct[by]
            completed[name] = np.array([store.values.get(key, store.prior) for key in keys], dtype="float64")[positions]
    return completed


def _keys(frame: pd.DataFrame, by: list[str]) -> Any:
    """Return the tuple of the keys of each row; a missing one is None, as in JSON."""
    return zip(*(frame[key].astype(object).where(frame[key].notna(), None).tolist() for key in by), strict=True)
