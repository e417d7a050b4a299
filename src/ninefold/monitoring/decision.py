"""What to do at the close of a period: keep the model, retrain it, roll it back, or stop acting on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from ninefold import incidents
from ninefold.metrics import EvaluationPlan, with_interval
from ninefold.monitoring.alerts import is_unusual
from ninefold.params import Duration, Section

MOST_ROWS_BROKEN = 0.5  # share of the rows that a broken column has to spoil before acting stops
NOTHING = "Nothing has arrived since the model was built."
EVIDENCE = ("period", "closed", "decision", "reasons", "alerts", "findings")  # keys of a record


class Decide(Section):
    """Limits of the rules in `decide`."""

    roll_back: float
    stop_broken: int = Field(default=1, ge=1)
    retrain_high: int = Field(ge=1)
    retrain_drifted: float = Field(gt=0, le=1)
    rest: Duration = "28d"


def decide(record: Mapping[str, Any], rules: Decide) -> dict[str, Any]:
    """Return the ``decision`` at the close of a period, and its ``reasons``: the first rule that applies; ``open`` before it.

    1. ``stop acting``, and follow the best policy without a model: at least `rules.stop_broken` columns are broken, with
       missing values beyond the control limits, or drifted.
    2. ``roll back``: the whole interval of the gain over the best policy without a model is below `rules.roll_back`, and
       the gain is beyond its control limits, if it has any.
    3. ``retrain``: at least `rules.retrain_high` alerts of severity high, or `rules.retrain_drifted` of the features
       drifted (share, 0-1).
    4. ``keep``.
    """
    if not record.get("closed", True):
        end = record["end"][:16].replace("T", " ")
        reason = f"The period is open until {end} UTC; before its close only faults of data and service alert."
        return {"decision": "open", "reasons": [reason]}
    outside = set(record.get("outside") or [])
    broken = [each for each in record.get("findings", []) if each["cause"] == "broken column"]
    broken = [
        each for each in broken if f"missing: {each['subject']}" in outside or each["subject"] in record["drifted"]
    ]
    broken = [each["sentence"] for each in broken if each["evidence"]["explains"] >= MOST_ROWS_BROKEN]
    if len(broken) >= rules.stop_broken:
        return {"decision": "stop acting", "reasons": broken}
    gain = record["figures"].get("gain")
    outcome = f"the gain over the best policy without a model is {with_interval(gain)}"
    if gain and gain["high"] < rules.roll_back and is_unusual("gain", record):
        return {"decision": "roll back", "reasons": [f"{outcome.capitalize()}."]}
    high = [alert["sentence"] for alert in record["alerts"] if alert["severity"] == "high"]
    count, features = len(record["drifted"]), record["features"]
    drift = f"{count} of {features} features drifted"
    reasons = high if len(high) >= rules.retrain_high else []
    if count / max(features, 1) >= rules.retrain_drifted:
        reasons = [*reasons, f"{drift}, which is at least {rules.retrain_drifted:.0%}."]
    if reasons:
        return {"decision": "retrain", "reasons": reasons}
    known = outcome if gain else "too few outcomes are known yet"
    return {"decision": "keep", "reasons": [f"{len(high)} alerts of severity high; {drift}; {known}."]}


def conclude(records: Sequence[Mapping[str, Any]], plan: EvaluationPlan, version: str) -> dict[str, Any]:
    """Return the decision of the last closed period with its evidence and the fallback: ``decision.json``."""
    none = {"decision": "keep", "reasons": ["No period is closed yet." if records else NOTHING]}
    last = incidents.last_closed(records) or none
    fallback = f"the version before, or the policy '{plan.best_baseline}'"
    conclusion = {"decision": last["decision"], "reasons": last["reasons"], "model": version, "fallback": fallback}
    return conclusion | {"periods": [{key: each[key] for key in EVIDENCE if key in each} for each in records]}
