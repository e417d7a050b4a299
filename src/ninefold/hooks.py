"""Find the user's own functions in ``src/project``; what is absent has a default that works."""

import ast
import hashlib
import importlib
import importlib.util
import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from ninefold import outdated


def project(module: str, function: str, default: Callable[..., Any]) -> Callable[..., Any]:
    """Return the user's ``project.<module>.<function>``, else `default`; `NinefoldError` if it is for an old engine."""
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
            files |= dict.fromkeys(sorted(_with_imports(Path(name), set())) if own else [Path(name)])
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _with_imports(file: Path, known: set[Path]) -> set[Path]:
    """Return the files that are known, a file of the project, and those of the project that it imports, directly or not."""
    if file in known or not file.is_file():
        return known
    known.add(file)
    top = next((folder.parent for folder in file.parents if folder.name == "project"), file.parent)
    for node in ast.walk(ast.parse(file.read_bytes())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom):
            package = ".".join(file.relative_to(top).parent.parts)
            module = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            names = [module, *(f"{module}.{name}" for name in names)]
        for place in (top.joinpath(*name.split(".")) for name in names if name.partition(".")[0] == "project"):
            _with_imports(place.with_suffix(".py"), known)
            _with_imports(place / "__init__.py", known)
    return known
