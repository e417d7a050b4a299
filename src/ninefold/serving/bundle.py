"""The model bundle: one folder with everything that a prediction needs, verified when it is read."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from ninefold import artifacts
from ninefold.errors import DataError
from ninefold.features import FeatureSchema
from ninefold.html_repr import facts_table
from ninefold.problem import Problem, decisions
from ninefold.serving import checksums, compiled, history
from ninefold.serving.checksums import read_json, verify
from ninefold.serving.compiled_encoders import Columns
from ninefold.serving.fields import FEATURE_KINDS, days, names
from ninefold.serving.history import Store
from ninefold.timestamps import as_days
from ninefold.training import cross_validation, model_file

BUNDLE = "models/bundle"
FORMAT = 3
INTERNAL = ("quantile", "loss")  # columns of a forecast that an answer gives as action and expected payoff
LISTED = 50
ROWS_A_THREAD = 2000


class Answered(NamedTuple):
    """The answer to rows as a caller sends them: per row the columns `Bundle.answers`, and `Bundle.unseen`."""

    records: list[dict[str, Any]]
    unseen: list[dict[str, Any]]


@dataclass(frozen=True, eq=False, repr=False)
class Bundle:
    """A verified model bundle: model, signature, policy and online history. It needs nothing else of the project.

    Attributes
    ----------
    place : Path
        Its folder.
    version : str
        First 12 hexadecimal digits of the SHA-256 of its checksums: equal bundles have equal versions.
    described : dict
        ``bundle.json``: ``signature``, ``policy``, ``problem``, ``model``, ``holdout``, ``limits``, ``lineage``.
    reference : dict
        ``reference.json``: the distributions that monitoring compares production with.
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

    @classmethod
    def load(cls, place: Path | None = None) -> Self:
        """Read and verify the bundle of the project, or the one at `place`.

        Raises
        ------
        DataError
            If it is missing, damaged or changed, of another format, or its model needs types that are not trusted.
        """
        place = place or artifacts.pending(BUNDLE)
        version, described = verify(place), read_json(place / "bundle.json")
        if described.get("format") != FORMAT:
            wrong = f"format {described.get('format')!r}, expected {FORMAT}"
            raise DataError(f"{place}/bundle.json: {wrong}; pack it again with `dvc repro deployment`")
        online = read_json(place / "online/online.json")
        bundle = cls(
            place=place,
            version=version,
            described=described,
            reference=read_json(place / "reference.json"),
            moment=online.get("moment"),
            online={entry["feature"]: Store.read(place / "online", entry) for entry in online["stores"]},
            model=model_file.load(place / "model.skops"),
        )
        _ = bundle.compiled  # now, not within the first request
        return bundle

    @staticmethod
    def save(described: Mapping[str, Any], reference: Mapping[str, Any], card: str) -> None:
        """Write ``models/bundle/`` with the candidate's model and the online history; the same inputs give the same bytes.

        Parameters
        ----------
        described : mapping
            ``bundle.json``: what a caller, a reader and stage 09 need to know about the model.
        reference : mapping
            ``reference.json``: the distributions that monitoring compares production with.
        card : str
            ``MODEL_CARD.md``.
        """
        from ninefold import features, training  # they import plotting libraries, which a service does not need

        folder = artifacts.output(BUNDLE)
        shutil.copytree(artifacts.pending(features.ONLINE), folder / "online")
        shutil.copyfile(artifacts.pending(f"{training.CANDIDATE}/model.skops"), folder / "model.skops")
        artifacts.write_json({"format": FORMAT, **described}, folder / "bundle.json")
        artifacts.write_json(reference, folder / "reference.json")
        artifacts.write_text(card, folder / "MODEL_CARD.md")
        checksums.write(folder)

    def __repr__(self) -> str:
        """Return the bundle in one line."""
        return (
            f"Bundle({self.name} {self.version}: {self.problem.task}, {len(self.features)} features, {self._history()})"
        )

    def _repr_html_(self) -> str:
        rows = {
            "model": f"{self.name}, {type(self.model).__name__}",
            "version": self.version,
            "folder": self.place,
            "task": self.problem.task,
            "features": ", ".join(self.features),
            "history": self._history(),
        }
        return facts_table("Model bundle", rows)

    def _history(self) -> str:
        return f"history as of {self.moment} UTC" if self.moment else "no history"

    @property
    def name(self) -> str:
        """The model's name in the service's addresses."""
        return str(self.described["name"])

    @property
    def signature(self) -> list[dict[str, Any]]:
        """Every field of a row, see `ninefold.serving.fields.signature`."""
        return self.described["signature"]

    @cached_property
    def features(self) -> list[str]:
        """The model's columns, in order."""
        return names(self.signature, *FEATURE_KINDS)

    @cached_property
    def fields(self) -> list[str]:
        """The fields that an answer depends on: the model's columns, and other keys of the history."""
        return names(self.signature, *FEATURE_KINDS, "key")

    @cached_property
    def columns(self) -> FeatureSchema:
        """The model's columns by kind."""
        return FeatureSchema.of(self.signature)

    @cached_property
    def problem(self) -> Problem:
        """The problem that the model answers."""
        return Problem.read({**self.described["problem"], **self.described["policy"]}, f"{self.place}/bundle.json")

    @cached_property
    def known(self) -> dict[str, frozenset[str]]:
        """The values of each categorical feature that training rows had."""
        return {field["name"]: frozenset(field["known"]) for field in self.signature if "known" in field}

    @cached_property
    def answers(self) -> list[str]:
        """The columns of an answer: the forecast, ``action``, ``expected_payoff``."""
        return answer_columns(self.problem)

    @cached_property
    def added(self) -> dict[str, str]:
        """Each column of an answer -> its name beside a row's own columns, changed where a field has the same."""
        fields = {field["name"] for field in self.signature}
        return {name: _free(name, fields) for name in self.answers}

    @cached_property
    def compiled(self) -> compiled.CompiledPredictor:
        """The model's compiled predictor, if it answers `compiled.probes` as the pipeline does; else without a forecast."""
        rows = compiled.probes(self.described.get("example", {}), self.signature, self.reference)
        filled = self._filled(rows)
        predictor = compiled.compile_model(self.model, self.features, self.problem)
        return compiled.verify(
            predictor, list(filled.values()), lambda: self._by_pipeline(self._table(filled)), self.problem
        )

    @property
    def fast_reason(self) -> str:
        """Why few rows are answered by the pipeline too, instead of the compiled predictor; empty if they are not."""
        return self.compiled.reason

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the forecast of each row of features: columns `decisions.forecast_columns`, the index of `frame`."""
        rows = frame[self.features].copy(deep=False)
        for name in self.columns.dates:
            rows[name] = as_days(rows[name])
        few = len(rows) <= compiled.FEW
        values = self._quickly([rows[name].tolist() for name in self.features], len(rows)) if few else None
        if values is None:
            return self._by_pipeline(rows).set_axis(frame.index)
        return pd.DataFrame(values, columns=decisions.forecast_columns(self.problem), index=frame.index)

    def answer(self, rows: Sequence[Mapping[str, Any]]) -> Answered:
        """Return the results of `complete`, `decide` and `unseen` for rows as a caller sends them; few rows need no table."""
        filled = self._filled(rows)
        values = self._quickly(list(filled.values()), len(rows))
        if values is None:
            frame = self._table(filled)
            return Answered(self.decide(frame)[self.answers].to_dict("records"), self.unseen(frame))
        columns = dict(zip(decisions.forecast_columns(self.problem), values.T.tolist(), strict=True))
        columns["action"], columns["expected_payoff"] = compiled.decide(values, self.problem)
        answers = zip(*(columns[name] for name in self.answers), strict=True)
        records = [dict(zip(self.answers, answer, strict=True)) for answer in answers]
        return Answered(records, compiled.unseen(filled, self.known))

    def decide(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return, per row of features, the forecast, and the ``action`` with its ``expected_payoff``."""
        predicted = self.predict(frame)
        return predicted.assign(**decisions.decide(predicted, self.problem))

    def complete(self, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
        """Return rows as the model's columns; history that a row does not hold is looked up by its keys.

        A field that is None, or absent and no history, is missing. The history of an unknown key is its prior, or missing
        without a prior. A history field that the row holds is used as it is, None too: the caller knows that it has no value.
        """
        return self._table(self._filled(rows))

    def look_up(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a table with the history columns that it lacks, looked up by key: `complete` for a whole table."""
        return history.look_up(frame, self.online)

    def unseen(self, frame: pd.DataFrame) -> list[dict[str, Any]]:
        """Return the categories that training rows did not have: ``field``, ``value``, ``rows``, ``first_row``."""
        categories = []
        for name, known in self.known.items():
            column = frame[name].reset_index(drop=True)
            strange = column[column.notna() & ~column.isin(known)]
            for value, rows in strange.groupby(strange) if len(strange) else ():
                categories.append({"field": name, "value": value, "rows": len(rows), "first_row": int(rows.index[0])})
        return categories

    def _filled(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
        """Return the values of each of the model's columns, history looked up, dates in days."""
        columns = {}
        for field in self.signature:
            name = field["name"]
            if field["kind"] in FEATURE_KINDS:
                store = self.online.get(name, history.NO_HISTORY)
                values: list[Any]
                values = [row[name] if name in row else store.of(tuple(map(row.get, store.by))) for row in rows]
                dates = field["type"] == "date"
                columns[name] = [None if each is None else days(each) for each in values] if dates else values
        return columns

    def _table(self, filled: Mapping[str, list[Any]]) -> pd.DataFrame:
        text = {field["name"] for field in self.signature if field["type"] == "string"}
        return pd.DataFrame({name: _typed(values, name in text) for name, values in filled.items()})

    def _quickly(self, columns: Columns, count: int) -> np.ndarray | None:
        """Return the forecast of few rows by the compiled predictor; None if there is none, or it leaves them to the pipeline."""
        if 0 < count <= compiled.FEW and self.compiled.forecast is not None:
            with suppress(compiled.Declined, TypeError, ValueError):  # the pipeline answers, or says what is wrong
                return self.compiled.forecast(columns)
        return None

    def _by_pipeline(self, rows: pd.DataFrame) -> pd.DataFrame:
        # For few rows a second thread costs more than it does: up to 0.1 s where the machine is busy (measured).
        with _threads().limit(limits=1 if len(rows) < ROWS_A_THREAD else None, user_api="openmp"):
            return cross_validation.predict(self.model, rows, self.columns, self.problem)


def answer_columns(problem: Problem) -> list[str]:
    """Return the columns of an answer: of the forecast what a caller needs, ``action`` and ``expected_payoff``."""
    forecast = [name for name in decisions.forecast_columns(problem) if name not in INTERNAL]
    return [*forecast, "action", "expected_payoff"]


def sample(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return `count` rows, spread evenly over the table (all of them if there are fewer)."""
    return rows.iloc[np.unique(np.linspace(0, len(rows) - 1, count).astype(int))].reset_index(drop=True)


def distribution(column: pd.Series, like: Mapping[str, Any] | None = None, kind: str = "") -> dict[str, Any]:
    """Return the shares of a column's values by bin; with `like`, an earlier distribution, by its bins.

    Numbers: ``edges``, the distinct inner deciles, and ``shares``, one more; share ``i`` counts
    ``edges[i-1] <= x < edges[i]``, with open ends. Categories: ``shares`` of the most frequent values, and ``other``.
    All: ``missing``. The shares are of all rows and sum to 1. Free text (`kind` is ``text``) is described by its length;
    ``of`` says so.
    """
    if kind == "text" or (like is not None and like.get("of") == "length"):
        return {"of": "length", **_binned(measured(column, "text"), like)}
    return _binned(measured(column, kind), like)


def measured(column: pd.Series, kind: str) -> pd.Series:
    """Return the values of a feature to compare: the length of text, the days of moments since 1970-01-01, else itself."""
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
        deciles = np.quantile(values, np.arange(1, 10) / 10, method="inverted_cdf") if len(values) else []
        edges = np.unique(deciles).tolist()
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    return {"edges": edges, "shares": (counts / rows).tolist()}


def _by_value(present: pd.Series, like: Mapping[str, Any] | None, rows: int) -> dict[str, Any]:
    counts = present.astype("str").value_counts().sort_index().sort_values(ascending=False, kind="stable")
    listed = list(like["shares"]) if like is not None else counts.index[:LISTED].tolist()
    shares = (counts.reindex(listed, fill_value=0) / rows).to_dict()
    return {"shares": shares, "other": float(counts.drop(listed, errors="ignore").sum() / rows)}


def _free(name: str, fields: Collection[str]) -> str:
    return _free(f"{name}_predicted", fields) if name in fields else name


def _typed(values: list[Any], text: bool) -> Any:
    """Return values of JSON rows, dates in days, as a column of the model."""
    return pd.array(values, dtype="str") if text else np.array(values, dtype="float64")


@cache
def _threads() -> ThreadpoolController:
    return ThreadpoolController()  # looking for the loaded libraries takes longer than the model
