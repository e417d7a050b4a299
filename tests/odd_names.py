"""Rows of every task with names that mean something to matplotlib, and what their figures and sentences must hold."""

from typing import Any

import numpy as np
import pandas as pd
from conftest import TASKS, statement
from matplotlib.figure import Figure

from ninefold import metrics
from ninefold.metrics import EvaluationPlan
from ninefold.problem import PRIMARY, Problem

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
ALL = [(task, time) for task in TASKS for time in ("ünï.co de", None)]


def rows(task: str, time: str | None) -> tuple[pd.DataFrame, Problem, EvaluationPlan]:
    """Return rows with odd names, the problem, and what stage 04 agrees on."""
    random, problem = np.random.default_rng(1), statement(task, time=time, **NAMES[task])
    amount = random.normal(size=400)
    score = 2 * amount + random.normal(size=400)
    target = {
        "binary": (score > 1).astype("int64"),
        "multiclass": (score > -1).astype("int64") + (score > 1),
        "regression": score,
    }[task]
    frame = pd.DataFrame({
        "id": range(400),
        ODD["when"]: pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(400) // 5, "D"),
        ODD["amount"]: amount,
        ODD["shop"]: random.choice(["$a$", "b"], 400),
        problem.target: target,
    })  # fmt: skip
    settings = metrics.Params(primary=PRIMARY[task], split={"validation": 0.2, "holdout": 0.3}, level=0.9)
    points = metrics.split(frame, settings, problem)
    return frame, problem, metrics.make_plan(frame, points, settings, problem)


def drawn(figure: Figure) -> None:
    assert isinstance(figure, Figure)
    figure.canvas.draw()


def sound(*texts: str) -> None:
    """Demand sentences without holes."""
    for text in texts:
        assert text
        assert not {"nan", "None", "inf"} & set(text.replace("(", " ").replace(",", " ").split()), text
