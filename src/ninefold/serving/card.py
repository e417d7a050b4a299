"""The model card: what a model is for, what it learned from, how good it is, what it decides by, what it cannot do."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ninefold import problem
from ninefold.core import decisions, show
from ninefold.core.scores import with_interval
from ninefold.serving.signature import FEATURE_KINDS


def model_card(described: dict[str, Any]) -> str:
    """Return the model card as Markdown (after Mitchell et al., Model Cards for Model Reporting, 2019)."""
    stated = {**described["problem"], **described["policy"]}
    scored = [f"{name.replace('_', ' ')}: {with_interval(figure)}" for name, figure in described["holdout"].items()]
    return "\n\n".join(
        [
            f"**Intended use.** {problem.sentence(stated)}",
            f"**Model.** {_model_of(described)}",
            f"**Data.** {_data_of(described, stated)}",
            "**Scores on the holdout**, with intervals:\n\n" + problem.bullets(scored),
            f"**Policy.** {_policy_of(stated)}",
            "**Limits and risks.**\n\n" + problem.bullets(stated["risks"]),
        ]
    )


def _model_of(described: dict[str, Any]) -> str:
    model, kinds = described["model"], pd.Series([field["kind"] for field in described["signature"]])
    counted = [f"{count} {kind}" for kind, count in kinds[kinds.isin(FEATURE_KINDS)].value_counts().items()]
    adjusted = "intervals" if described["problem"]["task"] == "regression" else "calibration"
    return (
        f"{show.code(model['model'])}, {adjusted} {model['calibration']}, on these features: {problem.listed(counted)}."
    )


def _data_of(described: dict[str, Any], stated: dict[str, Any]) -> str:
    periods, units = described["periods"], stated["units"]
    train, valid, holdout = (periods[name] for name in ("train", "validation", "holdout"))
    open_rows = train["rows"] + valid["rows"]
    if stated["time"]:
        return (
            f"It was fitted on {open_rows:,} {units} of {train['first']} to {valid['last']}, after the newest "
            f"{valid['rows']:,} of them had chosen it, and judged on {holdout['rows']:,} {units} of {holdout['first']} to "
            f"{holdout['last']} (UTC), which it never saw. Outside these periods its scores are not known."
        )
    others = f", none with the {problem.listed(stated['group'])} of one it had learned from" if stated["group"] else ""
    return (
        f"It was chosen and fitted on {open_rows:,} {units}, and judged on {holdout['rows']:,} others, drawn at "
        f"random{others}. For {units} unlike these its scores are not known."
    )


def _policy_of(stated: dict[str, Any]) -> str:
    unit = stated["payoff_unit"]
    if not decisions.is_class(stated):
        costs, ratio = stated["costs"], decisions.critical_ratio(stated["costs"])
        return (
            f"The quantity of the least expected cost, which is the {ratio:.0%} quantile of what may come: a unit too "
            f"high costs {costs['over']:g}, a unit too low {costs['under']:g} ({unit})."
        )
    happens = {"positive": "if it happens", "negative": "if not"} if stated["task"] == "binary" else {}
    paid = []
    for action, by_outcome in stated["payoffs"].items():
        pays = [f"{value:g} {happens.get(name) or f'for {show.code(name)}'}" for name, value in by_outcome.items()]
        paid.append(f"*{action}*: {', '.join(pays)}")
    return f"The action of the highest expected payoff, in {unit}:\n\n" + problem.bullets(paid)
