"""Promote a bundle that beats the champion on rows new to both, roll back to the one before, and list the repository."""

import json
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from ninefold import artifacts, features, gate, lineage, metrics, params, training
from ninefold.errors import DataError, NinefoldError
from ninefold.metrics import EvaluationPlan, Split, with_interval
from ninefold.problem import PRIMARY, RANKING, Problem, decisions, title
from ninefold.registry import repository
from ninefold.registry.repository import say
from ninefold.serving import BUNDLE, PRODUCTION, Bundle, bundle, differing, hot_swap
from ninefold.stages import label

RECORDS = {slug: f"reports/metrics/{label(slug)}.json" for slug in ("training", "deployment")}
BUSY = "the registry: another `ninefold promote` or `rollback` is running; run this again after it"
PLAN, PROBLEM = "data/metrics.json", "data/problem.json"
# What two models must share of the problem for a fair comparison.
SAME = ("table", "key", "time", "group", "task", "target", "classes", "actions")
LEAST_ROWS = 50  # that neither model was fitted on


def promote(reason: str | None = None) -> str:
    """Register ``models/bundle`` as a version and assign it to production, if it is fit; return what was done, as text.

    A bundle is fit if git and DVC can restore it, its gates of stages 07 and 08 passed, and it earns significantly more than
    the champion; else a `DataError` says what to do. A `reason` promotes a challenger that does not beat the champion, or
    cannot be compared with it, and is recorded by the tags. A bundle that had a version keeps it. The interval does not
    account for challengers that were refused before on the same holdout.
    """
    if reason is not None and not reason.strip():
        raise DataError("--force: found no reason, expected why the champion has to go; the tag keeps it")
    with repository.locked("registry", BUSY):
        name, challenger = params.load("deployment").name, Bundle.load()
        md5, known, champions = lineage.dvc_md5(BUNDLE), repository.registered(name), repository.champions(name)
        commit = known[champions[-1]]["commit_hexsha"] if champions else None
        if commit and repository.outputs(commit).get(BUNDLE) == md5:
            hot_swap.install(artifacts.path(BUNDLE))  # an interrupted promotion is run again
            return f"{name} {champions[-1]}, bundle {challenger.version}, is in {repository.STAGE} already: nothing to promote"
        _demand_gates(name, challenger)
        _demand_committed(challenger)
        wins, result = True, "first version: no champion yet"
        if commit:
            wins, result = evaluate(champions[-1], commit, challenger)
        if not wins and reason is None:
            raise DataError(say("not_better", bundle=BUNDLE, version=challenger.version, result=result))
        result = result if wins else f"forced, {reason}; {result}"
        version = repository.register(name, known, md5, f"Promoted: {result}")
        hot_swap.install(artifacts.path(BUNDLE))
        _prune(name)
        facts = {"name": name, "version": version, "bundle": challenger.version, "champions": champions}
        return f"{say('promoted', **facts, result=result)}\n{_next_steps(name, version)}"


def rollback() -> str:
    """Assign production to the version that held it before, and serve its bundle again; return what was done, as text.

    A second rollback goes one version further back. The bundle is verified before it replaces the one in production, and
    the tag is written last, so that an interrupted rollback can be run again. ``models/bundle`` stays as it is. Raises
    `DataError` if no version was in production before, or its bundle cannot be restored.
    """
    with repository.locked("registry", BUSY):
        name = params.load("deployment").name
        champions = repository.champions(name)
        if len(champions) < 2:
            raise DataError(say("no_earlier", name=name, champions=champions))
        before, now = champions[-2:]
        with repository.restored(BUNDLE, repository.registered(name)[before]["commit_hexsha"]) as place:
            version = Bundle.load(place).version  # verified: this code can serve it
            hot_swap.install(place)
        repository.assign(name, before, f"{repository.BACK} from {now} to {before}")
        _prune(name)
        done = say("rolled_back", name=name, before=before, now=now, version=version, bundle=BUNDLE)
        return f"{done}\n{_next_steps(name, before)}"


def models() -> list[dict[str, Any]]:
    """Return the registered versions, newest first, with the metrics on the holdout as the commit of each records them."""
    repository.folder()  # says plainly where there is no git
    name = params.load("deployment").name
    champion, result = repository.champions(name)[-1:], []
    for version, one in repository.registered(name).items():
        texts = (lineage.file_of(one["commit_hexsha"], RECORDS[slug]) for slug in ("deployment", "training"))
        packed, figures = (json.loads(text or "{}").get("metrics", {}) for text in texts)
        facts = {"commit": one["commit_hexsha"], "date": one["created_at"].isoformat()}
        facts |= {"stages": sorted({stage["stage"] for stage in one["stages"]}), "champion": version in champion}
        facts |= {"bundle": packed.get("version", ""), "model": figures.get("model", "")}
        facts |= {"holdout": figures.get("holdout", {}), "message": one["message"]}
        result.append({"version": version, "tag": f"{name}@{version}", **facts})
    return result


def as_table(models: list[dict[str, Any]]) -> str:
    """Return the versions that `models` lists as text: a line per version, the champion marked with ``*``."""
    if not models:
        return "no version is registered yet; `ninefold promote` registers models/bundle"
    shown = [*RANKING.values(), *PRIMARY.values(), "gain"]  # of those that there are
    scores = dict.fromkeys(name for one in models for name in shown if name in one["holdout"])
    lines = [["", "version", "commit", "date", "stage", "bundle", "model", *map(title, scores)]]
    for one in models:
        facts = ["*" if one["champion"] else "", one["version"], one["commit"][:7], one["date"][:10]]
        facts += [", ".join(one["stages"]), one["bundle"], one["model"]]
        lines.append([*facts, *(with_interval(one["holdout"].get(name)) for name in scores)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _prune(name: str) -> None:
    """Remove old copies of bundles, but not those of the last two champions, nor the challenger that ``params.yaml`` names."""
    with suppress(NinefoldError, OSError):  # without readable params the challenger is not known: nothing is removed
        challenger = artifacts.path(params.load("serving").challenger).resolve().name
        last = repository.champions(name)[-2:]
        hot_swap.prune([challenger, *(one["bundle"] for one in models() if one["version"] in last)])


def _next_steps(name: str, version: str) -> str:
    """Return what to push: the tags by name, because GitHub starts no workflow for more than three that come at once."""
    tag = repository.assignments(name)[-1]["ref"]  # a release in the cloud begins with it
    return say("next_steps", production=PRODUCTION, name=name, version=version, tag=tag)


def _demand_gates(name: str, challenger: Bundle) -> None:
    """Demand that every check of stages 07 and 08 passed, for this very bundle, of this name."""
    version = None
    for slug, place in RECORDS.items():
        if (record := artifacts.published(place)) is None:
            raise DataError(f"{place}: not found, expected the gate of stage {label(slug)}; run `dvc repro deployment`")
        passed = record.get("gate", {}).get("checks") and record["gate"].get("passed")
        if failed := gate.failures(record) or ([] if passed else ["it holds none that passed"]):
            raise DataError(say("gate_failed", place=place, failed=failed))
        version = record.get("metrics", {}).get("version")
    if (version, name) != (challenger.version, challenger.name):
        raise DataError(say("other_bundle", bundle=BUNDLE, challenger=challenger, version=version, name=name))


def _demand_committed(challenger: Bundle) -> None:
    """Demand that the commit records the bundle, its candidate and their gates as they are here, and DVC has the files."""
    if changed := repository.changed(lineage.LOCK, "dvc.yaml", *RECORDS.values()):
        raise DataError(say("record_not_committed", changed=changed))
    packed_from = f"{challenger.described['lineage']['dvc']}.dir"  # of another candidate the figures of stage 07 may be
    recorded = repository.outputs("HEAD")
    here = {place: lineage.dvc_md5(place) for place in (BUNDLE, *RECORDS.values())}
    for name, md5 in {**here, training.CANDIDATE: packed_from}.items():
        if recorded.get(name) != md5:
            raise DataError(say("other_lock", name=name, lock=lineage.LOCK, md5=md5, recorded=recorded))
    with repository.restored(BUNDLE, "HEAD") as place:
        if bundle.verify(place) != challenger.version:
            raise DataError(f"{BUNDLE}: DVC restores another bundle than this one; run `dvc commit deployment`")


def compare(champion: Bundle, challenger: Bundle, rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return ``gain`` (payoff per row) and ``improvement`` (of the proper score) of the challenger, on rows new to both.

    Each acts as it would in production, the champion by the payoffs that it was packed with; actions are valued by the
    payoffs of the challenger. The lower end of an interval is exceeded with the confidence that the problem asks for.
    """
    problem, target = challenger.problem, rows[challenger.problem.target].to_numpy()
    old, new = champion.decide(rows), challenger.decide(rows)
    gain = decisions.payoff(new["action"], target, problem) - decisions.payoff(old["action"], target, problem)

    before, after = (metrics.scorer(PRIMARY[problem.task], target, one, problem) for one in (old, new))

    def statistic(weight: np.ndarray) -> dict[str, float]:
        return {**metrics.means({"gain": gain}, weight), "improvement": before(weight) - after(weight)}

    return metrics.intervals(statistic, rows, problem, problem.success.level)


def unseen(rows: pd.DataFrame, champion: Bundle, commit: str) -> pd.DataFrame:
    """Return those of the holdout rows that the champion was not fitted on.

    With time, rows after the last local day of its training and validation; else rows that the split of its commit put in the
    holdout, too. Raises `DataError` if that split is neither in DVC's cache nor in its remote, or an older version wrote it.
    """
    if champion.problem.time:
        last = max(champion.described["periods"][part]["last"] for part in ("train", "validation"))
        end = pd.Timestamp(last) + pd.Timedelta(days=1)
        return rows[champion.problem.local_times(rows) >= end].reset_index(drop=True)
    with repository.restored(PLAN, commit) as file:
        stored = json.loads(file.read_text(encoding="utf-8"))["split"]
    try:
        split = Split.model_validate(stored)
    except ValidationError:
        raise DataError(say("old_split", plan=PLAN, stored=stored)) from None
    return rows[metrics.part_of(rows, split, champion.problem) == "holdout"].reset_index(drop=True)


def evaluate(version: str, commit: str, challenger: Bundle) -> tuple[bool, str]:
    """Return whether the challenger, made from the data at hand, significantly beats a champion, and how it compares."""
    try:
        with repository.restored(BUNDLE, commit) as folder:
            champion = Bundle.load(folder)
        _demand_same(champion, challenger)
        problem, plan = challenger.problem, EvaluationPlan.load()
        holdout = training.read(problem, plan)["holdout"]
        rows = unseen(holdout, champion, commit)
        _demand_enough(rows, len(holdout), problem)
        difference = compare(champion, challenger, rows)
    except DataError as error:
        return False, f"cannot be compared with champion {version}: {error}"
    wins = bool(difference["gain"]["low"] > 0)
    facts = {"metric": title(PRIMARY[problem.task]), "days": problem.local_days(rows) if problem.time else None}
    facts |= {"problem": problem, "rows": rows, "holdout": holdout, **difference}
    return wins, say("compared", wins=wins, version=version, **facts)


def _demand_same(champion: Bundle, challenger: Bundle) -> None:
    """Demand the same problem and the same fields of both, and that the data at hand are the challenger's."""
    both = champion, challenger
    if other := differing(*both, SAME):
        values = [(name, *(getattr(each.problem, name) for each in both)) for name in other]
        changes = "; ".join(f"{name} was {old}, is {new}" for name, old, new in values)
        raise DataError(f"it answers another question: {changes}")
    before, now = ({field["name"]: (field["kind"], field["type"]) for field in each.signature} for each in both)
    if lost := [name for name in champion.features if now.get(name) != before[name]]:
        raise DataError(f"its features {', '.join(lost)} are not, or of another kind, in the feature table of today")
    recorded = challenger.described["lineage"]
    if changed := [name for name in (PROBLEM, PLAN, features.FEATURES) if lineage.sha256(name) != recorded.get(name)]:
        raise DataError(f"{', '.join(changed)}: not what the challenger was made from; `dvc checkout` restores it")


def _demand_enough(rows: pd.DataFrame, holdout: int, problem: Problem) -> None:
    """Demand enough rows that neither model was fitted on, and more than one outcome among them."""
    count = metrics.count_clusters(metrics.clusters(rows, problem))
    if len(rows) < LEAST_ROWS or count < metrics.LEAST_CLUSTERS or rows[problem.target].nunique() < 2:
        least = {"least_rows": LEAST_ROWS, "least_clusters": metrics.LEAST_CLUSTERS}
        clusters = metrics.cluster_name(problem)
        raise DataError(say("few_rows", rows=rows, holdout=holdout, count=count, clusters=clusters, **least))
