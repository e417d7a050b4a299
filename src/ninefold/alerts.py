"""When a figure alerts, and what follows: rules with a limit each, judged by the close of a period."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ninefold.core import decisions, gate
from ninefold.core.params import Duration, Section, Text
from ninefold.core.scores import ERROR, RANKING, title, with_interval

CHANCE = 3.0  # standard deviations of a count of independent rows, beyond which it is no chance
MOSTLY = 0.5  # of the rows that a broken column spoils, from which on nothing is decided by them
OUTSIDE = {  # rule -> the figures of `core.examination` of which one has to be beyond its natural variation
    "volume": ("rows per day",),
    "predictions": ("psi: the forecast", "mean forecast", "expected payoff"),
    "outcomes": ("outcome",),
    "ranking": ("ranking",),
    "error": ("loss",),
    "calibration": ("gap",),
    "gain": ("gain",),
    "slices": ("slices",),
}


class Rule(Section):
    """The limit from which on a figure alerts, how much that matters, and to whom."""

    limit: float = Field(ge=0)
    severity: Literal["low", "medium", "high"]
    owner: Text | None = None


class Rules(Section):
    """One rule for every figure that can alert; of quantities, some limits are in the target's own unit."""

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


class Decide(Section):
    """What the alerts of a period lead to."""

    roll_back: float
    stop_broken: int = Field(default=1, ge=1)
    retrain_high: int = Field(ge=1)
    retrain_drifted: float = Field(gt=0, le=1)
    rest: Duration = "28d"


def raised(
    record: dict[str, Any], promise: dict[str, Any], rules: Rules, stated: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return what alerts in one period: ``alert``, ``subject``, ``severity``, ``owner``, ``value``, ``limit``, ``sentence``.

    Performance is held against the holdout, where it was promised. It alerts only if its whole interval is beyond the
    limit: what a few unlucky days could do is no alert. And where the record tells which figures left their natural
    variation (``outside``, see `core.examination`), only those alert: a stable stream has weeks that differ.
    """
    found = [*_arrival_alerts(record, promise, rules), *_service_alerts(record, rules), *_column_alerts(record, rules)]
    found += [*_input_alerts(record, rules), *_expected_alerts(record, promise, rules, stated)]
    found += [*_outcome_alerts(record, promise, rules, stated), *_slice_alerts(record, rules)]
    return gate.tidy([each for each in found if _is_outside(each["alert"], record)])


def decide(record: dict[str, Any], rules: Decide) -> dict[str, Any]:
    """Return the ``decision`` at the close of a period, and its ``reasons``.

    Stop acting, and fall back to the best policy without a model, if so many columns came in broken: what is decided on
    them is worth nothing, and a model that is fitted to them no more. Roll back if the whole interval of the gain over the
    best policy without a model is below `rules.roll_back`: then the model does harm, and no retraining is quick enough.
    Retrain if enough alerts are high, or enough features drifted. Otherwise keep.
    """
    strange = set(record.get("outside") or [])
    broken: list[str] = [
        each["sentence"]
        for each in record.get("findings", [])
        if each["cause"] == "broken column"
        and each["evidence"]["explains"] >= MOSTLY
        and strange & {f"{kind}: {each['subject']}" for kind in ("missing", "psi")}
    ]
    if len(broken) >= rules.stop_broken:
        return {"decision": "stop acting", "reasons": broken}
    gain = record["figures"].get("gain")
    high = [alert["sentence"] for alert in record["alerts"] if alert["severity"] == "high"]
    count = len(_drifted(record))
    drifted, moved = count / max(record["features"], 1), f"{count} of {record['features']} features drifted"
    worth = f"the gain over the best policy without a model is {with_interval(gain)}"
    if gain and gain["high"] < rules.roll_back and _is_outside("gain", record):
        return {"decision": "roll back", "reasons": [f"{worth[:1].upper() + worth[1:]}."]}
    reasons = high if len(high) >= rules.retrain_high else []
    if drifted >= rules.retrain_drifted:
        reasons = [*reasons, f"{moved}, which is at least {rules.retrain_drifted:.0%}."]
    if reasons:
        return {"decision": "retrain", "reasons": reasons}
    told = worth if gain else "of the outcomes too little is known yet"
    return {"decision": "keep", "reasons": [f"{len(high)} alerts of severity high; {moved}; {told}."]}


def _arrival_alerts(record: dict[str, Any], promise: dict[str, Any], rules: Rules) -> list[dict[str, Any]]:
    broken, found = record["quarantined"] / max(record["raw"], 1), []
    if broken > rules.quarantined.limit:
        found.append(_alert("quarantined", rules.quarantined, broken, f"{broken:.2%} of the rows broke the contract."))
    if promise["per_day"] is None:  # without time nothing is usual in a day
        return found
    usual = promise["per_day"] * record["days"]
    change = record["predictions"] / usual - 1
    if abs(change) > rules.volume.limit and abs(record["predictions"] - usual) > CHANCE * usual**0.5:
        daily = record["predictions"] / record["days"]
        sentence = f"{_rate(daily)} rows a day, {change:+.0%} against {_rate(promise['per_day'])} in training."
        found.append(_alert("volume", rules.volume, change, sentence))
    return found


def _is_outside(alert: str, record: dict[str, Any]) -> bool:
    """Return whether a figure of an alert is beyond its natural variation, as far as that is known."""
    if record.get("outside") is None or alert not in OUTSIDE:
        return True
    return any(name.split(": ")[0] in OUTSIDE[alert] or name in OUTSIDE[alert] for name in record["outside"])


def _drifted(record: dict[str, Any]) -> dict[str, float]:
    """Return the features that drifted, and their PSI; where natural variation is known, those beyond it."""
    if record.get("outside") is None:
        return dict(record["drifted"])
    return {name: value for name, value in record["drifted"].items() if f"psi: {name}" in record["outside"]}


def _service_alerts(record: dict[str, Any], rules: Rules) -> list[dict[str, Any]]:
    """Return the alerts of what the service did and saw, where it was there."""
    found, seen = [], record.get("service") or {}
    if seen.get("requests"):
        failed, slow = seen["errors"] / seen["requests"], seen["slow"] / seen["requests"]
        if failed > rules.failures.limit:
            sentence = f"{failed:.1%} of {seen['requests']:,} requests failed (status 500 or more)."
            found.append(_alert("failures", rules.failures, failed, sentence))
        if slow > rules.latency.limit:
            sentence = f"{slow:.1%} of {seen['requests']:,} requests took longer than the latency budget."
            found.append(_alert("latency", rules.latency, slow, sentence))
    for each in record.get("skew") or []:
        if each["share"] > rules.skew.limit:
            sentence = f"{each['feature']} was served unlike the pipeline builds it in {each['share']:.1%} of the rows."
            found.append(_alert("skew", rules.skew, each["share"], sentence, each["feature"]))
    return found


def _column_alerts(record: dict[str, Any], rules: Rules) -> list[dict[str, Any]]:
    """Return the alerts of columns with more missing values, or unseen categories, than ever before."""
    found = []
    for kind, rule, what in (
        ("missing", rules.missing, "is missing in"),
        ("unseen", rules.categories, "has a category that training did not have in"),
    ):
        for name in record.get("outside") or []:
            if name.startswith(f"{kind}: "):
                figure, subject = record["natural"][name], name.removeprefix(f"{kind}: ")
                if figure["value"] - figure["usual"] > rule.limit:
                    sentence = f"{subject} {what} {figure['value']:.1%} of the rows; usual are {figure['usual']:.1%}."
                    alert = "categories" if kind == "unseen" else kind
                    found.append(_alert(alert, rule, figure["value"], sentence, subject))
    return found


def _input_alerts(record: dict[str, Any], rules: Rules) -> list[dict[str, Any]]:
    found, drifted, psi = [], _drifted(record), record["prediction_psi"]
    if record.get("outside") is not None:
        joint = record["natural"].get("joint auc", {"value": 0.5})["value"]
        if "joint auc" in record["outside"] and joint > rules.joint.limit:
            sentence = (
                f"A classifier tells the rows from those learned from with a ROC AUC of {joint:.2f}; 0.5 is by chance."
            )
            found.append(_alert("joint", rules.joint, joint, sentence))
    if drifted:
        first = ", ".join(f"{name} ({value:.2f})" for name, value in list(drifted.items())[:3])
        sentence = f"{len(drifted)} of {record['features']} features drifted; farthest, by PSI: {first}."
        found.append(_alert("inputs", rules.inputs, max(drifted.values()), sentence))
    if record["predictions_drifted"]:
        sentence = f"The forecasts are distributed unlike those for the holdout: PSI {psi:.2f}."
        found.append(_alert("predictions", rules.predictions, psi, sentence))
    return found


def _expected_alerts(
    record: dict[str, Any], promise: dict[str, Any], rules: Rules, stated: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the alert of an error that is expected before outcomes are known, while too few are."""
    name = ERROR[stated["task"]]
    foreseen, held = (record.get("estimated") or {}).get(name), promise["figures"].get(name)
    if not foreseen or not held or record["figures"] or foreseen["low"] - held["value"] <= rules.expected.limit:
        return []
    was = with_interval({"value": held["value"]})
    sentence = f"Outcomes are not known yet; the {title(name)} to expect is {with_interval(foreseen)}, on the holdout it was {was}."
    return [_alert("expected", rules.expected, foreseen["value"], sentence)]


def _slice_alerts(record: dict[str, Any], rules: Rules) -> list[dict[str, Any]]:
    """Return the alerts of parts in which forecasts went further off than on the holdout."""
    found = [each for each in record.get("slices") or [] if each["worse"] > rules.slices.limit]
    if not found:
        return []
    told = [f"{each['subject']} ({each['gap']:+.2f}, was {each['held']:+.2f})" for each in found[:3]]
    sentence = f"In {len(found)} parts forecasts are farther off than on the holdout, by predicted less observed: {', '.join(told)}."
    return [_alert("slices", rules.slices, found[0]["worse"], sentence)]


def _outcome_alerts(
    record: dict[str, Any], promise: dict[str, Any], rules: Rules, stated: dict[str, Any]
) -> list[dict[str, Any]]:
    now, held, task = record["figures"], promise["figures"], stated["task"]
    gap, gain = now.get("gap"), now.get("gain")
    skills = [with_interval({"value": each["skill"]["value"]}) for each in (now, held) if "skill" in each]
    told = "; the skill is {}, and was {}".format(*skills) if len(skills) == 2 else ""
    found = [
        *_level_alerts(record["levels"], promise["levels"], rules.outcomes),
        *_loss("ranking", RANKING[task], -1, record, promise, rules.ranking, ""),
        *_loss("error", ERROR[task], 1, record, promise, rules.error, told),
    ]
    if gap and abs(gap["value"]) > rules.calibration.limit and not gap["low"] <= 0 <= gap["high"]:
        sentence = f"Predicted less observed {decisions.level_name(stated)} is {with_interval(gap)}."
        found.append(_alert("calibration", rules.calibration, gap["value"], sentence))
    if gain and gain["low"] < rules.gain.limit:
        sentence = f"The gain over the best policy without a model is {with_interval(gain)}: it is not sure to be one."
        found.append(_alert("gain", rules.gain, gain["value"], sentence))
    return found


def _level_alerts(now: dict[str, Any], held: dict[str, Any], rule: Rule) -> list[dict[str, Any]]:
    """Return the alert of the level that moved most, if any is beyond the limit and its interval does not reach back."""
    moved = {
        name: level["value"] - held[name]["value"]
        for name, level in now.items()
        if name in held and not level["low"] <= held[name]["value"] <= level["high"]
    }
    name = max(moved, key=lambda each: abs(moved[each]), default="")
    if not name or abs(moved[name]) <= rule.limit:
        return []
    was = with_interval({"value": held[name]["value"]})
    sentence = f"The {name} is {with_interval(now[name])}, and was {was} on the holdout."
    return [_alert("outcomes", rule, moved[name], sentence)]


def _loss(
    alert: str, metric: str, sign: int, record: dict[str, Any], promise: dict[str, Any], rule: Rule, more: str
) -> list[dict[str, Any]]:
    """Return the alert if the whole interval of a score is worse than the holdout's value (higher, if `sign` is 1)."""
    now, held = record["figures"].get(metric), promise["figures"].get(metric)
    if not now or not held:
        return []
    worse = now["low"] - held["value"] if sign > 0 else held["value"] - now["high"]
    if worse <= rule.limit:
        return []
    was = with_interval({"value": held["value"]})
    sentence = f"The {title(metric)} is {with_interval(now)}, and was {was} on the holdout{more}."
    return [_alert(alert, rule, now["value"], sentence)]


def _alert(name: str, rule: Rule, value: float, sentence: str, subject: str | None = None) -> dict[str, Any]:
    told = {"alert": name, "severity": rule.severity, "value": value, "limit": rule.limit, "sentence": sentence}
    return told | ({"subject": subject} if subject else {}) | ({"owner": rule.owner} if rule.owner else {})


def _rate(per_day: float) -> str:
    return f"{per_day:,.0f}" if per_day >= 10 else f"{per_day:.2g}"
