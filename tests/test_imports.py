"""The import rule: stages stand on the ground floor and on lower stages, and on nothing above them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ninefold.core.stages import STAGES, label

SOURCE = Path(__file__).parent.parent / "src"


def imports(file: Path) -> set[str]:
    """Return every module that a file imports, as dotted names, `from a import b` as both `a` and `a.b`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def stages_in(modules: set[str]) -> set[str]:
    return {stage for stage in STAGES if f"ninefold.{stage}" in modules}


@pytest.mark.parametrize("slug", STAGES)
def test_a_stage_imports_only_lower_stages(slug: str) -> None:
    modules = imports(SOURCE / f"ninefold/{slug}.py")
    too_high = {other for other in stages_in(modules) if STAGES.index(other) >= STAGES.index(slug)}
    assert not too_high
    above = {
        f"ninefold.{name}"
        for name in (
            "cli",
            "figures",
            "guides",
            "init",
            "migrate",
            "notebook",
            "own_notebook",
            "pin",
            "registry",
            "retrain",
            "sampling",
            "site",
            "strategies",
            "testing",
        )
    }
    assert not modules & above
    if STAGES.index(slug) < STAGES.index("deployment"):
        assert not any(name.startswith("ninefold.serving") for name in modules)


@pytest.mark.parametrize("file", sorted((SOURCE / "ninefold/serving").glob("*.py")), ids=lambda file: file.stem)
def test_a_packed_model_stands_on_the_stages_that_made_it(file: Path) -> None:
    assert not stages_in(imports(file)) & {"deployment", "monitoring"}


@pytest.mark.parametrize("file", sorted((SOURCE / "ninefold/figures").glob("[!_]*.py")), ids=lambda file: file.stem)
def test_the_figures_of_a_stage_import_no_higher_stage(file: Path) -> None:
    stage = {"slices": "training", "explanation": "training", "strategies": "monitoring"}.get(file.stem, file.stem)
    assert stage in STAGES
    too_high = {other for other in stages_in(imports(file)) if STAGES.index(other) > STAGES.index(stage)}
    assert not too_high


@pytest.mark.parametrize("file", sorted((SOURCE / "ninefold/core").glob("*.py")), ids=lambda file: file.stem)
def test_the_ground_floor_imports_no_stage(file: Path) -> None:
    ours = {name for name in imports(file) if name.startswith("ninefold") and not name.startswith("ninefold.core")}
    assert ours <= {"ninefold"}
    assert not any(name.startswith("project") for name in imports(file))


@pytest.mark.parametrize("file", sorted((SOURCE / "project").glob("*.py")), ids=lambda file: file.stem)
def test_the_project_imports_only_public_helpers(file: Path) -> None:
    private = {name for name in imports(file) if name.startswith("ninefold") and "._" in name}
    assert not private


@pytest.mark.parametrize("slug", STAGES)
def test_one_name_through_every_file(slug: str) -> None:
    root = SOURCE.parent
    expected = [f"notebooks/{label(slug)}.ipynb", f"src/ninefold/{slug}.py", f"tests/test_{slug}.py"]
    assert [name for name in expected if not (root / name).exists()] == []
    assert f"\n{slug}:\n" in (root / "params.yaml").read_text()
    assert f"\n  {slug}:\n" in (root / "dvc.yaml").read_text()
