"""Join outcomes to predictions: each case once, whatever the order in which its outcomes were received."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from ninefold.monitoring.label_files import KNOWN_AT, OUTCOME
from ninefold.monitoring.production import MOMENT, REQUEST_ID, ROLE, ROW, identity
from ninefold.problem import Problem
from ninefold.serving import CANARY, CHAMPION

LABEL = "@label"
STATES = ("known", "never", "open", "contradicted", "superseded")
DECISIONS = (CHAMPION, CANARY)  # the roles whose answers were acted on


class Joined(NamedTuple):
    """Predictions with their outcomes.

    Attributes
    ----------
    table : DataFrame
        The predictions with the target, ``@label`` (one of `STATES`) and ``@known_at`` (datetime64[us], UTC).
    counts : dict of str to int
        ``predictions`` and how many are in each of `STATES`; ``other roles``, answers left out; ``outcomes``, different
        cases received, of which ``unmatched`` have no prediction and ``ambiguous`` an id of several cases;
        ``foreign_rows``, whose value is no outcome of the problem.
    unmatched : DataFrame
        The cases without a prediction: ``@request_id`` and ``@row``, or key and time.
    """

    table: pd.DataFrame
    counts: dict[str, int]
    unmatched: pd.DataFrame


def join(
    predictions: pd.DataFrame, delivered: pd.DataFrame, problem: Problem, roles: Collection[str] = DECISIONS
) -> Joined:
    """Return predictions with their outcomes, each joined once.

    Key and time identify a case; a prediction without a key is a case of its own. Of several answers for a case the
    last one before its time is the decision (the last one, if all came later); the others are ``superseded``. An outcome
    belongs to the case, by whichever id or key it was delivered. Equal repeats count once. Of different outcomes that
    with the latest ``@known_at`` counts, undated ones are older than dated ones; if several with that date differ, the
    case is ``contradicted`` until a later one is received. A missing outcome counts as one: ``never``.

    Parameters
    ----------
    predictions, delivered : DataFrame
        Of `production.served` and `labels.load`.
    problem : Problem
    roles : collection of str
        Whose answers are joined; those of a shadow were no decisions.

    Returns
    -------
    Joined
        The target is float64: the number of the class, or the quantity; missing where the label is not ``known``.
    """
    role = predictions[ROLE] if ROLE in predictions else pd.Series(CHAMPION, predictions.index)
    table = predictions[role.isin(list(roles))].reset_index(drop=True)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        _create_tables(connection, table, delivered, problem)
        connection.execute(RESOLVE)
        resolved = connection.sql("SELECT * FROM answered ORDER BY n").to_arrow_table().to_pandas()
        unmatched = connection.sql("SELECT number FROM unmatched ORDER BY number").fetchnumpy()["number"]
        totals = connection.sql("SELECT * FROM totals").to_arrow_table().to_pylist()[0]
    outcome = resolved["outcome"]
    if problem.is_class:
        outcome = outcome.map({name: float(number) for number, name in enumerate(problem.classes)})
    table[problem.target] = outcome.astype("float64")
    table[LABEL] = resolved["label"].astype("str")
    table[KNOWN_AT] = resolved["known_at"].astype("datetime64[us]")
    states = table[LABEL].value_counts().reindex(STATES, fill_value=0)
    counts = {"predictions": len(table), **states.astype(int).to_dict(), "other roles": len(predictions) - len(table)}
    names = [name for name in (REQUEST_ID, ROW, *identity(problem)) if name in delivered]
    return Joined(table, {**counts, **totals}, delivered[names].iloc[unmatched].reset_index(drop=True))


def _create_tables(
    connection: duckdb.DuckDBPyConnection, table: pd.DataFrame, delivered: pd.DataFrame, problem: Problem
) -> None:
    """Create p: n, request_id, row, moment, due, entity; and l: number, request_id, row, entity, outcome, known_at."""
    own = identity(problem)
    keys = {f"k{place}": name for place, name in enumerate(own)}  # column of ours -> the user's
    asked = table[[REQUEST_ID, ROW, MOMENT, *own]].set_axis(["request_id", "row", "moment", *keys], axis=1)
    predictions = pa.Table.from_pandas(asked.assign(n=np.arange(len(table))), preserve_index=False)
    received = pd.DataFrame(index=delivered.index)
    for name, source in {
        "request_id": REQUEST_ID,
        "row": ROW,
        **keys,
        "outcome": OUTCOME,
        "known_at": KNOWN_AT,
    }.items():
        received[name] = delivered.get(source)
    received["number"] = np.arange(len(received))
    connection.register("predictions", predictions)
    connection.register("delivered", pa.Table.from_pandas(received, preserve_index=False))
    texts = [
        _as_text(short, predictions.schema.field(short).type, name == problem.time) for short, name in keys.items()
    ]
    entity = f"to_json([{', '.join(texts)}])"
    without_key = " AND ".join(f"{short} IS NULL" for short, name in keys.items() if name in problem.key)
    times = [short for short, name in keys.items() if name == problem.time]
    due = f"TRY_CAST({times[0]} AS TIMESTAMP)" if times else "CAST(NULL AS TIMESTAMP)"
    alone = "to_json({'request_id': request_id, 'row': row})"
    connection.execute(
        f"CREATE TEMP TABLE p AS SELECT n, request_id, row, moment, {due} AS due, "
        f"CAST(CASE WHEN {without_key} THEN {alone} ELSE {entity} END AS VARCHAR) AS entity FROM predictions"
    )
    outcome, is_valid = "TRY_CAST(outcome AS DOUBLE)", "IS NOT NULL"
    if problem.is_class:
        connection.register("classes", pa.table({"name": problem.classes}))
        outcome, is_valid = "CAST(outcome AS VARCHAR)", "IN (SELECT name FROM classes)"
    connection.execute(
        "CREATE TEMP TABLE l AS SELECT number, CAST(request_id AS VARCHAR) AS request_id, CAST(row AS BIGINT) AS row, "
        f"CAST(CASE WHEN request_id IS NULL THEN {entity} END AS VARCHAR) AS entity, "
        f"{outcome} AS outcome, CAST(known_at AS TIMESTAMP) AS known_at "
        f"FROM delivered WHERE outcome IS NULL OR {outcome} {is_valid}"
    )


def _as_text(column: str, kind: pa.DataType, is_time: bool) -> str:
    """Return SQL that gives a key as text, the same in predictions and outcomes: 7, 7.0 and "7" are one key."""
    plain = f"CAST({column} AS VARCHAR)"
    if is_time or pa.types.is_timestamp(kind):
        return f"coalesce(CAST(CAST(TRY_CAST({column} AS TIMESTAMPTZ) AS TIMESTAMP) AS VARCHAR), {plain})"
    if pa.types.is_floating(kind):
        return f"coalesce(CAST(TRY_CAST({column} AS DOUBLE) AS VARCHAR), {plain})"
    text = rf"regexp_replace({plain}, '^([+-]?\d+)\.0+$', '\1')"
    if pa.types.is_integer(kind):
        is_whole = rf"regexp_full_match({text}, '[+-]?\d{{1,18}}')"
        return f"CASE WHEN {is_whole} THEN CAST(CAST({text} AS BIGINT) AS VARCHAR) ELSE {plain} END"
    return text


# The label of each prediction, from the tables of `_create_tables`.
RESOLVE = """
CREATE TEMP TABLE ids AS
    SELECT request_id, row, any_value(entity) AS entity, count(DISTINCT entity) AS entities FROM p GROUP BY ALL;
CREATE TEMP TABLE placed AS
    SELECT l.* EXCLUDE (entity), coalesce(i.entities, 0) > 1 AS ambiguous,
        CASE WHEN l.request_id IS NULL THEN l.entity WHEN i.entities = 1 THEN i.entity END AS entity,
        l.entity AS named
    FROM l LEFT JOIN ids i ON i.request_id = l.request_id AND i.row = l.row;
CREATE TEMP TABLE matched AS SELECT * FROM placed SEMI JOIN p USING (entity);
CREATE TEMP TABLE resolved AS
    WITH latest AS (SELECT entity, max(known_at) AS latest FROM matched GROUP BY entity)
    SELECT entity, any_value(latest) AS known_at, any_value(outcome) AS outcome,
        count(DISTINCT outcome) + CAST(count(*) > count(outcome) AS INT) > 1 AS contradicted
    FROM matched JOIN latest USING (entity) WHERE known_at IS NOT DISTINCT FROM latest GROUP BY entity;
CREATE TEMP TABLE answered AS
    WITH ranked AS (SELECT n, entity, row_number() OVER (PARTITION BY entity
        ORDER BY coalesce(moment < due, true) DESC, moment DESC, request_id DESC, row DESC, n DESC) AS rank FROM p)
    SELECT n, CASE WHEN rank > 1 THEN 'superseded' WHEN r.entity IS NULL THEN 'open' WHEN contradicted THEN 'contradicted'
            WHEN outcome IS NULL THEN 'never' ELSE 'known' END AS label,
        CASE WHEN label = 'known' THEN outcome END AS outcome,
        CASE WHEN label IN ('known', 'never') THEN known_at END AS known_at
    FROM ranked LEFT JOIN resolved r USING (entity);
CREATE TEMP TABLE unmatched AS
    SELECT min(number) AS number FROM placed ANTI JOIN matched USING (number) WHERE NOT ambiguous
    GROUP BY request_id, row, named;
CREATE TEMP TABLE totals AS
    SELECT (SELECT count(*) FROM (SELECT DISTINCT request_id, row, named FROM placed)) AS outcomes,
        (SELECT count(*) FROM unmatched) AS unmatched,
        (SELECT count(*) FROM (SELECT DISTINCT request_id, row FROM placed WHERE ambiguous)) AS ambiguous,
        (SELECT count(*) FROM delivered) - (SELECT count(*) FROM l) AS foreign_rows;
"""
