"""The pin: which engine the project names, and that another one does not run in its place."""

from __future__ import annotations

import pytest
from conftest import Project

from ninefold import pin
from ninefold.errors import DataError, NinefoldError

NAMED = 'ninefold:\n  code: ninefold.yaml\n  source: "file:///a"\n  commit: "{}"\n'


def test_the_commit_that_is_installed_runs_and_another_one_does_not(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin.check()
    assert pin.read() is None
    monkeypatch.setattr(pin, "installed", lambda: "a" * 40)
    (project.folder / pin.FILE).write_text(NAMED.format("a" * 40))
    pin.check()
    (project.folder / pin.FILE).write_text(NAMED.format("b" * 40))
    with pytest.raises(DataError, match=r"names commit b{12} of the engine, but a{12} is installed; run `make setup`"):
        pin.check()


def test_an_engine_outside_does_not_run_where_the_project_owns_its_own(project: Project) -> None:
    (project.folder / pin.FILE).write_text(pin.EJECTED)
    with pytest.raises(DataError, match=r"names src/ninefold, but the engine in .* is running; run `make setup`"):
        pin.check()


@pytest.mark.parametrize(
    "text",
    ["ninefold: {", "ninefold: 1", "other: {}", "ninefold: {code: ninefold.yaml}", "ninefold: {code: x, kode: y}"],
)
def test_a_pin_that_cannot_be_read_says_what_is_expected(project: Project, text: str) -> None:
    (project.folder / pin.FILE).write_text(text)
    with pytest.raises(DataError, match=r"^ninefold.yaml: .*expected `ninefold:`.*restore it from git"):
        pin.read()


def test_the_repository_has_nothing_to_eject(project: Project) -> None:
    (project.folder / pin.FILE).write_text(pin.EJECTED)
    with pytest.raises(NinefoldError, match="nothing to eject"):
        pin.plan()


def test_an_edited_list_of_packages_is_kept_and_one_that_is_missing_is_refused() -> None:
    text = (
        '[project]\ndependencies = [\n    "mine>=1",\n]\n[tool.hatch.build.targets.wheel]\npackages = ["src/project"]\n'
    )
    ejected = pin._with_engine(text)
    assert '    "mine>=1",\n]' in ejected
    assert '"pandas>=3",' in ejected
    assert '["src/project", "src/ninefold"]' in ejected
    assert ejected.endswith('[project.scripts]\nninefold = "ninefold.cli:app"\n')
    with pytest.raises(NinefoldError, match=r"pyproject.toml: lacks the line"):
        pin._with_engine("[project]\n")
