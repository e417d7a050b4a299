"""The pin: which engine the project names, and that another one does not run in its place."""

from typing import Any

import pytest
from conftest import Project

from ninefold import pin
from ninefold.errors import DataError, NinefoldError

NAMED = 'ninefold:\n  code: ninefold.yaml\n  source: "file:///a"\n  commit: "{}"\n'


def test_no_other_engine_runs_than_the_one_that_the_project_names_or_owns(project: Project, monkeypatch: Any) -> None:
    pin.check()
    assert pin.read() is None
    monkeypatch.setattr(pin, "installed", lambda: "a" * 40)
    (project.folder / pin.FILE).write_text(NAMED.format("a" * 40))
    pin.check()
    for text, message in (
        (NAMED.format("b" * 40), r"names commit b{12} of the engine, but a{12} is installed; run `make setup`"),
        (pin.EJECTED, r"names src/ninefold, but the engine in .* is running; run `make setup`"),
    ):
        (project.folder / pin.FILE).write_text(text)
        with pytest.raises(DataError, match=message):
            pin.check()
    with pytest.raises(NinefoldError, match="nothing to eject"):
        pin.plan()


@pytest.mark.parametrize("text", [
    "ninefold: {", "ninefold: 1", "other: {}", "ninefold: {code: ninefold.yaml}", "ninefold: {code: x, kode: y}",
])  # fmt: skip
def test_a_pin_that_cannot_be_read_says_what_is_expected(project: Project, text: str) -> None:
    (project.folder / pin.FILE).write_text(text)
    with pytest.raises(DataError, match=r"^ninefold.yaml: .*expected `ninefold:`.*restore it from git"):
        pin.read()


def test_a_list_of_packages_that_is_missing_is_refused() -> None:
    with pytest.raises(NinefoldError, match=r"pyproject.toml: lacks the line"):
        pin._with_engine("[project]\n")
