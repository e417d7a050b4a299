"""Retrain on newer data, compare the challenger with the champion, and promote it if it is significantly better.

A run sets ``collection.as_of`` in ``params.yaml``, runs ``dvc repro``, compares challenger and champion on labelled rows that
neither was fitted on (`ninefold.registry.comparison`), commits, pushes the files to DVC's remote if there is one, and
promotes if the interval of the gain is above zero.

The challenger is committed on a branch of its own, ``retrain/2025-08-31``, with the comparison in its message. If it is
promoted, the checked-out branch moves on to it and its branch is deleted; else the branch stays and the checked-out branch is
unchanged, so that the checked-out branch always records what is in production. The same day is tried once per commit. If no
version is in production, the branch moves on, and ``ninefold promote`` names the first champion.

One run at a time holds a lock that ends with the process and its `dvc`. The journal names each step before it begins, and
each step may run twice: after a kill the next start continues there. If a step fails, ``params.yaml``, ``dvc.lock`` and all
outputs are put back, except after `dvc push`, which the next start tries again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path

import yaml
from ruamel.yaml.error import YAMLError

from ninefold import artifacts, lineage, params
from ninefold.errors import DataError, NinefoldError
from ninefold.registry import comparison, journal, planning, promotion, repository
from ninefold.registry.journal import Run, git, until
from ninefold.serving import Bundle

STEPPED_BACK = "back"
FAILED_PAGES = "reports/retrain"  # pages of the run that failed last
MEANING = (
    "The interval holds for these days alone, not for months to come, and less so the more challengers are compared on "
    "the same rows."
)


def retrain(as_of: date | None = None, reason: str | None = None, wait: bool = False, if_needed: bool = False) -> str:
    """Retrain, or continue an interrupted run; return what was done, as text.

    Parameters
    ----------
    as_of : date, optional
        The last day to add; default: `planning.due`. The current one builds again, for rows that were corrected.
    reason : str, optional
        Why to promote a challenger that does not significantly beat the champion; see `registry.promote`.
    wait : bool
        Wait for another run to end, instead of refusing.
    if_needed : bool
        Begin only if stage 09 has decided to retrain.

    Raises
    ------
    DataError
        If another run is in progress, an input of the pipeline is not committed, or a step failed.
    """
    with journal.locked(wait) as lock:
        begun = journal.read()
        if begun is None:
            if if_needed and (decision := planning.needed()) != "retrain":
                return f"stage 09 decided: {decision}; nothing to do"
            planned = planning.plan(as_of, reason)
            if isinstance(planned, str):
                return planned
            print(f"retraining with the data {until(planned)}, on branch {planned.branch}", flush=True)
        else:
            planned = begun
            print(f"going on with the retraining {until(begun)}, which stopped at step {begun.step}", flush=True)
        return _go(planned, lock)


def abandon() -> str:
    """Put back what an interrupted run has changed, and forget it; a branch with a challenger stays."""
    with journal.locked(False) as lock:
        begun = journal.read()
        if begun is None:
            return "no retraining was interrupted; nothing to do"
        if begun.step == "finish":
            return _go(begun, lock)
        _demand_place(begun)
        begun = replace(begun, step=STEPPED_BACK, error="abandoned")
        journal.write(begun)
        _put_back(begun, lock)
    return f"the retraining {until(begun)} is abandoned; {begun.onto} and its files are as they were"


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
    with suppress(YAMLError):
        if params.parse(changed) == expected:
            return changed
    raise DataError(
        f'{params.FILE}: collection.as_of: cannot be changed alone; write it as "{day}", on its line, no alias'
    )


def _go(run: Run, lock: int) -> str:
    """Run the remaining steps; put everything back if one fails."""
    _demand_place(run)
    acts: tuple[Callable[[Run], Run], ...] = (
        _set,
        partial(_rebuild, lock=lock),
        _compare,
        _commit,
        partial(_push, lock=lock),
        _promote,
    )
    if run.step != STEPPED_BACK:
        try:
            for step, act in list(zip(journal.STEPS, acts, strict=False))[journal.STEPS.index(run.step) :]:
                run = replace(run, step=step)
                journal.write(run)
                run = act(run)
            run = replace(run, step="finish")
        except NinefoldError as error:
            if run.step == "push":
                raise
            run = replace(run, step=STEPPED_BACK, error=str(error))
    journal.write(run)
    if run.step == STEPPED_BACK:
        _put_back(run, lock)
        raise DataError(
            f"{run.error}\n{run.onto}, params.yaml, dvc.lock and all outputs are as they were; the champion stays"
        )
    if run.moves:
        _move_on(run)
    else:
        _put_back(run, lock)
    return run.result


def _set(run: Run) -> Run:
    """Set `as_of`: the one value, the rest of the file as it was."""
    if run.as_of:
        place = artifacts.path(params.FILE)
        text = place.read_bytes().decode()
        if (changed := with_as_of(text, run.as_of)) != text:
            artifacts.write_text(changed, place)
    return run


def _rebuild(run: Run, lock: int) -> Run:
    if _dvc("repro", lock=lock) != 0:
        raise DataError(_failure())
    return run


def _compare(run: Run) -> Run:
    """Compare the challenger with the champion."""
    champion = planning.find_champion()
    if not git("status", "--porcelain", "--", *planning.RESULTS):
        return replace(run, result="built anew, the same files came out: nothing to commit, nothing to promote")
    if champion is None:
        result = "no version is in production to compare with; `ninefold promote` makes this one the first"
        return replace(run, moves=True, result=f"challenger {Bundle.load().version}: {result}")
    challenger = Bundle.load()
    wins, result = comparison.evaluate(champion["version"], champion["commit"], challenger)
    more = "" if result.startswith("cannot") else f". {MEANING}"
    return replace(
        run, champion=champion["version"], fit=wins, result=f"challenger {challenger.version} {result}{more}"
    )


def _commit(run: Run) -> Run:
    """Commit what was built on its own branch, with what the comparison found."""
    if not git("status", "--porcelain", "--", *planning.RESULTS):
        return run
    git("switch", "--quiet", "-C", run.branch)
    git("add", "--", *(name for name in planning.RESULTS if artifacts.path(name).exists()))
    git("commit", "--quiet", "-m", f"Retrain with the data {until(run)}", "-m", textwrap.fill(run.result, 100))
    return run


def _push(run: Run, lock: int) -> Run:
    if git("rev-parse", "HEAD").strip() != run.base and _remote() and _dvc("push", lock=lock) != 0:
        raise DataError(
            f"dvc push: failed, as said above; the challenger is committed on {run.branch}, and nothing is promoted. `ninefold "
            "retrain` goes on from here once the remote can be reached; `ninefold retrain --abandon` puts all back"
        )
    return run


def _promote(run: Run) -> Run:
    if run.champion is None:
        return run
    if not (run.fit or run.reason):
        outcome = f"kept champion {run.champion}, {run.onto} is as it was; the challenger is on {run.branch}"
        return replace(run, result=f"{run.result}\n{outcome}; {planning.by_hand(run.branch)}")
    try:
        return replace(run, moves=True, result=promotion.promote(run.reason))
    except DataError as error:
        raise DataError(f"{error}\nnot promoted; {planning.by_hand(run.branch)}") from None


def _put_back(run: Run, lock: int) -> None:
    """Bring back the branch, the files in git and the outputs with which the run began."""
    if git("rev-parse", "HEAD").strip() != run.base:
        git("switch", "--quiet", run.onto)
    elif files := git("ls-tree", "--name-only", run.base, "--", *(f"./{name}" for name in planning.RESULTS)).split():
        git("restore", f"--source={run.base}", "--staged", "--worktree", "--", *files)
        git("symbolic-ref", "HEAD", f"refs/heads/{run.onto}")
    if journal.tip(run.branch) == run.base:
        git("branch", "--quiet", "-D", run.branch)
    if _dvc("checkout", "--force", "--quiet", *_outputs(run.base), lock=lock) != 0:
        raise DataError(
            "dvc checkout: failed, as said above, so not every output is as it was; mend it (`dvc fetch` brings what the cache "
            "lacks), and run `ninefold retrain` again, which goes on from here"
        )
    journal.place().unlink()


def _move_on(run: Run) -> None:
    """Move the branch with which the run began on to the challenger, whose files are in place already."""
    new = git("rev-parse", "HEAD").strip()
    if journal.tip(run.onto) != new:
        git("update-ref", "-m", "ninefold retrain", f"refs/heads/{run.onto}", new, run.base)
    git("symbolic-ref", "HEAD", f"refs/heads/{run.onto}")
    if journal.tip(run.branch) == new:
        git("branch", "--quiet", "-D", run.branch)
    journal.place().unlink()


def _demand_place(run: Run) -> None:
    """Demand that the project is where the run left it."""
    if run.root != str(params.root()):
        raise DataError(f"a retraining in {run.root} was interrupted; run `ninefold retrain` there first")
    head, branch = git("rev-parse", "HEAD").strip(), git("branch", "--show-current").strip()
    own = head == run.base or git("rev-parse", "HEAD^").strip() == run.base
    if not own or branch not in (run.onto, run.branch):
        raise DataError(
            f"a retraining was interrupted on {run.onto} at {run.base[:7]}, found {branch or 'no branch'} at {head[:7]} checked "
            f"out, expected {run.onto} or {run.branch} as it left them; check that out and run this again, or, if its files are "
            f"of no use any more, delete {journal.place()}"
        )


def _outputs(revision: str) -> list[str]:
    """Return the outputs that DVC keeps of a revision: not the sources, which are the user's, nor what is in git."""
    stages = (yaml.safe_load(repository.file_of(revision, lineage.LOCK) or "") or {}).get("stages", {}).values()
    return [
        out["path"] for stage in stages for out in stage.get("outs", []) if not out["path"].startswith(planning.RESULTS)
    ]


def _failure() -> str:
    """Return which stage failed and why; its report is copied to `FAILED_PAGES`."""
    started = journal.place().stat().st_mtime
    failed = [place for place in artifacts.path("reports/failed").glob("*.ipynb") if place.stat().st_mtime >= started]
    if not failed:
        return "dvc repro: failed, as said above"
    name = max(failed, key=lambda place: place.stat().st_mtime).stem
    record = artifacts.published(f"reports/failed/{name}.json") or {}
    checks = [one for one in record.get("gate", {}).get("checks", []) if not one["passed"]]
    lines = [f"{one['name']}: found {one['value']}, expected {one['limit']}" for one in checks]
    pages = artifacts.path(FAILED_PAGES)
    artifacts.remove(pages)
    pages.mkdir(parents=True)
    for page in artifacts.path("reports").glob("*.html"):
        shutil.copy2(page, pages / page.name)
    for trace in artifacts.path("reports/failed").glob(f"{name}.*"):
        trace.unlink()
    why = f"the gate did not pass: {'; '.join(lines)}" if lines else "failed, as said above"
    return f"{name}: {why}\nThe report of that run: {pages / name}.html"


def _remote() -> str | None:
    from dvc.repo import Repo  # type: ignore[import-untyped]

    with Repo(str(params.root())) as repo:
        return repo.config["core"].get("remote")


def _dvc(*arguments: str, lock: int) -> int:
    """Run DVC, with its output shown; it holds the lock, too, in case it outlives this process."""
    # The stages call `ninefold`, which a crontab may not find.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environment = {**os.environ, "PATH": path}
    command, descriptors = [*_command(), *arguments], [] if os.name == "nt" else [lock]  # Windows hands no locks on
    return subprocess.run(command, cwd=params.root(), env=environment, check=False, pass_fds=descriptors).returncode


def _command() -> list[str]:
    return [sys.executable, "-m", "dvc"]
