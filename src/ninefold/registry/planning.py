"""Which retraining to run: the one that was interrupted, as the journal in git's directory records it, or a new one."""

import json
import re
from dataclasses import asdict, dataclass
from datetime import date
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd

from ninefold import artifacts, collection, lineage, monitoring, params, timestamps
from ninefold.collection import files
from ninefold.errors import DataError
from ninefold.problem import Problem
from ninefold.registry import promotion, repository
from ninefold.registry.repository import say

BRANCHES, DECISION = "retrain", f"{monitoring.MONITORING}/decision.json"
RESULTS = (params.FILE, lineage.LOCK, "reports/metrics", "reports/plots")  # what a run changes of what git has
SOURCES = (*RESULTS, "dvc.yaml", "ninefold.yaml", "notebooks", "src", "data")  # have to be committed before a run
STEPS = ("repro", "compare", "commit", "push", "promote", "finish")
STEPPED_BACK = "back"


@dataclass(frozen=True)
class Run:
    """A retraining as the journal records it; `step` is the current one."""

    root: str
    base: str  # the commit from which it began ...
    onto: str  # ... and the branch that was checked out
    branch: str  # of the challenger
    as_of: str | None  # None: the project has no time
    reason: str | None
    step: str = STEPS[0]
    champion: str | None = None
    fit: bool = False
    moves: bool = False  # the checked-out branch moves on to the challenger
    result: str = ""
    error: str = ""

    @property
    def until(self) -> str:
        """Which data the run uses, in words."""
        return f"until {self.as_of}" if self.as_of else "of today"


def journal() -> Path:
    """Return the path of the journal."""
    return repository.folder() / "ninefold-retrain.json"


def record(run: Run) -> None:
    """Write the journal, before the step that it names begins."""
    artifacts.write_durable(json.dumps(asdict(run)).encode(), journal())


def interrupted() -> Run | None:
    """Return the run that was interrupted; None if there is none."""
    file = journal()
    with collection.failing(str(file), "read", "see `git status`, and delete it", ValueError, TypeError):
        return Run(**json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None


def preview(as_of: date | None = None) -> str:
    """Return, as text, what `retrain` would do; nothing is changed."""
    if begun := interrupted():
        return f"would go on with the retraining {begun.until}, which stopped at step {begun.step}"
    planned = plan(as_of, None)
    if isinstance(planned, str):
        return planned
    decision = (artifacts.published(DECISION) or {}).get("decision", "none yet")
    facts = {"before": params.load("collection").as_of, "stages": stages(), "champion": find_champion()}
    return say("preview", planned=planned, decision=decision, **facts)


def due(collected: collection.Params, problem: Problem, monitored: monitoring.Params) -> date:
    """Return the last day to add, which has all its labels, in a replay of one month; at least the present `as_of`."""
    if collected.as_of is None:
        raise DataError("collection.as_of: not given, so nothing can be moved on")
    known = _newest(collected, problem) - pd.Timedelta(problem.label_delay)
    unit = timestamps.coarser(monitoring.source_times(collected, problem, pd.Timestamp(collected.start)), "day")
    day = known.to_period(timestamps.GRAINS[unit][0]).start_time  # of months, whole ones are added
    last = (day - pd.Timedelta(days=1)).date()
    if monitored.source == "replay":
        length = unit if timestamps.GRAINS[unit][1] > 31 else "month"
        last = min(last, timestamps.last_day(pd.Timestamp(collected.as_of) + pd.Timedelta(days=1), length).date())
    return max(last, collected.as_of)


def plan(as_of: date | None, reason: str | None) -> Run | str:
    """Return the run to make, or why there is none to make."""
    collected, problem = params.load("collection"), Problem.of(params.load("problem"))
    table = collected.tables.get(problem.table)
    timed = bool(problem.time and table and table.time)
    if as_of is not None and collected.as_of is None:
        raise DataError(f"--as-of {as_of}: found no time in this project, which reads its whole source; leave it out")
    if as_of is not None and as_of < collected.as_of:
        raise DataError(say("before_as_of", day=as_of, as_of=collected.as_of))
    day = as_of or (due(collected, problem, params.load("monitoring")) if timed else None)
    if as_of is None and timed and day == collected.as_of:
        return f"nothing new: the source holds no whole day after {day} whose labels are due"
    changed = changes()
    if not timed and as_of is None and not changed:
        return "nothing new: what was built is what the source and the params give"
    onto, base = _demand_clean(changed), repository.head()
    name = f"{BRANCHES}/{day or base[: lineage.SHORT]}"
    branches = repository.git("for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads", "refs/remotes").split()
    alike = [each for each in branches if re.search(rf"(^|/){re.escape(name)}(-\d+)?$", each)]
    for tried in alike:
        if repository.git("rev-list", "--parents", "-1", tried).split()[1:2] == [base]:
            return f"nothing new: {tried} was built from this commit already, and not promoted; {by_hand(tried)}"
    free = next(each for number in count(1) if (each := f"{name}-{number}" if number > 1 else name) not in branches)
    return Run(str(params.root()), base, onto, free, str(day) if day else None, reason)


def _newest(collected: collection.Params, problem: Problem) -> pd.Timestamp:
    """Return the time of the newest row after `as_of`, of the source or of what landed; else the start of that day; none of the future."""
    name, source = problem.table, collected.tables[problem.table]
    start, landing = pd.Timestamp(collected.as_of), f"{collection.LANDING}/{name}"
    parts, folder = [monitoring.source_times(collected, problem, start)], artifacts.path(landing)
    for file in files.inside(folder) if folder.is_dir() else []:
        place = f"{landing}/{file.relative_to(folder).as_posix()}"
        parts.append(collection.read_landed(source, place, artifacts.sha256(file))[1])
    times = pd.concat(parts)
    return max(start, times[times <= timestamps.now()].max())


def _demand_clean(changed: dict[str, Any]) -> str:
    """Demand that what the pipeline reads is committed, and a commit is possible; return the checked-out branch."""
    if not (onto := repository.git("branch", "--show-current").strip()):
        raise DataError("git: no branch is checked out, so a commit would belong to none; `git switch` to one")
    if lineage.file_of("HEAD", lineage.LOCK) is None:
        raise DataError(f"{lineage.LOCK}: not committed, so there is no model to begin from; `dvc repro`, and commit")
    if names := repository.changed(*SOURCES):
        raise DataError(say("not_committed", names=names))
    if tracked := " ".join(name.removesuffix(".dvc") for name in changed if name.endswith(".dvc")):
        raise DataError(f"{tracked}: not as its .dvc file records it; `dvc add {tracked}`, and commit it")
    lineage.demand_own_store()
    repository.git("var", "GIT_COMMITTER_IDENT")
    return onto


def find_champion() -> dict[str, Any] | None:
    """Return the version in production, as `promotion.models` lists it; None if there is none."""
    return next((one for one in promotion.models() if one["champion"]), None)


def stages() -> list[str]:
    """Return the stages that would run, in order: those that are out of date, or read `as_of`, and what depends on them."""
    from networkx import ancestors  # type: ignore[import-untyped] # in DVC's graph, of a stage: what depends on it

    changed = changes()
    with lineage.dvc_repository("dvc repro") as repo:
        graph = repo.index.graph
        stages = {stage.addressing: stage for stage in graph if not stage.path_in_repo.endswith(".dvc")}
        read = {name: [key for dep in each.deps for key in getattr(dep, "params", [])] for name, each in stages.items()}
        moved = {name for name, keys in read.items() if any(str(key).split(".")[0] == "collection" for key in keys)}
        first = [stage for name, stage in stages.items() if name in moved | changed.keys()]
        reached = {*first, *(after for stage in first for after in ancestors(graph, stage))}
    return [name for name, stage in stages.items() if stage in reached]


def changes() -> dict[str, Any]:
    """Return what DVC finds changed: by stage, and by file that it tracks."""
    with lineage.dvc_repository("dvc status") as repo:
        return dict(repo.status())


def by_hand(branch: str) -> str:
    """Return how a challenger on a branch is promoted by hand."""
    return f'to take it nonetheless: `git merge --ff-only {branch} && dvc checkout --force && ninefold promote --force "..."`'


def needed() -> str:
    """Return what stage 09 decided last; it has to have decided."""
    if (record := artifacts.published(DECISION)) is None:
        raise DataError(f"{DECISION}: not found; `dvc pull` brings it, or `dvc repro` makes it")
    decision = str(record["decision"])
    remedies = {"roll back": " (`ninefold rollback` does it)", "repair": " (fix the data first)"}
    return decision + remedies.get(decision, "")
