"""Promote a bundle to production, roll back to the one before, and list the versions."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from ninefold import artifacts, lineage, training
from ninefold.errors import DataError
from ninefold.metrics import with_interval
from ninefold.problem import PRIMARY, RANKING, title
from ninefold.registry import comparison, repository, versions
from ninefold.serving import BUNDLE, PRODUCTION, Bundle, checksums, hot_swap
from ninefold.stages import label

RECORDS = {slug: f"reports/metrics/{label(slug)}.json" for slug in ("training", "deployment")}
NEXT = (
    f"A `ninefold serve` that runs here answers with it from now on ({PRODUCTION}). The tags are on this machine alone "
    "until `git push --tags`, the files until `dvc push`."
)


def promote(reason: str | None = None) -> str:
    """Register ``models/bundle`` as a version and assign it to production, if it is fit; return what was done, as text.

    A bundle is fit if git and DVC can restore it, its gates of stages 07 and 08 passed, and it earns significantly more than
    the champion, see `ninefold.registry.compare`. A bundle that had a version keeps it. The interval does not account for
    challengers that were refused before on the same holdout.

    Parameters
    ----------
    reason : str, optional
        Why to promote a challenger that does not significantly beat the champion, or cannot be compared with it; the tags
        record it. All other demands stay.

    Raises
    ------
    DataError
        If it is not fit, and what to do.
    """
    if reason is not None and not reason.strip():
        raise DataError("--force: found no reason, expected why the champion has to go; the tag keeps it")
    with versions.locked():
        name, challenger = versions.model_name(), Bundle.load()
        md5, known, champions = lineage.dvc_md5(BUNDLE), versions.registered(name), versions.champions(name)
        if champions and versions.outputs(known[champions[-1]]["commit_hexsha"]).get(BUNDLE) == md5:
            hot_swap.install(artifacts.path(BUNDLE))  # an interrupted promotion is run again
            return f"{name} {champions[-1]}, bundle {challenger.version}, is in {versions.STAGE} already: nothing to promote"
        _demand_gates(name, challenger)
        _demand_committed(challenger)
        wins, result = True, "first version: no champion yet"
        if champions:
            wins, result = comparison.evaluate(champions[-1], known[champions[-1]]["commit_hexsha"], challenger)
        if not wins and reason is None:
            raise DataError(
                f"{BUNDLE}: challenger {challenger.version}: {result}; keep the champion, or say why it has to go: "
                '`ninefold promote --force "..."`'
            )
        result = result if wins else f"forced, {reason}; {result}"
        version = versions.register(name, known, md5, f"Promoted: {result}")
        hot_swap.install(artifacts.path(BUNDLE))
    after = f", after {champions[-1]}" if champions else ""
    return f"{name} {version}, bundle {challenger.version}, is in {versions.STAGE}{after}: {result}\n{NEXT}"


def rollback() -> str:
    """Assign production to the version that held it before, and serve its bundle again; return what was done, as text.

    A second rollback goes one version further back. The bundle is restored and verified before it replaces the one in
    production, and the tag is written last, so that an interrupted rollback can be run again. ``models/bundle``, which the
    pipeline owns, stays as it is.

    Raises
    ------
    DataError
        If no version was in production before, or its bundle cannot be restored, or read.
    """
    with versions.locked():
        name = versions.model_name()
        champions = versions.champions(name)
        if len(champions) < 2:
            only = f"only {champions[0]} has been" if champions else "no version is"
            raise DataError(
                f"{name}: {only} in {versions.STAGE}, so there is nothing to go back to; see `ninefold models`"
            )
        before, now = champions[-2:]
        commit = versions.registered(name)[before]["commit_hexsha"]
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "bundle"
            versions.restore(BUNDLE, commit, place)
            version = Bundle.load(place).version  # verified: this code can serve it
            hot_swap.install(place)
        versions.assign(name, before, f"{versions.BACK} from {now} to {before}")
    return (
        f"{name} {before}, bundle {version}, is in {versions.STAGE} again, after {now}\n"
        f"{BUNDLE} and git are as they were: the newest model of this commit, which is not in {versions.STAGE}. "
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
    versions.git("rev-parse", "--git-dir")  # says plainly where there is no git
    name = versions.model_name()
    champion = versions.champions(name)[-1:]
    return [_listed(name, one, one["version"] in champion) for one in versions.registered(name).values()]


def as_table(models: list[dict[str, Any]]) -> str:
    """Return the versions that `models` lists as text: a line per version, the champion marked with ``*``."""
    if not models:
        return "no version is registered yet; `ninefold promote` registers models/bundle"
    scores = dict.fromkeys(name for one in models for name in _shown(one["holdout"]))
    lines = [["", "version", "commit", "date", "stage", "bundle", "model", *map(title, scores)]]
    for one in models:
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


def _demand_gates(name: str, challenger: Bundle) -> None:
    """Demand that every check of stages 07 and 08 passed, for this very bundle, of this name."""
    for slug, place in RECORDS.items():
        record = artifacts.published(place)
        if record is None:
            raise DataError(f"{place}: not found, expected the gate of stage {label(slug)}; run `dvc repro deployment`")
        checks = record.get("gate", {}).get("checks", [])
        if failed := [f"{one['name']}: {one['value']}, expected {one['limit']}" for one in checks if not one["passed"]]:
            raise DataError(
                f"{place}: the gate did not pass: {'; '.join(failed)}; mend it, and run `dvc repro deployment`"
            )
        if not checks or not record["gate"].get("passed"):
            raise DataError(f"{place}: holds no gate that passed; run `dvc repro deployment`")
    passed = (artifacts.published(RECORDS["deployment"]) or {}).get("metrics", {}).get("version")
    if (passed, name) != (challenger.version, challenger.name):
        raise DataError(
            f"{BUNDLE}: {challenger.name} {challenger.version}, but the gate of stage 08 passed for {passed}, and "
            f"deployment.name in params.yaml is {name}; run `dvc repro deployment`"
        )


def _demand_committed(challenger: Bundle) -> None:
    """Demand that the commit records the bundle, its candidate and their gates as they are here, and DVC has the files."""
    if changed := versions.git("status", "--porcelain", "--", lineage.LOCK, "dvc.yaml", *RECORDS.values()).splitlines():
        named = ", ".join(line[3:] for line in changed)
        raise DataError(
            f"{named}: not committed, so git could not restore this version; `git add` and `git commit` first"
        )
    packed_from = f"{challenger.described['lineage']['dvc']}.dir"  # of another candidate the figures of stage 07 may be
    recorded, outputs = versions.outputs("HEAD"), {BUNDLE: lineage.dvc_md5(BUNDLE), training.CANDIDATE: packed_from}
    outputs |= {place: lineage.dvc_md5(place) for place in RECORDS.values()}
    for name, md5 in outputs.items():
        if recorded.get(name) != md5:
            raise DataError(
                f"{name}: not what the committed {lineage.LOCK} records ({md5}, expected {recorded.get(name, 'an entry')}); "
                "restore it with `git checkout` and `dvc checkout`, or run `dvc repro deployment` and commit"
            )
    with tempfile.TemporaryDirectory() as folder:
        versions.restore(BUNDLE, "HEAD", Path(folder) / "bundle")
        if checksums.verify(Path(folder) / "bundle") != challenger.version:
            raise DataError(f"{BUNDLE}: DVC restores another bundle than this one; run `dvc commit deployment`")


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
        "stages": versions.stages(one),
        "champion": champion,
        "bundle": records["deployment"].get("metrics", {}).get("version", ""),
        "model": figures.get("model", ""),
        "holdout": figures.get("holdout", {}),
        "message": one["message"],
    }


def _shown(holdout: dict[str, Any]) -> list[str]:
    """Return the metrics of a table: what ranks, the proper score, the gain; of those that there are."""
    return [name for name in (*RANKING.values(), *PRIMARY.values(), "gain") if name in holdout]
