"""Let new data in, build a challenger, and promote it on evidence alone; git and DVC keep what was built and found.

A run sets ``collection.as_of`` in ``params.yaml``, runs ``dvc repro``, lets the challenger and the champion act on the same
newest labelled rows, which neither was fitted on (see `registry.judge`), commits, pushes the files to DVC's remote if there
is one, and promotes if the interval of the gain is above zero.

The challenger is committed on a branch of its own, ``retrain/2025-08-31``, its message being what the comparison found.
Promoted, it is what the checked-out branch moves on to, and its own branch goes; else it stays there, and the checked-out
branch is left as it was. So that one always records what is in production: stage 09 judges the champion and not a model that
was refused, the next run begins where the champion began, and what was refused can be looked at, or promoted by hand. Of one
commit the same day is tried once. Where no version is in production there is nothing to protect, and nothing to compare:
the branch moves on, and who is to be the first champion is said with ``ninefold promote``.

One run at a time: a lock that the system takes back when the process and the `dvc` that it started are gone. What is under
way is noted in the git directory before it is begun, and each step may be done twice: the start after a kill goes on there.
A step that fails puts ``params.yaml``, ``dvc.lock`` and all outputs back, `dvc push` excepted, which the next start tries again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from ninefold import collection, monitoring, problem, registry, repository
from ninefold.core import io, lineage, params, places
from ninefold.core.errors import DataError, NinefoldError
from ninefold.serving import bundle as packing

JOURNAL, LOCK = "ninefold-retrain.json", "ninefold-retrain.lock"  # in git's directory
GIT = {"purpose": "retraining is recorded in git", "remedy": "mend it, and run this again"}
BRANCHES = "retrain"
RESULTS = (params.FILE, lineage.LOCK, "reports/metrics", "reports/plots")  # what a run changes of what git has
READ = (
    *RESULTS,
    "dvc.yaml",
    "ninefold.yaml",
    "notebooks",
    "src",
    "data",
)  # what has to be committed, or no commit says what was built
STEPS = ("params", "repro", "compare", "commit", "push", "promote", "finish")
BACK = "back"
KEPT = "reports/retrain"  # pages of the run that failed last
MEANING = (
    "The interval speaks of these days alone: not of months to come, and the less, the more challengers are held against "
    "the same rows."
)


@dataclass(frozen=True)
class Run:
    """A retraining as the journal keeps it; `step` is the one that is under way."""

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
    told: str = ""
    error: str = ""


def run(as_of: date | None = None, reason: str | None = None, wait: bool = False, if_needed: bool = False) -> str:
    """Retrain, or go on with a run that was interrupted; return what was done, as text.

    Parameters
    ----------
    as_of : date, optional
        The last day to let in; default: `due`. The present one builds anew, for rows that were corrected.
    reason : str, optional
        Why to promote a challenger that does not surely beat the champion; see `registry.promote`.
    wait : bool
        Wait for another run to end, instead of refusing.
    if_needed : bool
        Begin only if stage 09 has decided to retrain.

    Raises
    ------
    DataError
        If another run is under way, what the pipeline reads is not committed, or a step failed.
    """
    with _alone(wait) as lock:
        begun = _read_journal()
        if begun is None:
            if if_needed and (decision := _needed()) != "retrain":
                return f"stage 09 decided: {decision}; nothing to do"
            planned = _plan(as_of, reason)
            if isinstance(planned, str):
                return planned
            print(f"retraining with the data {_until(planned)}, on branch {planned.branch}", flush=True)
        else:
            planned = begun
            print(f"going on with the retraining {_until(begun)}, which stopped at step {begun.step}", flush=True)
        return _go(planned, lock)


def preview(as_of: date | None = None) -> str:
    """Return, as text, what `run` would do; nothing is changed."""
    if begun := _read_journal():
        return f"would go on with the retraining {_until(begun)}, which stopped at step {begun.step}"
    planned = _plan(as_of, None)
    if isinstance(planned, str):
        return planned
    before = params.load("collection").as_of
    champion = _champion()
    versus = f"{champion['version']}, bundle {champion['bundle']}" if champion else "none; it would not be promoted"
    lines = {
        "collection.as_of": f"{before} -> {planned.as_of}" if planned.as_of else "none: the whole source is read anew",
        "stages that run": ", ".join(_stages()) or "none",
        "champion": versus,
        **({"compared on": _compared(champion, planned)} if champion else {}),
        "branch": planned.branch,
        "decision of stage 09": _decision() or "none yet",
    }
    return "\n".join(f"{name:<20}  {text}" for name, text in lines.items()) + "\nnothing was changed"


def abandon() -> str:
    """Put back what an interrupted run has changed, and forget it; a branch with a challenger stays."""
    with _alone(False) as lock:
        begun = _read_journal()
        if begun is None:
            return "no retraining was interrupted; nothing to do"
        if begun.step == "finish":
            return _go(begun, lock)
        _demand_place(begun)
        begun = replace(begun, step=BACK, error="abandoned")
        _note(begun)
        _put_back(begun, lock)
    return f"the retraining {_until(begun)} is abandoned; {begun.onto} and its files are as they were"


def due(collected: collection.Params, stated: dict[str, Any], monitored: monitoring.Params) -> date:
    """Return the last day that can be let in: whole, and its labels known by the newest row; at least the present `as_of`.

    A day is whole, and its labels are due, once the source holds a row that is `label_delay` later than its end: what the
    clock says is no proof that a day has arrived. Rows of the future do not count. Under ``monitoring.source: replay``, where
    the source may hold years to come, time passes by months, as in stage 09: no more than the rest of one is let in at once.
    """
    if collected.as_of is None:
        raise DataError("collection.as_of: not given, so nothing can be moved on")
    newest = min(_newest(collected, stated), pd.Timestamp.now("UTC").tz_localize(None))
    known = newest - pd.Timedelta(monitored.label_delay)
    last = (known.normalize() - pd.Timedelta(days=1)).date()
    if monitored.source == "replay":
        following = pd.Period(collected.as_of + timedelta(days=1), freq="M")
        last = min(last, following.end_time.date())
    return max(last, collected.as_of)


def with_as_of(text: str, day: str) -> str:
    """Return the text of ``params.yaml`` with another ``collection.as_of``; nothing else of it changes.

    Raises
    ------
    ParamsError, DataError
        If there is none, or it cannot be changed alone.
    """
    node = yaml.compose(text, yaml.SafeLoader)
    for key in ("collection", "as_of"):
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        node = next((value for name, value in pairs if name.value == key), None)
    if node is None:
        raise DataError(f'{params.FILE}: collection.as_of: not found; add it, such as "{day}"')
    changed = f'{text[: node.start_mark.index]}"{day}"{text[node.end_mark.index :]}'
    expected = params.parse(text)
    expected["collection"]["as_of"] = day
    with suppress(yaml.YAMLError):
        if params.parse(changed) == expected:
            return changed
    raise DataError(
        f'{params.FILE}: collection.as_of: cannot be changed alone; write it as "{day}", on its line, no alias'
    )


def _go(run: Run, lock: int) -> str:
    """Take the steps that are left; where one fails, put all back."""
    _demand_place(run)
    acts: tuple[Callable[[Run], Run], ...] = (
        _set,
        partial(_rebuild, lock=lock),
        _compare,
        _commit,
        partial(_push, lock=lock),
        _promote,
    )
    if run.step != BACK:
        try:
            for step, act in list(zip(STEPS, acts, strict=False))[STEPS.index(run.step) :]:
                run = replace(run, step=step)
                _note(run)
                run = act(run)
            run = replace(run, step="finish")
        except NinefoldError as error:
            if run.step == "push":
                raise
            run = replace(run, step=BACK, error=str(error))
    _note(run)
    if run.step == BACK:
        _put_back(run, lock)
        raise DataError(
            f"{run.error}\n{run.onto}, params.yaml, dvc.lock and all outputs are as they were; the champion stays"
        )
    if run.moves:
        _move_on(run)
    else:
        _put_back(run, lock)
    return run.told


def _set(run: Run) -> Run:
    """Set `as_of`: the one value, the rest of the file as it was."""
    if run.as_of:
        place = io.path(params.FILE)
        text = place.read_bytes().decode()
        if (changed := with_as_of(text, run.as_of)) != text:
            io.write_text(changed, place)
    return run


def _rebuild(run: Run, lock: int) -> Run:
    if _dvc("repro", lock=lock) != 0:
        raise DataError(_failure())
    return run


def _compare(run: Run) -> Run:
    """Note what the challenger is worth beside the champion."""
    champion = _champion()
    if not _git("status", "--porcelain", "--", *RESULTS):
        return replace(run, told="built anew, the same files came out: nothing to commit, nothing to promote")
    if champion is None:
        told = "no version is in production to compare with; `ninefold promote` makes this one the first"
        return replace(run, moves=True, told=f"challenger {packing.load().version}: {told}")
    challenger = packing.load()
    fit, told = registry.judge(champion["version"], champion["commit"], challenger)
    more = "" if told.startswith("cannot") else f". {MEANING}"
    return replace(run, champion=champion["version"], fit=fit, told=f"challenger {challenger.version} {told}{more}")


def _commit(run: Run) -> Run:
    """Commit what was built on its own branch, with what the comparison found."""
    if not _git("status", "--porcelain", "--", *RESULTS):
        return run
    _git("switch", "--quiet", "-C", run.branch)
    _git("add", "--", *(name for name in RESULTS if io.path(name).exists()))
    _git("commit", "--quiet", "-m", f"Retrain with the data {_until(run)}", "-m", textwrap.fill(run.told, 100))
    return run


def _push(run: Run, lock: int) -> Run:
    if _git("rev-parse", "HEAD").strip() != run.base and _remote() and _dvc("push", lock=lock) != 0:
        raise DataError(
            f"dvc push: failed, as said above; the challenger is committed on {run.branch}, and nothing is promoted. `ninefold "
            "retrain` goes on from here once the remote can be reached; `ninefold retrain --abandon` puts all back"
        )
    return run


def _promote(run: Run) -> Run:
    if run.champion is None:
        return run
    if not (run.fit or run.reason):
        kept = f"kept champion {run.champion}, {run.onto} is as it was; the challenger is on {run.branch}"
        return replace(run, told=f"{run.told}\n{kept}; {_by_hand(run.branch)}")
    try:
        return replace(run, moves=True, told=registry.promote(run.reason))
    except DataError as error:
        raise DataError(f"{error}\nnot promoted; {_by_hand(run.branch)}") from None


def _put_back(run: Run, lock: int) -> None:
    """Bring back the branch, the files in git and the outputs with which the run began."""
    if _git("rev-parse", "HEAD").strip() != run.base:
        _git("switch", "--quiet", run.onto)
    elif held := _git("ls-tree", "--name-only", run.base, "--", *(f"./{name}" for name in RESULTS)).split():
        _git("restore", f"--source={run.base}", "--staged", "--worktree", "--", *held)
        _git("symbolic-ref", "HEAD", f"refs/heads/{run.onto}")
    if _tip(run.branch) == run.base:
        _git("branch", "--quiet", "-D", run.branch)
    if _dvc("checkout", "--force", "--quiet", *_outputs(run.base), lock=lock) != 0:
        raise DataError(
            "dvc checkout: failed, as said above, so not every output is as it was; mend it (`dvc fetch` brings what the cache "
            "lacks), and run `ninefold retrain` again, which goes on from here"
        )
    _journal().unlink()


def _move_on(run: Run) -> None:
    """Move the branch with which the run began on to the challenger, whose files are in place already."""
    new = _git("rev-parse", "HEAD").strip()
    if _tip(run.onto) != new:
        _git("update-ref", "-m", "ninefold retrain", f"refs/heads/{run.onto}", new, run.base)
    _git("symbolic-ref", "HEAD", f"refs/heads/{run.onto}")
    if _tip(run.branch) == new:
        _git("branch", "--quiet", "-D", run.branch)
    _journal().unlink()


def _plan(as_of: date | None, reason: str | None) -> Run | str:
    """Return the run to make, or why there is none to make."""
    collected, stated = params.load("collection"), problem.statement(params.load("problem"))
    table = collected.tables.get(stated["table"])
    timed = bool(stated["time"] and table and table.time)
    if as_of is not None and collected.as_of is None:
        raise DataError(f"--as-of {as_of}: found no time in this project, which reads its whole source; leave it out")
    if as_of is not None and as_of < collected.as_of:
        raise DataError(
            f"--as-of {as_of}: found a day before collection.as_of ({collected.as_of}), expected a later one; to see what an "
            f"earlier model would have done, set it in {params.FILE} and run `dvc repro`"
        )
    wanted = as_of or (due(collected, stated, params.load("monitoring")) if timed else None)
    if as_of is None and timed and wanted == collected.as_of:
        return f"nothing new: the source holds no whole day after {wanted} whose labels are due"
    changed = _changed()
    if not timed and as_of is None and not changed:
        return "nothing new: what was built is what the source and the params give"
    onto = _demand_clean(changed)
    base = _git("rev-parse", "HEAD").strip()
    name = f"{BRANCHES}/{wanted or base[: lineage.SHORT]}"
    if tried := _tried(name, base):
        return f"nothing new: {tried} was built from this commit already, and not promoted; {_by_hand(tried)}"
    return Run(str(params.root()), base, onto, _free(name), str(wanted) if wanted else None, reason)


def _newest(collected: collection.Params, stated: dict[str, Any]) -> pd.Timestamp:
    """Return the time of the newest row after `as_of`, of the source or of what landed; else the start of that day."""
    name, source = stated["table"], collected.tables[stated["table"]]
    start = pd.Timestamp(collected.as_of)
    found = [monitoring.newest(collected, stated, start)]
    landing = f"{collection.LANDING}/{name}"
    for file in places.inside(io.path(landing)) if io.path(landing).is_dir() else []:
        inside = file.relative_to(io.path(landing)).as_posix()
        found.append(collection.read_landed(name, source, f"{landing}/{inside}", io.sha256(file))[1].max())
    return max([start, *(moment for moment in found if not pd.isna(moment))])


def _demand_clean(changed: dict[str, Any]) -> str:
    """Demand that git records what the pipeline reads, and that a commit is possible; return the checked-out branch."""
    if not (onto := _git("branch", "--show-current").strip()):
        raise DataError("git: no branch is checked out, so a commit would belong to none; `git switch` to one")
    if repository.file_of("HEAD", lineage.LOCK) is None:
        raise DataError(f"{lineage.LOCK}: not committed, so there is no model to begin from; `dvc repro`, and commit")
    if found := _git("status", "--porcelain", "--", *READ).splitlines():
        named = ", ".join(line[3:] for line in found[:5]) + (" ..." if len(found) > 5 else "")
        raise DataError(
            f"{named}: not committed; `git add` and `git commit` first, or `git restore` what you do not want"
        )
    if files := [name.removesuffix(".dvc") for name in changed if name.endswith(".dvc")]:
        named = " ".join(files)
        raise DataError(
            f"{named}: not as its .dvc file records it; `dvc add {named}`, and commit, so that git knows the data"
        )
    _git("var", "GIT_COMMITTER_IDENT")
    return onto


def _demand_place(run: Run) -> None:
    """Demand that the project is where the run left it."""
    if run.root != str(params.root()):
        raise DataError(f"a retraining in {run.root} was interrupted; run `ninefold retrain` there first")
    head, branch = _git("rev-parse", "HEAD").strip(), _git("branch", "--show-current").strip()
    own = head == run.base or _git("rev-parse", "HEAD^").strip() == run.base
    if not own or branch not in (run.onto, run.branch):
        raise DataError(
            f"a retraining was interrupted on {run.onto} at {run.base[:7]}, found {branch or 'no branch'} at {head[:7]} checked "
            f"out, expected {run.onto} or {run.branch} as it left them; check that out and run this again, or, if its files are "
            f"of no use any more, delete {_journal()}"
        )


def _champion() -> dict[str, Any] | None:
    return next((one for one in registry.models() if one["champion"]), None)


def _compared(champion: dict[str, Any], run: Run) -> str:
    """Return which rows the comparison would take, in words."""
    recorded = json.loads(repository.file_of(champion["commit"], "reports/metrics/04_metrics.json") or "{}")
    first = recorded.get("metrics", {}).get("split", {}).get("holdout")  # the day with which its holdout began
    span = f", {first} or later and until {run.as_of}" if run.as_of and first else ""
    return f"labelled rows of the new holdout that the champion was not fitted on{span}"


def _stages() -> list[str]:
    """Return the stages that would run, in order: those that are out of date, or read `as_of`, and what depends on them."""
    from dvc.repo import Repo  # type: ignore[import-untyped]
    from networkx import ancestors  # type: ignore[import-untyped] # in DVC's graph, of a stage: what depends on it

    changed = _changed()
    with Repo(str(params.root())) as repo:
        graph = repo.index.graph
        stages = {stage.addressing: stage for stage in graph if not stage.path_in_repo.endswith(".dvc")}
        first = [stage for name, stage in stages.items() if name in changed or _reads_collection(stage)]
        reached = {*first, *(after for stage in first for after in ancestors(graph, stage))}
    return [name for name, stage in stages.items() if stage in reached]


def _reads_collection(stage: Any) -> bool:
    """Return whether a stage of DVC's reads the section of params in which `as_of` stands."""
    return any(str(key).split(".")[0] == "collection" for dep in stage.deps for key in getattr(dep, "params", []))


def _outputs(revision: str) -> list[str]:
    """Return the outputs that DVC keeps of a revision: not the sources, which are the user's, nor what is in git."""
    stages = (yaml.safe_load(repository.file_of(revision, lineage.LOCK) or "") or {}).get("stages", {}).values()
    return [out["path"] for stage in stages for out in stage.get("outs", []) if not out["path"].startswith(RESULTS)]


def _changed() -> dict[str, Any]:
    """Return what DVC finds changed: by stage, and by file that it tracks."""
    from dvc.exceptions import DvcException  # type: ignore[import-untyped]
    from dvc.repo import Repo

    try:
        with Repo(str(params.root())) as repo:
            return dict(repo.status())
    except DvcException as error:
        raise DataError(f"dvc status: {error}; mend it, and run this again") from None


def _failure() -> str:
    """Return which stage failed, and why; its report is kept aside, where putting back does not reach."""
    started = _journal().stat().st_mtime
    failed = [place for place in io.path("reports/failed").glob("*.ipynb") if place.stat().st_mtime >= started]
    if not failed:
        return "dvc repro: failed, as said above"
    name = max(failed, key=lambda place: place.stat().st_mtime).stem
    record = io.published(f"reports/failed/{name}.json") or {}
    checks = [one for one in record.get("gate", {}).get("checks", []) if not one["passed"]]
    lines = [f"{one['name']}: found {one['value']}, expected {one['limit']}" for one in checks]
    kept = io.path(KEPT)
    io.remove(kept)
    kept.mkdir(parents=True)
    for page in io.path("reports").glob("*.html"):
        shutil.copy2(page, kept / page.name)
    for trace in io.path("reports/failed").glob(f"{name}.*"):
        trace.unlink()
    why = f"the gate did not pass: {'; '.join(lines)}" if lines else "failed, as said above"
    return f"{name}: {why}\nThe report of that run: {kept / name}.html"


def _tried(name: str, base: str) -> str | None:
    """Return the branch, here or of a remote, on which the same was built from the same commit; None if there is none."""
    listed = _git("for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads", "refs/remotes").split()
    alike = [ref for ref in listed if re.search(rf"(^|/){re.escape(name)}(-\d+)?$", ref)]
    return next((ref for ref in alike if _git("rev-list", "--parents", "-1", ref).split()[1:2] == [base]), None)


def _free(name: str) -> str:
    """Return a name that no branch has."""
    taken, number = set(_git("for-each-ref", "--format=%(refname:short)", "refs/heads").split()), 1
    while (free := name if number == 1 else f"{name}-{number}") in taken:
        number += 1
    return free


def _tip(branch: str) -> str:
    """Return the commit of a branch, empty if there is none."""
    return _git("for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}").strip()


def _by_hand(branch: str) -> str:
    return f'to take it nonetheless: `git merge --ff-only {branch} && dvc checkout --force && ninefold promote --force "..."`'


def _until(run: Run) -> str:
    return f"until {run.as_of}" if run.as_of else "of today"


def _needed() -> str:
    """Return what stage 09 decided last; it has to have decided."""
    if (decision := _decision()) is None:
        raise DataError(
            f"{monitoring.MONITORING}/decision.json: not found; `dvc pull` brings it, or `dvc repro` makes it"
        )
    return f"{decision} (`ninefold rollback` does it)" if decision == "roll back" else decision


def _decision() -> str | None:
    """Return what stage 09 decided last, None if it never did."""
    found = io.published(f"{monitoring.MONITORING}/decision.json")
    return str(found["decision"]) if found else None


def _remote() -> str | None:
    from dvc.repo import Repo

    with Repo(str(params.root())) as repo:
        return repo.config["core"].get("remote")


def _dvc(*arguments: str, lock: int) -> int:
    """Run DVC, its words to be seen as it says them; it holds the lock, too, in case that it outlives this process."""
    # The stages call `ninefold`, which a crontab may not find.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environment = {**os.environ, "PATH": path}
    command = [*_command(), *arguments]
    return subprocess.run(command, cwd=params.root(), env=environment, check=False, pass_fds=[lock]).returncode


def _command() -> list[str]:
    return [sys.executable, "-m", "dvc"]


def _git(*arguments: str) -> str:
    return repository.git(*arguments, **GIT)


def _journal() -> Path:
    return repository.folder(**GIT) / JOURNAL


def _note(run: Run) -> None:
    """Write the journal: what is begun, before it is."""
    io.write_json(asdict(run), _journal())
    io.sync(_journal())


def _read_journal() -> Run | None:
    place = _journal()
    try:
        return Run(**json.loads(place.read_text(encoding="utf-8"))) if place.exists() else None
    except (ValueError, TypeError):
        raise DataError(
            f"{place}: no journal of a retraining that this version knows; see `git status`, and delete it"
        ) from None


@contextmanager
def _alone(wait: bool) -> Iterator[int]:
    """Hold the lock of retraining; return its descriptor."""
    busy = "another `ninefold retrain` is at it, or the `dvc repro` that it left; `--wait` waits for its end"
    with repository.alone(repository.folder(**GIT) / LOCK, busy, wait) as lock:
        yield lock
