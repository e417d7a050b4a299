"""Is it still right in production, and should we retrain?

Reads: the source after ``collection.as_of``, through ``project.collection.read``; ``data/lake/`` and ``data/features/``;
``data/problem.json``, ``data/metrics.json``; ``models/bundle/``.
Writes: ``data/monitoring/``: ``periods.json``, ``drift.parquet``, ``decision.json``.
Gate: every period was monitored, no prediction or label was lost, and the decision has reasons. What it decides is a
result: alerts, and a decision to retrain, do not fail the gate.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any, Literal

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pydantic import Field, field_validator

from ninefold import collection, deployment, features, processing, training
from ninefold import metrics as agreed_metrics
from ninefold.core import drift, engine, gate, hooks, io, plots
from ninefold.core.params import Section
from ninefold.problem import Duration

MONITORING, HOLDOUT = "data/monitoring", "holdout"
SAMPLE = 10_000
LABELS = ("at close", "later", "never", "open")
SHOWN = {
    "roc_auc": "ROC AUC (higher is better)",
    "brier": "Brier score (lower is better)",
    "gap": "predicted less observed share",
}
NOTHING = "There is nothing to monitor yet: no rows have arrived after the last day that the model was built on."


class Rule(Section):
    """The limit from which on a figure alerts, and how much that matters."""

    limit: float = Field(ge=0)
    severity: Literal["low", "medium", "high"]


class Rules(Section):
    """One rule for every figure that can alert."""

    quarantined: Rule
    volume: Rule
    inputs: Rule
    predictions: Rule
    share: Rule
    ranking: Rule
    brier: Rule
    calibration: Rule
    gain: Rule


class Decide(Section):
    """What the alerts of a period lead to."""

    roll_back: float
    retrain_high: int = Field(ge=1)
    retrain_drifted: float = Field(gt=0, le=1)


class Params(Section):
    """Section ``monitoring`` of ``params.yaml``."""

    source: Literal["replay"]
    replay_until: date
    label_delay: Duration
    alpha: float = Field(gt=0, lt=1)
    alerts: Rules
    decide: Decide

    @field_validator("replay_until", mode="before")
    @classmethod
    def _iso(cls, value: Any) -> Any:
        try:
            return date.fromisoformat(value) if isinstance(value, str) else value
        except ValueError:
            raise ValueError('a day written as "2013-12-31"') from None


def periods(params: Params, collected: collection.Params, stated: dict[str, Any]) -> pd.DataFrame:
    """Return the months to replay: ``period`` ("2013-10"), ``start`` and ``end`` (UTC); none if nothing can follow."""
    start = collected.as_of + timedelta(days=1)
    if collected.tables[stated["table"]].time is None or params.replay_until < start:
        return collection.periods(collected).iloc[:0]
    return collection.periods(collected.model_copy(update={"start": start, "as_of": params.replay_until}))


def replay(
    calendar: pd.DataFrame, earlier: dict[str, Any], stated: dict[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Put the months of `calendar` through stages 02, 03 and 06 as those define them.

    Parameters
    ----------
    calendar : DataFrame
        What `periods` returned.
    earlier : dict of str to Section
        The params of ``collection``, ``processing`` and ``features``.
    stated : dict
        The problem.

    Returns
    -------
    frame : DataFrame
        The feature table of what arrived, by time, and its ``period``.
    volume : DataFrame
        A row per period, up to the last in which anything arrived: ``period``, ``start``, ``end``, ``raw``,
        ``quarantined``, ``ready`` (rows, int64). A row without a readable time counts in the last period.
    """
    if calendar.empty:
        frame, arrived = features.load().iloc[:0], pd.DataFrame({stated["time"]: [], processing.RULE: []})
    else:
        connection = engine.connect()
        judged = arrive(calendar, earlier, connection)
        frame = build(judged, earlier, stated, connection)
        arrived = judged[stated["table"]].select(stated["time"], processing.RULE).to_pandas()
    period = _period(arrived[stated["time"]], calendar)
    frame = frame.assign(period=_period(frame[stated["time"]], calendar))
    counts = {"raw": period, "quarantined": period[arrived[processing.RULE].notna()], "ready": frame["period"]}
    numbers = {name: calendar["period"].map(found.value_counts()).fillna(0) for name, found in counts.items()}
    volume = calendar.assign(**numbers).astype(dict.fromkeys(numbers, "int64"))
    return frame, volume[: int(volume["raw"].to_numpy().nonzero()[0].max(initial=-1)) + 1]


def arrive(calendar: pd.DataFrame, earlier: dict[str, Any], connection: ibis.BaseBackend) -> dict[str, ir.Table]:
    """Return the tables that arrived in the months of `calendar`, typed and judged; those without time come whole."""
    read = hooks.project("collection", "read", collection.read_file)
    sources, contract = earlier["collection"].tables, earlier["processing"]
    start, end = calendar["start"].iloc[0], calendar["end"].iloc[-1]
    raw = {}
    for name in contract.tables:
        rows = read(name, start, end) if sources[name].time else read(name, None, None)
        raw[name] = connection.create_table(f"later_{name}", rows.astype("str"))
    judged = processing.judge(processing.convert(raw, contract), contract)
    return {name: table.cache() for name, table in judged.items()}


def build(
    judged: dict[str, ir.Table], earlier: dict[str, Any], stated: dict[str, Any], connection: ibis.BaseBackend
) -> pd.DataFrame:
    """Return the feature table of the sound rows of `judged`, by time; their history reaches back into the lake.

    Tables without time are the lake's: what was known when the model was deployed, and nothing later.
    """
    tables, sources, params = (
        engine.tables(connection, features.LAKE),
        earlier["collection"].tables,
        earlier["features"],
    )
    sound = {
        name: table.filter(table[processing.RULE].isnull()).drop(processing.RULE) for name, table in judged.items()
    }
    for name in (name for name in tables if sources[name].time):
        tables[name] = tables[name].union(sound[name].cast(tables[name].schema()))
    new, events = sound[stated["table"]], features.build(tables, stated)
    reach = max((window["start"] for window in features.windows(params, stated["horizon"])), default=pd.Timedelta(0))
    first = new[stated["time"]].min().execute()
    recent = events.filter(events[stated["time"]] >= first - reach) if first is not pd.NaT else events
    history = features.add_history(recent, params, stated).semi_join(new, stated["key"])
    table = features.assemble(history, params, stated)
    return table.order_by(features.order(stated)).to_pandas()


def predict(frame: pd.DataFrame, bundle: deployment.Bundle) -> pd.DataFrame:
    """Add what the deployed model says of each row: ``probability``, ``action``, ``expected_payoff``."""
    if frame.empty:
        return frame.assign(probability=0.0, action="", expected_payoff=0.0)
    return frame.assign(**{name: column.to_numpy() for name, column in bundle.decide(frame).items()})


def wait(frame: pd.DataFrame, volume: pd.DataFrame, params: Params, stated: dict[str, Any]) -> pd.DataFrame:
    """Add ``outcome``: when the label of each prediction is known, `params.label_delay` after the event.

    ``at close`` of its own period, ``later``, ``never`` (the target is missing), or still ``open`` at the last close.
    """
    known = frame[stated["time"]] + pd.Timedelta(params.label_delay)
    close = volume.set_index("period")["end"].reindex(frame["period"]).to_numpy()
    status = np.select(
        [known > volume["end"].max(), frame[stated["target"]].isna(), known > close],
        ["open", "never", "later"],
        LABELS[0],
    )
    return frame.assign(outcome=status)


def arrivals(frame: pd.DataFrame, volume: pd.DataFrame, stated: dict[str, Any]) -> pd.DataFrame:
    """Return, per period, how many labels arrived when, and the share of events at its close and in the end."""
    counts = pd.crosstab(frame["period"], frame["outcome"]).reindex(
        index=volume["period"], columns=LABELS, fill_value=0
    )
    table = volume[["period", "raw", "quarantined"]].assign(predictions=counts.sum(axis=1).to_numpy())
    table = table.join(counts, on="period")
    for name, known in {"events at close": LABELS[:1], "events in the end": LABELS[:2]}.items():
        shares = frame[frame["outcome"].isin(known)].groupby("period")[stated["target"]].mean()
        table[name] = table["period"].map(shares.astype("float64"))
    return table


def compare_inputs(
    frame: pd.DataFrame, parts: dict[str, pd.DataFrame], bundle: deployment.Bundle, params: Params
) -> pd.DataFrame:
    """Return how far each feature moved from the training rows, per period; on the holdout too, as a measure.

    Returns
    -------
    DataFrame
        ``period``, ``feature``, ``missing`` (share, 0-1), ``psi`` against the bundle's reference, ``p`` of a test
        against training rows, ``q``, which is p corrected for the number of features, and ``drifted``: psi over its
        limit *and* q under `params.alpha`. With many rows q alone would call almost every difference a change.
    """
    rows, sample = [], deployment.sample(parts["train"], SAMPLE)
    for period, part in [(HOLDOUT, parts[HOLDOUT]), *frame.groupby("period")]:
        for name in bundle.features:
            expected = bundle.reference["features"][name]
            psi = drift.psi(expected, deployment.distribution(part[name], expected))
            rows.append((period, name, part[name].isna().mean(), psi, drift.p_value(sample[name], part[name])))
    table = pd.DataFrame(rows, columns=["period", "feature", "missing", "psi", "p"])
    table["q"] = table.groupby("period")["p"].transform(lambda p: drift.adjust(p.to_numpy()))
    return table.assign(drifted=(table["psi"] > params.alerts.inputs.limit) & (table["q"] < params.alpha))


def compare_predictions(frame: pd.DataFrame, holdout: pd.DataFrame, bundle: deployment.Bundle) -> pd.Series:
    """Return the PSI of the predicted probabilities of each period, by period.

    It is taken against the holdout, on which the scores were promised: they hold for probabilities like those.
    """
    expected = deployment.distribution(pd.Series(bundle.probability(holdout)))
    groups = frame.groupby("period")["probability"]
    return pd.Series(
        {period: drift.psi(expected, deployment.distribution(p, expected)) for period, p in groups}, dtype="float64"
    )


def performance(frame: pd.DataFrame, stated: dict[str, Any], agreed: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return, per period, every agreed metric with its interval, of the predictions whose label was there at its close.

    Beside what `training.evaluate` returns: ``gap`` (predicted less observed share), and ``skill``, the Brier skill
    score ``1 - brier / (share * (1 - share))``, which unlike the Brier score does not rise with the share of events.
    Periods in which not both outcomes are known are absent.
    """
    found = {}
    for period, rows in frame[frame["outcome"] == LABELS[0]].groupby("period"):
        target, p = rows[stated["target"]].to_numpy(dtype="int64"), rows["probability"].to_numpy()
        if len(set(target)) > 1:
            results = training.evaluate(target, p, rows[stated["time"]], stated, agreed)
            found[period] = {**results, "gap": gap(target, p, rows[stated["time"]], agreed), "skill": skill(results)}
    return found


def gap(target: np.ndarray, p: np.ndarray, times: pd.Series, agreed: dict[str, Any]) -> dict[str, float]:
    """Return the mean predicted probability less the share of events, with its interval over resampled days."""
    bootstrap = agreed_metrics.Bootstrap(**agreed["bootstrap"])
    return agreed_metrics.intervals(lambda weight: {"gap": np.average(p - target, weights=weight)}, times, bootstrap)[
        "gap"
    ]


def skill(results: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return the Brier skill score against a forecast that knows the share of events of the very period."""
    share = results["observed"]["value"]
    return {"value": 1 - results["brier"]["value"] / (share * (1 - share))}


def calibration(frame: pd.DataFrame, stated: dict[str, Any], agreed: dict[str, Any], bins: int = 10) -> pd.DataFrame:
    """Return, per period and bin of equal size, ``predicted`` and ``observed`` shares, the latter with its interval."""
    tables = []
    for period, rows in frame[frame["outcome"] == LABELS[0]].groupby("period"):
        cut = pd.qcut(rows["probability"], bins, labels=False, duplicates="drop").to_numpy()
        values = {"predicted": rows["probability"].to_numpy(), "observed": rows[stated["target"]].to_numpy("float64")}
        means = {name: _binned(cut, value, rows[stated["time"]], agreed) for name, value in values.items()}
        tables.append(means["observed"].assign(period=period, predicted=means["predicted"]["value"]))
    return pd.concat(tables) if tables else pd.DataFrame(columns=["value", "low", "high", "period", "predicted"])


def policies(frame: pd.DataFrame, stated: dict[str, Any], agreed: dict[str, Any]) -> pd.DataFrame:
    """Return, per period, the mean payoff of each policy with its interval: ``period``, and what stage 07 returns."""
    tables = [
        training.policies(
            rows[stated["target"]].to_numpy("int64"),
            rows["probability"].to_numpy(),
            rows[stated["time"]],
            stated,
            agreed,
        ).assign(period=period)
        for period, rows in frame[frame["outcome"] == LABELS[0]].groupby("period")
    ]
    return pd.concat(tables) if tables else pd.DataFrame(columns=["policy", "payoff", "low", "high", "period"])


def records(
    volume: pd.DataFrame,
    table: pd.DataFrame,
    drifts: pd.DataFrame,
    predictions: pd.Series,
    results: dict[str, dict[str, Any]],
) -> list[dict[str, Any]]:
    """Return all that is known of each period as plain values: what the rules judge, and ``periods.json`` keeps."""
    found = []
    for row in table.to_dict("records"):
        period = row["period"]
        span = volume.set_index("period").loc[period]
        part = drifts[drifts["period"] == period].sort_values("psi", ascending=False)
        found.append(
            {
                **row,
                "per_day": row["predictions"] / ((span["end"] - span["start"]) / pd.Timedelta(days=1)),
                "features": len(part),
                "drifted": dict(part.loc[part["drifted"], ["feature", "psi"]].itertuples(index=False)),
                "prediction_psi": predictions.get(period),
                "figures": results.get(period, {}),
            }
        )
    return gate.tidy(found)


def promised(bundle: deployment.Bundle, parts: dict[str, pd.DataFrame], stated: dict[str, Any]) -> dict[str, Any]:
    """Return what the model was deployed on: its ``figures`` on the holdout, and the ``per_day`` rows of training."""
    days = parts["train"][stated["time"]].dt.normalize().nunique()
    return {"figures": bundle.described["holdout"], "per_day": len(parts["train"]) / max(days, 1)}


def alerts(record: dict[str, Any], promise: dict[str, Any], params: Params) -> list[dict[str, Any]]:
    """Return what alerts in one period: ``alert``, ``severity``, ``value``, ``limit``, ``sentence``.

    Performance is held against the holdout, where it was promised. It alerts only if its whole interval is beyond the
    limit: what a few unlucky days could do is no alert.
    """
    rules = params.alerts
    found = [*_arrival_alerts(record, promise, rules), *_input_alerts(record, rules)]
    if record["figures"]:
        found += _outcome_alerts(record["figures"], promise["figures"], rules)
    return gate.tidy(found)


def judge(found: list[dict[str, Any]], promise: dict[str, Any], params: Params) -> list[dict[str, Any]]:
    """Return the records with the ``alerts`` of each period, and the ``decision`` and ``reasons`` at its close."""
    judged = []
    for record in found:
        alerted = {**record, "alerts": alerts(record, promise, params)}
        judged.append({**alerted, **decide(alerted, params)})
    return judged


def decide(record: dict[str, Any], params: Params) -> dict[str, Any]:
    """Return the ``decision`` at the close of a period, ``keep``, ``retrain`` or ``roll back``, and its ``reasons``.

    Roll back if the whole interval of the gain over the best policy without a model is below
    `params.decide.roll_back`: then the model does harm, and no retraining is quick enough. Retrain if enough alerts
    are high, or enough features drifted. Otherwise keep.
    """
    rules, gain = params.decide, record["figures"].get("gain")
    high = [alert["sentence"] for alert in record["alerts"] if alert["severity"] == "high"]
    drifted = len(record["drifted"]) / max(record["features"], 1)
    moved = f"{len(record['drifted'])} of {record['features']} features drifted"
    if gain and gain["high"] < rules.roll_back:
        return {
            "decision": "roll back",
            "reasons": [f"The gain over the best policy without a model is {agreed_metrics.with_interval(gain)}."],
        }
    reasons = high if len(high) >= rules.retrain_high else []
    if drifted >= rules.retrain_drifted:
        reasons = [*reasons, f"{moved}, which is at least {rules.retrain_drifted:.0%}."]
    if reasons:
        return {"decision": "retrain", "reasons": reasons}
    worth = (
        f"the gain over the best policy without a model is {agreed_metrics.with_interval(gain)}"
        if gain
        else "no outcomes are known yet"
    )
    return {"decision": "keep", "reasons": [f"{len(high)} alerts of severity high; {moved}; {worth}."]}


def conclude(judged: list[dict[str, Any]], agreed: dict[str, Any], version: str) -> dict[str, Any]:
    """Return the decision of the last period, what stands behind it, and what to go back to: ``decision.json``."""
    last = judged[-1] if judged else {"decision": "keep", "reasons": [NOTHING]}
    evidence = ("period", "decision", "reasons", "alerts")
    return {
        "decision": last["decision"],
        "reasons": last["reasons"],
        "model": version,
        "fallback": f"the version before, or the policy '{agreed['best_baseline']}'",
        "periods": [{key: record[key] for key in evidence} for record in judged],
    }


def save(judged: list[dict[str, Any]], drifts: pd.DataFrame, decision: dict[str, Any]) -> None:
    """Write ``data/monitoring/``: what was found in each period, the drift of each feature, and the decision."""
    folder = io.output(MONITORING)
    io.write_json(judged, folder / "periods.json")
    io.write_table(drifts, folder / "drift.parquet")
    io.write_json(decision, folder / "decision.json")


def checks(
    frame: pd.DataFrame, volume: pd.DataFrame, judged: list[dict[str, Any]], decision: dict[str, Any]
) -> list[gate.Check]:
    """Return the gate: nothing lost on the way, every period judged, a decision with reasons."""
    lost = int((volume["raw"] - volume["quarantined"] - volume["ready"]).abs().sum())
    probability = frame["probability"].to_numpy()
    accounted = sum(record[name] for record in judged for name in LABELS)
    return [
        gate.holds("periods monitored", len(judged) == len(volume), len(judged), f"all {len(volume)} that arrived"),
        gate.at_most("rows neither quarantined nor predicted", lost, 0),
        gate.at_most("predictions that are no probability", int((~((probability >= 0) & (probability <= 1))).sum()), 0),
        gate.at_most("predictions whose label is unaccounted for", len(frame) - accounted, 0),
        gate.at_least("reasons for the decision", len(decision["reasons"]), 1),
    ]


def metrics(judged: list[dict[str, Any]], decision: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of this stage: ``periods`` for programs, ``by_period`` (scalars) for ``dvc metrics``."""
    listed = []
    for record in judged:
        figures = {name: figure["value"] for name, figure in record["figures"].items()}
        counts = {name: record[name] for name in ("predictions", "quarantined", "prediction_psi")}
        names = [alert["alert"] for alert in record["alerts"]]
        plain = {
            "period": record["period"],
            **counts,
            "labelled": record["at close"],
            "drifted": len(record["drifted"]),
        }
        listed.append({**plain, **figures, "decision": record["decision"], "alerts": names})
    by_period = {
        row["period"]: {**{key: value for key, value in row.items() if key != "period"}, "alerts": len(row["alerts"])}
        for row in listed
    }
    return {"decision": decision["decision"], "periods": listed, "by_period": by_period}


def headline(judged: list[dict[str, Any]], decision: dict[str, Any]) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    if not judged:
        return {"decision": decision["decision"], "periods": "none yet"}
    return {f"alerts in {judged[-1]['period']}": f"{len(judged[-1]['alerts'])}", "decision": decision["decision"]}


def verdict(judged: list[dict[str, Any]], decision: dict[str, Any]) -> str:
    """Return the bottom line."""
    if not judged:
        return NOTHING
    last = judged[-1]
    names = _listed([alert["alert"] for alert in last["alerts"]]) or "nothing"
    gain = last["figures"].get("gain")
    worth = (
        f"; the model wins {agreed_metrics.with_interval(gain)} per row over the best policy without one"
        if gain
        else ""
    )
    return f"{decision['decision'].capitalize()}: at the close of {last['period']} alerts came from {names}{worth}."


def plot_drift(drifts: pd.DataFrame, params: Params, most: int = 24) -> Figure:
    """Draw the PSI of the features that moved most, per period beside the holdout; bold where a feature drifted."""
    if set(drifts["period"]) <= {HOLDOUT}:
        return _blank("Which inputs have moved?")
    table = drifts.pivot(index="feature", columns="period", values="psi")
    table = table[[HOLDOUT, *sorted(set(table) - {HOLDOUT})]]
    table = table.loc[table.max(axis=1).sort_values(ascending=False).index[:most]]
    bold = drifts.pivot(index="feature", columns="period", values="drifted").loc[table.index, table.columns].to_numpy()
    fig, axes = plots.canvas("Which inputs have moved?", width=7, height=0.27 * len(table) + 1.4)
    shades = axes.imshow(table, cmap="Blues", vmin=0, vmax=4 * params.alerts.inputs.limit, aspect="auto")
    for (row, column), value in np.ndenumerate(table.to_numpy()):
        dark = "white" if value > 2 * params.alerts.inputs.limit else "#333333"
        weight = "bold" if bold[row, column] else "normal"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=dark, fontweight=weight, fontsize=8)
    axes.axvline(0.5, color="white", lw=6)
    axes.set_xticks(range(len(table.columns)), table.columns)
    axes.set_yticks(range(len(table)), table.index)
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    fig.colorbar(shades, ax=axes, label="population stability index", extend="max", shrink=0.6)
    return fig


def plot_performance(judged: list[dict[str, Any]], promise: dict[str, Any]) -> Figure:
    """Draw three figures per period with their intervals, over the interval of the holdout."""
    shown = [record for record in judged if record["figures"]]
    question = "Is it as good as it was on the holdout?"
    if not shown:
        return _blank(question)
    fig, panels = plots.canvas(question, height=3.2, ncols=len(SHOWN))
    names = [record["period"] for record in shown]
    for axes, (name, title) in zip(panels, SHOWN.items(), strict=True):
        held = promise["figures"].get(name)
        if held:
            axes.axhspan(held["low"], held["high"], color=plots.SKY, alpha=0.25, lw=0, label="holdout")
            axes.axhline(held["value"], color=plots.SKY, lw=1.5)
        figures = pd.DataFrame([record["figures"][name] for record in shown])
        _points(axes, np.arange(len(names)), figures["value"], figures, plots.BLUE, "period")
        axes.set_title(title, fontsize=9)
        _period_axis(axes, names)
    panels[-1].axhline(0, color=plots.GREY, lw=1)
    plots.as_share(panels[-1])
    panels[0].legend(frameon=False, fontsize=8)
    return fig


def plot_calibration(curves: pd.DataFrame, most: int = 6) -> Figure:
    """Draw the observed share of events against the predicted probability in each of the last periods."""
    names = list(dict.fromkeys(curves["period"]))[-most:]
    question = "Do the probabilities still mean what they say?"
    if not names:
        return _blank(question)
    fig, panels = plots.canvas(question, height=3, ncols=len(names), sharex=True, sharey=True, squeeze=False)
    top = float(curves[["predicted", "high"]].max().max()) * 1.05
    for axes, name in zip(panels[0], names, strict=True):
        part = curves[curves["period"] == name]
        axes.plot([0, top], [0, top], color=plots.GREY, ls="--", lw=1, label="perfect")
        _points(axes, part["predicted"], part["value"], part, plots.BLUE, "by decile")
        axes.plot(part["predicted"], part["value"], color=plots.BLUE, lw=1)
        axes.set_title(name, fontsize=9)
        plots.as_share(axes, "x")
    plots.as_share(panels[0][0])
    panels[0][0].set_ylabel("observed share")
    panels[0][0].legend(frameon=False, fontsize=8, loc="upper left")
    fig.supxlabel("predicted probability", fontsize=9)
    return fig


def plot_policies(table: pd.DataFrame, stated: dict[str, Any]) -> Figure:
    """Draw what following the model pays per row in each period, beside the policies without a model."""
    question = "Is it still worth following the model?"
    if table.empty:
        return _blank(question)
    shown = table[table["policy"] != "perfect foresight"]
    names, policy_names = list(dict.fromkeys(shown["period"])), list(dict.fromkeys(shown["policy"]))
    fig, axes = plots.canvas(question, height=3.2)
    for number, policy in enumerate(policy_names):
        part, color = shown[shown["policy"] == policy], plots.PALETTE[number % len(plots.PALETTE)]
        offset = 0.14 * (number - (len(policy_names) - 1) / 2)
        _points(axes, np.arange(len(names)) + offset, part["payoff"], part, color, policy)
    _period_axis(axes, names)
    axes.set_ylabel(f"payoff per {stated['unit']}\n({stated['payoff_unit']})")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def weekly(frame: pd.DataFrame, stated: dict[str, Any]) -> pd.DataFrame:
    """Return, per week (UTC), the ``predicted`` and ``observed`` share of events of rows with a label, and ``rows``."""
    known = frame[frame["outcome"].isin(LABELS[:2])]
    week = known[stated["time"]].dt.to_period("W").dt.start_time.rename("week")
    aggregates = {
        "predicted": ("probability", "mean"),
        "observed": (stated["target"], "mean"),
        "rows": ("period", "size"),
    }
    return known.groupby(week).agg(**aggregates).astype({"observed": "float64"}).reset_index()


def plot_weeks(weeks: pd.DataFrame, volume: pd.DataFrame, stated: dict[str, Any]) -> Figure:
    """Draw the predicted and the observed share of events per week."""
    question = "Did it see the turns coming?"
    if weeks.empty:
        return _blank(question)
    fig, axes = plots.canvas(question, height=3)
    for name, color, style in (("observed", plots.ORANGE, "-"), ("predicted", plots.BLUE, "--")):
        axes.plot(weeks["week"], weeks[name], color=color, ls=style, marker="o", ms=4, label=name)
    axes.fill_between(weeks["week"], weeks["predicted"], weeks["observed"], color=plots.GREY, alpha=0.15, lw=0)
    for start in volume["start"].iloc[1:]:
        axes.axvline(start, color=plots.GREY, lw=0.8, ls=":")
    axes.set(xlabel="week (UTC)", ylabel=f"share of {stated['units']}\nwith the event", ylim=(0, None))
    plots.as_share(axes)
    axes.legend(frameon=False)
    return fig


def scorecard(judged: list[dict[str, Any]], promise: dict[str, Any]) -> pd.DataFrame:
    """Return the figures of each period as text with intervals, above them those of the holdout."""
    names = ("roc_auc", "log_loss", "brier", "skill", "observed", "predicted", "payoff", "gain")
    held = {**promise["figures"], "skill": skill(promise["figures"])}
    rows = [(HOLDOUT, held), *((record["period"], record["figures"]) for record in judged)]
    return pd.DataFrame(
        [
            {"period": period, **{name: agreed_metrics.with_interval(figures.get(name)) for name in names}}
            for period, figures in rows
        ]
    )


def alert_table(judged: list[dict[str, Any]]) -> pd.DataFrame:
    """Return every alert of every period for reading."""
    rows = [
        (record["period"], alert["alert"], alert["severity"], alert["sentence"])
        for record in judged
        for alert in record["alerts"]
    ]
    return pd.DataFrame(rows, columns=["period", "alert", "severity", "what was found"])


def decision_table(judged: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the decision at the close of each period, and its reasons."""
    rows = [(record["period"], record["decision"], " ".join(record["reasons"])) for record in judged]
    return pd.DataFrame(rows, columns=["close of", "decision", "reasons"])


def describe_replay(volume: pd.DataFrame, calendar: pd.DataFrame, stated: dict[str, Any], version: str) -> str:
    """Return how much was replayed, as a sentence."""
    if volume.empty:
        return NOTHING
    silent = len(calendar) - len(volume)
    more = f" The source holds nothing for {silent} later periods." if silent else ""
    return (
        f"**{volume['ready'].sum():,}** {stated['units']} arrived in {len(volume)} periods and were answered by model "
        f"`{version}`; {volume['quarantined'].sum():,} rows broke the contract.{more}"
    )


def describe_arrivals(table: pd.DataFrame, params: Params) -> str:
    """Return how complete the labels were when they were needed, as a sentence."""
    total = table["predictions"].sum()
    if not total:
        return NOTHING
    later, never, still = (int(table[name].sum()) for name in LABELS[1:])
    shift = (table["events in the end"] - table["events at close"]).abs().max()
    return (
        f"{table['at close'].sum() / total:.1%} of the labels were known at the close of their period, "
        f"{params.label_delay} after the event; {later:,} came later, {never:,} never will, {still:,} are open. "
        f"Waiting for the late ones moves the share of events of no period by more than {100 * shift:.2f} points."
    )


def describe_drift(drifts: pd.DataFrame, frame: pd.DataFrame, train: pd.DataFrame, stated: dict[str, Any]) -> str:
    """Return which features moved, and whether a season is seen for the first time; also an alt text."""
    if frame.empty:
        return NOTHING
    counts = drifts.groupby("period")["drifted"].sum()
    held, rest = counts[HOLDOUT], counts.drop(HOLDOUT)
    top = drifts[drifts["period"] != HOLDOUT].sort_values("psi").iloc[-1]
    new = set(frame[stated["time"]].dt.month) - set(train[stated["time"]].dt.month)
    season = (
        f" {len(new)} of these calendar months were in no training row: season and change look alike." if new else ""
    )
    return (
        f"Drifted, of {drifts['feature'].nunique()} features: {_listed([f'{n} in {period}' for period, n in rest.items()])}; "
        f"on the holdout, where the model was accepted, it was {held}. The farthest is `{top['feature']}` in "
        f"{top['period']}, with a PSI of {top['psi']:.2f}.{season}"
    )


def describe_performance(judged: list[dict[str, Any]], promise: dict[str, Any]) -> str:
    """Return how the periods compare with the holdout, as sentences; also an alt text."""
    shown = [record for record in judged if record["figures"]]
    if not shown:
        return NOTHING
    auc = {record["period"]: record["figures"]["roc_auc"] for record in shown}
    low = min(auc, key=lambda period: auc[period]["value"])
    brier = max(shown, key=lambda record: record["figures"]["brier"]["value"])
    figures = brier["figures"]
    return (
        f"ROC AUC was {promise['figures']['roc_auc']['value']:.3f} on the holdout; its lowest since is {agreed_metrics.with_interval(auc[low])}, "
        f"in {low}. The Brier score is worst in {brier['period']}, {agreed_metrics.with_interval(figures['brier'])}, where "
        f"{figures['observed']['value']:.0%} were events: a mixed outcome is harder to foresee. Against a forecast of the period's own share "
        f"the skill is {figures['skill']['value']:.3f} there, {skill(promise['figures'])['value']:.3f} on the holdout."
    )


def describe_calibration(judged: list[dict[str, Any]]) -> str:
    """Return by how much the probabilities are off in each period, as a sentence; also an alt text."""
    gaps = [(record["period"], record["figures"]["gap"]) for record in judged if record["figures"]]
    if not gaps:
        return NOTHING
    listed = _listed(
        [
            f"{100 * gap['value']:+.1f} ({100 * gap['low']:+.1f} to {100 * gap['high']:+.1f}) in {name}"
            for name, gap in gaps
        ]
    )
    return f"Predicted less observed share, in points: {listed}. Above zero the model overstates the probability."


def describe_policies(table: pd.DataFrame) -> str:
    """Return in which periods the model paid more than every policy without one; also an alt text."""
    if table.empty:
        return NOTHING
    means = table.pivot(index="period", columns="policy", values="payoff").drop(columns="perfect foresight")
    rest = means.drop(columns="follow the model")
    won = means["follow the model"] - rest.max(axis=1)
    listed = _listed([f"{won[period]:+.3f} over *{rest.loc[period].idxmax()}* in {period}" for period in won.index])
    return f"Following the model paid more than the best policy without one in {(won > 0).sum()} of {len(won)} periods: {listed}."


def describe_weeks(weeks: pd.DataFrame) -> str:
    """Return in which week the prediction was farthest off; also an alt text."""
    if weeks.empty:
        return NOTHING
    off = (weeks["predicted"] - weeks["observed"]).abs()
    worst = weeks.loc[off.idxmax()]
    return (
        f"Over {len(weeks)} weeks predicted and observed shares go together with a correlation of "
        f"{weeks['predicted'].corr(weeks['observed']):.2f}. The farthest apart is the week of {worst['week'].date()}: "
        f"{worst['predicted']:.0%} predicted, {worst['observed']:.0%} observed."
    )


def describe_alerts(judged: list[dict[str, Any]]) -> str:
    """Return how many alerts each period raised, and how many of them are high, as a sentence."""
    if not judged:
        return NOTHING
    high = sum(alert["severity"] == "high" for record in judged for alert in record["alerts"])
    counts = _listed([f"{len(record['alerts'])} in {record['period']}" for record in judged])
    return f"Alerts raised: {counts}. Of severity high: **{high}**."


def describe_decision(decision: dict[str, Any]) -> str:
    """Return the decision with its reasons, as Markdown."""
    back = f" Back to {decision['fallback']}." if decision["decision"] == "roll back" else ""
    return f"**{decision['decision'].capitalize()}.** {' '.join(decision['reasons'])}{back}"


def _arrival_alerts(record: dict[str, Any], promise: dict[str, Any], rules: Rules) -> list[dict[str, Any]]:
    broken = record["quarantined"] / max(record["raw"], 1)
    change = record["per_day"] / promise["per_day"] - 1
    found = []
    if broken > rules.quarantined.limit:
        found.append(_alert("quarantined", rules.quarantined, broken, f"{broken:.2%} of the rows broke the contract."))
    if abs(change) > rules.volume.limit:
        sentence = f"{record['per_day']:,.0f} rows a day, {change:+.0%} against {promise['per_day']:,.0f} in training."
        found.append(_alert("volume", rules.volume, change, sentence))
    return found


def _input_alerts(record: dict[str, Any], rules: Rules) -> list[dict[str, Any]]:
    found, drifted, psi = [], record["drifted"], record["prediction_psi"]
    if drifted:
        first = ", ".join(f"{name} ({value:.2f})" for name, value in list(drifted.items())[:3])
        sentence = f"{len(drifted)} of {record['features']} features drifted; farthest, by PSI: {first}."
        found.append(_alert("inputs", rules.inputs, max(drifted.values()), sentence))
    if psi is not None and psi > rules.predictions.limit:
        sentence = f"The probabilities are distributed unlike those of the holdout: PSI {psi:.2f}."
        found.append(_alert("predictions", rules.predictions, psi, sentence))
    return found


def _outcome_alerts(now: dict[str, Any], held: dict[str, Any], rules: Rules) -> list[dict[str, Any]]:
    auc, brier, gap, gain, share = (now[name] for name in ("roc_auc", "brier", "gap", "gain", "observed"))
    was = {name: held[name]["value"] for name in ("roc_auc", "brier", "observed")}
    moved = share["value"] - was["observed"]
    tests = [
        ("share", abs(moved) > rules.share.limit and not share["low"] <= was["observed"] <= share["high"], moved,
         f"The share of events is {agreed_metrics.with_interval(share)}, and was {was['observed']:.3f} on the holdout."),
        ("ranking", auc["high"] < was["roc_auc"] - rules.ranking.limit, auc["value"],
         f"ROC AUC is {agreed_metrics.with_interval(auc)}, and was {was['roc_auc']:.3f} on the holdout."),
        ("brier", brier["low"] > was["brier"] + rules.brier.limit, brier["value"],
         f"The Brier score is {agreed_metrics.with_interval(brier)}, and was {was['brier']:.3f} on the holdout; "
         f"the skill is {skill(now)['value']:.3f}, and was {skill(held)['value']:.3f}."),
        ("calibration", abs(gap["value"]) > rules.calibration.limit and not gap["low"] <= 0 <= gap["high"], gap["value"],
         f"Predicted less observed share is {agreed_metrics.with_interval(gap)}."),
        ("gain", gain["low"] < rules.gain.limit, gain["value"],
         f"The gain over the best policy without a model is {agreed_metrics.with_interval(gain)}: it is not sure to be one."),
    ]  # fmt: skip
    return [_alert(name, getattr(rules, name), value, text) for name, alerting, value, text in tests if alerting]


def _alert(name: str, rule: Rule, value: float, sentence: str) -> dict[str, Any]:
    return {"alert": name, "severity": rule.severity, "value": value, "limit": rule.limit, "sentence": sentence}


def _period(times: pd.Series, calendar: pd.DataFrame) -> pd.Series:
    """Return the period of each time; times before the first belong to it, those after the last, or none, to the last."""
    names = calendar["period"].to_numpy(dtype="object")
    if not len(names):
        return pd.Series("", index=times.index, dtype="object")
    position = np.searchsorted(calendar["start"].to_numpy(), times.to_numpy(), side="right") - 1
    return pd.Series(names[np.maximum(position, 0)], index=times.index, dtype="object")


def _binned(bins: np.ndarray, values: np.ndarray, times: pd.Series, agreed: dict[str, Any]) -> pd.DataFrame:
    """Return the mean of `values` in each bin with its interval over resampled days: ``value``, ``low``, ``high``."""

    def statistic(weight: np.ndarray) -> dict[str, float]:
        with np.errstate(invalid="ignore"):  # a bin may have no row on the days drawn
            means = np.bincount(bins, weight * values) / np.bincount(bins, weight)
        return {str(number): float(mean) for number, mean in enumerate(means)}

    found = agreed_metrics.intervals(statistic, times, agreed_metrics.Bootstrap(**agreed["bootstrap"]))
    return pd.DataFrame(found.values())


def _points(axes: Any, x: Any, y: pd.Series, ends: pd.DataFrame, color: str, label: str) -> None:
    errors = np.abs(ends[["low", "high"]].to_numpy().T - y.to_numpy())
    axes.errorbar(x, y, yerr=errors, fmt="o", ms=5, lw=1.4, capsize=3, color=color, label=label)


def _period_axis(axes: Any, names: list[str]) -> None:
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.grid(axis="x", visible=False)


def _blank(question: str) -> Figure:
    fig, axes = plots.canvas(question, height=1.2)
    axes.text(0.5, 0.5, "nothing to monitor yet", ha="center", va="center", color=plots.GREY)
    axes.set_axis_off()
    return fig


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
