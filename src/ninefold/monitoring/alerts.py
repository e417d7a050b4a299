"""Which figures of a period alert: one rule with one limit for each, evaluated at its close."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from math import inf
from typing import Any, Literal, TypeAlias

from pydantic import Field

from ninefold import gate
from ninefold.metrics import against_zero, with_interval
from ninefold.params import Section, Text
from ninefold.problem import ERROR, RANKING, Problem, decisions, listed, title

Alert = dict[str, Any]
Record = Mapping[str, Any]
Candidate: TypeAlias = tuple[str, float, float, str, Alert]  # rule, measure, value, sentence, other keys of the alert
NOISE = 3.0  # standard deviations of a count of independent rows; a smaller change is sampling noise
FIGURES = {  # rule -> the figures of `monitoring.report` of which one has to be beyond its control limits
    "volume": {"rows per day"},
    "outcomes": {"outcome"},
    "ranking": {"ranking"},
    "error": {"loss"},
    "calibration": {"gap"},
    "slices": {"slices"},
}
FAULTS = ("missing", "broken", "quarantined", "volume", "skew", "failures", "latency")  # rules that no retraining mends
AT_ONCE = {*FAULTS, "categories"} - {"volume"}  # rules that wait for no close
MOST_NAMED = 8  # columns, in a sentence


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
    broken: Rule = _rule("share of rows with a feature that has become constant, or came in another unit", 0.05, "high")
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

    Performance alerts if it is beyond the limit, against the holdout, and beyond its control limits (``outside``, see
    `monitoring.report`); where the record has none, if its whole interval is beyond the limit. Drifted features always
    alert, and so does a gain whose whole interval is under the limit. A period that is not ``closed`` raises those `AT_ONCE`
    alone. Columns that are missing for one cause are one alert. The keys are ``alert`` (the rule), ``severity``, ``value``,
    ``limit``, ``sentence``, and for some ``subject``, ``owner``, ``columns`` with a fault (name -> share of the rows, 0-1).
    """
    raised = [*_raised(chain(_rows(record, baseline), _columns(record, rules)), record, rules)]
    candidates = chain(_inputs(record, raised), _outcomes(record, baseline, rules, problem))
    return gate.tidy([*raised, *_raised(candidates, record, rules)])


def is_unusual(alert: str, record: Record) -> bool:
    """Return whether a figure of a rule is beyond its control limits, or has none; before the close only those `AT_ONCE`."""
    outside, figures = record.get("outside"), FIGURES.get(alert)
    if not record.get("closed", True) and alert not in AT_ONCE:
        return False
    if outside is None or figures is None:
        return True
    return any(name in figures or name.split(": ")[0] in figures for name in outside)


def is_fault(alert: Alert) -> bool:
    """Return whether an alert is a fault of the data or the service that has to be repaired: not of severity low."""
    is_growth = alert["alert"] == "volume" and alert["value"] > 0
    return alert["alert"] in FAULTS and alert["severity"] != "low" and not is_growth


def broken_columns(raised: Iterable[Alert]) -> dict[str, float]:
    """Return the columns with a fault, and in which share of the rows (0-1)."""
    return {name: share for alert in raised for name, share in alert.get("columns", {}).items()}


def drifted_features(record: Record, raised: Iterable[Alert]) -> dict[str, float]:
    """Return the features that drifted and their PSI, without those whose column has a fault."""
    broken = broken_columns(raised)
    return {name: psi for name, psi in record["drifted"].items() if name not in broken}


def describe_drifted(record: Record, raised: Iterable[Alert]) -> str:
    """Return how many features drifted, and how many of them because of a fault."""
    faulty = len(record["drifted"]) - len(drifted_features(record, raised))
    more = f", {faulty} of them with a fault" if faulty else ""
    return f"{len(record['drifted'])} of {record['features']} features drifted{more}"


def missing_causes(names: Iterable[str], record: Record) -> Iterator[tuple[dict[str, float], str, str]]:
    """Yield why columns miss values: those of a joined table have one cause, as have those without a value since one day.

    It is the columns (name -> share of the rows without a value, 0-1), a sentence, and a short name. ``ended`` of the record
    tells since when a column has no value, ``joined`` of which table it is.
    """
    ended, natural, joined = (record.get(key) or {} for key in ("ended", "natural", "joined"))
    named, groups = list(names), dict[Any, list[str]]()
    for name in dict.fromkeys([*named, *ended]):
        since, table = ended.get(name, {}).get("since"), joined.get(name)
        groups.setdefault((since, table, None if since or table else name), []).append(name)
    for (since, table, _), columns in groups.items():
        if not {*named}.intersection(columns):
            continue
        shares, many = {name: natural[f"missing: {name}"]["value"] for name in columns}, len(columns) > 1
        usual, least = max(natural[f"missing: {name}"]["usual"] or 0 for name in columns), min(shares.values())
        where = f"all rows since {since}, {least:.1%} of this period's" if since else f"{least:.1%} of the rows"
        short = f"{len(columns)} columns" + (f" of {table}" if table else "")
        shown = listed([*columns], MOST_NAMED)
        what = f"{shown} ({short}) are missing in {where}; at most" if many else f"{shown} is missing in {where};"
        yield shares, f"{what} {usual:.1%} is usual.", short if many else columns[0]


def _raised(candidates: Iterable[Candidate], record: Record, rules: Rules) -> Iterator[Alert]:
    for name, measure, value, text, more in candidates:
        rule: Rule = getattr(rules, name)
        if measure > rule.limit and is_unusual(name, record):
            alert = {"alert": name, "severity": rule.severity, "value": value, "limit": rule.limit, "sentence": text}
            yield alert | more | ({"owner": rule.owner} if rule.owner else {})


def _rows(record: Record, baseline: Record) -> Iterator[Candidate]:
    broken, usual = record["quarantined"] / max(record["raw"], 1), (baseline["per_day"] or 0) * record["days"]
    yield "quarantined", broken, broken, f"{broken:.2%} of the rows broke the contract.", {}
    if usual and abs(record["predictions"] - usual) > NOISE * usual**0.5:
        now, change = record["predictions"] / record["days"], record["predictions"] / usual - 1
        sentence = f"{now:,.1f} rows a day, {change:+.0%} against {baseline['per_day']:,.1f} in training."
        yield "volume", abs(change), change, sentence, {}
    service = record.get("service") or {}
    if requests := service.get("requests"):
        failed, slow = service["errors"] / requests, service["slow"] / requests
        yield "failures", failed, failed, f"{failed:.1%} of {requests:,} requests failed (status 500 or more).", {}
        yield "latency", slow, slow, f"{slow:.1%} of {requests:,} requests took longer than the latency budget.", {}
    for each in record.get("skew") or []:
        name, share = each["feature"], each["share"]
        sentence = f"{name} was served with other values than the pipeline's in {share:.1%} of the rows."
        yield "skew", share, share, sentence, {"subject": name}


def _columns(record: Record, rules: Rules) -> Iterator[Candidate]:
    outside, natural = record.get("outside") or [], record.get("natural") or {}
    rise = {name: natural[name]["value"] - natural[name]["usual"] for name in outside if name.startswith("missing: ")}
    empty = [name.removeprefix("missing: ") for name in rise if rise[name] > rules.missing.limit]
    for columns, sentence, subject in missing_causes(empty, record):
        yield "missing", inf, max(columns.values()), sentence, {"subject": subject, "columns": columns}
    for each in record.get("findings") or []:
        name, share = each["subject"], each["evidence"]["explains"]
        how = each["evidence"].get("how") if each["cause"] == "broken column" else None
        if how == "unit" or (how == "constant" and name in record["drifted"]):
            yield "broken", share, share, each["sentence"], {"subject": name, "columns": {name: share}}


def _inputs(record: Record, raised: list[Alert]) -> Iterator[Candidate]:
    outside = record.get("outside") or []
    for name in (name for name in outside if name.startswith("unseen: ")):
        subject, figure = name.removeprefix("unseen: "), record["natural"][name]
        shares = f"in {figure['value']:.1%} of the rows; {figure['usual']:.1%} is usual."
        sentence = f"{subject} has a category that training did not have {shares}"
        yield "categories", figure["value"] - figure["usual"], figure["value"], sentence, {"subject": subject}
    if "joint auc" in outside:
        auc = record["natural"]["joint auc"]["value"]
        sentence = f"A classifier separates the rows from those of training with a ROC AUC of {auc:.2f} (chance: 0.5)."
        yield "joint", auc, auc, sentence, {}
    if drifted := drifted_features(record, raised):
        first = ", ".join(f"{name} ({psi:.2f})" for name, psi in list(drifted.items())[:3])
        yield "inputs", inf, max(drifted.values()), f"{describe_drifted(record, raised)}; largest PSI: {first}.", {}
    if record["predictions_drifted"]:
        psi = record["prediction_psi"]
        yield "predictions", inf, psi, f"The distribution of the predictions has moved: PSI {psi:.2f}.", {}


def _outcomes(record: Record, baseline: Record, rules: Rules, problem: Problem) -> Iterator[Candidate]:
    known, before, error = record["figures"], baseline["figures"], ERROR[problem.task]
    ends = ["low", "high"] if record.get("outside") is None else ["value"]  # else control limits tell what is unusual
    now, levels = (
        {name: each for name, each in table.items() if ends[0] in each} for table in (known, record["levels"])
    )
    estimate = (record.get("estimated") or {}).get(error)
    if estimate and error in before and not known:  # too few outcomes are known to measure it
        sentence = f"Outcomes are not known yet; the estimated {title(error)} is {_against(estimate, before[error])}."
        yield "expected", estimate["low"] - before[error]["value"], estimate["value"], sentence, {}
    changes = []
    for name, level in levels.items():
        was = baseline["levels"].get(name)
        if was and not level[ends[0]] <= was["value"] <= level[ends[-1]]:
            changes.append((level["value"] - was["value"], f"The {name} is {_against(level, was)}."))
    if changes:
        change, sentence = max(changes, key=lambda each: abs(each[0]))
        yield "outcomes", abs(change), change, sentence, {}
    for rule, metric, sign in (("ranking", RANKING[problem.task], -1), ("error", error, 1)):
        if metric in now and metric in before:
            harm = min(sign * (now[metric][end] - before[metric]["value"]) for end in ends)
            sentence = f"The {title(metric)} is {_against(now[metric], before[metric])}."
            yield rule, harm, now[metric]["value"], sentence, {}
    gap, gain = now.get("gap"), now.get("gain")
    if gap and not gap[ends[0]] <= 0 <= gap[ends[-1]]:
        sentence = f"Predicted less observed {decisions.level_name(problem)} is {with_interval(gap)}."
        yield "calibration", abs(gap["value"]), gap["value"], sentence, {}
    limit, usual = rules.gain.limit, "gain" not in record.get("outside", ["gain"])
    if gain and (gain.get("high", limit) < limit or (gain.get("low", gain["value"]) < limit and not usual)):
        sentence = f"The gain over the best policy without a model is {against_zero(gain)}."
        yield "gain", inf, gain["value"], sentence, {}
    if worse := [each for each in record.get("slices") or [] if each["worse"] > rules.slices.limit]:
        first = ", ".join(f"{each['subject']} ({each['gap']:+.2f}, was {each['held']:+.2f})" for each in worse[:3])
        sentence = f"In {len(worse)} slices predicted less observed is larger than on the holdout: {first}."
        yield "slices", worse[0]["worse"], worse[0]["worse"], sentence, {}


def _against(figure: dict[str, float], before: dict[str, float]) -> str:
    return f"{with_interval(figure)}, {with_interval({'value': before['value']})} on the holdout"
