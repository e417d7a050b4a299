"""How columns and numbers are shown in figures, tables and sentences; section ``labels`` of ``params.yaml``."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import RootModel

from ninefold import artifacts
from ninefold.params import FILE, Name, Section, Text, in_project, load, root

METRICS = {"log_loss": "log loss", "brier": "Brier score", "roc_auc": "ROC AUC", "r2": "R²"}
METRICS |= {"rmse": "RMSE", "mae": "MAE", "rank_correlation": "rank correlation"}
METRICS |= {"average_precision": "average precision", "balanced_accuracy": "balanced accuracy"}
DURATIONS = {"m": "minute", "h": "hour", "d": "day"}


class Label(Section):
    """What one column is called, if not by its name, and the unit of its values."""

    label: Text | None = None
    unit: Text | None = None


class Params(RootModel[dict[Name, Label]]):
    """Section ``labels`` of ``params.yaml``: a label for a column, or a feature, by its name."""


def of(column: Any) -> str:
    """Return the label of a column, and its unit: ``departure delay (min)``; without a label, its name."""
    return "".join(parts(column))


def parts(column: Any) -> tuple[str, str]:
    """Return the label of a column, or its name, and what its unit adds: `` (min)``, or nothing.

    A joined column such as ``weather.temp`` without a label of its own has that of ``temp``; metrics have their usual names.
    """
    name = str(column)
    if not in_project():  # as in the image of the service
        return name, ""
    known = _labels(root() / FILE, (root() / FILE).stat().st_mtime_ns)
    entry = known.get(name) or known.get(name.rpartition(".")[2], Label())
    return entry.label or METRICS.get(name, name), f" ({entry.unit})" if entry.unit else ""


def classes() -> tuple[str, dict[int, str]]:
    """Return the target, and the names of its classes by position; no names if its values are other numbers (1 and 2)."""
    problem = (in_project() and artifacts.published("data/problem.json")) or {}
    names = problem.get("class_labels", {})
    is_code = [*names] == [*map(str, range(len(names)))] or not any(re.fullmatch(r"-?[\d.]+", name) for name in names)
    return problem.get("target", ""), dict(enumerate(names.values())) if is_code else {}


def misspelt(columns: Iterable[str]) -> str:
    """Return the labels of no column, neither of these nor named in section ``features``, and what they may stand for."""
    named = map(json.loads, re.findall(r'"(?:[^"\\]|\\.)*"', load("features").model_dump_json()))
    known = sorted({*columns, *named})
    lost = [name for name in load("labels").root if not {name, name.rpartition(".")[2]}.intersection(known)]
    near = ("".join(f" (did you mean {each}?)" for each in get_close_matches(name, known, n=1)) for name in lost)
    return ", ".join(map("".join, zip(lost, near, strict=True)))


@lru_cache(maxsize=4)
def _labels(file: Path, changed: int) -> dict[str, Label]:
    return dict(load("labels").root)


def number(value: float, sign: str = "") -> str:
    """Return a quantity as text, to three digits, or whole from 100 on; with ``sign="+"`` always with its sign."""
    return f"{value:{sign},.0f}" if abs(value) >= 100 else f"{value:{sign}.3g}"


def measured(check: Mapping[str, Any]) -> str:
    """Return the value of a check as text: a float to three digits, or to more where it would equal a number of the limit."""
    value, limits = check["value"], [*map(float, re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", check["limit"]))]
    if not isinstance(value, float):
        return f"{value:,}" if type(value) is int else str(value)
    texts = [f"{value:.{decimals(abs(value)) + more}f}" for more in (1, 2, 3)]
    return next((text for text in (number(value), *texts) if float(text.replace(",", "")) not in limits), number(value))


def duration(text: str) -> str:
    """Return a duration of params in words: ``2h`` is ``2 hours``, ``1d`` is ``1 day``."""
    return f"{text[:-1]} {DURATIONS[text[-1]]}{'s' * (text[:-1] != '1')}"


def decimals(largest: float) -> int:
    """Return the decimals that numbers have at which the largest of them has three digits."""
    return max(2 - math.floor(math.log10(largest)), 0) if 0 < largest < math.inf else 3
