"""The rows of the review page: scored, filtered, and ranked by what acting on each gains."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ninefold import artifacts, labels
from ninefold.errors import DataError
from ninefold.params import in_project
from ninefold.problem import Problem, decisions
from ninefold.serving import chunks, scoring
from ninefold.serving.bundle import Bundle
from ninefold.training import explanation

SHOWN = 500  # rows on a page
MOST_ROWS = 200_000  # of a table, which is kept in memory
FEW = 30  # values of a feature among which one chooses to filter


@dataclass(frozen=True, eq=False)
class Scored:
    """Rows with their answers; the position of a row is its number in addresses."""

    name: str  # what the rows are, for the reader
    frame: pd.DataFrame  # the model's columns, history filled in, and what identifies a row
    keys: pd.DataFrame  # what identifies a row, as text
    answers: pd.DataFrame  # `Bundle.answers`, and the forecast as one number (``level``) and as ``text``; ``gain``
    always: str | float  # the best action for all rows alike, with which ``gain`` compares; see `advantage`


def score(table: pa.Table, name: str, bundle: Bundle) -> Scored:
    """Return a table with its answers; `DataError` if a column or a value is wrong, or there are no rows or too many."""
    if not 0 < table.num_rows <= MOST_ROWS:
        count = f"more than {MOST_ROWS:,} rows" if table.num_rows else "none"
        raise DataError(f"{name}: found {count}, expected 1 to {MOST_ROWS:,} rows; give the rows of a day")
    problem, dates = bundle.problem, bundle.columns.dates
    scoring.check_columns(table.column_names, bundle, name)
    scores = scoring.score(table, bundle, name)
    answers = scores.answers
    always, level = _always(answers, bundle), decisions.expected(answers, problem)
    if problem.task == "multiclass":
        level = decisions.probabilities(answers, problem).max(axis=1)
    answers = answers.assign(level=level, gain=advantage(answers, always, problem), text=forecasts(answers, problem))
    names = [each for each in dict.fromkeys([*problem.key, problem.time]) if each in table.column_names]
    identity = table.select(names).to_pandas()
    texts = {each: [explanation.as_text(value, each in dates) for value in identity[each]] for each in names}
    keys = pd.DataFrame(texts, index=identity.index, dtype="str")
    frame = scores.features.join(identity.drop(columns=list(scores.features), errors="ignore"))
    return Scored(name, frame, keys, answers, always)


def read_file(place: Path) -> pa.Table:
    """Return the rows of a file, of one with too many just enough to see that."""
    tables: list[pa.Table] = []
    for table in chunks.read_file(place, chunks.CHUNK):
        tables.append(table)
        if sum(each.num_rows for each in tables) > MOST_ROWS:
            break
    return pa.concat_tables(tables)


def newest_period() -> tuple[Path, ...]:
    """Return the files of the last period of the project's feature table that has rows; none where there is none."""
    if not in_project():
        return ()
    from ninefold import engine, features  # with all that a project needs, and a packed service does not

    periods = reversed(engine.periods(features.FEATURES))
    newest = next((period for period in periods if engine.count(features.FEATURES, period)), None)
    return tuple(engine.parts(features.FEATURES, newest)) if newest is not None else ()


def newest_rows(files: tuple[Path, ...], bundle: Bundle) -> tuple[pa.Table, str]:
    """Return of a period the rows of its last day, or without time those without outcome (all, if each has one)."""
    name, problem = "data/features", bundle.problem
    frame = pd.concat([artifacts.read_table(str(file)) for file in files], ignore_index=True)
    artifacts.require(frame, [problem.time or problem.target], name)
    if problem.time:
        day = problem.local_days(frame)
        frame, name = frame[day == day.max()], f"{day.max():%Y-%m-%d}, the newest day of {name}"
    elif frame[problem.target].isna().any():
        frame, name = frame[frame[problem.target].isna()], f"the rows of {name} without an outcome"
    frame = frame.drop(columns=list(bundle.added.values()), errors="ignore")
    return pa.Table.from_pandas(frame, preserve_index=False), name


def advantage(answers: pd.DataFrame, always: str | float, problem: Problem) -> np.ndarray:
    """Return what the best other action is expected to pay beyond the action `always`: float64, shape (n,).

    Negative where `always` is best for the row too: the nearer to 0, the nearer is another action. Of quantities: what
    the row's own action saves if its forecast comes true.
    """
    if problem.is_class:
        values = decisions.expected_payoff(answers, problem)
        return (values.drop(columns=str(always)).max(axis=1) - values[str(always)]).to_numpy()
    own, target = answers["action"].to_numpy(), answers["prediction"].to_numpy()
    same = np.full(len(own), float(always))
    return decisions.payoff(own, target, problem) - decisions.payoff(same, target, problem)


def forecasts(answers: pd.DataFrame, problem: Problem) -> list[str]:
    """Return the forecast of each row as text: a probability, the likeliest class with its own, or a quantity and interval."""
    if problem.task == "regression":
        rows = answers[["prediction", "low", "high"]].map(decisions.number).itertuples(index=False)
        return [f"{row.prediction} ({row.low} – {row.high})" for row in rows]
    likely = decisions.probabilities(answers, problem)
    if problem.task == "binary":
        return [f"{value:.1%}" for value in likely[:, 1]]
    classes = [problem.class_labels.get(name, name) for name in problem.classes]
    names = np.array(classes, dtype=object)[likely.argmax(axis=1)]
    return [f"{name} {value:.1%}" for name, value in zip(names, likely.max(axis=1), strict=True)]


def listing(scored: Scored, bundle: Bundle, query: Mapping[str, str]) -> dict[str, Any]:
    """Return what the page of rows shows, ranked by gain, for a query: ``action``, ``in.FEATURE``, part of a ``key``."""
    answers, frame, text = scored.answers, scored.frame, query.get("key", "").strip().casefold()
    choices = {name: sorted(set(frame[name].dropna()) - {""}) for name in bundle.columns.categorical}
    choices = {name: values for name, values in choices.items() if 1 < len(values) <= FEW}
    named = [text in " ".join(each).casefold() for each in scored.keys.to_numpy()]
    chosen = pd.Series(named, index=frame.index, dtype=bool)
    for name, values in {"action": answers["action"], **{f"in.{name}": frame[name] for name in choices}}.items():
        if value := query.get(name):
            chosen &= values.astype("str") == value
    ranked = answers["gain"][chosen].sort_values(ascending=False, kind="stable").index
    shown = ranked[:SHOWN]
    keys, records = (table.loc[shown].to_dict("records") for table in (scored.keys, answers))
    return {
        "lines": [{"row": row, "keys": key, **each} for row, key, each in zip(shown, keys, records, strict=True)],
        "decimals": labels.decimals(answers[["expected_payoff", "gain"]].abs().max(axis=None)),
        "count": len(ranked),
        "counts": {action: int((answers["action"] == action).sum()) for action in bundle.problem.actions},
        "choices": choices,
    }


def _always(answers: pd.DataFrame, bundle: Bundle) -> str | float:
    """Return the best action for all rows alike: that of the holdout, or where none is recorded that of these rows."""
    problem = bundle.problem
    if not problem.is_class:
        return next(iter(decisions.policies(answers["prediction"].to_numpy(), problem).values()))
    paid = {each["policy"]: each["payoff"] for each in bundle.described.get("evidence", {}).get("policies", [])}
    constant = {action: paid[f"always {action}"] for action in problem.actions if f"always {action}" in paid}
    return str(pd.Series(constant or decisions.expected_payoff(answers, problem).mean()).idxmax())
