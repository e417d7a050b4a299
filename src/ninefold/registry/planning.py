"""Which retraining to run: the last day to add, what has to be committed first, and a preview."""

from __future__ import annotations

import json
import re
from datetime import date, timedelta
from typing import Any

import pandas as pd

from ninefold import artifacts, collection, lineage, monitoring, params
from ninefold.collection import files
from ninefold.errors import DataError
from ninefold.problem import Problem
from ninefold.registry import promotion, repository
from ninefold.registry.journal import Run, git, read, until

BRANCHES = "retrain"
RESULTS = (params.FILE, lineage.LOCK, "reports/metrics", "reports/plots")  # what a run changes of what git has
SOURCES = (*RESULTS, "dvc.yaml", "ninefold.yaml", "notebooks", "src", "data")  # have to be committed before a run


def preview(as_of: date | None = None) -> str:
    """Return, as text, what `retrain` would do; nothing is changed."""
    if begun := read():
        return f"would go on with the retraining {until(begun)}, which stopped at step {begun.step}"
    planned = plan(as_of, None)
    if isinstance(planned, str):
        return planned
    before = params.load("collection").as_of
    champion = find_champion()
    versus = f"{champion['version']}, bundle {champion['bundle']}" if champion else "none; it would not be promoted"
    lines = {
        "collection.as_of": f"{before} -> {planned.as_of}" if planned.as_of else "none: the whole source is read anew",
        "stages that run": ", ".join(stages()) or "none",
        "champion": versus,
        **({"compared on": _compared(champion, planned)} if champion else {}),
        "branch": planned.branch,
        "decision of stage 09": _decision() or "none yet",
    }
    return "\n".join(f"{name:<20}  {text}" for name, text in lines.items()) + "\nnothing was changed"


def due(collected: collection.Params, problem: Problem, monitored: monitoring.Params) -> date:
    """Return the last day that can be added: whole, and its labels known by the newest row; at least the present `as_of`.

    A day is whole, and its labels are due, once the source holds a row that is `label_delay` later than its end; the clock
    alone does not prove it. Rows of the future do not count. Under ``monitoring.source: replay`` a run adds at most the rest
    of a month, as stage 09 does.
    """
    if collected.as_of is None:
        raise DataError("collection.as_of: not given, so nothing can be moved on")
    newest = min(_newest(collected, problem), pd.Timestamp.now("UTC").tz_localize(None))
    known = newest - pd.Timedelta(monitored.label_delay)
    last = (known.normalize() - pd.Timedelta(days=1)).date()
    if monitored.source == "replay":
        following = pd.Period(collected.as_of + timedelta(days=1), freq="M")
        last = min(last, following.end_time.date())
    return max(last, collected.as_of)


def plan(as_of: date | None, reason: str | None) -> Run | str:
    """Return the run to make, or why there is none to make."""
    collected, problem = params.load("collection"), Problem.of(params.load("problem"))
    table = collected.tables.get(problem.table)
    timed = bool(problem.time and table and table.time)
    if as_of is not None and collected.as_of is None:
        raise DataError(f"--as-of {as_of}: found no time in this project, which reads its whole source; leave it out")
    if as_of is not None and as_of < collected.as_of:
        raise DataError(
            f"--as-of {as_of}: found a day before collection.as_of ({collected.as_of}), expected a later one; to see what an "
            f"earlier model would have done, set it in {params.FILE} and run `dvc repro`"
        )
    day = as_of or (due(collected, problem, params.load("monitoring")) if timed else None)
    if as_of is None and timed and day == collected.as_of:
        return f"nothing new: the source holds no whole day after {day} whose labels are due"
    changed = changes()
    if not timed and as_of is None and not changed:
        return "nothing new: what was built is what the source and the params give"
    onto = _demand_clean(changed)
    base = git("rev-parse", "HEAD").strip()
    name = f"{BRANCHES}/{day or base[: lineage.SHORT]}"
    if tried := _tried(name, base):
        return f"nothing new: {tried} was built from this commit already, and not promoted; {by_hand(tried)}"
    return Run(str(params.root()), base, onto, _free(name), str(day) if day else None, reason)


def _newest(collected: collection.Params, problem: Problem) -> pd.Timestamp:
    """Return the time of the newest row after `as_of`, of the source or of what landed; else the start of that day."""
    name, source = problem.table, collected.tables[problem.table]
    start = pd.Timestamp(collected.as_of)
    times = [monitoring.newest(collected, problem, start)]
    landing = f"{collection.LANDING}/{name}"
    for file in files.inside(artifacts.path(landing)) if artifacts.path(landing).is_dir() else []:
        inside = file.relative_to(artifacts.path(landing)).as_posix()
        times.append(collection.read_landed(name, source, f"{landing}/{inside}", artifacts.sha256(file))[1].max())
    return max([start, *(time for time in times if not pd.isna(time))])


def _demand_clean(changed: dict[str, Any]) -> str:
    """Demand that what the pipeline reads is committed, and a commit is possible; return the checked-out branch."""
    if not (onto := git("branch", "--show-current").strip()):
        raise DataError("git: no branch is checked out, so a commit would belong to none; `git switch` to one")
    if repository.file_of("HEAD", lineage.LOCK) is None:
        raise DataError(f"{lineage.LOCK}: not committed, so there is no model to begin from; `dvc repro`, and commit")
    if lines := git("status", "--porcelain", "--", *SOURCES).splitlines():
        named = ", ".join(line[3:] for line in lines[:5]) + (" ..." if len(lines) > 5 else "")
        raise DataError(
            f"{named}: not committed; `git add` and `git commit` first, or `git restore` what you do not want"
        )
    if files := [name.removesuffix(".dvc") for name in changed if name.endswith(".dvc")]:
        named = " ".join(files)
        raise DataError(
            f"{named}: not as its .dvc file records it; `dvc add {named}`, and commit, so that git knows the data"
        )
    git("var", "GIT_COMMITTER_IDENT")
    return onto


def find_champion() -> dict[str, Any] | None:
    """Return the version in production, as `promotion.models` lists it; None if there is none."""
    return next((one for one in promotion.models() if one["champion"]), None)


def _compared(champion: dict[str, Any], run: Run) -> str:
    """Return which rows the comparison would take, in words."""
    recorded = json.loads(repository.file_of(champion["commit"], "reports/metrics/04_metrics.json") or "{}")
    first = recorded.get("metrics", {}).get("split", {}).get("holdout")  # the day with which its holdout began
    span = f", {first} or later and until {run.as_of}" if run.as_of and first else ""
    return f"labelled rows of the new holdout that the champion was not fitted on{span}"


def stages() -> list[str]:
    """Return the stages that would run, in order: those that are out of date, or read `as_of`, and what depends on them."""
    from dvc.repo import Repo  # type: ignore[import-untyped]
    from networkx import ancestors  # type: ignore[import-untyped] # in DVC's graph, of a stage: what depends on it

    changed = changes()
    with Repo(str(params.root())) as repo:
        graph = repo.index.graph
        stages = {stage.addressing: stage for stage in graph if not stage.path_in_repo.endswith(".dvc")}
        first = [stage for name, stage in stages.items() if name in changed or _reads_collection(stage)]
        reached = {*first, *(after for stage in first for after in ancestors(graph, stage))}
    return [name for name, stage in stages.items() if stage in reached]


def _reads_collection(stage: Any) -> bool:
    """Return whether a stage of DVC's reads the section of params in which `as_of` stands."""
    return any(str(key).split(".")[0] == "collection" for dep in stage.deps for key in getattr(dep, "params", []))


def changes() -> dict[str, Any]:
    """Return what DVC finds changed: by stage, and by file that it tracks."""
    from dvc.exceptions import DvcException  # type: ignore[import-untyped]
    from dvc.repo import Repo

    try:
        with Repo(str(params.root())) as repo:
            return dict(repo.status())
    except DvcException as error:
        raise DataError(f"dvc status: {error}; mend it, and run this again") from None


def _tried(name: str, base: str) -> str | None:
    """Return the branch, here or of a remote, on which the same was built from the same commit; None if there is none."""
    listed = git("for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads", "refs/remotes").split()
    alike = [ref for ref in listed if re.search(rf"(^|/){re.escape(name)}(-\d+)?$", ref)]
    return next((ref for ref in alike if git("rev-list", "--parents", "-1", ref).split()[1:2] == [base]), None)


def _free(name: str) -> str:
    """Return a name that no branch has."""
    names, number = set(git("for-each-ref", "--format=%(refname:short)", "refs/heads").split()), 1
    while (free := name if number == 1 else f"{name}-{number}") in names:
        number += 1
    return free


def by_hand(branch: str) -> str:
    """Return how a challenger on a branch is promoted by hand."""
    return f'to take it nonetheless: `git merge --ff-only {branch} && dvc checkout --force && ninefold promote --force "..."`'


def needed() -> str:
    """Return what stage 09 decided last; it has to have decided."""
    if (decision := _decision()) is None:
        raise DataError(
            f"{monitoring.MONITORING}/decision.json: not found; `dvc pull` brings it, or `dvc repro` makes it"
        )
    return f"{decision} (`ninefold rollback` does it)" if decision == "roll back" else decision


def _decision() -> str | None:
    """Return what stage 09 decided last, None if it never did."""
    decision = artifacts.published(f"{monitoring.MONITORING}/decision.json")
    return str(decision["decision"]) if decision else None
