"""The tables of stage 09 for reading, and the sentences below them."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ninefold.metrics import with_interval
from ninefold.monitoring.answers import AT_CLOSE, HOLDOUT, STATES
from ninefold.monitoring.decision import NOTHING
from ninefold.monitoring.params import Params
from ninefold.problem import ERROR, RANKING, Problem, decisions, listed, title

SCORED = {
    "binary": ("roc_auc", "log_loss", "brier"),
    "multiclass": ("roc_auc", "log_loss", "brier", "accuracy"),
    "regression": ("rank_correlation", "rmse", "mae", "covered"),
}
NONE_YET = "none yet"
LAST_PERIODS = 6  # named in a sentence
UNUSUAL = 5  # figures named, per period
MOST_ALERTS = 12  # shown, per period


def arrival_table(arrivals: pd.DataFrame, holdout: pd.DataFrame, problem: Problem) -> pd.DataFrame:
    """Return, for reading, how many labels of each period arrived when, and the level of the outcome; first the holdout."""
    known = decisions.event(holdout[problem.target].to_numpy(), problem).mean()
    first = {"period": HOLDOUT, "predictions": len(holdout), **dict.fromkeys(STATES, 0), AT_CLOSE: len(holdout)}
    first |= {"level at close": known, "level in the end": known}
    table = pd.DataFrame([first, *arrivals.to_dict("records")], columns=list(arrivals))
    name = decisions.level_name(problem)
    for column in ("level at close", "level in the end"):
        shown = [None if value != value else decisions.show_level(value, problem) for value in table[column]]
        table[column] = pd.Series(shown, dtype="object")
    counts = ["raw", "quarantined", "predictions", *STATES]
    renamed = {column: column.replace("level", name) for column in ("level at close", "level in the end")}
    return table.astype(dict.fromkeys(counts, "Int64")).rename(columns=renamed)


def describe_arrival(volume: pd.DataFrame, params: Params, problem: Problem, version: str) -> str:
    """Return how much came, as a sentence; where nothing did, why, and what can be read here all the same."""
    units = problem.units
    if volume.empty and params.source == "log":
        return (
            "**Nothing was answered yet**, or the log is elsewhere: `ninefold serve` writes it. What follows shows the "
            "holdout, and the rules."
        )
    if volume.empty and not problem.time:
        return (
            f"**Nothing has arrived yet.** The {units} have no time, so none is known to have come later than those that "
            f"model `{version}` was built on. What follows shows the holdout, which stands for {units} like them, and the "
            "rules."
        )
    if volume.empty:
        return (
            f"**Nothing has arrived yet** after the last day of the {units} that model `{version}` was built on. What "
            "follows shows the holdout, and the rules. Move `collection.as_of` back to a "
            "day before the last ones, and later rows are replayed as if it arrived now."
        )
    if params.source == "log":
        silent = int((volume["ready"] == 0).sum())
        return (
            f"**{volume['ready'].sum():,}** {units} were decided on in {count_text(len(volume), 'period')}, as the prediction log "
            f"and the labels tell; {silent} of these are silent."
        )
    return (
        f"**{volume['ready'].sum():,}** {units} arrived in {count_text(len(volume), 'period')} and were answered by model "
        f"`{version}`; {volume['quarantined'].sum():,} rows broke the contract."
    )


def describe_arrivals(arrivals: pd.DataFrame, params: Params, problem: Problem) -> str:
    """Return how complete the labels were when they were needed, as a sentence."""
    total = arrivals["predictions"].sum()
    if not total:
        return "Of the holdout every outcome is known; of what comes later one has to wait for some."
    later, never, still = (int(arrivals[name].sum()) for name in STATES[1:])
    shift = (arrivals["level in the end"] - arrivals["level at close"]).abs().max()
    moved = change_text(0.0 if shift != shift else shift, problem).removeprefix("+")
    return (
        f"{arrivals['at close'].sum() / total:.1%} of the labels were known at the close of their period, "
        f"{params.label_delay} after the event; {later:,} came later, {never:,} never will, {still:,} are open. "
        f"Waiting for the late ones moves the {decisions.level_name(problem)} of no period by more than {moved}."
    )


def scorecard(records: list[dict[str, Any]], baseline: dict[str, Any], problem: Problem) -> pd.DataFrame:
    """Return the figures of each period as text with intervals, above them those of the holdout."""
    names = [*SCORED[problem.task], "skill", "observed", "predicted", "payoff", "gain"]
    rows = [(HOLDOUT, baseline["figures"]), *((record["period"], record["figures"]) for record in records)]
    return pd.DataFrame(
        [
            {"period": period, **{title(name): with_interval(figures.get(name)) for name in names}}
            for period, figures in rows
        ]
    )


def cause_table(reports: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Return, per period, the figures beyond their natural variation, and every cause, largest first."""
    rows: list[tuple[str, str | None, str | None, str]] = []
    for period, report in reports.items():
        names = report["outside"][:UNUSUAL]
        more = f" and {len(report['outside']) - UNUSUAL} more" if len(report["outside"]) > UNUSUAL else ""
        figures = ", ".join(names) + more
        causes = [(each["cause"], each["sentence"]) for each in report["findings"]]
        for cause, sentence in causes or [("none found" if names else "nothing unusual", "")]:
            rows.append((period, figures or None, cause, sentence))
            figures = ""
    rows = rows or [(NONE_YET, None, None, NOTHING)]
    return pd.DataFrame(rows, columns=["period", "beyond its variation", "cause", "evidence"])


def describe_unusual(reports: dict[str, dict[str, Any]], params: Params) -> str:
    """Return in how many periods anything was unusual, and what caused it, as a sentence."""
    if not reports:
        return NOTHING
    unusual = [period for period, report in reports.items() if report["outside"]]
    if not unusual:
        return f"In none of {count_text(len(reports), 'period')} any figure left its natural variation."
    causes: dict[str, int] = {}
    for report in reports.values():
        for name in dict.fromkeys(each["cause"] for each in report["findings"]):
            causes[name] = causes.get(name, 0) + 1
    named = listed([f"{name} in {count}" for name, count in sorted(causes.items(), key=lambda each: -each[1])])
    return (
        f"In **{len(unusual)}** of {count_text(len(reports), 'period')} some figure left its natural variation, first in "
        f"{unusual[0]}; in a stable stream {params.false_alarms:.0%} of the periods would. Causes named: {named or 'none'}."
    )


def rule_table(
    records: list[dict[str, Any]], baseline: dict[str, Any], params: Params, problem: Problem
) -> pd.DataFrame:
    """Return every rule: ``rule``, ``watches``, ``alerts beyond``, ``severity``, ``on the holdout``, ``raised in``."""
    figures, task, rows = baseline["figures"], problem.task, []
    metrics = {
        "ranking": RANKING[task],
        "error": ERROR[task],
        "calibration": "gap",
        "gain": "gain",
        "outcomes": "observed",
    }
    for name, rule in params.alerts:
        raised = [record["period"] for record in records if name in [alert["alert"] for alert in record["alerts"]]]
        shown = with_interval(figures.get(metrics.get(name, "")))
        rows.append((name, _watched(name, problem), rule.limit, rule.severity, shown, ", ".join(raised) or "none"))
    columns = ["rule", "watches", "alerts beyond", "severity", "on the holdout", "raised in"]
    return pd.DataFrame(rows, columns=columns).astype({"alerts beyond": "object"})


def alert_table(records: list[dict[str, Any]]) -> pd.DataFrame:
    """Return every alert of every period for reading; a period without any has a line that says so."""
    rows = []
    for record in records:
        alerts = [(alert["alert"], alert["severity"], alert["sentence"]) for alert in record["alerts"][:MOST_ALERTS]]
        if len(record["alerts"]) > MOST_ALERTS:
            alerts.append(("and", None, f"{len(record['alerts']) - MOST_ALERTS} more; see periods.json"))
        rows += [(record["period"], *each) for each in alerts or [("none", None, "No figure is beyond its limit.")]]
    rows = rows or [(NONE_YET, "none", None, NOTHING)]
    return pd.DataFrame(rows, columns=["period", "alert", "severity", "what was found"])


def describe_alerts(records: list[dict[str, Any]], params: Params) -> str:
    """Return how many alerts each period raised, and how many of them are high, as a sentence."""
    if not records:
        rules = dict(params.alerts)
        high = [name for name, rule in rules.items() if rule.severity == "high"]
        return f"{len(rules)} rules stand ready, and have nothing to judge yet; of severity high: {listed(high) or 'none'}."
    high = sum(alert["severity"] == "high" for record in records for alert in record["alerts"])
    counts = listed([f"{len(record['alerts'])} in {record['period']}" for record in records[-LAST_PERIODS:]])
    return f"Alerts raised: {counts}. Of severity high, in all periods: **{high}**."


def decision_table(decision: dict[str, Any]) -> pd.DataFrame:
    """Return the decision at the close of each period, and its reasons."""
    rows = [(each["period"], each["decision"], " ".join(each["reasons"])) for each in decision["periods"]]
    rows = rows or [(NONE_YET, decision["decision"], " ".join(decision["reasons"]))]
    return pd.DataFrame(rows, columns=["close of", "decision", "reasons"])


def describe_decision(decision: dict[str, Any]) -> str:
    """Return the decision with its reasons, as Markdown."""
    back = f" Back to {decision['fallback']}." if decision["decision"] == "roll back" else ""
    return f"**{decision['decision'].capitalize()}.** {' '.join(decision['reasons'])}{back}"


def _watched(name: str, problem: Problem) -> str:
    """Return what a rule watches, in words."""
    task, level = problem.task, decisions.level_name(problem)
    outcome = "of any class" if task == "multiclass" else f"of the {level}"
    return {
        "missing": "rise of the share of missing values of a feature",
        "categories": "share of rows with a category that training did not have",
        "joint": "ROC AUC of a classifier that tells the rows from those learned from; 0.5 is by chance",
        "expected": f"rise of the {title(ERROR[task])} that is expected before outcomes are known, above the holdout's",
        "slices": "how much farther off forecasts are at a value of a category than on the holdout",
        "skew": "share of rows with a feature that was served unlike the pipeline builds it",
        "failures": "share of requests that failed (status 500 and more)",
        "latency": "share of requests over the latency budget",
        "quarantined": "share of rows that break the contract",
        "volume": "change of rows a day against training, either way",
        "inputs": "PSI of a feature against the rows learned from, where a test agrees",
        "predictions": "PSI of the forecasts against the holdout, where a test agrees",
        "outcomes": f"change {'of the share ' if task == 'multiclass' else ''}{outcome} against the holdout, either way",
        "ranking": f"loss of {title(RANKING[task])} against the holdout",
        "error": f"rise of {title(ERROR[task])} above the holdout's",
        "calibration": f"predicted less observed {level}, either way",
        "gain": f"payoff per {problem.unit} over the best policy without a model: its low end is under the limit",
    }[name]


def change_text(value: float, problem: Problem) -> str:
    """Return a change of a level as text: points of a share, or the target's own unit."""
    return f"{100 * value:+.1f} points" if problem.is_class else sign_text(value)


def sign_text(value: float) -> str:
    """Return a number with its sign."""
    return f"{value:+,.0f}" if abs(value) >= 100 else f"{value:+.3g}"


def count_text(number: int, what: str) -> str:
    """Return a count with its noun, which gets an s unless it is one."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
