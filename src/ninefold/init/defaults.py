"""The values of a new params.yaml: words, prices, contract and models that suit a table."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from ninefold.init import inference, proposal
from ninefold.init.columns import Column, unit, widened
from ninefold.init.proposal import Proposal
from ninefold.init.yaml_text import ascii_only, comment, day, digits
from ninefold.problem import MEANING, PRIMARY

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


def problem(p: Proposal) -> dict[str, Any]:
    """Return the words of section ``problem``: question, unit, prices and risks."""
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
        price = {name: digits(total / len(p.sizes) / size) if words["uneven"] else 1 for name, size in p.sizes.items()}
        words["payoffs"] = {
            f"treat as {action}": {name: 0 if name == action else -price[name] for name in p.classes}
            for action in p.classes
        }
    if p.time is None:
        words["risks"].append("Rows have no time here, so nothing is known of how well the model does later.")
    if p.min_rarest < 20:
        words["risks"].append("There are few rows to judge by; all figures are uncertain.")
    return words


def data(p: Proposal, tables: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the values of sections ``collection`` and ``processing``: tables, contracts, limits."""
    sizes = {one.name: len(next(iter(one.columns.values())).codes) for one in p.related}
    listed = {name: {**where, "time": None, "format": None, "number": None, "min_rows": max(1, sizes.get(name, p.rows) // 2)} for name, where in tables.items()}  # fmt: skip
    start = as_of = None
    if p.time is not None:
        times = p.time.rows()[~np.isnat(p.time.rows())]
        start, as_of = day(times.min()), day(times.max())
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
        "left": comment("; ".join(f"{name} ({why})" for name, why in p.left.items() if p.columns[name].name not in p.contract())),
    }  # fmt: skip


def models(p: Proposal) -> dict[str, Any]:
    """Return the values of the sections from ``metrics`` on: candidates, folds, alerts."""
    fitted = round(p.labelled * (1 - p.split[1]))
    deviation = proposal.spread(p) if p.task == "regression" else 0.0
    alerts = {"outcomes": 0.05, "error": 0.02, "calibration": 0.05}
    if p.task == "regression":
        alerts = {name: digits(part * deviation) for name, part in (("outcomes", 0.25), ("error", 0.1), ("calibration", 0.1))}  # fmt: skip
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
        "primary": PRIMARY[p.task],
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
    candidates: dict[str, dict[str, Any]] = {
        "linear": {"model": "linear", "C": 1.0 if rows >= 500 else 0.1, "rare": max(5, rows // 1000)},
        "shallow_boosting": {**boosting, "max_leaf_nodes": 6, "min_samples_leaf": max(3, leaf // 2)},
    }
    if rows <= 200_000:
        cells = rows * sum(len(names) for names in p.features.values())
        trees = 300 if cells <= 400_000 else 100 if cells <= 2_000_000 else 50  # a minute of growing, at most
        candidates["forest"] = {
            "model": "extra_trees",
            "n_estimators": trees,
            "min_samples_leaf": max(2, rows // 5000),
            "max_features": 0.5,
        }
    return {**candidates, "boosting": boosting}


def _contract(
    columns: dict[str, Column], p: Proposal, unique: list[str] | None = None
) -> list[tuple[str, dict[str, Any], str]]:
    """Return each column of a contract: its name, its baseline, a comment."""
    lines: list[tuple[str, dict[str, Any], str]] = []
    if unique is None and p.number:
        lines.append((p.number, {"type": "int64", "min": 1}, "numbered by the reader"))
    for name, column in columns.items():
        baseline: dict[str, Any] = {"type": column.type}
        for key in ("format", "decimal", "thousands"):
            if getattr(column, key) is not None and column.raw == column.name:
                baseline[key] = getattr(column, key)
        is_time = p.time is not None and name == p.time.name and unique is None
        if column.nullable and not is_time and name not in (unique or p.key):
            baseline["nullable"] = True
        baseline |= _values(column, p, name in (unique or p.key))
        comment = unit(name) if column.kind == "number" else ""
        lines.append((name, baseline, comment))
    return lines


def _values(column: Column, p: Proposal, is_key: bool) -> dict[str, Any]:
    if column is p.target and p.classes:
        return {"allowed": [int(name) if column.type == "int64" else float(name) if column.type == "float64" else name for name in sorted(p.classes, key=list(p.sizes).index)]}  # fmt: skip
    if column.type in ("int64", "float64"):
        if column.type == "int64" and column.distinct == 2 and column.bounds() == (0.0, 1.0):
            return {"allowed": [0, 1]}
        return {} if column.kind == "identifier" or is_key else widened(column)
    if column.kind != "category" or column.type != "string" or column.distinct > inference.FEW or is_key:
        return {}
    sizes = column.sizes()
    # A value that was seen often stands for a list that is complete; one seen rarely, for others still to come.
    complete = min(sizes.values()) >= max(5, 0.001 * len(column.codes))
    return {"allowed": list(sizes)} if complete else {}


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
    present, sizes = np.unique(inner, return_counts=True)
    whole = int((inner.max() - inner.min()).astype(int)) + 1
    span = int((months.max() - months.min()).astype(int)) - 1
    return int(sizes.min()) // 3 if len(present) == whole == span else 0
