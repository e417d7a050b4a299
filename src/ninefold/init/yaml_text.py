"""Write values as YAML and Python, so that people can read and edit them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import unicodedata
from typing import Any

import numpy as np
import pandas as pd
import yaml

WIDTH = 110
NOTE = "\u00a6"  # in the template, what stands before a comment
PLAIN = re.compile(r"[A-Za-z_](?:[A-Za-z0-9_ ./+()-]*[A-Za-z0-9_)])?")
WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf", "infinity", "none"}


def to_yaml(value: Any, indent: int = 4) -> str:
    """Return a value as YAML on one line, or on several where that is too long; read alike by YAML 1.1 and 1.2."""
    if isinstance(value, list | tuple):
        return _wrapped("[", [to_yaml(item, indent + 2) for item in value], "]", indent)
    if isinstance(value, dict):
        return _wrapped(
            "{", [f"{to_yaml(key)}: {to_yaml(item, indent + 2)}" for key, item in value.items()], "}", indent
        )
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float):
        return number(value)
    text = str(value)
    if PLAIN.fullmatch(text) and text.lower() not in WORDS and yaml.safe_load(text) == text:
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(_escaped(letter) for letter in quoted)


def number(value: float) -> str:
    """Return a number as both versions of YAML read it: an exponent has a point before it and a sign."""
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e15):
        return str(int(value))
    text = f"{float(value):.12g}"
    mantissa, mark, exponent = text.partition("e")
    return text if not mark else f"{mantissa}{'' if '.' in mantissa else '.0'}e{exponent}"


def aligned(text: str) -> str:
    """Return a rendered template with its comments in one column for each block of lines."""
    blocks = re.split(r"(\n\n+)", text)
    return "".join(_aligned(block) for block in blocks)


def ascii_only(text: str) -> str:
    """Return a text without accents, and without what ASCII has no letter for."""
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def _wrapped(opening: str, items: list[str], closing: str, indent: int) -> str:
    line = f"{opening}{', '.join(items)}{closing}"
    if len(line) + indent <= WIDTH:
        return line
    lines, current = [], opening
    for item in items:
        if len(current) + len(item) + indent > WIDTH and current.strip() not in ("", opening):
            lines.append(current.rstrip())
            current = " " * indent
        current += f"{item}, "
    return "\n".join([*lines, current.removesuffix(", ") + closing])


def _escaped(letter: str) -> str:
    """Return a letter as it may stand in a quoted text of YAML: what is not printed, and `NOTE`, by its number."""
    code = ord(letter)
    if letter != NOTE and (0x20 <= code < 0x7F or (code >= 0xA0 and letter.isprintable() and code <= 0xFFFD)):
        return letter
    return f"\\x{code:02X}" if code < 0x100 else f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"


def _aligned(block: str) -> str:
    lines = block.split("\n")
    marked = [line.partition(f" {NOTE} ")[0] for line in lines if f" {NOTE} " in line]
    column = max((len(line) for line in marked if len(line) <= 50), default=0)
    lines_out = []
    for line in lines:
        content, mark, comment = line.partition(f" {NOTE} ")
        lines_out.append(f"{content.ljust(column)}  # {comment}" if mark else line)
    return "\n".join(lines_out)


def to_python(value: Any) -> str:
    """Return a value as Python writes it, in ASCII, so that no letter of a column's name looks like another."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{to_python(key)}: {to_python(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple):
        return f"({', '.join(map(to_python, value))})"
    return json.dumps(value, ensure_ascii=True)


def formatted(text: str) -> str:
    """Return Python as the project's formatter writes it, if that is installed."""
    tool = shutil.which("ruff")
    if tool is None:
        return text
    command = [tool, "format", "--quiet", "--line-length", "120", "--isolated", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, encoding="utf-8", check=False)
    return done.stdout if not done.returncode else text


def digits(value: float) -> float:
    """Return a number of two significant digits."""
    return float(f"{value:.2g}")


def day(moment: np.datetime64) -> str:
    """Return the day of a time, ISO."""
    return str(pd.Timestamp(moment).date())


def cut(text: str, most: int = 200) -> str:
    """Return a text, cut where it is too long."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def comment(text: str) -> str:
    """Return a text that fits into a comment on one line."""
    return cut(" ".join(text.split()).replace(NOTE, "|"), 400)
