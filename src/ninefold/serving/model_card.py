"""The model card: what a model is for, what it was fitted on, how good it is, how it decides, what it cannot do."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ninefold import display
from ninefold.lineage import SHORT
from ninefold.metrics import cluster_name
from ninefold.problem import MEANING, PRIMARY, Problem, decisions, listed, sentence, title
from ninefold.serving.fields import FEATURE_KINDS

TEMPLATES = Path(__file__).parents[1] / "templates"
ORIGINS = {  # keys of the lineage in ``bundle.json``, and what they are the hash of
    "models/candidate/model.skops": "the model, `model.skops`",
    "features": "the feature table that it was fitted on",
    "params": "the params that it was fitted with",
    "data/features": "the feature table when it was packed, `data/features`",
    "data/online": "the history for serving, `data/online`",
    "data/problem.json": "the problem, `data/problem.json`",
    "data/metrics.json": "the evaluation plan, `data/metrics.json`",
}
MISSING = "–"


def model_card(described: dict[str, Any], level: int = 3) -> str:
    """Return the model card as Markdown (after Mitchell et al., Model Cards for Model Reporting, 2019).

    Parameters
    ----------
    described : dict
        What `ninefold.serving.deployment.describe` returned, or ``bundle.json``. A section without evidence is left out.
    level : int
        Of the headings.
    """
    problem = Problem.read({**described["problem"], **described["policy"]}, "the description of the bundle")
    kinds = pd.Series([field["kind"] for field in described["signature"]])
    origins, changed = _origins(described.get("lineage", {}))
    text = (
        _environment()
        .get_template("model_card.md.j2")
        .render(
            described=described,
            problem=problem,
            level=level,
            sentence=sentence(problem),
            features=[f"{count} {kind}" for kind, count in kinds[kinds.isin(FEATURE_KINDS)].value_counts().items()],
            blocks=cluster_name(problem),
            meanings=_meanings(problem),
            happens={"positive": "if it happens", "negative": "if not"} if problem.task == "binary" else {},
            origins=origins,
            changed=changed,
        )
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _meanings(problem: Problem) -> dict[str, str]:
    """Return what each score means."""
    return {
        **{name: f"{better} is better: {words}" for name, (better, words) in MEANING[problem.task].items()},
        "payoff": f"what following the model paid per {problem.unit}",
        "gain": "by how much that is more than the best policy without a model paid",
        "acted": "share of rows whose action differs from that policy's",
        "observed": f"the outcomes: the {decisions.level_name(problem)}",
        "predicted": "the forecast of it",
        "improvement": f"by how much its {title(PRIMARY[problem.task])} is lower than that of the naive forecast",
        "covered": "share of outcomes inside their intervals",
    }


def _origins(known: dict[str, str]) -> tuple[dict[str, str], bool]:
    """Return what the model comes from with its hashes, and whether the feature table has changed since it was fitted.

    The commit is not known yet: equal runs of two commits give the same bytes.
    """
    hashes = {ORIGINS[name]: known[name][:SHORT] for name in ORIGINS if known.get(name)}
    fitted, packed = known.get("features"), known.get("data/features", "")[:SHORT]
    if fitted == packed:  # as it should be
        hashes.pop(ORIGINS["data/features"], None)
    return hashes, bool(fitted and packed and fitted != packed)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # names of the data go through `code` or `text`
    )
    environment.filters |= {
        "code": lambda value: MISSING if value is None else display.code(value),
        "text": _text,
        "listed": listed,
        "figure": _figure,
        "number": _number,
        "p_value": _p_value,
    }
    return environment


def _text(value: Any) -> str:
    """Return a name as text in which no character means anything to Markdown."""
    return re.sub(r"[\\`*_{}\[\]<>&|$#~]", lambda match: f"&#{ord(match[0])};", " ".join(str(value).split()))


def _figure(values: dict[str, Any] | None, name: str = "value") -> str:
    """Return a figure with its interval, if it is known: ``0.738 (0.702 to 0.770)``.

    The interval is under ``<name>_low`` and ``<name>_high``, else under ``low`` and ``high``.
    """
    if not values or values.get(name) is None:
        return MISSING
    low, high = (values.get(f"{name}_{end}", values.get(end)) for end in ("low", "high"))
    interval = f" ({_number(low)} to {_number(high)})" if low is not None and high is not None else ""
    return _number(values[name]) + interval


def _number(value: float | None) -> str:
    """Return a number to three decimals; a smaller one to two digits, since differences of scores are small."""
    if value is None:
        return MISSING
    if value and abs(value) < 0.0095:
        return f"{value:.2g}"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"


def _p_value(value: float | None) -> str:
    return MISSING if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
