"""Rows with a known outcome, and their split into train, validation and holdout."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ninefold import engine
from ninefold.errors import DataError, ParamsError
from ninefold.metrics.plan import Params, Split
from ninefold.problem import MEANING, Problem, decisions
from ninefold.timestamps import as_days

PARTS = ("train", "validation", "holdout")
SALT = "0123456789123456"  # 16 characters that fix the hash by which rows without time are split


def labelled(problem: Problem, columns: list[str] | None = None) -> pd.DataFrame:
    """Return the rows of the lake whose outcome is known, by time, the target encoded as by `decisions.outcome`.

    Parameters
    ----------
    problem : Problem
    columns : list of str, optional
        Beside key, time, group and target; all if absent.

    Raises
    ------
    DataError
        If the lake lacks a column, or no row has an outcome.
    """
    where, target = f"data/lake/{problem.table}", problem.target
    table = engine.read(engine.local(), where)
    needed = [*problem.key, problem.time, *(problem.group or []), target, *(columns or [])]
    names = list(dict.fromkeys(name for name in needed if name))
    if missing := [name for name in names if name not in table.columns]:
        raise DataError(f"{where}: lacks {', '.join(missing)}; found {', '.join(table.columns)}")
    table = table.mutate(decisions.outcome(table[target], problem).name(target))
    known = [table[target].notnull(), *([table[problem.time].notnull()] if problem.time else [])]
    order = dict.fromkeys([*([problem.time] if problem.time else []), *problem.key])
    table = table.filter(*known).order_by(list(order))
    frame = (table if columns is None else table.select(*names)).to_pandas()
    if frame.empty:
        classes = f"; of classes {', '.join(problem.classes)}" if problem.classes else ""
        raise DataError(f"{where}: no row has an outcome in {target}{classes}; there is nothing to learn from")
    return frame


def outcomes(problem: Problem, params: Params) -> pd.DataFrame:
    """Return the labelled rows with key, time, group and target alone.

    Raises
    ------
    ParamsError
        If the primary metric is not one of the task's.
    """
    if params.primary not in MEANING[problem.task]:
        known = ", ".join(MEANING[problem.task])
        raise ParamsError(f"metrics.primary: found {params.primary!r}, expected for task {problem.task}: {known}")
    return labelled(problem, [])


def split(frame: pd.DataFrame, params: Params, problem: Problem) -> Split:
    """Return how rows are split: by time at day boundaries, else by entity, else by row within each class.

    Without time, a hash of the entity or the key decides, so that a row stays in its part when others arrive.

    Raises
    ------
    DataError
        If a part would be empty.
    """
    share = [1 - params.split.holdout - params.split.validation, 1 - params.split.holdout]
    if problem.time:
        rows = frame[problem.time].dt.normalize().value_counts().sort_index().cumsum() / len(frame)
        days = [rows.index[rows.searchsorted(part)].date().isoformat() for part in share]
        points = Split(by="time", validation=days[0], holdout=days[1])
    else:
        by = "group" if problem.group else "rows"
        strata = entity_hash(frame, problem).groupby(_stratum(frame, by, problem))
        points = Split(by=by, edges={str(name): np.quantile(values, share).tolist() for name, values in strata})
    if empty := [name for name in PARTS if name not in part_of(frame, points, problem)]:
        what = {"time": "days", "group": "entities", "rows": "rows"}[points.by]
        raise DataError(
            f"metrics.split: {' and '.join(empty)} would have no row: {len(frame):,} rows of too few, or too uneven, "
            f"{what}; collect more, or change problem.time, problem.group or the shares"
        )
    return points


def part_of(frame: pd.DataFrame, split: Split, problem: Problem) -> np.ndarray:
    """Return the part of the split of each row: ``train``, ``validation`` or ``holdout``.

    Parameters
    ----------
    frame : DataFrame
        With the time; or, where the split is not by time, with key, group and the encoded target.
    split : Split
    problem : Problem
    """
    names = np.array(PARTS, dtype=object)
    if split.by == "time":
        days = pd.to_datetime([split.validation, split.holdout])
        return names[np.searchsorted(days, frame[problem.time].to_numpy(), side="right")]
    hashes = entity_hash(frame, problem).to_numpy()
    edges = pd.DataFrame(split.edges, index=["validation", "holdout"]).T
    edges = edges.reindex(_stratum(frame, split.by, problem)).to_numpy()
    return names[(hashes > edges[:, 0]).astype(int) + (hashes > edges[:, 1])]


def parts(frame: pd.DataFrame, points: Split, problem: Problem) -> pd.DataFrame:
    """Return the split: ``part``, ``first`` and ``last`` day where there is time, ``rows``, ``share of rows``, event rate.

    The last column is the share of events or the mean outcome; that of the holdout stays hidden.
    """
    part = pd.Series(part_of(frame, points, problem), frame.index, name="part")
    label = pd.Series(decisions.event(frame[problem.target].to_numpy(), problem), frame.index)
    table = pd.DataFrame({"rows": part.value_counts().reindex(list(PARTS), fill_value=0)})
    if problem.time:
        days = frame[problem.time].dt.strftime("%Y-%m-%d").groupby(part).agg(["min", "max"]).reindex(list(PARTS))
        table.insert(0, "first", days["min"])
        table.insert(1, "last", days["max"])
    table["share of rows"] = table["rows"] / len(frame)
    means = label[part != "holdout"].groupby(part).mean().reindex(list(PARTS))
    table[decisions.level_name(problem)] = [
        None if np.isnan(mean) else decisions.show_level(mean, problem) for mean in means
    ]
    return table.rename_axis("part").reset_index()


def newest(frame: pd.DataFrame, points: Split, problem: Problem, periods: int = 6) -> tuple[pd.DataFrame, str]:
    """Return the mean outcome in the last weeks before the holdout, or by open part without time; and its caption."""
    part = part_of(frame, points, problem)
    label = pd.Series(decisions.event(frame[problem.target].to_numpy(), problem), frame.index)[part != "holdout"]
    name = decisions.level_name(problem)
    if problem.time:
        week = frame.loc[label.index, problem.time].dt.to_period("W").dt.end_time.dt.strftime("%Y-%m-%d")
        table = label.groupby(week.rename("week ending")).agg(["size", "mean"]).tail(periods).reset_index()
        caption = f"The last {len(table)} weeks before the holdout"
    else:
        table = label.groupby(pd.Series(part, frame.index, name="part")).agg(["size", "mean"]).reset_index()
        caption = "The open parts"
    return table.rename(columns={"size": "rows", "mean": name}), f"{caption}: rows, and the {name}"


def entity_hash(frame: pd.DataFrame, problem: Problem) -> pd.Series:
    """Return a hash of the entity, or of the key, of each row: float64, uniform over 0-1, the same everywhere."""
    names = pd.concat([_as_text(frame[name]) for name in problem.group or problem.key], axis=1)
    hashes = pd.util.hash_pandas_object(names, index=False, hash_key=SALT, categorize=False)
    return pd.Series(hashes.to_numpy() / 2.0**64, index=frame.index)


def _as_text(column: pd.Series) -> pd.Series:
    """Return names as text, the same for 1, 1.0 and "1", for a time and its days since 1970: a key may be a feature too."""
    if pd.api.types.is_datetime64_any_dtype(column):
        column = as_days(column)
    return column.astype("str").str.removesuffix(".0").str.lower()


def _stratum(frame: pd.DataFrame, by: str, problem: Problem) -> pd.Series:
    if by == "group" or not problem.is_class:
        return pd.Series("all", index=frame.index)
    return frame[problem.target].astype("int64").astype("str")
