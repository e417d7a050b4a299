"""Errors that a user can act on: each says where, what was found, what was expected and what to do; none shows a secret."""

import os
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

SECRET = r"(?:pass(?:word|wd|phrase|code)|pwd|secret|token|(?:api|access|account|private)_?key|signature|\bsig)"  # ends a name
LOGIN = re.compile(r"(://[^:/@\s]*:)(?!\$\{\w+\}@|\d+(?:/|$))[^\s'\"<>]*@")  # a port is no password
USER = re.compile(r"(https?://)[^\s:/@'\"<>]{20,}@")  # git takes a token there
VALUE = re.compile(
    rf"(?i)({SECRET}(?:\s*=\s*|%3D)|(?:\bbearer|\bauthorization: basic) (?=\S{{8}}))(?!\$\{{)[^\s'\"<>]+?(?=[&;]|%3B|[),.:]*(?:[\s'\"<>]|$))"
)
ITEM = re.compile(rf"(?i)(['\"][\w.-]*{SECRET}['\"]: ?(['\"]))(?!\$\{{).*?(?=\2)")  # of a dict, or JSON
# Environment variables that hold a secret.
VARIABLE = re.compile(r"(?i)(?:password|passwd|_pass(?:phrase)?|secret|token|_pwd|_key)$")
SHORTEST = 6  # characters of a value that is searched for: a shorter one is part of other words


class NinefoldError(Exception):
    """Base of all errors that a user can correct. Notebooks show the message without a traceback, nobody a secret in it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*(without_secrets(each) if isinstance(each, str) else each for each in args))

    def _render_traceback_(self, *_: Any) -> list[str]:
        # IPython calls this hook in place of its own traceback.
        return [f"{type(self).__name__}: {self}"]


class ParamsError(NinefoldError):
    """A key or a value in ``params.yaml`` (or an override of it) is wrong."""


class DataError(NinefoldError):
    """A file or a table is missing, damaged, or not what a stage expects."""


class GateFailed(NinefoldError):
    """A check of a stage's gate did not pass."""


def masked(text: str) -> str:
    """Return a text with ``***`` for passwords in URLs, and for what is named as a secret: ``token=...``, ``Bearer ...``."""
    text = USER.sub(r"\1***@", LOGIN.sub(r"\1***@", text))
    return ITEM.sub(r"\1***", VALUE.sub(r"\1***", text))


def without_secrets(text: str) -> str:
    """Return a text `masked`, and without the values of the environment variables that hold a secret, by their names."""
    values = {value for name, value in os.environ.items() if VARIABLE.search(name) and len(value) >= SHORTEST}
    return masked(without(text, values))


def without(text: str, values: Iterable[str]) -> str:
    """Return a text with ``***`` for some values, also as URLs quote them; the longest first, as one may hold another."""
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, "***").replace(quote(value, safe=""), "***")
    return text
