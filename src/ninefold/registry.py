"""The registry in git: which version of the model is in production, what it takes to get there, and the way back.

A version is a tag of GTO on the commit whose ``dvc.lock`` records the bundle (``returns@v0.0.2``); that it is in production
is another one (``returns#production#3``). `gto show` reads both. The files themselves stay with DVC.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from ninefold import features, metrics, repository, training
from ninefold.core import decisions, io, lineage, params
from ninefold.core.errors import DataError
from ninefold.core.moments import as_days
from ninefold.core.scores import (
    LEAST_BLOCKS,
    PRIMARY,
    RANKING,
    Bootstrap,
    block_name,
    blocks,
    intervals,
    one_score,
    title,
    with_interval,
)
from ninefold.core.stages import label
from ninefold.serving import bundle as packing
from ninefold.serving import rollout
from ninefold.serving.bundle import BUNDLE, Bundle
from ninefold.serving.rollout import PRODUCTION

STAGE = "production"
BACK = "Rolled back"  # begins the message of a tag that takes a promotion back
AGREED, STATED = "data/metrics.json", "data/problem.json"
RECORDS = {slug: f"reports/metrics/{label(slug)}.json" for slug in ("training", "deployment")}
# What two models must have in common, of the problem, or no comparison is fair.
SAME = ("table", "key", "time", "group", "task", "target", "classes", "actions")
GIT = {"purpose": "the registry lives in git", "remedy": "the registry needs a repository with a commit"}
LEAST_ROWS = 50  # that neither model was fitted on
NEXT = (
    f"A `ninefold serve` that runs here answers with it from now on ({PRODUCTION}). The tags are on this machine alone "
    "until `git push --tags`, the files until `dvc push`."
)


def promote(reason: str | None = None) -> str:
    """Register ``models/bundle`` as a version and assign it to production, if it is fit; return what was done, as text.

    Fit is what git and DVC can restore, whose gates of stages 07 and 08 passed, and which surely earns more than the
    champion, see `compare`. A bundle that had a version before keeps it. A holdout that judges many challengers is
    chosen by in the end: the interval knows nothing of those that were refused.

    Parameters
    ----------
    reason : str, optional
        Why to promote a challenger that does not surely beat the champion, or cannot be compared with it; the tags keep
        it. Nothing else is forgiven for it.

    Raises
    ------
    DataError
        If it is not fit, with what was found, and what to do.
    """
    if reason is not None and not reason.strip():
        raise DataError("--force: found no reason, expected why the champion has to go; the tag keeps it")
    with _alone():
        name, challenger = _name(), packing.load()
        md5, versions, held = lineage.dvc_md5(BUNDLE), _versions(name), _held(name)
        if held and _recorded(versions[held[-1]]["commit_hexsha"]).get(BUNDLE) == md5:
            rollout.install(io.path(BUNDLE))  # who was stopped before it was there runs this again
            return f"{name} {held[-1]}, bundle {challenger.version}, is in {STAGE} already: nothing to promote"
        _demand_gates(name, challenger)
        _demand_committed(challenger)
        fit, told = True, "first version: no champion yet"
        if held:
            fit, told = judge(held[-1], versions[held[-1]]["commit_hexsha"], challenger)
        if not fit and reason is None:
            raise DataError(
                f"{BUNDLE}: challenger {challenger.version}: {told}; keep the champion, or say why it has to go: "
                '`ninefold promote --force "..."`'
            )
        told = told if fit else f"forced, {reason}; {told}"
        version = _registered(name, versions, md5, f"Promoted: {told}")
        rollout.install(io.path(BUNDLE))
    after = f", after {held[-1]}" if held else ""
    return f"{name} {version}, bundle {challenger.version}, is in {STAGE}{after}: {told}\n{NEXT}"


def compare(
    champion: Bundle, challenger: Bundle, rows: pd.DataFrame, agreed: dict[str, Any]
) -> dict[str, dict[str, float]]:
    """Return by how much the challenger is better than the champion on the same rows, with one-sided intervals.

    Each acts as it would in production, the champion by the prices that it was packed with; what the actions pay is
    counted by the challenger's. Intervals are those of `core.evaluation.gain_floor`: over resampled blocks of paired
    differences, whose lower end is exceeded with the confidence that the problem asks for.

    Parameters
    ----------
    champion, challenger : Bundle
        Of the same target and actions.
    rows : DataFrame
        Labelled rows of features, which neither was fitted on.
    agreed : dict
        What stage 04 agreed.

    Returns
    -------
    dict
        ``gain`` (payoff per row) and ``improvement`` (by which the proper score, see `core.scores.PRIMARY`, is lower):
        ``{"value", "low", "high"}`` each.
    """
    stated, target = challenger.stated, rows[challenger.stated["target"]].to_numpy()
    old, new = champion.decide(rows), challenger.decide(rows)
    gain = decisions.payoff(new["action"], target, stated) - decisions.payoff(old["action"], target, stated)

    def statistic(weight: np.ndarray) -> dict[str, float]:
        before, after = (one_score(PRIMARY[stated["task"]], target, one, stated, weight) for one in (old, new))
        return {"gain": float(np.average(gain, weights=weight)), "improvement": before - after}

    one_sided = {**agreed["bootstrap"], "level": 2 * stated["success"]["confidence"] - 1}
    return intervals(statistic, blocks(rows, stated), Bootstrap(**one_sided))


def unseen(rows: pd.DataFrame, champion: Bundle, commit: str) -> pd.DataFrame:
    """Return those of the holdout rows that the champion was not fitted on either.

    Where there is time, later ones than the days of its training and validation rows, which its bundle names; else
    those that the split of its commit put in the holdout, too.

    Raises
    ------
    DataError
        If that split is neither in DVC's cache nor in its remote.
    """
    if champion.stated["time"]:
        last = max(champion.described["periods"][part]["last"] for part in ("train", "validation"))
        end = (pd.Timestamp(last) - pd.Timestamp(0)).days + 1
        return rows[as_days(rows[champion.stated["time"]]) >= end].reset_index(drop=True)
    with tempfile.TemporaryDirectory() as folder:
        _restore(AGREED, commit, Path(folder) / "metrics.json")
        split = json.loads((Path(folder) / "metrics.json").read_text(encoding="utf-8"))["split"]
    return rows[metrics.part_of(rows, split, champion.stated) == "holdout"].reset_index(drop=True)


def judge(version: str, commit: str, challenger: Bundle) -> tuple[bool, str]:
    """Return whether the challenger surely beats the champion on the same rows, and what was found, in words.

    The rows are those that `unseen` leaves of the holdout: the newest ones with a label, where there is time.

    Parameters
    ----------
    version, commit : str
        Of the champion.
    challenger : Bundle
        Made from the data at hand.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            _restore(BUNDLE, commit, Path(folder) / "bundle")
            champion = packing.load(Path(folder) / "bundle")
        _demand_same(champion, challenger)
        stated, agreed = challenger.stated, metrics.load()
        holdout = training.read(stated, agreed)["holdout"]
        rows = unseen(holdout, champion, commit)
        _demand_enough(rows, len(holdout), stated)
        found = compare(champion, challenger, rows, agreed)
    except DataError as error:
        return False, f"cannot be compared with champion {version}: {error}"
    gain, better = found["gain"], found["improvement"]
    fit, confidence = bool(gain["low"] > 0), stated["success"]["confidence"]
    return fit, (
        f"{'beats' if fit else 'does not surely beat'} champion {version}: gain {gain['value']:.4g} {stated['payoff_unit']} "
        f"per {stated['unit']}, with {confidence:.0%} confidence above {gain['low']:.4g} (expected: above 0), "
        f"{title(PRIMARY[stated['task']])} lower by {better['value']:.4g} (above {better['low']:.4g}), on {len(rows):,} of "
        f"{len(holdout):,} holdout rows{_of_days(rows, stated)}, which neither was fitted on"
    )


def rollback() -> str:
    """Assign production to the version that held it before, and serve its bundle again; return what was done, as text.

    A second rollback goes one further back: what was rolled back is not gone to again, until it is promoted. The bundle
    is restored and read before the one in production goes, and the tag comes last: who is stopped in between runs it
    again. ``models/bundle``, which the pipeline owns, stays as it is.

    Raises
    ------
    DataError
        If no version was in production before, or its bundle cannot be restored, or read.
    """
    with _alone():
        name = _name()
        versions, held = _versions(name), _held(name)
        if len(held) < 2:
            found = f"only {held[0]} has been in {STAGE}" if held else f"no version is in {STAGE}"
            raise DataError(f"{name}: {found}, so there is nothing to go back to; see `ninefold models`")
        now, before = held[-1], held[-2]
        commit = versions[before]["commit_hexsha"]
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "bundle"
            _restore(BUNDLE, commit, place)
            version = packing.load(place).version  # read whole: what this code cannot serve is not gone back to
            rollout.install(place)
        _assign(name, before, f"{BACK} from {now} to {before}")
    return (
        f"{name} {before}, bundle {version}, is in {STAGE} again, after {now}\n"
        f"{BUNDLE} and git are as they were: the newest model of this commit, which is not in {STAGE}. "
        f"To stay with the older one, `git revert` what made the newer.\n{NEXT}"
    )


def models() -> list[dict[str, Any]]:
    """Return the registered versions, newest first.

    Returns
    -------
    list of dict
        ``version``; ``tag``; ``commit``; ``date`` of registration (ISO); ``stages`` that it is in; ``champion``: is it in
        production; ``bundle``: the bundle's version; ``model``; ``holdout``: metric -> ``{"value", "low", "high"}``, the
        gain among them, as its commit records them; ``message`` of its tag.
    """
    _git("rev-parse", "--git-dir")  # says plainly where there is no git
    name = _name()
    held = _held(name)
    return [_listed(name, one, one["version"] in held[-1:]) for one in _versions(name).values()]


def as_table(found: list[dict[str, Any]]) -> str:
    """Return what `models` found as text: a line per version, the champion marked with ``*``."""
    if not found:
        return "no version is registered yet; `ninefold promote` registers models/bundle"
    scores = dict.fromkeys(name for one in found for name in _shown(one["holdout"]))
    lines = [["", "version", "commit", "date", "stage", "bundle", "model", *map(title, scores)]]
    for one in found:
        figures = [with_interval(one["holdout"].get(name)) for name in scores]
        facts = [
            one["version"],
            one["commit"][:7],
            one["date"][:10],
            ", ".join(one["stages"]),
            one["bundle"],
            one["model"],
        ]
        lines.append(["*" if one["champion"] else "", *facts, *figures])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines]
    return "\n".join(row.rstrip() for row in rows)


def _of_days(rows: pd.DataFrame, stated: dict[str, Any]) -> str:
    """Return, in words, of which days some rows are; nothing without time."""
    if not stated["time"]:
        return ""
    days = rows[stated["time"]].dt.normalize()
    return f" of {days.nunique()} days, {days.min().date()} to {days.max().date()}"


def _demand_same(champion: Bundle, challenger: Bundle) -> None:
    """Demand that both answer the same question from the same fields, and that the data at hand are the challenger's."""
    old, new = champion.stated, challenger.stated
    if other := rollout.differing(champion, challenger, SAME):
        told = "; ".join(f"{name} was {old.get(name)}, is {new.get(name)}" for name in other)
        raise DataError(f"it answers another question: {told}")
    kinds = {field["name"]: (field["kind"], field["type"]) for field in challenger.signature}
    fields = {field["name"]: (field["kind"], field["type"]) for field in champion.signature}
    if lost := [name for name in champion.features if kinds.get(name) != fields[name]]:
        raise DataError(f"its features {', '.join(lost)} are not, or of another kind, in the feature table of today")
    recorded = challenger.described["lineage"]
    if changed := [name for name in (STATED, AGREED, features.FEATURES) if lineage.sha256(name) != recorded.get(name)]:
        raise DataError(f"{', '.join(changed)}: not what the challenger was made from; `dvc checkout` restores it")


def _demand_enough(rows: pd.DataFrame, holdout: int, stated: dict[str, Any]) -> None:
    """Demand enough rows that neither model was fitted on, and more than one outcome among them."""
    count = rows[stated["time"]].dt.normalize().nunique() if stated["time"] else len(np.unique(blocks(rows, stated)))
    if len(rows) < LEAST_ROWS or count < LEAST_BLOCKS or rows[stated["target"]].nunique() < 2:
        raise DataError(
            f"of {holdout:,} holdout rows {len(rows):,}, of {count} {block_name(stated)}, are none that it was fitted on; "
            f"expected {LEAST_ROWS} of {LEAST_BLOCKS}, and two different outcomes: wait for newer rows"
        )


def _demand_gates(name: str, challenger: Bundle) -> None:
    """Demand that every check of stages 07 and 08 passed, for this very bundle, of this name."""
    for slug, place in RECORDS.items():
        record = io.published(place)
        if record is None:
            raise DataError(f"{place}: not found, expected the gate of stage {label(slug)}; run `dvc repro deployment`")
        checks = record.get("gate", {}).get("checks", [])
        if failed := [f"{one['name']}: {one['value']}, expected {one['limit']}" for one in checks if not one["passed"]]:
            raise DataError(
                f"{place}: the gate did not pass: {'; '.join(failed)}; mend it, and run `dvc repro deployment`"
            )
        if not checks or not record["gate"].get("passed"):
            raise DataError(f"{place}: holds no gate that passed; run `dvc repro deployment`")
    passed = (io.published(RECORDS["deployment"]) or {}).get("metrics", {}).get("version")
    if (passed, name) != (challenger.version, challenger.name):
        raise DataError(
            f"{BUNDLE}: {challenger.name} {challenger.version}, but the gate of stage 08 passed for {passed}, and "
            f"deployment.name in params.yaml is {name}; run `dvc repro deployment`"
        )


def _demand_committed(challenger: Bundle) -> None:
    """Demand that the commit records the bundle, its candidate and their gates as they are here, and DVC has the files."""
    if changed := _git("status", "--porcelain", "--", lineage.LOCK, "dvc.yaml", *RECORDS.values()).splitlines():
        named = ", ".join(line[3:] for line in changed)
        raise DataError(
            f"{named}: not committed, so git could not restore this version; `git add` and `git commit` first"
        )
    packed_from = f"{challenger.described['lineage']['dvc']}.dir"  # of another candidate the figures of stage 07 may be
    recorded, found = _recorded("HEAD"), {BUNDLE: lineage.dvc_md5(BUNDLE), training.CANDIDATE: packed_from}
    found |= {place: lineage.dvc_md5(place) for place in RECORDS.values()}
    for name, md5 in found.items():
        if recorded.get(name) != md5:
            raise DataError(
                f"{name}: not what the committed {lineage.LOCK} records ({md5}, expected {recorded.get(name, 'an entry')}); "
                "restore it with `git checkout` and `dvc checkout`, or run `dvc repro deployment` and commit"
            )
    with tempfile.TemporaryDirectory() as folder:
        _restore(BUNDLE, "HEAD", Path(folder) / "bundle")
        if packing.verify(Path(folder) / "bundle") != challenger.version:
            raise DataError(f"{BUNDLE}: DVC restores another bundle than this one; run `dvc commit deployment`")


def _name() -> str:
    return str(params.load("deployment").name)


def _versions(name: str) -> dict[str, dict[str, Any]]:
    """Return what GTO knows of the versions of a model, newest first: version -> its state."""
    from gto import api
    from gto.exceptions import ArtifactNotFound

    with _clear_errors():
        try:
            return {one["version"]: one for one in api.show(_repository(), name)}
        except ArtifactNotFound:
            return {}


def _held(name: str) -> list[str]:
    """Return the versions that production held, oldest first, without what was rolled back: the last is the champion.

    Tags of one second are told apart by their counter. Of versions that were unassigned by hand GTO decides.
    """
    versions = _versions(name)
    held: list[str] = []
    for one in _assignments(name):
        version = one["version"]
        if one["message"].startswith(BACK) and version in held:
            del held[len(held) - held[::-1].index(version) :]
        elif held[-1:] != [version]:
            held.append(version)
    held = [version for version in held if version in versions]
    current = [key for key, one in versions.items() if STAGE in _stages(one)]
    if not current:
        return []
    return held if held[-1:] == current else [*held, *current]


def _assignments(name: str) -> list[dict[str, Any]]:
    """Return the tags that put a version into production, oldest first."""
    from gto import api

    with _clear_errors():
        events = api.history(_repository(), artifact=name)
    given = [one for one in events if one["event"] == "assignment" and one["stage"] == STAGE]
    return sorted(given, key=lambda one: (one["timestamp"], api.parse_tag(one["ref"]).get("counter", 0)))


def _stages(one: dict[str, Any]) -> list[str]:
    return sorted({stage["stage"] for stage in one["stages"]})


def _registered(name: str, versions: dict[str, dict[str, Any]], md5: str, message: str) -> str:
    """Return the version of the bundle, registered if it was not yet, and assigned to production: both tags, or none."""
    from gto import api

    known = (version for version, one in versions.items() if _recorded(one["commit_hexsha"]).get(BUNDLE) == md5)
    if version := next(known, None):
        _assign(name, version, message)
        return version
    with _clear_errors():
        tag = api.register(_repository(), name, _git("rev-parse", "HEAD").strip(), message=message)
    try:
        _assign(name, tag.version, message)
    except BaseException:
        _git("tag", "--delete", tag.tag)
        raise
    return str(tag.version)


def _assign(name: str, version: str, message: str) -> None:
    """Assign a version to production, in a second of its own: GTO orders tags by whole seconds."""
    from gto import api

    last = max((one["timestamp"].timestamp() for one in _assignments(name)), default=0)
    while 0 <= (ahead := last + 1 - time.time()) <= 1:
        time.sleep(ahead + 0.001)
    with _clear_errors():
        api.assign(_repository(), name, STAGE, version=version, message=message, force=True)


def _listed(name: str, one: dict[str, Any], champion: bool) -> dict[str, Any]:
    """Return a line of `models`."""
    records = {
        slug: json.loads(repository.file_of(one["commit_hexsha"], place) or "{}") for slug, place in RECORDS.items()
    }
    figures = records["training"].get("metrics", {})
    return {
        "version": one["version"],
        "tag": f"{name}@{one['version']}",
        "commit": one["commit_hexsha"],
        "date": one["created_at"].isoformat(),
        "stages": _stages(one),
        "champion": champion,
        "bundle": records["deployment"].get("metrics", {}).get("version", ""),
        "model": figures.get("model", ""),
        "holdout": figures.get("holdout", {}),
        "message": one["message"],
    }


def _shown(holdout: dict[str, Any]) -> list[str]:
    """Return the metrics of a table: what ranks, the proper score, the gain; of those that there are."""
    return [name for name in (*RANKING.values(), *PRIMARY.values(), "gain") if name in holdout]


def _recorded(revision: str) -> dict[str, str]:
    """Return what ``dvc.lock`` of a revision records of the outputs: path -> MD5."""
    stages = (yaml.safe_load(repository.file_of(revision, lineage.LOCK) or "") or {}).get("stages", {})
    return {out["path"]: out.get("md5", "") for stage in stages.values() for out in stage.get("outs", [])}


def _restore(name: str, revision: str, place: Path) -> None:
    """Write an output, as a revision records it, to `place`: from DVC's cache, or else its remote."""
    from dvc.repo.get import get  # type: ignore[import-untyped]

    try:
        get(_repository(), name, out=str(place), rev=revision)
    except Exception as error:  # DVC hands on whatever the library of a remote raises
        raise DataError(
            f"{name} of {revision[:7]}: neither in DVC's cache nor in its remote ({error}); who has it runs `dvc push`"
        ) from None


def _repository() -> str:
    return str(params.root())


def _git(*arguments: str) -> str:
    return repository.git(*arguments, **GIT)


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the lock of the registry, which dies with the process."""
    busy = "the registry: another `ninefold promote` or `rollback` is at it; run this again after"
    with repository.alone(repository.folder(**GIT) / "ninefold-registry.lock", busy):
        yield


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Tell what GTO and git refuse as an error that can be mended."""
    from gto.exceptions import GTOException
    from scmrepo.exceptions import SCMError

    try:
        yield
    except (GTOException, SCMError) as error:
        raise DataError(f"the registry: {error}; see `ninefold models` and `gto show`, and run this again") from None
