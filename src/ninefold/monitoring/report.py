"""The monitoring report of a period: its figures with control limits, estimated performance, and causes by name."""

from typing import Any

import numpy as np
import pandas as pd

from ninefold.labels import of as label
from ninefold.monitoring import data_quality, period, shift_tests, two_sample
from ninefold.monitoring.arrivals import Record
from ninefold.monitoring.data_quality import Finding, finding
from ninefold.monitoring.performance import estimate
from ninefold.monitoring.period import FORECAST, Rows
from ninefold.monitoring.reference import MOST_ROWS, Reference, figures, outside
from ninefold.monitoring.shift_tests import EVERYTHING
from ninefold.monitoring.texts import say
from ninefold.monitoring.two_sample import Compared
from ninefold.problem import Problem, decisions
from ninefold.training import losses

INPUTS = ("missing", "unseen", "joint auc")
CAUSES = ("silence", "broken column", "new category", "label shift", "covariate shift", "concept shift")
FEWEST = 100  # rows of a period, and outcomes, with which a shift is tested
MOST_NAMED = 10  # features by which a shift of the inputs is described
MINOR = 0.1  # of the importance of the first; less important features are not named


def period_report(
    reference: Reference, rows: Rows, days: float | None, alpha: float = 0.01, explain: bool = True
) -> Record:
    """Return what is unusual in a period of so many `days`, and why, as plain values.

    Without `days`, of an open period, the volume is not evaluated. `alpha` is the significance level of the tests behind the
    causes, which take longer, and are omitted without `explain`. The keys are ``rows`` and ``labelled``; ``natural``: figure ->
    ``value``, ``low``, ``high`` (control limits, or None), ``usual``; ``outside``: those beyond, farthest first; ``ended``:
    feature without a value at the end -> ``since`` (a day); ``estimated``: see `estimate`; ``findings``: see `causes`.
    """
    count, dates, labelled = len(rows.block), len(np.unique(rows.block)), int(np.isfinite(rows.target).sum())
    if days and reference.days > 1:  # so that months of 28 and 31 days are as long
        days = max(round(days / reference.days), 1) * reference.days
    silence = data_quality.silence(count, reference.per_day, days, dates, reference.days) if days else []
    beyond = ["rows per day"] if silence else []
    report: Record = {"natural": {}, "rows": count, "labelled": labelled, "outside": beyond}
    report |= {"findings": silence, "estimated": {}, "ended": {}}
    if count < data_quality.FEWEST:
        return report
    rows = period.sample(rows, MOST_ROWS)
    values = figures(reference, rows, days, count)
    natural = pd.DataFrame({"value": pd.Series(values, dtype="float64")}).join(reference.bounds)
    report["natural"] = natural.astype("object").where(np.isfinite(natural), None).to_dict("index")
    report["outside"] = beyond = list(dict.fromkeys([*beyond, *outside(values, reference.bounds)]))
    report["ended"] = _ended(reference, rows) if reference.problem.time else {}
    report["estimated"] = estimate(rows, reference.holdout, reference.problem, reference.plan)
    broken = data_quality.broken_columns(reference.known, rows, reference.kinds) if explain else []
    unusual = {name.split(": ")[-1] for name in beyond} | {*report["ended"]}
    # Shares of missing values have control limits.
    broken = [each for each in broken if each["evidence"]["how"] != "missing" or each["subject"] in unusual]
    if explain and (beyond or broken):
        inputs = any(name.split(":")[0] in INPUTS for name in beyond)
        report["findings"] = [*silence, *causes(reference, rows, broken, inputs, alpha)]
    return report


def causes(reference: Reference, now: Rows, broken: list[Finding], inputs: bool, alpha: float = 0.01) -> list[Finding]:
    """Return why a period is unusual: what is broken first, then which distribution moved.

    Columns that are `broken` (of `broken_columns`) or have new categories, and the rows that these spoil, are omitted
    before. Label shift: the shares of outcomes and the predictions moved, and predictions and inputs of the same outcome did
    not. Else covariate shift: a classifier distinguishes the inputs (only if `inputs`: a figure of these is beyond its
    bounds), and concept shift: outcomes of the same inputs and predictions moved (p-values corrected by Holm).

    Each has a ``cause`` (of `CAUSES`), ``subject``, ``evidence`` with ``explains`` (share of the rows or of the change of
    the loss), by which they are sorted, and ``sentence``.
    """
    sound = dict(reference.kinds)
    for each in broken:
        del sound[each["subject"]]
    new, unseen = data_quality.new_categories(reference.known, now, sound)
    for each in new:
        del sound[each["subject"]]
    rest, shifts = period.take(now, ~unseen), list[Finding]()
    if len(rest.block) >= FEWEST and sound:
        shifts = _shifts(reference._replace(kinds=sound), rest, not broken, inputs, alpha)
    _weigh(new, reference, now, unseen)
    findings = [*broken, *new, *shifts]
    return sorted(findings, key=lambda each: (-each["evidence"]["explains"], CAUSES.index(each["cause"])))


def _ended(reference: Reference, now: Rows) -> dict[str, dict[str, str]]:
    """Return the features that usually have values, and have none from a day on to the end of the period, and that day."""
    ended = {}
    for name in reference.kinds:
        has_value, usual = now.features[name].notna().to_numpy(), reference.known.features[name].notna().mean()
        without = now.block[now.block > now.block[has_value].max(initial=now.block.min() - 1)]
        if len(without) and usual > 0.5:
            ended[name] = {"since": str(without.min().astype("datetime64[D]"))}
    return ended


def _shifts(reference: Reference, now: Rows, relations: bool, inputs: bool, alpha: float) -> list[Finding]:
    """Return what moved; `relations` tells whether predictions are sound enough to test them."""
    holdout, problem = reference.holdout, reference.problem
    compared = two_sample.compare(holdout, now, reference.kinds)
    usual = compared.auc <= reference.bounds["high"].get("joint auc", 0.0)  # its p takes days as independent
    p = {"inputs": 1.0 if np.isnan(compared.p) or usual else compared.p}
    mine, theirs = period.take(holdout, compared.before), period.take(now, compared.after)
    labelled = np.isfinite(theirs.target)
    if labelled.sum() < FEWEST:
        return [_covariate(compared, p["inputs"])] if inputs and p["inputs"] < alpha else []
    theirs = period.take(theirs, labelled)
    loss = losses(mine.target, mine.predicted, problem), losses(theirs.target, theirs.predicted, problem)
    both = compared._replace(after_probability=compared.after_probability[labelled])
    split = shift_tests.decompose(loss, both, (mine.block, theirs.block))
    if relations:
        after = period.sample(period.take(now, np.isfinite(now.target)), 20 * two_sample.MOST_ROWS)
        # The same inputs need no weights, and all of the holdout tells more than a sample.
        before, weight = (mine, two_sample.ratios(compared)) if p["inputs"] < 0.05 else (holdout, None)
        table = shift_tests.relations(before, after, reference.kinds, weight, problem)
        labels = shift_tests.outcomes(holdout, after, reference.kinds, problem)
        p |= {"relations": float(table["q"].min()), "outcomes": labels["outcomes"]}
    p = shift_tests.holm(pd.Series(p)).to_dict()
    if relations and _is_label_shift(labels, table, p, reference, alpha):
        return [_label(labels, p["outcomes"], problem)]
    findings = []
    if inputs and p["inputs"] < alpha:
        findings.append(_covariate(compared, p["inputs"], split))
    if relations and p["relations"] < alpha:
        findings.append(_concept(table, p["relations"], split, problem))
    return findings


def _is_label_shift(labels: Record, table: pd.DataFrame, p: Record, reference: Reference, alpha: float) -> bool:
    """Return whether the shares of outcomes explain all that moved; inputs are alike up to the AUC of a stable period."""
    if p["outcomes"] >= alpha or labels["forecasts"] >= alpha:
        return False
    natural, forecasts = float(reference.bounds["high"].get("joint auc", 1.0)), labels["forecasts of a class"]
    alike = 1.0 if labels["auc of a class"] <= natural < 1 else np.nan_to_num(labels["inputs of a class"], nan=1.0)
    everywhere = float(table.loc[table["where"] == EVERYTHING, "p"].iloc[0])
    return 2 * min(forecasts, alike) >= alpha and (p["relations"] < alpha or forecasts > everywhere)


def _label(labels: dict[str, Any], p: float, problem: Problem) -> Finding:
    was, is_ = map(np.array, labels["shares"])
    far = 1 if problem.task == "binary" else int(np.abs(is_ - was).argmax())
    name = f"decile {far + 1} of {label(problem.target)}"
    if problem.is_class:
        name = problem.class_labels.get(problem.classes[far], problem.classes[far])
    subject = decisions.level_name(problem) if problem.task == "binary" else f'share of "{name}"'
    evidence = {"p": p, **{key: value for key, value in labels.items() if key != "outcomes"}}
    sentence = say("label_shift", subject=subject, now=is_[far], was=was[far])
    return finding("label shift", subject, evidence, sentence, 1.0)


def _covariate(compared: Compared, p: float, split: dict[str, Any] | None = None) -> Finding:
    importance = {name: compared.importance[name] for name in _named(compared)}
    evidence = {"p": p, "auc": compared.auc, "low": compared.low, "high": compared.high, "importance": importance}
    evidence |= {"loss": split["covariate"]} if split else {}
    explains, worth = _part(split, "covariate") if split else (2 * compared.auc - 1, "")
    sentence = say("covariate_shift", auc=compared.auc, names=[*importance], worth=worth)
    return finding("covariate shift", next(iter(importance), "inputs"), evidence, sentence, explains)


def _concept(table: pd.DataFrame, p: float, split: dict[str, Any], problem: Problem) -> Finding:
    everywhere = table[table["where"] == EVERYTHING].iloc[0]
    features = table[~table["where"].isin([EVERYTHING, FORECAST])]
    strongest = features.sort_values("strength", ascending=False, kind="stable").iloc[0]
    alike = strongest["strength"] <= 2 * everywhere["strength"] or strongest["q"] >= 0.05
    subject, row = (decisions.level_name(problem), everywhere) if alike else (str(strongest["where"]), strongest)
    evidence = {"p": p, "difference": float(row["difference"]), "loss": split["concept"]}
    evidence["by"] = table.head(5)[["where", "q", "difference"]].to_dict("records")
    explains, worth = _part(split, "concept")
    sentence = say("concept_shift", by="" if alike else subject, difference=row["difference"], worth=worth)
    return finding("concept shift", subject, evidence, sentence, explains)


def _part(split: dict[str, Any], name: str) -> tuple[float, str]:
    """Return the share of a part of the change of the loss, 0-1, and in words how large it is, if that can be told."""
    value, both = split[name]["value"], sum(abs(split[each]["value"]) for each in ("covariate", "concept"))
    worth = f"{value:+.3g} of a change of the loss by {split['total']['value']:+.3g}" if split["separable"] else ""
    return abs(value) / max(both, 1e-12), worth


def _named(compared: Compared) -> list[str]:
    most = max(compared.importance.values(), default=0.0)
    return [name for name, lost in compared.importance.items() if lost > MINOR * most][:MOST_NAMED]


def _weigh(new: list[Finding], reference: Reference, now: Rows, unseen: np.ndarray) -> None:
    """Replace the share of rows by their share of the excess loss, where outcomes are known and it is larger."""
    labelled = np.isfinite(now.target)
    if not new or labelled.sum() < FEWEST:
        return
    after, before, problem = period.take(now, labelled), reference.holdout, reference.problem
    excess = losses(after.target, after.predicted, problem)
    excess = excess - losses(before.target, before.predicted, problem).mean()
    if excess.sum() > 0:
        share = float(np.clip(excess[unseen[labelled]].sum() / excess.sum(), 0, 1))
        for each in new:
            each["evidence"]["explains"] = max(each["evidence"]["explains"], share)
