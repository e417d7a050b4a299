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
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ninefold.core.params import FILE
from ninefold.core.scores import MEANING
from ninefold.init import inference, proposal
from ninefold.init.inference import Column
from ninefold.init.proposal import Proposal

TEMPLATES = Path(__file__).with_name("templates")
WIDTH = 110
NOTE = "\u00a6"  # in the template, what stands before a comment
PLAIN = re.compile(r"[A-Za-z_](?:[A-Za-z0-9_ ./+()-]*[A-Za-z0-9_)])?")
WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf", "infinity", "none"}
OPTION_NOTES = {
    "C": "inverse strength of the L2 penalty, > 0; smaller is simpler",
    "rare": "categories with fewer training rows are pooled",
    "learning_rate": "0-1; smaller needs more iterations",
    "max_iter": "trees, at most",
    "max_leaf_nodes": "per tree; more fits finer, and sooner too finely",
    "min_samples_leaf": "rows; more is smoother",
    "l2_regularization": ">= 0",
    "early_stopping": "stop where rows held out for it no longer gain",
    "n_estimators": "trees; more is steadier and slower",
    "max_features": "share of the features that a split chooses from",
}
UNEVEN = 0.75  # share of the largest class from which on a rarer one costs more to miss


def draft(p: Proposal, tables: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return the text of every file, by its path in the project.

    Parameters
    ----------
    p : Proposal
    tables : dict
        Table -> its ``source`` and ``options``, the main table first.
    """
    context = {"p": p, **_problem(p), **_data(p, tables), **_models(p), "signed": _signed(p), "example": _example(p)}
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    environment.filters |= {"y": to_yaml, "n": number, "py": _to_python}
    texts = {FILE: aligned(environment.get_template("params.yaml.j2").render(context))}
    for place in sorted((TEMPLATES / "project").glob("*.j2")):
        text = environment.get_template(f"project/{place.name}").render(context)
        texts[f"src/project/{place.stem}"] = _formatted(text)
    return texts


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


def summary(p: Proposal) -> str:
    """Return what was found and written, as at most 40 lines to read."""
    lines = [f"{p.table}: {p.rows:,} rows, {len(p.columns)} columns; target {p.target.name}, task {p.task}"]
    if p.classes:
        total = sum(p.sizes.values())
        shown = sorted(p.sizes.items(), key=lambda pair: -pair[1])
        listed = ", ".join(f"{name} {size / total:.1%}" for name, size in shown[:8])
        lines.append(f"  classes   {listed}{', ...' if len(shown) > 8 else ''}; {'event' if p.task == 'binary' else 'in focus'}: {p.focus}")  # fmt: skip
    else:
        known = p.target.rows()[~np.isnan(p.target.rows())]
        lines.append(f"  values    {known.min():,.4g} to {known.max():,.4g}, mean {known.mean():,.4g}")
    lines.append(f"  key       {', '.join(p.key)}{' (numbered as read)' if p.number else ''}")
    if p.time is not None:
        times = p.time.rows()[~np.isnat(p.time.rows())]
        lines.append(
            f"  time      {p.time.name}, {_day(times.min())} to {_day(times.max())}, format {p.time.format or 'iso'}"
        )
    how = "by time" if p.time is not None else f"by {', '.join(p.group)}" if p.group else "by row"
    sizes = ", ".join(f"{name} {size:,}" for name, size in p.parts.items())
    lines.append(f"  split     {how}: {sizes} rows")
    for kind, names in p.features.items():
        if names:
            lines.append(f"  {kind:<11} {_short(names)}")
    for one in p.related:
        lines.append(f"  joined    {one.name} by {', '.join(one.by)}: {_short(list(one.renamed.values()))}")
    reasons: dict[str, list[str]] = {}
    for name, why in p.left.items():
        reasons.setdefault(why, []).append(name)
    lines += [f"  left out  {_short(names)}: {why}" for why, names in list(reasons.items())[:6]]
    if p.quarantined:
        lines.append(f"  quarantine {p.quarantined:,} rows do not keep their types")
    doubts = [f"  {count}. {_cut(doubt)}" for count, doubt in enumerate(p.doubts, start=1)]
    room = 40 - len(lines) - 6
    if doubts:
        lines.append("Doubts, each with the key of params.yaml to change:")
        lines += doubts if len(doubts) <= room else [*doubts[: room - 1], f"  ... and {len(doubts) - room + 1} more"]
    return "\n".join([
        *lines,
        "Wrote params.yaml and src/project. Prices are assumed: see the lines marked so in params.yaml. Next:",
        "  git add -A && git commit -m 'Begin with my own table'",
        "  dvc repro       # or make run: nine notebooks, nine reports, reports/index.html",
        "  make lab        # the same notebooks, cell by cell",
    ])  # fmt: skip


def ascii_only(text: str) -> str:
    """Return a text without accents, and without what ASCII has no letter for."""
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def _problem(p: Proposal) -> dict[str, Any]:
    units, unit = _units(p.table)
    name, target = units if units != "rows" else p.table, p.target.name
    event = f"{target} = {p.focus}"
    words: dict[str, Any] = {
        "title": f"{target[:1].upper()}{target[1:]} of {name}",
        "unit": unit,
        "units": units,
        "slug": re.sub(r"[^a-z0-9]+", "-", ascii_only(f"{p.table} {target}").lower()).strip("-")[:60].strip("-")
        or "model",
        "miss": max(round(1 / proposal.share(p), 1 if proposal.share(p) > 0.1 else 0), 1.01)
        if p.task == "binary"
        else 1,
        "payoffs": {},
        "uneven": False,
        "risks": ["All prices are assumed; with others, other actions pay."],
    }
    if p.task == "regression":
        words |= {
            "question": f"How high will {target} be for each {unit}?",
            "action_meaning": f"plan for a certain {target}",
            "descriptive": f"Where was {target} high, and where low?",
            "predictive": f"How high will {target} be, and how sure is that?",
            "prescriptive": f"Which {target} should be planned for?",
            "payoff_unit": f"one unit of {target} too high",
            "bar": {"r2": 0.0},
        }
    else:
        many = p.task == "multiclass"
        words |= {
            "question": f"Which {target} will each {unit} have?" if many else f"Which {units} will have {event}?",
            "action_meaning": f"treat each {unit} as one of its classes"
            if many
            else f"treat the {unit} as one with {event}",
            "descriptive": f"Where was {event} frequent?",
            "predictive": "How probable is each class?" if many else f"How probable is {event}?",
            "prescriptive": f"As which class should each {unit} be treated?" if many else "Is acting worth its price?",
            "payoff_unit": "the price of a wrong treatment" if many else "the price of one action",
            "bar": {"roc_auc": 0.52},
        }
    if p.task == "multiclass":
        total = sum(p.sizes.values())
        words["uneven"] = max(p.sizes.values()) > UNEVEN * total
        price = {name: _digits(total / len(p.sizes) / size) if words["uneven"] else 1 for name, size in p.sizes.items()}
        words["payoffs"] = {
            f"treat as {action}": {name: 0 if name == action else -price[name] for name in p.classes}
            for action in p.classes
        }
    if p.time is None:
        words["risks"].append("Rows have no time here, so nothing is known of how well the model does later.")
    if p.min_rarest < 20:
        words["risks"].append("There are few rows to judge by; all figures are uncertain.")
    return words


def _data(p: Proposal, tables: dict[str, dict[str, Any]]) -> dict[str, Any]:
    sizes = {one.name: len(next(iter(one.columns.values())).codes) for one in p.related}
    listed = {name: {**where, "time": None, "format": None, "number": None, "min_rows": max(1, sizes.get(name, p.rows) // 2)} for name, where in tables.items()}  # fmt: skip
    start = as_of = None
    if p.time is not None:
        times = p.time.rows()[~np.isnat(p.time.rows())]
        start, as_of = _day(times.min()), _day(times.max())
    if p.partitioned and p.time is not None:
        listed[p.table] |= {"time": p.time.raw, "format": p.time.format, "min_rows": _least_month(p.time)}
    listed[p.table]["number"] = p.number
    contracts = {p.table: {"unique": p.key, "columns": _contract(p.contract(), p)}}
    for one in p.related:
        contracts[one.name] = {"unique": one.by, "columns": _contract(one.columns, p, one.by)}
    everything = p.rows + sum(sizes.values())
    share = p.quarantined / everything
    gaps = sorted((c for c in p.contract().values() if c.missing), key=lambda column: -column.missing)
    return {
        "start": start,
        "as_of": as_of,
        "tables": listed,
        "contracts": contracts,
        "origin": f"the table {p.table}, as it was given to `ninefold init`",
        "known_gaps": ", ".join(f"{c.name} is missing in {c.missing / p.rows:.1%}" for c in gaps[:5]) or "none seen",
        "max_quarantined": max(0.001 if p.rows >= 10_000 else 0.01, math.ceil(1500 * share) / 1000),
        "left": _comment("; ".join(f"{name} ({why})" for name, why in p.left.items() if p.columns[name].name not in p.contract())),
    }  # fmt: skip


def _models(p: Proposal) -> dict[str, Any]:
    fitted = round(p.labelled * (1 - p.split[1]))
    deviation = proposal.spread(p) if p.task == "regression" else 0.0
    alerts = {"outcomes": 0.05, "error": 0.02, "calibration": 0.05}
    if p.task == "regression":
        alerts = {name: _digits(part * deviation) for name, part in (("outcomes", 0.25), ("error", 0.1), ("calibration", 0.1))}  # fmt: skip
    numbers = [name for name in p.features["numeric"] if p.task == "regression" and name != p.target.name]
    entity = [name for name in p.features["categorical"] if name in p.contract()]
    of = (
        p.target.name
        if p.target.kind == "number" or p.target.type == "int64"
        else next(iter(p.features["numeric"]), None)
    )
    for one in p.related:
        same = all(old == new for old, new in one.renamed.items())
        one.listed = list(one.renamed) if same else one.renamed  # type: ignore[attr-defined]
    return {
        "primary": proposal.PRIMARY[p.task],
        "primaries": " | ".join(MEANING[p.task]),
        "compare_rows": max(5, min(500, p.labelled // 50)),
        "late_example": {"closed_at": "exists only once it is over"},
        "history": {"of": of, "by": entity[0]} if p.time is not None and entity and of else None,
        "numbers": numbers,
        "folds": (3 if fitted <= 200_000 else 2) if p.time is not None else 5,
        "candidates": _candidates(fitted, p),
        "option_notes": OPTION_NOTES,
        "importance_rows": max(100, min(5_000, p.parts["holdout"])),
        "parity_rows": min(2000, p.parts["holdout"]),
        "single_rows": min(200, p.parts["holdout"]),
        "alerts": alerts,
    }


def _candidates(rows: int, p: Proposal) -> dict[str, dict[str, Any]]:
    """Return models that suit the number of rows: what a table of thousands tells apart, one of hundreds does not."""
    leaf = max(3, min(100, round(math.sqrt(rows) / 4)))
    heavy = max(len(p.classes), 1) * rows > 1_000_000
    boosting = {
        "model": "gradient_boosting",
        "learning_rate": 0.1 if heavy else 0.05,
        "max_iter": 150 if rows < 2000 else 200 if heavy else 500,
        "max_leaf_nodes": 31 if rows >= 2000 else 15,
        "min_samples_leaf": leaf,
        "l2_regularization": 1.0,
        "early_stopping": True,
    }
    found: dict[str, dict[str, Any]] = {
        "linear": {"model": "linear", "C": 1.0 if rows >= 500 else 0.1, "rare": max(5, rows // 1000)},
        "shallow_boosting": {**boosting, "max_leaf_nodes": 6, "min_samples_leaf": max(3, leaf // 2)},
    }
    if rows <= 200_000:
        cells = rows * sum(len(names) for names in p.features.values())
        trees = 300 if cells <= 400_000 else 100 if cells <= 2_000_000 else 50  # a minute of growing, at most
        found["forest"] = {
            "model": "extra_trees",
            "n_estimators": trees,
            "min_samples_leaf": max(2, rows // 5000),
            "max_features": 0.5,
        }
    return {**found, "boosting": boosting}


def _contract(
    columns: dict[str, Column], p: Proposal, unique: list[str] | None = None
) -> list[tuple[str, dict[str, Any], str]]:
    """Return each column of a contract: its name, its promise, a comment."""
    lines: list[tuple[str, dict[str, Any], str]] = []
    if unique is None and p.number:
        lines.append((p.number, {"type": "int64", "min": 1}, "numbered by the reader"))
    for name, column in columns.items():
        promise: dict[str, Any] = {"type": column.type}
        for key in ("format", "decimal", "thousands"):
            if getattr(column, key) is not None and column.raw == column.name:
                promise[key] = getattr(column, key)
        is_time = p.time is not None and name == p.time.name and unique is None
        if column.nullable and not is_time and name not in (unique or p.key):
            promise["nullable"] = True
        promise |= _values(column, p, name in (unique or p.key))
        comment = inference.unit(name) if column.kind == "number" else ""
        lines.append((name, promise, comment))
    return lines


def _values(column: Column, p: Proposal, is_key: bool) -> dict[str, Any]:
    if column is p.target and p.classes:
        return {"allowed": [int(name) if column.type == "int64" else float(name) if column.type == "float64" else name for name in sorted(p.classes, key=list(p.sizes).index)]}  # fmt: skip
    if column.type in ("int64", "float64"):
        if column.type == "int64" and column.distinct == 2 and column.bounds() == (0.0, 1.0):
            return {"allowed": [0, 1]}
        return {} if column.kind == "identifier" or is_key else inference.widened(column)
    if column.kind != "category" or column.type != "string" or column.distinct > inference.FEW or is_key:
        return {}
    sizes = column.sizes()
    # A value that was seen often stands for a list that is complete; one seen rarely, for others still to come.
    complete = min(sizes.values()) >= max(5, 0.001 * len(column.codes))
    return {"allowed": list(sizes)} if complete else {}


def _signed(p: Proposal) -> dict[str, dict[str, tuple[str, str, str]]]:
    tables = {p.table: p.columns, **{one.name: one.columns for one in p.related}}
    found = {
        table: {c.name: (c.raw, c.decimal or ".", c.thousands or "") for c in columns.values() if c.raw != c.name}
        for table, columns in tables.items()
    }
    return {table: made for table, made in found.items() if made}


def _example(p: Proposal) -> dict[str, str | None]:
    own = p.contract()
    numbers = [name for name in p.features["numeric"] if name in own]
    numbers.sort(key=lambda name: not name.isascii())
    anything = next(iter(name for names in p.features.values() for name in names if name in own), p.target.name)
    return {
        "number": numbers[0] if numbers else None,
        "other": numbers[1] if len(numbers) > 1 else None,
        "any": anything,
    }


def _units(table: str) -> tuple[str, str]:
    words = table.replace("_", " ")
    if not re.fullmatch(r"[a-z ]+", words) or not words.endswith("s") or words.endswith(("ss", "us", "is")):
        return "rows", "row"
    if words.endswith("ies"):
        return words, f"{words[:-3]}y"
    return words, words[:-2] if words.endswith(("ches", "shes", "xes", "sses")) else words[:-1]


def _least_month(time: Column) -> int:
    """Return a third of the smallest whole month, or 0 where months are sparse."""
    times = time.rows()[~np.isnat(time.rows())]
    months = times.astype("datetime64[M]")
    inner = months[(months > months.min()) & (months < months.max())]
    if not len(inner):
        return 0
    found, sizes = np.unique(inner, return_counts=True)
    whole = int((inner.max() - inner.min()).astype(int)) + 1
    span = int((months.max() - months.min()).astype(int)) - 1
    return int(sizes.min()) // 3 if len(found) == whole == span else 0


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
    found = []
    for line in lines:
        content, mark, comment = line.partition(f" {NOTE} ")
        found.append(f"{content.ljust(column)}  # {comment}" if mark else line)
    return "\n".join(found)


def _to_python(value: Any) -> str:
    """Return a value as Python writes it, in ASCII, so that no letter of a column's name looks like another."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_to_python(key)}: {_to_python(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_to_python, value))})"
    return json.dumps(value, ensure_ascii=True)


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
    return str(pd.Timestamp(moment).date())


def _short(names: list[str], most: int = 8) -> str:
    more = f" ... ({len(names)})" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _cut(text: str, most: int = 200) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _comment(text: str) -> str:
    """Return a text that fits into a comment on one line."""
    return _cut(" ".join(text.split()).replace(NOTE, "|"), 400)
