"""What a forecast is worth on new rows: scores and payoffs with intervals, against baseline policies."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_curve, roc_curve

from ninefold.metrics.plan import EvaluationPlan
from ninefold.metrics.resampling import intervals, means, subsample
from ninefold.metrics.scores import SHARES, scorer
from ninefold.problem import MEANING, PRIMARY, Costs, Problem, decisions

FOLLOW = "follow the model"
FACTORS = (0.5, 1.5)  # by which prices are multiplied
Payoffs = tuple[np.ndarray, np.ndarray, np.ndarray]


class Evaluation(NamedTuple):
    """Rows that a model has not seen: outcomes (see `decisions.outcome`), its forecast, and the time and group in `frame`."""

    target: np.ndarray
    predicted: pd.DataFrame
    frame: pd.DataFrame
    problem: Problem
    plan: EvaluationPlan

    def __repr__(self) -> str:
        """Return how many rows there are."""
        return f"Evaluation({len(self.target):,} {self.problem.units})"

    @property
    def observed(self) -> np.ndarray:
        """The events (1 or 0), or quantities: `decisions.event`."""
        return decisions.event(self.target, self.problem)

    @property
    def expected(self) -> np.ndarray:
        """The probabilities of the event, or predicted quantities: `decisions.expected`."""
        return decisions.expected(self.predicted, self.problem)

    def results(self) -> dict[str, dict[str, float]]:
        """Return every metric of the task, and the payoffs: ``{"value", "low", "high"}`` by name, see `intervals`.

        ``payoff`` per row of following the model; ``gain`` over the baseline policy that is best on these rows;
        ``acted``, the share of rows with another action than that policy's; ``observed`` and ``predicted``, the means of
        `observed` and `expected`; ``improvement``, by which the proper score is lower than the naive prediction's of
        stage 04; for quantities ``covered``, the share of outcomes in their intervals.
        """
        target, predicted, frame, problem, plan = self
        model, best, acted = self.payoffs()
        naive, proper = naive_forecast(len(target), problem, plan), PRIMARY[problem.task]
        mean = {"payoff": model, "gain": model - best, "acted": acted}
        mean |= {"observed": self.observed, "predicted": self.expected}
        if not problem.is_class:
            mean["covered"] = ((target >= predicted["low"]) & (target <= predicted["high"])).to_numpy()

        scorers = {name: scorer(name, target, predicted, problem) for name in MEANING[problem.task]}
        baseline = scorer(proper, target, naive, problem)

        def statistic(weight: np.ndarray) -> dict[str, float]:
            scores = {name: score(weight) for name, score in scorers.items()}
            return {**scores, **means(mean, weight), "improvement": baseline(weight) - scores[proper]}

        shares = (*SHARES, "acted", "covered", *(("observed", "predicted") if problem.is_class else ()))
        return intervals(statistic, frame, problem, plan.level, shares)

    def payoffs(self) -> Payoffs:
        """Return what `against_baseline` does."""
        return against_baseline(self.target, self.predicted, self.problem, self.plan)

    def policies(self) -> pd.DataFrame:
        """Return the mean payoff per row of each policy with its interval: ``policy``, ``payoff``, ``low``, ``high``."""
        problem, actions = self.problem, decisions.decide(self.predicted, self.problem)["action"]
        payoffs = decisions.policy_payoffs(self.target, problem, self.plan.policies)
        payoffs.insert(0, FOLLOW, decisions.payoff(actions, self.target, problem))
        values = intervals(partial(means, dict(payoffs.items())), self.frame, problem, self.plan.level)
        table = pd.DataFrame(values).T.rename(columns={"value": "payoff"})
        return table.rename_axis("policy").reset_index()

    def gain(self, level: float) -> dict[str, float]:
        """Return the gain per row (see `results`) with its interval: ``value``, ``low``, ``high``."""
        model, best, _ = self.payoffs()
        return intervals(partial(means, {"gain": model - best}), self.frame, self.problem, level)["gain"]

    def gain_floor(self) -> float:
        """Return the gain per row that the model exceeds with the confidence that the problem requires."""
        return self.gain(self.problem.success.level)["low"]

    def curves(self, model: Any) -> dict[str, pd.DataFrame]:
        """Return the curves that ``dvc plots`` compares: ``calibration``, ``roc``, ``precision``, and ``payoff`` by threshold.

        ``calibration``: see there. ``roc`` and ``precision``: of the event, or of a quantity above the median. ``payoff``: by
        the probability from which the action for the event is taken; for several classes by the highest probability from
        which the model is followed, not the best baseline policy; for quantities by the quantile of the errors that is acted on.
        """
        observed, expected = self.observed, self.expected
        event = observed if self.problem.is_class else observed > np.median(observed)
        false, true, _ = roc_curve(event, expected)
        precision, recall, _ = precision_recall_curve(event, expected)
        return {
            "calibration": self.calibration(),
            "roc": _subsample({"false_positive_rate": false, "true_positive_rate": true}),
            "precision": _subsample({"recall": recall[::-1], "precision": precision[::-1]}),
            "payoff": self._payoff_curve(model),
        }

    def calibration(self) -> pd.DataFrame:
        """Return ``predicted`` and ``observed`` by decile of the prediction, with ``low`` and ``high`` of the latter."""
        observed, expected = self.observed, self.expected
        decile = pd.qcut(pd.Series(expected).rank(method="first"), min(10, len(expected)), labels=False).to_numpy()

        def statistic(weight: np.ndarray) -> dict[int, float]:
            with np.errstate(invalid="ignore"):  # all rows of a decile may be of one cluster
                return dict(enumerate(np.bincount(decile, weight * observed) / np.bincount(decile, weight)))

        shares = range(10) if self.problem.is_class else ()
        table = pd.DataFrame(intervals(statistic, self.frame, self.problem, self.plan.level, shares).values())
        table.insert(0, "predicted", pd.Series(expected).groupby(decile).mean().to_numpy())
        return table.rename(columns={"value": "observed"})

    def price_moves(self, model: Any) -> pd.DataFrame:
        """Return what following the model would pay if one price were half, or half as much again.

        A price is all payoffs of an action, or the cost of a unit too high or too low. Actions, and the best policy without
        a model, are chosen again. The first row has the current prices; ``unmoved`` is the payoff per row of their actions.
        """
        target, predicted, frame, problem, plan = self
        rows, current = [], decisions.decide(predicted, problem)["action"]
        prices = list(Costs.model_fields)
        if problem.is_class:
            prices = [action for action, payoffs in problem.payoffs.items() if any(payoffs.values())]
        for price, factor in [("current", 1.0), *((name, by) for name in prices for by in FACTORS)]:
            changed = problem if factor == 1 else problem.at_price(price, factor)
            actions = decisions.decide(predicted, changed)["action"]
            if factor != 1 and not problem.is_class:  # the quantile of all errors of the model
                actions = predicted["prediction"] + np.interp(changed.ratio, model.levels_, model.shifts_)
            payoff = decisions.payoff(actions, target, changed)
            again = plan.model_copy(update={"policies": decisions.policies(target, changed)})
            best = against_baseline(target, predicted, changed, again)[1]
            interval = intervals(partial(means, {"gain": payoff - best}), frame, problem, plan.level)["gain"]
            unmoved = decisions.payoff(current, target, changed).mean()
            rows.append((price, factor, payoff.mean(), unmoved, *interval.values()))
        return pd.DataFrame(rows, columns=["price", "factor", "payoff", "unmoved", "gain", "low", "high"])

    def _payoff_curve(self, model: Any) -> pd.DataFrame:
        target, predicted, _, problem, plan = self
        grid = np.linspace(0, 1, 101).round(2)
        if problem.task == "regression":
            grid, actions = model.levels_, [predicted["prediction"] + shift for shift in model.shifts_]
        elif problem.task == "binary":
            low, high = problem.payoff_matrix.idxmax()
            actions = [np.where(predicted["probability"] > step, high, low) for step in grid]
        else:
            highest = decisions.probabilities(predicted, problem).max(axis=1)
            chosen, default = decisions.decide(predicted, problem)["action"], plan.policies[plan.best_baseline]
            actions = [np.where(highest >= step, chosen, default) for step in grid]
        payoffs = [decisions.payoff(action, target, problem).mean() for action in actions]
        return pd.DataFrame({"threshold": grid, "payoff": payoffs})


def against_baseline(target: np.ndarray, predicted: pd.DataFrame, problem: Problem, plan: EvaluationPlan) -> Payoffs:
    """Return, per row, the model's payoff, that of the best policy without one on these rows, and whether actions differ."""
    payoffs = decisions.policy_payoffs(target, problem, plan.policies).drop(columns=decisions.FORESIGHT)
    policy, actions = payoffs.mean().idxmax(), decisions.decide(predicted, problem)["action"]
    acted = (actions != plan.policies[policy]).to_numpy()
    return decisions.payoff(actions, target, problem), payoffs[policy].to_numpy(), acted


def naive_forecast(rows: int, problem: Problem, plan: EvaluationPlan) -> pd.DataFrame:
    """Return the forecast without features that stage 04 fixed, the same for every row."""
    return decisions.forecast(np.tile(plan.naive, (rows, 1)), problem)


def threshold(problem: Problem) -> float | None:
    """Return the threshold in use on the scale of the payoff curve: the break-even, or the quantile; else None."""
    return problem.break_even if problem.is_class else problem.ratio


def _subsample(curve: dict[str, np.ndarray]) -> pd.DataFrame:
    """Return a curve with at most 201 points, its ends among them."""
    frame = pd.DataFrame(curve)
    return frame.iloc[subsample(len(frame), 201)].reset_index(drop=True)
