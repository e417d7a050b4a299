-- The label of each prediction, from the tables predictions and received of `labels._resolve`, which fills in what is in braces.
-- A key as text, by the type that predictions have; the same in predictions and outcomes: 7, 7.0 and "7" are one key.
CREATE TEMP MACRO as_time(key) AS
    coalesce(CAST(CAST(TRY_CAST(key AS TIMESTAMPTZ) AS TIMESTAMP) AS VARCHAR), CAST(key AS VARCHAR));
CREATE TEMP MACRO as_float(key) AS coalesce(CAST(TRY_CAST(key AS DOUBLE) AS VARCHAR), CAST(key AS VARCHAR));
CREATE TEMP MACRO as_text(key) AS regexp_replace(CAST(key AS VARCHAR), '^([+-]?\d+)\.0+$', '\1');
CREATE TEMP MACRO as_whole(key) AS
    CASE WHEN regexp_full_match(as_text(key), '[+-]?\d{{1,18}}') THEN CAST(CAST(as_text(key) AS BIGINT) AS VARCHAR)
    ELSE as_text(key) END;
CREATE TEMP TABLE p AS
    SELECT n, request_id, row, moment, TRY_CAST({time} AS TIMESTAMP) AS due,
        CAST(CASE WHEN {without_key} THEN to_json({{'request_id': request_id, 'row': row}}) ELSE to_json([{texts}]) END AS VARCHAR)
            AS entity
    FROM predictions;
CREATE TEMP TABLE l AS
    SELECT CAST(request_id AS VARCHAR) AS request_id, CAST(row AS BIGINT) AS row, outcome,
        CAST(CASE WHEN request_id IS NULL THEN to_json([{texts}]) END AS VARCHAR) AS entity, CAST(known_at AS TIMESTAMP) AS known_at
    FROM received;
CREATE TEMP TABLE placed AS
    WITH ids AS (
        SELECT request_id, row, any_value(entity) AS entity, count(DISTINCT entity) AS entities FROM p GROUP BY ALL)
    SELECT l.* EXCLUDE (entity), (l.request_id, l.row, l.entity) AS named, coalesce(i.entities, 0) > 1 AS ambiguous,
        CASE WHEN l.request_id IS NULL THEN l.entity WHEN i.entities = 1 THEN i.entity END AS entity
    FROM l LEFT JOIN ids i ON i.request_id = l.request_id AND i.row = l.row;
CREATE TEMP TABLE totals AS
    SELECT count(DISTINCT named) AS outcomes, count(DISTINCT named) FILTER (ambiguous) AS ambiguous,
        count(DISTINCT named) FILTER (NOT ambiguous AND NOT coalesce(entity IN (SELECT entity FROM p), false)) AS unmatched
    FROM placed;
CREATE TEMP TABLE answered AS
    WITH ranked AS (SELECT n, entity, row_number() OVER (PARTITION BY entity
        ORDER BY coalesce(moment < due, true) DESC, moment DESC, request_id DESC, row DESC, n DESC) AS rank FROM p),
    latest AS (SELECT entity, max(known_at) AS latest FROM placed GROUP BY entity),
    resolved AS (SELECT entity, any_value(latest) AS known_at, any_value(outcome) AS outcome,
            count(DISTINCT outcome) + CAST(count(*) > count(outcome) AS INT) > 1 AS contradicted
        FROM placed JOIN latest USING (entity) WHERE known_at IS NOT DISTINCT FROM latest GROUP BY entity)
    SELECT n, CASE WHEN rank > 1 THEN 'superseded' WHEN r.entity IS NULL THEN 'open' WHEN contradicted THEN 'contradicted'
            WHEN outcome IS NULL THEN 'never' ELSE 'known' END AS label,
        CASE WHEN label = 'known' THEN outcome END AS outcome,
        CASE WHEN label IN ('known', 'never') THEN known_at END AS known_at
    FROM ranked LEFT JOIN resolved r USING (entity);
