"""Tune the candidates of params: what a search scores, where it keeps its trials, on which workers it runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import sklearn
from joblib import parallel_config

from ninefold import artifacts, hooks, lineage
from ninefold.metrics import EvaluationPlan, one_score
from ninefold.problem import Problem
from ninefold.training import cross_validation, models
from ninefold.training.cross_validation import Fold
from ninefold.training.models import SPACES, Candidate, Range
from ninefold.training.params import Params
from ninefold.training.search import Options, Space, Trial, best, search
from ninefold.training.validation import Task

MEMORY = "models/.search"  # trials of searches, a file each; no output of the stage: it only saves time
TRIALS = "dvclive"  # where DVCLive logs them
RUNGS = (
    (50_000, (1,)),
    (200_000, (1 / 3, 1)),
    (np.inf, (1 / 9, 1 / 3, 1)),
)  # rows fitted -> shares of the rows that a search evaluates one after the other


def tune(task: Task) -> tuple[Params, pd.DataFrame]:
    """Return the params with the best options for their candidates, and the trials of the search.

    A search that was killed, or has got a larger budget, goes on where it was, by a file in ``models/.search``; DVCLive
    logs every trial in ``dvclive``. The project's own candidates keep their options.

    Returns
    -------
    params : Params
        The same, if ``training.search.budget`` is 0.
    trials : DataFrame
        See `table`; empty without a search.
    """
    params, primary = task.params, task.plan.primary
    if params.search.budget == 0:
        return params, table([], 1, 1)
    fitted = sum(len(fold.fitted) for fold in task.folds)
    shares = next(shares for most, shares in RUNGS if fitted <= most)
    rungs = [_rung(task.folds, share, task.problem) for share in shares]
    start = {name: one.options() for name, one in params.candidates.items()}
    space = Space(start, {name: _ranges(name, params) for name in start}, len(rungs), params.seed)
    memory, sign = artifacts.path(f"{MEMORY}/{_identity(task, rungs)}.json"), 1 if primary.better == "lower" else -1
    with _workers(params), logged(TRIALS, sign) as log:
        trials = search(space, partial(_score, task, rungs), params.search.budget, memory, log)
    options = best(trials, len(rungs))
    better = {name: Candidate(model=one.model, **options[name]) for name, one in params.candidates.items()}
    return params.model_copy(update={"candidates": better}), table(trials, len(rungs), sign)


def table(trials: Sequence[Trial], rungs: int, sign: int) -> pd.DataFrame:
    """Return all trials: ``trial``, ``candidate``, ``options`` as text, ``score`` and the ``best`` so far, on all rows.

    Both are missing where a trial was stopped early. `sign` is -1 where higher is better: scores get their sign back.
    """
    rows = [
        (number, each.candidate, as_text(each.options), sign * each.scores[-1] if len(each.scores) == rungs else np.nan)
        for number, each in enumerate(trials)
    ]
    frame = pd.DataFrame(rows, columns=["trial", "candidate", "options", "score"]).astype({"score": "float64"})
    return frame.assign(best=frame["score"].cummin() if sign > 0 else frame["score"].cummax())


def trial_scores(trials: pd.DataFrame, compared: pd.DataFrame, plan: EvaluationPlan) -> pd.DataFrame:
    """Return what ``dvc plots`` shows of a search: ``trial``, ``score``, ``best``; without one, of the candidates."""
    if not trials.empty:
        return trials[["trial", "score", "best"]].dropna()
    score = compared[plan.primary.name]
    top = score.cummin() if plan.primary.better == "lower" else score.cummax()
    return pd.DataFrame({"trial": range(len(score)), "score": score, "best": top})


def as_text(options: Options) -> str:
    """Return options as text: ``C 0.1, rare 200``."""
    texts = {name: value if isinstance(value, str | bool) else f"{value:.4g}" for name, value in options.items()}
    return ", ".join(f"{name} {value}" for name, value in texts.items())


@contextmanager
def logged(folder: str, sign: int) -> Iterator[Callable[[int, Trial], None]]:
    """Let DVCLive log every trial in a folder of the project: a step each, with its score and its options."""
    from dvclive import Live

    with Live(str(artifacts.path(folder)), dvcyaml=None, save_dvc_exp=False) as live:

        def log(number: int, trial: Trial) -> None:
            live.step = number
            live.log_metric("score", sign * trial.scores[-1])
            live.log_metric("rungs", len(trial.scores))
            for name, value in trial.options.items():
                live.log_metric(f"{trial.candidate}/{name}", value)
            live.sync()

        yield log


def _workers(params: Params) -> AbstractContextManager[Any]:
    if params.backend == "local":
        return parallel_config(backend="loky", n_jobs=-1)
    from ninefold.training import dask_cluster

    return dask_cluster.workers(params.scheduler)


def _rung(folds: list[Fold], share: float, problem: Problem) -> list[Fold]:
    """Return the folds of one rung: all of them, or a share of their rows, where there is time of the last fold alone."""
    if share == 1:
        return folds
    return cross_validation.subsample(folds[-1:] if problem.time else folds, share)


def _score(task: Task, rungs: list[list[Fold]], name: str, options: Options, rung: int) -> float:
    """Return the primary metric of a candidate on the rows of a rung; lower is better."""
    params, problem, primary = task.params, task.problem, task.plan.primary
    candidate = Candidate(model=params.candidates[name].model, **options)
    estimator = candidate.estimator(params.seed, task.schema, problem)
    predicted = cross_validation.forecast(estimator, task.rows, rungs[rung], task.schema, problem, cores=1)
    target = cross_validation.unseen(task.rows, rungs[rung])[problem.target].to_numpy()
    value = one_score(primary.name, target, predicted, problem)
    return float(f"{value if primary.better == 'lower' else -value:.8g}")


def _ranges(name: str, params: Params) -> dict[str, Range]:
    """Return the ranges of a candidate's options: the usual ones, or those of params."""
    own, ranges = params.search.space.get(name, {}), {}
    for option, usual in SPACES[params.candidates[name].model].items():
        low, high = own.get(option, (usual.low, usual.high))
        ranges[option] = Range(int(low), int(high), usual.log) if usual.is_integer else Range(low, high, usual.log)
    return ranges


def _identity(task: Task, rungs: list[list[Fold]]) -> str:
    """Return a hash of all that a search depends on but its budget, and the machines that it runs on."""
    names: Any = {"seed": True, "folds": True, "gap": True, "candidates": True, "search": {"space"}}
    hashed = pd.util.hash_pandas_object(task.rows[[*task.schema.all, task.problem.target]], index=False)
    facts = [
        task.params.model_dump(mode="json", include=names),
        hashlib.sha256(hashed.to_numpy().tobytes()).hexdigest(),
        [[len(part) for fold in folds for part in fold] for folds in rungs],
        task.problem.task,
        task.plan.primary.model_dump(),
        hooks.digest(models, cross_validation, search, tune),
        sklearn.__version__,
    ]
    return lineage.of_values(facts)
