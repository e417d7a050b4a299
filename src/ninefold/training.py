"""Which model, and how good is it on data it never saw (20-30 %)?

Reads: ``data/problem.json``, ``data/metrics.json``, ``data/features/``.
Writes: ``models/candidate/``, the chosen model with its signature; ``reports/plots/07_*.csv`` for ``dvc plots``.
Gate: on the holdout the model beats every policy without a model by the agreed margin, and ranks well enough.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pandas.api.typing import DataFrameGroupBy
from pydantic import Field
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from ninefold import features, problem
from ninefold import metrics as agreed_metrics
from ninefold.core import gate, hooks, io, model_file, plots
from ninefold.core.errors import DataError
from ninefold.core.params import Section

CANDIDATE = "models/candidate"
METHODS = ("none", "sigmoid", "isotonic")


class Logistic(Section):
    """Logistic regression on scaled numbers and one-hot categories."""

    C: float = Field(gt=0)
    rare: int = Field(ge=1)


class Boosting(Section):
    """Histogram gradient boosting, with native categories and missing values."""

    learning_rate: float = Field(gt=0, le=1)
    max_iter: int = Field(ge=1, le=10_000)
    max_leaf_nodes: int = Field(ge=2)
    min_samples_leaf: int = Field(ge=1)
    l2_regularization: float = Field(ge=0)


class Params(Section):
    """Section ``training`` of ``params.yaml``."""

    seed: int = Field(ge=0)
    logistic_regression: Logistic
    gradient_boosting: Boosting
    calibration: Literal["auto", "none", "sigmoid", "isotonic"]
    importance_rows: int = Field(ge=100)


def read(stated: dict[str, Any], agreed: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """Return the labelled feature rows by part of the split: ``train``, ``validation``, ``holdout``.

    Raises
    ------
    DataError
        If a part is empty, or holds only one outcome.
    """
    table = features.load()
    table = table[table[stated["target"]].notna()].astype({stated["target"]: "int64"})
    part = agreed_metrics.part_of(table[stated["time"]], agreed["split"])
    parts = {name: table[part == name].reset_index(drop=True) for name in agreed_metrics.PARTS}
    for name, rows in parts.items():
        if rows[stated["target"]].nunique() < 2:
            raise DataError(
                f"{features.FEATURES}: {name} has {len(rows)} rows and not both outcomes; change metrics.split"
            )
    return parts


def columns() -> dict[str, list[str]]:
    """Return the model's columns by kind, as stage 06 signed them: ``all``, ``numeric`` (with history), ``categorical``."""
    signed = io.read_json(f"{features.ONLINE}/online.json")["features"]
    categorical = [column["name"] for column in signed if column["kind"] == "categorical"]
    names = [column["name"] for column in signed]
    return {"all": names, "numeric": [name for name in names if name not in categorical], "categorical": categorical}


def candidates(params: Params, signed: dict[str, list[str]]) -> dict[str, BaseEstimator]:
    """Return the unfitted estimators to choose from, by name: a baseline, the built-in ones, and the project's own.

    ``project.training.candidates(params, columns)`` may add to them or replace them; each takes a DataFrame of the
    columns ``signed["all"]`` and has ``predict_proba``.
    """
    built_in = {
        "share_of_events": DummyClassifier(strategy="prior"),
        "logistic_regression": logistic_regression(params, signed),
        "gradient_boosting": gradient_boosting(params, signed),
    }
    return {**built_in, **hooks.project("training", "candidates", lambda *_: {})(params, signed)}


def logistic_regression(params: Params, signed: dict[str, list[str]]) -> Pipeline:
    """Return logistic regression: gaps filled by the median and marked, numbers scaled, rare categories pooled."""
    options = params.logistic_regression
    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    categories = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=options.rare)
    encode = ColumnTransformer(
        [("numbers", numbers, signed["numeric"]), ("categories", categories, signed["categorical"])]
    )
    return make_pipeline(encode, LogisticRegression(C=options.C, max_iter=500))


def gradient_boosting(params: Params, signed: dict[str, list[str]]) -> Pipeline:
    """Return gradient boosting on histograms: categories as codes, unknown ones and gaps as missing."""
    codes = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,
        encoded_missing_value=np.nan,
        max_categories=250,  # the model takes at most 255
    )
    encode = ColumnTransformer(
        [("categories", codes, signed["categorical"]), ("numbers", "passthrough", signed["numeric"])]
    )
    model = HistGradientBoostingClassifier(
        **params.gradient_boosting.model_dump(),
        categorical_features=list(range(len(signed["categorical"]))),
        early_stopping=False,  # it would hold out random rows, and time is not random
        random_state=params.seed,
    )
    return make_pipeline(encode, model)


def fit(
    estimators: dict[str, BaseEstimator], train: pd.DataFrame, signed: dict[str, list[str]], stated: dict[str, Any]
) -> dict[str, BaseEstimator]:
    """Fit every estimator on the training rows; return them by name."""
    return {name: model.fit(train[signed["all"]], train[stated["target"]]) for name, model in estimators.items()}


def probability(model: BaseEstimator, rows: pd.DataFrame, signed: dict[str, list[str]]) -> np.ndarray:
    """Return the probability of the event per row: float64, shape (n,)."""
    return model.predict_proba(rows[signed["all"]])[:, 1]


def compare(
    fitted: dict[str, BaseEstimator], rows: pd.DataFrame, signed: dict[str, list[str]], stated: dict[str, Any]
) -> pd.DataFrame:
    """Return the scores of every model on `rows` (validation): ``model``, a column per metric, ``payoff`` per row."""
    target = rows[stated["target"]].to_numpy()
    table = []
    for name, model in fitted.items():
        p = probability(model, rows, signed)
        table.append({"model": name, **agreed_metrics.scores(target, p), "payoff": _payoff(target, p, stated).mean()})
    return pd.DataFrame(table)


def choose(table: pd.DataFrame, agreed: dict[str, Any]) -> str:
    """Return the name of the model that is best by the agreed metric."""
    ranked = table.set_index("model")[agreed["primary"]["name"]]
    return str(ranked.idxmin() if agreed["primary"]["better"] == "lower" else ranked.idxmax())


def compare_calibrations(
    model: BaseEstimator, rows: pd.DataFrame, signed: dict[str, list[str]], stated: dict[str, Any]
) -> pd.DataFrame:
    """Return the log loss and Brier score of each calibration: fitted on the older half of `rows`, scored on the newer."""
    half = len(rows) // 2
    older, newer = rows.iloc[:half], rows.iloc[half:]
    table = []
    for method in METHODS:
        p = probability(calibrate(model, method, older, signed, stated), newer, signed)
        scored = agreed_metrics.scores(newer[stated["target"]].to_numpy(), p)
        table.append(
            {"calibration": method, "log_loss": scored["log_loss"], "brier": scored["brier"], "mean": p.mean()}
        )
    return pd.DataFrame(table).assign(observed=newer[stated["target"]].mean())


def choose_calibration(table: pd.DataFrame, params: Params) -> str:
    """Return the calibration that params ask for; with ``auto``, the one of least log loss."""
    if params.calibration != "auto":
        return params.calibration
    return str(table.set_index("calibration")["log_loss"].idxmin())


def calibrate(
    model: BaseEstimator, method: str, rows: pd.DataFrame, signed: dict[str, list[str]], stated: dict[str, Any]
) -> BaseEstimator:
    """Return the fitted model with its probabilities calibrated on `rows`, which it was not fitted on."""
    if method == "none":
        return model
    calibrated = CalibratedClassifierCV(FrozenEstimator(model), method=method)
    return calibrated.fit(rows[signed["all"]], rows[stated["target"]])


def evaluate(
    target: np.ndarray, p: np.ndarray, times: pd.Series, stated: dict[str, Any], agreed: dict[str, Any]
) -> dict[str, dict[str, float]]:
    """Return every agreed metric, and the payoffs, with intervals over resampled days.

    Parameters
    ----------
    target : ndarray of int, shape (n,)
    p : ndarray of float64, shape (n,)
        Probability of the event.
    times : Series of datetime64, shape (n,)
    stated, agreed : dict
        The problem, and what stage 04 agreed.

    Returns
    -------
    dict
        Name -> ``{"value", "low", "high"}``: the scores, ``payoff`` per row of the policy that follows the model,
        ``gain`` over the best policy without a model (the best one on these very rows, so that the bar is highest),
        ``acted`` (share of rows with another action than that policy's) and ``observed`` (share of events).
    """
    model, best, default = _against_baseline(target, p, stated)
    acted = problem.best_action(p, stated["payoffs"]) != default

    def statistic(weight: np.ndarray) -> dict[str, float]:
        mean = {"payoff": model, "gain": model - best, "acted": acted, "observed": target, "predicted": p}
        named = {name: float(np.average(values, weights=weight)) for name, values in mean.items()}
        return {**agreed_metrics.scores(target, p, weight), **named}

    return agreed_metrics.intervals(statistic, times, agreed_metrics.Bootstrap(**agreed["bootstrap"]))


def policies(
    target: np.ndarray, p: np.ndarray, times: pd.Series, stated: dict[str, Any], agreed: dict[str, Any]
) -> pd.DataFrame:
    """Return the mean payoff per row of each policy with its interval: ``policy``, ``payoff``, ``low``, ``high``."""
    payoffs = agreed_metrics.policy_payoffs(target, stated)
    payoffs.insert(0, "follow the model", _payoff(target, p, stated))

    def statistic(weight: np.ndarray) -> dict[str, float]:
        return {name: float(np.average(payoffs[name], weights=weight)) for name in payoffs}

    found = agreed_metrics.intervals(statistic, times, agreed_metrics.Bootstrap(**agreed["bootstrap"]))
    rows = [(name, found[name]["value"], found[name]["low"], found[name]["high"]) for name in payoffs]
    return pd.DataFrame(rows, columns=["policy", "payoff", "low", "high"])


def gain_floor(
    target: np.ndarray, p: np.ndarray, times: pd.Series, stated: dict[str, Any], agreed: dict[str, Any]
) -> float:
    """Return the gain per row that the model exceeds with the confidence that the problem asks for.

    The lower end of a one-sided interval over resampled days, for the gain that `evaluate` defines.
    """
    model, best, _ = _against_baseline(target, p, stated)
    one_sided = {**agreed["bootstrap"], "level": 2 * stated["success"]["confidence"] - 1}

    def statistic(weight: np.ndarray) -> dict[str, float]:
        return {"gain": float(np.average(model - best, weights=weight))}

    return agreed_metrics.intervals(statistic, times, agreed_metrics.Bootstrap(**one_sided))["gain"]["low"]


def importance(
    model: BaseEstimator, rows: pd.DataFrame, signed: dict[str, list[str]], stated: dict[str, Any], params: Params
) -> pd.DataFrame:
    """Return, per feature, how much ROC AUC falls when its values are shuffled: ``feature``, ``loss``, ``std``.

    Permutation importance (Breiman, 2001) on at most `params.importance_rows` rows. Features that carry the same
    information share it: a low value does not mean that a feature is of no use.
    """
    sample = rows.sample(min(len(rows), params.importance_rows), random_state=params.seed)
    found = permutation_importance(
        model, sample[signed["all"]], sample[stated["target"]], scoring="roc_auc", n_repeats=3, random_state=params.seed
    )
    table = pd.DataFrame({"feature": signed["all"], "loss": found.importances_mean, "std": found.importances_std})
    return table.sort_values("loss", ascending=False, ignore_index=True)


def curves(target: np.ndarray, p: np.ndarray, stated: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """Return the curves that ``dvc plots`` compares: ``calibration``, ``roc``, ``payoff`` by threshold."""
    observed, predicted = calibration_curve(target, p, n_bins=10, strategy="quantile")
    false, true, _ = roc_curve(target, p)
    keep = np.unique(np.linspace(0, len(false) - 1, 201).astype(int))
    grid = np.round(np.linspace(0, 1, 101), 2)
    low, high = problem.best_action(np.array([0.0, 1.0]), stated["payoffs"])
    paid = [problem.payoff(np.where(p > threshold, high, low), target, stated["payoffs"]).mean() for threshold in grid]
    return {
        "calibration": pd.DataFrame({"predicted": predicted, "observed": observed}),
        "roc": pd.DataFrame({"false_positive_rate": false[keep], "true_positive_rate": true[keep]}),
        "payoff": pd.DataFrame({"threshold": grid, "payoff": paid}),
    }


def plot_calibration(curve: pd.DataFrame, p: np.ndarray, stated: dict[str, Any]) -> Figure:
    """Draw the observed share of events against the predicted probability, by decile, over how often each occurs."""
    fig, (axes, below) = plots.canvas(
        "Do the probabilities mean what they say?", height=4.4, nrows=2, sharex=True, height_ratios=[3, 1]
    )
    top = max(curve.max()) * 1.08
    axes.plot([0, top], [0, top], color=plots.GREY, ls="--", lw=1, label="perfect")
    axes.plot(curve["predicted"], curve["observed"], marker="o", color=plots.BLUE, label="holdout, by decile")
    axes.set(ylabel="observed share", xlim=(0, top))
    axes.legend(frameon=False)
    below.hist(p, bins=np.linspace(0, 1, 51), color=plots.SKY)
    below.set(xlabel=f"predicted probability that the {stated['unit']} {stated['positive']}", ylabel="rows")
    for axis in (axes, below):
        plots.as_share(axis, "x")
    plots.as_share(axes)
    return fig


def plot_policies(table: pd.DataFrame, stated: dict[str, Any]) -> Figure:
    """Draw what each policy pays per row on the holdout, with intervals."""
    fig, axes = plots.canvas("What is it worth to follow the model?", height=2.4)
    colors = [plots.BLUE, *[plots.GREY] * (len(table) - 2), plots.GREEN]
    errors = np.abs(table[["low", "high"]].to_numpy().T - table["payoff"].to_numpy())
    axes.barh(table["policy"], table["payoff"], xerr=errors, color=colors, error_kw={"lw": 1.2, "capsize": 3})
    axes.invert_yaxis()
    axes.set(xlabel=f"mean payoff per {stated['unit']} ({stated['payoff_unit']})")
    axes.grid(axis="y", visible=False)
    return fig


def plot_threshold(curve: pd.DataFrame, stated: dict[str, Any]) -> Figure:
    """Draw the payoff against the probability from which on one acts, and the threshold that the payoffs imply."""
    fig, axes = plots.canvas("Is the threshold in the right place?", height=3)
    axes.plot(curve["threshold"], curve["payoff"], color=plots.BLUE, lw=2)
    axes.axvline(
        stated["break_even"], color=plots.RED, ls="--", lw=1.2, label="break-even of the payoffs, which is used"
    )
    axes.set(xlabel="act above this probability", ylabel=f"payoff per {stated['unit']}")
    plots.as_share(axes, "x")
    axes.legend(frameon=False)
    return fig


def plot_importance(table: pd.DataFrame) -> Figure:
    """Draw the loss of ROC AUC when a feature is shuffled, for the fifteen largest."""
    top = table.head(15)
    fig, axes = plots.canvas("What does the model rely on?", height=4)
    axes.barh(top["feature"], top["loss"], xerr=top["std"], color=plots.BLUE, error_kw={"lw": 1})
    axes.invert_yaxis()
    axes.set(xlabel="loss of ROC AUC when the feature is shuffled")
    axes.grid(axis="y", visible=False)
    return fig


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
        "trained_before": agreed["split"]["validation"],
        "calibrated_before": agreed["split"]["holdout"],
        "features": io.read_json(f"{features.ONLINE}/online.json")["features"],
        "holdout": gate.tidy(results),
    }
    io.write_json(described, folder / "candidate.json")
    for plot, curve in drawn.items():
        io.write_text(curve.round(6).to_csv(index=False), io.output(f"reports/plots/07_{plot}.csv"))


def load() -> tuple[BaseEstimator, dict[str, Any]]:
    """Read the model and the description that `save` wrote."""
    return model_file.load(io.pending(f"{CANDIDATE}/model.skops")), io.read_json(f"{CANDIDATE}/candidate.json")


def checks(
    results: dict[str, dict[str, float]], table: pd.DataFrame, floor: float, stated: dict[str, Any]
) -> list[gate.Check]:
    """Return the gate: ranks well, earns more than every policy without a model, and by the agreed margin."""
    success = stated["success"]
    by_policy = table.set_index("policy")["payoff"]
    trivial = by_policy.drop(["follow the model", "perfect foresight"]).max()
    return [
        gate.at_least("holdout ROC AUC", results["roc_auc"]["value"], success["min_roc_auc"]),
        gate.at_least("holdout ROC AUC, lower end of its interval", results["roc_auc"]["low"], 0.5),
        gate.at_least("payoff of the model", by_policy["follow the model"], float(gate.tidy(float(trivial)))),
        gate.at_least(
            "gain over the best policy without a model", results["gain"]["value"], success["min_payoff_gain"]
        ),
        gate.at_least(f"gain exceeded with {success['confidence']:.0%} confidence", floor, 0),
    ]


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


def headline(results: dict[str, dict[str, float]]) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    auc, gain = results["roc_auc"], results["gain"]
    return {
        "ROC AUC on the holdout": f"{auc['value']:.3f} ({auc['low']:.3f} to {auc['high']:.3f})",
        "gain per row": f"{gain['value']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})",
    }


def results_table(results: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Return the figures of `evaluate` for reading: ``figure``, ``value``, ``low``, ``high``."""
    rows = [(name.replace("_", " "), *figure.values()) for name, figure in results.items()]
    return pd.DataFrame(rows, columns=["figure", "value", "low", "high"])


def by_group(groups: DataFrameGroupBy, stated: dict[str, Any], least: int = 500) -> pd.DataFrame:
    """Return the ROC AUC within each group of at least `least` rows, worst first: the group, ``rows``, ``roc_auc``."""
    rows = []
    for key, group in groups:
        if len(group) >= least and group[stated["target"]].nunique() == 2:
            rows.append(
                (", ".join(map(str, key)), len(group), roc_auc_score(group[stated["target"]], group["probability"]))
            )
    table = pd.DataFrame(rows, columns=["group", "rows", "roc_auc"])
    return table.sort_values("roc_auc", ignore_index=True)


def describe_parts(parts: dict[str, pd.DataFrame], signed: dict[str, list[str]]) -> str:
    """Return how many rows are in each part, as a sentence."""
    sizes = ", ".join(f"**{len(rows):,}** for {name}" for name, rows in parts.items())
    share = len(parts["holdout"]) / sum(map(len, parts.values()))
    return f"{len(signed['all'])} features; rows: {sizes}. The holdout is {share:.0%} of them, the newest."


def describe_choice(table: pd.DataFrame, name: str, agreed: dict[str, Any]) -> str:
    """Return which model was chosen and by how much, as a sentence."""
    metric = agreed["primary"]["name"]
    scored = table.set_index("model")[metric]
    rest = scored.drop(name)
    second = rest.idxmin() if agreed["primary"]["better"] == "lower" else rest.idxmax()
    return (
        f"By {metric.replace('_', ' ')} on validation **{name.replace('_', ' ')}** is best with {scored[name]:.4f}; "
        f"the next is {second.replace('_', ' ')} with {rest[second]:.4f}."
    )


def describe_calibration(table: pd.DataFrame, method: str) -> str:
    """Return which calibration was chosen and what it does, as a sentence."""
    scored = table.set_index("calibration")
    return (
        f"On the newer half of validation the raw probabilities average {scored.loc['none', 'mean']:.1%} where "
        f"{scored['observed'].iloc[0]:.1%} happened; the calibration used is **{method}**, with a log loss of "
        f"{scored.loc[method, 'log_loss']:.4f} against {scored.loc['none', 'log_loss']:.4f} without."
    )


def describe_results(results: dict[str, dict[str, float]], stated: dict[str, Any]) -> str:
    """Return what the holdout says, as sentences."""
    seen, said = results["observed"]["value"], results["predicted"]["value"]
    direction = "over" if said > seen else "under"
    return (
        f"ROC AUC is **{agreed_metrics.with_interval(results['roc_auc'])}**. The model says {said:.1%} on average and {seen:.1%} happened: on the "
        f"holdout it {direction}states the probability by {100 * abs(said - seen):.1f} points. The intervals hold for days like those of "
        "the holdout; a change of season or of behaviour is not in them."
    )


def describe_policies(table: pd.DataFrame, results: dict[str, dict[str, float]], stated: dict[str, Any]) -> str:
    """Return what following the model is worth, as sentences; also the alt text of its figure."""
    by_policy = table.set_index("policy")["payoff"]
    best = by_policy.drop(["follow the model", "perfect foresight"]).idxmax()
    return (
        f"Following the model pays {by_policy['follow the model']:+.3f} per {stated['unit']}, the best policy without one "
        f"({best}) {by_policy[best]:+.3f}: a gain of {agreed_metrics.with_interval(results['gain'])}, which is "
        f"{results['gain']['value'] / (by_policy['perfect foresight'] - by_policy[best]):.0%} of what perfect foresight "
        f"would win. The action differs from that policy's in {results['acted']['value']:.0%} of the rows."
    )


def describe_threshold(curve: pd.DataFrame, stated: dict[str, Any]) -> str:
    """Return how far the threshold in use is from the best in hindsight, as a sentence; also an alt text."""
    best = curve.loc[curve["payoff"].idxmax()]
    used = np.interp(stated["break_even"], curve["threshold"], curve["payoff"])
    return (
        f"In hindsight the best threshold on the holdout would have been {best['threshold']:.0%}, paying "
        f"{best['payoff']:+.3f}; the break-even of {stated['break_even']:.0%}, fixed beforehand, pays {used:+.3f}."
    )


def describe_importance(table: pd.DataFrame) -> str:
    """Return the three features that the model relies on most, as a sentence; also an alt text."""
    top = ", ".join(f"`{row.feature}` ({row.loss:.3f})" for row in table.head(3).itertuples())
    return f"Shuffled one at a time, these cost most ROC AUC: {top}."


def describe_curve(curve: pd.DataFrame) -> str:
    """Return what the calibration figure shows, in words."""
    gap = (curve["predicted"] - curve["observed"]).abs()
    return f"By decile, predicted and observed shares differ by {100 * gap.mean():.1f} points on average and {100 * gap.max():.1f} at most."


def verdict(name: str, results: dict[str, dict[str, float]], floor: float, stated: dict[str, Any]) -> str:
    """Return the bottom line."""
    gain = results["gain"]
    enough = gain["value"] >= stated["success"]["min_payoff_gain"] and floor >= 0
    return (
        f"{name.replace('_', ' ').capitalize()}, on days it never saw, wins {agreed_metrics.with_interval(gain)} per {stated['unit']} over the "
        f"best policy without a model, at a ROC AUC of {agreed_metrics.with_interval(results['roc_auc'])}: "
        f"{'worth' if enough else 'not yet worth'} deploying."
    )


def _payoff(target: np.ndarray, p: np.ndarray, stated: dict[str, Any]) -> np.ndarray:
    return problem.payoff(problem.best_action(p, stated["payoffs"]), target, stated["payoffs"])


def _against_baseline(target: np.ndarray, p: np.ndarray, stated: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, str]:
    """Return what each row pays by the model and by the best policy without one on these rows, and that one's action."""
    payoffs = agreed_metrics.policy_payoffs(target, stated).drop(columns="perfect foresight")
    policy = payoffs.mean().idxmax()
    return _payoff(target, p, stated), payoffs[policy].to_numpy(), policy.removeprefix("always ")
