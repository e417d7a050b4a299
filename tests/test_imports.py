"""The import rule: rooms import downwards only, use each other's public names, and no imports form a circle."""

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
import yaml
from engine_docs import ROOMS

from ninefold.params import MODULES
from ninefold.stages import STAGES, label

SOURCE = Path(__file__).parent.parent / "src"
ENGINE = SOURCE / "ninefold"
TOP = ("cli", "__main__")
LEVELS = {**dict.fromkeys(ROOMS, 0), **{room: level for level, room in enumerate((*ROOMS, *TOP), start=1)}}
FILES = sorted(file for file in ENGINE.rglob("*.py") if "templates" not in file.parts)


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str:
    part = module.split(".")[1] if "." in module else "spine"
    return part if part in LEVELS else "spine"


def level_of(module: str) -> int:
    return LEVELS.get(room_of(module), 0)


def is_module(name: str) -> bool:
    place = SOURCE.joinpath(*name.split("."))
    return place.is_dir() or place.with_suffix(".py").is_file()


@cache
def imports(file: Path) -> tuple[tuple[str, str], ...]:
    """Return what a file imports of the engine, also inside functions: module and name, which is empty for a module."""
    pairs: list[tuple[str, str]] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            pairs += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                pairs.append((inner, "") if is_module(inner) else (node.module, alias.name))
    return tuple(pair for pair in pairs if pair[0].partition(".")[0] == "ninefold")


def attributes(file: Path) -> Iterator[tuple[str, str]]:
    """Yield the names of other rooms that a file uses as ``room.name``."""
    rooms = {module.split(".")[1] for module, name in imports(file) if not name and module.count(".") == 1} & set(ROOMS)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in rooms:
            yield node.value.id, node.attr


def public(room: str) -> set[str]:
    return set(importlib.import_module(f"ninefold.{room}").__all__)


def private(file: Path, own: str | None = None) -> list[str]:
    """Return the names that a file uses of rooms other than its own, and that are not public there."""
    used = [(room_of(module), [*module.split(".")[2:], *([name] if name else [])]) for module, name in imports(file)]
    used += [(room, [name]) for room, name in attributes(file)]
    others = [(room, path) for room, path in used if room in ROOMS and room != own]
    return [f"{room}.{'.'.join(path)}" for room, path in others if len(path) > 1 or not set(path) <= public(room)]


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_a_module_imports_only_from_its_own_room_and_below(file: Path) -> None:
    own = name_of(file)
    modules = {module for module, _ in imports(file) if room_of(module) != room_of(own)}
    assert sorted(module for module in modules if level_of(module) >= level_of(own)) == []


@pytest.mark.parametrize("room", ["spine", *ROOMS])
def test_the_modules_of_a_room_form_no_circle(room: str) -> None:
    graph = {name_of(file): {module for module, _ in imports(file)} for file in FILES if room_of(name_of(file)) == room}
    graph = {module: {other for other in others if other in graph} - {module} for module, others in graph.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_a_room_uses_only_public_names_of_the_others(file: Path) -> None:
    assert private(file, room_of(name_of(file))) == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_is_there(room: str) -> None:
    module = importlib.import_module(f"ninefold.{room}")
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


@pytest.mark.parametrize("file", sorted((SOURCE / "project").rglob("*.py")), ids=name_of)
def test_the_project_uses_only_public_names(file: Path) -> None:
    assert private(file) == []
    assert not [pair for pair in imports(file) if any(part.startswith("_") for part in ".".join(pair).split("."))]


def test_the_engine_imports_nothing_of_the_project() -> None:
    line = re.compile(r"^ *(?:from|import) project\b", re.M)
    assert [name_of(file) for file in FILES if line.search(file.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("slug", STAGES)
def test_one_name_through_every_file_and_a_stage_depends_on_what_its_notebook_reloads_of_the_project(slug: str) -> None:
    root = SOURCE.parent
    code = (root / f"notebooks/{label(slug)}.ipynb").read_text(encoding="utf-8")
    assert is_module(MODULES[slug])
    assert f"\n{slug}:\n" in (root / "params.yaml").read_text(encoding="utf-8")
    deps = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"][slug]["deps"]
    reloaded = {each for line in re.findall(r"%aimport (.*?)\\n", code) for each in line.split(", ")}
    places = {each.replace(".", "/") for each in reloaded}
    files = {f"src/{each}/__init__.py" if (SOURCE / each).is_dir() else f"src/{each}.py" for each in places}
    assert files <= set(deps)
    assert files >= {dep for dep in deps if dep.startswith("src/project/") and not dep.endswith("__init__.py")}
    assert reloaded >= set(re.findall(r"from (project[\w.]*) import", code))


def test_what_a_stage_writes_is_an_output_or_in_a_what_if_goes_apart_as_one() -> None:
    other = re.compile(r"(write_\w+|Live)\(.*artifacts\.path\(")
    rooms = [file for file in FILES if room_of(name_of(file)) in (*STAGES, "serving") and file.stem != "ingest"]
    assert [file.name for file in rooms if other.search(file.read_text(encoding="utf-8"))] == []
