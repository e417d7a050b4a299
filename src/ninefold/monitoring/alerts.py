"""Which figures of a period alert: one rule with one limit for each, evaluated at its close."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, Literal

from pydantic import Field

from ninefold import gate
from ninefold.metrics import with_interval
from ninefold.params import Section, Text
from ninefold.problem import ERROR, RANKING, Problem, decisions, title

Alert = dict[str, Any]
Record = Mapping[str, Any]
NOISE = 3.0  # standard deviations of a count of independent rows; a smaller change is sampling noise
FIGURES = {  # rule -> the figures of `monitoring.report` of which one has to be beyond its control limits
    "volume": ("rows per day",),
    "predictions": ("psi: the forecast", "mean forecast", "expected payoff"),
    "outcomes": ("outcome",),
    "ranking": ("ranking",),
    "error": ("loss",),
    "calibration": ("gap",),
    "gain": ("gain",),
    "slices": ("slices",),
}
COLUMN_RULES = {  # kind of figure -> rule, and what it means
    "missing": ("missing", "is missing in"),
    "unseen": ("categories", "has a category that training did not have in"),
}


class Rule(Section):
    """The limit beyond which a figure alerts, how severe that is, and who owns it."""

    limit: float = Field(ge=0)
    severity: Literal["low", "medium", "high"]
    owner: Text | None = None


class Rules(Section):
    """One rule for each figure that can alert; of quantities, some limits are in the unit of the target."""

    missing: Rule = Rule(limit=0.05, severity="high")
    categories: Rule = Rule(limit=0.05, severity="medium")
    joint: Rule = Rule(limit=0.6, severity="low")
    expected: Rule = Rule(limit=0.02, severity="medium")
    slices: Rule = Rule(limit=0.05, severity="medium")
    skew: Rule = Rule(limit=0.001, severity="high")
    failures: Rule = Rule(limit=0.01, severity="high")
    latency: Rule = Rule(limit=0.05, severity="medium")
    quarantined: Rule
    volume: Rule
    inputs: Rule
    predictions: Rule
    outcomes: Rule
    ranking: Rule
    error: Rule
    calibration: Rule
    gain: Rule


def alerts(record: Record, baseline: Record, rules: Rules, problem: Problem) -> list[Alert]:
    """Return the alerts of one period.

    Performance is compared with the baseline metrics, those of the holdout, and alerts only if its whole interval is
    beyond the limit. Where the record has control limits (``outside``, see `monitoring.report`), only figures beyond
    them alert: weeks of a stable stream differ too.

    Parameters
    ----------
    record, baseline : mapping
        Of `stage.records` and `stage.baseline_metrics`.

    Returns
    -------
    list of dict
        ``alert`` (name of the rule), ``severity``, ``value``, ``limit``, ``sentence``; if there is one, ``subject``
        (a feature) and ``owner``.
    """
    candidates = chain(
        _volume_alerts(record, baseline, rules),
        _service_alerts(record, rules),
        _column_alerts(record, rules),
        _drift_alerts(record, rules),
        _expected_alerts(record, baseline, rules, problem),
        _outcome_alerts(record, baseline, rules, problem),
        _slice_alerts(record, rules),
    )
    return gate.tidy([alert for alert in candidates if is_unusual(alert["alert"], record)])


def is_unusual(alert: str, record: Record) -> bool:
    """Return whether a figure of a rule is beyond its control limits; True where there are none."""
    outside, figures = record.get("outside"), FIGURES.get(alert)
    if outside is None or figures is None:
        return True
    return any(name in figures or name.split(": ")[0] in figures for name in outside)


def drifted_features(record: Record) -> dict[str, float]:
    """Return the features that drifted and their PSI; where there are control limits, those beyond them."""
    outside = record.get("outside")
    return {name: psi for name, psi in record["drifted"].items() if outside is None or f"psi: {name}" in outside}


def _volume_alerts(record: Record, baseline: Record, rules: Rules) -> Iterator[Alert]:
    broken = record["quarantined"] / max(record["raw"], 1)
    if broken > rules.quarantined.limit:
        yield _alert("quarantined", rules, broken, f"{broken:.2%} of the rows broke the contract.")
    if baseline["per_day"] is None:
        return
    usual = baseline["per_day"] * record["days"]
    change = record["predictions"] / usual - 1
    if abs(change) > rules.volume.limit and abs(record["predictions"] - usual) > NOISE * usual**0.5:
        rate, before = (
            f"{rows:,.0f}" if rows >= 10 else f"{rows:.2g}"
            for rows in (record["predictions"] / record["days"], baseline["per_day"])
        )
        yield _alert("volume", rules, change, f"{rate} rows a day, {change:+.0%} against {before} in training.")


def _service_alerts(record: Record, rules: Rules) -> Iterator[Alert]:
    service = record.get("service") or {}
    if requests := service.get("requests"):
        failed, slow = service["errors"] / requests, service["slow"] / requests
        if failed > rules.failures.limit:
            sentence = f"{failed:.1%} of {requests:,} requests failed (status 500 or more)."
            yield _alert("failures", rules, failed, sentence)
        if slow > rules.latency.limit:
            yield _alert(
                "latency", rules, slow, f"{slow:.1%} of {requests:,} requests took longer than the latency budget."
            )
    for each in record.get("skew") or []:
        if each["share"] > rules.skew.limit:
            sentence = f"{each['feature']} was served with other values than the pipeline's in {each['share']:.1%} of the rows."
            yield _alert("skew", rules, each["share"], sentence, each["feature"])


def _column_alerts(record: Record, rules: Rules) -> Iterator[Alert]:
    """Yield columns with more missing values or more unseen categories than their control limits allow."""
    for kind, (name, meaning) in COLUMN_RULES.items():
        for figure_name in record.get("outside") or []:
            if figure_name.startswith(f"{kind}: "):
                figure, subject = record["natural"][figure_name], figure_name.removeprefix(f"{kind}: ")
                if figure["value"] - figure["usual"] > getattr(rules, name).limit:
                    sentence = f"{subject} {meaning} {figure['value']:.1%} of the rows; {figure['usual']:.1%} is usual."
                    yield _alert(name, rules, figure["value"], sentence, subject)


def _drift_alerts(record: Record, rules: Rules) -> Iterator[Alert]:
    if "joint auc" in (record.get("outside") or []):
        auc = record["natural"]["joint auc"]["value"]
        if auc > rules.joint.limit:
            sentence = (
                f"A classifier separates the rows from those of training with a ROC AUC of {auc:.2f} (chance: 0.5)."
            )
            yield _alert("joint", rules, auc, sentence)
    if drifted := drifted_features(record):
        first = ", ".join(f"{name} ({value:.2f})" for name, value in list(drifted.items())[:3])
        sentence = f"{len(drifted)} of {record['features']} features drifted; largest PSI: {first}."
        yield _alert("inputs", rules, max(drifted.values()), sentence)
    if record["predictions_drifted"]:
        psi = record["prediction_psi"]
        yield _alert("predictions", rules, psi, f"The distribution of the predictions has moved: PSI {psi:.2f}.")


def _expected_alerts(record: Record, baseline: Record, rules: Rules, problem: Problem) -> Iterator[Alert]:
    """Yield an error that is estimated to be higher while too few outcomes are known to measure it."""
    name = ERROR[problem.task]
    estimate, before = (record.get("estimated") or {}).get(name), baseline["figures"].get(name)
    if estimate and before and not record["figures"] and estimate["low"] - before["value"] > rules.expected.limit:
        sentence = (
            f"Outcomes are not known yet; the estimated {title(name)} is {with_interval(estimate)}, {_was(before)}."
        )
        yield _alert("expected", rules, estimate["value"], sentence)


def _outcome_alerts(record: Record, baseline: Record, rules: Rules, problem: Problem) -> Iterator[Alert]:
    now, before = record["figures"], baseline["figures"]
    yield from _rate_alerts(record["levels"], baseline["levels"], rules)
    for alert, metric, sign in (("ranking", RANKING[problem.task], -1), ("error", ERROR[problem.task], 1)):
        if metric not in now or metric not in before:
            continue
        worse = now[metric]["low"] - before[metric]["value"]
        if sign < 0:
            worse = before[metric]["value"] - now[metric]["high"]
        if worse > getattr(rules, alert).limit:
            skill = ""
            if alert == "error" and "skill" in now and "skill" in before:
                skill = "; the skill is {}, and was {}".format(
                    *(with_interval({"value": each["skill"]["value"]}) for each in (now, before))
                )
            sentence = f"The {title(metric)} is {with_interval(now[metric])}, {_was(before[metric])}{skill}."
            yield _alert(alert, rules, now[metric]["value"], sentence)
    gap, gain = now.get("gap"), now.get("gain")
    if gap and abs(gap["value"]) > rules.calibration.limit and not gap["low"] <= 0 <= gap["high"]:
        sentence = f"Predicted less observed {decisions.level_name(problem)} is {with_interval(gap)}."
        yield _alert("calibration", rules, gap["value"], sentence)
    if gain and gain["low"] < rules.gain.limit:
        sentence = f"The gain over the best policy without a model is {with_interval(gain)}, which is not significant."
        yield _alert("gain", rules, gain["value"], sentence)


def _rate_alerts(now: Record, before: Record, rules: Rules) -> Iterator[Alert]:
    """Yield the class share (or mean of the target) that changed most, if the change is significant and large."""
    changes = {
        name: rate["value"] - before[name]["value"]
        for name, rate in now.items()
        if name in before and not rate["low"] <= before[name]["value"] <= rate["high"]
    }
    name = max(changes, key=lambda name: abs(changes[name]), default="")
    if name and abs(changes[name]) > rules.outcomes.limit:
        yield _alert(
            "outcomes", rules, changes[name], f"The {name} is {with_interval(now[name])}, {_was(before[name])}."
        )


def _slice_alerts(record: Record, rules: Rules) -> Iterator[Alert]:
    worse = [each for each in record.get("slices") or [] if each["worse"] > rules.slices.limit]
    if worse:
        first = ", ".join(f"{each['subject']} ({each['gap']:+.2f}, was {each['held']:+.2f})" for each in worse[:3])
        sentence = f"In {len(worse)} slices predicted less observed is larger than on the holdout: {first}."
        yield _alert("slices", rules, worse[0]["worse"], sentence)


def _alert(name: str, rules: Rules, value: float, sentence: str, subject: str | None = None) -> Alert:
    rule: Rule = getattr(rules, name)
    alert = {"alert": name, "severity": rule.severity, "value": value, "limit": rule.limit, "sentence": sentence}
    return alert | ({"subject": subject} if subject else {}) | ({"owner": rule.owner} if rule.owner else {})


def _was(figure: Mapping[str, float]) -> str:
    return f"{with_interval({'value': figure['value']})} on the holdout"
