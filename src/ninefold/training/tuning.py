"""Tune the candidates of params: a search by Optuna, poor trials stopped early; killed, it goes on with equal results."""

import hashlib
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import sklearn
from joblib import Parallel, delayed, parallel_config

from ninefold import artifacts, hooks, lineage
from ninefold.errors import DataError
from ninefold.metrics import EvaluationPlan, one_score
from ninefold.sentences import render
from ninefold.training import cross_validation, models
from ninefold.training.cross_validation import Fold, Folds
from ninefold.training.models import SPACES, Candidate, Range
from ninefold.training.params import Params

MEMORY = "models/.search"  # trials of searches, a file each; no output of the stage: it only saves time
TRIALS = "dvclive"  # where DVCLive logs them
# Rows fitted -> of how many rows one is evaluated, one such subsample after the other.
RUNGS = ((50_000, (1,)), (200_000, (3, 1)), (np.inf, (9, 3, 1)))
BATCH = 4  # trials proposed at once, whatever the number of processors, so that it does not change the search
REDUCTION = 3  # one of so many trials goes on to more rows
STARTUP = 8  # random trials before the first that is proposed from the results of others
Options = dict[str, Any]
Score = Callable[[str, Options, int], float]  # candidate, its options, rung -> a score, lower is better


class Trial(NamedTuple):
    """A candidate with options, and its score on each rung that it reached; the last rung has all rows."""

    candidate: str
    options: Options
    scores: list[float]
    seconds: float  # its share of the time of its batch


class Space(NamedTuple):
    """What is searched, by candidate."""

    start: dict[str, Options]  # options to evaluate first
    ranges: dict[str, dict[str, Range]]  # of options; a candidate without ranges is tried once
    rungs: int  # steps from few rows to all of them, at least 1
    seed: int


def tune(folds: Folds, plan: EvaluationPlan) -> tuple[Params, pd.DataFrame]:
    """Return the params with the best options for their candidates, and the trials of the search; see `table`.

    A search that was killed, or has got a larger budget, goes on where it was, see `search`; DVCLive logs every trial.
    """
    params, budget, trials = folds.params, folds.params.search.budget, list[Trial]()
    if budget == 0:
        return params, table(trials, 1, 1)
    if lineage.commit() == lineage.NO_COMMIT:  # DVCLive names the commit beside which it logs
        raise DataError(render("training", "no_commit"))
    from dvclive import Live
    from tqdm import tqdm

    fitted = sum(len(fold.fitted) for fold in folds.pairs)
    newest, rungs = folds.pairs[-1:] if folds.problem.time else folds.pairs, []
    for step in next(steps for most, steps in RUNGS if fitted <= most):
        pairs = newest if step > 1 else folds.pairs
        rungs.append([Fold(fold.fitted[::step], fold.unseen[::step]) for fold in pairs])
    start = {name: one.options() for name, one in params.candidates.items()}
    space = Space(start, {name: _ranges(name, params) for name in start}, len(rungs), params.seed)
    memory = artifacts.undeclared(f"{MEMORY}/{_identity(folds, rungs, plan)}.json")
    sign, score = 1 if plan.primary.better == "lower" else -1, partial(_score, folds, rungs, plan)
    with workers(params), Live(str(artifacts.undeclared(TRIALS)), dvcyaml=None, save_dvc_exp=False) as live:
        tried = search(space, score, budget, memory)
        for trial in tqdm(tried, f"search, budget {budget}", unit="trial", file=sys.stderr, leave=False):
            live.step = len(trials)
            options = {f"{trial.candidate}/{name}": value for name, value in trial.options.items()}
            for name, value in {"score": sign * trial.scores[-1], "rungs": len(trial.scores), **options}.items():
                live.log_metric(name, value)
            live.sync()
            trials.append(trial)
    chosen = best(trials, len(rungs))
    better = {name: Candidate(model=one.model, **chosen[name]) for name, one in params.candidates.items()}
    return params.model_copy(update={"candidates": better}), table(trials, len(rungs), sign)


def table(trials: Sequence[Trial], rungs: int, sign: int) -> pd.DataFrame:
    """Return ``trial``, ``candidate``, ``options``, ``score`` and the ``best`` so far, missing where stopped early."""
    rows = [(number, each.candidate, as_text(each.options)) for number, each in enumerate(trials)]
    scores = [sign * each.scores[-1] if len(each.scores) == rungs else np.nan for each in trials]
    frame = pd.DataFrame(rows, columns=["trial", "candidate", "options"]).assign(score=np.array(scores, dtype=float))
    return frame.assign(best=sign * (sign * frame["score"]).cummin())


def trial_scores(trials: pd.DataFrame, compared: pd.DataFrame, plan: EvaluationPlan) -> pd.DataFrame:
    """Return what ``dvc plots`` shows of a search: ``trial``, ``score``, ``best``; without one, of the candidates."""
    if not trials.empty:
        return trials[["trial", "score", "best"]].dropna()
    score, sign = compared[plan.primary.name], 1 if plan.primary.better == "lower" else -1
    return pd.DataFrame({"trial": range(len(score)), "score": score, "best": sign * (sign * score).cummin()})


def as_text(options: Options) -> str:
    """Return options as text: ``C 0.1, rare 200``."""
    texts = {name: value if isinstance(value, bool) else f"{value:.4g}" for name, value in options.items()}
    return ", ".join(f"{name} {value}" for name, value in texts.items())


def workers(params: Params) -> AbstractContextManager[object]:
    """Let joblib run on all cores, or on the Dask cluster that params name."""
    if params.backend == "local":
        return parallel_config(backend="loky", n_jobs=-1)
    from ninefold.training import dask_cluster

    return dask_cluster.connect(params.scheduler)


def _score(folds: Folds, rungs: list[list[Fold]], plan: EvaluationPlan, name: str, values: Options, rung: int) -> float:
    """Return the primary metric of a candidate on the rows of a rung; lower is better."""
    rows, params, schema, problem, primary = folds.rows, folds.params, folds.schema, folds.problem, plan.primary
    candidate = Candidate(model=params.candidates[name].model, **values)
    estimator = candidate.estimator(params.seed, schema, problem)
    predicted = cross_validation.forecast(estimator, rows, rungs[rung], schema, problem, cores=1)
    target = rows[problem.target].to_numpy()[np.concatenate([fold.unseen for fold in rungs[rung]])]
    value = one_score(primary.name, target, predicted, problem)
    return float(f"{value if primary.better == 'lower' else -value:.8g}")


def _ranges(name: str, params: Params) -> dict[str, Range]:
    ranges = dict(SPACES[params.candidates[name].model])
    for option, (low, high) in params.search.space.get(name, {}).items():
        kind = type(ranges[option].low)  # int or float
        ranges[option] = Range(kind(low), kind(high), ranges[option].log)
    return ranges


def _identity(folds: Folds, rungs: list[list[Fold]], plan: EvaluationPlan) -> str:
    """Return a hash of all that a search depends on but its budget, and the machines that it runs on."""
    names: Any = {"seed": True, "folds": True, "candidates": True, "search": {"space"}}
    hashed = pd.util.hash_pandas_object(folds.rows[[*folds.schema.all, folds.problem.target]], index=False)
    data = hashlib.sha256(hashed.to_numpy().tobytes()).hexdigest()
    sizes = [[len(part) for fold in rung for part in fold] for rung in rungs]
    settings = [folds.params.model_dump(mode="json", include=names), folds.problem.task, plan.primary.model_dump()]
    code = [hooks.digest(models, cross_validation, tune), models.OPTIONS, SPACES, sklearn.__version__]
    return lineage.of_values([data, sizes, settings, code])


def search(space: Space, score: Score, budget: int | str, memory: Path) -> Iterator[Trial]:
    """Try options until the budget is spent; yield all trials, in their order.

    First the options that candidates start with, on all rows, at once. Then batches of proposals of a tree-structured
    Parzen estimator (Bergstra et al., 2011), on few rows first, of which the best third goes on (successive halving;
    Jamieson and Talwalkar, 2016). `budget`: trials beside the first ones, or a time, such as ``10m``, which ends with the
    batch that is running.
    `memory`: JSON file of the finished batches, yielded too, with which a search that was killed goes on with equal results.
    (Optuna's storages add single trials: a batch that was killed halfway would be proposed otherwise.)
    """
    first, most, seconds, trials = len(space.start), sys.maxsize, np.inf, list[Trial]()
    if isinstance(budget, str):
        seconds = pd.Timedelta(budget.replace("d", "D")).total_seconds()
    else:
        most = budget + first
    with suppress(OSError, ValueError, TypeError):  # there was no search, or its file cannot be read
        trials = [Trial(**trial) for trial in json.loads(memory.read_text(encoding="utf-8"))]
    yield from trials
    while (count := len(trials)) < most and (count < first or sum(trial.seconds for trial in trials) < seconds):
        starts, began = list(space.start.items())[count:], time.perf_counter()
        proposals = starts or _propose(space, trials, min(most - count, BATCH))
        scores = _evaluate(proposals, trials, score, 1 if starts else REDUCTION, space.rungs)
        share = round((time.perf_counter() - began) / len(proposals), 3)
        trials += [Trial(*pair, values, share) for pair, values in zip(proposals, scores, strict=True)]
        artifacts.write_json([trial._asdict() for trial in trials], memory)
        yield from trials[count:]


def best(trials: Sequence[Trial], rungs: int) -> dict[str, Options]:
    """Return the options of each candidate that scored best on all rows, the first of equals."""
    ranked = sorted((trial for trial in trials if len(trial.scores) == rungs), key=lambda trial: trial.scores[-1])
    return {trial.candidate: trial.options for trial in reversed(ranked)}


def _propose(space: Space, trials: Sequence[Trial], count: int) -> list[tuple[str, Options]]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    settings: dict[str, Any] = {"n_startup_trials": STARTUP, "multivariate": True, "group": True}
    with warnings.catch_warnings(category=optuna.exceptions.ExperimentalWarning, action="ignore"):
        sampler = optuna.samplers.TPESampler(**settings, seed=space.seed + len(trials))
    study = optuna.create_study(sampler=sampler)
    ranges = {name: each for name, each in space.ranges.items() if each}
    study.add_trials([_frozen(trial, ranges, space.rungs) for trial in trials if trial.candidate in ranges])
    proposals = []
    for _ in range(count):
        trial = study.ask()
        candidate = trial.suggest_categorical("candidate", list(ranges))
        options = dict(space.start[candidate])  # what has no range stays as params have it
        for name, (low, high, log) in ranges[candidate].items():
            if isinstance(low, int):
                options[name] = trial.suggest_int(f"{candidate}.{name}", low, high, log=log)
            else:  # four digits are enough
                options[name] = float(f"{trial.suggest_float(f'{candidate}.{name}', low, high, log=log):.4g}")
        proposals.append((candidate, options))
    return proposals


def _frozen(trial: Trial, ranges: dict[str, dict[str, Range]], rungs: int) -> Any:
    """Return a trial as one of Optuna's; options beyond their ranges are put at their ends."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
    from optuna.trial import TrialState, create_trial

    params: Options = {"candidate": trial.candidate}
    distributions: dict[str, Any] = {"candidate": CategoricalDistribution(list(ranges))}
    for name, each in ranges[trial.candidate].items():
        params[f"{trial.candidate}.{name}"] = min(max(trial.options[name], each.low), each.high)
        kind = IntDistribution if isinstance(each.low, int) else FloatDistribution
        distributions[f"{trial.candidate}.{name}"] = kind(*each)
    facts = {"params": params, "distributions": distributions, "intermediate_values": dict(enumerate(trial.scores))}
    if len(trial.scores) < rungs:
        return create_trial(state=TrialState.PRUNED, **facts)
    return create_trial(state=TrialState.COMPLETE, value=trial.scores[-1], **facts)


def _evaluate(
    proposals: Sequence[tuple[str, Options]], trials: Sequence[Trial], score: Score, reduction: int, rungs: int
) -> list[list[float]]:
    """Return the scores of proposals on each rung that they reach: one of `reduction` trials goes on to the next."""
    scores: list[list[float]] = [[] for _ in proposals]
    going = list(range(len(proposals)))
    for rung in range(rungs):
        values = Parallel()(delayed(score)(*proposals[number], rung) for number in going)
        for number, value in zip(going, values, strict=True):
            scores[number].append(float(value))
        reached = sorted(each[rung] for each in [*scores, *(trial.scores for trial in trials)] if len(each) > rung)
        limit = reached[max(-(-len(reached) // reduction), 1) - 1]
        if not (going := [number for number in going if scores[number][rung] <= limit]):
            break
    return scores
