"""Write a proposal down: ``params.yaml`` with its comments, the files of ``src/project``, and a summary to read."""

import contextlib
import json
import math
import re
import shlex
import shutil
import subprocess
import textwrap
import unicodedata
from collections.abc import Iterable
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
import yaml
from ruamel.yaml import YAML, YAMLError

from ninefold import jinja, timestamps
from ninefold.init.assumptions import joined, listed
from ninefold.init.columns import WORDS, Column, widened
from ninefold.init.proposal import Proposal
from ninefold.init.spelling import folded
from ninefold.params import ENCODED, FILE, parse
from ninefold.problem import MEANING, PRIMARY
from ninefold.sentences import render

TEMPLATES = Path(__file__).with_name("templates")
UNEVEN = 0.75  # share of the largest class from which on a rarer one costs more to miss
PERIOD_ROWS = 30  # under which a figure of a period is mostly noise
FEW = 20  # values that a contract lists
WIDTH = 110
SCREEN = 40  # lines of a summary
LONG = 60  # letters of a text from which on DVC's 80 columns may break it
KEPT = {ord(" "): 1, ord("\n"): 2}  # no text has these signs: `_text` writes them otherwise
NOTE = "\u00a6"  # in the template, what stands before a comment
PLAIN = re.compile(r"[A-Za-z_](?:[A-Za-z0-9_ ./+()-]*[A-Za-z0-9_)])?")
RESERVED = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf", "infinity", "none"}


def draft(p: Proposal, tables: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return the text of every file by its path; `tables`: ``source`` and ``options``, the main one first."""
    spread = float(np.nanstd(p.target.rows())) if p.task == "regression" else None
    context = {"p": p, "primary": PRIMARY[p.task], "primaries": MEANING[p.task], "spread": spread, "period": _period(p)}
    context |= {**_problem(p), **_data(p, tables)}
    texts = {FILE: _aligned(filled("params.yaml.j2", context))}
    for place in sorted((TEMPLATES / "project").glob("*.j2")):
        texts[f"src/project/{place.stem}"] = _formatted(filled(f"project/{place.name}", context))
    return texts


def summary(p: Proposal, secret: list[str]) -> str:
    """Return what was found and assumed, on a screen; `secret`: keys of params that name a password."""
    context = {"p": p, "notes": (notes := joined(p.warnings)), "secret": secret}
    checks = (render("init", "check", **note.values, about=note.kind) for note in notes)
    context["checks"] = [*dict.fromkeys(filter(None, checks))]
    for most in range(len(notes), -1, -1):
        text = filled("summary.txt.j2", {**context, "most": most})
        if text.count("\n") <= SCREEN:
            break
    return text.removesuffix("\n")


def filled(name: str, context: dict[str, Any]) -> str:
    """Return a template of this room, filled in."""
    environment = jinja.environment(TEMPLATES, keep_trailing_newline=True)
    environment.filters |= {"y": _filled, "n": number, "py": ascii, "day": _day, "listed": listed, "sh": shlex.quote}
    environment.filters["shown"] = lambda text: re.sub(r"[^ -~\w]+", " ", text)  # in a comment
    return environment.get_template(name).render(context)


def _problem(p: Proposal) -> dict[str, Any]:
    """Return the values of section ``problem``: units, prices and risks."""
    words = p.table.replace("_", " ")
    is_plural = re.fullmatch(r"[a-z ]*[a-z]s", words) and not words.endswith(("ss", "us", "is"))
    one = re.sub("ies$", "ys", words)[: -2 if words.endswith(("ches", "shes", "xes", "sses")) else -1]
    units, one = (words, one) if is_plural else ("rows", "row")
    name = slug(f"{p.table} {p.target.name}", "-", 60) or "model"
    labels = {name: {"unit": each.unit} for name, each in p.feature_columns().items() if each.unit}
    values: dict[str, Any] = {"unit": one, "units": units, "slug": name, "labels": labels, "classes": p.classes}
    values |= {"payoffs": {}, "uneven": False}
    if p.task == "binary" and (called := " ".join(re.sub("^(is|has|was)_|_", " ", p.target.name).split())):
        is_plain = folded(p.classes[1]) in WORDS["affirmations"]  # of yes and no, or 1 and 0
        values["classes"] = dict(zip(p.classes, (f"not {called}", called), strict=True)) if is_plain else p.classes
    if p.task == "multiclass":
        total, uneven = sum(p.sizes.values()), max(p.sizes.values()) > UNEVEN * sum(p.sizes.values())
        price = {name: float(f"{total / len(p.sizes) / size:.2g}") if uneven else 1 for name, size in p.sizes.items()}
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
        start = _day(p.time.times().min())
        as_of = _day(timestamps.last_day(pd.Timestamp(p.time.times().max()), p.grain))
        if p.partitioned:
            listed[p.table] |= {"time": p.time.name, "format": p.time.format, "min_rows": _least_month(p.time, p.grain)}
    listed[p.table]["number"] = p.number
    keyed = [(p.table, p.contract(), p.key), *((one.name, one.columns, one.by) for one in p.related)]
    contracts = {name: {"unique": key, "columns": _contract(columns, p, key)} for name, columns, key in keyed}
    shares = [p.quarantined / sizes[p.table]]
    shares += [np.any([each.stray for each in one.columns.values()], axis=0).mean() for one in p.related]
    broken = math.ceil(1500 * max(shares)) / 1000
    largest = max(0.001 if p.rows >= 10_000 else 0.01, broken)
    return {"start": start, "as_of": as_of, "tables": listed, "contracts": contracts, "max_quarantined": largest}


def _contract(columns: dict[str, Column], p: Proposal, unique: list[str]) -> dict[str, dict[str, Any]]:
    """Return the baseline of each column of a contract."""
    baselines: dict[str, dict[str, Any]] = {p.number: {"type": "int64", "min": 1}} if p.number in unique else {}
    for name, column in columns.items():
        is_key = name in unique
        signs = {key: getattr(column, key) for key in ("format", "decimal", "thousands", "aliases")}
        known = {"type": column.type, **{key: value for key, value in signs.items() if value}}
        may_miss = column.missing or (column.aliases and column is not p.target)
        if may_miss and column is not p.time and not is_key:
            known["nullable"] = True
        baselines[name] = known | _values(column, p, is_key)
    return baselines


def _values(column: Column, p: Proposal, is_key: bool) -> dict[str, Any]:
    """Return the bounds of a column of a contract."""
    is_key = is_key or column.name in {*(p.group or [])} & {*p.left} or column.kind == "identifier"
    if column is p.target and p.classes:
        kind = {"int64": int, "float64": float}.get(column.type, str)
        return {"allowed": [kind(name) for name in p.sizes]}
    if column.type in ("int64", "float64"):
        if column.type == "int64" and column.distinct == 2 and column.bounds() == (0.0, 1.0):
            return {"allowed": [0, 1]}
        return {} if is_key else widened(column)
    if column.kind != "category" or column.type != "string" or column.distinct > FEW or is_key:
        return {}
    sizes = column.sizes()
    # A value that was seen often stands for a list that is complete; one seen rarely, for others still to come.
    complete = min(sizes.values()) >= max(5, 0.001 * len(column.codes))
    unknown = [alias for alias, meaning in column.aliases.items() if meaning is None]  # another alias makes it a value
    return {"allowed": [*sizes, *unknown]} if complete else {}


def _period(p: Proposal) -> str:
    """Return what stage 09 looks at at once: a month, or what times stand for if that is longer; of few rows the next longer."""
    units = ["month", "quarter", "year"]
    if p.time is None or p.grain not in units:
        return "month"
    times, own = pd.Series(p.time.times()), units.index(p.grain)
    rows = times.dt.to_period(timestamps.GRAINS[p.grain][0]).value_counts().median()
    return units[own if rows >= PERIOD_ROWS else min(own + 1, 2)]


def _least_month(time: Column, grain: str) -> int:
    """Return a third of the smallest whole month, or 0 where months are sparse."""
    months = time.times().astype("datetime64[M]").astype(int)
    # What is newest is whole only where times stand for months.
    sizes = np.bincount(months - months.min())[1 : None if timestamps.GRAINS[grain][1] > 7 else -1]
    return int(sizes.min()) // 3 if len(sizes) else 0


def to_yaml(value: Any, indent: int = 4, block: bool = False) -> str:
    """Return a value as YAML on one line, or on several where that is too long; read alike by YAML 1.1 and 1.2.

    DVC drops quotes and wraps at 80 columns when it rewrites a file. A text that this would change is percent-encoded, a
    mapping with such a key a list of ``key`` and ``value``, both of which `params.parse` reads.
    """
    pad = "\n" + " " * indent
    block = block or _is_spaced(value)
    if isinstance(value, list | tuple):
        items = [to_yaml(item, indent + 2) for item in value]
        return "".join(f"{pad}- {item}" for item in items) if block else _wrapped("[", items, "]", indent)
    if isinstance(value, dict):
        if has_fragile_key(value):
            pairs = [(to_yaml(key, indent + 4), to_yaml(item, indent + 4)) for key, item in value.items()]
            return "".join(f"{pad}- key: {key}{pad}  value: {item}" for key, item in pairs)
        items = [f"{to_yaml(key)}: {to_yaml(item, indent + 2)}" for key, item in value.items()]
        return "".join(f"{pad}{item}" for item in items) if block else _wrapped("{", items, "}", indent)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float):
        return number(value)
    safe = encoded(str(value))
    return _text(safe) if isinstance(safe, str) else f"{{{ENCODED}: {_text(safe[ENCODED])}}}"


def has_fragile_key(mapping: Iterable[str]) -> bool:
    """Return whether DVC breaks a key of a mapping, so that it has to be a list of ``key`` and ``value``."""
    return any((" " in key and len(key) > LONG) or not _survives(key, True) for key in mapping)


def encoded(text: str) -> str | dict[str, str]:
    """Return a text, or what stands for it in ``params.yaml`` if DVC would change it there."""
    return text if _survives(text) else {ENCODED: quote(text, safe="")}


@cache
def _survives(text: str, is_key: bool = False) -> bool:
    """Return whether DVC keeps a text, or a key, as it rewrites a file, wherever it breaks the lines of values."""
    if PLAIN.fullmatch(text) and "  " not in text:
        return True
    values, shown = [text, [text], {"a": text}], _text(text)
    source = f"- {shown}\n- [{shown}]\n- {{a: {shown}}}\n"
    keys = f"{source}- {shown}: 1\n- {{{shown}: 1}}\n", [*values, {text: 1}, {text: 1}]
    for width, (there, expected) in ((5, (source, values)), (80, keys if is_key else (source, values))):
        stream, as_dvc = StringIO(), YAML()
        as_dvc.width = width
        with contextlib.suppress(YAMLError, ValueError):
            as_dvc.dump(as_dvc.load(there), stream)
            if parse(stream.getvalue()) == expected:
                continue
        return False
    return True


def _text(text: str) -> str:
    """Return a text as YAML, plain or in quotes."""
    if PLAIN.fullmatch(text) and text.lower() not in RESERVED and yaml.safe_load(text) == text:
        return text
    return "".join(c if _is_shown(c) else f"\\U{ord(c):08X}" for c in json.dumps(text, ensure_ascii=False))


def _is_shown(sign: str) -> bool:
    return " " <= sign <= "~" or ("\xa0" <= sign <= "\ufffd" and sign.isprintable() and sign != NOTE)


def _is_spaced(value: Any) -> bool:
    """Return whether a value has a key with blanks, at which DVC would wrap a line."""
    if isinstance(value, dict):
        return any(re.search(r"\s", key) or _is_spaced(item) for key, item in value.items()) or has_fragile_key(value)
    return isinstance(value, list | tuple) and any(map(_is_spaced, value))


def _filled(value: Any, *how: Any) -> str:
    """Return a value as `to_yaml` does, as one line of the template: `_aligned` breaks it."""
    return to_yaml(value, *how).replace("\n", "\v")


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
        noted = [_noted(content, note, column) if mark else content for content, mark, note in lines]
        blocks.append(re.sub(r" *\v", "\n", "\n".join(noted)))
    return "".join(blocks)


def _noted(content: str, note: str, column: int) -> str:
    """Return a line with its comment; of a block, such as a list of an item a line, its first line has it."""
    first, end, others = content.partition("\v")
    if end and first.rstrip().endswith(":"):
        return f"{first.rstrip().ljust(column)}  # {note}{end}{others}"
    return f"{content.ljust(column)}  # {note}"


def slug(text: str, sign: str, most: int) -> str:
    """Return up to so many lower-case letters and digits of a text, without accents; `sign` stands for all else."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", sign, plain).strip(sign)[:most].strip(sign)


def _wrapped(opening: str, items: list[str], closing: str, indent: int) -> str:
    """Return items in brackets, on as many lines as they need, broken between items."""
    line = opening + ", ".join(item.translate(KEPT) for item in items) + closing
    lines = textwrap.wrap(line, WIDTH - indent, break_long_words=False, break_on_hyphens=False)
    return ("\n" + " " * indent).join(lines).translate({kept: sign for sign, kept in KEPT.items()})


def _formatted(text: str) -> str:
    """Return Python as the project's formatter writes it, if that is installed."""
    if shutil.which("ruff") is None:
        return text
    command = ["ruff", "format", "--quiet", "--line-length", "120", "--isolated", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, encoding="utf-8", check=False)
    return done.stdout if not done.returncode else text


def _day(moment: np.datetime64) -> str:
    """Return the day of a time, ISO."""
    return str(pd.Timestamp(moment).date())
