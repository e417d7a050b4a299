"""Which figures of a period alert: one rule with one limit for each, evaluated at its close."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from math import inf
from typing import Any, Literal, TypeAlias

from pydantic import Field

from ninefold import gate
from ninefold.monitoring.texts import say
from ninefold.params import Section, Text
from ninefold.problem import ERROR, RANKING, Problem

Alert = dict[str, Any]
Record = Mapping[str, Any]
Candidate: TypeAlias = tuple[str, float, float, Alert]  # rule, measure, value, facts for the sentence and for `MORE`
MORE = ("sentence", "subject", "columns")  # facts that the alert has too, or instead of its own
NOISE = 3.0  # standard deviations of a count of independent rows; a smaller change is sampling noise
# Rule -> the figure of `monitoring.report`, or one by class, that has to be beyond its control limits.
FIGURES = {"volume": "rows per day", "outcomes": "outcome", "error": "loss", "calibration": "gap"}
FIGURES |= {"ranking": "ranking", "slices": "slices"}
FAULTS = ("missing", "broken", "quarantined", "volume", "skew", "failures", "latency")  # rules that no retraining fixes
AT_ONCE = {*FAULTS, "categories"} - {"volume"}  # rules that wait for no close


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
    inputs: Rule = _rule("PSI of a feature without a fault against all earlier rows, if it drifted")
    predictions: Rule = _rule("PSI of the predictions against the holdout, if they drifted")
    outcomes: Rule = _rule("change of the {share} against the holdout, either way")
    ranking: Rule = _rule("loss of {ranking} against the holdout")
    error: Rule = _rule("rise of {error} above the holdout's")
    calibration: Rule = _rule("predicted minus observed {level}, either way")
    gain: Rule = _rule(
        "payoff per {unit} over the best baseline policy: its interval, or its low end if it is unusual, below the limit"
    )


def alerts(record: Record, baseline: Record, rules: Rules, problem: Problem) -> list[Alert]:
    """Return the alerts of one period, from its record and the baseline metrics of `stage`.

    Performance alerts if it is beyond the limit, against the holdout, and beyond its control limits (``outside``, see
    `monitoring.report`). Drifted features always alert, and so does a gain whose whole interval is under the limit. A period
    that is not ``closed`` raises those `AT_ONCE` alone. Columns that are missing for one cause are one alert. The keys are
    ``alert`` (the rule), ``severity``, ``value``, ``limit``, ``sentence``, and for some ``subject``, ``owner``, ``columns``
    with a fault (name -> share of the rows, 0-1).
    """
    raised = [*_raised(chain(_rows(record, baseline), _columns(record, rules)), record, rules)]
    candidates = chain(_inputs(record, raised), _outcomes(record, baseline, rules, problem))
    return gate.tidy([*raised, *_raised(candidates, record, rules)])


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
    return say("drifted", record=record, faulty=len(record["drifted"]) - len(drifted_features(record, raised)))


def missing_causes(names: Iterable[str], record: Record) -> Iterator[tuple[dict[str, float], str, str]]:
    """Yield why columns miss values: those of a joined table have one cause, as have those without a value since one day.

    It is the columns (name -> share of the rows without a value, 0-1), a sentence, and a short name.
    """
    ended, natural, joined = (record[key] for key in ("ended", "natural", "joined"))
    named, groups = list(names), dict[Any, list[str]]()
    for name in dict.fromkeys([*ended, *named]):
        since, table = ended.get(name, {}).get("since"), joined.get(name)
        groups.setdefault((since, table, None if since or table else name), []).append(name)
    for (since, table, _), columns in groups.items():
        if not {*named}.intersection(columns):
            continue
        shares = {name: natural[f"missing: {name}"]["value"] for name in columns}
        usual = max(natural[f"missing: {name}"]["usual"] or 0 for name in columns)
        short = f"{len(columns)} columns{f' of {table}' if table else ''}" if len(columns) > 1 else ""
        yield shares, say("missing", shares=shares, short=short, since=since, usual=usual), short or columns[0]


def _raised(candidates: Iterable[Candidate], record: Record, rules: Rules) -> Iterator[Alert]:
    outside = {name.split(": ")[0] for name in record["outside"]}
    for name, measure, value, facts in candidates:
        rule: Rule = getattr(rules, name)
        is_due = record["closed"] or name in AT_ONCE
        if measure > rule.limit and is_due and (name not in FIGURES or FIGURES[name] in outside):
            sentence = facts.get("sentence") or say(name, value=value, record=record, **facts)
            alert = {"alert": name, "severity": rule.severity, "value": value, "limit": rule.limit}
            alert |= {"sentence": sentence} | {key: facts[key] for key in MORE if key in facts}
            yield alert | ({"owner": rule.owner} if rule.owner else {})


def _rows(record: Record, baseline: Record) -> Iterator[Candidate]:
    broken, usual = record["quarantined"] / max(record["raw"], 1), (baseline["per_day"] or 0) * record["days"]
    yield "quarantined", broken, broken, {}
    if usual and abs(record["predictions"] - usual) > NOISE * usual**0.5:
        change = record["predictions"] / usual - 1
        yield "volume", abs(change), change, {"usual": baseline["per_day"]}
    if requests := record.get("service", {}).get("requests"):  # a replay has no service
        for name, count in (("failures", "errors"), ("latency", "slow")):
            share = record["service"][count] / requests
            yield name, share, share, {"requests": requests}
    for each in record.get("skew", []):
        yield "skew", each["share"], each["share"], {"subject": each["feature"]}


def _columns(record: Record, rules: Rules) -> Iterator[Candidate]:
    natural, empty = record["natural"], [name for name in record["outside"] if name.startswith("missing: ")]
    rise = {name: natural[name]["value"] - natural[name]["usual"] for name in empty}
    empty = [name.removeprefix("missing: ") for name in rise if rise[name] > rules.missing.limit]
    for columns, sentence, subject in missing_causes(empty, record):
        yield "missing", inf, max(columns.values()), {"sentence": sentence, "subject": subject, "columns": columns}
    for each in record["findings"]:
        name, share = each["subject"], each["evidence"]["explains"]
        how = each["evidence"].get("how") if each["cause"] == "broken column" else None
        if how == "unit" or (how == "constant" and name in record["drifted"]):
            yield "broken", share, share, {"sentence": each["sentence"], "subject": name, "columns": {name: share}}


def _inputs(record: Record, raised: list[Alert]) -> Iterator[Candidate]:
    for name in (name for name in record["outside"] if name.startswith("unseen: ")):
        value, usual = (record["natural"][name][key] for key in ("value", "usual"))
        yield "categories", value - usual, value, {"subject": name.removeprefix("unseen: "), "usual": usual}
    if "joint auc" in record["outside"]:
        auc = record["natural"]["joint auc"]["value"]
        yield "joint", auc, auc, {}
    if drifted := drifted_features(record, raised):
        first = list(drifted.items())[:3]
        yield "inputs", inf, max(drifted.values()), {"drifted": describe_drifted(record, raised), "first": first}
    if record["predictions_drifted"]:
        yield "predictions", inf, record["prediction_psi"], {}


def _outcomes(record: Record, baseline: Record, rules: Rules, problem: Problem) -> Iterator[Candidate]:
    now, before, error = record["figures"], baseline["figures"], ERROR[problem.task]
    estimate = record["estimated"].get(error)
    if estimate and error in before and not now:  # too few outcomes are known to measure it
        facts = {"metric": error, "now": estimate, "before": before[error]["value"]}
        yield "expected", estimate["low"] - before[error]["value"], estimate["value"], facts
    changes = []
    for name, level in record["levels"].items():
        if was := baseline["levels"].get(name):
            changes.append((level["value"] - was["value"], {"name": name, "now": level, "before": was["value"]}))
    if changes:
        change, facts = max(changes, key=lambda each: abs(each[0]))
        yield "outcomes", abs(change), change, facts
    for rule, metric, sign in (("ranking", RANKING[problem.task], -1), ("error", error, 1)):
        if metric in now and metric in before:
            value, usual = now[metric]["value"], before[metric]["value"]
            yield rule, sign * (value - usual), value, {"metric": metric, "now": now[metric], "before": usual}
    if gap := now.get("gap"):
        yield "calibration", abs(gap["value"]), gap["value"], {"gap": gap, "problem": problem}
    gain, limit, unusual = now.get("gain"), rules.gain.limit, "gain" in record["outside"]
    if gain and (gain.get("high", limit) < limit or (gain.get("low", gain["value"]) < limit and unusual)):
        yield "gain", inf, gain["value"], {"gain": gain}
    if worse := [each for each in record["slices"] if each["worse"] > rules.slices.limit]:
        yield "slices", worse[0]["worse"], worse[0]["worse"], {"worse": worse}
