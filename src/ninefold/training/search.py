"""Search for options: proposals by Optuna, poor ones stopped early; a search that was killed goes on with equal results."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from joblib import Parallel, delayed

from ninefold import artifacts
from ninefold.training.models import Range

BATCH = 4  # trials proposed at once, whatever the number of processors, so that it does not change the search
REDUCTION = 3  # one of so many trials goes on to more rows
STARTUP = 8  # random trials before the first that is proposed from the results of others
UNITS = {"m": 60.0, "h": 3600.0, "d": 86_400.0}  # seconds
Options = dict[str, Any]
Score = Callable[[str, Options, int], float]  # candidate, its options, rung -> a score, lower is better


class Trial(NamedTuple):
    """A candidate with options, and its score on each rung that it reached; the last rung has all rows."""

    candidate: str
    options: Options
    scores: list[float]
    seconds: float  # its share of the time of its batch


@dataclass(frozen=True)
class Space:
    """What is searched: the options that each candidate starts with, and the ranges of its options.

    Attributes
    ----------
    start : dict
        Candidate -> options to evaluate first.
    ranges : dict
        Candidate -> option -> its range. A candidate without ranges is tried once.
    rungs : int
        Steps from few rows to all of them, at least 1.
    seed : int
    """

    start: dict[str, Options]
    ranges: dict[str, dict[str, Range]]
    rungs: int
    seed: int


def search(
    space: Space,
    score: Score,
    budget: int | str,
    memory: Path,
    log: Callable[[int, Trial], None] = lambda *_: None,
) -> list[Trial]:
    """Try options until the budget is spent; return all trials, in their order.

    First the options that candidates start with, on all rows. Then proposals of a tree-structured Parzen estimator
    (Bergstra et al., Algorithms for Hyper-Parameter Optimization, 2011) in batches; on few rows first, of which the best
    third goes on (successive halving; Jamieson and Talwalkar, Non-stochastic Best Arm Identification, 2016).

    Parameters
    ----------
    score : callable
        Must be such that joblib can send it to other processes.
    budget : int or str
        Trials beside the first ones, or a time, such as ``10m``: the batch that is running then is finished. Trials
        reproduce; what a time allows depends on the machine.
    memory : Path
        JSON file to which every finished batch is added. A search that was killed goes on there with equal results, and
        one with a larger budget starts there. (Optuna's storages add single trials: a batch that was killed halfway
        would be proposed otherwise.)
    log : callable
        Called with the number and the trial, for remembered trials too.
    """
    trials = _remembered(memory)
    for number, trial in enumerate(trials):
        log(number, trial)
    with _progress(budget, len(space.start)) as show:
        show(trials)
        while not _spent(trials, budget, len(space.start)):
            count, began = len(trials), time.perf_counter()
            first = list(space.start.items())[count : count + BATCH]
            left = BATCH if isinstance(budget, str) else budget + len(space.start) - count
            proposals = first or _propose(space, trials, min(left, BATCH))
            scores = _evaluate(proposals, trials, score, 1 if first else REDUCTION, space.rungs)
            share = round((time.perf_counter() - began) / len(proposals), 3)
            trials += [Trial(*pair, values, share) for pair, values in zip(proposals, scores, strict=True)]
            artifacts.write_json([trial._asdict() for trial in trials], memory)
            for number, trial in enumerate(trials[count:], count):
                log(number, trial)
            show(trials)
    return trials


def best(trials: Sequence[Trial], rungs: int) -> dict[str, Options]:
    """Return the options of each candidate that scored best on all rows, the first of equals."""
    ranked = sorted((trial for trial in trials if len(trial.scores) == rungs), key=lambda trial: trial.scores[-1])
    return {trial.candidate: trial.options for trial in reversed(ranked)}


def _propose(space: Space, trials: Sequence[Trial], count: int) -> list[tuple[str, Options]]:
    """Return candidates and options to try next; they depend on the trials before and the seed alone."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings(category=optuna.exceptions.ExperimentalWarning, action="ignore"):
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=STARTUP, multivariate=True, group=True, seed=space.seed + len(trials)
        )
    study = optuna.create_study(sampler=sampler)
    ranges = {name: each for name, each in space.ranges.items() if each}
    study.add_trials([_frozen(trial, ranges, space.rungs) for trial in trials if trial.candidate in ranges])
    proposals = []
    for _ in range(count):
        trial = study.ask()
        candidate = trial.suggest_categorical("candidate", list(ranges))
        options = {name: _suggest(trial, f"{candidate}.{name}", each) for name, each in ranges[candidate].items()}
        proposals.append((candidate, options))
    return proposals


def _frozen(trial: Trial, ranges: dict[str, dict[str, Range]], rungs: int) -> Any:
    """Return a trial as one of Optuna's; options beyond their ranges are put at their ends."""
    from optuna.distributions import BaseDistribution, CategoricalDistribution
    from optuna.trial import TrialState, create_trial

    distributions: dict[str, BaseDistribution] = {"candidate": CategoricalDistribution(list(ranges))}
    params: Options = {"candidate": trial.candidate}
    for name, each in ranges[trial.candidate].items():
        distributions[f"{trial.candidate}.{name}"] = _distribution(each)
        params[f"{trial.candidate}.{name}"] = min(max(trial.options[name], each.low), each.high)
    whole = len(trial.scores) == rungs
    return create_trial(
        state=TrialState.COMPLETE if whole else TrialState.PRUNED,
        params=params,
        distributions=distributions,
        value=trial.scores[-1] if whole else None,
        intermediate_values=dict(enumerate(trial.scores)),
    )


def _distribution(each: Range) -> Any:
    from optuna.distributions import FloatDistribution, IntDistribution

    if each.is_integer:
        return IntDistribution(int(each.low), int(each.high), log=each.log)
    return FloatDistribution(float(each.low), float(each.high), log=each.log)


def _suggest(trial: Any, name: str, each: Range) -> Any:
    """Return a proposed value; four digits are enough."""
    if each.is_integer:
        return trial.suggest_int(name, int(each.low), int(each.high), log=each.log)
    return float(f"{trial.suggest_float(name, each.low, each.high, log=each.log):.4g}")


def _evaluate(
    proposals: Sequence[tuple[str, Options]], trials: Sequence[Trial], score: Score, reduction: int, rungs: int
) -> list[list[float]]:
    """Return the scores of proposals on each rung that they reach.

    One of `reduction` trials, those before included, goes on to the next rung.
    """
    scores: list[list[float]] = [[] for _ in proposals]
    going = list(range(len(proposals)))
    for rung in range(rungs):
        values = Parallel()(delayed(score)(*proposals[number], rung) for number in going)
        for number, value in zip(going, values, strict=True):
            scores[number].append(float(value))
        earlier = [trial.scores[rung] for trial in trials if len(trial.scores) > rung]
        ranked = sorted([*earlier, *(scores[number][rung] for number in going)])
        limit = ranked[max(-(-len(ranked) // reduction), 1) - 1]
        going = [number for number in going if scores[number][rung] <= limit]
        if not going:
            break
    return scores


def _remembered(memory: Path) -> list[Trial]:
    """Return the trials of an earlier search, none if there was none, or if its file cannot be read."""
    try:
        return [Trial(**trial) for trial in json.loads(memory.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        return []


def _spent(trials: Sequence[Trial], budget: int | str, first: int) -> bool:
    """Return whether the budget is spent; the first trials are made in any case."""
    if len(trials) < first:
        return False
    if isinstance(budget, str):
        return sum(trial.seconds for trial in trials) >= _seconds(budget)
    return len(trials) >= budget + first


def _seconds(budget: str) -> float:
    return float(budget[:-1]) * UNITS[budget[-1]]


@contextmanager
def _progress(budget: int | str, first: int) -> Iterator[Callable[[Sequence[Trial]], None]]:
    """Show a bar on the error stream: of trials, or of seconds; and the best score so far."""
    from tqdm import tqdm

    timed = isinstance(budget, str)
    total = _seconds(budget) if isinstance(budget, str) else budget + first
    with tqdm(total=total, desc="search", unit="s" if timed else "trial", file=sys.stderr, leave=False) as bar:

        def show(trials: Sequence[Trial]) -> None:
            bar.n = min(round(sum(trial.seconds for trial in trials)), total) if timed else len(trials)
            reached = max((len(trial.scores) for trial in trials), default=0)
            whole = [trial.scores[-1] for trial in trials if len(trial.scores) == reached]
            bar.set_postfix_str(f"{len(trials)} trials, best {min(whole):.4g}" if whole else "")

        yield show
