"""The tables of stage 09 for reading, and the sentences below them."""

import pandas as pd

from ninefold import incidents
from ninefold.metrics import with_interval
from ninefold.monitoring.alerts import Rules, missing_causes
from ninefold.monitoring.answers import AT_CLOSE, HOLDOUT, STATES
from ninefold.monitoring.arrivals import MOST_PERIODS, Record
from ninefold.monitoring.backtest import Followed
from ninefold.monitoring.decision import NOTHING
from ninefold.monitoring.params import Params
from ninefold.monitoring.texts import say
from ninefold.problem import ERROR, RANKING, Problem, decisions, listed, title

SCORED = {
    "binary": ("roc_auc", "log_loss", "brier"),
    "multiclass": ("roc_auc", "log_loss", "brier", "accuracy"),
    "regression": ("rank_correlation", "rmse", "mae", "covered"),
}
NONE_YET = "none yet"
UNUSUAL = 5  # columns named, per figure


def arrival_table(arrivals: pd.DataFrame, holdout: pd.DataFrame, problem: Problem) -> pd.DataFrame:
    """Return, for reading, how many labels of each period arrived when, and the level of the outcome; first the holdout."""
    levels = ["level at close", "level in the end"]
    first = {"period": HOLDOUT, "predictions": len(holdout), **dict.fromkeys(STATES, 0), AT_CLOSE: len(holdout)}
    first |= dict.fromkeys(levels, decisions.event(holdout[problem.target].to_numpy(), problem).mean())
    table = pd.DataFrame([first, *arrivals.to_dict("records")], columns=list(arrivals))
    table[levels] = table[levels].map(lambda value: None if value != value else decisions.show_level(value, problem))
    table = table.astype(dict.fromkeys(["raw", "quarantined", "predictions", *STATES], "Int64"))
    return table.rename(columns={column: column.replace("level", decisions.level_name(problem)) for column in levels})


def describe_arrival(volume: pd.DataFrame, params: Params, problem: Problem, version: str) -> str:
    """Return how much came, as a sentence; where nothing did, why, and what can be read here all the same."""
    silent = (volume["closed"] & (volume["ready"] == 0)).sum()
    facts = {"total": volume.sum(numeric_only=True), "periods": len(volume), "silent": silent, "version": version}
    return say("arrival", **facts, params=params, problem=problem, most=MOST_PERIODS)


def describe_arrivals(arrivals: pd.DataFrame, params: Params, problem: Problem) -> str:
    """Return how complete the labels were when they were needed, as a sentence."""
    total, digits = arrivals["predictions"].sum(), 3 if problem.is_class else 12  # as shown
    shift = arrivals["level in the end"].round(digits) - arrivals["level at close"].round(digits)
    most = shift.abs().fillna(0).max()
    return say("arrivals", total=total, known=arrivals[AT_CLOSE].sum(), most=most, sign_text=sign_text, problem=problem)


def figures_by_period(records: list[Record], baseline: Record) -> dict[str, Record]:
    """Return period -> its figures, first those of the holdout."""
    return {HOLDOUT: baseline["figures"], **{record["period"]: record["figures"] for record in records}}


def scorecard(records: list[Record], baseline: Record, problem: Problem) -> pd.DataFrame:
    """Return the figures of each period as text with intervals, above them those of the holdout."""
    names = [*SCORED[problem.task], "skill", "observed", "predicted", "payoff", "gain"]
    rows = figures_by_period(records, baseline)
    columns = {title(name): [with_interval(figures.get(name)) for figures in rows.values()] for name in names}
    return pd.DataFrame({"period": rows.keys(), **columns})


def cause_table(reports: dict[str, Record]) -> pd.DataFrame:
    """Return, per period, the figures beyond their natural variation, and every cause, largest first."""
    rows: list[tuple[str | None, ...]] = []
    for period, report in reports.items():
        names, kinds = report["outside"], dict[str, list[str]]()
        for kind, _, subject in (name.partition(": ") for name in names):
            kinds.setdefault(kind, []).extend([subject] if subject else [])
        shown = [f"{kind} ({listed(subjects, UNUSUAL)})" if subjects else kind for kind, subjects in kinds.items()]
        figures = ", ".join(shown) or None
        none = {"cause": "none found" if names else "nothing unusual", "sentence": ""}
        empty = [each["subject"] for each in report["findings"] if each["evidence"].get("how") == "missing"]
        merged = [{"cause": "broken column", "sentence": sentence} for _, sentence, _ in missing_causes(empty, report)]
        others = [each for each in report["findings"] if each["subject"] not in empty]
        for each in [*merged, *others] or [none]:
            rows.append((period, figures, each["cause"], each["sentence"]))
            figures = ""
    columns = ["period", "beyond its variation", "cause", "evidence"]
    return pd.DataFrame(rows or [(NONE_YET, None, None, NOTHING)], columns=columns)


def describe_unusual(reports: dict[str, Record], params: Params) -> str:
    """Return in how many periods anything was unusual, as a sentence."""
    unusual = sum(bool(report["outside"]) for report in reports.values())
    return say("unusual", unusual=unusual, count=len(reports), level=params.false_alarms)


def rule_table(records: list[Record], baseline: Record, params: Params, problem: Problem) -> pd.DataFrame:
    """Return every rule: ``rule``, ``watches``, ``alerts beyond``, ``severity``, ``on the holdout``, ``raised in``."""
    level, ranking, error = decisions.level_name(problem), RANKING[problem.task], ERROR[problem.task]
    share = "share of any class" if problem.task == "multiclass" else level
    names = {"level": level, "share": share, "ranking": title(ranking), "error": title(error), "unit": problem.unit}
    figures = {"outcomes": "observed", "ranking": ranking, "error": error, "calibration": "gap", "gain": "gain"}
    rows = []
    for name, rule in params.alerts:
        raised = [record["period"] for record in records if name in [alert["alert"] for alert in record["alerts"]]]
        watches, before = Rules.model_fields[name].description or "", baseline["figures"].get(figures.get(name))
        shown = [rule.limit, rule.severity, with_interval(before), ", ".join(raised) or "none"]
        rows.append((name, watches.format(**names), *shown))
    columns = ["rule", "watches", "alerts beyond", "severity", "on the holdout", "raised in"]
    return pd.DataFrame(rows, columns=columns).astype({"alerts beyond": "object"})


def alert_table(records: list[Record]) -> pd.DataFrame:
    """Return every alert of every period for reading; a period without any has a line that says so."""
    columns = ["period", "alert", "severity", "sentence"]
    rows: list[Record] = []
    for record in records:
        alerts = record["alerts"] or [{"alert": "none", "sentence": "No figure is beyond its limit."}]
        rows += [{**alert, "period": record["period"]} for alert in alerts]
    rows = rows or [{"period": NONE_YET, "alert": "none", "sentence": NOTHING}]
    return pd.DataFrame(rows, columns=columns).rename(columns={"sentence": "what was found"})


def decision_table(decision: Record) -> pd.DataFrame:
    """Return the decision at the close of each period, of every rule its value and whether it applied, and the reasons."""
    rows = []
    for each in decision["periods"] or [{**decision, "period": NONE_YET}]:
        row = {"close of": each["period"], "decision": each["decision"]}
        for one in each.get("rules", []):
            row[f"{one['rule']}: {one['measure']} ({one['limit']})"] = f"{one['value']}, {one['status']}"
        rows.append(row | {"reasons": " ".join(each["reasons"])})
    return pd.DataFrame(rows)


def last_rules(decision: Record) -> pd.DataFrame:
    """Return every rule at the last close in its order: ``rule``, ``measure``, ``value``, ``limit``, ``status`` and ``why``."""
    rules = (incidents.last_closed(decision["periods"]) or {}).get("rules", [])
    columns = ["rule", "measure", "value", "limit", "status", "why"]
    return pd.DataFrame([{**each, "why": " ".join(each["why"])} for each in rules], columns=columns)


def strategy_table(table: pd.DataFrame, problem: Problem) -> pd.DataFrame:
    """Return the table of `backtest.compare` for reading: figures as text with their intervals."""
    error = ERROR[problem.task]
    shown = table[["strategy", "retrainings"]].rename(columns={"strategy": "retrained"})
    for name, text in {error: title(error), "payoff": f"payoff per {problem.unit}", "gain": "above never"}.items():
        shown[text] = [with_interval(row_figure(row, name)) for _, row in table.iterrows()]
    return shown


def retraining_table(followed: dict[str, Followed]) -> pd.DataFrame:
    """Return every retraining, for reading: ``strategy``, ``at the close of``, ``fitted on`` rows, ``because``."""
    rows = [
        (name, each["close"], each["rows"], " ".join(each["reasons"]))
        for name, one in followed.items()
        for each in one.retrained
    ]
    rows = rows or [("none", None, None, "No strategy retrained.")]
    return pd.DataFrame(rows, columns=["strategy", "at the close of", "fitted on", "because, of the model before"])


def sign_text(value: float) -> str:
    """Return a number with its sign."""
    return f"{value:+,.0f}" if abs(value) >= 100 else f"{value:+.3g}"


def row_figure(row: pd.Series, figure: str) -> dict[str, float]:
    """Return a figure of a row of `backtest.compare` with its interval."""
    return {"value": row[figure], "low": row[f"{figure}_low"], "high": row[f"{figure}_high"]}
