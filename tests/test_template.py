"""The repository as a template: what a copy holds, which engine it installs, what an update moves and leaves alone."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from clones import Clone, copied, set_up, template

from ninefold.stages import STAGES, label

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = [f"notebooks/{label(slug)}.ipynb" for slug in STAGES]
OWNED = ["README.md", "params.yaml", "dvc.yaml", "notebooks/own.yaml", *NOTEBOOKS, "src/project/features.py"]
LIMIT = 1500  # lines of Python in a copied project
COPIER = (sys.executable, "-m", "copier")


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The template, in a folder whose name holds a blank."""
    return template(tmp_path_factory.mktemp("the template") / "nine fold")


@pytest.fixture(scope="session")
def fresh(original: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return copied(original.folder, tmp_path_factory.mktemp("projects") / "sales-forecast")


@pytest.fixture
def origin(original: Clone, tmp_path: Path) -> Clone:
    return Clone(shutil.copytree(original.folder, tmp_path / "the template"))


@pytest.fixture
def project(origin: Clone, tmp_path: Path) -> Clone:
    return copied(origin.folder, tmp_path / "project")


def files(clone: Clone) -> dict[str, bytes]:
    places = [place for place in clone.folder.rglob("*") if place.is_file()]
    names = {place.relative_to(clone.folder).as_posix(): place for place in places}
    return {name: place.read_bytes() for name, place in names.items() if not name.startswith((".git/", ".venv/"))}


def edit(clone: Clone, name: str, more: str) -> str:
    """Change a file as a user would, a notebook by a cell, others by a line; return its new text."""
    place = clone.folder / name
    if place.suffix == ".ipynb":
        notebook = nbformat.read(place, 4)
        notebook.cells[0].source += more
        nbformat.write(notebook, place)
    else:
        place.write_text(f"{place.read_text(encoding='utf-8')}\n{more}\n", encoding="utf-8")
    return place.read_text(encoding="utf-8")


def update(project: Clone, cwd: Path | None = None) -> str:
    done = Clone(cwd or project.folder, project.environment).run(*COPIER, "update", "--defaults", str(project.folder))
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def improve(origin: Clone) -> str:
    """Publish v1.1.0: the engine, the frame, and each file that a project owns are changed; return the commit."""
    for name in OWNED:
        edit(origin, "README.md.jinja" if name == "README.md" else name, "# better")
    edit(origin, "src/ninefold/timestamps.py", "BETTER = True")
    edit(origin, "pyproject.toml.jinja", "# better")
    makefile = origin.folder / "Makefile"
    makefile.write_text(f"# better\n{makefile.read_text()}")
    (origin.folder / "src/project/another.py").write_text("BETTER = True\n")
    (origin.folder / "tests/project/test_another.py").write_text("BETTER = True\n")
    (origin.folder / "src/project/processing.py").unlink()
    origin.commit("better")
    origin.run("git", "tag", "v1.1.0")
    return origin.run("git", "rev-parse", "HEAD").stdout.strip()


def test_a_copy_holds_the_project_and_the_frame_little_python_and_nothing_of_the_engine(fresh: Clone) -> None:
    found = set(files(fresh))
    assert found >= {*OWNED, "ninefold.yaml", ".copier-answers.yml", "Makefile", "pyproject.toml", "requirements.lock"}
    assert found >= {"deploy/Dockerfile", ".github/workflows/ci.yml", "src/project/collection.py", ".dvc/config"}
    assert any(name.startswith("tests/project/test_") for name in found)
    ours = ("src/ninefold", "benchmarks", "docs", ".ci", "reports", "models", "copier.")
    ours += ("CHANGELOG", "CONTRIBUTING", "LICENSE")
    assert not [name for name in found if name.startswith(ours) or name.endswith((".jinja", "dvc.lock"))]
    kept = ("data/source/", "data/stream/landing/README.md", "tests/project/")
    assert not [name for name in found if name.startswith(("data/", "tests/")) and not name.startswith(kept)]
    lines = {name: text.count(b"\n") for name, text in files(fresh).items() if name.endswith(".py")}
    assert sum(lines.values()) <= LIMIT, lines


def test_what_is_not_rendered_is_copied_byte_for_byte(fresh: Clone, original: Clone) -> None:
    ours, theirs = files(fresh), files(original)
    rendered = {name.removesuffix(".jinja") for name in theirs if name.endswith(".jinja")} | {".copier-answers.yml"}
    assert [name for name in set(ours) - rendered if ours[name] != theirs[name]] == []
    assert not [name for name in rendered & set(ours) if b"{%" in ours[name] or b"{{ _" in ours[name]]


def test_the_pin_names_the_template_s_commit_and_its_place(fresh: Clone, original: Clone) -> None:
    pin = yaml.safe_load((fresh.folder / "ninefold.yaml").read_text())["ninefold"]
    commit = original.run("git", "rev-parse", "HEAD").stdout.strip()
    assert pin == {"code": "ninefold.yaml", "source": original.folder.as_uri(), "commit": commit}
    assert "%20" in pin["source"]
    answers = yaml.safe_load((fresh.folder / ".copier-answers.yml").read_text())
    assert (answers["_commit"], answers["project_name"]) == ("v1.0.0", "sales-forecast")


def test_every_way_to_name_a_template_becomes_an_address_for_pip_without_trust() -> None:
    from jinja2.sandbox import SandboxedEnvironment

    rules: dict[str, Any] = yaml.safe_load((ROOT / "copier.yml").read_text())
    assert not {"_tasks", "_migrations", "_jinja_extensions"} & set(rules)
    jinja = SandboxedEnvironment(extensions=["jinja2_ansible_filters.AnsibleCoreFiltersExtension"])
    for given, url in (
        ("gh:owner/name", "https://github.com/owner/name"),
        ("https://example.org/name.git", "https://example.org/name.git"),
        ("git+https://example.org/name", "https://example.org/name"),
        ("git@example.org:owner/name.git", "ssh://git@example.org/owner/name.git"),
        ("ssh://git@example.org/name.git", "ssh://git@example.org/name.git"),
        ("/a folder/näme", "file:///a%20folder/n%C3%A4me"),
    ):
        origin = jinja.from_string(rules["origin"]["default"]).render(_copier_answers={"_src_path": given})
        assert jinja.from_string(rules["origin_url"]["default"]).render(origin=origin) == url


def test_a_template_without_commits_is_refused(original: Clone, tmp_path: Path) -> None:
    plain = shutil.copytree(original.folder, tmp_path / "plain", ignore=shutil.ignore_patterns(".git"))
    done = Clone(tmp_path).run(*COPIER, "copy", "--defaults", str(plain), "project")
    assert done.returncode != 0
    assert "copy from a clone, or from its URL" in " ".join((done.stdout + done.stderr).split())


def test_a_name_and_a_description_of_any_kind_are_in_the_readme(original: Clone, tmp_path: Path) -> None:
    asked = ["--data", "project_name=Ünïcode & 'quotes'", "--data", 'description=Which "bread": to bake?']
    done = Clone(tmp_path).run(*COPIER, "copy", "--defaults", *asked, str(original.folder), "bread")
    said = done.stdout + done.stderr
    assert (tmp_path / "bread/README.md").read_text().startswith("# Ünïcode & 'quotes'\n\nWhich \"bread\": to bake?\n")
    assert "\n    cd bread\n    make setup" in said
    assert "Warning" not in said


def test_a_copy_of_a_bare_repository_installs_its_engine_and_an_update_moves_it(origin: Clone, tmp_path: Path) -> None:
    bare = tmp_path / "bare.git"
    origin.run("git", "clone", "-q", "--bare", str(origin.folder), str(bare))
    project = copied(bare, tmp_path / "my project")
    done = set_up(project)
    assert done.returncode == 0, done.stdout + done.stderr
    where = project.run("python", "-c", "import ninefold, project; print(ninefold.__file__, project.__file__)").stdout
    assert re.fullmatch(r".+/site-packages/ninefold/__init__.py .+/my project/src/project/__init__.py\n", where), where
    notebook = nbformat.read(project.folder / NOTEBOOKS[0], 4)
    notebook.cells[1].update(execution_count=1, outputs=[nbformat.v4.new_output("stream", text="it ran in JupyterLab")])
    notebook.metadata.language_info.update(version="3.11.7", codemirror_mode={"name": "ipython", "version": 3})
    nbformat.write(notebook, project.folder / NOTEBOOKS[0])
    assert project.run("git", "diff").stdout + project.run("git", "add", "notebooks").stderr == ""
    assert project.run("ninefold", "sources").returncode == 0
    assert "# Add a feature" in project.run("ninefold", "guide", "add-a-feature").stdout
    assert project.run("git", "status", "--porcelain").stdout == ""
    for lint in ("ruff check .", "ruff format --check .", "mypy"):
        done = project.run(*lint.split())
        assert done.returncode == 0, done.stdout
    assert improve(origin)
    origin.run("git", "push", "-q", "--tags", str(bare), "HEAD")
    update(project)
    stale = project.run("ninefold", "stage", "problem")
    assert stale.returncode == 1
    assert re.search(r"names commit \w+ of the engine, but \w+ is installed; run `make setup`", stale.stderr)
    assert set_up(project).returncode == 0
    assert project.run("python", "-c", "from ninefold.timestamps import BETTER").returncode == 0


def test_an_engine_that_cannot_be_reached_is_one_message_with_the_remedy(project: Clone) -> None:
    pin = project.folder / "ninefold.yaml"
    good = pin.read_text()
    for wrong, cause in (
        (good.replace("the%20template", "gone"), "does not appear to be a git repository"),
        (re.sub(r'commit: "\w+"', f'commit: "{"f" * 40}"', good), "not our ref"),
    ):
        pin.write_text(wrong)
        done = set_up(project)
        assert done.returncode != 0
        (error,) = re.findall("^error: .*", done.stdout, re.M)
        assert cause in error
        assert "make setup SOURCE=" in done.stdout
        assert "Traceback" not in done.stdout + done.stderr


def test_an_update_moves_the_pin_and_the_frame_and_nothing_that_the_project_owns(project: Clone, origin: Clone) -> None:
    mine = {name: edit(project, name, "# mine") for name in OWNED}
    (project.folder / "src/project/mine.py").write_text("MINE = True\n")
    (project.folder / "tests/project/test_mine.py").write_text("MINE = True\n")
    edit(project, "Makefile", "mine:\n\t@echo mine")
    packages = project.folder / "pyproject.toml"
    packages.write_text(packages.read_text().replace("dependencies = [\n", 'dependencies = [\n    "mine>=1",\n'))
    min((project.folder / "tests/project").glob("test_*")).unlink()
    project.commit("mine")
    before = files(project)
    commit = improve(origin)
    said = update(project, cwd=origin.folder)
    after = files(project)
    moved = {name for name in set(before) | set(after) if before.get(name) != after.get(name)}
    assert moved == {"ninefold.yaml", ".copier-answers.yml", "Makefile", "pyproject.toml"}
    assert {name: (project.folder / name).read_text() for name in OWNED} == mine
    assert yaml.safe_load(after["ninefold.yaml"])["ninefold"]["commit"] == commit
    for name, line in (("Makefile", "echo mine"), ("pyproject.toml", '"mine>=1"')):
        assert "# better" in after[name].decode()
        assert line in after[name].decode()
    assert "pinned to v1.1.0" in said
    assert project.run("git", "diff", "--name-only", "--diff-filter=U").stdout == ""
    assert not list(project.folder.rglob("*.rej"))
    assert json.loads(project.run("dvc", "status", "--json").stdout)  # every stage depends on the pin


def test_recopy_leaves_the_user_s_files_alone_too(project: Clone) -> None:
    mine = {name: edit(project, name, "# mine") for name in OWNED}
    project.commit("mine")
    done = project.run(*COPIER, "recopy", "--defaults", "--overwrite")
    assert done.returncode == 0, done.stderr
    assert {name: (project.folder / name).read_text() for name in OWNED} == mine


def test_an_ejected_project_owns_the_engine_and_its_tests_pass(project: Clone) -> None:
    assert set_up(project).returncode == 0
    refused = project.run("ninefold", "eject")
    assert (refused.returncode, "There is no way back but git." in refused.stdout) == (1, True)
    assert "nothing was changed" in refused.stderr
    assert project.run("git", "status", "--porcelain").stdout == ""
    done = project.run("ninefold", "eject", "--yes")
    assert done.returncode == 0, done.stderr
    assert (project.folder / "src/ninefold/LICENSE").exists()
    assert not (project.folder / ".copier-answers.yml").exists()
    assert set_up(project).returncode == 0
    where = project.run("python", "-c", "import ninefold; print(ninefold.__file__)").stdout.strip()
    assert Path(where).is_relative_to(project.folder / "src/ninefold")
    again = project.run("ninefold", "eject", "--yes")
    assert (again.returncode, "nothing to eject" in again.stderr) == (1, True)
    tests = "python -m pytest --ignore tests/project/test_whole_run.py"
    for command in ("ruff check .", "ruff format --check .", "mypy", tests, "ninefold stage problem"):
        done = project.run(*command.split())
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
