"""The sentences of stage 09, which are alt texts of its figures too, and the tables beside them; without rows, of the holdout."""

from collections.abc import Sequence

import pandas as pd

from ninefold.labels import of as label
from ninefold.metrics import FOLLOW, cluster_name
from ninefold.monitoring.alerts import Rules, missing_causes
from ninefold.monitoring.answers import AT_CLOSE, HOLDOUT
from ninefold.monitoring.arrivals import MOST_PERIODS, Parts, Record, Reports
from ninefold.monitoring.backtest import CALENDAR, TRIGGERED
from ninefold.monitoring.decision import NOTHING
from ninefold.monitoring.params import Params
from ninefold.monitoring.texts import say
from ninefold.problem import ERROR, RANKING, Problem, decisions, listed, title

ONLY_TIME = "The model sees nothing but the time of the event, which moves by itself."
SCORED = {
    "binary": ("roc_auc", "log_loss", "brier"),
    "multiclass": ("roc_auc", "log_loss", "brier", "accuracy"),
    "regression": ("rank_correlation", "rmse", "mae", "covered"),
}
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
    return say("arrivals", total=total, known=arrivals[AT_CLOSE].sum(), most=most, problem=problem)


def cause_table(reports: Reports) -> pd.DataFrame:
    """Return, per period, the figures beyond their natural variation, and every cause, largest first."""
    rows: list[tuple[str | None, ...]] = []
    for period, report in reports.items():
        names, kinds = report["outside"], dict[str, list[str]]()
        for kind, _, subject in (name.partition(": ") for name in names):
            kinds.setdefault(kind, []).extend([label(subject)] if subject else [])
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
    return pd.DataFrame(rows or [("none yet", None, None, NOTHING)], columns=columns)


def watched(problem: Problem) -> dict[str, str]:
    """Return what each rule watches, in the words of the problem."""
    level, ranking, error = decisions.level_name(problem), RANKING[problem.task], ERROR[problem.task]
    share = "share of any class" if problem.task == "multiclass" else level
    names = {"level": level, "share": share, "ranking": title(ranking), "error": title(error), "unit": problem.unit}
    return {name: (field.description or "").format(**names) for name, field in Rules.model_fields.items()}


def describe_drift(drifts: pd.DataFrame, frame: pd.DataFrame, parts: Parts, problem: Problem) -> str:
    """Return which features moved, and whether a season is seen for the first time; also an alt text."""
    if drifts.empty:
        return ONLY_TIME
    periods = drifts.groupby("period", sort=False)
    counts, tested = periods["drifted"].sum(), periods["p"].count() > 0
    later = drifts[(drifts["period"] != HOLDOUT) | (len(counts) == 1)]
    top = later[later["psi"].round(2) == later["psi"].max().round(2)]
    months = set[int]()
    if problem.time and len(frame):
        fitted = pd.concat([problem.local_times(parts[name]) for name in ("train", "validation")])
        months = set(problem.local_times(frame).dt.month) - set(fitted.dt.month)
    facts = {"features": [*top["feature"].unique()], "where": [*top["period"].unique()], "psi": top["psi"].max()}
    facts |= {"count": drifts["feature"].nunique(), "holdout": counts.get(HOLDOUT, 0), "new": len(months)}
    facts |= {"unsure": [*tested.index[~tested]], "values": counts.drop(HOLDOUT, errors="ignore")}
    return say("drift", **facts, clusters=cluster_name(problem), show=str)


def describe_performance(records: list[Record], baseline: Record, problem: Problem) -> str:
    """Return how the periods compare with the holdout, as sentences; also an alt text."""
    spans, rows = {record["period"]: record["figures"] for record in records}, []
    for name, sign in ((RANKING[problem.task], 1), (ERROR[problem.task], -1), ("skill", 1)):
        later = {period: figures[name] for period, figures in spans.items() if name in figures}
        worst = min(later, key=lambda period: sign * later[period]["value"], default="")
        rows.append((name, baseline["figures"].get(name), worst, later.get(worst)))
    return say("performance", rows=rows)


def describe_calibration(records: list[Record], baseline: Record, problem: Problem) -> str:
    """Return by how much the predictions are off on the holdout and in the periods; also an alt text."""
    gaps = {record["period"]: record["figures"]["gap"] for record in records if "gap" in record["figures"]}
    values = pd.Series({period: gap["value"] for period, gap in gaps.items()}, dtype="float64")
    gap = baseline["figures"].get("gap")
    return say("gaps", gap=gap, figures=gaps, values=values, show="{:.3f}".format, problem=problem)


def describe_policies(table: pd.DataFrame, records: Sequence[Record] = ()) -> str:
    """Return what the model paid more than the best policy without one, and in how many periods; also an alt text."""
    means = table.pivot(index="period", columns="policy", values="payoff").drop(columns=decisions.FORESIGHT)
    others = means.drop(columns=FOLLOW)
    won, best = means[FOLLOW] - others.max(axis=1), others.idxmax(axis=1)
    over = {name: f"{decisions.number(won[name], '+')} over *{best[name]}*" for name in won.index}
    gains = {record["period"]: record["figures"]["gain"] for record in records if "gain" in record["figures"]}
    later = won.drop(HOLDOUT)
    shown = {won[name]: over[name] for name in reversed(later.index)}
    return say("paid", holdout=over[HOLDOUT], values=later, show=shown.get, figures=gains)


def describe_strategies(table: pd.DataFrame, problem: Problem) -> str:
    """Return the gain of each policy, and which are significant; also an alt text."""
    rows = table[table["strategy"].isin([CALENDAR, TRIGGERED])].set_index("strategy")
    gains = {name: row_figure(row, "gain") for name, row in rows.iterrows()}
    return say("strategies", gains=gains, retrained=table["retrainings"].any(), problem=problem)


def row_figure(row: pd.Series, figure: str) -> dict[str, float]:
    """Return a figure of a row of `backtest.compare` with its interval."""
    return {"value": row[figure], "low": row[f"{figure}_low"], "high": row[f"{figure}_high"]}
