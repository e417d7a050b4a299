"""Find the user's own functions in ``src/project``; what is absent has a default that works."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from ninefold import outdated


def project(module: str, function: str, default: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``project.<module>.<function>`` if the user wrote it, else `default`.

    Raises
    ------
    NinefoldError
        If the module cannot be imported, and the project is written for an older engine.
    """
    package = importlib.util.find_spec("project")
    if package is None or importlib.util.find_spec(f"project.{module}") is None:
        return default
    try:
        return getattr(importlib.import_module(f"project.{module}"), function, default)
    except (ImportError, AttributeError):
        for folder in package.submodule_search_locations or ():
            outdated.refuse(Path(folder).parents[1])
        raise


def digest(*sources: Callable[..., Any] | ModuleType) -> str:
    """Return what tells one state of some code from another: of the files in which modules or functions are written.

    Of a function of the project those count, too, that its file imports from there, and these in turn.
    """
    files: dict[Path, None] = {}
    for source in sources:
        plain = source.func if isinstance(source, partial) else source
        name = inspect.getsourcefile(plain if isinstance(plain, ModuleType) else inspect.unwrap(plain))
        if name:
            own = str(getattr(plain, "__module__", "")).startswith("project.")
            files |= dict.fromkeys(sorted(_with_imports(Path(name))) if own else [Path(name)])
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _with_imports(file: Path) -> set[Path]:
    """Return a file of the project and those of the project that it imports, directly or not."""
    files, waiting = set[Path](), [file]
    top = next((folder.parent for folder in file.parents if folder.name == "project"), None)
    if top is None:
        return {file}
    while waiting:
        if (one := waiting.pop()) in files:
            continue
        files.add(one)
        for name in _imports(one, one.relative_to(top).parent.parts):
            if name[0] == "project":
                place = top.joinpath(*name)
                waiting += [other for other in (place.with_suffix(".py"), place / "__init__.py") if other.is_file()]
    return files


def _imports(file: Path, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple((node.module or "").split(".")) if node.module else ()
            yield from ((*base, *extra) for extra in ((), *((alias.name,) for alias in node.names)) if base)
