"""The model card: what a model is for, what it learned from, how good it is, what it decides by, what it cannot do."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from ninefold import problem
from ninefold.core import decisions, show
from ninefold.core.lineage import SHORT
from ninefold.core.scores import MEANING, PRIMARY, block_name, title
from ninefold.serving.signature import FEATURE_KINDS

FLAGGED = 10  # groups that are told
NUMBER = "---:"  # under the heading of a column of numbers, in Markdown
ORIGINS = {  # in ``bundle.json``, and what it is the hash of
    "models/candidate/model.skops": "the model, `model.skops`",
    "features": "the feature table that it was fitted on",
    "params": "the params that it was fitted with",
    "data/features": "the feature table when it was packed, `data/features`",
    "data/online": "the history for serving, `data/online`",
    "data/problem.json": "the problem, `data/problem.json`",
    "data/metrics.json": "what was agreed, `data/metrics.json`",
}


def model_card(described: dict[str, Any], level: int = 3) -> str:
    """Return the model card as Markdown (after Mitchell et al., Model Cards for Model Reporting, 2019).

    Parameters
    ----------
    described : dict
        What `ninefold.deployment.describe` returned, or ``bundle.json``. What its ``evidence`` lacks is left out.
    level : int
        Of the headings.
    """
    stated = {**described["problem"], **described["policy"]}
    sections: dict[str, Callable[[dict[str, Any], dict[str, Any]], str | None]] = {
        "Intended use": lambda _, stated: problem.sentence(stated),
        "Model": _model_of,
        "Data": _data_of,
        "Scores on the holdout": _scores_of,
        "Where it is weaker": _slices_of,
        "Fairness": _fairness_of,
        "Tests against baselines": _tests_of,
        "Policy": _policy_of,
        "Limits and risks": lambda _, stated: problem.bullets(stated["risks"]),
        "Lineage": _lineage_of,
    }
    written = {name: tell(described, stated) for name, tell in sections.items()}
    return "\n\n".join(f"{'#' * level} {name}\n\n{text}" for name, text in written.items() if text)


def _model_of(described: dict[str, Any], stated: dict[str, Any]) -> str:
    model, kinds = described["model"], pd.Series([field["kind"] for field in described["signature"]])
    counted = [f"{count} {kind}" for kind, count in kinds[kinds.isin(FEATURE_KINDS)].value_counts().items()]
    adjusted = "calibration" if decisions.is_class(stated) else "intervals"
    return (
        f"{show.code(model['model'])}, {adjusted} {model['calibration']}, on these features: {problem.listed(counted)}."
    )


def _data_of(described: dict[str, Any], stated: dict[str, Any]) -> str:
    periods, units = described["periods"], stated["units"]
    train, valid, holdout = (periods[name] for name in ("train", "validation", "holdout"))
    open_rows = train["rows"] + valid["rows"]
    if stated["time"]:
        return (
            f"It was fitted on {open_rows:,} {units} of {train['first']} to {valid['last']}, chosen by how its like foresaw "
            f"the later of them from the earlier, and judged on {holdout['rows']:,} {units} of {holdout['first']} to "
            f"{holdout['last']} (UTC), which it never saw. Outside these periods its scores are not known."
        )
    others = f", none with the {problem.listed(stated['group'])} of one it had learned from" if stated["group"] else ""
    return (
        f"It was chosen and fitted on {open_rows:,} {units}, and judged on {holdout['rows']:,} others, drawn at "
        f"random{others}. For {units} unlike these its scores are not known."
    )


def _scores_of(described: dict[str, Any], stated: dict[str, Any]) -> str:
    meaning = {
        **{name: f"{better} is better: {words}" for name, (better, words) in MEANING[stated["task"]].items()},
        "payoff": f"what following the model paid per {stated['unit']}",
        "gain": "by how much that is more than the best policy without a model paid",
        "acted": "share of rows whose action differs from that policy's",
        "observed": f"what came: the {decisions.level_name(stated)}",
        "predicted": "what was foreseen of it",
        "improvement": f"by how much its {title(PRIMARY[stated['task']])} is lower than that of the naive forecast",
        "covered": "share of outcomes inside their intervals",
    }
    lines = [
        f"{name.replace('_', ' ')}: {_figure(found)}" + (f"; {meaning[name]}" if name in meaning else "")
        for name, found in described["holdout"].items()
    ]
    return (
        "With intervals in parentheses, on rows that the model never saw. They hold for "
        f"{block_name(stated)} like those of the holdout; a change of the world is not in them.\n\n"
        + problem.bullets(lines)
    )


def _slices_of(described: dict[str, Any], stated: dict[str, Any]) -> str | None:
    found = _evidence(described, "slices")
    if found is None:
        return None
    if not found:
        return "In no group that was looked at does the forecast differ from the outcomes by more than chance explains."
    lines = [
        [show.code(one["feature"]), show.code(one["group"]), _count(one), _figure(one, "bias"), _small(one.get("q"))]
        for one in found[:FLAGGED]
    ]
    heads = {"feature": "---", "group": "---", "rows": NUMBER, "bias": NUMBER, "q": NUMBER}
    more = f" The first {FLAGGED} of {len(found)} groups are listed." if len(found) > FLAGGED else ""
    return (
        "In these groups of the holdout the forecast differs from the outcomes by more than chance explains. Bias is the "
        f"mean forecast less the mean outcome; q is its p-value, adjusted for all groups that were looked at.{more}\n\n"
        + _table(heads, lines)
    )


def _fairness_of(described: dict[str, Any], stated: dict[str, Any]) -> str | None:
    found = _evidence(described, "fairness")
    if found is None:
        return None
    if not found:
        return (
            "No protected column was declared, or none has two groups that are large enough: whether people are treated "
            "alike is not known."
        )
    heads = {"column": "---", "measure": "---", "value": NUMBER}
    lines = [[show.code(one["column"]), _text(one["measure"]), _figure(one)] for one in found]
    if all("highest" in one and "lowest" in one for one in found):
        heads |= {"highest": "---", "lowest": "---"}
        lines = [
            [*line, *(_group(one[end]) for end in ("highest", "lowest"))]
            for line, one in zip(lines, found, strict=True)
        ]
    return "Between the groups of each protected column, on the holdout:\n\n" + _table(heads, lines)


def _tests_of(described: dict[str, Any], stated: dict[str, Any]) -> str | None:
    found = _evidence(described, "tests")
    if not found:
        return None
    lines = [[_text(one["comparison"]), _figure(one, "difference"), _small(one.get("p"))] for one in found]
    return (
        "Above zero the model is better; p is the chance of such a difference, or a larger one, if it were not.\n\n"
        + _table({"comparison": "---", "difference": NUMBER, "p": NUMBER}, lines)
    )


def _policy_of(described: dict[str, Any], stated: dict[str, Any]) -> str:
    parts = [_rule(stated)]
    paid = described["holdout"]
    if paid.get("payoff") and paid.get("gain"):
        parts.append(
            f"On the holdout it paid {_figure(paid['payoff'])} per {stated['unit']}, which is {_figure(paid['gain'])} more "
            "than the best policy without a model."
        )
    if by_policy := _evidence(described, "policies"):
        heads = {"policy": "---", f"payoff per {_text(stated['unit'])}": NUMBER}
        parts.append(_table(heads, [[_text(one["policy"]), _figure(one, "payoff")] for one in by_policy]))
    if prices := _evidence(described, "prices"):
        parts.append(_prices_of(prices, stated))
    return "\n\n".join(parts)


def _prices_of(prices: list[dict[str, Any]], stated: dict[str, Any]) -> str:
    """Return what following the model would pay if prices moved, with the columns that are known of all."""
    columns: dict[str, tuple[str, str, Callable[[dict[str, Any]], str]]] = {
        "price": ("price", "---", lambda one: _text(one["price"])),
        "factor": ("times", NUMBER, lambda one: f"{one['factor']:g}"),
        "payoff": ("payoff", NUMBER, lambda one: _number(one["payoff"])),
        "unmoved": ("payoff of unchanged actions", NUMBER, lambda one: _number(one["unmoved"])),
        "gain": ("gain", NUMBER, lambda one: _figure(one, "gain")),
        "policy": ("policy", "---", lambda one: _text(one["policy"])),
    }
    known = [told for name, told in columns.items() if all(name in one for one in prices)]
    lines = [[tell(one) for _, _, tell in known] for one in prices]
    return (
        f"If one price were another, and actions were chosen by it, per {stated['unit']} (the gain is that over the best "
        "policy without a model):\n\n" + _table({head: mark for head, mark, _ in known}, lines)
    )


def _rule(stated: dict[str, Any]) -> str:
    """Return how a forecast becomes an action."""
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


def _lineage_of(described: dict[str, Any], stated: dict[str, Any]) -> str:
    """Return what the model comes from. The commit is not known yet: equal runs of two commits give the same bytes."""
    known = described.get("lineage", {})
    shown = [name for name in ORIGINS if known.get(name)]
    same = known.get("features") == known.get("data/features", "")[:SHORT]
    if same:  # as it should be
        shown.remove("data/features")
    parts = [_table({"of": "---", "SHA-256": "---"}, [[ORIGINS[name], f"`{known[name][:SHORT]}`"] for name in shown])]
    if known.get("features") and known.get("data/features") and not same:
        parts.append("**The feature table has changed since the model was fitted.**")
    if md5 := known.get("dvc"):
        parts.append(
            "The commit is not written here, so that equal runs give equal bytes. "
            f"`git log -S{md5} -- dvc.lock` names those that recorded the model or gave it up; in one that recorded it "
            "`dvc checkout` brings back all that it was made from."
        )
    return "\n\n".join(parts)


def _evidence(described: dict[str, Any], name: str) -> list[dict[str, Any]] | None:
    """Return what stage 07 found of a kind; None if it did not look."""
    return described.get("evidence", {}).get(name)


def _table(heads: dict[str, str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown; `heads` is column -> the mark under it, which aligns."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (list(heads), list(heads.values()), *lines))


def _text(value: Any) -> str:
    """Return a name as text in which no character means anything to Markdown."""
    return re.sub(r"[\\`*_{}\[\]<>&|$#~]", lambda found: f"&#{ord(found[0])};", " ".join(str(value).split()))


def _figure(found: dict[str, Any] | None, name: str = "value") -> str:
    """Return a figure with its interval, of what is known: ``0.738 (0.702 to 0.770)``.

    The interval is under ``<name>_low`` and ``<name>_high``, else under ``low`` and ``high``.
    """
    if not found or found.get(name) is None:
        return "–"
    low, high = (found.get(f"{name}_{end}", found.get(end)) for end in ("low", "high"))
    interval = f" ({_number(low)} to {_number(high)})" if low is not None and high is not None else ""
    return _number(found[name]) + interval


def _group(value: Any) -> str:
    return "–" if value is None else show.code(value)


def _number(value: float | None) -> str:
    """Return a number to three decimals; a smaller one to two digits, since differences of scores are small."""
    if value is None:
        return "–"
    if value and abs(value) < 0.0095:
        return f"{value:.2g}"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"


def _count(one: dict[str, Any]) -> str:
    return f"{one['rows']:,}"


def _small(value: float | None) -> str:
    """Return a p-value: to three decimals, or below which it is."""
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
