"""Find the user's own functions in ``src/project``; what is absent has a default that works."""

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from functools import partial
from modulefinder import ModuleFinder
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
            files |= dict.fromkeys(_with_imports(plain.__module__) if own else [Path(name)])
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _with_imports(module: str) -> list[Path]:
    """Return the file of a module of the project, and those of the project that it imports, directly or not, sorted."""
    finder = ModuleFinder([str(Path(place).parent) for place in sys.modules["project"].__path__])
    finder.import_hook(module)
    places = (getattr(each, "__file__", None) for each in finder.modules.values())
    return sorted(Path(place) for place in places if place)
