"""Write a proposal down: ``params.yaml`` with its comments, the files of ``src/project``, and a summary to read."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from ninefold import jinja
from ninefold.init.columns import Column, widened
from ninefold.init.proposal import Proposal
from ninefold.params import FILE
from ninefold.problem import MEANING, PRIMARY

TEMPLATES = Path(__file__).with_name("templates")
UNEVEN = 0.75  # share of the largest class from which on a rarer one costs more to miss
FEW = 20  # values that a contract lists
WIDTH = 110
NOTE = "\u00a6"  # in the template, what stands before a comment
PLAIN = re.compile(r"[A-Za-z_](?:[A-Za-z0-9_ ./+()-]*[A-Za-z0-9_)])?")
WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf", "infinity", "none"}


def draft(p: Proposal, tables: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return the text of every file by its path; `tables`: ``source`` and ``options``, the main one first."""
    context = {"p": p, **_problem(p), **_data(p, tables), **_models(p), **_examples(p)}
    texts = {FILE: _aligned(_render("params.yaml.j2", context))}
    for place in sorted((TEMPLATES / "project").glob("*.j2")):
        texts[f"src/project/{place.stem}"] = _formatted(_render(f"project/{place.name}", context))
    return texts


def summary(p: Proposal) -> str:
    """Return what was found and written."""
    mean = None if p.classes else np.nanmean(p.target.rows())
    return _render("summary.txt.j2", {"p": p, "mean": mean}).removesuffix("\n")


def _render(name: str, context: dict[str, Any]) -> str:
    environment = jinja.environment(TEMPLATES, keep_trailing_newline=True)
    environment.filters |= {"y": to_yaml, "n": number, "py": ascii, "day": _day}
    return environment.get_template(name).render(context)


def _problem(p: Proposal) -> dict[str, Any]:
    """Return the values of section ``problem``: units, prices and risks."""
    words = p.table.replace("_", " ")
    units, one = "rows", "row"
    if re.fullmatch(r"[a-z ]*s", words) and not words.endswith(("ss", "us", "is")):
        units = words
        one = re.sub("ies$", "ys", words)[: -2 if words.endswith(("ches", "shes", "xes", "sses")) else -1]
    name = slug(f"{p.table} {p.target.name}", "-", 60) or "model"
    values: dict[str, Any] = {"unit": one, "units": units, "slug": name, "payoffs": {}, "uneven": False}
    if p.task == "binary":
        share = p.sizes[str(p.focus)] / sum(p.sizes.values())
        values["miss"] = max(round(1 / share, 1 if share > 0.1 else 0), 1.01)
    if p.task == "multiclass":
        total, uneven = sum(p.sizes.values()), max(p.sizes.values()) > UNEVEN * sum(p.sizes.values())
        price = {name: _digits(total / len(p.sizes) / size) if uneven else 1 for name, size in p.sizes.items()}
        paid = {own: {name: 0 if name == own else -price[name] for name in p.classes} for own in p.classes}
        values |= {"uneven": uneven, "payoffs": {f"treat as {name}": prices for name, prices in paid.items()}}
    return values


def _data(p: Proposal, tables: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the values of sections ``collection`` and ``processing``: tables, contracts, limits."""
    sizes = {name: len(next(iter(columns.values())).codes) for name, columns in p.tables().items()}
    usual = {"time": None, "format": None, "number": None}
    listed = {name: {**where, **usual, "min_rows": max(1, sizes[name] // 2)} for name, where in tables.items()}
    start = as_of = None
    if p.time is not None:
        start, as_of = _day(p.time.times().min()), _day(p.time.times().max())
        if p.partitioned:
            listed[p.table] |= {"time": p.time.raw, "format": p.time.format, "min_rows": _least_month(p.time)}
    listed[p.table]["number"] = p.number
    keyed = [(p.table, p.contract(), p.key), *((one.name, one.columns, one.by) for one in p.related)]
    contracts = {name: {"unique": key, "columns": _contract(columns, p, key)} for name, columns, key in keyed}
    gaps = sorted((c for c in p.contract().values() if c.missing), key=lambda column: -column.missing)[:5]
    shares = [p.quarantined / sizes[p.table]]
    shares += [np.any([each.stray for each in one.columns.values()], axis=0).mean() for one in p.related]
    broken = math.ceil(1500 * max(shares)) / 1000
    left = [f"{name} ({why})" for name, why in p.left.items() if p.columns[name].name not in p.contract()]
    return {
        "start": start,
        "as_of": as_of,
        "tables": listed,
        "contracts": contracts,
        "known_gaps": ", ".join(f"{c.name} is missing in {c.missing / p.rows:.1%}" for c in gaps) or "none seen",
        "max_quarantined": max(0.001 if p.rows >= 10_000 else 0.01, broken),
        "left": "; ".join(left),
    }


def _models(p: Proposal) -> dict[str, Any]:
    """Return the values of the sections from ``metrics`` on: candidates, folds, alerts."""
    fitted = round(p.labelled * (1 - p.split[1]))
    alerts = {"outcomes": 0.05, "error": 0.02, "calibration": 0.05}
    if p.task == "regression":
        sd = float(np.nanstd(p.target.rows()))
        alerts = {"outcomes": _digits(0.25 * sd), "error": _digits(0.1 * sd), "calibration": _digits(0.1 * sd)}
    entity = next((name for name in p.features["categorical"] if name in p.contract()), None)
    number = p.target.kind == "number" or p.target.type == "int64"
    of = p.target.name if number else next(iter(p.features["numeric"]), None)
    return {
        "primary": PRIMARY[p.task],
        "primaries": MEANING[p.task],
        "history": {"of": of, "by": entity} if p.time is not None and entity and of else None,
        "fitted": fitted,
        "cells": fitted * sum(len(names) for names in p.features.values()),
        "alerts": alerts,
    }


def _contract(columns: dict[str, Column], p: Proposal, unique: list[str]) -> dict[str, dict[str, Any]]:
    """Return the baseline of each column of a contract."""
    baselines: dict[str, dict[str, Any]] = {p.number: {"type": "int64", "min": 1}} if p.number in unique else {}
    for name, column in columns.items():
        is_own, is_key, is_time = column.raw == name, name in unique, column is p.time
        signs = {key: getattr(column, key) if is_own else None for key in ("format", "decimal", "thousands")}
        known = {"type": column.type, **{key: value for key, value in signs.items() if value is not None}}
        if (column.missing or not is_own) and not is_time and not is_key:
            known["nullable"] = True
        baselines[name] = known | _values(column, p, is_key)
    return baselines


def _values(column: Column, p: Proposal, is_key: bool) -> dict[str, Any]:
    """Return the bounds of a column of a contract."""
    if column is p.target and p.classes:
        kind = {"int64": int, "float64": float}.get(column.type, str)
        return {"allowed": [kind(name) for name in p.sizes]}
    if column.type in ("int64", "float64"):
        if column.type == "int64" and column.distinct == 2 and column.bounds() == (0.0, 1.0):
            return {"allowed": [0, 1]}
        return {} if column.kind == "identifier" or is_key else widened(column)
    if column.kind != "category" or column.type != "string" or column.distinct > FEW or is_key:
        return {}
    sizes = column.sizes()
    # A value that was seen often stands for a list that is complete; one seen rarely, for others still to come.
    complete = min(sizes.values()) >= max(5, 0.001 * len(column.codes))
    return {"allowed": list(sizes)} if complete else {}


def _least_month(time: Column) -> int:
    """Return a third of the smallest whole month, or 0 where months are sparse."""
    months = time.times().astype("datetime64[M]").astype(int)
    sizes = np.bincount(months - months.min())[1:-1]
    return int(sizes.min()) // 3 if len(sizes) else 0


def _examples(p: Proposal) -> dict[str, Any]:
    """Return the numbers to be made of texts with signs, by table; and columns for the examples in ``src/project``."""
    signs: dict[str, dict[str, tuple[str, str, str]]] = {}
    for table, columns in p.tables().items():
        for c in columns.values():
            if c.raw != c.name:
                signs.setdefault(table, {})[c.name] = (c.raw, c.decimal or ".", c.thousands or "")
    own = {kind: [name for name in names if name in p.contract()] for kind, names in p.features.items()}
    numbers = [*sorted(own["numeric"], key=lambda name: not name.isascii()), None, None]
    anything = next((name for names in own.values() for name in names), p.target.name)
    return {"with_signs": signs, "example": {"any": anything, "number": numbers[0], "other": numbers[1]}}


def to_yaml(value: Any, indent: int = 4) -> str:
    """Return a value as YAML on one line, or on several where that is too long; read alike by YAML 1.1 and 1.2."""
    if isinstance(value, list | tuple):
        return _wrapped("[", [to_yaml(item, indent + 2) for item in value], "]", indent)
    if isinstance(value, dict):
        pairs = [f"{to_yaml(key)}: {to_yaml(item, indent + 2)}" for key, item in value.items()]
        return _wrapped("{", pairs, "}", indent)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float):
        return number(value)
    text = str(value)
    if PLAIN.fullmatch(text) and text.lower() not in WORDS and yaml.safe_load(text) == text:
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    shown = [" " <= c <= "~" or ("\xa0" <= c <= "\ufffd" and c.isprintable() and c != NOTE) for c in quoted]
    return "".join(c if ok else f"\\U{ord(c):08X}" for c, ok in zip(quoted, shown, strict=True))


def number(value: float) -> str:
    """Return a number as both versions of YAML read it: an exponent has a point before it and a sign."""
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e15):
        return str(int(value))
    return re.sub(r"^([^.]*)e", r"\1.0e", f"{float(value):.12g}")


def _aligned(text: str) -> str:
    """Return a rendered template with its comments in one column for each block of lines."""
    blocks = []
    for block in re.split(r"(\n\n+)", text):
        lines = [line.partition(f" {NOTE} ") for line in block.split("\n")]
        column = max((len(content) for content, mark, _ in lines if mark and len(content) <= 50), default=0)
        noted = [f"{content.ljust(column)}  # {note}" if mark else content for content, mark, note in lines]
        blocks.append("\n".join(noted))
    return "".join(blocks)


def slug(text: str, sign: str, most: int) -> str:
    """Return up to so many lower-case letters and digits of a text, without accents; `sign` stands for all else."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", sign, plain).strip(sign)[:most].strip(sign)


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


def _formatted(text: str) -> str:
    """Return Python as the project's formatter writes it, if that is installed."""
    tool = shutil.which("ruff")
    if tool is None:
        return text
    command = [tool, "format", "--quiet", "--line-length", "120", "--isolated", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, encoding="utf-8", check=False)
    return done.stdout if not done.returncode else text


def _digits(value: float) -> float:
    """Return a number of two significant digits."""
    return float(f"{value:.2g}")


def _day(moment: np.datetime64) -> str:
    """Return the day of a time, ISO."""
    return str(pd.Timestamp(moment).date())
