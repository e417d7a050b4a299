"""What happened, and what does it suggest?

Reads: ``data/problem.json``; ``data/metrics.json``; ``data/lake/``. Of the holdout, no outcome and no value.
Writes: ``data/exploration.json``: the findings, what was decided on suspicious columns, the score of every column.
Gate: no target leakage: every suspicious column is declared as known later, or justified.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ninefold import artifacts, gate
from ninefold.errors import DataError, ParamsError
from ninefold.exploration import group_rates, leakage, univariate
from ninefold.exploration.group_rates import CLOCK, CLUSTER, LABEL, OUTCOME, PART, candidates
from ninefold.exploration.params import Params, Related
from ninefold.metrics import COPIES, EvaluationPlan, clusters, entity_hash, labelled, part_of
from ninefold.problem import Problem, decisions

MOST_COLUMNS = 12  # compared where the params name none
KNOWN = ("in advance", "justified")  # statuses of columns that may become features


class Results(NamedTuple):
    """What `overall`, `course`, `gaps`, `missing_effects` and `univariate_scores` returned."""

    whole: dict[str, float]
    along: pd.DataFrame
    ranked: pd.DataFrame
    missing: pd.DataFrame
    scores: pd.DataFrame


def read(params: Params, problem: Problem, plan: EvaluationPlan) -> pd.DataFrame:
    """Return the labelled rows before the holdout, with every column that could become a feature.

    The table's columns but the target; ``weekday``, ``hour``, ``month`` of the local clock where its time tells them and
    it has none; ``<table>.<column>`` of each related table; `group_rates.OURS`. Raises `DataError` if a table lacks a
    column that the params name, or a related one has several rows for one key.
    """
    if params.leak_score is not None and params.leak_score <= univariate.guess(problem):
        score = f"found {params.leak_score:g}, which guessing reaches"
        raise ParamsError(f"exploration.leak_score: {score}; expected more, such as 0.995, or null")
    frame = labelled(problem)
    part = part_of(frame, plan.split, problem)
    frame = frame[part != "holdout"].reset_index(drop=True)
    clock, target = problem.local_times(frame), frame.pop(problem.target)
    own = {OUTCOME: target, LABEL: decisions.event(target.to_numpy(), problem), CLOCK: clock}
    copies = {COPIES: entity_hash(frame, problem, plan.split)} if plan.split.copies else {}
    own |= {PART: part[part != "holdout"], CLUSTER: clusters(frame.assign(**copies), problem)}
    parts = group_rates.time_parts(clock)
    calendar = {name: parts[name] for name in [*parts][:2] if name != "year" and name not in frame}
    added = pd.DataFrame({**calendar, **own}, index=frame.index)
    frame = pd.concat([frame, added], axis=1)  # at once: there may be hundreds of columns
    for name, related in params.related.items():
        frame = _join(frame, name, related)
    for key in ("by", "known_later", "justified"):
        artifacts.require(frame, getattr(params, key), f"data/lake/{problem.table}, for exploration.{key}")
    return frame.reset_index(drop=True)


def compared(frame: pd.DataFrame, params: Params, problem: Problem, level: float) -> dict[str, list[str]]:
    """Return the columns to compare: ``ordered`` (numbers, times) and ``nominal`` (the others).

    Those of ``exploration.by`` and of the related tables; where ``by`` is empty, of the columns known in advance the
    twelve with the most significant gap, in the order of the table.
    """
    related = [f"{name}.{column}" for name, table in params.related.items() for column in table.columns]
    usual = list(params.by)
    if not usual:
        left_out = {*params.known_later, problem.time}
        known = [name for name in candidates(frame) if name not in left_out and not _is_key(name, frame, problem)]
        top = set(group_rates.gaps(frame, known, params, problem, level)["column"].head(MOST_COLUMNS))
        usual = [name for name in known if name in top]
    columns = dict.fromkeys([*usual, *related])
    types = frame.iloc[:0].select_dtypes(["number", "datetime", "category"])  # yes and no have no order, weekdays have
    ordered = [name for name in columns if name in types]
    return {"ordered": ordered, "nominal": [name for name in columns if name not in types]}


def univariate_scores(frame: pd.DataFrame, missing: pd.DataFrame, params: Params, problem: Problem) -> pd.DataFrame:
    """Return what `leakage.screen` does, the ``status`` of each column, and the ``reason`` of its declaration, if any.

    ``known later`` or ``justified`` if declared, ``identifier`` if it only numbers the rows, ``suspicious`` if there is
    evidence, else ``in advance``.
    """
    own = [name for name in candidates(frame) if _is_key(name, frame, problem)]
    table = leakage.screen(frame, [*filter(None, [problem.time]), *own], missing, params, problem)
    later, justified = (table["column"].isin(list(names)) for names in (params.known_later, params.justified))
    over = (table["evidence"] != "") & (table["column"] != problem.time)
    statuses = ["known later", "justified", "identifier", "suspicious"]
    table["status"] = np.select([later, justified, table["column"].isin(own), over], statuses, "in advance")
    table["reason"] = [{**params.known_later, **params.justified}.get(name, "") for name in table["column"]]
    return table


def decided(table: pd.DataFrame) -> pd.DataFrame:
    """Return ``column``, ``evidence``, ``decision`` (``open``, ``drop``, ``keep``) and ``reason``, those still open first."""
    decision = table["status"].map({"suspicious": "open", "known later": "drop", "justified": "keep"})
    rows = table.assign(decision=decision).replace({"evidence": {"": "nothing"}})
    columns = ["column", "evidence", "decision", "reason"]
    return pd.concat([rows.loc[decision == each, columns] for each in ("open", "drop", "keep")], ignore_index=True)


def strongest(table: pd.DataFrame) -> pd.Series | None:
    """Return the row of `univariate_scores` with the best ``learned`` score known in advance; None if all are suspicious."""
    known = table[table["status"].isin(KNOWN)]
    if known.empty and not (table["status"] == "suspicious").any():
        raise DataError("exploration.known_later: leaves no column that is known in advance; there is nothing to learn")
    return None if known.empty else known.loc[known["learned"].idxmax()]


def checks(
    frame: pd.DataFrame, table: pd.DataFrame, params: Params, problem: Problem, plan: EvaluationPlan
) -> list[gate.Check]:
    """Return the gate: no suspected leak is undecided, and no row of the holdout was used."""
    suspicious = table[table["status"] == "suspicious"]
    texts = [f"{name} ({evidence})" for name, evidence in suspicious[["column", "evidence"]].to_numpy()]
    justified = table.loc[table["status"] == "justified", ["column", "reason"]].to_numpy()
    value = "; ".join(texts) or "none"
    if not texts and len(justified):
        value = f"none but what is justified ({'; '.join(map(': '.join, justified))})"
    limit = leakage.expected(list(suspicious["column"]), params, problem)
    leaks = gate.holds("columns that leak the outcome", not texts, value, limit)
    if not problem.time:
        rows = int((frame[PART] == "holdout").sum())
        return [leaks, gate.holds("rows of the holdout used", rows == 0, rows, "none")]
    newest, closed = frame[CLOCK].max(), plan.split.holdout
    in_time = newest < pd.Timestamp(closed)
    return [leaks, gate.holds("newest row used", in_time, f"{newest:%Y-%m-%d}", f"before {closed}, the holdout")]


def metrics(whole: dict[str, float], ranked: pd.DataFrame, table: pd.DataFrame) -> dict[str, Any]:
    """Return the figures for ``dvc metrics``."""
    gaps, score = ranked.set_index("column")["gap"].to_dict(), table.set_index("column")["score"].to_dict()
    counts = {status: int((table["status"] == status).sum()) for status in ("suspicious", "justified")}
    return {"mean": whole["mean"], "gaps": gaps, "univariate_score": score, **counts}


def save(findings: list[str], table: pd.DataFrame, params: Params) -> None:
    """Write ``data/exploration.json``: the findings, the columns dropped (which stage 06 refuses) and kept, the scores."""
    scores = gate.tidy(table.set_index("column")["score"].to_dict())
    decided = {"known_later": list(params.known_later), "justified": dict(params.justified), "univariate_score": scores}
    artifacts.write_json({"findings": findings, **decided}, artifacts.output("data/exploration.json"))


def load() -> dict[str, Any]:
    """Read what `save` wrote."""
    return artifacts.read_json("data/exploration.json")


def _join(frame: pd.DataFrame, name: str, related: Related) -> pd.DataFrame:
    where = f"data/lake/{name}"
    artifacts.require(frame, related.key, f"the rows, for exploration.related.{name}.key")
    table = artifacts.read_table(where, list(dict.fromkeys([*related.key, *related.columns])))
    if table.duplicated(related.key).any():
        key = ", ".join(related.key)
        raise DataError(f"{where}: has several rows for one {key}; exploration.related.{name}.key must identify a row")
    renamed = table[related.columns].add_prefix(f"{name}.")
    return frame.merge(pd.concat([table[related.key], renamed], axis=1), how="left", on=related.key)


def _is_key(column: str, frame: pd.DataFrame, problem: Problem) -> bool:
    """Return whether a column identifies rows: it is the key, or it numbers them."""
    return [column] == problem.key or univariate.is_identifier(frame[column], frame[OUTCOME].to_numpy(), problem)
