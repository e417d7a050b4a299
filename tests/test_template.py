"""The repository as a template: what a copy holds, and what an update brings and leaves alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from clones import copy_files

from ninefold import own_notebook
from ninefold.core.stages import STAGES, label

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = [f"notebooks/{label(slug)}.ipynb" for slug in STAGES]
MARKS = ("<<<<<<<", ">>>>>>>", "=======")


class Repository:
    """A git repository in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command in it; it has to succeed."""
        environment = {**os.environ, "PYTHONWARNINGS": "default", "GIT_CONFIG_GLOBAL": os.devnull}
        for role in ("AUTHOR", "COMMITTER"):
            environment |= {f"GIT_{role}_NAME": "test", f"GIT_{role}_EMAIL": "test@localhost"}
        done = subprocess.run(
            command, cwd=cwd or self.folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def commit(self, tag: str | None = None) -> None:
        """Commit everything, and tag it."""
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "--allow-empty", "-m", "as it stands")
        if tag:
            self.run("git", "tag", tag)

    def read(self, name: str) -> str:
        """Return a file's text."""
        return (self.folder / name).read_text(encoding="utf-8")

    def write(self, name: str, text: str) -> None:
        """Write a file."""
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text, encoding="utf-8")

    def files(self) -> dict[str, bytes]:
        """Return every file of the work tree, but for git's own."""
        places = [place for place in self.folder.rglob("*") if place.is_file()]
        names = {place.relative_to(self.folder).as_posix(): place for place in places}
        return {name: place.read_bytes() for name, place in names.items() if not name.startswith(".git/")}

    def edit_cell(self, name: str, source: str, position: int = -1) -> None:
        """Put another source into a cell of a notebook."""
        changed = nbformat.read(self.folder / name, 4)
        changed.cells[position].source = source
        nbformat.write(changed, self.folder / name)

    def copier(self, *arguments: str, cwd: Path | None = None) -> str:
        """Run copier, without trust and without a terminal; return what it said."""
        done = self.run(sys.executable, "-m", "copier", *arguments, cwd=cwd)
        return done.stdout + done.stderr


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The template as a repository of its own, from the work tree, tagged v1.0.0."""
    pytest.importorskip("copier")
    template = Repository(tmp_path_factory.mktemp("template"))
    copy_files(template.folder)
    template.run("git", "init", "-q")
    template.commit("v1.0.0")
    return template


@pytest.fixture(scope="session")
def fresh(original: Repository, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A project as it was just copied."""
    folder = tmp_path_factory.mktemp("projects") / "sales-forecast"
    original.copier("copy", "--defaults", str(original.folder), folder.name, cwd=folder.parent)
    return Repository(folder)


@pytest.fixture
def template(original: Repository, tmp_path: Path) -> Repository:
    """The template, to be changed."""
    return Repository(shutil.copytree(original.folder, tmp_path / "template"))


@pytest.fixture
def project(fresh: Repository, template: Repository, tmp_path: Path) -> Repository:
    """A project of that template, committed, to be changed and updated."""
    copied = Repository(shutil.copytree(fresh.folder, tmp_path / "project"))
    answers = copied.read(".copier-answers.yml")
    source = yaml.safe_load(answers)["_src_path"]
    copied.write(".copier-answers.yml", answers.replace(source, str(template.folder)))
    copied.run("git", "init", "-q")
    copied.commit()
    return copied


def improve(template: Repository) -> None:
    """Publish v1.1.0: a module, the pipeline, every notebook, and each file that a user owns are changed."""
    template.write("src/ninefold/problem.py", template.read("src/ninefold/problem.py") + "\n# better\n")
    template.write("dvc.yaml", template.read("dvc.yaml") + "\n# better\n")
    for name in NOTEBOOKS:
        template.edit_cell(name, f"# a better gate\n{nbformat.read(template.folder / name, 4).cells[-1].source}")
        template.edit_cell(name, "# 0 · A better title", 0)
    for name in ("README.md.jinja", "params.yaml", "notebooks/own.yaml", "src/project/__init__.py"):
        template.write(name, template.read(name) + "\n# better\n")
    (template.folder / "src/project/features.py").unlink()
    template.write("src/project/processing.py", "BETTER = True\n")
    template.write("src/project/another.py", "BETTER = True\n")
    template.write("src/ninefold/another.py", "BETTER = True\n")
    template.commit("v1.1.0")


def test_a_copy_holds_what_a_user_needs(fresh: Repository) -> None:
    files = set(fresh.files())
    assert files >= {
        *NOTEBOOKS,
        "notebooks/own.yaml",
        "params.yaml",
        "dvc.yaml",
        "README.md",
        ".dvc/config",
        "Makefile",
    }
    assert files >= {"pyproject.toml", "requirements.lock", ".gitignore", ".dvcignore", ".pre-commit-config.yaml"}
    assert files >= {"src/project/collection.py", "src/ninefold/cli.py", "src/ninefold/templates/index.html.j2"}
    assert files >= {
        ".copier-answers.yml",
        ".github/workflows/ci.yml",
        "src/ninefold/LICENSE",
        "tests/test_training.py",
    }


def test_a_copy_holds_nothing_of_the_example_s_results_nor_of_the_template(fresh: Repository) -> None:
    files = set(fresh.files())
    unwanted = ("reports/", "docs/index.png", ".ci/", "models/", ".git/", "CHANGELOG", "CONTRIBUTING", "copier.")
    assert not [name for name in files if name.startswith(unwanted) or name.endswith((".jinja", "dvc.lock"))]
    assert not files & {"LICENSE", "tests/test_pipeline.py", "tests/test_template.py", "tests/test_stored_notebooks.py"}
    assert "tests/test_spark.py" not in files
    kept = ("data/source/", "data/stream/landing/README.md")
    assert not [name for name in files if name.startswith("data/") and not name.startswith(kept)]
    assert not (fresh.folder / "reports").exists()


def test_what_is_not_a_template_of_its_own_is_copied_byte_for_byte(fresh: Repository, original: Repository) -> None:
    ours, theirs = fresh.files(), original.files()
    rendered = {"README.md", ".copier-answers.yml", ".github/workflows/ci.yml", "src/ninefold/LICENSE"}
    assert [name for name in set(ours) - rendered if ours[name] != theirs[name]] == []
    assert fresh.read("src/ninefold/LICENSE") == original.read("LICENSE")


def test_every_test_of_a_copy_finds_the_helpers_that_it_imports(fresh: Repository) -> None:
    code = (
        "import sys; from pathlib import Path; [compile(p.read_text(), str(p), 'exec') for p in Path().rglob('*.py')]"
    )
    fresh.run(sys.executable, "-c", code)
    helpers = {place.stem for place in (ROOT / "tests").glob("*.py")} - {
        place.stem for place in (fresh.folder / "tests").glob("*.py")
    }
    texts = [place.read_text() for place in (fresh.folder / "tests").glob("*.py")]
    assert not [helper for helper in helpers if any(f"from {helper} import" in text for text in texts)]


def test_the_readme_and_the_answers_name_the_project(fresh: Repository) -> None:
    assert fresh.read("README.md").startswith("# sales-forecast\n\nA machine-learning project")
    answers = yaml.safe_load(fresh.read(".copier-answers.yml"))
    assert (answers["_commit"], answers["project_name"]) == ("v1.0.0", "sales-forecast")
    assert list(answers["notebooks"]) == [label(slug) for slug in STAGES]
    for name in ("README.md", ".copier-answers.yml", ".github/workflows/ci.yml"):
        assert "{%" not in fresh.read(name)
        assert "{{" not in fresh.read(name)


def test_a_name_and_a_description_of_any_kind_stand_in_the_readme(original: Repository, tmp_path: Path) -> None:
    asked = ["--data", "project_name=Ünïcode & 'quotes'", "--data", 'description=Which "bread": to bake?']
    said = original.copier("copy", "--defaults", *asked, str(original.folder), "bread", cwd=tmp_path)
    assert (
        (tmp_path / "bread/README.md")
        .read_text()
        .startswith("# Ünïcode & 'quotes'\n\nWhich \"bread\": to bake?\n\nA machine")
    )
    assert "\n    cd bread\n    make setup" in said
    assert "ninefold init" in said
    assert "Warning" not in said


def test_make_setup_gives_a_copy_its_own_repository() -> None:
    lines = (ROOT / "Makefile").read_text().splitlines()
    assert "\t@git rev-parse --git-dir >/dev/null 2>&1 || git init -q" in lines


def test_an_update_brings_what_is_better_and_leaves_alone_what_is_yours(
    project: Repository, template: Repository
) -> None:
    project.write("params.yaml", "problem: {title: Mine}\n")
    project.write("README.md", "Mine.\n")
    project.write("src/project/__init__.py", '"""Mine."""\n')
    project.write("src/project/mine.py", "MINE = True\n")
    (project.folder / "src/project/processing.py").unlink()
    project.write(".gitignore", project.read(".gitignore") + "!/data/source/\n")
    project.write("data/source/table.csv.dvc", "outs: []\n")
    project.write("data/source/.gitignore", "/table.csv\n")
    project.write("dvc.lock", "schema: '2.0'\n")
    project.write("reports/metrics/01_problem.json", "{}\n")
    project.write("notebooks/own.yaml", own_notebook.HEAD + "own:\n- 05b_季節\n")
    project.write("notebooks/05b_季節.ipynb", own_notebook.TEMPLATE.read_text())
    project.write("Makefile", project.read("Makefile") + "\nmine:\n\t@echo mine\n")
    project.commit()
    before = project.files()
    improve(template)
    said = project.copier("update", "--defaults")
    after = project.files()
    better = {*NOTEBOOKS, "src/ninefold/problem.py", "src/ninefold/another.py", "dvc.yaml", ".copier-answers.yml"}
    assert {name for name in set(before) | set(after) if before.get(name) != after.get(name)} == better
    for name in better - {".copier-answers.yml"}:
        assert project.read(name) == template.read(name)
    answers = yaml.safe_load(project.read(".copier-answers.yml"))
    assert (answers["_commit"], answers["project_name"]) == ("v1.1.0", "sales-forecast")
    assert "kept as you edited it" not in said
    assert "Warning" not in said


@pytest.mark.parametrize("removed", [False, True], ids=["", "a file of the template was deleted"])
def test_an_edited_notebook_stays_exactly_as_it_is_and_the_user_is_told(
    project: Repository, template: Repository, removed: bool
) -> None:
    edited, ran = NOTEBOOKS[4], NOTEBOOKS[6]
    project.edit_cell(edited, "# mine, in the cell that the template changes, too")
    outputs = nbformat.read(project.folder / ran, 4)
    outputs.cells[1].outputs = [nbformat.v4.new_output("stream", text="once run \x1b[31mand saved\x1b[0m 🙂\n")]
    outputs.metadata["language_info"]["version"] = "3.12"
    nbformat.write(outputs, project.folder / ran)
    if removed:
        (project.folder / "tests/test_training.py").unlink()
    project.commit()
    kept = {name: project.read(name) for name in (edited, ran)}
    improve(template)
    said = project.copier("update", "--defaults")
    for name in NOTEBOOKS:
        assert project.read(name) == (kept[name] if name in kept else template.read(name)), name
        assert not any(mark in project.read(name) for mark in MARKS)
        json.loads(project.read(name))
        assert (f"has a new one: {name}" in said) == (name in kept)
    assert (project.folder / "tests/test_training.py").exists() != removed
    assert not list(project.folder.rglob("*.rej"))
    assert project.run("git", "diff", "--name-only", "--diff-filter=U").stdout == ""


def test_an_edited_notebook_is_safe_in_later_updates_and_comes_back_once_deleted(
    project: Repository, template: Repository
) -> None:
    mine = NOTEBOOKS[0]
    project.edit_cell(mine, "# mine")
    project.commit()
    kept = project.read(mine)
    improve(template)
    project.copier("update", "--defaults")
    project.commit()
    for name in NOTEBOOKS:
        template.edit_cell(name, "# better still")
    template.commit("v1.2.0")
    said = project.copier("update", "--defaults", str(project.folder), cwd=template.folder)
    assert project.read(mine) == kept
    assert project.read(NOTEBOOKS[1]) == template.read(NOTEBOOKS[1])
    assert "that of v1.2.0" in said
    assert f"has a new one: {mine}" in said
    (project.folder / mine).unlink()
    project.commit()
    project.copier("update", "--defaults")
    assert project.read(mine) == template.read(mine)


def test_what_both_changed_elsewhere_is_merged_and_nothing_is_said_of_notebooks_that_the_template_did_not_change(
    project: Repository, template: Repository
) -> None:
    project.edit_cell(NOTEBOOKS[0], "# mine")
    lines = project.read("pyproject.toml").replace('"pandas>=3",', '"pandas>=3",\n    "mine>=1",')
    project.write("pyproject.toml", lines)
    project.commit()
    template.write("pyproject.toml", template.read("pyproject.toml").replace('"nbval>=0.11",', '"nbval>=0.12",'))
    template.write("dvc.yaml", template.read("dvc.yaml") + "\n# better\n")
    template.commit("v1.1.0")
    assert NOTEBOOKS[0] not in project.copier("update", "--defaults")
    assert '"mine>=1",' in project.read("pyproject.toml")
    assert '"nbval>=0.12",' in project.read("pyproject.toml")


def test_recopy_leaves_the_user_s_files_alone_too(project: Repository) -> None:
    project.write("params.yaml", "problem: {title: Mine}\n")
    project.commit()
    project.copier("recopy", "--defaults", "--overwrite")
    assert project.read("params.yaml") == "problem: {title: Mine}\n"


def test_copier_yml_knows_every_notebook_and_no_notebook_holds_marks_of_jinja() -> None:
    config: dict[str, Any] = yaml.safe_load((ROOT / "copier.yml").read_text())
    names = [label(slug) for slug in STAGES]
    assert config["_external_data"] == {name: f"notebooks/{name}.ipynb" for name in names}
    for name in names:
        assert f'"{name}"' in config["fingerprints"]["default"]
        assert any(f"/notebooks/{name}.ipynb" in pattern for pattern in config["_skip_if_exists"])
        text = (ROOT / f"notebooks/{name}.ipynb").read_text()
        assert [mark for mark in ("{{", "{%", "{#") if mark in text] == []
    assert not {"_tasks", "_migrations", "_jinja_extensions"} & set(config)
