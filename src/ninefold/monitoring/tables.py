"""The tables of stage 09 for reading, and the sentences below them."""

import pandas as pd

from ninefold.monitoring.alerts import Rules, missing_causes
from ninefold.monitoring.answers import AT_CLOSE
from ninefold.monitoring.arrivals import MOST_PERIODS, Record
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


def cause_table(reports: dict[str, Record]) -> pd.DataFrame:
    """Return, per period, the figures beyond their natural variation, and every cause, largest first."""
    rows: list[tuple[str | None, ...]] = []
    for period, report in reports.items():
        names, kinds = report["outside"], dict[str, list[str]]()
        for kind, _, subject in (name.partition(": ") for name in names):
            kinds.setdefault(kind, []).extend([subject] if subject else [])
        shown = [f"{kind} ({listed(subjects, UNUSUAL)})" if subjects else kind for kind, subjects in kinds.items()]
        figures = ", ".join(shown) or None
        none = {"cause": "none found" if names else None, "sentence": ""}
        empty = [each["subject"] for each in report["findings"] if each["evidence"].get("how") == "missing"]
        merged = [{"cause": "broken column", "sentence": sentence} for _, sentence, _ in missing_causes(empty, report)]
        others = [each for each in report["findings"] if each["subject"] not in empty]
        for each in [*merged, *others] or [none]:
            rows.append((period, figures, each["cause"], each["sentence"]))
            figures = ""
    columns = ["period", "beyond its control limits", "cause", "evidence"]
    return pd.DataFrame(rows or [(NONE_YET, None, None, NOTHING)], columns=columns)


def describe_unusual(reports: dict[str, Record], params: Params) -> str:
    """Return in how many periods anything was unusual, as a sentence."""
    unusual = sum(bool(report["outside"]) for report in reports.values())
    return say("unusual", unusual=unusual, count=len(reports), level=params.false_alarms)


def watched(problem: Problem) -> dict[str, str]:
    """Return what each rule watches, in the words of the problem."""
    level, ranking, error = decisions.level_name(problem), RANKING[problem.task], ERROR[problem.task]
    share = "share of any class" if problem.task == "multiclass" else level
    names = {"level": level, "share": share, "ranking": title(ranking), "error": title(error), "unit": problem.unit}
    return {name: (field.description or "").format(**names) for name, field in Rules.model_fields.items()}


def sign_text(value: float) -> str:
    """Return a number with its sign."""
    return f"{value:+,.0f}" if abs(value) >= 100 else f"{value:+.3g}"


def row_figure(row: pd.Series, figure: str) -> dict[str, float]:
    """Return a figure of a row of `backtest.compare` with its interval."""
    return {"value": row[figure], "low": row[f"{figure}_low"], "high": row[f"{figure}_high"]}
