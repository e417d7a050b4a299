"""Search for the options of models: proposals by Optuna, poor ones dropped early, all kept so that a killed search goes on."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pandas as pd
from joblib import Parallel, delayed, parallel_config
from pydantic import Field

from ninefold.core import io
from ninefold.core.errors import ParamsError
from ninefold.core.params import Duration, Name, Section, Text

BATCH = 4  # trials that are proposed at once, whatever the number of processors: so that these do not change the search
KEPT = 3  # one of so many trials goes on to more rows
STARTED_AT_RANDOM = 8  # trials before any is proposed by what others found
PATIENCE = 20  # seconds in which a scheduler has to answer
UNITS = {"m": 60.0, "h": 3600.0, "d": 86_400.0}  # seconds
Options = dict[str, Any]
Score = Callable[[str, Options, int], float]  # candidate, its options, rung -> a score, of which lower is better


class Range(NamedTuple):
    """From where to where an option is searched, both included: whole numbers if both are, evenly on a log scale or not."""

    low: float
    high: float
    log: bool = False


class Search(Section):
    """How long to search, and where; no budget, no search: candidates keep the options that they are given."""

    budget: Annotated[int, Field(ge=0)] | Duration = 0
    space: dict[Text, dict[Name, tuple[float, float]]] = Field(default_factory=dict)


class Trial(NamedTuple):
    """What was tried: a candidate with options, and its score on each rung that it reached (the last one has all rows)."""

    candidate: str
    options: Options
    scores: list[float]
    seconds: float  # that its batch took, shared among the trials of it


def search(
    spaces: dict[str, dict[str, Range]],
    given: dict[str, Options],
    score: Score,
    *,
    budget: int | str,
    rungs: int,
    seed: int,
    memory: Path,
    tell: Callable[[int, Trial], None] = lambda *_: None,
) -> list[Trial]:
    """Try options until the budget is spent; return all trials, in their order.

    First come the options that are given, whole. Then proposals of a tree-structured Parzen estimator (Bergstra et al.,
    Algorithms for Hyper-Parameter Optimization, 2011) in batches; on few rows first, of which the best third goes on
    (successive halving; Jamieson and Talwalkar, Non-stochastic Best Arm Identification, 2016).

    Parameters
    ----------
    spaces : dict
        Candidate -> option -> its range. A candidate without options is tried once.
    given : dict
        Candidate -> options to begin with.
    score : callable
        Has to be such that joblib can send it to other processes.
    budget : int or str
        Trials beside those that are given, or a time, such as ``10m``: the batch that is running then is ended.
        Trials reproduce; what a time allows depends on the machine.
    rungs : int
        Steps from few rows to all of them, at least 1.
    seed : int
    memory : Path
        JSON file that keeps every batch when it is done; a search that was killed goes on there, and finds what it would
        have found, and one with a larger budget begins there.
    tell : callable
        Is told every trial, with its number, those remembered, too.
    """
    trials = _remembered(memory)
    for number, trial in enumerate(trials):
        tell(number, trial)
    with _progress(budget, len(given)) as advance:
        advance(trials)
        while not _spent(trials, budget, len(given)):
            start = len(trials)
            first = list(given.items())[start : start + BATCH]
            proposed = first or _propose(spaces, trials, seed, _count(trials, budget, len(given)))
            began = time.perf_counter()
            found = _climb(proposed, trials, score, 1 if first else KEPT, rungs)
            share = (time.perf_counter() - began) / len(proposed)
            trials += [Trial(*pair, values, round(share, 3)) for pair, values in zip(proposed, found, strict=True)]
            io.write_json([trial._asdict() for trial in trials], memory)
            for number in range(start, len(trials)):
                tell(number, trials[number])
            advance(trials)
    return trials


def best(trials: Sequence[Trial], rungs: int) -> dict[str, Options]:
    """Return the options of each candidate that scored best on all rows, the first of equals."""
    found: dict[str, Trial] = {}
    for trial in trials:
        held = found.get(trial.candidate)
        if len(trial.scores) == rungs and (held is None or trial.scores[-1] < held.scores[-1]):
            found[trial.candidate] = trial
    return {name: trial.options for name, trial in found.items()}


def seconds(budget: str) -> float:
    """Return a duration, such as ``10m``, in seconds."""
    return float(budget[:-1]) * UNITS[budget[-1]]


@contextmanager
def workers(backend: str, scheduler: str | None = None) -> Iterator[None]:
    """Let what joblib runs inside run on all cores of this machine, or on a Dask cluster.

    Parameters
    ----------
    backend : str
        ``local`` or ``dask``.
    scheduler : str, optional
        Address of a Dask scheduler, such as ``tcp://host:8786``; without one a cluster of this machine's cores is started.

    Raises
    ------
    ParamsError
        If Dask is asked for and not installed, or its scheduler does not answer.
    """
    if backend == "local":
        with parallel_config(backend="loky", n_jobs=-1):
            yield
        return
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise ParamsError(
            "params.yaml: training.backend: found dask, which is not installed; run `make setup`, or say local"
        ) from None
    try:
        cluster = scheduler or LocalCluster(threads_per_worker=1, dashboard_address=None)
        client = Client(cluster, timeout=PATIENCE)
    except (OSError, ValueError) as error:
        raise ParamsError(
            f"params.yaml: training.scheduler: {scheduler} does not answer ({error}); start it with `dask scheduler`, or "
            "leave it out for a cluster on this machine"
        ) from None
    try:
        with parallel_config(backend="dask"):
            yield
    finally:
        client.close()
        if not isinstance(cluster, str):
            cluster.close()


@contextmanager
def logged(folder: str, sign: int) -> Iterator[Callable[[int, Trial], None]]:
    """Let DVCLive log every trial in a folder of the project: a step each, with its score and its options."""
    from dvclive import Live

    with Live(str(io.path(folder)), dvcyaml=None, save_dvc_exp=False) as live:

        def tell(number: int, trial: Trial) -> None:
            live.step = number
            live.log_metric("score", sign * trial.scores[-1])
            live.log_metric("rungs", len(trial.scores))
            for name, value in trial.options.items():
                live.log_metric(f"{trial.candidate}/{name}", value)
            live.sync()

        yield tell


def _propose(
    spaces: dict[str, dict[str, Range]], trials: Sequence[Trial], seed: int, count: int
) -> list[tuple[str, Options]]:
    """Return candidates and options to try next. What was tried decides, and no other state: so that a search resumes."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings(category=optuna.exceptions.ExperimentalWarning, action="ignore"):
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=STARTED_AT_RANDOM, multivariate=True, group=True, seed=seed + len(trials)
        )
    study = optuna.create_study(sampler=sampler)
    rungs = max(len(trial.scores) for trial in trials)
    study.add_trials([_told(trial, spaces, rungs) for trial in trials if spaces.get(trial.candidate)])
    asked = []
    names = [name for name, space in spaces.items() if space]
    for _ in range(min(count, BATCH)):
        trial = study.ask()
        candidate = trial.suggest_categorical("candidate", names)
        space = spaces[candidate].items()
        asked.append((candidate, {option: _suggest(trial, f"{candidate}.{option}", each) for option, each in space}))
    return asked


def _told(trial: Trial, spaces: dict[str, dict[str, Range]], rungs: int) -> Any:
    """Return a trial as Optuna keeps it; options beyond their ranges are put at their ends."""
    import optuna

    space = spaces[trial.candidate]
    inside = {
        f"{trial.candidate}.{name}": min(max(trial.options[name], bounds.low), bounds.high)
        for name, bounds in space.items()
    }
    distributions: dict[str, Any] = {f"{trial.candidate}.{name}": _distribution(each) for name, each in space.items()}
    names = [name for name, each in spaces.items() if each]
    whole = len(trial.scores) == rungs
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.COMPLETE if whole else optuna.trial.TrialState.PRUNED,
        params={"candidate": trial.candidate, **inside},
        distributions={"candidate": optuna.distributions.CategoricalDistribution(names), **distributions},
        value=trial.scores[-1] if whole else None,
        intermediate_values=dict(enumerate(trial.scores)),
    )


def _climb(
    proposed: Sequence[tuple[str, Options]], trials: Sequence[Trial], score: Score, kept: int, rungs: int
) -> list[list[float]]:
    """Return the scores of proposals on each rung that they reach; of `kept` of them, and of those before, one goes on."""
    found: list[list[float]] = [[] for _ in proposed]
    going = list(range(len(proposed)))
    for rung in range(rungs):
        values = Parallel()(delayed(score)(*proposed[number], rung) for number in going)
        for number, value in zip(going, values, strict=True):
            found[number].append(float(value))
        earlier = [trial.scores[rung] for trial in trials if len(trial.scores) > rung]
        ranked = sorted([*earlier, *(found[number][rung] for number in going)])
        limit = ranked[max(-(-len(ranked) // kept), 1) - 1]
        going = [number for number in going if found[number][rung] <= limit]
        if not going:
            break
    return found


def _distribution(bounds: Range) -> Any:
    from optuna.distributions import FloatDistribution, IntDistribution

    low, high, log = bounds
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(float(low), float(high), log=log)


def _suggest(trial: Any, name: str, bounds: Range) -> Any:
    """Return a proposed value; four digits are enough."""
    low, high, log = bounds
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high, log=log)
    return float(f"{trial.suggest_float(name, low, high, log=log):.4g}")


def _remembered(memory: Path) -> list[Trial]:
    """Return the trials of an earlier search, none if there was none, or if its file cannot be read."""
    try:
        return [Trial(**trial) for trial in json.loads(memory.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        return []


def _count(trials: Sequence[Trial], budget: int | str, given: int) -> int:
    return BATCH if isinstance(budget, str) else budget + given - len(trials)


def _spent(trials: Sequence[Trial], budget: int | str, given: int) -> bool:
    """Return whether the budget is spent; what was given is tried in any case, once."""
    if len(trials) < given:
        return False
    if isinstance(budget, str):
        return sum(trial.seconds for trial in trials) >= seconds(budget)
    return len(trials) >= budget + given


@contextmanager
def _progress(budget: int | str, given: int) -> Iterator[Callable[[Sequence[Trial]], None]]:
    """Show a bar on the error stream: of trials, or of seconds; and the best score so far."""
    from tqdm import tqdm

    timed = isinstance(budget, str)
    total = seconds(budget) if isinstance(budget, str) else budget + given
    with tqdm(total=total, desc="search", unit="s" if timed else "trial", file=sys.stderr, leave=False) as bar:

        def advance(trials: Sequence[Trial]) -> None:
            bar.n = min(round(sum(trial.seconds for trial in trials)), total) if timed else len(trials)
            reached = max((len(trial.scores) for trial in trials), default=0)
            whole = [trial.scores[-1] for trial in trials if len(trial.scores) == reached]
            bar.set_postfix_str(f"{len(trials)} trials, best {min(whole):.4g}" if whole else "")

        yield advance


def worded(options: Options) -> str:
    """Return options as text: ``C 0.1, rare 200``."""
    given = {name: value if isinstance(value, str | bool) else f"{value:.4g}" for name, value in options.items()}
    return ", ".join(f"{name} {value}" for name, value in given.items())


def table(trials: Sequence[Trial], rungs: int, sign: int) -> pd.DataFrame:
    """Return all trials: ``trial``, ``candidate``, ``options`` as text, ``score`` and the ``best`` so far, on all rows.

    Both are missing where a trial was dropped before. `sign` is -1 where higher is better: scores are turned back.
    """
    rows = [
        (
            number,
            trial.candidate,
            worded(trial.options),
            sign * trial.scores[-1] if len(trial.scores) == rungs else float("nan"),
        )
        for number, trial in enumerate(trials)
    ]
    frame = pd.DataFrame(rows, columns=["trial", "candidate", "options", "score"]).astype({"score": "float64"})
    return frame.assign(best=frame["score"].cummin() if sign > 0 else frame["score"].cummax())
