"""Lineage: hashes of files and values, and the commit that recorded a model."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import Project

from ninefold import artifacts, lineage
from ninefold.errors import DataError


def test_a_hash_is_that_of_names_and_contents_and_of_nothing_else(project: Project) -> None:
    for name, files in {"one": ["b.txt", "a/c.txt"], "other": ["a/c.txt", "b.txt"]}.items():
        for file in files:
            artifacts.write_text(file, artifacts.path(f"{name}/{file}"))
    first = lineage.of_folder("one")
    assert re.fullmatch("[0-9a-f]{12}", first)
    assert lineage.of_folder("other") == first == lineage.of_folder(artifacts.path("one"))
    for ignored in ("__pycache__/x.pyc", ".hidden", ".cache/x"):
        artifacts.write_text("x", artifacts.path(f"one/{ignored}"))
    assert lineage.of_folder("one") == first
    artifacts.path("other/b.txt").rename(artifacts.path("other/d.txt"))
    assert lineage.of_folder("other") != first
    artifacts.write_text("changed", artifacts.path("one/b.txt"))
    assert lineage.of_folder("one") != first
    with pytest.raises(DataError, match="nowhere: not found"):
        lineage.of_folder("nowhere")


def test_params_have_one_hash_in_whichever_order_they_stand() -> None:
    one, other = {"a": 1, "b": {"c": [1, 2], "d": "ü"}}, {"b": {"d": "ü", "c": [1, 2]}, "a": 1}
    assert lineage.of_values(one) == lineage.of_values(other)
    assert lineage.of_values({"a": [1, 2]}) != lineage.of_values({"a": [2, 1]})


def test_lineage_lists_what_exists(project: Project) -> None:
    assert list(lineage.lineage()) == ["params.yaml"]
    for file in ("data/raw/a.txt", "src/project/a.py"):
        artifacts.write_text("x", artifacts.path(file))
    assert list(lineage.lineage()) == ["params.yaml", "data/raw", "src"]
    assert lineage.lineage()["data/raw"] == lineage.of_folder("data/raw")


def test_the_hash_of_a_folder_is_the_one_that_dvc_writes(project: Project) -> None:
    from dvc.repo import Repo

    for file in ("ü.txt", "b/c.txt", "a.json", "B.txt"):
        artifacts.write_text(f"content of {file}", artifacts.path(f"models/bundle/{file}"))
    repo = Repo.init(no_scm=True)
    repo.add("models/bundle")
    repo.close()
    assert lineage.dvc_md5("models/bundle") in artifacts.path("models/bundle.dvc").read_text()


@pytest.fixture
def repository(project: Project) -> Project:
    """The tiny project, in a git repository of its own."""
    git("init", "--quiet")
    return project


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def record(*md5: str) -> str:
    """Commit a ``dvc.lock`` that holds the hashes; return the commit."""
    artifacts.write_text("\n".join(md5) + "\n", artifacts.path("dvc.lock"))
    git("add", "dvc.lock")
    git("commit", "--quiet", "--message", "a run")
    return git("rev-parse", "HEAD")


def test_the_commit_is_the_newest_whose_lock_recorded_the_model(repository: Project) -> None:
    assert lineage.commit("one") == lineage.commit("one", "") == "not committed yet"
    _, two, again, three = (record(md5) for md5 in ("one", "two", "one", "three"))
    assert lineage.commit("one") == again
    assert lineage.commit("three") == three
    assert lineage.commit("unknown", "", "two") == two
    artifacts.write_text("four\n", artifacts.path("dvc.lock"))
    assert lineage.commit("four") == f"{three} with changes that are not committed"


def test_a_project_in_a_folder_of_a_repository_is_found(repository: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts.write_text("{}\n", repository.folder / "inner/params.yaml")
    monkeypatch.chdir(repository.folder / "inner")
    assert lineage.commit("one", "two") == "not in a git repository of its own"
    other = rf"in the git repository {repository.folder}, which holds no file .*`git init` here"
    with pytest.raises(DataError, match=other):
        lineage.demand_own_repository()
    commit = record("one")
    assert lineage.commit("one") == commit
    lineage.demand_own_repository()


def test_a_default_remote_where_git_would_take_its_files_is_refused(repository: Project, monkeypatch: Any) -> None:
    from dvc.repo import Repo

    artifacts.write_text("{}\n", repository.folder / "inner/params.yaml")
    monkeypatch.chdir(repository.folder / "inner")
    Repo.init(subdir=True).close()
    lineage.demand_own_store()  # there is none

    def set_to(url: str) -> None:
        artifacts.path(".dvc/config").write_text(f"[core]\n    remote = local\n['remote \"local\"']\n    url = {url}\n")

    set_to("../../store")
    outer = repository.folder
    for _ in range(2):
        found = rf"default remote local is {outer}/store, which is in the git repository {outer};"
        with pytest.raises(DataError, match=f"{found} .*`dvc remote modify local url PLACE`"):
            lineage.demand_own_store()
        git("init", "--quiet")  # a repository inside the other one: the store would be in the outer one still
    artifacts.write_text("/store/\n", repository.folder / ".gitignore")
    for url in ("../../store", "../../../store", "s3://bucket/store"):
        set_to(url)
        lineage.demand_own_store()


def test_without_git_nothing_fails(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert lineage.commit("one") == "not in a git repository"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert lineage.commit("one") == "not in a git repository"
