"""What the tests of a project are given: rows of the source, a copy to work in, and why a run in it failed."""

import shutil
import subprocess
from typing import Any

import pandas as pd
import pytest
from conftest import Project

from ninefold import artifacts
from ninefold.errors import NinefoldError
from ninefold.testing import project as testing

PIPELINE = "stages:\n  one:\n    cmd: 'true'\n  two:\n    cmd: echo the reason >&2 && exit 1\n    deps: [src]\n"


@pytest.fixture
def tracked(project: Project) -> Project:
    """Make the tiny project a git repository with code, ignored results and an ignored source file."""
    files = {".gitignore": "/data/\n", "src/project/features.py": "", "reports/index.html": "", "dvc.yaml": PIPELINE}
    files |= {"data/source/orders.csv": "id\n1\n", "data/raw/manifest.json": "{}", ".dvc/config": ""}
    for name, text in files.items():
        artifacts.write_text(text, project.folder / name)
    subprocess.run(["git", "init", "-q"], cwd=project.folder, check=True)
    return project


def test_a_copy_has_code_and_no_results_and_is_one_of_a_repository(tracked: Project, tmp_path_factory: Any) -> None:
    before, copy = tracked.bytes("."), tmp_path_factory.mktemp("copy")
    testing.copy_project(copy)
    found = {file.relative_to(copy).as_posix() for file in copy.rglob("*") if file.is_file()}
    kept = {".dvc/config", ".gitignore", "data/source/orders.csv", "dvc.yaml", "params.yaml", "src/project/features.py"}
    assert found == kept
    assert tracked.bytes(".") == before
    failure = testing.repro(copy)
    assert failure.startswith("stage two failed, in a copy of the project at ")
    assert "the reason" in failure
    shutil.rmtree(tracked.folder / ".git")
    with pytest.raises(NinefoldError, match=r"found no git repository .*run `git init`"):
        testing.copy_project(copy / "copy")


def test_the_newest_months_are_read_and_tables_without_time_whole(project: Project) -> None:
    calls = []
    project.set("collection.start", "2019-06-01")
    project.functions["collection", "read"] = lambda *call: calls.append(call) or pd.DataFrame({"id": range(10)})
    assert {name: len(rows) for name, rows in testing.read_rows(4).items()} == {"orders": 4, "customers": 10}
    assert calls == [("orders", pd.Timestamp("2019-12-01"), pd.Timestamp("2020-03-01")), ("customers", None, None)]
