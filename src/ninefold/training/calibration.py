"""Calibrate predictions on rows that their model has not seen: probabilities here, intervals in `conformal`."""

from typing import Any, Literal, NamedTuple, Self

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from ninefold.metrics import task_scores
from ninefold.problem import Problem, decisions
from ninefold.training.conformal import WithInterval
from ninefold.training.estimators import Wrapper, of_all_classes

Method = Literal["none", "sigmoid", "isotonic"]
METHODS: tuple[Method, ...] = ("none", "sigmoid", "isotonic")  # from simple to complex
CONFORMAL = "conformal"  # the calibration of quantities
LEAST_ISOTONIC = 500  # rows of the rarest class, under which no isotonic calibration is learned
NEGLIGIBLE = 0.002  # of a log loss
LEAST_PROBABILITY = 1e-6
STRENGTH = 1e3  # inverse strength of the penalty on what a sigmoid changes


class Calibrated(ClassifierMixin, Wrapper):
    """A fitted classifier whose probabilities are calibrated by a map that was learned on unseen rows.

    ``sigmoid``: logistic regression on log probabilities (Platt, 1999); of several classes these have one factor and
    a shift for each class (temperature scaling with bias; Alexandari et al., 2020), as more would need many rows.
    ``isotonic``: a monotone step function per class (Zadrozny and Elkan, 2002), normalized to a sum of 1.
    """

    def __init__(self, model: Any, method: str = "sigmoid") -> None:
        self.model = model
        self.method = method

    def fit_map(self, p: np.ndarray, target: np.ndarray) -> Self:
        """Learn the map from probabilities, shape (n, classes), and outcomes (int, shape (n,)) of unseen rows."""
        self.classes_ = np.arange(p.shape[1])
        if self.method == "sigmoid":
            binary = p.shape[1] == 2
            self.maps_ = [LogisticRegression(C=STRENGTH).fit(_logs(p), target) if binary else _scaled(_logs(p), target)]
        else:
            least = 1 / (len(target) + 2)  # Laplace's rule: no step is more certain than its rows allow
            limits: dict[str, Any] = {"y_min": least, "y_max": 1 - least, "out_of_bounds": "clip"}
            numbers = [1] if p.shape[1] == 2 else self.classes_
            self.maps_ = [IsotonicRegression(**limits).fit(p[:, number], target == number) for number in numbers]
        return self

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Return the probability of every class: float64, shape (n, classes)."""
        return self.adjust(self.model.predict_proba(X))

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Return the most probable class."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def adjust(self, p: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities: float64, shape (n, classes); `p` may lack classes that the model never saw."""
        if p.shape[1] < len(self.classes_):
            p = of_all_classes(p, self.model.classes_, len(self.classes_))
        if self.method == "isotonic":
            first = 1 if p.shape[1] == 2 else 0
            adjusted = np.column_stack([step.predict(p[:, number]) for number, step in enumerate(self.maps_, first)])
            if first:
                adjusted = np.clip(adjusted, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
                return np.column_stack([1 - adjusted, adjusted])
        else:
            adjusted = np.full(p.shape, LEAST_PROBABILITY)
            adjusted[:, self.maps_[0].classes_] = self.maps_[0].predict_proba(_logs(p))
        return adjusted / adjusted.sum(axis=1, keepdims=True)


class Calibrator(NamedTuple):
    """Predictions for rows that the models of a candidate have not seen, from which its calibration is learned."""

    predicted: pd.DataFrame
    rows: pd.DataFrame
    problem: Problem
    level: float = 0.9  # of the intervals of quantities

    def compare(self) -> pd.DataFrame:
        """Return how good each calibration is: learned on the first half of the rows, scored on the second.

        Classes: ``calibration``, ``log_loss``, ``brier``, ``mean`` of the probability and ``observed``. Quantities:
        ``interval`` (``none`` or ``conformal``), the share of outcomes that it ``holds``, its mean ``width``.
        """
        problem, half, target = self.problem, len(self.rows) // 2, self.rows[self.problem.target].to_numpy()
        first = self._replace(predicted=self.predicted.iloc[:half], rows=self.rows.iloc[:half])
        second, outcome, table = self.predicted.iloc[half:], target[half:], list[dict[str, Any]]()
        if not problem.is_class:
            model = first.calibrate(None, CONFORMAL)
            for name, ends in {"none": second, CONFORMAL: model.around(second["prediction"].to_numpy())}.items():
                inside = ((outcome >= ends["low"]) & (outcome <= ends["high"])).mean()
                table.append({"interval": name, "holds": inside, "width": (ends["high"] - ends["low"]).mean()})
            return pd.DataFrame(table)
        for method in METHODS:
            mapped = second
            if method != "none" and len(np.unique(target[:half])) > 1:  # from one class nothing can be learned
                p = first.calibrate(None, method).adjust(decisions.probabilities(second, problem))
                mapped = decisions.forecast(p, problem)
            scores = {**task_scores(outcome, mapped, problem), "mean": decisions.expected(mapped, problem).mean()}
            table.append({"calibration": method} | {name: scores[name] for name in ("log_loss", "brier", "mean")})
        return pd.DataFrame(table).assign(observed=decisions.event(outcome, problem).mean())

    def choose(self, table: pd.DataFrame, setting: str) -> str:
        """Return the calibration that params set; ``auto``: the simplest of those whose log loss is close to the lowest."""
        if not self.problem.is_class or setting != "auto":
            return setting if self.problem.is_class else CONFORMAL
        rarest = int(self.rows[self.problem.target].value_counts().min())
        loss = table.set_index("calibration")["log_loss"]
        best = loss.drop("isotonic" if rarest < LEAST_ISOTONIC else []).min()
        return next(name for name in METHODS if loss[name] <= best * (1 + NEGLIGIBLE))

    def calibrate(self, model: BaseEstimator | None, method: str) -> Any:
        """Return a fitted model, calibrated by these predictions."""
        target, costs = self.rows[self.problem.target].to_numpy(), self.problem.costs
        if not self.problem.is_class:
            interval = WithInterval(model, self.level, over=costs.over, under=costs.under)
            return interval.fit_errors(self.predicted["prediction"].to_numpy(), target)
        if method == "none":
            return model
        return Calibrated(model, method).fit_map(decisions.probabilities(self.predicted, self.problem), target)


def _scaled(logs: np.ndarray, target: np.ndarray) -> LogisticRegression:
    """Return a softmax of log probabilities times one number, plus one for each class, fitted to outcomes."""
    rows, classes = logs.shape
    none, outcome = np.eye(1, 1 + classes)[0], np.eye(classes)[target]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        p = log_softmax(weights[0] * logs + weights[1:], axis=1)
        excess, prior = np.exp(p) - outcome, (weights - none) / (STRENGTH * rows)
        slope = np.append((excess * logs).sum(), excess.sum(axis=0)) / rows
        return -(p * outcome).sum() / rows + prior @ (weights - none) / 2, slope + prior

    weights = minimize(loss, none, jac=True).x
    scaled = LogisticRegression()
    scaled.classes_, scaled.coef_, scaled.intercept_ = np.arange(classes), weights[0] * np.eye(classes), weights[1:]
    return scaled


def _logs(p: np.ndarray) -> np.ndarray:
    logs = np.log(np.clip(p, LEAST_PROBABILITY, 1))
    return (logs[:, 1:] - logs[:, :1]) if p.shape[1] == 2 else logs
