"""What to do at the close of a period: keep the model, retrain it, repair the data, roll it back, or stop acting on it."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from ninefold import incidents
from ninefold.metrics import with_interval
from ninefold.monitoring.alerts import FAULTS, broken_columns, describe_drifted, drifted_features, is_fault
from ninefold.monitoring.texts import say
from ninefold.params import Duration, Section

MOST_ROWS_BROKEN = 0.5  # share of the rows that a broken column has to spoil before acting stops
BROKEN = f"columns broken in {MOST_ROWS_BROKEN:.0%} of the rows or more"
UNKNOWN = "Too few outcomes are known."
NOTHING = "Nothing has arrived since the model was built."
EVIDENCE = ("period", "closed", "decision", "reasons", "rules", "alerts", "findings")  # keys of a record
KEYS = ("rule", "measure", "value", "limit", "status", "why")  # of a rule in it


class Decide(Section):
    """Limits of the rules in `decide`."""

    roll_back: float
    stop_broken: int = Field(default=1, ge=1)
    repair_faults: int = Field(default=1, ge=1)
    retrain_high: int = Field(ge=1)
    retrain_drifted: float = Field(gt=0, le=1)
    rest: Duration = "28d"


def decide(record: Mapping[str, Any], rules: Decide) -> dict[str, Any]:
    """Return the ``decision`` at the close of a period (before it ``open``), ``reasons``, and ``rules``: the first to hold applies.

    1. ``stop acting``: at least `rules.stop_broken` columns are broken in at least `MOST_ROWS_BROKEN` of the rows.
    2. ``roll back``: the whole interval of the gain over the best baseline policy is below `rules.roll_back`.
    3. ``repair``: at least `rules.repair_faults` alerts are faults of the data or the service, see `alerts.is_fault`.
    4. ``retrain``: at least `rules.retrain_high` other alerts of severity high, or `rules.retrain_drifted` of the features
       drifted (share, 0-1), those with a fault not counted. Else 5. ``keep``.

    Each of ``rules`` has `KEYS`; ``status`` is applies, suspended by the one that does, or does not hold.
    """
    if not record["closed"]:
        return {"decision": "open", "reasons": [say("open", end=record["end"])], "rules": []}
    alerts, gain = record["alerts"], record["figures"].get("gain")
    faults, columns = [each["sentence"] for each in alerts if is_fault(each)], broken_columns(alerts)
    high = [each["sentence"] for each in alerts if each["severity"] == "high" and each["alert"] not in FAULTS]
    broken = sum(share >= MOST_ROWS_BROKEN for share in columns.values())
    drifted = len(drifted_features(record, alerts)) / max(record["features"], 1)
    spoilt = say("spoilt", count=len(columns), most=max(columns.values(), default=0))
    outcome = say("gain", gain=gain) if gain else UNKNOWN
    drift, calm = f"{describe_drifted(record, alerts)}.", f"{len(high)} alerts of severity high, faults apart."
    applied: list[tuple[str, str, Any, float, list[str]]] = [
        ("stop acting", BROKEN, broken, rules.stop_broken, [spoilt]),
        ("roll back", "interval of the gain", with_interval(gain), rules.roll_back, [outcome]),
        ("repair", "faults of data or service", len(faults), rules.repair_faults, faults or ["No fault."]),
        ("retrain", "other alerts of severity high", len(high), rules.retrain_high, high or [calm]),
        ("retrain", "share of features drifted", drifted, rules.retrain_drifted, [drift]),
    ]
    table, decision, reasons = list[dict[str, Any]](), "", list[str]()
    for rule, measure, value, limit, why in applied:
        holds = bool(gain) and gain.get("high", limit) < limit if rule == "roll back" else value >= limit
        decision = decision or (rule if holds else "")
        status = "does not hold" if not holds else "applies" if rule == decision else f"suspended by {decision}"
        reasons += why if status == "applies" else []
        text = value if isinstance(value, str) else f"{value:.3g}"
        least = f"{'below' if rule == 'roll back' else 'at least'} {limit:g}"
        table.append(dict(zip(KEYS, (rule, measure, text, least, status, why), strict=True)))
    reasons += faults if decision in ("stop acting", "roll back") else []
    reasons = reasons or [f"No rule holds. {calm} {drift} {outcome}"]
    return {"decision": decision or "keep", "reasons": reasons, "rules": table}


def conclude(records: Sequence[Mapping[str, Any]], model: str, policy: str, works: str = "") -> dict[str, Any]:
    """Return the decision of the last closed period with its evidence and the fallback: ``decision.json``.

    `works` is of `Monitor.decide`, `policy` to be followed without the model.
    """
    none = {"decision": "keep", "reasons": ["No period is closed yet." if records else NOTHING]}
    last = incidents.last_closed(records) or none
    conclusion = {"decision": last["decision"], "reasons": last["reasons"], "works": works, "model": model}
    conclusion["fallback"] = f"the version before, or the policy '{policy}'"
    return conclusion | {"periods": [{key: each[key] for key in EVIDENCE if key in each} for each in records]}
