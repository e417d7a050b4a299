"""Which model, and how good is it on data it never saw (20-30 %)?

Reads: ``data/problem.json``, ``data/metrics.json``, ``data/features/``.
Writes: ``models/candidate/``, the chosen model with its signature; ``reports/plots/07_*.csv`` for ``dvc plots``.
Gate: on the holdout the model beats the naive forecast and every policy without a model, by the agreed margins.
"""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
import sklearn
from pydantic import Field, model_validator
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.inspection import permutation_importance

from ninefold import features
from ninefold import metrics as agreed_metrics
from ninefold.core import decisions, explanation, fitting, gate, hooks, io, lineage, model_file, models, search
from ninefold.core.adjustment import Method
from ninefold.core.errors import DataError
from ninefold.core.fitting import FOLD, Fold
from ninefold.core.holdout import Sealed
from ninefold.core.models import SPACES, Candidate
from ninefold.core.params import Duration, Name, Section, Text
from ninefold.core.scores import GUESSING, MEANING, PRIMARY, RANKING, one_score, scores, title
from ninefold.core.search import Range, Search
from ninefold.core.selection import NAIVE

CANDIDATE = "models/candidate"
MEMORY = "models/.search"  # what searches have tried, a file each; no output of the stage: it only saves time
TRIALS = "dvclive"  # where DVCLive logs them
MOST_FOLDED = 20_000  # rows without time; of more, the validation part alone tells models apart
MOST_CELLS = 1_000_000  # rows times features that are folded where there is no time, or fitting takes many minutes
MOST_SHUFFLED = 150_000  # rows times features that permutation importance predicts at most, per repeat
RUNGS = (
    (50_000, (1,)),
    (200_000, (1 / 3, 1)),
    (np.inf, (1 / 9, 1 / 3, 1)),
)  # rows fitted -> shares that a search takes
SHARES = (0.125, 0.25, 0.5)  # of the rows, for the learning curve, beside all
EXPLAINED = 3  # decisions
BACKGROUND = 100  # rows to which they are compared


class Params(Section):
    """Section ``training`` of ``params.yaml``."""

    seed: int = Field(ge=0)
    folds: int = Field(default=5, ge=1, le=20)
    gap: Duration = "1d"
    blend: bool = True
    candidates: dict[Text, Candidate] = Field(min_length=1)
    search: Search = Search()
    backend: Literal["local", "dask"] = "local"
    scheduler: Text | None = None
    calibration: Literal["auto"] | Method = "auto"
    interval: float = Field(default=0.9, gt=0.5, lt=1)
    importance_rows: int = Field(ge=100)
    protected: list[Name] = Field(default_factory=list)

    @model_validator(mode="after")
    def _spaces(self) -> Params:
        for name, options in self.search.space.items():
            if name not in self.candidates:
                raise ValueError(f"search.space of candidates, which are {', '.join(self.candidates)}; found {name}")
            known = SPACES[self.candidates[name].model]
            for option, (low, high) in options.items():
                if option not in known:
                    raise ValueError(f"search.space.{name}: options of {', '.join(known)}; found {option}")
                if not low < high:
                    raise ValueError(f"search.space.{name}.{option}: [lower, higher]; found [{low:g}, {high:g}]")
        return self


def read(stated: dict[str, Any], agreed: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """Return the labelled feature rows by part of the split: ``train``, ``validation``, ``holdout``.

    Raises
    ------
    DataError
        If a part is empty, or holds only one class.
    """
    table = features.load()
    table = table.dropna(subset=[name for name in (stated["target"], stated["time"]) if name])
    if decisions.is_class(stated):
        table = table.astype({stated["target"]: "int64"})
    return split(table, agreed["split"], stated)


def split(table: pd.DataFrame, agreed_split: dict[str, Any], stated: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """Return labelled rows by part: ``train``, ``validation``, ``holdout``.

    Raises
    ------
    DataError
        If a part is empty, or holds only one class.
    """
    part = agreed_metrics.part_of(table, agreed_split, stated)
    parts = {name: table[part == name].reset_index(drop=True) for name in agreed_metrics.PARTS}
    for name, rows in parts.items():
        if rows[stated["target"]].nunique() < 2:
            raise DataError(
                f"{features.FEATURES}: {name} has {len(rows)} rows and not two different outcomes; change metrics.split"
            )
    return parts


def read_sealed(stated: dict[str, Any], agreed: dict[str, Any]) -> tuple[dict[str, pd.DataFrame], Sealed]:
    """Return the open rows, ``train`` and ``validation``, and the holdout, which opens for one fitted model alone."""
    parts = read(stated, agreed)
    return parts, Sealed(parts.pop("holdout"), stated["time"])


def columns() -> dict[str, list[str]]:
    """Return the model's columns as stage 06 signed them: ``all``, and by kind.

    ``numeric`` (with history), ``categorical``, of these the ``wide`` ones (of many values), ``text``, ``dates``.
    """
    signed = io.read_json(f"{features.ONLINE}/online.json")["features"]
    kinds = {"numeric": ("numeric", "history"), "categorical": ("categorical",), "text": ("text",), "dates": ("date",)}
    by_kind = {name: [each["name"] for each in signed if each["kind"] in those] for name, those in kinds.items()}
    wide = [each["name"] for each in signed if each.get("wide")]
    return {"all": [each["name"] for each in signed], **by_kind, "wide": wide}


def folded(
    parts: dict[str, pd.DataFrame], signed: dict[str, list[str]], params: Params, stated: dict[str, Any]
) -> tuple[pd.DataFrame, list[Fold]]:
    """Return all open rows, and the folds in which models are compared.

    Where there is time, each fold is forecast by what came before it, and the validation part is the last. Else every row
    is forecast by models fitted on the other folds; of plenty of rows the validation part by those of training.
    """
    rows = pd.concat([parts["train"], parts["validation"]], ignore_index=True)
    newest = len(parts["validation"])
    if stated["time"]:
        folds = fitting.by_time(rows, newest, params.folds, pd.Timedelta(params.gap), stated)
        if folds:
            return rows, folds
    elif params.folds > 1 and len(rows) <= MOST_FOLDED and len(rows) * len(signed["all"]) <= MOST_CELLS:
        return rows, fitting.at_random(rows, params.folds, params.seed, stated)
    positions = np.arange(len(rows))
    return rows, [Fold(positions[:-newest], positions[-newest:])]


def tune(
    parts: dict[str, pd.DataFrame],
    signed: dict[str, list[str]],
    params: Params,
    stated: dict[str, Any],
    agreed: dict[str, Any],
) -> tuple[Params, pd.DataFrame]:
    """Return the params with the options that a search found for their candidates, and what it tried.

    A search that was killed, or has got a larger budget, goes on where it was, by a file in ``models/.search``; DVCLive
    logs every trial in ``dvclive``. The project's own candidates keep their options.

    Returns
    -------
    params : Params
        The same, if ``training.search.budget`` is 0.
    trials : DataFrame
        See `search.table`; empty without a search.
    """
    if params.search.budget == 0:
        return params, search.table([], 1, 1)
    rows, folds = folded(parts, signed, params, stated)
    fitted = sum(len(fold.fitted) for fold in folds)
    shares = next(shares for most, shares in RUNGS if fitted <= most)
    sign = 1 if agreed["primary"]["better"] == "lower" else -1
    task = (params, rows, [_rung(folds, share, stated) for share in shares], signed, stated, agreed)
    spaces = {name: _space(name, params) for name in params.candidates}
    given = {name: one.options() for name, one in params.candidates.items()}
    with search.workers(params.backend, params.scheduler), search.logged(TRIALS, sign) as tell:
        trials = search.search(
            spaces,
            given,
            partial(_score, task),
            budget=params.search.budget,
            rungs=len(shares),
            seed=params.seed,
            memory=io.path(f"{MEMORY}/{_identity(task)}.json"),
            tell=tell,
        )
    found = search.best(trials, len(shares))
    better = {name: Candidate(model=one.model, **found[name]) for name, one in params.candidates.items()}
    return params.model_copy(update={"candidates": better}), search.table(trials, len(shares), sign)


def tried(trials: pd.DataFrame, compared: pd.DataFrame, agreed: dict[str, Any]) -> pd.DataFrame:
    """Return what ``dvc plots`` shows of a search: ``trial``, ``score``, ``best``; without one, of the candidates."""
    if not trials.empty:
        return trials[["trial", "score", "best"]].dropna()
    score = compared[agreed["primary"]["name"]]
    best = score.cummin() if agreed["primary"]["better"] == "lower" else score.cummax()
    return pd.DataFrame({"trial": range(len(score)), "score": score, "best": best})


def candidates(params: Params, signed: dict[str, list[str]], stated: dict[str, Any]) -> dict[str, BaseEstimator]:
    """Return the unfitted estimators to choose from, by name: the naive one, those of params, the project's own.

    They stand from simple to complex: of those that are about as good, the first is chosen.
    ``project.training.candidates(params, columns, stated)`` may add to them or replace them; each takes a DataFrame of
    the columns ``signed["all"]``, and is a classifier with ``predict_proba`` or a regressor, as the task wants.
    """
    naive = DummyClassifier(strategy="prior") if decisions.is_class(stated) else DummyRegressor()
    listed = {name: one.estimator(params.seed, signed, stated) for name, one in params.candidates.items()}
    own = hooks.project("training", "candidates", lambda *_: {})(params, signed, stated)
    return {NAIVE: naive, **listed, **own}


def validate(
    estimators: dict[str, BaseEstimator],
    parts: dict[str, pd.DataFrame],
    signed: dict[str, list[str]],
    params: Params,
    stated: dict[str, Any],
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Return rows that choose, and what every candidate, fitted on other rows, forecasts for them.

    Returns
    -------
    rows : DataFrame
        With ``@fold``. By time where there is time, else in random order, so that their halves are alike.
    forecasts : dict of str to DataFrame
        Name -> forecast of those rows.
    """
    whole, folds = folded(parts, signed, params, stated)
    rows = fitting.unseen(whole, folds)
    forecasts = {name: fitting.forecast(model, whole, folds, signed, stated) for name, model in estimators.items()}
    if stated["time"]:
        return rows, forecasts
    shuffled = np.random.default_rng(params.seed).permutation(len(rows))
    return rows.iloc[shuffled].reset_index(drop=True), {
        name: forecast.iloc[shuffled].reset_index(drop=True) for name, forecast in forecasts.items()
    }


def newest(rows: pd.DataFrame, predicted: pd.DataFrame, stated: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what a forecast is set right by: rows and forecast of the last fold where there is time, else all."""
    if not stated["time"]:
        return rows, predicted
    last = (rows[FOLD] == rows[FOLD].max()).to_numpy()
    return rows[last].reset_index(drop=True), predicted[last].reset_index(drop=True)


def finish(
    estimator: BaseEstimator, parts: dict[str, pd.DataFrame], signed: dict[str, list[str]], stated: dict[str, Any]
) -> BaseEstimator:
    """Return the chosen model, fitted on all open rows, training and validation."""
    return fitting.fit(estimator, pd.concat([parts["train"], parts["validation"]], ignore_index=True), signed, stated)


def learning_curve(
    estimator: BaseEstimator,
    chosen: pd.DataFrame,
    predicted: pd.DataFrame,
    parts: dict[str, pd.DataFrame],
    signed: dict[str, list[str]],
    params: Params,
    stated: dict[str, Any],
    agreed: dict[str, Any],
) -> pd.DataFrame:
    """Return the agreed metric on the last fold by how many rows the model is fitted on: ``rows``, ``score``.

    Where there is time the newest rows before the fold are taken, else random ones. `chosen` and `predicted` are what
    `validate` returned: with all rows the fold has been forecast already.
    """
    rows, folds = folded(parts, signed, params, stated)
    metric, target, found = agreed["primary"]["name"], rows[stated["target"]], []
    for fold in fitting.growing(folds[-1], SHARES, params.seed, stated):
        if target.iloc[fold.fitted].nunique() > 1:
            said = fitting.forecast(estimator, rows, [fold], signed, stated)
            found.append((len(fold.fitted), one_score(metric, target.to_numpy()[fold.unseen], said, stated)))
    last = (chosen[FOLD] == chosen[FOLD].max()).to_numpy()
    whole = one_score(metric, chosen.loc[last, stated["target"]].to_numpy(), predicted[last], stated)
    return pd.DataFrame([*found, (len(folds[-1].fitted), whole)], columns=["rows", "score"])


def importance(
    model: BaseEstimator, rows: pd.DataFrame, signed: dict[str, list[str]], stated: dict[str, Any], params: Params
) -> pd.DataFrame:
    """Return, per feature, by how much the ranking falls when its values are shuffled: ``feature``, ``loss``, ``std``.

    Permutation importance (Breiman, 2001) on at most `params.importance_rows` rows, of the score that
    `scores.RANKING` names. Features that carry the same information share it: a low value does not mean that a feature is
    of no use.
    """
    most = max(MOST_SHUFFLED // len(signed["all"]), 500)
    sample = rows.sample(min(len(rows), params.importance_rows, most), random_state=params.seed)
    metric = RANKING[stated["task"]]

    def ranking(fitted: BaseEstimator, X: pd.DataFrame, y: pd.Series) -> float:
        return one_score(metric, y.to_numpy(), fitting.predict(fitted, X, signed, stated), stated)

    found = permutation_importance(
        model, sample[signed["all"]], sample[stated["target"]], scoring=ranking, n_repeats=3, random_state=params.seed
    )
    table = pd.DataFrame({"feature": signed["all"], "loss": found.importances_mean, "std": found.importances_std})
    return table.sort_values("loss", ascending=False, ignore_index=True)


def by_group(
    holdout: pd.DataFrame,
    predicted: pd.DataFrame,
    signed: dict[str, list[str]],
    stated: dict[str, Any],
    least: int = 30,
) -> pd.DataFrame:
    """Return how well the model ranks within groups of at least `least` rows, worst first: ``group``, ``rows``, the score.

    The groups are the values of the first categorical feature, or quarters of the first number.
    """
    name, metric = [*signed["categorical"], *signed["numeric"], stated["target"]][0], RANKING[stated["task"]]
    values = holdout[name]
    if name not in signed["categorical"]:
        quarters = ["lowest quarter", "second", "third", "highest quarter"]
        values = pd.cut(values.rank(method="first", pct=True), np.linspace(0, 1, 5), labels=quarters)
    target, rows = holdout[stated["target"]].to_numpy(), []
    for group, index in holdout.groupby(values, observed=True).indices.items():
        if len(index) >= least and len(np.unique(target[index])) > 1:
            found = scores(target[index], predicted.iloc[index].reset_index(drop=True), stated)[metric]
            rows.append((f"{name}: {group}", len(index), found))
    return pd.DataFrame(rows, columns=["group", "rows", metric]).sort_values(metric, ignore_index=True)


def explained(
    model: BaseEstimator,
    holdout: pd.DataFrame,
    predicted: pd.DataFrame,
    parts: dict[str, pd.DataFrame],
    signed: dict[str, list[str]],
    params: Params,
    stated: dict[str, Any],
) -> pd.DataFrame:
    """Return what each feature adds to the forecast of three rows: the lowest, the median and the highest; see `explanation`."""
    order = np.argsort(decisions.expected(predicted, stated), kind="stable")
    rows = holdout.iloc[order[[0, len(order) // 2, -1]]].reset_index(drop=True)
    background = parts["train"].sample(min(BACKGROUND, len(parts["train"])), random_state=params.seed)

    def said(frame: pd.DataFrame) -> np.ndarray:
        return decisions.expected(fitting.predict(model, frame, signed, stated), stated)

    return explanation.explain(
        said, rows[signed["all"]], background[signed["all"]], signed["all"], params.seed, dates=signed["dates"]
    )


def evidence(
    sliced: pd.DataFrame, unequal: pd.DataFrame, tests: pd.DataFrame, policies: pd.DataFrame, prices: pd.DataFrame
) -> dict[str, list[dict[str, Any]]]:
    """Return what the model card says beside the scores: ``slices``, ``fairness``, ``tests``, ``policies``, ``prices``."""
    flagged = sliced.loc[sliced["flagged"], ["feature", "group", "rows", "bias", "bias_low", "bias_high", "q"]].head(10)
    tables = {"slices": flagged, "fairness": unequal, "tests": tests, "policies": policies, "prices": prices}
    return {name: gate.tidy(table.to_dict("records")) for name, table in tables.items()}


def save(
    model: BaseEstimator,
    name: str,
    method: str,
    drawn: dict[str, pd.DataFrame],
    results: dict[str, dict[str, float]],
    found: dict[str, Any],
    params: Params,
    agreed: dict[str, Any],
) -> None:
    """Write ``models/candidate/`` (model and description), and the curves for ``dvc plots``."""
    folder = io.output(CANDIDATE)
    model_file.dump(model, folder / "model.skops")
    described = {
        "model": name,
        "calibration": method,
        "split": {key: value for key, value in agreed["split"].items() if key != "edges"},
        "features": io.read_json(f"{features.ONLINE}/online.json")["features"],
        "holdout": gate.tidy(results),
        "evidence": found,
        "lineage": {
            "features": lineage.of_folder(features.FEATURES),
            "params": lineage.of_values(params.model_dump(mode="json")),
        },
    }
    io.write_json(described, folder / "candidate.json")
    for plot, curve in drawn.items():
        io.write_text(curve.round(6).to_csv(index=False), io.output(f"reports/plots/07_{plot}.csv"))


def load() -> tuple[BaseEstimator, dict[str, Any]]:
    """Read the model and the description that `save` wrote."""
    return model_file.load(io.pending(f"{CANDIDATE}/model.skops")), io.read_json(f"{CANDIDATE}/candidate.json")


def beats_naive(name: str, results: dict[str, dict[str, float]], floor: float) -> bool:
    """Return whether the model is surely better than the naive forecast, and than the best policy without a model."""
    return name != NAIVE and results["improvement"]["low"] > 0 and floor > 0


def checks(
    name: str, results: dict[str, dict[str, float]], floor: float, stated: dict[str, Any], agreed: dict[str, Any]
) -> list[gate.Check]:
    """Return the gate: better than the naive forecast, earns more than every policy without a model, by the margins."""
    success, task = stated["success"], stated["task"]
    proper, ranking, level = title(PRIMARY[task]), RANKING[task], agreed["bootstrap"]["level"]
    criteria = [
        (gate.at_most if MEANING[task][metric][0] == "lower" else gate.at_least)(
            f"holdout {title(metric)}", results[metric]["value"], limit
        )
        for metric, limit in success["scores"].items()
    ]
    return [
        gate.holds("model chosen", name != NAIVE, name, "one that sees features"),
        gate.holds(
            f"{proper} below the naive forecast's, lower end of its {level:.0%} interval",
            results["improvement"]["low"] > 0, results["improvement"]["low"], "> 0",
        ),
        *criteria,
        gate.at_least(
            f"holdout {title(ranking)}, lower end of its interval", results[ranking]["low"], GUESSING[task]
        ),
        gate.at_least(
            "gain over the best policy without a model", results["gain"]["value"], success["min_payoff_gain"]
        ),
        gate.holds(f"gain exceeded with {success['confidence']:.0%} confidence", floor > 0, floor, "> 0"),
    ]  # fmt: skip


def metrics(
    name: str,
    method: str,
    validation: pd.DataFrame,
    results: dict[str, dict[str, float]],
    table: pd.DataFrame,
    sliced: pd.DataFrame,
) -> dict[str, Any]:
    """Return the figures of this stage for ``dvc metrics``."""
    return {
        "model": name,
        "calibration": method,
        "validation": validation.set_index("model").to_dict("index"),
        "holdout": results,
        "policies": table.set_index("policy").to_dict("index"),
        "slices": {"looked_at": len(sliced), "flagged": int(sliced["flagged"].sum())},
    }


def _rung(folds: list[Fold], share: float, stated: dict[str, Any]) -> list[Fold]:
    """Return the folds of one step of a search: all rows of all, or a share, where there is time of the last fold alone."""
    if share == 1:
        return folds
    return fitting.thinned(folds[-1:] if stated["time"] else folds, share)


def _score(task: tuple[Any, ...], name: str, options: dict[str, Any], rung: int) -> float:
    """Return the agreed metric of a candidate with some options, on the rows of a rung; lower is better."""
    params, rows, rungs, signed, stated, agreed = task
    estimator = Candidate(model=params.candidates[name].model, **options).estimator(params.seed, signed, stated)
    predicted = fitting.forecast(estimator, rows, rungs[rung], signed, stated, cores=1)
    target = fitting.unseen(rows, rungs[rung])[stated["target"]].to_numpy()
    value = one_score(agreed["primary"]["name"], target, predicted, stated)
    return float(f"{value if agreed['primary']['better'] == 'lower' else -value:.8g}")


def _space(name: str, params: Params) -> dict[str, Range]:
    """Return where the options of a candidate are searched: the usual ranges, or those that params give."""
    given = params.search.space.get(name, {})
    found = {}
    for option, usual in SPACES[params.candidates[name].model].items():
        low, high = given.get(option, (usual.low, usual.high))
        whole = isinstance(usual.low, int) and isinstance(usual.high, int)
        found[option] = Range(int(low), int(high), usual.log) if whole else Range(low, high, usual.log)
    return found


def _identity(task: tuple[Any, ...]) -> str:
    """Return what tells one search from any other: of all but its budget, and the machines it runs on."""
    params, rows, rungs, signed, stated, agreed = task
    asked = params.model_dump(
        mode="json", include={"seed": True, "folds": True, "gap": True, "candidates": True, "search": {"space"}}
    )
    hashed = pd.util.hash_pandas_object(rows[[*signed["all"], stated["target"]]], index=False)
    content = hashlib.sha256(hashed.to_numpy().tobytes()).hexdigest()
    sizes = [[len(part) for fold in folds for part in fold] for folds in rungs]
    code = hooks.digest(models, fitting, search)
    facts = [asked, content, sizes, stated["task"], agreed["primary"], code, sklearn.__version__]
    return lineage.of_values(facts)
