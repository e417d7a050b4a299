"""How will we know that the model is good, and that it solves the problem?

Reads: ``data/problem.json``; ``data/lake/``.
Writes: ``data/metrics.json``: the metrics and their directions, the thresholds, the split, the scores of the baselines.
Gate: each part of the split has enough outcomes, the baselines are measured, and the thresholds can be reached.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pydantic import Field

from ninefold.core import decisions, engine, gate, io, plots, show
from ninefold.core.decisions import FORESIGHT
from ninefold.core.errors import DataError, ParamsError
from ninefold.core.moments import as_days
from ninefold.core.params import Section
from ninefold.core.scores import LEAST_BLOCKS, MEANING, Bootstrap, scores, title

PARTS = ("train", "validation", "holdout")
SALT = "0123456789123456"  # 16 characters that fix the hash by which rows without time are split


class Split(Section):
    """Shares of the labelled rows: the rest is for training. By time, where there is time: the oldest train."""

    validation: float = Field(gt=0, lt=0.5)
    holdout: float = Field(ge=0.2, le=0.3)
    min_rarest: int = Field(default=20, ge=1)


class Params(Section):
    """Section ``metrics`` of ``params.yaml``."""

    primary: str
    split: Split
    bootstrap: Bootstrap


def labelled(stated: dict[str, Any], columns: list[str] | None = None) -> pd.DataFrame:
    """Return the rows of the lake whose outcome is known, by time, the target as `decisions.outcome` encodes it.

    Parameters
    ----------
    stated : dict
        The problem.
    columns : list of str, optional
        Beside key, time, group and target; all if absent.

    Raises
    ------
    DataError
        If the lake lacks a column, or no row has an outcome.
    """
    where, target = f"data/lake/{stated['table']}", stated["target"]
    table = engine.read(engine.local(), where)
    named = [*stated["key"], stated["time"], *(stated["group"] or []), target]
    wanted = list(dict.fromkeys([name for name in [*named, *(columns or [])] if name]))
    if lost := [name for name in wanted if name not in table.columns]:
        raise DataError(f"{where}: lacks {', '.join(lost)}; found {', '.join(table.columns)}")
    table = table.mutate(**{target: decisions.outcome(table[target], stated)})
    known = [table[target].notnull(), *([table[stated["time"]].notnull()] if stated["time"] else [])]
    order = dict.fromkeys([*([stated["time"]] if stated["time"] else []), *stated["key"]])
    table = table.filter(*known).order_by(list(order))
    frame = (table if columns is None else table.select(*wanted)).to_pandas()
    if frame.empty:
        found = f"; of classes {', '.join(stated['classes'])}" if stated["classes"] else ""
        raise DataError(f"{where}: no row has an outcome in {target}{found}; there is nothing to learn from")
    return frame


def outcomes(stated: dict[str, Any], params: Params) -> pd.DataFrame:
    """Return the labelled rows with key, time, group and target alone.

    Raises
    ------
    ParamsError
        If the primary metric is none of the task's.
    """
    if params.primary not in MEANING[stated["task"]]:
        known = ", ".join(MEANING[stated["task"]])
        raise ParamsError(f"metrics.primary: found {params.primary!r}, expected for task {stated['task']}: {known}")
    return labelled(stated, [])


def split(frame: pd.DataFrame, params: Params, stated: dict[str, Any]) -> dict[str, Any]:
    """Return how rows are split: by time at day boundaries, else by entity, else by row within each class.

    Without time, what decides is a hash of the entity or the key, so that a row stays where it is when others arrive.

    Returns
    -------
    dict
        ``by``: ``time`` with the days (ISO, UTC) on which ``validation`` and ``holdout`` begin; or ``group`` or
        ``rows`` with ``edges``: per class (one for quantities and entities) the hashes, 0-1, where they begin.

    Raises
    ------
    DataError
        If a part would be empty.
    """
    share = [1 - params.split.holdout - params.split.validation, 1 - params.split.holdout]
    if stated["time"]:
        rows = frame[stated["time"]].dt.normalize().value_counts().sort_index().cumsum() / len(frame)
        days = [rows.index[rows.searchsorted(part)].date().isoformat() for part in share]
        points: dict[str, Any] = {"by": "time", "validation": days[0], "holdout": days[1]}
    else:
        by = "group" if stated["group"] else "rows"
        hashed, stratum = _hash(frame, stated), _stratum(frame, by, stated)
        edges = {str(name): np.quantile(values, share).tolist() for name, values in hashed.groupby(stratum)}
        points = {"by": by, "edges": edges}
    if empty := [name for name in PARTS if name not in part_of(frame, points, stated)]:
        what = {"time": "days", "group": "entities", "rows": "rows"}[points["by"]]
        raise DataError(
            f"metrics.split: {' and '.join(empty)} would have no row: {len(frame):,} rows of too few, or too uneven, {what}; "
            "collect more, or change problem.time, problem.group or the shares"
        )
    return points


def part_of(frame: pd.DataFrame, agreed_split: dict[str, Any], stated: dict[str, Any]) -> np.ndarray:
    """Return, per row, the part of the split that it falls into: ``train``, ``validation`` or ``holdout``.

    Parameters
    ----------
    frame : DataFrame
        With the time; or, where the split is not by time, with key, group and the encoded target.
    agreed_split : dict
        What `split` returned.
    stated : dict
        The problem.
    """
    names = np.array(PARTS, dtype=object)
    if agreed_split["by"] == "time":
        edges = pd.to_datetime([agreed_split["validation"], agreed_split["holdout"]])
        return names[np.searchsorted(edges, frame[stated["time"]].to_numpy(), side="right")]
    hashed = _hash(frame, stated).to_numpy()
    edges = pd.DataFrame(agreed_split["edges"], index=["validation", "holdout"]).T
    mine = edges.reindex(_stratum(frame, agreed_split["by"], stated)).to_numpy()
    return names[(hashed > mine[:, 0]).astype(int) + (hashed > mine[:, 1])]


def baselines(
    frame: pd.DataFrame, points: dict[str, Any], stated: dict[str, Any]
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the policies without a model, name to action, and their mean payoff: ``policy``, a column per open part.

    The holdout stays closed until a model has been chosen.
    """
    part, target = part_of(frame, points, stated), frame[stated["target"]].to_numpy()
    policies = decisions.policies(target[part == "train"], stated)
    payoffs = decisions.policy_payoffs(target, stated, {"policies": policies})
    means = payoffs.groupby(part).mean().T[["train", "validation"]]
    return policies, means.rename_axis("policy").rename_axis(None, axis=1).reset_index()


def naive(frame: pd.DataFrame, points: dict[str, Any], stated: dict[str, Any]) -> list[float]:
    """Return the forecast that sees no features: the shares of the classes on open rows, or the mean of the quantity."""
    open_rows = frame[part_of(frame, points, stated) != "holdout"]
    return _indicators(open_rows[stated["target"]], stated).mean().tolist()


def reference_scores(frame: pd.DataFrame, points: dict[str, Any], stated: dict[str, Any]) -> pd.DataFrame:
    """Return the scores on validation of forecasts that see no features: ``forecast`` and a column per metric.

    *Training mean* always forecasts the training rows' shares of the classes, or their mean; where there is time, *last
    four weeks* forecasts those of the 28 days before the day.
    """
    part = part_of(frame, points, stated)
    valid = frame[part == "validation"]
    indicators = _indicators(frame[stated["target"]], stated)
    mean = indicators[part == "train"].mean()
    forecasts = {"training mean": np.tile(mean.to_numpy(), (len(valid), 1))}
    if stated["time"]:
        day = frame[stated["time"]].dt.normalize()
        daily = indicators.groupby(day).sum().rolling("28D", closed="left").sum()
        rows = indicators.groupby(day).size().rolling("28D", closed="left").sum()
        recent = daily.div(rows, axis=0).fillna(mean).reindex(day[valid.index])
        forecasts["last four weeks"] = recent.to_numpy()
    target = valid[stated["target"]].to_numpy()
    scored = {name: scores(target, _as_forecast(values, stated), stated) for name, values in forecasts.items()}
    return pd.DataFrame([{"forecast": name, **values} for name, values in scored.items()])


def definitions(params: Params, stated: dict[str, Any]) -> pd.DataFrame:
    """Return every metric: ``metric``, ``better``, ``role``, ``meaning``."""
    criteria = set(stated["success"]["scores"])
    rows = []
    for name, (better, text) in MEANING[stated["task"]].items():
        roles = ["chooses the model"] * (name == params.primary) + ["success criterion"] * (name in criteria)
        rows.append((name, better, "; ".join(roles) or "reported", text))
    business = f"mean payoff per {stated['unit']}, in units of {stated['payoff_unit']}"
    rows.append(("payoff", "higher", "success criterion: the business metric", business))
    return pd.DataFrame(rows, columns=["metric", "better", "role", "meaning"])


def parts(frame: pd.DataFrame, points: dict[str, Any], stated: dict[str, Any]) -> pd.DataFrame:
    """Return the split: ``part``, its ``first`` and ``last`` day where there is time, ``rows``, their share, the level.

    The last column is the share of events or the mean outcome; what the holdout holds stays hidden.
    """
    part = pd.Series(part_of(frame, points, stated), frame.index, name="part")
    level = pd.Series(decisions.event(frame[stated["target"]].to_numpy(), stated), frame.index)
    table = pd.DataFrame({"rows": part.value_counts().reindex(list(PARTS), fill_value=0)})
    if stated["time"]:
        days = frame[stated["time"]].dt.strftime("%Y-%m-%d").groupby(part).agg(["min", "max"]).reindex(list(PARTS))
        table.insert(0, "first", days["min"])
        table.insert(1, "last", days["max"])
    table["share of rows"] = table["rows"] / len(frame)
    shown = level.groupby(part).mean().reindex(list(PARTS))
    shown["holdout"] = np.nan
    table[decisions.level_name(stated)] = [
        None if value != value else decisions.show_level(value, stated) for value in shown
    ]
    return table.rename_axis("part").reset_index()


def newest(
    frame: pd.DataFrame, points: dict[str, Any], stated: dict[str, Any], periods: int = 6
) -> tuple[pd.DataFrame, str]:
    """Return the level of the outcome in the last weeks before the holdout, or by open part without time; its caption."""
    part = part_of(frame, points, stated)
    level = pd.Series(decisions.event(frame[stated["target"]].to_numpy(), stated), frame.index)[part != "holdout"]
    name = decisions.level_name(stated)
    if stated["time"]:
        week = frame.loc[level.index, stated["time"]].dt.to_period("W").dt.end_time.dt.strftime("%Y-%m-%d")
        table = level.groupby(week.rename("week ending")).agg(["size", "mean"]).tail(periods).reset_index()
        caption = f"The last {len(table)} weeks before the holdout"
    else:
        table = level.groupby(pd.Series(part, frame.index, name="part")).agg(["size", "mean"]).reset_index()
        caption = "The open parts"
    return table.rename(columns={"size": "rows", "mean": name}), f"{caption}: rows, and the {name}"


def plot_split(frame: pd.DataFrame, points: dict[str, Any], stated: dict[str, Any]) -> Figure:
    """Draw what the rows are used for: per period where there is time, else per class or tenth of the outcome."""
    part = pd.Series(part_of(frame, points, stated), frame.index)
    if stated["time"]:
        group, label, rows = _period(frame[stated["time"]]), "period (UTC)", part
    else:
        # What the holdout's outcomes are stays hidden: only its size is drawn.
        group, label, rows = _outcome_group(frame, stated), "outcome", part[part != "holdout"]
    counts = pd.crosstab(group[rows.index], rows).reindex(columns=list(PARTS), fill_value=0)
    fig, axes = plots.canvas("Which rows train, choose and judge?")
    below, width = np.zeros(len(counts)), 0.85
    for name, color in zip(PARTS, (plots.BLUE, plots.ORANGE, plots.GREEN), strict=True):
        axes.bar(range(len(counts)), counts[name], width, bottom=below, color=color, label=name)
        below += counts[name].to_numpy()
    step = -(-len(counts) // 12)
    names = [plots.plain(name) for name in counts.index[::step]]
    axes.set_xticks(range(0, len(counts), step), names, rotation=30 if max(map(len, names)) > 7 else 0)
    axes.set(xlabel=label, ylabel="rows with an outcome")
    axes.grid(axis="x", visible=False)
    fig.legend(frameon=False, ncols=3, loc="outside lower center")
    return fig


def plot_baselines(table: pd.DataFrame, stated: dict[str, Any], most: int = 10) -> Figure:
    """Draw the mean payoff of the policies without a model, and of perfect foresight, on training and validation."""
    policies = table[table["policy"] != FORESIGHT].nlargest(most, "validation", keep="all").index
    table = table[table.index.isin(policies) | (table["policy"] == FORESIGHT)].reset_index(drop=True)
    fig, axes = plots.canvas("How much is there to win?", height=max(2.6, 0.45 * len(table) + 1))
    long = table.melt("policy", var_name="part", value_name="payoff")
    for offset, (part, color) in enumerate([("train", plots.BLUE), ("validation", plots.ORANGE)]):
        rows = long[long["part"] == part]
        axes.barh(np.arange(len(rows)) + 0.36 * offset - 0.18, rows["payoff"], height=0.34, color=color, label=part)
    axes.set_yticks(np.arange(len(table)), [plots.plain(name) for name in table["policy"]])
    axes.invert_yaxis()
    axes.set(xlabel=plots.plain(f"mean payoff per {stated['unit']} ({stated['payoff_unit']})"))
    axes.grid(axis="y", visible=False)
    axes.legend(frameon=False)
    return fig


def describe_outcomes(frame: pd.DataFrame, stated: dict[str, Any]) -> str:
    """Return, as a sentence, how many outcomes are known, and over which days."""
    days = ""
    if stated["time"]:
        days = f", from {frame[stated['time']].min().date()} to {frame[stated['time']].max().date()}"
    return f"The outcome of **{len(frame):,}** {stated['units']} is known{days}."


def describe_split(frame: pd.DataFrame, points: dict[str, Any], stated: dict[str, Any]) -> str:
    """Return what the figure of the split shows, in words."""
    table, name = parts(frame, points, stated).set_index("part"), decisions.level_name(stated)
    share = f"{table.loc['holdout', 'share of rows']:.0%} of the rows"
    level = f"The {name} is {table.loc['train', name]} in training and {table.loc['validation', name]} in validation"
    if points["by"] == "time":
        return (
            f"Training ends before {points['validation']}, validation before {points['holdout']}. {level}. The holdout "
            f"is the newest {share}."
        )
    how = {
        "group": f"All rows of one {show.code(' and '.join(stated['group'] or []))} are in the same part",
        "rows": "There is no time, so rows are drawn" + (" within each class" if decisions.is_class(stated) else ""),
    }
    return f"{how[points['by']]}. {level}. The holdout is {share}; it stands for rows like these, not for later times."


def describe_baselines(table: pd.DataFrame, stated: dict[str, Any], most: int = 6) -> str:
    """Return what the figure of the baselines shows, in words."""
    values = table.set_index("policy")["validation"]
    shown = [*values.drop(FORESIGHT).nlargest(most).items(), (FORESIGHT, values[FORESIGHT])]
    named = ", ".join(f"{policy} {decisions.number(value, '+')}" for policy, value in shown)
    return f"Mean payoff per {stated['unit']} on validation: {named}. The policy to beat is *{best_baseline(table)}*."


def describe_references(references: pd.DataFrame, params: Params, stated: dict[str, Any]) -> str:
    """Return what the scores of the naive forecasts show, in words."""
    scored = references.set_index("forecast")[params.primary]
    best = scored.idxmin() if MEANING[stated["task"]][params.primary][0] == "lower" else scored.idxmax()
    return f"The naive forecast to beat is *{best}*, with a {title(params.primary)} of **{decisions.number(scored[best])}**."


def best_baseline(table: pd.DataFrame) -> str:
    """Return the name of the best policy without a model on validation: what the model has to beat."""
    policies = table[table["policy"] != FORESIGHT]
    return str(policies.loc[policies["validation"].idxmax(), "policy"])


def room(table: pd.DataFrame) -> float:
    """Return the payoff per row, on validation, between the best policy without a model and perfect foresight."""
    by_policy = table.set_index("policy")["validation"]
    return float(by_policy[FORESIGHT] - by_policy[best_baseline(table)])


def agreement(
    frame: pd.DataFrame,
    points: dict[str, Any],
    policies: dict[str, Any],
    table: pd.DataFrame,
    params: Params,
    stated: dict[str, Any],
) -> dict[str, Any]:
    """Return what later stages hold themselves to: metrics, thresholds, split, policies and baselines, as plain values."""
    meaning = MEANING[stated["task"]]
    return {
        "primary": {"name": params.primary, "better": meaning[params.primary][0]},
        "metrics": {name: {"better": better, "meaning": text} for name, (better, text) in meaning.items()},
        "thresholds": stated["success"],
        "split": points,
        "bootstrap": params.bootstrap.model_dump(),
        "policies": policies,
        "naive": naive(frame, points, stated),
        "best_baseline": best_baseline(table),
        "baselines": gate.tidy(table.set_index("policy").to_dict("index")),
        "rows": len(frame),
    }


def checks(
    frame: pd.DataFrame, points: dict[str, Any], table: pd.DataFrame, params: Params, stated: dict[str, Any]
) -> list[gate.Check]:
    """Return the gate: enough outcomes of each kind in each part, baselines measured, thresholds within reach."""
    part, target = part_of(frame, points, stated), frame[stated["target"]]
    what = (
        "rows of the rarest class in the smallest part" if decisions.is_class(stated) else "rows of the smallest part"
    )
    kinds = pd.Series(0, index=target.index)
    if decisions.is_class(stated):
        kinds = pd.Series(pd.Categorical(target.astype(int), range(len(stated["classes"]))), index=target.index)
    counts = pd.crosstab(kinds, pd.Categorical(part, PARTS), dropna=False)
    gain = stated["success"]["min_payoff_gain"]
    entities = []
    if points["by"] == "group":
        fewest = int(_hash(frame, stated).groupby(part).nunique().reindex(list(PARTS), fill_value=0).min())
        entities = [gate.at_least("entities in the smallest part", fewest, LEAST_BLOCKS)]
    return [
        gate.at_least(what, int(counts.to_numpy().min()), params.split.min_rarest),
        *entities,
        gate.at_least("policies measured", len(table) - 1, max(len(stated["actions"]), 1)),
        gate.holds(
            "payoff to be won by perfect foresight", room(table) > 0 and room(table) >= gain, room(table), f"> 0 and >= {gain:g}"
        ),
    ]  # fmt: skip


def metrics(table: pd.DataFrame, references: pd.DataFrame, points: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of this stage for ``dvc metrics``."""
    return {
        "baselines": {row["policy"]: row["validation"] for row in table.to_dict("records")},
        "references": references.set_index("forecast").to_dict("index"),
        "split": {key: value for key, value in points.items() if key != "edges"},
        "room": room(table),
    }


def headline(table: pd.DataFrame, stated: dict[str, Any]) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    best = best_baseline(table)
    value = table.set_index("policy").loc[best, "validation"]
    return {
        "best without a model": f"{best}, {decisions.number(value, '+')}",
        "to be won at most": f"{decisions.number(room(table), '+')}",
    }


def verdict(table: pd.DataFrame, stated: dict[str, Any]) -> str:
    """Return the bottom line."""
    best, gain = best_baseline(table), stated["success"]["min_payoff_gain"]
    value, most = table.set_index("policy").loc[best, "validation"], room(table)
    keep = f"at least {gain / most:.0%} of that" if gain and most > 0 else "some of that, surely more than nothing"
    return (
        f"The policy to beat is {best!r}: {decisions.number(value, '+')} per {stated['unit']} on validation. Perfect foresight would win "
        f"{decisions.number(most)} more, so a model has to keep {keep}."
    )


def save(agreed: dict[str, Any]) -> None:
    """Write ``data/metrics.json``."""
    io.write_json(agreed, io.output("data/metrics.json"))


def load() -> dict[str, Any]:
    """Read the agreement that `save` wrote."""
    return io.read_json("data/metrics.json")


def _hash(frame: pd.DataFrame, stated: dict[str, Any]) -> pd.Series:
    """Return a hash of the entity, or of the key, of each row: float64, uniform over 0-1, the same everywhere."""
    names = pd.DataFrame({name: _as_text(frame[name]) for name in stated["group"] or stated["key"]})
    hashed = pd.util.hash_pandas_object(names, index=False, hash_key=SALT, categorize=False)
    return pd.Series(hashed.to_numpy() / 2.0**64, index=frame.index)


def _as_text(column: pd.Series) -> pd.Series:
    """Return names as text, the same for 1, 1.0 and "1", for a moment and its days since 1970: a key may be a feature too."""
    if pd.api.types.is_datetime64_any_dtype(column):
        column = as_days(column)
    return column.astype("str").str.removesuffix(".0").str.lower()


def _stratum(frame: pd.DataFrame, by: str, stated: dict[str, Any]) -> pd.Series:
    if by == "group" or not decisions.is_class(stated):
        return pd.Series("all", index=frame.index)
    return frame[stated["target"]].astype("int64").astype("str")


def _indicators(target: pd.Series, stated: dict[str, Any]) -> pd.DataFrame:
    """Return the columns whose mean is the naive forecast: one per class (1 or 0), or the quantity itself."""
    if not decisions.is_class(stated):
        return target.to_frame("prediction")
    return pd.DataFrame({number: (target == number).astype("float64") for number in range(len(stated["classes"]))})


def _as_forecast(values: np.ndarray, stated: dict[str, Any]) -> pd.DataFrame:
    if stated["task"] == "binary":
        values = values[:, 1:]
    return pd.DataFrame(values, columns=decisions.forecast_columns(stated)[: values.shape[1]])


def _period(times: pd.Series) -> pd.Series:
    """Return the week, month or year of each time, as text: whichever gives a readable number of bars."""
    days = (times.max() - times.min()).days
    unit = "D" if days <= 60 else "W" if days <= 500 else "M" if days <= 5000 else "Y"
    return times.dt.to_period(unit).dt.start_time.dt.strftime(
        "%Y" if unit == "Y" else "%Y-%m" if unit == "M" else "%Y-%m-%d"
    )


def _outcome_group(frame: pd.DataFrame, stated: dict[str, Any]) -> pd.Series:
    """Return the class of each row, or the tenth of its outcome named by where it begins, as ordered categories."""
    target = frame[stated["target"]]
    if decisions.is_class(stated):
        return pd.Series(pd.Categorical.from_codes(target.astype(int), stated["classes"]), index=frame.index)
    tenth = pd.qcut(target, 10, labels=False, duplicates="drop").fillna(0).astype(int)  # NaN where all are equal
    start = target.groupby(tenth).min()
    names = [[f"from {value:.{digits}g}" for value in start] for digits in range(4, 18)]
    short = next(each for each in names if len(set(each)) == len(each))
    return pd.Series(pd.Categorical.from_codes(tenth, short), index=frame.index)
