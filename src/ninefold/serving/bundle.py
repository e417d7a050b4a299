"""The model bundle: one folder with everything that a prediction needs, verified when it is read."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from ninefold import artifacts
from ninefold.collection import failing
from ninefold.errors import DataError
from ninefold.features import FeatureSchema
from ninefold.jinja import facts_table
from ninefold.metrics import subsample
from ninefold.problem import Problem, decisions
from ninefold.serving import compiled
from ninefold.serving.fields import FEATURE_KINDS, Store, days, free, names, outside, with_history
from ninefold.timestamps import as_days
from ninefold.training import cross_validation, model_file

BUNDLE, CHECKSUMS = "models/bundle", "checksums.json"
FORMAT = 3
UNSEEN = "was not seen in training"
ROWS_A_THREAD = 2000
_threads = cache(ThreadpoolController)  # looking for the loaded libraries takes longer than the model


class Answered(NamedTuple):
    """The answer to rows: per row the columns `Bundle.answers`, and `Bundle.warnings`."""

    records: list[dict[str, Any]]
    warnings: list[dict[str, Any]]


@dataclass(frozen=True, eq=False, repr=False)
class Bundle:
    """A verified model bundle: model, signature, policy and online history. It needs nothing else of the project."""

    place: Path
    version: str  # the first digits of the SHA-256 of its checksums: equal bundles have equal versions
    described: dict[str, Any]  # bundle.json
    reference: dict[str, Any]  # the deciles of the features; the compiled predictor is tried between them
    moment: str | None  # ISO time (UTC) for which the online history holds
    online: dict[str, Store]  # by history feature
    model: Any

    @classmethod
    def load(cls, place: Path | None = None) -> Self:
        """Read and verify the project's bundle, or the one at `place`; `DataError` if it is not whole and trusted."""
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
        return f"Bundle({self.name} {self.version}: {self.problem.task}, {len(self.features)} features)"

    def _repr_html_(self) -> str:
        facts = {"model": f"{self.name}, {type(self.model).__name__}", "version": self.version, "folder": self.place}
        moment = f"{self.moment} UTC" if self.moment else "none"
        return facts_table("Model bundle", {**facts, "features": ", ".join(self.features), "history as of": moment})

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
    def bounds(self) -> dict[str, dict[str, Any]]:
        """The bounds that the contract has for each number, as of `ninefold.serving.fields.signature`; older bundles have none."""
        return {field["name"]: field["bounds"] for field in self.signature if "bounds" in field}

    @cached_property
    def answers(self) -> list[str]:
        """The columns of an answer, see `answer_columns`."""
        return answer_columns(self.problem)

    @cached_property
    def added(self) -> dict[str, str]:
        """Each column of an answer -> its name beside a row's own columns, changed where a field has the same."""
        fields = {field["name"] for field in self.signature}
        return {name: free(name, "_predicted", fields) for name in self.answers}

    @cached_property
    def compiled(self) -> compiled.CompiledPredictor:
        """The model's compiled predictor, if it answers `compiled.probes` as the pipeline does; else the reason."""
        filled = self._filled(compiled.probes(self.described.get("example", {}), self.signature, self.reference))
        table = self._table(filled)
        return compiled.compiled_predictor(self.model, filled, lambda: self._by_pipeline(table), self.problem)

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the forecast of each row of features: columns `decisions.forecast_columns`, the index of `frame`."""
        rows = frame[self.features].copy(deep=False)
        for name in self.columns.dates:
            rows[name] = as_days(rows[name])
        columns = decisions.forecast_columns(self.problem)
        return pd.DataFrame(self._forecast(rows, len(rows)), columns=columns, index=frame.index)

    def answer(self, rows: Sequence[Mapping[str, Any]]) -> Answered:
        """Return what `complete`, `decide` and `warnings` give for rows as a caller sends them; few need no table."""
        filled = self._filled(rows)
        values = self._forecast(filled, len(rows))
        columns = dict(zip(decisions.forecast_columns(self.problem), values.T.tolist(), strict=True))
        chosen = decisions.choose(values, self.problem)
        columns["action"], columns["expected_payoff"] = (each.tolist() for each in chosen)
        records = [{name: columns[name][row] for name in self.answers} for row in range(len(rows))]
        return Answered(records, self.warnings(filled))

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

    def warnings(self, columns: Mapping[str, list[Any]] | pd.DataFrame) -> list[dict[str, Any]]:
        """Return the categories that training rows did not have, and the numbers outside the contract.

        ``field``; ``value``, each category, of the numbers the first; ``rows``, how many have it; ``first_row``; ``reason``.
        """
        result = []
        for name, known in self.known.items():
            values = list(columns[name])
            new = [value for value in values if value is not None and value == value and value not in known]
            for value, rows in sorted(Counter(new).items()):
                first = values.index(value)
                result.append({"field": name, "value": value, "rows": rows, "first_row": first, "reason": UNSEEN})
        for name, bounds in self.bounds.items():
            numbers = np.asarray(columns[name], dtype="float64")
            if (wrong := np.flatnonzero(outside(numbers, bounds))).size:
                limits = (f"{key} {', '.join(map('{:g}'.format, np.ravel(limit)))}" for key, limit in bounds.items())
                reason = f"is outside the contract ({', '.join(limits)})"
                value, first = float(numbers[wrong[0]]), int(wrong[0])
                result.append({"field": name, "value": value, "rows": len(wrong), "first_row": first, "reason": reason})
        return result

    def _filled(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
        """Return the values of each of the model's columns, history looked up, dates in days."""
        completed = [with_history(row, self.online) for row in rows]
        columns = {name: [row.get(name) for row in completed] for name in self.features}
        for name in self.columns.dates:
            columns[name] = [None if value is None else days(value) for value in columns[name]]
        return columns

    def _table(self, filled: Mapping[str, list[Any]]) -> pd.DataFrame:
        types = {field["name"]: "str" if field["type"] == "string" else "float64" for field in self.signature}
        return pd.DataFrame({name: pd.Series(values, dtype=types[name]) for name, values in filled.items()})

    def _forecast(self, columns: Mapping[str, list[Any]] | pd.DataFrame, count: int) -> np.ndarray:
        """Return the forecast of `count` rows, of few by the compiled predictor."""
        if 0 < count <= compiled.FEW and self.compiled.forecast is not None:
            with suppress(TypeError, ValueError):  # the pipeline answers, or says what is wrong
                return self.compiled.forecast([list(columns[name]) for name in self.features])
        rows = columns if isinstance(columns, pd.DataFrame) else self._table(columns)
        return self._by_pipeline(rows).to_numpy("float64")

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
    return rows.iloc[subsample(len(rows), count)].reset_index(drop=True)


def edges_of(column: pd.Series, kind: str) -> dict[str, list[float]]:
    """Return ``edges``, the distinct inner deciles of numbers, of days since 1970-01-01, or of the lengths of text."""
    if kind == "categorical":
        return {}
    values = (column.astype("str").str.len() if kind == "text" else as_days(column)).dropna().to_numpy("float64")
    inner = np.quantile(values, np.arange(1, 10) / 10, method="inverted_cdf") if len(values) else []
    return {"edges": np.unique(inner).tolist()}


def verify(place: Path) -> str:
    """Return the version of the bundle at `place`; `DataError` names files that are missing, changed, or not listed."""
    if not (place / CHECKSUMS).is_file():
        raise DataError(f"{place}: holds no bundle (no {CHECKSUMS}); write it with `dvc repro deployment`")
    expected, present = read_json(place / CHECKSUMS), set(files(place))
    wrong = {
        "missing": expected.keys() - present,
        "changed": {name for name in expected.keys() & present if artifacts.sha256(place / name) != expected[name]},
        "not listed": present - expected.keys(),
    }
    if listed := "; ".join(f"{how}: {', '.join(sorted(names))}" for how, names in wrong.items() if names):
        raise DataError(f"{place}: not as it was packed; {listed}; {artifacts.RESTORE}")
    return artifacts.sha256(place / CHECKSUMS)[:12]


def files(place: Path) -> list[str]:
    """Return the sorted files of a folder, relative to it, without hidden ones and without the list of checksums."""
    names = [file.relative_to(place) for file in place.rglob("*") if file.is_file()]
    return sorted({name.as_posix() for name in names if not any(part[0] == "." for part in name.parts)} - {CHECKSUMS})


def read_json(file: Path) -> dict[str, Any]:
    """Return the object in a file of a bundle; `DataError` if it is not readable, or not an object."""
    with failing(str(file), "read as JSON", artifacts.RESTORE, OSError, ValueError):
        value = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise DataError(f"{file}: found {type(value).__name__}, expected an object; {artifacts.RESTORE}")
    return value
