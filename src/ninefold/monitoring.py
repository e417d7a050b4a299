"""Is it still right in production, and should we retrain?

Reads: the source after ``collection.as_of``, as stage 02 reads it; ``data/lake/`` and ``data/features/``;
``data/problem.json``, ``data/metrics.json``; ``models/bundle/``. With ``source: log``, instead of the source, the prediction
log and the labels that were delivered, ``data/predictions/``.
Writes: ``data/monitoring/``: ``periods.json``, ``drift.parquet``, ``answers.parquet``, ``decision.json``, ``strategies.json``.
Gate: every period was monitored, no prediction or label was lost, and the decision has reasons. What it decides is a
result: alerts, and a decision to retrain, do not fail the gate. Where nothing has arrived yet, the holdout stands alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any, Literal, NamedTuple

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
from pydantic import Field

from ninefold import alerts, collection, features, labels, processing, production
from ninefold.alerts import Decide, Rules
from ninefold.core import decisions, drift, engine, evaluation, examination, gate, io, slices, texts
from ninefold.core import period as spans
from ninefold.core.errors import DataError
from ninefold.core.examination import Reference
from ninefold.core.params import Day, Duration, Section
from ninefold.core.scores import Bootstrap, blocks, intervals, with_interval
from ninefold.notify import Deliver
from ninefold.problem import listed
from ninefold.serving import bundle as packing
from ninefold.serving.bundle import Bundle
from ninefold.serving.signature import FEATURE_KINDS

MONITORING, HOLDOUT = "data/monitoring", "holdout"
PERIOD, STATUS = "@period", "@status"  # beside the user's columns, of which none may be called so
SAMPLE = 10_000
MOST_ROWS = 50_000  # of a period, whose scores are resampled
LABELS = ("at close", "later", "never", "open")
MOST_PERIODS = 400
ASKED = ("/predict", "/v2/models/{name}/infer", "/desk/record")  # the routes that decide
LENGTHS = {"day": 1, "week": 7, "month": 30}  # of a period, days
FAR = pd.Timestamp("2262-01-01")
NOTHING = "Nothing has arrived since the model was built, so there is nothing to judge yet."


class Params(Section):
    """Section ``monitoring`` of ``params.yaml``."""

    source: Literal["replay", "log"] = "replay"
    replay_until: Day | None = None
    period: Literal["day", "week", "month"] = "month"
    label_delay: Duration = "0h"
    alpha: float = Field(gt=0, lt=1)
    false_alarms: float = Field(default=0.05, gt=0, lt=1)
    alerts: Rules
    decide: Decide
    deliver: Deliver = Deliver()


def periods(params: Params, collected: collection.Params, stated: dict[str, Any]) -> pd.DataFrame:
    """Return the periods to replay: ``period`` ("2013-10", or the first day), ``start`` and ``end`` (UTC).

    There are none if nothing can follow. They begin after `collected.as_of` and end with `params.replay_until`, or with the source.

    Raises
    ------
    DataError
        If the source ends more than `MOST_PERIODS` periods later.
    """
    if not stated["time"] or collected.tables[stated["table"]].time is None or collected.as_of is None:
        return collection.periods(collected).iloc[:0]
    start = collected.as_of + timedelta(days=1)
    last = params.replay_until or _last_day(collected, stated, start)
    if last is None or last < start:
        return collection.periods(collected).iloc[:0]
    calendar = cut(start, last, params.period)
    if len(calendar) > MOST_PERIODS:
        raise DataError(
            f"params.yaml, monitoring.replay_until: from collection.as_of ({collected.as_of}) to {last} there are "
            f"{len(calendar)} {params.period}s, expected at most {MOST_PERIODS}; set replay_until to the last day to replay"
        )
    return calendar


def newest(collected: collection.Params, stated: dict[str, Any], start: pd.Timestamp) -> pd.Timestamp:
    """Return the time of the last row that the source holds from `start` on; NaT if it holds none."""
    source = collected.tables[stated["table"]]
    rows = collection.reader(collected)(stated["table"], start, FAR)
    return texts.moments(rows[source.time], source.format).max()


def cut(first: date, last: date, unit: str) -> pd.DataFrame:
    """Return the days from `first` to `last` by day, week or month: ``period``, ``start`` and ``end`` (UTC).

    Weeks are seven days each, from `first` on, so that each has all weekdays; a rest of less than half a week belongs to
    the last one. They are named by their first day.
    """
    end = pd.Timestamp(last) + pd.Timedelta(days=1)
    if unit == "month":
        months = pd.period_range(first, last, freq="M")
        starts = [max(month.start_time, pd.Timestamp(first)) for month in months]
        names = months.astype(str).tolist()
    else:
        starts = list(pd.date_range(first, last, freq=f"{LENGTHS[unit]}D"))
        if len(starts) > 1 and 2 * (end - starts[-1]).days < LENGTHS[unit]:
            starts.pop()
        names = [f"{start:%Y-%m-%d}" for start in starts]
    return pd.DataFrame({"period": names, "start": starts, "end": [*starts[1:], end]})


def replay(
    calendar: pd.DataFrame, earlier: dict[str, Any], stated: dict[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Put the periods of `calendar` through stages 02, 03 and 06 as those define them.

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
        The feature table of what arrived, by time, and its ``@period``.
    volume : DataFrame
        A row per period, up to the last in which anything arrived: ``period``, ``start``, ``end``, ``raw``,
        ``quarantined``, ``ready`` (rows, int64). A row without a readable time counts in the last period.
    """
    if calendar.empty:
        return features.load().iloc[:0].assign(**{PERIOD: ""}), calendar.assign(raw=0, quarantined=0, ready=0)
    connection = engine.connect()
    judged = arrive(calendar, earlier, connection)
    frame = build(judged, earlier, stated, connection)
    arrived = judged[stated["table"]].select(stated["time"], processing.RULE).to_pandas()
    period = _period(arrived[stated["time"]], calendar)
    frame = frame.assign(**{PERIOD: _period(frame[stated["time"]], calendar)})
    counts = {"raw": period, "quarantined": period[arrived[processing.RULE].notna()], "ready": frame[PERIOD]}
    numbers = {name: calendar["period"].map(found.value_counts()).fillna(0) for name, found in counts.items()}
    volume = calendar.assign(**numbers).astype(dict.fromkeys(numbers, "int64"))
    return frame, volume[: int(volume["raw"].to_numpy().nonzero()[0].max(initial=-1)) + 1]


def arrived(
    params: Params, earlier: dict[str, Any], bundle: Bundle, stated: dict[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what came after the model was built, with its answers, and its volume: of the log, or replayed (`replay`)."""
    if params.source == "log":
        return observe(params, bundle, stated)
    frame, volume = replay(periods(params, earlier["collection"], stated), earlier, stated)
    return predict(frame, bundle), volume


def observe(params: Params, bundle: Bundle, stated: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what the service and batch runs answered, with the outcomes that were delivered: decisions, each once.

    A row belongs to the period of its time, or, where it has none, of its answer. Periods reach to today, so that silence
    shows. What was answered several times counts once, see `labels.join`; a label counts at the close of its period if it
    was known by then: by its ``known_at``, or else `params.label_delay` after the event.

    Returns
    -------
    frame : DataFrame
        What `production.served` and `labels.join` return, ``@period`` and ``@status``.
    volume : DataFrame
        As `replay` has it; nothing is quarantined: what breaks the contract of a request is refused.
    """
    like = features.load().iloc[:0]
    table = labels.join(production.served(bundle, like=like), labels.load(), stated).table
    table = table[table[labels.LABEL] != "superseded"].reset_index(drop=True)
    if table.empty:
        return table.assign(**{PERIOD: "", STATUS: ""}), cut(date.today(), date.today(), params.period).iloc[:0].assign(
            raw=0, quarantined=0, ready=0
        )
    when = table[stated["time"]].fillna(table[production.MOMENT]) if stated["time"] else table[production.MOMENT]
    calendar = cut(when.min().date(), max(when.max().date(), date.today()), params.period)
    place = _period(when, calendar)
    counts = calendar["period"].map(place.value_counts()).fillna(0).astype("int64")
    close = calendar.set_index("period")["end"].reindex(place).to_numpy()
    known = table[labels.KNOWN_AT].fillna(when + pd.Timedelta(params.label_delay)).to_numpy()
    label = table[labels.LABEL]
    status = np.select([label == "never", label != "known", known > close], ["never", "open", "later"], LABELS[0])
    return table.assign(**{PERIOD: place, STATUS: status}), calendar.assign(raw=counts, quarantined=0, ready=counts)


def watched(
    frame: pd.DataFrame, volume: pd.DataFrame, params: Params, bundle: Bundle, stated: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return what the service itself tells of each period; nothing of a replay, which asks none.

    Returns
    -------
    dict
        Period -> ``service``: ``requests``, ``errors`` (status 500 and more), ``slow`` ones, ``refused`` ones; ``skew``: the
        features that were served unlike the feature table has them for the same rows, with the ``share`` of these rows.
    """
    if params.source != "log" or volume.empty:
        return {}
    days, offline = production.traffic(routes=ASKED), features.load()
    plain = [name for name in bundle.features if name not in bundle.described["log"]["redact"]]
    found = {}
    for span in volume.itertuples():
        part = days[(days["period"] >= span.start) & (days["period"] < span.end)]
        skewed = production.skew(frame[frame[PERIOD] == span.period], offline, stated, plain)
        skewed = skewed[skewed["differ"] > 0].sort_values("share", ascending=False)
        counts = {name: int(part[name].sum()) for name in ("requests", "errors", "slow", "refused")}
        found[span.period] = {"service": counts, "skew": skewed[["feature", "rows", "share"]].to_dict("records")}
    return found


def arrive(calendar: pd.DataFrame, earlier: dict[str, Any], connection: ibis.BaseBackend) -> dict[str, ir.Table]:
    """Return the tables that arrived in the periods of `calendar`, typed and judged; those without time come whole.

    A row whose key the lake holds already breaks the rule ``unique``, as it would if both had arrived together.
    """
    sources, contract = earlier["collection"].tables, earlier["processing"]
    read, lake = collection.reader(earlier["collection"]), engine.tables(connection, features.LAKE)
    start, end = calendar["start"].iloc[0], calendar["end"].iloc[-1]
    raw = {}
    for name in contract.tables:
        rows = read(name, start, end) if sources[name].time else read(name, None, None)
        raw[name] = engine.table(connection, rows.astype("str"), period=calendar["period"].iloc[-1])
    earlier = {name: lake[name] for name in contract.tables if sources[name].time}
    judged = processing.judge(processing.convert(raw, contract), contract, earlier)
    return {name: engine.keep(table.drop(engine.ROW, engine.PERIOD)) for name, table in judged.items()}


def build(
    judged: dict[str, ir.Table], earlier: dict[str, Any], stated: dict[str, Any], connection: ibis.BaseBackend
) -> pd.DataFrame:
    """Return the feature table of the sound rows of `judged`, by time; their history reaches back into the lake.

    Tables without time are the lake's: what was known when the model was deployed, and nothing later.
    """
    sources, params = earlier["collection"].tables, features.declared(earlier["features"], stated)
    tables = engine.tables(connection, features.LAKE)
    sound = {
        name: table.filter(table[processing.RULE].isnull()).drop(processing.RULE).cast(tables[name].schema())
        for name, table in judged.items()
    }
    for name in (name for name in tables if sources[name].time):
        tables[name] = tables[name].union(sound[name])
    new, events = sound[stated["table"]], features.build(tables, params, stated)
    first = new[stated["time"]].min().execute()
    back = features.reach(params, stated)
    recent = events if pd.isna(first) else events.filter(events[stated["time"]] >= first - back)
    told = features.add_history(engine.settle(recent), params, stated)
    told = told.semi_join(new, [told[name].identical_to(new[name]) for name in stated["key"]])
    return features.assemble(told, params, stated).order_by(features.order(stated)).to_pandas()


def predict(frame: pd.DataFrame, bundle: Bundle) -> pd.DataFrame:
    """Add what the deployed model says of each row, an ``@`` before each name: forecast, action, expected payoff."""
    if frame.empty:
        wanted = [*decisions.forecast_columns(bundle.stated), "action", "expected_payoff"]
        return frame.assign(**{f"@{name}": pd.Series(dtype="float64") for name in wanted})
    return frame.assign(**{f"@{name}": column.to_numpy() for name, column in bundle.decide(frame).items()})


def hold(rows: pd.DataFrame, bundle: Bundle) -> pd.DataFrame:
    """Return the rows of the holdout as a period of their own, answered by the deployed model, all outcomes known."""
    return predict(rows.assign(**{PERIOD: HOLDOUT, STATUS: LABELS[0]}), bundle)


def beside(holdout: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the holdout and what came later as one table, the holdout first."""
    return pd.concat([holdout, frame], ignore_index=True) if len(frame) else holdout


def forecast(frame: pd.DataFrame, stated: dict[str, Any]) -> pd.DataFrame:
    """Return the forecast that `predict` added, under its own names."""
    names = decisions.forecast_columns(stated)
    return frame[[f"@{name}" for name in names]].set_axis(names, axis=1).reset_index(drop=True)


def target_of(rows: pd.DataFrame, stated: dict[str, Any]) -> np.ndarray:
    """Return the outcomes of rows whose label is known, as scores take them: int64 for classes, else float64."""
    return rows[stated["target"]].to_numpy(dtype="int64" if decisions.is_class(stated) else "float64")


def wait(frame: pd.DataFrame, volume: pd.DataFrame, params: Params, stated: dict[str, Any]) -> pd.DataFrame:
    """Add ``@status``: when the label of each prediction is known, `params.label_delay` after the event.

    ``at close`` of its own period, ``later``, ``never`` (the target is missing), or still ``open`` at the last close.
    """
    if STATUS in frame:  # the log tells when each label came
        return frame
    if frame.empty:
        return frame.assign(**{STATUS: ""})
    known = frame[stated["time"]] + pd.Timedelta(params.label_delay)
    close = volume.set_index("period")["end"].reindex(frame[PERIOD]).to_numpy()
    status = np.select(
        [known > volume["end"].max(), frame[stated["target"]].isna(), known > close],
        ["open", "never", "later"],
        LABELS[0],
    )
    return frame.assign(**{STATUS: status})


def arrivals(frame: pd.DataFrame, volume: pd.DataFrame, stated: dict[str, Any]) -> pd.DataFrame:
    """Return, per period, how many labels arrived when, and the mean of `decisions.event` at its close and in the end."""
    counts = pd.crosstab(frame[PERIOD], frame[STATUS]).reindex(index=volume["period"], columns=LABELS, fill_value=0)
    table = volume[["period", "raw", "quarantined"]].assign(predictions=counts.sum(axis=1).to_numpy())
    table = table.join(counts, on="period")
    for name, known in {"level at close": LABELS[:1], "level in the end": LABELS[:2]}.items():
        rows = frame[frame[STATUS].isin(known) & frame[stated["target"]].notna()]  # in production some are to come
        event = pd.Series(decisions.event(target_of(rows, stated), stated), rows.index)
        table[name] = table["period"].map(event.groupby(rows[PERIOD]).mean()).astype("float64")
    return table


def compare_inputs(
    frame: pd.DataFrame, parts: dict[str, pd.DataFrame], bundle: Bundle, params: Params, holdout: bool = True
) -> pd.DataFrame:
    """Return how far each feature moved from the rows that the model was fitted on, per period; if asked on the holdout too.

    Of free text the length is compared. The time of the event is left out: it moves by itself.

    Returns
    -------
    DataFrame
        ``period``, ``feature``, ``missing`` (share, 0-1), ``psi`` against the bundle's reference, ``p`` of a test
        against the rows fitted on, ``q``, which is p corrected for the number of features, and ``drifted``: psi over its
        limit *and* q under `params.alpha`. With many rows q alone would call almost every difference a change, and
        with few rows psi alone would.
    """
    kinds = _kinds(bundle)
    before = packing.sample(pd.concat([parts["train"], parts["validation"]], ignore_index=True), SAMPLE)
    compared = [*([(HOLDOUT, parts[HOLDOUT])] if holdout else []), *frame.groupby(PERIOD)]
    return _moved(compared, before, bundle.reference["features"], kinds, params.alerts.inputs.limit, params.alpha)


def compare_predictions(
    frame: pd.DataFrame, holdout: pd.DataFrame, params: Params, stated: dict[str, Any]
) -> pd.DataFrame:
    """Return how far the forecasts of each period moved from those for the holdout: as `compare_inputs` does.

    The scores were promised on the holdout: they hold for forecasts like those. Of several classes each is compared.
    """
    names = decisions.forecast_columns(stated) if decisions.is_class(stated) else ["prediction"]
    kinds = {f"@{name}": "numeric" for name in names}
    reference = {name: packing.distribution(holdout[name]) for name in kinds}
    before, limit = packing.sample(holdout, SAMPLE), params.alerts.predictions.limit
    return _moved(list(frame.groupby(PERIOD)), before, reference, kinds, limit, params.alpha)


def performance(frame: pd.DataFrame, stated: dict[str, Any], agreed: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what the predictions were worth, per period, by the labels that were there at its close.

    Returns
    -------
    dict
        Period -> ``figures``: what `evaluation.evaluate` returns, ``gap`` and ``skill``; and ``levels``, see `standing`.
        Periods in which all known outcomes are the same are absent.
    """
    found = {}
    for period, rows, target, predicted in closed(frame, stated):
        if len(np.unique(target)) > 1:
            results = evaluation.evaluate(target, predicted, rows, stated, agreed)
            found[period] = standing(results, rows, stated, agreed)
    return found


def standing(
    results: dict[str, dict[str, float]], rows: pd.DataFrame, stated: dict[str, Any], agreed: dict[str, Any]
) -> dict[str, Any]:
    """Return ``figures``, the results with two more, and ``levels``: what the outcomes were, the share of each class or their mean.

    ``gap`` is the mean of `decisions.expected` less that of `decisions.event`. ``skill`` compares with a forecast that
    knows the shares, or the mean, of these very rows: the Brier skill score, or R2. Unlike an error it does not rise
    only because outcomes are more mixed. What cannot be told (too few rows) is absent.
    """
    target, predicted = target_of(rows, stated), forecast(rows, stated)
    columns = {"gap": decisions.expected(predicted, stated) - decisions.event(target, stated)}
    if stated["task"] == "multiclass":
        columns |= {f'share of "{name}"': target == number for number, name in enumerate(stated["classes"])}
    else:
        columns[decisions.level_name(stated)] = decisions.event(target, stated)
    means = _means(columns, rows, stated, agreed)
    figures = {**results, "gap": means.pop("gap"), "skill": skill(results, target, stated)}
    return {"figures": _told(figures), "levels": _told(means)}


def skill(results: dict[str, dict[str, float]], target: np.ndarray, stated: dict[str, Any]) -> dict[str, float]:
    """Return the skill: ``1 - brier / reference``, the reference knowing the shares of the classes, or R2."""
    if not decisions.is_class(stated):
        return results["r2"]
    shares = np.bincount(target, minlength=2) / len(target)
    error = float(np.sum(shares * (1 - shares)))  # summed over classes; of two, `brier` counts only the event
    return {"value": 1 - results["brier"]["value"] / (error / 2 if len(stated["classes"]) == 2 else error)}


def closed(frame: pd.DataFrame, stated: dict[str, Any]) -> Iterator[tuple[str, pd.DataFrame, np.ndarray, pd.DataFrame]]:
    """Yield each period with its rows whose label was there at its close: ``period, rows, target, predicted``.

    Of more than `MOST_ROWS` so many are taken, spread evenly: their days tell how sure a figure is, and more rows do not.
    """
    for period, whole in frame[frame[STATUS] == LABELS[0]].groupby(PERIOD, sort=False):
        rows = packing.sample(whole, MOST_ROWS)
        yield str(period), rows, target_of(rows, stated), forecast(rows, stated)


def calibration(frame: pd.DataFrame, stated: dict[str, Any], agreed: dict[str, Any], bins: int = 10) -> pd.DataFrame:
    """Return, per period and tenth of `decisions.expected`, the ``predicted`` and the observed mean.

    Returns
    -------
    DataFrame
        ``period``, ``predicted``, ``value`` (observed), ``low``, ``high``.
    """
    tables = []
    for period, rows, target, predicted in closed(frame, stated):
        said, happened = decisions.expected(predicted, stated), decisions.event(target, stated)
        rank = pd.Series(said).rank(method="first").to_numpy() - 1
        tenth = (rank * min(bins, len(rank)) // len(rank)).astype(int)
        observed = _binned(tenth, happened, rows, stated, agreed)
        mean = pd.Series(said).groupby(tenth).mean().to_numpy()
        tables.append(observed.assign(period=period, predicted=mean))
    return pd.concat(tables) if tables else pd.DataFrame(columns=["value", "low", "high", "period", "predicted"])


def policies(frame: pd.DataFrame, stated: dict[str, Any], agreed: dict[str, Any]) -> pd.DataFrame:
    """Return, per period, the mean payoff of each policy with its interval: ``period``, and what stage 07 returns."""
    tables = [
        evaluation.policies(target, predicted, rows, stated, agreed).assign(period=period)
        for period, rows, target, predicted in closed(frame, stated)
    ]
    return pd.concat(tables) if tables else pd.DataFrame(columns=["policy", "payoff", "low", "high", "period"])


def weekly(frame: pd.DataFrame, stated: dict[str, Any]) -> pd.DataFrame:
    """Return, per week (UTC), the means of `decisions.expected` and `decisions.event` of rows with a label, and ``rows``.

    Returns
    -------
    DataFrame
        ``week``, ``predicted``, ``observed``, ``rows``; none without time.
    """
    known = frame[frame[STATUS].isin(LABELS[:2])]
    if not stated["time"] or known.empty:
        return pd.DataFrame(columns=["week", "predicted", "observed", "rows"])
    week = known[stated["time"]].dt.to_period("W").dt.start_time.to_numpy()
    said = decisions.expected(forecast(known, stated), stated)
    told = pd.DataFrame({"predicted": said, "observed": decisions.event(target_of(known, stated), stated), "rows": 1})
    return (
        told.groupby(week)
        .agg({"predicted": "mean", "observed": "mean", "rows": "sum"})
        .rename_axis("week")
        .reset_index()
    )


def reference(
    bundle: Bundle, parts: dict[str, pd.DataFrame], params: Params, stated: dict[str, Any], agreed: dict[str, Any]
) -> Reference:
    """Return what every period is held against: distributions, and how much each figure varies in a stable stream.

    Parameters
    ----------
    bundle : Bundle
    parts : dict of DataFrame
        What it was made from: ``train``, ``validation``, ``holdout``.
    params, stated, agreed
    """
    kinds = _kinds(bundle)
    fitted = pd.concat([parts["train"], parts["validation"]], ignore_index=True)
    days = LENGTHS[params.period]
    held = spans.rows(parts["holdout"], bundle.predict(parts["holdout"]), kinds, stated)
    return examination.reference(
        spans.rows(fitted, pd.DataFrame(), kinds, stated), held, kinds, stated, agreed, days, params.false_alarms
    )


def unusual(
    frame: pd.DataFrame,
    volume: pd.DataFrame,
    against: Reference,
    params: Params,
    stated: dict[str, Any],
    explain: bool = True,
) -> dict[str, dict[str, Any]]:
    """Return what is unusual in each period by the labels that were there at its close, and why.

    Returns
    -------
    dict
        Period -> ``natural``: figure -> ``value``, and the ``low``, ``high`` and ``usual`` that a stable stream keeps to (None: unbounded);
        ``outside``: those beyond, farthest first; ``estimated``: what the forecasts are probably worth, without labels;
        ``findings``: causes by name, largest first; ``decomposition`` of a loss that rose. See `core.examination`. Without
        `explain` no cause is looked for, which is quicker.
    """
    found = {}
    for span in volume.itertuples():
        rows = frame[frame[PERIOD] == span.period]
        known = rows.assign(**{stated["target"]: rows[stated["target"]].where(rows[STATUS] == LABELS[0])})
        taken = spans.rows(known, forecast(rows, stated), against.kinds, stated)
        days = (span.end - span.start) / pd.Timedelta(days=1)
        look = examination.examine if explain else examination.glance
        told = look(against, taken, days, params.alpha)
        bounded = {
            name: {end: value if np.isfinite(value) else None for end, value in figure.items()}
            for name, figure in told.pop("figures").items()
        }
        found[span.period] = {"natural": bounded, **told}
    return found


def worsened(
    frame: pd.DataFrame, holdout: pd.DataFrame, bundle: Bundle, stated: dict[str, Any], agreed: dict[str, Any]
) -> dict[str, list[dict[str, Any]]]:
    """Return, per period, the values of categories at which forecasts are surely off, and more so than on the holdout.

    Returns
    -------
    dict
        Period -> ``subject`` ("origin is JFK"), ``rows``, ``gap`` (mean of predicted less observed), ``held``, the same on the
        holdout (0 where it had too few such rows); ``worse``: by how much the gap is larger. The surest first.
    """
    columns = {**bundle.columns, "wide": [], "numeric": []}

    def parts(rows: pd.DataFrame) -> pd.DataFrame:
        return slices.slices(target_of(rows, stated), forecast(rows, stated), rows, columns, stated, agreed)

    if not columns["categorical"]:
        return {}
    before = parts(holdout).set_index(["feature", "group"])["bias"]
    found: dict[str, list[dict[str, Any]]] = {}
    for period, rows, target, _ in closed(frame, stated):
        found[period] = []
        if len(np.unique(target)) > 1:
            for each in parts(rows).query("flagged").itertuples():
                held = float(before.get((each.feature, each.group), 0.0))
                told = {
                    "subject": f"{each.feature} is {each.group}",
                    "rows": int(each.rows),
                    "gap": each.bias,
                    "held": held,
                }
                if (worse := abs(each.bias) - abs(held)) > 0:
                    found[period].append({**told, "worse": worse})
    return found


def records(
    volume: pd.DataFrame,
    table: pd.DataFrame,
    drifts: pd.DataFrame,
    predictions: pd.DataFrame,
    results: dict[str, dict[str, Any]],
    strange: dict[str, dict[str, Any]] | None = None,
    worse: dict[str, list[dict[str, Any]]] | None = None,
    served: dict[str, dict[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Return all that is known of each period as plain values: what the rules judge, and ``periods.json`` keeps.

    Parameters
    ----------
    volume, table, drifts, predictions, results, strange, worse, served
        What `replay`, `arrivals`, `compare_inputs`, `compare_predictions`, `performance`, `unusual`, `worsened` and `watched`
        returned.
    """
    found = []
    for row, span in zip(table.to_dict("records"), volume.itertuples(), strict=True):
        inputs, outputs = (
            each[each["period"] == row["period"]].sort_values("psi", ascending=False) for each in (drifts, predictions)
        )
        drifted = inputs[inputs["drifted"]]
        found.append(
            {
                **row,
                "start": f"{span.start:%Y-%m-%d}",
                "days": (span.end - span.start) / pd.Timedelta(days=1),
                "features": len(inputs),
                "drifted": dict(zip(drifted["feature"], drifted["psi"], strict=True)),
                "prediction_psi": outputs["psi"].max(),
                "predictions_drifted": bool(outputs["drifted"].any()),
                **results.get(row["period"], {"figures": {}, "levels": {}}),
                **(strange or {}).get(row["period"], {}),
                **(served or {}).get(row["period"], {}),
                "slices": (worse or {}).get(row["period"], []),
            }
        )
    return gate.tidy(found)


def promised(
    bundle: Bundle,
    holdout: pd.DataFrame,
    parts: dict[str, pd.DataFrame],
    stated: dict[str, Any],
    agreed: dict[str, Any],
) -> dict[str, Any]:
    """Return what the model was deployed on: ``figures`` and ``levels`` of the holdout, rows ``per_day`` of training.

    Parameters
    ----------
    bundle : Bundle
    holdout : DataFrame
        What `hold` returned.
    parts : dict of DataFrame
    stated, agreed : dict
    """
    found = standing(bundle.described["holdout"], holdout, stated, agreed)
    return gate.tidy({**found, "per_day": per_day(parts["train"], stated)})


def per_day(train: pd.DataFrame, stated: dict[str, Any]) -> float | None:
    """Return how many rows a day there were in training, those without a label included; None without time."""
    if not stated["time"]:
        return None
    times = features.load([stated["time"]])[stated["time"]]
    times = times[times <= train[stated["time"]].max()]
    return len(times) / ((times.max().normalize() - times.min().normalize()).days + 1)


def judge(
    found: list[dict[str, Any]], promise: dict[str, Any], params: Params, stated: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the records with the ``alerts`` of each period, and the ``decision`` and ``reasons`` at its close."""
    judged = []
    for record in found:
        alerted = {**record, "alerts": alerts.raised(record, promise, params.alerts, stated)}
        judged.append({**alerted, **alerts.decide(alerted, params.decide)})
    return judged


class Standard(NamedTuple):
    """What the periods of a model are held against; made once for it.

    Attributes
    ----------
    bundle : Bundle
    parts, holdout : dict of DataFrame, DataFrame
        What it was made from, and the answered holdout (`hold`).
    promise : dict
        See `promised`.
    against : Reference
        See `reference`.
    """

    bundle: Bundle
    parts: dict[str, pd.DataFrame]
    holdout: pd.DataFrame
    promise: dict[str, Any]
    against: Reference


def standard(
    bundle: Bundle, parts: dict[str, pd.DataFrame], params: Params, stated: dict[str, Any], agreed: dict[str, Any]
) -> Standard:
    """Return what the periods of a model are held against."""
    holdout = hold(parts["holdout"], bundle)
    promise = promised(bundle, holdout, parts, stated, agreed)
    return Standard(bundle, parts, holdout, promise, reference(bundle, parts, params, stated, agreed))


def examine(
    frame: pd.DataFrame,
    volume: pd.DataFrame,
    held: Standard,
    params: Params,
    stated: dict[str, Any],
    agreed: dict[str, Any],
) -> dict[str, Any]:
    """Return the record of one period as `judge` has it, by all the steps of this stage at once; causes are not looked for.

    Parameters
    ----------
    frame : DataFrame
        The rows of the period with their answers, and what `wait` added.
    volume : DataFrame
        Its line of what `replay` returned.
    held : Standard
        Of the model that answered.
    params, stated, agreed
    """
    drifts = compare_inputs(frame, held.parts, held.bundle, params, holdout=False)
    shifted = compare_predictions(frame, held.holdout, params, stated)
    results = performance(frame, stated, agreed)
    strange = unusual(frame, volume, held.against, params, stated, explain=False)
    found = records(volume, arrivals(frame, volume, stated), drifts, shifted, results, strange)
    return judge(found, held.promise, params, stated)[0]


def conclude(judged: list[dict[str, Any]], agreed: dict[str, Any], version: str) -> dict[str, Any]:
    """Return the decision of the last period, what stands behind it, and what to go back to: ``decision.json``."""
    last = judged[-1] if judged else {"decision": "keep", "reasons": [NOTHING]}
    evidence = ("period", "decision", "reasons", "alerts", "findings")
    return {
        "decision": last["decision"],
        "reasons": last["reasons"],
        "model": version,
        "fallback": f"the version before, or the policy '{agreed['best_baseline']}'",
        "periods": [{key: record[key] for key in evidence if key in record} for record in judged],
    }


def answers(frame: pd.DataFrame, bundle: Bundle) -> pd.DataFrame:
    """Return what was foreseen of each row, and what came: for those who ask the warehouse.

    Returns
    -------
    DataFrame
        The key, the time and the target of the problem; ``period``, ``status`` of the label, the forecast, ``action``,
        ``expected_payoff``, with an ``@`` before a name that is one of the former. Floats have six significant digits:
        the rest is not reproducible.
    """
    stated = bundle.stated
    own = list(dict.fromkeys([*production.identity(stated), stated["target"]]))
    added = {name: name[1:] for name in (PERIOD, STATUS, *(f"@{column}" for column in bundle.answers))}
    table = frame[[*own, *added]].rename(columns={name: plain for name, plain in added.items() if plain not in own})
    floats = [name for name in table.columns[len(own) :] if pd.api.types.is_float_dtype(table[name])]
    return table.assign(**{name: _six_digits(table[name].to_numpy()) for name in floats})


def save(
    judged: list[dict[str, Any]],
    drifts: pd.DataFrame,
    decision: dict[str, Any],
    answered: pd.DataFrame,
    strategies: dict[str, Any],
) -> None:
    """Write ``data/monitoring/``: what was found in each period, drift of each feature, every answer, the decision.

    `strategies` is what retraining would have been worth, see `ninefold.strategies.told`.
    """
    folder = io.output(MONITORING)
    io.write_json(judged, folder / "periods.json")
    io.write_table(drifts, folder / "drift.parquet")
    io.write_table(answered, folder / "answers.parquet")
    io.write_json(decision, folder / "decision.json")
    io.write_json(strategies, folder / "strategies.json")


def checks(
    frame: pd.DataFrame,
    volume: pd.DataFrame,
    judged: list[dict[str, Any]],
    decision: dict[str, Any],
    stated: dict[str, Any],
) -> list[gate.Check]:
    """Return the gate: nothing lost on the way, every period judged, a decision with reasons."""
    lost = int((volume["raw"] - volume["quarantined"] - volume["ready"]).abs().sum())
    accounted = sum(record[name] for record in judged for name in LABELS)
    what = "probability" if decisions.is_class(stated) else "quantity"
    return [
        gate.holds("periods monitored", len(judged) == len(volume), len(judged), f"all {len(volume)} that arrived"),
        gate.at_most("rows neither quarantined nor predicted", lost, 0),
        gate.at_most(f"predictions that are no {what}", _unusable(forecast(frame, stated), stated), 0),
        gate.at_most("predictions whose label is unaccounted for", len(frame) - accounted, 0),
        gate.at_least("reasons for the decision", len(decision["reasons"]), 1),
    ]


def metrics(judged: list[dict[str, Any]], decision: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of this stage: ``periods`` for programs, ``by_period`` (scalars) for ``dvc metrics``."""
    found = []
    for record in judged:
        figures = {name: figure["value"] for name, figure in record["figures"].items()}
        counts = {name: record[name] for name in ("predictions", "quarantined", "prediction_psi")}
        names = [alert["alert"] for alert in record["alerts"]]
        labels = {"labelled": record["at close"], "drifted": len(record["drifted"])}
        decided = {"decision": record["decision"], "alerts": names}
        found.append({"period": record["period"], **counts, **labels, **figures, **decided})
    by_period = {
        row["period"]: {**{key: value for key, value in row.items() if key != "period"}, "alerts": len(row["alerts"])}
        for row in found
    }
    return {"decision": decision["decision"], "periods": found, "by_period": by_period}


def headline(judged: list[dict[str, Any]], decision: dict[str, Any]) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    if not judged:
        return {"decision": decision["decision"], "periods": "none yet"}
    return {f"alerts in {judged[-1]['period']}": f"{len(judged[-1]['alerts'])}", "decision": decision["decision"]}


def verdict(judged: list[dict[str, Any]], decision: dict[str, Any]) -> str:
    """Return the bottom line."""
    if not judged:
        return f"{NOTHING} The model is kept, and the rules that will judge it stand."
    last = judged[-1]
    names = listed([alert["alert"] for alert in last["alerts"]]) or "nothing"
    gain = last["figures"].get("gain")
    worth = f"; the model wins {with_interval(gain)} per row over the best policy without one" if gain else ""
    return f"{_capital(decision['decision'])}: at the close of {last['period']} alerts came from {names}{worth}."


def _last_day(collected: collection.Params, stated: dict[str, Any], start: date) -> date | None:
    """Return the day of the last row that the source holds from `start` on; None if it holds none."""
    found = newest(collected, stated, pd.Timestamp(start))
    return None if pd.isna(found) else found.date()


def _kinds(bundle: Bundle) -> dict[str, str]:
    """Return the features by kind, without the time of the event: it moves by itself."""
    kinds = {field["name"]: field["kind"] for field in bundle.signature if field["kind"] in FEATURE_KINDS}
    kinds.pop(bundle.stated["time"], None)
    return kinds


def _unusable(predicted: pd.DataFrame, stated: dict[str, Any]) -> int:
    """Return the number of forecasts that are not in 0-1, or of which an end is not finite or on the wrong side."""
    if decisions.is_class(stated):
        return int((~predicted.apply(lambda p: p.between(0, 1)).all(axis=1)).sum())
    sound = np.isfinite(predicted.to_numpy("float64")).all(axis=1) & (predicted["low"] <= predicted["high"]).to_numpy()
    return int((~sound).sum())


def _moved(
    spans: list[tuple[Any, pd.DataFrame]],
    before: pd.DataFrame,
    reference: dict[str, Any],
    kinds: dict[str, str],
    limit: float,
    alpha: float,
) -> pd.DataFrame:
    found = []
    compared = {name: packing.measured(before[name], kind) for name, kind in kinds.items()}
    for period, part in spans:
        for name, kind in kinds.items():
            values = part[name]
            psi = drift.psi(reference[name], packing.distribution(values, reference[name]))
            p = drift.p_value(compared[name], packing.measured(values, kind))
            found.append((period, name, values.isna().mean(), psi, p))
    table = pd.DataFrame(found, columns=["period", "feature", "missing", "psi", "p"])
    table = table.astype({"missing": "float64", "psi": "float64", "p": "float64"})
    table["q"] = table.groupby("period")["p"].transform(lambda p: drift.adjust(p.to_numpy())).astype("float64")
    return table.assign(drifted=(table["psi"] > limit) & (table["q"] < alpha))


def _means(
    columns: dict[str, np.ndarray], rows: pd.DataFrame, stated: dict[str, Any], agreed: dict[str, Any]
) -> dict[str, dict[str, float]]:
    """Return the mean of each column with its interval over resampled blocks."""

    def statistic(weight: np.ndarray) -> dict[str, float]:
        return {name: float(np.average(values, weights=weight)) for name, values in columns.items()}

    return intervals(statistic, blocks(rows, stated), Bootstrap(**agreed["bootstrap"]))


def _binned(
    bins: np.ndarray, values: np.ndarray, rows: pd.DataFrame, stated: dict[str, Any], agreed: dict[str, Any]
) -> pd.DataFrame:
    """Return the mean of `values` in each bin with its interval over resampled blocks: ``value``, ``low``, ``high``."""

    def statistic(weight: np.ndarray) -> dict[str, float]:
        with np.errstate(invalid="ignore"):  # a bin may have no row in the blocks drawn
            means = np.bincount(bins, weight * values) / np.bincount(bins, weight)
        return {str(number): float(mean) for number, mean in enumerate(means)}

    return pd.DataFrame(intervals(statistic, blocks(rows, stated), Bootstrap(**agreed["bootstrap"])).values())


def _told(figures: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the figures whose value and ends are all known: of few rows, some are not."""
    return {
        name: figure
        for name, figure in figures.items()
        if all(value is not None and np.isfinite(value) for value in figure.values())
    }


def _period(times: pd.Series, calendar: pd.DataFrame) -> pd.Series:
    """Return the period of each time; times before the first belong to it, those after the last, or none, to the last."""
    names = calendar["period"].to_numpy(dtype="object")
    position = np.searchsorted(calendar["start"].to_numpy(), times.to_numpy(), side="right") - 1
    return pd.Series(names[np.maximum(position, 0)], index=times.index, dtype="object")


def _six_digits(values: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        places = 5 - np.floor(np.log10(np.abs(values)))
        scale = 10.0 ** np.clip(np.where(np.isfinite(places), places, 0), -300, 300)
        return np.where(np.isfinite(values), np.round(values * scale) / scale, values)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
