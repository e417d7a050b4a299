"""The figures, the tables for reading and the sentences of stage 09, monitoring; where nothing arrived, of the holdout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ninefold.core import decisions, plots, show
from ninefold.core.evaluation import FOLLOW
from ninefold.core.scores import ERROR, RANKING, title, with_interval
from ninefold.monitoring import HOLDOUT, LABELS, NOTHING, Params
from ninefold.problem import listed

SCORED = {
    "binary": ("roc_auc", "log_loss", "brier"),
    "multiclass": ("roc_auc", "log_loss", "brier", "accuracy"),
    "regression": ("rank_correlation", "rmse", "mae", "covered"),
}
NONE_YET = "none yet"
MOST = 12  # periods in a figure, the last ones
TOLD = 6  # periods in a sentence, the last ones
POLICIES = 5  # in a figure, the best ones
LONGEST = 32  # characters of a label
UNUSUAL = 5  # figures named, per period
MOST_ALERTS = 12  # shown, per period


def arrival_table(arrivals: pd.DataFrame, holdout: pd.DataFrame, stated: dict[str, Any]) -> pd.DataFrame:
    """Return, for reading, how many labels of each period arrived when, and the level of the outcome; first the holdout."""
    known = decisions.event(holdout[stated["target"]].to_numpy(), stated).mean()
    held = {"period": HOLDOUT, "predictions": len(holdout), **dict.fromkeys(LABELS, 0), LABELS[0]: len(holdout)}
    held |= {"level at close": known, "level in the end": known}
    table = pd.DataFrame([held, *arrivals.to_dict("records")], columns=list(arrivals))
    name = decisions.level_name(stated)
    for column in ("level at close", "level in the end"):
        shown = [None if value != value else decisions.show_level(value, stated) for value in table[column]]
        table[column] = pd.Series(shown, dtype="object")
    counts = ["raw", "quarantined", "predictions", *LABELS]
    renamed = {column: column.replace("level", name) for column in ("level at close", "level in the end")}
    return table.astype(dict.fromkeys(counts, "Int64")).rename(columns=renamed)


def scorecard(judged: list[dict[str, Any]], promise: dict[str, Any], stated: dict[str, Any]) -> pd.DataFrame:
    """Return the figures of each period as text with intervals, above them those of the holdout."""
    names = [*SCORED[stated["task"]], "skill", "observed", "predicted", "payoff", "gain"]
    rows = [(HOLDOUT, promise["figures"]), *((record["period"], record["figures"]) for record in judged)]
    return pd.DataFrame(
        [
            {"period": period, **{title(name): with_interval(figures.get(name)) for name in names}}
            for period, figures in rows
        ]
    )


def rule_table(
    judged: list[dict[str, Any]], promise: dict[str, Any], params: Params, stated: dict[str, Any]
) -> pd.DataFrame:
    """Return every rule: ``rule``, ``watches``, ``alerts beyond``, ``severity``, ``on the holdout``, ``raised in``."""
    figures, task, rows = promise["figures"], stated["task"], []
    held = {
        "ranking": RANKING[task],
        "error": ERROR[task],
        "calibration": "gap",
        "gain": "gain",
        "outcomes": "observed",
    }
    for name, rule in params.alerts:
        raised = [record["period"] for record in judged if name in [alert["alert"] for alert in record["alerts"]]]
        shown = with_interval(figures.get(held.get(name, "")))
        rows.append((name, _watched(name, stated), rule.limit, rule.severity, shown, ", ".join(raised) or "none"))
    columns = ["rule", "watches", "alerts beyond", "severity", "on the holdout", "raised in"]
    return pd.DataFrame(rows, columns=columns).astype({"alerts beyond": "object"})


def alert_table(judged: list[dict[str, Any]]) -> pd.DataFrame:
    """Return every alert of every period for reading; a period without any has a line that says so."""
    rows = []
    for record in judged:
        found = [(alert["alert"], alert["severity"], alert["sentence"]) for alert in record["alerts"][:MOST_ALERTS]]
        if len(record["alerts"]) > MOST_ALERTS:
            found.append(("and", None, f"{len(record['alerts']) - MOST_ALERTS} more; see periods.json"))
        rows += [(record["period"], *each) for each in found or [("none", None, "No figure is beyond its limit.")]]
    rows = rows or [(NONE_YET, "none", None, NOTHING)]
    return pd.DataFrame(rows, columns=["period", "alert", "severity", "what was found"])


def decision_table(decision: dict[str, Any]) -> pd.DataFrame:
    """Return the decision at the close of each period, and its reasons."""
    rows = [(each["period"], each["decision"], " ".join(each["reasons"])) for each in decision["periods"]]
    rows = rows or [(NONE_YET, decision["decision"], " ".join(decision["reasons"]))]
    return pd.DataFrame(rows, columns=["close of", "decision", "reasons"])


def plot_drift(drifts: pd.DataFrame, params: Params, most: int = 24) -> Figure:
    """Draw the PSI of the features that moved most, per period beside the holdout; bold where a feature drifted."""
    table = drifts.pivot(index="feature", columns="period", values="psi")
    table = table[[HOLDOUT, *sorted(set(table) - {HOLDOUT})[-MOST:]]] if len(table) else table
    table = table.loc[table.max(axis=1).sort_values(ascending=False).index[:most]]
    bold = (
        drifts.pivot(index="feature", columns="period", values="drifted")
        .loc[table.index, table.columns]
        .eq(True)
        .to_numpy()
    )
    fig, axes = plots.canvas("Which inputs have moved?", width=7, height=0.27 * len(table) + 1.4)
    if table.empty:
        axes.text(0.5, 0.5, "the model sees nothing but the time, which moves by itself", ha="center")
        axes.set_axis_off()
        return fig
    limit = max(params.alerts.inputs.limit, 1e-9)
    shades = axes.imshow(table, cmap="Blues", vmin=0, vmax=4 * limit, aspect="auto")
    for (row, column), value in np.ndenumerate(table.to_numpy()):
        text = "–" if value != value else f"{value:.2f}"
        style = {"color": "white" if value > 2 * limit else "#333333", "fontsize": 8}
        axes.text(
            column,
            row,
            text,
            ha="center",
            va="center",
            fontweight="bold" if bold[row, column] else "normal",
            **style,
        )
    axes.axvline(0.5, color="white", lw=6)
    axes.set_xticks(range(len(table.columns)), table.columns, rotation=45 if len(table.columns) > 8 else 0)
    axes.set_yticks(range(len(table)), [plots.label(name, LONGEST) for name in table.index])
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    fig.colorbar(shades, ax=axes, label="PSI", extend="max", shrink=0.6 if len(table) > 8 else 1)
    return fig


def plot_performance(judged: list[dict[str, Any]], promise: dict[str, Any], stated: dict[str, Any]) -> Figure:
    """Draw three figures with their intervals, of the holdout and of each period: ranking, error, and gap."""
    ranking, error, level = RANKING[stated["task"]], ERROR[stated["task"]], decisions.level_name(stated)
    shown = {
        ranking: f"{title(ranking)} (higher is better)",
        error: f"{title(error)} (lower is better)",
        "gap": f"predicted less observed\n{level}",
    }
    spans = [(HOLDOUT, promise["figures"]), *((record["period"], record["figures"]) for record in judged[-MOST:])]
    fig, panels = plots.canvas("Is it as good as it was on the holdout?", height=_height(spans), ncols=len(shown))
    for axes, (name, text) in zip(panels, shown.items(), strict=True):
        held = promise["figures"].get(name)
        if held:
            axes.axhspan(held["low"], held["high"], color=plots.SKY, alpha=0.25, lw=0)
        known = [(place, figures[name]) for place, (_, figures) in enumerate(spans) if name in figures]
        found = pd.DataFrame([figure for _, figure in known], columns=["value", "low", "high"])
        _points(axes, [place for place, _ in known], found["value"], found, plots.BLUE, "")
        axes.set_title(plots.plain(text), fontsize=9)
        _period_axis(axes, [period for period, _ in spans], room=2)
    panels[-1].axhline(0, color=plots.GREY, lw=1)
    if decisions.is_class(stated):
        plots.as_share(panels[-1])
    return fig


def plot_calibration(curves: pd.DataFrame, stated: dict[str, Any], most: int = 6) -> Figure:
    """Draw the observed against the predicted mean by tenth of the forecast, on the holdout and in the last periods."""
    periods = list(dict.fromkeys(curves["period"]))
    names = [*periods[:1], *periods[1:][1 - most :]]
    width = min(8.0, 2.7 * len(names) + 1)
    fig, panels = plots.canvas(
        "Do the forecasts still mean what they say?",
        width=width, height=3, ncols=len(names), sharex=True, sharey=True, squeeze=False,
    )  # fmt: skip
    ends = curves[["predicted", "low", "high"]].to_numpy("float64")
    line = [min(0.0, np.nanmin(ends)) if decisions.is_class(stated) else np.nanmin(ends), np.nanmax(ends)]
    for axes, name in zip(panels[0], names, strict=True):
        part = curves[curves["period"] == name]
        axes.plot(line, line, color=plots.GREY, ls="--", lw=1, label="perfect")
        _points(axes, part["predicted"], part["value"], part, plots.BLUE, "by tenth")
        axes.plot(part["predicted"], part["value"], color=plots.BLUE, lw=1)
        axes.set_title(name, fontsize=9)
    level = plots.plain(decisions.level_name(stated))
    if decisions.is_class(stated):
        plots.as_share(panels[0][0])
        plots.as_share(panels[0][0], "x")
    panels[0][0].set_ylabel(f"observed {level}")
    panels[0][0].legend(frameon=False, fontsize=8, loc="upper left")
    fig.supxlabel(f"predicted {level}", fontsize=9)
    return fig


def plot_weeks(weeks: pd.DataFrame, volume: pd.DataFrame, promise: dict[str, Any], stated: dict[str, Any]) -> Figure:
    """Draw the predicted and the observed level per week, from the holdout on; without time, both of the holdout."""
    if weeks.empty:
        return _plot_level(promise, stated)
    fig, axes = plots.canvas("Did it see the turns coming?", height=3)
    for name, color, style in (("observed", plots.ORANGE, "-"), ("predicted", plots.BLUE, "--")):
        axes.plot(weeks["week"], weeks[name], color=color, ls=style, marker="o", ms=4, label=name)
    axes.fill_between(weeks["week"], weeks["predicted"], weeks["observed"], color=plots.GREY, alpha=0.15, lw=0)
    for start in volume["start"]:
        axes.axvline(start, color=plots.GREY, lw=0.8, ls=":")
    if len(volume):
        axes.axvspan(weeks["week"].min(), volume["start"].iloc[0], color=plots.SKY, alpha=0.15, lw=0, label=HOLDOUT)
    axes.set(xlabel="week (UTC)", ylabel=plots.plain(decisions.level_name(stated)))
    axes.tick_params(axis="x", rotation=30)
    if decisions.is_class(stated):
        axes.set_ylim(0, None)
        plots.as_share(axes)
    axes.legend(frameon=False)
    return fig


def plot_policies(table: pd.DataFrame, stated: dict[str, Any]) -> Figure:
    """Draw what following the model pays per row, on the holdout and in each period, beside the best other policies."""
    means = table.groupby("policy", sort=False)["payoff"].mean().drop(decisions.FORESIGHT)
    others = means.drop(FOLLOW).nlargest(POLICIES).index
    periods = list(dict.fromkeys(table["period"]))
    names = [*periods[:1], *periods[1:][-MOST:]]
    fig, axes = plots.canvas("Is it still worth following the model?", height=_height(names))
    for number, policy in enumerate([FOLLOW, *others]):
        part = table[table["policy"] == policy].set_index("period").reindex(names)
        offset = 0.12 * (number - len(others) / 2)
        color = plots.PALETTE[number % len(plots.PALETTE)]
        _points(axes, np.arange(len(names)) + offset, part["payoff"], part, color, plots.label(policy, LONGEST))
    _period_axis(axes, names)
    axes.set_ylabel(plots.plain(f"payoff per {stated['unit']}\n({stated['payoff_unit']})"))
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def cause_table(strange: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Return, per period, the figures beyond their natural variation, and every cause, largest first."""
    rows: list[tuple[str, str | None, str | None, str]] = []
    for period, found in strange.items():
        names = found["outside"][:UNUSUAL]
        more = f" and {len(found['outside']) - UNUSUAL} more" if len(found["outside"]) > UNUSUAL else ""
        figures = ", ".join(names) + more
        causes = [(each["cause"], each["sentence"]) for each in found["findings"]]
        for cause, sentence in causes or [("none found" if names else "nothing unusual", "")]:
            rows.append((period, figures or None, cause, sentence))
            figures = ""
    rows = rows or [(NONE_YET, None, None, NOTHING)]
    return pd.DataFrame(rows, columns=["period", "beyond its variation", "cause", "evidence"])


def describe_unusual(strange: dict[str, dict[str, Any]], params: Params) -> str:
    """Return in how many periods anything was unusual, and what caused it, as a sentence."""
    if not strange:
        return NOTHING
    unusual = [period for period, found in strange.items() if found["outside"]]
    if not unusual:
        return f"In none of {_count(len(strange), 'period')} any figure left its natural variation."
    causes: dict[str, int] = {}
    for found in strange.values():
        for name in dict.fromkeys(each["cause"] for each in found["findings"]):
            causes[name] = causes.get(name, 0) + 1
    named = listed([f"{name} in {count}" for name, count in sorted(causes.items(), key=lambda each: -each[1])])
    return (
        f"In **{len(unusual)}** of {_count(len(strange), 'period')} some figure left its natural variation, first in "
        f"{unusual[0]}; in a stable stream {params.false_alarms:.0%} of the periods would. Causes named: {named or 'none'}."
    )


def describe_arrival(volume: pd.DataFrame, params: Params, stated: dict[str, Any], version: str) -> str:
    """Return how much came, as a sentence; where nothing did, why, and what can be read here all the same."""
    units = stated["units"]
    if volume.empty and params.source == "log":
        return (
            "**Nothing was answered yet**, or the log is elsewhere: `ninefold serve` writes it. What follows shows the "
            "holdout, and the rules that will judge what comes."
        )
    if volume.empty and not stated["time"]:
        return (
            f"**Nothing has arrived yet.** The {units} have no time, so none is known to have come later than those that "
            f"model `{version}` was built on. What follows shows the holdout, which stands for {units} like them, and the "
            "rules that will judge what comes."
        )
    if volume.empty:
        return (
            f"**Nothing has arrived yet** after the last day of the {units} that model `{version}` was built on. What "
            "follows shows the holdout, and the rules that will judge what comes. Move `collection.as_of` back to a "
            "day before the last ones, and what came after it is replayed as if it arrived now."
        )
    if params.source == "log":
        silent = int((volume["ready"] == 0).sum())
        return (
            f"**{volume['ready'].sum():,}** {units} were decided on in {_count(len(volume), 'period')}, as the prediction log "
            f"and the labels tell; {silent} of these are silent."
        )
    return (
        f"**{volume['ready'].sum():,}** {units} arrived in {_count(len(volume), 'period')} and were answered by model "
        f"`{version}`; {volume['quarantined'].sum():,} rows broke the contract."
    )


def describe_arrivals(arrivals: pd.DataFrame, params: Params, stated: dict[str, Any]) -> str:
    """Return how complete the labels were when they were needed, as a sentence."""
    total = arrivals["predictions"].sum()
    if not total:
        return "Of the holdout every outcome is known; of what comes later one has to wait for some."
    later, never, still = (int(arrivals[name].sum()) for name in LABELS[1:])
    shift = (arrivals["level in the end"] - arrivals["level at close"]).abs().max()
    moved = _change(0.0 if shift != shift else shift, stated).removeprefix("+")
    return (
        f"{arrivals['at close'].sum() / total:.1%} of the labels were known at the close of their period, "
        f"{params.label_delay} after the event; {later:,} came later, {never:,} never will, {still:,} are open. "
        f"Waiting for the late ones moves the {decisions.level_name(stated)} of no period by more than {moved}."
    )


def describe_drift(
    drifts: pd.DataFrame, frame: pd.DataFrame, parts: dict[str, pd.DataFrame], stated: dict[str, Any]
) -> str:
    """Return which features moved, and whether a season is seen for the first time; also an alt text."""
    if drifts.empty:
        return "The model sees nothing but the time of the event, which moves by itself."
    counts = drifts.groupby("period")["drifted"].sum()
    held, rest = counts[HOLDOUT], counts.drop(HOLDOUT)
    top = drifts[(drifts["period"] != HOLDOUT) | rest.empty].sort_values("psi").iloc[-1]
    farthest = f"The farthest is {show.code(top['feature'])} in {top['period']}, with a PSI of {top['psi']:.2f}."
    features = _count(drifts["feature"].nunique(), "feature")
    if rest.empty:
        return (
            f"On the holdout, where the model was accepted, {held} of {features} drifted: the measure for what comes. "
            f"{farthest.replace('in holdout', 'on it')}"
        )
    learned = pd.concat([parts[name][stated["time"]] for name in ("train", "validation")])
    new = set(frame[stated["time"]].dt.month) - set(learned.dt.month)
    season = (
        f" {len(new)} of these calendar months were in no row that the model was fitted on: season and change look alike."
        if new
        else ""
    )
    return (
        f"Drifted, of {features}: {listed([f'{n} in {period}' for period, n in rest.iloc[-TOLD:].items()])}; "
        f"on the holdout, where the model was accepted, it was {held}. {farthest}{season}"
    )


def describe_performance(judged: list[dict[str, Any]], promise: dict[str, Any], stated: dict[str, Any]) -> str:
    """Return how the periods compare with the holdout, as sentences; also an alt text."""
    ranking, error = RANKING[stated["task"]], ERROR[stated["task"]]
    held, level = promise["figures"], decisions.level_name(stated)
    shown = [record for record in judged if {ranking, error, "observed"} <= set(record["figures"])]
    if not shown:
        return (
            f"The promise, on the holdout: {title(ranking)} {with_interval(held.get(ranking))}, {title(error)} "
            f"{with_interval(held.get(error))}. Every period will be held against it."
        )
    low = min(shown, key=lambda record: record["figures"][ranking]["value"])
    worst = max(shown, key=lambda record: record["figures"][error]["value"])
    figures, skills = worst["figures"], [with_interval(_bare(each.get("skill"))) for each in (worst["figures"], held)]
    mixed = "mixed" if decisions.is_class(stated) else "spread"
    return (
        f"The {title(ranking)} was {with_interval(_bare(held.get(ranking)))} on the holdout; its lowest since is "
        f"{with_interval(low['figures'][ranking])}, in {low['period']}. The {title(error)} is worst in {worst['period']}, "
        f"{with_interval(figures[error])}, where the {level} was {decisions.show_level(figures['observed']['value'], stated)}: "
        f"the more {mixed} the outcomes, the harder they are to foresee. Against a forecast that knows the period's own "
        f"level the skill is {skills[0]} there, {skills[1]} on the holdout."
    )


def describe_calibration(judged: list[dict[str, Any]], promise: dict[str, Any], stated: dict[str, Any]) -> str:
    """Return by how much the forecasts are off on the holdout and in the last periods; also an alt text."""
    spans = [(record["period"], record["figures"]) for record in judged[-TOLD:]]
    gaps = [("on the holdout", promise["figures"]["gap"])]
    gaps += [(f"in {period}", figures["gap"]) for period, figures in spans if "gap" in figures]
    told = [f"{_change(gap['value'], stated)}{_range(gap, stated)} {where}" for where, gap in gaps]
    level = decisions.level_name(stated)
    return f"Predicted less observed {level}: {listed(told)}. Above zero the model foresees too much of it."


def describe_weeks(weeks: pd.DataFrame, promise: dict[str, Any], stated: dict[str, Any]) -> str:
    """Return in which week the forecast was farthest off; without time, how far on the holdout; also an alt text."""
    level = decisions.level_name(stated)
    if weeks.empty:
        said, seen = (
            decisions.show_level(promise["figures"][name]["value"], stated) for name in ("predicted", "observed")
        )
        return f"On the holdout the {level} was foreseen to be {said}, and was {seen}. Without time there are no weeks."
    off = (weeks["predicted"] - weeks["observed"]).abs()
    worst = weeks.loc[off.idxmax()]
    said, seen = (decisions.show_level(worst[name], stated) for name in ("predicted", "observed"))
    together = weeks["predicted"].corr(weeks["observed"]) if len(weeks) > 2 else np.nan
    rise = f" Over all weeks they go together with a correlation of {together:.2f}." if together == together else ""
    return (
        f"Of {_count(len(weeks), 'week')}, the holdout's included, the {level} predicted and observed are farthest apart in "
        f"that of {worst['week'].date()}: {said} predicted, {seen} observed.{rise}"
    )


def describe_policies(table: pd.DataFrame) -> str:
    """Return in which periods the model paid more than every policy without one; also an alt text."""
    means = table.pivot(index="period", columns="policy", values="payoff").drop(columns=decisions.FORESIGHT)
    rest = means.drop(columns=FOLLOW)
    won, best = means[FOLLOW] - rest.max(axis=1), rest.idxmax(axis=1)
    held = f"On the holdout following the model paid {_signed(won[HOLDOUT])} per row against *{best[HOLDOUT]}*, the best policy without one"
    later = won.drop(HOLDOUT)
    if later.empty:
        return f"{held}: the promise for what comes."
    told = listed([f"{_signed(won[period])} against *{best[period]}* in {period}" for period in later.index[-TOLD:]])
    return f"{held}. Since then it paid more in {(later > 0).sum()} of {_count(len(later), 'period')}, per row: {told}."


def describe_alerts(judged: list[dict[str, Any]], params: Params) -> str:
    """Return how many alerts each period raised, and how many of them are high, as a sentence."""
    if not judged:
        rules = dict(params.alerts)
        high = [name for name, rule in rules.items() if rule.severity == "high"]
        return f"{len(rules)} rules stand ready, and have nothing to judge yet; of severity high: {listed(high) or 'none'}."
    high = sum(alert["severity"] == "high" for record in judged for alert in record["alerts"])
    counts = listed([f"{len(record['alerts'])} in {record['period']}" for record in judged[-TOLD:]])
    return f"Alerts raised: {counts}. Of severity high, in all periods: **{high}**."


def describe_decision(decision: dict[str, Any]) -> str:
    """Return the decision with its reasons, as Markdown."""
    back = f" Back to {decision['fallback']}." if decision["decision"] == "roll back" else ""
    return f"**{decision['decision'].capitalize()}.** {' '.join(decision['reasons'])}{back}"


def _watched(name: str, stated: dict[str, Any]) -> str:
    """Return what a rule watches, in words."""
    task, level = stated["task"], decisions.level_name(stated)
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
        "gain": f"payoff per {stated['unit']} over the best policy without a model: its low end is under the limit",
    }[name]


def _plot_level(promise: dict[str, Any], stated: dict[str, Any]) -> Figure:
    names = [name for name in ("observed", "predicted") if name in promise["figures"]]
    found = pd.DataFrame([promise["figures"][name] for name in names], columns=["value", "low", "high"])
    fig, axes = plots.canvas("Was the level foreseen on the holdout?", height=1.6)
    errors = np.abs(found[["low", "high"]].to_numpy().T - found["value"].to_numpy())
    axes.errorbar(found["value"], range(len(names)), xerr=errors, fmt="o", ms=5, lw=1.4, capsize=3, color=plots.BLUE)
    axes.set_yticks(range(len(names)), names)
    axes.set(ylim=(-0.6, len(names) - 0.4), xlabel=plots.plain(decisions.level_name(stated)))
    if decisions.is_class(stated):
        plots.as_share(axes, "x")
    return fig


def _points(axes: Axes, x: Any, y: pd.Series, ends: pd.DataFrame, color: str, label: str) -> None:
    errors = np.abs(ends[["low", "high"]].to_numpy("float64").T - y.to_numpy("float64"))
    axes.errorbar(x, y, yerr=errors, fmt="o", ms=5, lw=1.4, capsize=3, color=color, label=label)


def _period_axis(axes: Axes, names: list[str], room: int = 5) -> None:
    """Name the periods below, as many as there is room for: the holdout, and the later ones counted from the last."""
    step = max(1, -(-(len(names) - 1) // (3 * room)))
    places = [0, *range(len(names) - 1, 0, -step)] if len(names) > 1 else [0]
    turned = len(names) > room
    axes.set_xticks(
        places, [names[place] for place in places], rotation=45 if turned else 0, ha="right" if turned else "center"
    )
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.grid(axis="x", visible=False)


def _height(periods: list[Any]) -> float:
    return 3.2 if len(periods) > 1 else 2.2  # the holdout alone needs little room


def _bare(figure: dict[str, float] | None) -> dict[str, float] | None:
    return {"value": figure["value"]} if figure else None


def _change(value: float, stated: dict[str, Any]) -> str:
    """Return a change of a level as text: points of a share, or the target's own unit."""
    return f"{100 * value:+.1f} points" if decisions.is_class(stated) else _signed(value)


def _signed(value: float) -> str:
    return f"{value:+,.0f}" if abs(value) >= 100 else f"{value:+.3g}"


def _range(figure: dict[str, float], stated: dict[str, Any]) -> str:
    low, high = (_change(figure[end], stated).removesuffix(" points") for end in ("low", "high"))
    return f" ({low} to {high})"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
