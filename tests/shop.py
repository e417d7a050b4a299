"""A small repository of git and DVC with a packed model, for tests of the registry and of retraining."""

import subprocess
from pathlib import Path
from typing import Any

import bundles
import numpy as np
import yaml
from conftest import Project

from ninefold import artifacts
from ninefold.metrics import EvaluationPlan
from ninefold.registry import promotion
from ninefold.serving import bundle as packing

COUNT = 800  # rows: the holdout, from 2020-02-10 on, has then some 480
FIGURE = {"value": 0.75, "low": 0.7, "high": 0.8}
DEPLOYMENT = {
    "cmd": "true",
    "outs": ["models/bundle", "models/candidate", "data/metrics.json"],
    "metrics": [{place: {"cache": False}} for place in promotion.RECORDS.values()],
}


class Shop:
    """The tiny project as a repository, and what its data scientist does in it."""

    def __init__(self, project: Project) -> None:
        self.project, self.folder = project, project.folder
        project.params["deployment"] = bundles.PARAMS.model_dump()
        project.write(yaml.safe_dump(project.params, sort_keys=False))
        self.git("init", "-q")
        dvc(self.folder, "init")
        (self.folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"deployment": DEPLOYMENT}}))
        (self.folder / ".gitignore").write_text("/data/\n/models/\n")

    def git(self, *arguments: str) -> str:
        """Run git; return what it said."""
        return subprocess.run(["git", *arguments], cwd=self.folder, check=True, capture_output=True, text=True).stdout

    def build(self, good: bool = True, case: str = "binary", count: int = COUNT, seed: int = 0) -> packing.Bundle:
        """Pack a model, good or fitted to outcomes in random order, with gates that passed; nothing is committed yet."""
        problem = bundles.problem_of(case)
        parts = bundles.lay_out(case, count=count)
        EvaluationPlan.load().model_copy(update={"level": 0.95}).save()
        artifacts.publish()
        if not good:
            target, random = problem.target, np.random.default_rng(seed)
            mixed = {part: rows.assign(**{target: random.permutation(rows[target])}) for part, rows in parts.items()}
            bundles._fit(mixed, "boosting", problem)
        bundle = bundles.pack(parts)
        holdout = {"roc_auc": FIGURE, "log_loss": FIGURE, "gain": {"value": 0.125, "low": 0.05, "high": 0.2}}
        self.gate("training", {"model": "boosting", "holdout": holdout})
        self.gate("deployment", {"version": bundle.version})
        return bundle

    def gate(self, slug: str, figures: dict[str, Any], passed: bool = True) -> None:
        check = {"name": "gain exceeded", "value": 0.1 if passed else -0.1, "limit": "> 0", "passed": passed}
        record = {"gate": {"passed": passed, "checks": [check]}, "metrics": figures}
        artifacts.write_json(record, artifacts.path(promotion.RECORDS[slug]))

    def commit(self, message: str = "A model") -> None:
        dvc(self.folder, "commit")
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)

    def tags(self) -> list[str]:
        """Return the tags, by name: two of one promotion may be made within a second or not."""
        return sorted(self.git("tag").split())

    def bundle(self) -> str:
        return packing.verify(self.folder / "models/bundle")

    def served(self) -> str:
        return packing.verify(self.folder / "models/production")


def dvc(folder: Path, act: str, **options: Any) -> Any:
    """Do what DVC does, without a process of its own for each, which would take two seconds."""
    from dvc.repo import Repo

    if act == "init":
        return Repo.init(str(folder)).close()
    with Repo(str(folder)) as repo:
        return repo.commit("deployment", force=True) if act == "commit" else getattr(repo, act)(**options)
