"""Which model, and how good is it on data it never saw (20-30 %)?

Reads: ``data/problem.json``, ``data/metrics.json``, ``data/features/``.
Writes: ``models/candidate/``, the chosen model with its signature; ``reports/plots/07_*.csv`` for ``dvc plots``.
Gate: on the holdout the model beats the naive forecast and every policy without a model, by the agreed margins.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from joblib import parallel_config  # type: ignore[import-untyped]
from pydantic import Field
from sklearn.base import BaseEstimator, clone
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

from ninefold import features
from ninefold import metrics as agreed_metrics
from ninefold.core import decisions, gate, hooks, io, model_file
from ninefold.core.errors import DataError
from ninefold.core.estimators import Blend, Calibrated, WithInterval
from ninefold.core.evaluation import PROPER, proper_score
from ninefold.core.models import Candidate, extra_trees, gradient_boosting, linear
from ninefold.core.params import Section, Text
from ninefold.core.scores import GUESSING, MEANING, RANKING, scores, title

CANDIDATE = "models/candidate"
NAIVE = "no_features"  # the candidate that sees none: whoever does not beat it has learned nothing
BLEND = "blend"  # the mean of the candidates, weighed so that it is best
STEPS = 25  # of the search for its weights: each is a multiple of 1 / STEPS
METHODS = ("none", "sigmoid", "isotonic")
MOST_FOLDED = 20_000  # rows; of more, the validation part alone tells models apart
MOST_CELLS = 1_000_000  # rows times features that are folded, or fitting takes many minutes
LEAST_ISOTONIC = 500  # rows of the rarest class, under which no isotonic calibration is learned
NEGLIGIBLE = 0.002  # of a log loss
LEAST_STOPPING = 20  # rows of the rarest class, under which boosting does not stop early
MOST_SHUFFLED = 300_000  # rows times features that permutation importance predicts at most, per repeat


class Params(Section):
    """Section ``training`` of ``params.yaml``."""

    seed: int = Field(ge=0)
    folds: int = Field(default=5, ge=1, le=20)
    blend: bool = True
    candidates: dict[Text, Candidate] = Field(min_length=1)
    calibration: Literal["auto", "none", "sigmoid", "isotonic"] = "auto"
    interval: float = Field(default=0.9, gt=0.5, lt=1)
    importance_rows: int = Field(ge=100)


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
    part = agreed_metrics.part_of(table, agreed["split"], stated)
    parts = {name: table[part == name].reset_index(drop=True) for name in agreed_metrics.PARTS}
    for name, rows in parts.items():
        if rows[stated["target"]].nunique() < 2:
            raise DataError(
                f"{features.FEATURES}: {name} has {len(rows)} rows and not two different outcomes; change metrics.split"
            )
    return parts


def columns() -> dict[str, list[str]]:
    """Return the model's columns as stage 06 signed them: ``all``, and by kind.

    ``numeric`` (with history), ``categorical``, of these the ``wide`` ones (of many values), ``text``, ``dates``.
    """
    signed = io.read_json(f"{features.ONLINE}/online.json")["features"]
    kinds = {"numeric": ("numeric", "history"), "categorical": ("categorical",), "text": ("text",), "dates": ("date",)}
    by_kind = {name: [each["name"] for each in signed if each["kind"] in those] for name, those in kinds.items()}
    wide = [each["name"] for each in signed if each.get("wide")]
    return {"all": [each["name"] for each in signed], **by_kind, "wide": wide}


def candidates(params: Params, signed: dict[str, list[str]], stated: dict[str, Any]) -> dict[str, BaseEstimator]:
    """Return the unfitted estimators to choose from, by name: the naive one, those of params, the project's own.

    ``project.training.candidates(params, columns, stated)`` may add to them or replace them; each takes a DataFrame of
    the columns ``signed["all"]``, and is a classifier with ``predict_proba`` or a regressor, as the task wants.
    """
    naive = DummyClassifier(strategy="prior") if decisions.is_class(stated) else DummyRegressor()
    make = {"linear": linear, "gradient_boosting": gradient_boosting, "extra_trees": extra_trees}
    listed = {
        name: make[one.model](one.options(), params.seed, signed, stated) for name, one in params.candidates.items()
    }
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

    Where there is time, or plenty of rows: fitted on training, the validation part chooses. Else every open row chooses,
    forecast by a model fitted on the other folds, in which neither an entity nor a class is torn apart.

    Returns
    -------
    rows : DataFrame
        In random order (by time where there is time), so that its halves are alike.
    forecasts : dict of str to DataFrame
        Name -> forecast of those rows.
    """
    whole = pd.concat([parts["train"], parts["validation"]], ignore_index=True)
    large = len(whole) > MOST_FOLDED or len(whole) * len(signed["all"]) > MOST_CELLS
    if stated["time"] or params.folds == 1 or large:
        train, rows = parts["train"], parts["validation"]
        fitted = {name: fit(model, train, signed, stated) for name, model in estimators.items()}
        forecasts = {name: predict(model, rows, signed, stated) for name, model in fitted.items()}
    else:
        rows, folds = whole, list(_folds(whole, params, stated))
        forecasts = {name: _out_of_fold(model, whole, folds, signed, stated) for name, model in estimators.items()}
    if stated["time"]:
        return rows, forecasts
    shuffled = np.random.default_rng(params.seed).permutation(len(rows))
    return rows.iloc[shuffled].reset_index(drop=True), {
        name: forecast.iloc[shuffled].reset_index(drop=True) for name, forecast in forecasts.items()
    }


def fit(
    model: BaseEstimator, rows: pd.DataFrame, signed: dict[str, list[str]], stated: dict[str, Any]
) -> BaseEstimator:
    """Return a copy of the model, fitted on the rows; trees grow side by side on all cores."""
    fresh, target = clone(model), rows[stated["target"]]
    for each in getattr(fresh, "models", [fresh]):
        stopping = [name for name in each.get_params() if name.endswith("classifier__early_stopping")]
        if stopping and target.value_counts().min() < LEAST_STOPPING:
            each.set_params(**dict.fromkeys(stopping, False))  # some rows of each class have to be held out for it
    with parallel_config(backend="threading", n_jobs=-1):
        return fresh.fit(rows[signed["all"]], target)


def predict(
    model: BaseEstimator, rows: pd.DataFrame, signed: dict[str, list[str]], stated: dict[str, Any]
) -> pd.DataFrame:
    """Return the forecast of a fitted model, a row per row.

    A regressor that has no intervals yet is taken at its word: low, high and quantile are its prediction.
    """
    X, names = rows[signed["all"]], decisions.forecast_columns(stated)
    if decisions.is_class(stated):
        p = np.zeros((len(rows), len(stated["classes"])))
        p[:, np.asarray(model.classes_, dtype=int)] = model.predict_proba(X)
        return pd.DataFrame(p[:, 1:] if stated["task"] == "binary" else p, columns=names)
    if isinstance(model, WithInterval):
        return model.forecast(X)
    value = np.asarray(model.predict(X), dtype="float64")
    return pd.DataFrame({name: 0.0 if name == "loss" else value for name in names})


def blend(
    estimators: dict[str, BaseEstimator],
    rows: pd.DataFrame,
    forecasts: dict[str, pd.DataFrame],
    params: Params,
    stated: dict[str, Any],
) -> tuple[dict[str, BaseEstimator], dict[str, pd.DataFrame]]:
    """Return the candidates, and their forecasts, with their best weighted mean added as one more: ``blend``.

    Forward selection with replacement (Caruana et al., Ensemble Selection from Libraries of Models, 2004) by the proper
    score on the rows that choose: models are added, the best one first, as long as the mean gets better.
    """
    names = [name for name in forecasts if name != NAIVE]
    if not params.blend or len(names) < 2:
        return estimators, forecasts
    target, columns = rows[stated["target"]].to_numpy(), decisions.forecast_columns(stated)
    values = {name: forecasts[name].to_numpy("float64") for name in names}
    taken: list[str] = []
    least = np.inf
    while len(taken) < STEPS:
        tried = {
            name: proper_score(
                target,
                pd.DataFrame(sum(values[one] for one in [*taken, name]) / (len(taken) + 1), columns=columns),
                stated,
            )
            for name in names
        }
        best = min(tried, key=lambda name: tried[name])
        if tried[best] >= least:
            break
        taken, least = [*taken, best], tried[best]
    weights = {name: taken.count(name) / len(taken) for name in names if name in taken}
    if len(weights) < 2:
        return estimators, forecasts
    mean = sum(weight * values[name] for name, weight in weights.items())
    mixed = Blend([estimators[name] for name in weights], list(weights.values()))
    return {**estimators, BLEND: mixed}, {**forecasts, BLEND: pd.DataFrame(mean, columns=columns)}


def compare(rows: pd.DataFrame, forecasts: dict[str, pd.DataFrame], stated: dict[str, Any]) -> pd.DataFrame:
    """Return the scores of every candidate on rows it had not seen: ``model``, a column per metric, ``payoff`` per row."""
    target = rows[stated["target"]].to_numpy()
    table = []
    for name, predicted in forecasts.items():
        paid = decisions.payoff(decisions.decide(predicted, stated)["action"], target, stated).mean()
        table.append({"model": name, **scores(target, predicted, stated), "payoff": paid})
    return pd.DataFrame(table)


def choose(table: pd.DataFrame, agreed: dict[str, Any]) -> str:
    """Return the name of the model that is best by the agreed metric; the blend only if it is better than by a hair."""
    ranked, lower = table.set_index("model")[agreed["primary"]["name"]], agreed["primary"]["better"] == "lower"
    single = ranked.drop(BLEND, errors="ignore")
    best = str(single.idxmin() if lower else single.idxmax())
    if BLEND in ranked and abs(ranked[BLEND] - ranked[best]) > NEGLIGIBLE * abs(ranked[best]):
        return BLEND if (ranked[BLEND] < ranked[best]) == lower else best
    return best


def compare_adjustments(
    predicted: pd.DataFrame, rows: pd.DataFrame, params: Params, stated: dict[str, Any]
) -> pd.DataFrame:
    """Return how well each way to set a forecast right does: learned on the first half of the rows, scored on the second.

    Classes: ``calibration``, ``log_loss``, ``brier``, ``mean`` of the forecast and ``observed``. Regression:
    ``interval`` (as it stands, and from past errors), the share of outcomes that it ``holds``, its mean ``width``.
    """
    half, target = len(rows) // 2, rows[stated["target"]].to_numpy()
    first, second = predicted.iloc[:half], predicted.iloc[half:]
    table = []
    if decisions.is_class(stated):
        p, later = decisions.probabilities(first, stated), target[half:]
        for method in METHODS:
            mapped = _mapped(method, p, target[:half], second, stated)
            found = scores(later, mapped, stated)
            mean = decisions.expected(mapped, stated).mean()
            table.append({"calibration": method, **{key: found[key] for key in ("log_loss", "brier")}, "mean": mean})
        return pd.DataFrame(table).assign(observed=decisions.event(later, stated).mean())
    model = _with_interval(None, params, stated).fit_errors(first["prediction"].to_numpy(), target[:half])
    for name, ends in {"none": second, "conformal": model.around(second["prediction"].to_numpy())}.items():
        held = ((target[half:] >= ends["low"]) & (target[half:] <= ends["high"])).mean()
        table.append({"interval": name, "holds": held, "width": (ends["high"] - ends["low"]).mean()})
    return pd.DataFrame(table)


def choose_adjustment(table: pd.DataFrame, rows: pd.DataFrame, params: Params, stated: dict[str, Any]) -> str:
    """Return the calibration that params ask for, for quantities ``conformal``.

    ``auto``: the simplest of those whose log loss is nearly the least; steps (isotonic) only where each class has enough
    rows.
    """
    if not decisions.is_class(stated):
        return "conformal"
    if params.calibration != "auto":
        return params.calibration
    rarest = int(rows[stated["target"]].value_counts().min())
    found = table.set_index("calibration")["log_loss"]
    # Steps follow chance where events are few, and a map that wins by a hair won by chance: the simpler one is taken.
    best = found.drop("isotonic" if rarest < LEAST_ISOTONIC else []).min()
    return next(name for name in METHODS if found[name] <= best * (1 + NEGLIGIBLE))


def finish(
    estimator: BaseEstimator,
    method: str,
    predicted: pd.DataFrame,
    rows: pd.DataFrame,
    parts: dict[str, pd.DataFrame],
    signed: dict[str, list[str]],
    params: Params,
    stated: dict[str, Any],
) -> BaseEstimator:
    """Return the chosen model, fitted on all open rows, training and validation, and set right by its unseen forecasts.

    Parameters
    ----------
    estimator : estimator
        Unfitted.
    method : str
        What `choose_adjustment` returned.
    predicted, rows : DataFrame
        What `validate` returned: forecasts by models that had not seen the rows.
    """
    model = fit(estimator, pd.concat([parts["train"], parts["validation"]], ignore_index=True), signed, stated)
    target = rows[stated["target"]].to_numpy()
    if not decisions.is_class(stated):
        return _with_interval(model, params, stated).fit_errors(predicted["prediction"].to_numpy(), target)
    if method == "none":
        return model
    return Calibrated(model, method).fit_map(decisions.probabilities(predicted, stated), target)


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
        return scores(y.to_numpy(), predict(fitted, X, signed, stated), stated)[metric]

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


def save(
    model: BaseEstimator,
    name: str,
    method: str,
    drawn: dict[str, pd.DataFrame],
    results: dict[str, dict[str, float]],
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
    proper, ranking, level = title(PROPER[task]), RANKING[task], agreed["bootstrap"]["level"]
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
    name: str, method: str, validation: pd.DataFrame, results: dict[str, dict[str, float]], table: pd.DataFrame
) -> dict[str, Any]:
    """Return the figures of this stage for ``dvc metrics``."""
    return {
        "model": name,
        "calibration": method,
        "validation": validation.set_index("model").to_dict("index"),
        "holdout": results,
        "policies": table.set_index("policy").to_dict("index"),
    }


def _folds(rows: pd.DataFrame, params: Params, stated: dict[str, Any]) -> Any:
    """Return the folds: no entity in two of them, every class in each that has enough rows."""
    group = rows.groupby(stated["group"], dropna=False).ngroup() if stated["group"] else None
    count = min(params.folds, len(rows) if group is None else group.nunique())
    if decisions.is_class(stated):
        count = max(2, min(count, rows[stated["target"]].value_counts().min()))
    if decisions.is_class(stated):
        kind = StratifiedKFold if group is None else StratifiedGroupKFold
        return kind(count, shuffle=True, random_state=params.seed).split(rows, rows[stated["target"]], group)
    split = KFold(count, shuffle=True, random_state=params.seed) if group is None else GroupKFold(count)
    return split.split(rows, groups=group)


def _out_of_fold(
    model: BaseEstimator,
    rows: pd.DataFrame,
    folds: list[tuple[np.ndarray, np.ndarray]],
    signed: dict[str, list[str]],
    stated: dict[str, Any],
) -> pd.DataFrame:
    found = []
    for others, fold in folds:
        fitted = fit(model, rows.iloc[others], signed, stated)
        found.append(predict(fitted, rows.iloc[fold], signed, stated).set_axis(fold))
    return pd.concat(found).sort_index()


def _mapped(
    method: str, p: np.ndarray, target: np.ndarray, later: pd.DataFrame, stated: dict[str, Any]
) -> pd.DataFrame:
    """Return a forecast set right by a map that was learned from `p` and `target`."""
    if method == "none" or len(np.unique(target)) < 2:  # of one class there is nothing to learn
        return later
    adjusted = Calibrated(None, method).fit_map(p, target).adjust(decisions.probabilities(later, stated))
    values = adjusted[:, 1:] if stated["task"] == "binary" else adjusted
    return pd.DataFrame(values, columns=decisions.forecast_columns(stated))


def _with_interval(model: BaseEstimator | None, params: Params, stated: dict[str, Any]) -> WithInterval:
    return WithInterval(model, level=params.interval, **stated["costs"])
