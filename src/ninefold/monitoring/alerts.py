"""Which figures of a period alert: one rule with one limit for each, evaluated at its close."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from math import inf
from typing import Any, Literal, TypeAlias

from pydantic import Field

from ninefold import gate
from ninefold.metrics import with_interval
from ninefold.params import Section, Text
from ninefold.problem import ERROR, RANKING, Problem, decisions, title

Alert = dict[str, Any]
Record = Mapping[str, Any]
Candidate: TypeAlias = tuple[str, float, float, str, str | None]  # rule, measure, value, sentence, subject
NOISE = 3.0  # standard deviations of a count of independent rows; a smaller change is sampling noise
FIGURES = {  # rule -> the figures of `monitoring.report` of which one has to be beyond its control limits
    "volume": {"rows per day"},
    "outcomes": {"outcome"},
    "ranking": {"ranking"},
    "error": {"loss"},
    "calibration": {"gap"},
    "gain": {"gain"},
    "slices": {"slices"},
}
AT_ONCE = {"quarantined", "failures", "latency", "skew", "missing", "categories"}  # faults, which wait for no close
COLUMN_RULES = {  # kind of figure -> rule, and what it means
    "missing": ("missing", "is missing in"),
    "unseen": ("categories", "has a category that training did not have in"),
}


class Rule(Section):
    """The limit beyond which a figure alerts, how severe that is, and who owns it."""

    limit: float = Field(ge=0)
    severity: Literal["low", "medium", "high"]
    owner: Text | None = None


def _rule(watches: str, limit: float | None = None, severity: str = "medium") -> Any:
    """Return the field of a rule; without a limit it has no default."""
    default: Any = ... if limit is None else {"limit": limit, "severity": severity}
    return Field(default, description=watches, validate_default=True)


class Rules(Section):
    """One rule for each figure that can alert; of quantities, some limits are in the unit of the target."""

    missing: Rule = _rule("rise of the share of missing values of a feature", 0.05, "high")
    categories: Rule = _rule("share of rows with a category that training did not have", 0.05)
    joint: Rule = _rule("ROC AUC of a classifier of the rows against those of training (chance: 0.5)", 0.6, "low")
    expected: Rule = _rule("rise of the estimated {error}, before outcomes are known, above the holdout's", 0.02)
    slices: Rule = _rule("how much farther off predictions are at a value of a category than on the holdout", 0.05)
    skew: Rule = _rule("share of rows with a feature that was served unlike the pipeline builds it", 0.001, "high")
    failures: Rule = _rule("share of requests that failed (status 500 and more)", 0.01, "high")
    latency: Rule = _rule("share of requests over the latency budget", 0.05)
    quarantined: Rule = _rule("share of rows that break the contract")
    volume: Rule = _rule("change of rows a day against training, either way")
    inputs: Rule = _rule("PSI of a feature against all rows known before, where a test agrees")
    predictions: Rule = _rule("PSI of the predictions against the holdout, where a test agrees")
    outcomes: Rule = _rule("change of the {share} against the holdout, either way")
    ranking: Rule = _rule("loss of {ranking} against the holdout")
    error: Rule = _rule("rise of {error} above the holdout's")
    calibration: Rule = _rule("predicted less observed {level}, either way")
    gain: Rule = _rule("payoff per {unit} over the best policy without a model: low end under the limit")


def alerts(record: Record, baseline: Record, rules: Rules, problem: Problem) -> list[Alert]:
    """Return the alerts of one period, from its record and the baseline metrics of `stage`.

    Performance alerts only if its whole interval is beyond the limit, against the holdout. Where the record has control limits
    (``outside``, see `monitoring.report`), only figures beyond them alert. A period that is not ``closed`` raises those
    `AT_ONCE` alone. Each alert has ``alert`` (name of the rule),
    ``severity``, ``value``, ``limit``, ``sentence``; if there is one, ``subject`` (a feature) and ``owner``.
    """
    raised = []
    candidates = chain(_rows(record, baseline), _inputs(record), _outcomes(record, baseline, rules, problem))
    for name, measure, value, text, subject in candidates:
        rule: Rule = getattr(rules, name)
        if measure > rule.limit and is_unusual(name, record):
            alert = {"alert": name, "severity": rule.severity, "value": value, "limit": rule.limit, "sentence": text}
            optional = {"subject": subject, "owner": rule.owner}
            raised.append(alert | {key: text for key, text in optional.items() if text})
    return gate.tidy(raised)


def is_unusual(alert: str, record: Record) -> bool:
    """Return whether a figure of a rule is beyond its control limits, or has none; before the close only those `AT_ONCE`."""
    outside, figures = record.get("outside"), FIGURES.get(alert)
    if not record.get("closed", True) and alert not in AT_ONCE:
        return False
    if outside is None or figures is None:
        return True
    return any(name in figures or name.split(": ")[0] in figures for name in outside)


def _rows(record: Record, baseline: Record) -> Iterator[Candidate]:
    broken, usual = record["quarantined"] / max(record["raw"], 1), (baseline["per_day"] or 0) * record["days"]
    yield "quarantined", broken, broken, f"{broken:.2%} of the rows broke the contract.", None
    if usual and abs(record["predictions"] - usual) > NOISE * usual**0.5:
        now, change = record["predictions"] / record["days"], record["predictions"] / usual - 1
        sentence = f"{now:,.1f} rows a day, {change:+.0%} against {baseline['per_day']:,.1f} in training."
        yield "volume", abs(change), change, sentence, None
    service = record.get("service") or {}
    if requests := service.get("requests"):
        failed, slow = service["errors"] / requests, service["slow"] / requests
        yield "failures", failed, failed, f"{failed:.1%} of {requests:,} requests failed (status 500 or more).", None
        yield "latency", slow, slow, f"{slow:.1%} of {requests:,} requests took longer than the latency budget.", None
    for each in record.get("skew") or []:
        name, share = each["feature"], each["share"]
        sentence = f"{name} was served with other values than the pipeline's in {share:.1%} of the rows."
        yield "skew", share, share, sentence, name


def _inputs(record: Record) -> Iterator[Candidate]:
    outside = record.get("outside") or []
    for name in outside:
        kind, _, subject = name.partition(": ")
        if kind in COLUMN_RULES:
            (rule, meaning), figure = COLUMN_RULES[kind], record["natural"][name]
            sentence = f"{subject} {meaning} {figure['value']:.1%} of the rows; {figure['usual']:.1%} is usual."
            yield rule, figure["value"] - figure["usual"], figure["value"], sentence, subject
    if "joint auc" in outside:
        auc = record["natural"]["joint auc"]["value"]
        sentence = f"A classifier separates the rows from those of training with a ROC AUC of {auc:.2f} (chance: 0.5)."
        yield "joint", auc, auc, sentence, None
    if drifted := record["drifted"]:
        first = ", ".join(f"{name} ({value:.2f})" for name, value in list(drifted.items())[:3])
        sentence = f"{len(drifted)} of {record['features']} features drifted; largest PSI: {first}."
        yield "inputs", inf, max(drifted.values()), sentence, None
    if record["predictions_drifted"]:
        psi = record["prediction_psi"]
        yield "predictions", inf, psi, f"The distribution of the predictions has moved: PSI {psi:.2f}.", None


def _outcomes(record: Record, baseline: Record, rules: Rules, problem: Problem) -> Iterator[Candidate]:
    now, before, error = record["figures"], baseline["figures"], ERROR[problem.task]
    estimate = (record.get("estimated") or {}).get(error)
    if estimate and error in before and not now:  # too few outcomes are known to measure it
        sentence = f"Outcomes are not known yet; the estimated {title(error)} is {_against(estimate, before[error])}."
        yield "expected", estimate["low"] - before[error]["value"], estimate["value"], sentence, None
    changes = []
    for name, level in record["levels"].items():
        was = baseline["levels"].get(name)
        if was and not level["low"] <= was["value"] <= level["high"]:
            changes.append((level["value"] - was["value"], f"The {name} is {_against(level, was)}."))
    if changes:
        change, sentence = max(changes, key=lambda each: abs(each[0]))
        yield "outcomes", abs(change), change, sentence, None
    for rule, metric, sign in (("ranking", RANKING[problem.task], -1), ("error", error, 1)):
        if metric in now and metric in before:
            harm = min(sign * (now[metric][end] - before[metric]["value"]) for end in ("low", "high"))
            sentence = f"The {title(metric)} is {_against(now[metric], before[metric])}."
            yield rule, harm, now[metric]["value"], sentence, None
    gap, gain = now.get("gap"), now.get("gain")
    if gap and not gap["low"] <= 0 <= gap["high"]:
        sentence = f"Predicted less observed {decisions.level_name(problem)} is {with_interval(gap)}."
        yield "calibration", abs(gap["value"]), gap["value"], sentence, None
    if gain and gain["low"] < rules.gain.limit:
        sentence = f"The gain over the best policy without a model is {with_interval(gain)}, which is not significant."
        yield "gain", inf, gain["value"], sentence, None
    if worse := [each for each in record.get("slices") or [] if each["worse"] > rules.slices.limit]:
        first = ", ".join(f"{each['subject']} ({each['gap']:+.2f}, was {each['held']:+.2f})" for each in worse[:3])
        sentence = f"In {len(worse)} slices predicted less observed is larger than on the holdout: {first}."
        yield "slices", worse[0]["worse"], worse[0]["worse"], sentence, None


def _against(figure: dict[str, float], before: dict[str, float]) -> str:
    return f"{with_interval(figure)}, {with_interval({'value': before['value']})} on the holdout"
