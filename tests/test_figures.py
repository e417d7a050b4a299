"""Figures and sentences of stages 06 and 07 hold for every task, and for names that mean something to matplotlib."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import TASKS, Project, statement
from matplotlib.figure import Figure
from sklearn.dummy import DummyRegressor

from ninefold import features, metrics, training
from ninefold.core import adjustment, decisions, engine, evaluation, fitting, search, selection
from ninefold.core.estimators import WithInterval
from ninefold.core.holdout import Sealed
from ninefold.figures import features as sixth
from ninefold.figures import training as seventh

ODD = {"amount": "$x$ 100% {a}", "shop": 'the "shop"', "when": "ünï.co de"}
CLASSES = ["$small$", "a_{b", 'the "l"']
NAMES: dict[str, dict[str, Any]] = {
    "binary": {"unit": "$order$", "positive": "costs $5 or $6", "payoff_unit": "$"},
    "multiclass": {
        "unit": "$order$",
        "classes": CLASSES,
        "focus": "a_{b",
        "payoffs": {f"${name}$": {each: float(each == name) for each in CLASSES} for name in CLASSES},
    },
    "regression": {"target": "$price$ {net}", "payoff_unit": "$ $"},
}
SIGNED = {
    "all": [ODD["amount"], ODD["shop"]],
    "numeric": [ODD["amount"]],
    "categorical": [ODD["shop"]],
    "wide": [],
    "text": [],
    "dates": [],
}
PARAMS = training.Params(seed=1, candidates={"a_line": {"model": "linear"}}, importance_rows=100)
TRIALS = search.table(
    [search.Trial("a_line", {"C": 0.1}, [0.5], 1.0), search.Trial("a_line", {"C": 3.0}, [0.4], 1.0)], 1, 1
)
ALL = [(task, time) for task in TASKS for time in ("ünï.co de", None)]


def rows(task: str, time: str | None) -> tuple[pd.DataFrame, dict[str, Any], dict[str, Any]]:
    """Return rows with odd names, the problem, and what stage 04 agrees on."""
    random, stated = np.random.default_rng(1), statement(task, time=time, **NAMES[task])
    amount = random.normal(size=400)
    score = 2 * amount + random.normal(size=400)
    target = {
        "binary": (score > 1).astype("int64"),
        "multiclass": (score > -1).astype("int64") + (score > 1),
        "regression": score,
    }[task]
    frame = pd.DataFrame(
        {
            "id": range(400),
            ODD["when"]: pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(400) // 5, "D"),
            ODD["amount"]: amount,
            ODD["shop"]: random.choice(["$a$", "b"], 400),
            stated["target"]: target,
        }
    )
    settings = metrics.Params(
        primary={"regression": "rmse"}.get(task, "log_loss"),
        split={"validation": 0.2, "holdout": 0.3},
        bootstrap={"replicates": 20, "level": 0.9, "seed": 1},
    )
    points = metrics.split(frame, settings, stated)
    policies, table = metrics.baselines(frame, points, stated)
    return frame, stated, metrics.agreement(frame, points, policies, table, settings, stated)


def drawn(figure: Figure) -> None:
    """Demand that a figure can be drawn, names and all."""
    assert isinstance(figure, Figure)
    figure.canvas.draw()


def sound(*texts: str) -> None:
    """Demand sentences without holes."""
    for text in texts:
        assert text
        assert not {"nan", "None", "inf"} & set(text.replace("(", " ").replace(",", " ").split()), text


@pytest.mark.parametrize(("task", "time"), ALL)
def test_the_features_are_drawn_and_told(project: Project, task: str, time: str | None) -> None:
    frame, stated, agreed = rows(task, time)
    project.lake("orders", frame)
    history = {"of": stated["target"], "prefix": "$h$", "known_after": "1h", "over": ["2d"], "by": [[ODD["shop"]]]}
    params = features.Params(
        numeric=[ODD["amount"]], categorical=[ODD["shop"]], history=[history] if time and task == "regression" else []
    )
    events = features.build(features.read(engine.connect(), stated), params, stated)
    ranked = features.strongest(
        frame.assign(**{window["name"]: 1.0 for window in features.windows(params, "2h")}),
        params,
        stated,
        agreed["split"],
    )
    assert ranked["feature"].tolist() == [ODD["amount"]]
    drawn(sixth.plot_strongest(frame, ranked, stated, agreed["split"]))
    drawn(sixth.plot_strongest(frame, ranked.head(0), stated, agreed["split"]))
    drawn(sixth.plot_windows(params, stated))
    sound(
        sixth.describe_events(events, params, stated),
        sixth.describe_proofs(0, 0.0, params, stated),
        sixth.describe_proofs(2, 0.5, params, stated),
        sixth.describe_strongest(ranked, stated),
        sixth.describe_strongest(ranked.head(0), stated),
        sixth.describe_windows(params, stated),
    )
    assert decisions.level_name(stated) in sixth.describe_strongest(ranked, stated)
    assert f"**400** orders go in and come out, each now with {len(frame.columns)} columns." in sixth.describe_events(
        events, params, stated
    )


@pytest.mark.parametrize(("task", "time"), ALL)
def test_the_model_is_drawn_and_told(project: Project, task: str, time: str | None) -> None:
    frame, stated, agreed = rows(task, time)
    part = metrics.part_of(frame, agreed["split"], stated)
    parts = {name: frame[part == name].reset_index(drop=True) for name in metrics.PARTS}
    candidates = training.candidates(PARAMS, SIGNED, stated)
    chosen, forecasts = training.validate(candidates, parts, SIGNED, PARAMS, stated)
    compared = selection.compare(chosen, forecasts, stated, agreed)
    table = adjustment.compare(forecasts["a_line"], chosen, 0.9, stated)
    method = adjustment.choose(table, chosen, "auto", stated)
    fitted = training.finish(candidates["a_line"], parts, SIGNED, stated)
    model = adjustment.adjust(fitted, method, forecasts["a_line"], chosen, 0.9, stated)
    learning = training.learning_curve(
        candidates["a_line"], chosen, forecasts["a_line"], parts, SIGNED, PARAMS, stated, agreed
    )
    sealed = Sealed(parts.pop("holdout"), time)
    kept = sealed.open(model)
    target, predicted = kept[stated["target"]].to_numpy(), fitting.predict(model, kept, SIGNED, stated)
    results = evaluation.evaluate(target, predicted, kept, stated, agreed)
    policies = evaluation.policies(target, predicted, kept, stated, agreed)
    curves = evaluation.curves(target, predicted, kept, model, stated, agreed)
    prices = evaluation.price_moves(target, predicted, kept, model, stated, agreed)
    importance = training.importance(model, kept, SIGNED, stated, PARAMS)
    assert all(np.isfinite(curve.to_numpy()).all() for curve in curves.values())
    drawn(seventh.plot_calibration(curves["calibration"], predicted, stated))
    drawn(seventh.plot_policies(policies, stated))
    drawn(seventh.plot_policies(policies, stated, most=1))
    drawn(seventh.plot_threshold(curves["payoff"], stated))
    drawn(seventh.plot_importance(importance, stated))
    drawn(seventh.plot_learning(learning, agreed))
    drawn(seventh.plot_prices(prices, stated))
    drawn(seventh.plot_errors(curves, target, predicted, stated))
    for name in ("a_line", selection.NAIVE):
        sound(
            seventh.describe_choice(compared, name, agreed),
            seventh.verdict(name, results, 0.1, stated),
            seventh.verdict(name, results, -0.1, stated),
        )
    sound(
        seventh.describe_parts(parts, sealed, SIGNED, stated),
        seventh.describe_search(search.table([], 1, 1), PARAMS, agreed),
        seventh.describe_search(TRIALS, PARAMS, agreed),
        seventh.describe_folds(chosen, stated),
        seventh.describe_errors(results, target, predicted, PARAMS, stated),
        seventh.describe_prices(prices, stated),
        seventh.describe_prices(prices.head(1), stated),
        seventh.describe_learning(learning, agreed),
        seventh.describe_learning(learning.head(1), agreed),
        seventh.describe_adjustment(table, method, PARAMS, stated),
        seventh.describe_results(results, stated, agreed),
        seventh.describe_policies(policies, results, stated),
        seventh.describe_threshold(curves["payoff"], stated),
        seventh.describe_importance(importance, stated),
        seventh.describe_curve(curves["calibration"], stated),
        *seventh.headline(results, stated).values(),
    )
    assert "a line" in seventh.describe_choice(compared, "a_line", agreed)
    assert seventh.results_table(results)["figure"].is_unique


@pytest.mark.parametrize("task", TASKS)
def test_a_forecast_that_is_always_the_same_can_be_drawn(task: str) -> None:
    frame, stated, agreed = rows(task, None)
    target, predicted = frame[stated["target"]].to_numpy(), evaluation.naive_forecast(400, stated, agreed)
    model = WithInterval(DummyRegressor()).fit_errors(np.zeros(400), target) if task == "regression" else None
    curves = evaluation.curves(target, predicted, frame, model, stated, agreed)
    drawn(seventh.plot_calibration(curves["calibration"], predicted, stated))
    drawn(seventh.plot_threshold(curves["payoff"], stated))
    sound(seventh.describe_curve(curves["calibration"], stated), seventh.describe_threshold(curves["payoff"], stated))


@pytest.mark.parametrize("task", TASKS)
def test_the_threshold_in_use_lies_on_the_curve_near_its_best(task: str) -> None:
    frame, stated, agreed = rows(task, None)
    target = frame[stated["target"]].to_numpy()
    if task == "regression":
        predicted = evaluation.naive_forecast(400, stated, agreed)
        model = WithInterval(DummyRegressor(), 0.9, **stated["costs"]).fit_errors(
            np.repeat(agreed["naive"], 400), target
        )
        curve = evaluation.curves(target, predicted, frame, model, stated, agreed)["payoff"]
        assert evaluation.threshold(stated) == 0.75
    else:
        random, count = np.random.default_rng(1), len(stated["classes"])
        p = random.dirichlet(np.ones(count), 4000)
        target = (random.random((4000, 1)) > p.cumsum(axis=1)).sum(axis=1)
        names = decisions.forecast_columns(stated)
        predicted = pd.DataFrame(p[:, -len(names) :], columns=names)
        frame = pd.DataFrame(index=range(4000))
        curve = evaluation.curves(target, predicted, frame, None, stated, agreed)["payoff"]
        assert evaluation.threshold(stated) == (0.25 if task == "binary" else None)
    used = evaluation.threshold(stated) or 0.0
    value = np.interp(used, curve["threshold"], curve["payoff"])
    span = curve["payoff"].max() - curve["payoff"].min()
    assert curve["payoff"].max() - value < 0.05 * span
