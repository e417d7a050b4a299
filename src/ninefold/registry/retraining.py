"""Retrain on newer data, compare the challenger with the champion, and promote it if it is significantly better.

The challenger is committed, with the comparison in the message, on a branch of its own, ``retrain/2025-08-31``. The
checked-out branch moves on to it if it is promoted, or if no version is in production: it always records what is.

One run at a time holds a lock that ends with the process and its `dvc`. The journal names each step before it begins, and
each step may run twice: after a kill the next start continues there. If a step fails, ``params.yaml``, ``dvc.lock`` and all
outputs are put back, except after `dvc push`, which the next start tries again.
"""

import os
import shutil
import subprocess
import sys
import textwrap
from contextlib import suppress
from dataclasses import replace
from datetime import date
from pathlib import Path

import yaml
from ruamel.yaml.error import YAMLError

from ninefold import artifacts, gate, lineage, params
from ninefold.errors import DataError, NinefoldError
from ninefold.registry import planning, promotion, repository
from ninefold.registry.planning import STEPPED_BACK, STEPS, Run
from ninefold.registry.repository import say
from ninefold.serving import Bundle

DVC = (sys.executable, "-m", "dvc")
BUSY = "another `ninefold retrain` is running, or the `dvc repro` that it started; `--wait` waits for its end"
FAILED_PAGES = "reports/retrain"  # pages of the run that failed last


def retrain(as_of: date | None = None, reason: str | None = None, wait: bool = False, if_needed: bool = False) -> str:
    """Retrain, or continue an interrupted run; return what was done, as text.

    `as_of` is the last day to add, by default `planning.due`; the current one builds again, for rows that were corrected. A
    `reason` promotes a challenger that does not beat the champion. `wait` for another run to end, instead of refusing;
    begin `if_needed` only if stage 09 has decided so. Raises `DataError` if another run is in progress, an input of the
    pipeline is not committed, or a step failed.
    """
    with repository.locked("retrain", BUSY, wait):
        if run := planning.interrupted():
            print(f"going on with the retraining {run.until}, which stopped at step {run.step}", flush=True)
            return _go(run)
        if if_needed and (decision := planning.needed()) != "retrain":
            return f"stage 09 decided: {decision}; nothing to do"
        planned = planning.plan(as_of, reason)
        if isinstance(planned, str):
            return planned
        print(f"retraining with the data {planned.until}, on branch {planned.branch}", flush=True)
        return _go(planned)


def abandon() -> str:
    """Put back what an interrupted run has changed, and forget it; a branch with a challenger stays."""
    with repository.locked("retrain", BUSY):
        run = planning.interrupted()
        if run is None:
            return "no retraining was interrupted; nothing to do"
        if run.step == "finish":
            return _go(run)
        _demand_place(run)
        run = replace(run, step=STEPPED_BACK, error="abandoned")
        planning.record(run)
        _put_back(run)
    return f"the retraining {run.until} is abandoned; {run.onto} and its files are as they were"


def with_as_of(text: str, day: str) -> str:
    """Return the text of ``params.yaml`` with another ``collection.as_of`` alone; raise `DataError` where that cannot be."""
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
    raise DataError(say("as_of_not_alone", day=day))


def _go(run: Run) -> str:
    """Run the remaining steps; put everything back if one fails."""
    _demand_place(run)
    acts = (_rebuild, _compare, _commit, _push, _promote)
    if run.step != STEPPED_BACK:
        try:
            for step, act in list(zip(STEPS, acts, strict=False))[STEPS.index(run.step) :]:
                run = replace(run, step=step)
                planning.record(run)
                run = act(run)
            run = replace(run, step="finish")
        except NinefoldError as error:
            if run.step == "push":
                raise
            run = replace(run, step=STEPPED_BACK, error=str(error))
    planning.record(run)
    if run.moves and run.step != STEPPED_BACK:
        _move_on(run)
    else:
        _put_back(run)
    if run.step == STEPPED_BACK:
        raise DataError(say("put_back", run=run))
    return run.result


def _rebuild(run: Run) -> Run:
    if run.as_of:
        place = artifacts.path(params.FILE)
        artifacts.write_text(with_as_of(place.read_bytes().decode(), run.as_of), place)
    if _dvc("repro") != 0:
        raise DataError(_failure())
    return run


def _compare(run: Run) -> Run:
    champion = planning.find_champion()
    if not repository.changed(*planning.RESULTS):
        return replace(run, result="built again, the same files came out: nothing to commit, nothing to promote")
    challenger = Bundle.load()
    if champion is None:
        return replace(run, moves=True, result=say("first_version", version=challenger.version))
    wins, result = promotion.evaluate(champion["version"], champion["commit"], challenger)
    result = say("result", version=challenger.version, result=result)
    return replace(run, champion=champion["version"], fit=wins, result=result)


def _commit(run: Run) -> Run:
    """Commit what was built on its own branch, with what the comparison found."""
    if repository.changed(*planning.RESULTS):
        repository.git("switch", "--quiet", "-C", run.branch)
        repository.git("add", "--", *(name for name in planning.RESULTS if artifacts.path(name).exists()))
        message = [f"Retrain with the data {run.until}", "-m", textwrap.fill(run.result, 100)]
        changed = repository.git("diff", "--cached", "--name-only", "--relative", "-z", "--", *planning.RESULTS)
        # What the user has staged besides stays staged.
        repository.git("commit", "--quiet", "-m", *message, "--only", "--", *changed.split("\0")[:-1])
    return run


def _push(run: Run) -> Run:
    if repository.head() != run.base and lineage.default_remote()[0] and _dvc("push") != 0:
        raise DataError(say("push_failed", branch=run.branch))
    return run


def _promote(run: Run) -> Run:
    if run.champion is None:
        return run
    if not (run.fit or run.reason):
        return replace(run, result=say("kept", run=run, by_hand=planning.by_hand(run.branch)))
    try:
        return replace(run, moves=True, result=promotion.promote(run.reason))
    except DataError as error:
        raise DataError(f"{error}\nnot promoted; {planning.by_hand(run.branch)}") from None


def _put_back(run: Run) -> None:
    """Bring back the branch, the files in git and the outputs with which the run began."""
    git, results = repository.git, [f"./{name}" for name in planning.RESULTS]
    if repository.head() != run.base:
        git("switch", "--quiet", run.onto)
    elif files := git("ls-tree", "--name-only", run.base, "--", *results).split():
        git("restore", f"--source={run.base}", "--staged", "--worktree", "--", *files)
        git("symbolic-ref", "HEAD", f"refs/heads/{run.onto}")
    _drop_branch(run, run.base)
    # DVC keeps neither the sources, which are the user's, nor what is in git.
    outputs = [name for name in repository.outputs(run.base) if not name.startswith(planning.RESULTS)]
    if _dvc("checkout", "--force", "--quiet", *outputs) != 0:
        raise DataError(say("checkout_failed"))
    planning.journal().unlink()


def _move_on(run: Run) -> None:
    """Move the branch with which the run began on to the challenger, whose files are in place already."""
    new, onto = repository.head(), f"refs/heads/{run.onto}"
    if _tip(run.onto) != new:
        repository.git("update-ref", "-m", "ninefold retrain", onto, new, run.base)
    repository.git("symbolic-ref", "HEAD", onto)
    _drop_branch(run, new)
    planning.journal().unlink()


def _drop_branch(run: Run, commit: str) -> None:
    """Delete the challenger's branch if it holds no more than another one does: this commit."""
    if _tip(run.branch) == commit:
        repository.git("branch", "--quiet", "-D", run.branch)


def _tip(branch: str) -> str:
    return repository.git("for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}").strip()


def _demand_place(run: Run) -> None:
    """Demand that the project is where the run left it."""
    if run.root != str(params.root()):
        raise DataError(f"a retraining in {run.root} was interrupted; run `ninefold retrain` there first")
    head, branch = repository.head(), repository.git("branch", "--show-current").strip()
    own = head == run.base or repository.git("rev-parse", "HEAD^").strip() == run.base
    if not own or branch not in (run.onto, run.branch):
        raise DataError(say("other_place", run=run, branch=branch, head=head, journal=planning.journal()))


def _failure() -> str:
    """Return which stage failed and why; its report is copied to `FAILED_PAGES`."""
    started, reports = planning.journal().stat().st_mtime, artifacts.path("reports")
    times = {place.stem: place.stat().st_mtime for place in (reports / "failed").glob("*.ipynb")}
    name = max(times, key=times.__getitem__, default="")
    if not name or times[name] < started:
        return "dvc repro: failed, as said above"
    checks = gate.failures(artifacts.published(f"reports/failed/{name}.json") or {})
    pages = artifacts.path(FAILED_PAGES)
    artifacts.remove(pages)
    shutil.copytree(reports, pages, ignore=lambda _, names: [name for name in names if not name.endswith(".html")])
    for trace in (reports / "failed").glob(f"{name}.*"):
        trace.unlink()
    why = f"the gate did not pass: {'; '.join(checks)}" if checks else "failed, as said above"
    return f"{name}: {why}\nThe report of that run: {pages / name}.html"


def _dvc(*arguments: str) -> int:
    """Run DVC, with its output shown; it inherits the lock, in case it outlives this process."""
    # The stages call `ninefold`, which a crontab may not find.
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    return subprocess.run([*DVC, *arguments], cwd=params.root(), env=env, check=False, close_fds=False).returncode
