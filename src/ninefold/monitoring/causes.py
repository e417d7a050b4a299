"""Why is a period unusual? Causes by name, each with its evidence, in the order of how much they explain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ninefold.monitoring import data_quality, decomposition, period, shift_tests, two_sample
from ninefold.monitoring.data_quality import Finding, finding
from ninefold.monitoring.period import Rows
from ninefold.problem import Problem, decisions
from ninefold.training import losses

CAUSES = (
    "silence", "broken column", "new category", "label shift", "covariate shift", "concept shift",
)  # fmt: skip
JOINT_ROWS = 2_500  # of a side, for an AUC that can be held against that of earlier windows
FEWEST = 100  # rows of a period, and outcomes, with which a shift is looked for
MOST_NAMED = 10  # features that a shift of the inputs is told by
MINOR = 0.1  # of the importance of the first; less important features are not named


def causes(  # noqa: PLR0913, PLR0917
    known: Rows,
    holdout: Rows,
    now: Rows,
    kinds: Mapping[str, str],
    problem: Problem,
    natural: float = 1.0,
    unusual: bool = True,
    alpha: float = 0.01,
    seed: int = 0,
) -> dict[str, Any]:
    """Return why a period is unusual: what is broken first, then which distribution moved.

    Columns that are broken or have new categories, and the rows that these spoil, are left out before shifts are looked
    for: what they do to forecasts is no other cause. Label shift is named where the shares of outcomes and the forecasts
    moved, and forecasts and inputs of the same outcome did not; it accounts for all that moved. Otherwise inputs that
    a classifier tells apart are covariate shift, and outcomes that left the forecasts for the same inputs are concept shift.
    The p-values of the three are corrected together (Holm).

    Parameters
    ----------
    known : Rows
        All that is known from before: what the model was fitted on, and the holdout.
    holdout : Rows
        With forecasts and outcomes.
    now : Rows
        Of the period; without outcomes only causes that need none are looked for.
    kinds : mapping
        Feature -> its kind.
    problem : dict
        The problem.
    natural : float
        The AUC by which a stable period of at most `JOINT_ROWS` rows may be distinguished from what was before: weeks resemble
        themselves, which p-values of days do not know. With 1, p-values decide.
    unusual : bool
        Whether any figure of the inputs is beyond its bounds; without, covariate shift is not named.
    alpha : float
        Of the corrected p-values.
    seed : int

    Returns
    -------
    dict
        ``findings``: a list of ``cause`` (of `CAUSES`), ``subject``, ``evidence`` with ``explains`` (share of the rows
        or of the change of the loss), and ``sentence``; ``decomposition``: of the loss, see `decomposition.decompose`, and
        ``features``, see `decomposition.shares`; None without outcomes; ``auc``: of the inputs that are sound.
    """
    broken = data_quality.broken_columns(known, now, kinds)
    spoilt = {each["subject"] for each in broken}
    new = data_quality.new_categories(known, now, {name: kind for name, kind in kinds.items() if name not in spoilt})
    sound = {name: kind for name, kind in kinds.items() if name not in spoilt | {each["subject"] for each in new}}
    unseen = np.zeros(len(now.block), dtype="bool")
    for each in new:
        unseen |= data_quality.is_unseen(known, now, each["subject"])
    rest = period.take(now, ~unseen)
    findings = [*broken, *new]
    result: dict[str, Any] = {"decomposition": None, "auc": None}
    if len(rest.block) >= FEWEST and sound:
        moved, details = _shifts(holdout, rest, sound, not broken, problem, natural, unusual, alpha, seed)
        findings, result = [*findings, *moved], {**result, **details}
    _weigh(new, holdout, now, unseen, problem)
    order = sorted(findings, key=lambda each: (-each["evidence"]["explains"], CAUSES.index(each["cause"])))
    return {"findings": order, **result}


def _shifts(  # noqa: PLR0913, PLR0917
    holdout: Rows,
    now: Rows,
    kinds: Mapping[str, str],
    sound: bool,
    problem: Problem,
    natural: float,
    unusual: bool,
    alpha: float,
    seed: int,
) -> tuple[list[Finding], dict[str, Any]]:
    """Return what moved, and the decomposition; relations are looked at only where the forecast is `sound`."""
    blocks = holdout.block, now.block
    compared = two_sample.compare(holdout.features, now.features, kinds, blocks, seed)
    p = {"inputs": 1.0 if np.isnan(compared.p) else compared.p}
    details: dict[str, Any] = {
        "auc": {"value": compared.auc, "low": compared.low, "high": compared.high, "p": compared.p}
    }
    mine, theirs = period.take(holdout, compared.before), period.take(now, compared.after)
    labelled = np.isfinite(theirs.target)
    if labelled.sum() < FEWEST:
        named = _covariate(compared, None, [], p["inputs"], 2 * compared.auc - 1)
        return (named if unusual and p["inputs"] < alpha else []), details
    split = decomposition.decompose(
        (
            losses(mine.target, mine.predicted, problem),
            losses(theirs.target[labelled], theirs.predicted[labelled], problem),
        ),
        compared._replace(after_probability=compared.after_probability[labelled]),
        (mine.block, theirs.block[labelled]),
        seed=seed,
    )
    details["decomposition"] = split
    if sound:
        after = period.sample(period.known(now), 20 * two_sample.MOST_ROWS)
        if p["inputs"] < 0.05:
            table = shift_tests.relations(mine, after, kinds, two_sample.ratios(compared), problem)
        else:  # the same inputs need no weights, and all of the holdout tells more than a sample
            table = shift_tests.relations(holdout, after, kinds, None, problem)
        labels = shift_tests.outcomes(holdout, after, kinds, problem, seed, JOINT_ROWS)
        p |= {"relations": float(table["q"].min()), "outcomes": labels["outcomes"]}
    corrected = dict(zip(p, shift_tests.holm(np.array(list(p.values()))), strict=True))
    corrected = {name: float(value) for name, value in corrected.items()}
    if sound and _is_label_shift(labels, table, corrected, natural, alpha):
        return [_label(labels, corrected["outcomes"], problem)], details
    covariate, concept = abs(split["covariate"]["value"]), abs(split["concept"]["value"])
    whole, findings = max(covariate + concept, 1e-12), []
    if unusual and corrected["inputs"] < alpha:
        names = _named(compared)
        parts = decomposition.shares(
            losses(mine.target, mine.predicted, problem),
            mine,
            now,
            kinds,
            names,
            split["covariate"]["value"],
            seed=seed,
        )
        details["decomposition"] = {**split, "features": parts}
        findings += _covariate(compared, split, parts, corrected["inputs"], covariate / whole)
    if corrected.get("relations", 1.0) < alpha:
        findings.append(_concept(table, split, corrected["relations"], concept / whole, problem))
    return findings, details


def _is_label_shift(
    labels: dict[str, Any], table: Any, corrected: dict[str, float], natural: float, alpha: float
) -> bool:
    """Return whether the shares of outcomes explain all that moved, and better than the inputs do."""
    if corrected["outcomes"] >= alpha or labels["forecasts"] >= alpha:
        return False
    alike = 1.0 if labels["auc of a class"] <= natural < 1 else np.nan_to_num(labels["inputs of a class"], nan=1.0)
    consistent = 2 * min(labels["forecasts of a class"], alike)
    same_relations = float(table.loc[table["where"] == shift_tests.EVERYTHING, "p"].iloc[0])
    return consistent >= alpha and (corrected["relations"] < alpha or labels["forecasts of a class"] > same_relations)


def _label(labels: dict[str, Any], p: float, problem: Problem) -> Finding:
    was, is_ = (np.array(each) for each in labels["shares"])
    far = int(np.abs(is_ - was).argmax())
    if problem.task == "binary":
        far = 1
    name = problem.classes[far] if problem.is_class else f"decile {far + 1} of {problem.target}"
    subject = decisions.level_name(problem) if problem.task == "binary" else f'share of "{name}"'
    evidence = {"p": p, **{key: value for key, value in labels.items() if key != "outcomes"}}
    sentence = (
        f"The {subject} is {is_[far]:.1%}, and was {was[far]:.1%}; inputs and forecasts of the same outcome are what they "
        "were: other outcomes became frequent, and nothing else changed."
    )
    return finding("label shift", subject, evidence, sentence, 1.0)


def _covariate(
    compared: two_sample.Compared,
    split: dict[str, Any] | None,
    parts: list[dict[str, Any]],
    p: float,
    explains: float,
) -> list[Finding]:
    names = [each["feature"] for each in parts if each["share"] > 0] or _named(compared)
    importance = {name: compared.importance[name] for name in _named(compared)}
    evidence: dict[str, Any] = {"p": p, "auc": compared.auc, "low": compared.low, "high": compared.high}
    evidence |= {"importance": importance, "shares": {each["feature"]: each["share"] for each in parts}}
    worth = ""
    if split is not None:
        evidence["loss"] = split["covariate"]
        worth = f"; they account for {split['covariate']['value']:+.3g} of a change of the loss by {split['total']['value']:+.3g}"
    first = max(importance, key=lambda name: importance[name], default=names[0] if names else "inputs")
    listed = ", ".join(importance) or "no one alone"
    sentence = f"Inputs moved: a classifier tells them from the holdout's with an AUC of {compared.auc:.2f}, by {listed}{worth}."
    return [finding("covariate shift", first, evidence, sentence, explains)]


def _concept(table: Any, split: dict[str, Any], p: float, explains: float, problem: Problem) -> Finding:
    everywhere = float(table.loc[table["where"] == shift_tests.EVERYTHING, "strength"].iloc[0])
    features = table[~table["where"].isin([shift_tests.EVERYTHING, shift_tests.FORECAST])]
    strongest = features.sort_values("strength", ascending=False, kind="stable").iloc[0]
    alike = strongest["strength"] <= 2 * everywhere or strongest["q"] >= 0.05
    subject = decisions.level_name(problem) if alike else str(strongest["where"])
    row = table[table["where"] == shift_tests.EVERYTHING].iloc[0] if alike else strongest
    evidence = {"p": p, "difference": float(row["difference"]), "loss": split["concept"]}
    evidence["by"] = table.head(5)[["where", "q", "difference"]].to_dict("records")
    how = "on all rows alike" if alike else f"most by {subject}"
    sentence = (
        f"Outcomes of the same inputs are no longer what they were beside the forecast, {how} (by up to "
        f"{row['difference']:+.3g}); that accounts for {split['concept']['value']:+.3g} of a change of the loss by "
        f"{split['total']['value']:+.3g}."
    )
    return finding("concept shift", subject, evidence, sentence, explains)


def _named(compared: two_sample.Compared) -> list[str]:
    """Return the features that tell the tables apart, the most important first."""
    most = max(compared.importance.values(), default=0.0)
    return [name for name, lost in compared.importance.items() if lost > MINOR * most][:MOST_NAMED]


def _weigh(new: list[Finding], holdout: Rows, now: Rows, unseen: np.ndarray, problem: Problem) -> None:
    """Put in place of the share of rows, where outcomes are known and worse, the share of the excess loss of these rows."""
    labelled = np.isfinite(now.target)
    if not new or labelled.sum() < FEWEST:
        return
    after = period.known(now)
    excess = losses(after.target, after.predicted, problem)
    excess = excess - losses(holdout.target, holdout.predicted, problem).mean()
    if excess.sum() > 0:
        share = float(np.clip(excess[unseen[labelled]].sum() / excess.sum(), 0, 1))
        for each in new:
            each["evidence"]["explains"] = max(each["evidence"]["explains"], share)
