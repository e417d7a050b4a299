"""The bundle: one folder with all that answering takes, verified when it is read, and the same for the same inputs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from ninefold.core import decisions, fitting, io, model_file
from ninefold.core.errors import DataError
from ninefold.core.moments import as_days
from ninefold.serving import fast
from ninefold.serving.signature import FEATURE_KINDS, days, names

BUNDLE = "models/bundle"
FORMAT = 3
INTERNAL = ("quantile", "loss")  # of a forecast: what an answer gives as action and expected payoff
LISTED = 50
ROWS_A_THREAD = 2000


class Store(NamedTuple):
    """The online values of one history feature by the values of its keys, and what stands where a key is not among them."""

    by: list[str]
    values: dict[tuple[Any, ...], float]
    prior: float | None

    def of(self, key: tuple[Any, ...]) -> float | None:
        """Return the value of a key, or the prior."""
        return self.values.get(key, self.prior)


class Answered(NamedTuple):
    """What a bundle says of rows as a caller sends them.

    Attributes
    ----------
    records : list of dict
        Of each row the columns `Bundle.answers`.
    unseen : list of dict
        The categories that training rows did not have, see `Bundle.unseen`.
    """

    records: list[dict[str, Any]]
    unseen: list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Bundle:
    """A verified bundle: model, signature, policy and online history, enough to answer without the project.

    Attributes
    ----------
    place : Path
        The folder that it was read from.
    version : str
        First 12 hexadecimal digits of the SHA-256 of its checksums: equal bundles have equal versions.
    described : dict
        ``bundle.json``: ``signature``, ``policy``, ``problem``, ``model``, ``holdout``, ``limits``, ``lineage``.
    reference : dict
        ``reference.json``: what production is compared with.
    moment : str or None
        ISO time (UTC) for which the online history holds; None without history.
    online : dict
        History feature -> its `Store`.
    model : estimator
    """

    place: Path
    version: str
    described: dict[str, Any]
    reference: dict[str, Any]
    moment: str | None
    online: dict[str, Store]
    model: Any

    @property
    def name(self) -> str:
        """The model's name in the service's addresses."""
        return str(self.described["name"])

    @property
    def signature(self) -> list[dict[str, Any]]:
        """Every field of a row, see `ninefold.serving.signature.signature`."""
        return self.described["signature"]

    @cached_property
    def features(self) -> list[str]:
        """The model's columns, in order."""
        return names(self.signature, *FEATURE_KINDS)

    @cached_property
    def fields(self) -> list[str]:
        """What a row may hold that the answer depends on: the model's columns, and other keys of the history."""
        return names(self.signature, *FEATURE_KINDS, "key")

    @cached_property
    def columns(self) -> dict[str, list[str]]:
        """The model's columns by kind, as `training.columns` has them."""
        kinds = {
            "numeric": ("numeric", "history"),
            "categorical": ("categorical",),
            "text": ("text",),
            "dates": ("date",),
        }
        return {"all": self.features, **{name: names(self.signature, *kind) for name, kind in kinds.items()}}

    @cached_property
    def stated(self) -> dict[str, Any]:
        """The problem as stage 01 stated it."""
        return {**self.described["problem"], **self.described["policy"]}

    @cached_property
    def known(self) -> dict[str, frozenset[str]]:
        """The values of each categorical feature that training rows had."""
        return {field["name"]: frozenset(field["known"]) for field in self.signature if "known" in field}

    @cached_property
    def answers(self) -> list[str]:
        """The columns of an answer: the forecast, ``action``, ``expected_payoff``."""
        return answer_columns(self.stated)

    @cached_property
    def added(self) -> dict[str, str]:
        """Each column of an answer -> its name beside a row's own columns, changed where a field has the same."""
        taken = {field["name"] for field in self.signature}
        return {name: _free(name, taken) for name in self.answers}

    @cached_property
    def compiled(self) -> fast.Fast:
        """The model's fast form, if it answers `fast.probes` as the pipeline does; else without a forecast."""
        rows = fast.probes(self.described.get("example", {}), self.signature, self.reference)
        filled = self._filled(rows)
        made = fast.compile_model(self.model, self.features, self.stated)
        return fast.proved(made, list(filled.values()), lambda: self._by_pipeline(self._table(filled)), self.stated)

    @property
    def fast_reason(self) -> str:
        """Why few rows are answered by the pipeline too, instead of the model's fast form; empty if they are not."""
        return self.compiled.reason

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the forecast of each row of features: columns `decisions.forecast_columns`, the index of `frame`."""
        rows = frame[self.features].copy(deep=False)
        for name in self.columns["dates"]:
            rows[name] = as_days(rows[name])
        few = len(rows) <= fast.FEW
        values = self._quickly([rows[name].tolist() for name in self.features], len(rows)) if few else None
        if values is None:
            return self._by_pipeline(rows).set_axis(frame.index)
        return pd.DataFrame(values, columns=decisions.forecast_columns(self.stated), index=frame.index)

    def answer(self, rows: Sequence[Mapping[str, Any]]) -> Answered:
        """Return what `complete`, `decide` and `unseen` say of rows as a caller sends them; of few rows without a table."""
        filled = self._filled(rows)
        values = self._quickly(list(filled.values()), len(rows))
        if values is None:
            frame = self._table(filled)
            return Answered(self.decide(frame)[self.answers].to_dict("records"), self.unseen(frame))
        columns = dict(zip(decisions.forecast_columns(self.stated), values.T.tolist(), strict=True))
        columns["action"], columns["expected_payoff"] = fast.decide(values, self.stated)
        given = zip(*(columns[name] for name in self.answers), strict=True)
        return Answered([dict(zip(self.answers, each, strict=True)) for each in given], fast.unseen(filled, self.known))

    def decide(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return, per row of features, the forecast, and the ``action`` with its ``expected_payoff``."""
        predicted = self.predict(frame)
        return predicted.assign(**decisions.decide(predicted, self.stated))

    def complete(self, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
        """Return rows as the model's columns; history that a row does not hold is looked up by its keys.

        A field that is None, or absent and no history, is missing. The history of an unknown key is its prior, or missing
        where none is declared. A history field that is there is taken as it is, None too: the caller knows that there is
        no value.
        """
        return self._table(self._filled(rows))

    def look_up(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a table with the history columns that it lacks, looked up by key: `complete` for a whole table."""
        completed, taken = frame.copy(deep=False), dict[tuple[str, ...], tuple[list[Any], np.ndarray]]()
        for name, store in self.online.items():
            if name not in frame:
                by = tuple(store.by)
                taken[by] = taken.get(by) or _distinct(frame, store.by)  # each key once, of many rows
                keys, places = taken[by]
                completed[name] = np.array([store.of(key) for key in keys], dtype="float64")[places]
        return completed

    def unseen(self, frame: pd.DataFrame) -> list[dict[str, Any]]:
        """Return the categories that training rows did not have: ``field``, ``value``, ``rows``, ``first_row``."""
        found = []
        for name, known in self.known.items():
            column = frame[name].reset_index(drop=True)
            strange = column[column.notna() & ~column.isin(known)]
            for value, rows in strange.groupby(strange) if len(strange) else ():
                found.append({"field": name, "value": value, "rows": len(rows), "first_row": int(rows.index[0])})
        return found

    def _filled(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
        """Return the values of each of the model's columns, history looked up, dates in days."""
        columns = {}
        for field in self.signature:
            name = field["name"]
            if field["kind"] in FEATURE_KINDS:
                store = self.online.get(name, Store([], {}, None))
                values: list[Any]
                values = [row[name] if name in row else store.of(tuple(map(row.get, store.by))) for row in rows]
                dates = field["type"] == "date"
                columns[name] = [None if each is None else days(each) for each in values] if dates else values
        return columns

    def _table(self, filled: Mapping[str, list[Any]]) -> pd.DataFrame:
        text = {field["name"] for field in self.signature if field["type"] == "string"}
        return pd.DataFrame({name: _typed(values, name in text) for name, values in filled.items()})

    def _quickly(self, columns: fast.Columns, count: int) -> np.ndarray | None:
        """Return the forecast of few rows by the fast form; None if there is none, or it leaves them to the pipeline."""
        if 0 < count <= fast.FEW and self.compiled.forecast is not None:
            with suppress(fast.Declined, TypeError, ValueError):  # the pipeline answers, or says what is wrong
                return self.compiled.forecast(columns)
        return None

    def _by_pipeline(self, rows: pd.DataFrame) -> pd.DataFrame:
        # For few rows a second thread costs more than it does: up to 0.1 s where the machine is busy (measured).
        with _threads().limit(limits=1 if len(rows) < ROWS_A_THREAD else None, user_api="openmp"):
            return fitting.predict(self.model, rows, self.columns, self.stated)


def answer_columns(stated: Mapping[str, Any]) -> list[str]:
    """Return the columns of an answer: of the forecast what a caller needs, ``action`` and ``expected_payoff``."""
    forecast = [name for name in decisions.forecast_columns(dict(stated)) if name not in INTERNAL]
    return [*forecast, "action", "expected_payoff"]


def save(described: dict[str, Any], compared: dict[str, Any], card: str) -> None:
    """Write ``models/bundle/``; the same inputs give the same bytes.

    Parameters
    ----------
    described : dict
        ``bundle.json``: what a caller, a reader and stage 09 have to know of the model.
    compared : dict
        ``reference.json``: what production is compared with.
    card : str
        ``MODEL_CARD.md``.
    """
    from ninefold import features, training  # with all that draws figures, which no service needs

    folder = io.output(BUNDLE)
    shutil.copytree(io.pending(features.ONLINE), folder / "online")
    shutil.copyfile(io.pending(f"{training.CANDIDATE}/model.skops"), folder / "model.skops")
    describe(described, compared, card, folder)


def describe(described: dict[str, Any], compared: dict[str, Any], card: str, folder: Path) -> None:
    """Write what of a bundle is no model and no history, see `save`, and the checksums of everything in its folder."""
    io.write_json({"format": FORMAT, **described}, folder / "bundle.json")
    io.write_json(compared, folder / "reference.json")
    io.write_text(card, folder / "MODEL_CARD.md")
    io.write_json({name: io.sha256(folder / name) for name in sorted(files(folder))}, folder / "checksums.json")


def verify(place: Path) -> str:
    """Return the version of the bundle at `place`, if every file is as it was packed.

    This finds damage and careless edits. Who rewrites the checksums too makes another bundle, of another version.

    Raises
    ------
    DataError
        Naming the files that are missing, changed, or not listed.
    """
    listing = place / "checksums.json"
    if not listing.is_file():
        raise DataError(f"{place}: holds no bundle (no checksums.json); write it with `dvc repro deployment`")
    expected, found = _json(listing), files(place)
    wrong = {
        "missing": [name for name in expected if name not in found],
        "changed": [name for name in expected if name in found and io.sha256(place / name) != expected[name]],
        "not listed": [name for name in found if name not in expected],
    }
    if any(wrong.values()):
        listed = "; ".join(f"{how}: {', '.join(sorted(lost))}" for how, lost in wrong.items() if lost)
        raise DataError(f"{place}: not as it was packed; {listed}; {io.RESTORE}")
    return io.sha256(listing)[:12]


def load(place: Path | None = None) -> Bundle:
    """Read and verify a bundle: that of the project, or the one at `place`; it needs nothing else of the project.

    Raises
    ------
    DataError
        If it is missing, damaged or changed, of another format, or its model asks for types that are not trusted.
    """
    place = place or io.pending(BUNDLE)
    version, described = verify(place), _json(place / "bundle.json")
    if described.get("format") != FORMAT:
        raise DataError(
            f"{place}/bundle.json: format {described.get('format')!r}, expected {FORMAT}; "
            "pack it again with `dvc repro deployment`"
        )
    online = _json(place / "online/online.json")
    packed = Bundle(
        place=place,
        version=version,
        described=described,
        reference=_json(place / "reference.json"),
        moment=online.get("moment"),
        online={store["feature"]: _store(place, store) for store in online["stores"]},
        model=model_file.load(place / "model.skops"),
    )
    _ = packed.compiled  # now, not within the first request
    return packed


def files(place: Path) -> list[str]:
    """Return the files of a folder, relative, without hidden ones and without the list of checksums itself."""
    found = (file.relative_to(place) for file in place.rglob("*") if file.is_file())
    kept = (name.as_posix() for name in found if not any(part.startswith(".") for part in name.parts))
    return [name for name in kept if name != "checksums.json"]


def sample(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return `count` rows, spread evenly over the table (all of them if there are fewer)."""
    return rows.iloc[np.unique(np.linspace(0, len(rows) - 1, count).astype(int))].reset_index(drop=True)


def distribution(column: pd.Series, like: Mapping[str, Any] | None = None, kind: str = "") -> dict[str, Any]:
    """Return the shares of a column's values by bin; with `like`, an earlier distribution, by its bins.

    Numbers: ``edges``, the distinct inner deciles, and ``shares``, one more; share ``i`` counts
    ``edges[i-1] <= x < edges[i]``, the ends are open. Categories: ``shares`` of the most frequent values, and ``other``.
    All: ``missing``. These are shares of all rows, and sum to 1. Of free text (`kind` is ``text``) the length is
    described, and ``of`` says so.
    """
    if kind == "text" or (like is not None and like.get("of") == "length"):
        return {"of": "length", **_binned(measured(column, "text"), like)}
    return _binned(measured(column, kind), like)


def measured(column: pd.Series, kind: str) -> pd.Series:
    """Return what of a feature is compared between two tables.

    Of free text its length in characters, of moments the days since 1970-01-01, else the values themselves.
    """
    if kind == "text":
        return column.astype("str").str.len().astype("float64")
    return as_days(column) if pd.api.types.is_datetime64_any_dtype(column) else column


def _binned(column: pd.Series, like: Mapping[str, Any] | None) -> dict[str, Any]:
    present, missing = column.dropna(), float(column.isna().mean()) if len(column) else 0.0
    number = pd.api.types.is_numeric_dtype(column) if like is None else "edges" in like
    binned = _by_decile if number else _by_value
    return {**binned(present, like, max(len(column), 1)), "missing": missing}


def _by_decile(present: pd.Series, like: Mapping[str, Any] | None, rows: int) -> dict[str, Any]:
    values = present.to_numpy(dtype="float64")
    if like is not None:
        edges = like["edges"]
    else:
        tenths = np.quantile(values, np.arange(1, 10) / 10, method="inverted_cdf") if len(values) else []
        edges = np.unique(tenths).tolist()
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    return {"edges": edges, "shares": (counts / rows).tolist()}


def _by_value(present: pd.Series, like: Mapping[str, Any] | None, rows: int) -> dict[str, Any]:
    counts = present.astype("str").value_counts().sort_index().sort_values(ascending=False, kind="stable")
    kept = list(like["shares"]) if like is not None else counts.index[:LISTED].tolist()
    shares = (counts.reindex(kept, fill_value=0) / rows).to_dict()
    return {"shares": shares, "other": float(counts.drop(kept, errors="ignore").sum() / rows)}


def _free(name: str, taken: Collection[str]) -> str:
    return _free(f"{name}_predicted", taken) if name in taken else name


def _typed(values: list[Any], text: bool) -> Any:
    """Return values of JSON rows, dates in days, as a column of the model."""
    return pd.array(values, dtype="str") if text else np.array(values, dtype="float64")


def _keys(frame: pd.DataFrame, by: list[str]) -> Any:
    """Return the tuple of the keys of each row; a missing one is None, as in JSON."""
    return zip(*(frame[key].astype(object).where(frame[key].notna(), None).tolist() for key in by), strict=True)


def _distinct(frame: pd.DataFrame, by: list[str]) -> tuple[list[Any], np.ndarray]:
    """Return the tuples of keys that rows have, as `_keys` does but each once, and the place of each row's among them."""
    places = frame.groupby(by, dropna=False, sort=False).ngroup().to_numpy()
    first = np.unique(places, return_index=True)[1]
    return list(_keys(frame.iloc[first], by)), places


def _store(place: Path, store: dict[str, Any]) -> Store:
    table = pd.read_parquet(place / "online" / store["file"])
    values = dict(zip(_keys(table, store["by"]), table["value"].tolist(), strict=True))
    return Store(store["by"], values, store.get("prior"))


def _json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: not readable as JSON ({error}); {io.RESTORE}") from None
    if not isinstance(value, dict):
        raise DataError(f"{file}: found {type(value).__name__}, expected an object; {io.RESTORE}")
    return value


@cache
def _threads() -> ThreadpoolController:
    return ThreadpoolController()  # looking for the loaded libraries takes longer than the model
