"""Which model, and how good is it on data it never saw (20-30 %)?

Reads: ``data/problem.json``, ``data/metrics.json``, ``data/features/``.
Writes: ``models/candidate/``, the chosen model with its description; ``reports/plots/07_*.csv`` for ``dvc plots``.
Gate: on the holdout the model beats the naive prediction and every baseline policy, by the margins of the plan.
"""

from typing import Any, NamedTuple

import joblib
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from ninefold import artifacts, features, gate, hooks, lineage
from ninefold.errors import DataError, NinefoldError
from ninefold.features import FeatureSchema
from ninefold.metrics import COPIES, PARTS, PURGED, EvaluationPlan, Split, entity_hash, part_of
from ninefold.problem import GUESSING, MEANING, PRIMARY, RANKING, Problem, title
from ninefold.sentences import render
from ninefold.training import model_file
from ninefold.training.cross_validation import LEAST_STOPPING, Folds, without_stopping
from ninefold.training.params import Params
from ninefold.training.selection import NAIVE

CANDIDATE = "models/candidate"
Results = dict[str, dict[str, float]]  # metric -> value, low, high: what `Evaluation.results` returns


class Chosen(NamedTuple):
    """The chosen model: its name and calibration, its results on the holdout, and the floor of its gain."""

    name: str
    method: str
    results: Results
    floor: float  # `Evaluation.gain_floor`

    @property
    def beats_naive(self) -> bool:
        """Whether it is significantly better than the naive prediction and the best baseline policy."""
        return self.name != NAIVE and self.results["improvement"]["low"] > 0 and self.floor > 0


class HoldoutError(NinefoldError):
    """The holdout was opened too early, or for a second model."""


class LockedHoldout:
    """Rows that nothing may be fitted to or chosen by, until one model is finished."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self.__rows, self.__model = rows, ""

    def __len__(self) -> int:
        return len(self.__rows)

    def __repr__(self) -> str:
        return f"{len(self):,} locked rows; `open(model)` returns them for one fitted model"

    def open(self, model: Any) -> pd.DataFrame:
        """Return the rows, for a fitted model; raise HoldoutError if it is not fitted, or they were opened for another."""
        try:
            check_is_fitted(getattr(model, "model", model))
        except (NotFittedError, TypeError):
            raise HoldoutError(render("training", "not_fitted")) from None
        digest = joblib.hash(model)
        if self.__model not in ("", digest):
            raise HoldoutError(render("training", "opened_before"))
        self.__model = digest
        return self.__rows


def read(problem: Problem, plan: EvaluationPlan) -> dict[str, pd.DataFrame]:
    """Return the labelled feature rows by part of the split: ``train``, ``validation``, ``holdout``; see `split`."""
    table = features.load().dropna(subset=[name for name in (problem.target, problem.time) if name])
    return split(table.astype({problem.target: "int64"}) if problem.is_class else table, plan.split, problem)


def split(table: pd.DataFrame, points: Split, problem: Problem) -> dict[str, pd.DataFrame]:
    """Return labelled rows by part, copies known by ``@copies``; raise DataError if one is empty, or has only one outcome."""
    part = part_of(table, points, problem)
    if points.copies:
        table = table.assign(**{COPIES: entity_hash(table, problem, points)})
    parts = {name: table[part == name].reset_index(drop=True) for name in PARTS}
    for name, rows in parts.items():
        if rows[problem.target].nunique() < 2:
            text = f"{name} has {len(rows)} rows and not two different outcomes, {(part == PURGED).sum()} are purged"
            raise DataError(f"{features.FEATURES}: {text}; change metrics.split or problem.label_delay")
    return parts


def read_locked(problem: Problem, plan: EvaluationPlan) -> tuple[dict[str, pd.DataFrame], LockedHoldout]:
    """Return the open rows, ``train`` and ``validation``, and the holdout, which opens for one fitted model alone."""
    parts = read(problem, plan)
    return parts, LockedHoldout(parts.pop("holdout"))


def candidates(
    params: Params, schema: FeatureSchema, problem: Problem, folds: Folds | None = None
) -> dict[str, BaseEstimator]:
    """Return the unfitted estimators to choose from, by name: the naive one, those of params, the project's own.

    From simple to complex: of those about as good, the first is chosen. ``project.training.candidates`` may add to them or
    replace them; each takes a DataFrame of ``schema.all``, and is a classifier with ``predict_proba``, or a regressor.
    None stops early where a class has too few rows to validate on in one of the `folds`.
    """
    naive = DummyClassifier(strategy="prior") if problem.is_class else DummyRegressor()
    listed = {name: one.estimator(params.seed, schema, problem) for name, one in params.candidates.items()}
    own = hooks.project("training", "candidates", lambda *_: {})(params, schema, problem)
    models = {NAIVE: naive, **listed, **own}
    if folds and folds.rarest < LEAST_STOPPING:
        for model in models.values():
            without_stopping(model)
    return models


def evidence(**tables: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Return what the model card shows beside the scores: ``slices``, ``fairness``, ``tests``, ``policies``, ``prices``."""
    flagged = tables["slices"][lambda table: table["flagged"]].head(10)
    tables["slices"] = flagged[["feature", "group", "rows", "bias", "bias_low", "bias_high", "q"]]
    return {name: gate.tidy(table.to_dict("records")) for name, table in tables.items()}


def describe(chosen: Chosen, evidence: dict[str, Any], params: Params, plan: EvaluationPlan) -> dict[str, Any]:
    """Return the description of the chosen model: how it came about, and how good it is on the holdout."""
    used, split = lineage.of_values(params.model_dump(mode="json")), plan.split.model_dump(exclude={"copies"})
    described = {"model": chosen.name, "calibration": chosen.method, "split": split}
    described |= {"features": artifacts.read_json(f"{features.ONLINE}/online.json")["features"]}
    origin = {"features": lineage.of_folder(features.FEATURES), "params": used}
    return {**described, "holdout": gate.tidy(chosen.results), "evidence": evidence, "lineage": origin}


def save(model: BaseEstimator, description: dict[str, Any], curves: dict[str, pd.DataFrame]) -> None:
    """Write ``models/candidate/`` (model and description), and the curves for ``dvc plots``."""
    folder = artifacts.output(CANDIDATE)
    model_file.dump(model, folder / "model.skops")
    artifacts.write_json(description, folder / "candidate.json")
    for name, curve in curves.items():
        artifacts.write_text(curve.round(6).to_csv(index=False), artifacts.output(f"reports/plots/07_{name}.csv"))


def load() -> tuple[BaseEstimator, dict[str, Any]]:
    """Read the model and the description that `save` wrote."""
    description = artifacts.read_json(f"{CANDIDATE}/candidate.json")
    return model_file.load(artifacts.pending(f"{CANDIDATE}/model.skops")), description


def checks(chosen: Chosen, problem: Problem, plan: EvaluationPlan) -> list[gate.Check]:
    """Return the gate: better than the naive prediction and every baseline policy, by the margins of the plan."""
    name, _, results, floor = chosen
    success, task, improvement = problem.success, problem.task, results["improvement"]["low"]
    metric, gain = RANKING[task], results["gain"]["value"]
    low = results[metric]["low"]
    criteria = []
    for score, limit in success.scores.items():
        check = gate.at_most if MEANING[task][score][0] == "lower" else gate.at_least
        criteria.append(check(f"NF703 holdout {title(score)}", results[score]["value"], limit))
    naive = f"NF702 {title(PRIMARY[task])} below the naive prediction's, lower end of its {plan.level:.0%} interval"
    return [
        gate.holds("NF701 model chosen", name != NAIVE, name, "one that sees features"),
        gate.holds(naive, improvement > 0, improvement, "> 0"),
        *criteria,
        gate.at_least(f"NF704 holdout {title(metric)}, lower end of its interval", low, GUESSING[task]),
        gate.at_least("NF705 gain over the best baseline policy", gain, success.min_payoff_gain),
        gate.holds(f"NF706 gain exceeded with {success.confidence:.0%} confidence", floor > 0, floor, "> 0"),
    ]


def metrics(chosen: Chosen, validation: pd.DataFrame, policies: pd.DataFrame, slices: pd.DataFrame) -> dict[str, Any]:
    """Return the figures of this stage for ``dvc metrics``."""
    counts = {"looked_at": len(slices), "flagged": int(slices["flagged"].sum())}
    by_model, by_policy = (table.set_index(table.columns[0]).to_dict("index") for table in (validation, policies))
    figures = {"model": chosen.name, "calibration": chosen.method, "validation": by_model, "holdout": chosen.results}
    return {**figures, "policies": by_policy, "slices": counts}
