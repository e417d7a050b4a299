"""Find the user's own functions in ``src/project``; what is absent has a default that works."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any


def project(module: str, function: str, default: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``project.<module>.<function>`` if the user wrote it, else `default`."""
    if importlib.util.find_spec("project") is None or importlib.util.find_spec(f"project.{module}") is None:
        return default
    return getattr(importlib.import_module(f"project.{module}"), function, default)
