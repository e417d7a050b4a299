"""Errors that a user can act on: each says where, what was found, what was expected and what to do."""

from __future__ import annotations

from typing import Any


class NinefoldError(Exception):
    """Base of all errors that a user can correct. Notebooks show the message without a traceback."""

    def _render_traceback_(self, *_: Any) -> list[str]:
        # IPython calls this hook in place of its own traceback.
        return [f"{type(self).__name__}: {self}"]


class ParamsError(NinefoldError):
    """A key or a value in ``params.yaml`` (or an override of it) is wrong."""


class DataError(NinefoldError):
    """A file or a table is missing, damaged, or not what a stage expects."""


class GateFailed(NinefoldError):
    """A check of a stage's gate did not pass."""
