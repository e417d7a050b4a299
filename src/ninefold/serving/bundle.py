"""The model bundle: one folder with everything that a prediction needs, verified when it is read."""

from __future__ import annotations

from collections import Counter
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
from ninefold.serving import compiled, history
from ninefold.serving.checksums import read_json, verify
from ninefold.serving.compiled_parts import Columns, Declined
from ninefold.serving.fields import FEATURE_KINDS, days, names
from ninefold.serving.history import Store
from ninefold.timestamps import as_days
from ninefold.training import cross_validation, model_file

BUNDLE = "models/bundle"
FORMAT = 3
LISTED = 50
ROWS_A_THREAD = 2000


class Answered(NamedTuple):
    """The answer to rows: per row the columns `Bundle.answers`, and `Bundle.unseen`."""

    records: list[dict[str, Any]]
    unseen: list[dict[str, Any]]


@dataclass(frozen=True, eq=False, repr=False)
class Bundle:
    """A verified model bundle: model, signature, policy and online history. It needs nothing else of the project."""

    place: Path
    version: str  # the first digits of the SHA-256 of its checksums: equal bundles have equal versions
    described: dict[str, Any]  # bundle.json
    reference: dict[str, Any]  # the distributions that monitoring compares production with
    moment: str | None  # ISO time (UTC) for which the online history holds
    online: dict[str, Store]  # by history feature
    model: Any

    @classmethod
    def load(cls, place: Path | None = None) -> Self:
        """Read and verify the bundle of the project, or the one at `place`.

        `DataError` if it is missing, damaged or changed, of another format, or its model needs types that are not trusted.
        """
        place = place or artifacts.pending(BUNDLE)
        version, described = verify(place), read_json(place / "bundle.json")
        if (form := described.get("format")) != FORMAT:
            expected = f"expected {FORMAT}; pack it again with `dvc repro deployment`"
            raise DataError(f"{place}/bundle.json: format {form!r}, {expected}")
        reference, online = read_json(place / "reference.json"), read_json(place / "online/online.json")
        stores = {entry["feature"]: Store.read(place / "online", entry) for entry in online["stores"]}
        model = model_file.load(place / "model.skops")
        bundle = cls(place, version, described, reference, online.get("moment"), stores, model)
        _ = bundle.compiled  # now, not within the first request
        return bundle

    def __repr__(self) -> str:
        """Return the bundle in one line."""
        return f"Bundle({self.name} {self.version}: {self.problem.task}, {len(self.features)} features)"

    def _repr_html_(self) -> str:
        facts = {"model": f"{self.name}, {type(self.model).__name__}", "version": self.version, "folder": self.place}
        facts |= {
            "features": ", ".join(self.features),
            "history as of": f"{self.moment} UTC" if self.moment else "none",
        }
        return facts_table("Model bundle", facts)

    @property
    def name(self) -> str:
        """The model's name in the service's addresses."""
        return str(self.described["name"])

    @property
    def signature(self) -> list[dict[str, Any]]:
        """Every field of a row, as of `ninefold.serving.fields.signature`."""
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
        """The columns of an answer, see `answer_columns`."""
        return answer_columns(self.problem)

    @cached_property
    def added(self) -> dict[str, str]:
        """Each column of an answer -> its name beside a row's own columns, changed where a field has the same."""
        taken, added = {field["name"] for field in self.signature}, {name: name for name in self.answers}
        for name in self.answers:
            while added[name] in taken:
                added[name] += "_predicted"
        return added

    @cached_property
    def compiled(self) -> compiled.CompiledPredictor:
        """The model's compiled predictor, if it answers `compiled.probes` as the pipeline does; else the reason."""
        filled = self._filled(compiled.probes(self.described.get("example", {}), self.signature, self.reference))
        table = self._table(filled)
        return compiled.compiled_predictor(self.model, filled, lambda: self._by_pipeline(table), self.problem)

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
        """Return what `complete`, `decide` and `unseen` give for rows as a caller sends them; few need no table."""
        filled = self._filled(rows)
        values, unseen = self._quickly(list(filled.values()), len(rows)), _unseen(filled, self.known)
        if values is None:
            return Answered(self.decide(self._table(filled))[self.answers].to_dict("records"), unseen)
        columns = dict(zip(decisions.forecast_columns(self.problem), values.T.tolist(), strict=True))
        columns["action"], columns["expected_payoff"] = compiled.decide(values, self.problem)
        return Answered([{name: columns[name][row] for name in self.answers} for row in range(len(rows))], unseen)

    def decide(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return, per row of features, the forecast, and the ``action`` with its ``expected_payoff``."""
        predicted = self.predict(frame)
        return predicted.assign(**decisions.decide(predicted, self.problem))

    def complete(self, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
        """Return rows as the model's columns; history that a row does not hold is looked up by its keys.

        A field that is None, or absent and no history, is missing. A history field that the row holds is used as it is, None
        too. The history of an unknown key is its prior, or missing.
        """
        return self._table(self._filled(rows))

    def look_up(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a table with the history columns that it lacks, looked up by key."""
        return history.look_up(frame, self.online)

    def unseen(self, frame: pd.DataFrame) -> list[dict[str, Any]]:
        """Return the categories that training rows did not have: ``field``, ``value``, ``rows``, ``first_row``."""
        return _unseen({name: frame[name].tolist() for name in self.known}, self.known)

    def _filled(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
        """Return the values of each of the model's columns, history looked up, dates in days."""
        columns: dict[str, list[Any]] = {}
        for field in self.signature:
            name = field["name"]
            if field["kind"] in FEATURE_KINDS:
                store = self.online.get(name, history.NO_HISTORY)
                columns[name] = [row[name] if name in row else store.of(tuple(map(row.get, store.by))) for row in rows]
                if field["type"] == "date":
                    columns[name] = [None if value is None else days(value) for value in columns[name]]
        return columns

    def _table(self, filled: Mapping[str, list[Any]]) -> pd.DataFrame:
        types = {field["name"]: "str" if field["type"] == "string" else "float64" for field in self.signature}
        return pd.DataFrame({name: pd.Series(values, dtype=types[name]) for name, values in filled.items()})

    def _quickly(self, columns: Columns, count: int) -> np.ndarray | None:
        """Return the forecast of few rows by the compiled predictor; None if the pipeline has to answer."""
        if 0 < count <= compiled.FEW and self.compiled.forecast is not None:
            with suppress(Declined, TypeError, ValueError):  # the pipeline answers, or says what is wrong
                return self.compiled.forecast(columns)
        return None

    def _by_pipeline(self, rows: pd.DataFrame) -> pd.DataFrame:
        # For few rows a second thread costs up to 0.1 s where the machine is busy (measured).
        with _threads().limit(limits=1 if len(rows) < ROWS_A_THREAD else None, user_api="openmp"):
            return cross_validation.predict(self.model, rows, self.columns, self.problem)


def answer_columns(problem: Problem) -> list[str]:
    """Return the columns of an answer: of the forecast what a caller needs, ``action`` and ``expected_payoff``."""
    forecast = [name for name in decisions.forecast_columns(problem) if name not in ("quantile", "loss")]
    return [*forecast, "action", "expected_payoff"]


def sample(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return `count` rows, spread evenly over the table (all of them if there are fewer)."""
    return rows.iloc[np.unique(np.linspace(0, len(rows) - 1, count).astype(int))].reset_index(drop=True)


def distribution(column: pd.Series, like: Mapping[str, Any] | None = None, kind: str = "") -> dict[str, Any]:
    """Return the shares of a column's values by bin; with `like`, an earlier distribution, by its bins.

    Numbers: ``edges``, the distinct inner deciles, and ``shares`` of ``edges[i-1] <= x < edges[i]``, with open ends.
    Categories: ``shares`` of the most frequent values, and ``other``. All: ``missing``. The shares are of all rows and sum
    to 1. Free text (`kind` is ``text``) is described by its length; ``of`` says so.
    """
    is_text = kind == "text" or (like is not None and like.get("of") == "length")
    values = measured(column, "text" if is_text else kind)
    present, rows = values.dropna(), max(len(values), 1)
    described: dict[str, Any] = {"of": "length"} if is_text else {}
    if pd.api.types.is_numeric_dtype(values) if like is None else "edges" in like:
        numbers = present.to_numpy(dtype="float64")
        deciles = np.quantile(numbers, np.arange(1, 10) / 10, method="inverted_cdf") if len(numbers) else []
        edges = np.unique(deciles).tolist() if like is None else like["edges"]
        counts = np.bincount(np.searchsorted(edges, numbers, side="right"), minlength=len(edges) + 1)
        described |= {"edges": edges, "shares": (counts / rows).tolist()}
    else:
        frequent = present.astype("str").value_counts().sort_index().sort_values(ascending=False, kind="stable")
        listed = frequent.index[:LISTED].tolist() if like is None else list(like["shares"])
        described["shares"] = (frequent.reindex(listed, fill_value=0) / rows).to_dict()
        described["other"] = float(frequent.drop(listed, errors="ignore").sum() / rows)
    return {**described, "missing": (len(values) - len(present)) / rows}


def measured(column: pd.Series, kind: str) -> pd.Series:
    """Return the values of a feature to compare: the length of text, the days of moments, else itself."""
    if kind == "text":
        return column.astype("str").str.len().astype("float64")
    return as_days(column) if pd.api.types.is_datetime64_any_dtype(column) else column


def _unseen(columns: Mapping[str, list[Any]], known: Mapping[str, Collection[str]]) -> list[dict[str, Any]]:
    categories = []
    for name, listed in known.items():
        new = [value for value in columns[name] if value is not None and value == value and value not in listed]
        for value, rows in sorted(Counter(new).items()):
            categories.append({"field": name, "value": value, "rows": rows, "first_row": columns[name].index(value)})
    return categories


@cache
def _threads() -> ThreadpoolController:
    return ThreadpoolController()  # looking for the loaded libraries takes longer than the model
