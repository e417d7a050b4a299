"""The model card: what a model is for, what it was fitted on, how good it is, how it decides, what it cannot do."""

import re
from typing import Any

import pandas as pd

from ninefold import display, jinja, labels
from ninefold.lineage import SHORT
from ninefold.metrics import cluster_name, with_interval
from ninefold.problem import MEANING, PRIMARY, Problem, decisions, listed, sentence, title
from ninefold.serving.fields import FEATURE_KINDS

MISSING = "–"


def model_card(described: dict[str, Any], level: int = 3) -> str:
    """Return the model card as Markdown (after Mitchell et al., Model Cards for Model Reporting, 2019).

    `described` is what `deployment.describe` returned, or ``bundle.json``; `level` that of the headings. A section without
    evidence is left out. It holds no commit, which is not known yet: equal runs of two commits give the same bytes.
    """
    problem = Problem.read({**described["problem"], **described["policy"]}, "the description of the bundle")
    kinds = pd.Series([field["kind"] for field in described["signature"]])
    counts = kinds[kinds.isin(FEATURE_KINDS)].value_counts()
    facts = {"described": described, "problem": problem, "level": level, "sentence": sentence(problem), "short": SHORT}
    facts |= {"features": [f"{count} {kind}" for kind, count in counts.items()], "blocks": cluster_name(problem)}
    facts |= {"scores": MEANING[problem.task], "primary": title(PRIMARY[problem.task])}
    text = CARDS.get_template("model_card.md.j2").render(facts, level_name=decisions.level_name(problem))
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _text(value: Any) -> str:
    """Return a name as text in which no character means anything to Markdown."""
    return re.sub(r"[\\`*_{}\[\]<>&|$#~]", lambda match: f"&#{ord(match[0])};", " ".join(str(value).split()))


def _figure(values: dict[str, Any] | None, name: str = "value") -> str:
    """Return a figure with its interval, ``<name>_low`` and ``<name>_high`` or ``low`` and ``high``, if it is known."""
    known = values if values and values.get(name) is not None else {}
    shown: dict[str, Any] = {end: known.get(f"{name}_{end}", known.get(end)) for end in ("low", "high")}
    return with_interval(shown | {"value": known.get(name)})


CARDS = jinja.environment()  # names of the data go through `code` or `text`
CARDS.filters |= {
    "code": lambda value: MISSING if value is None else display.code(value),
    "label": lambda name: display.code(labels.of(name)),
    "text": _text,
    "listed": listed,
    "metric": title,
    "figure": _figure,
    "number": lambda value: with_interval({"value": value}),
    "p_value": lambda p: MISSING if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}",
}
