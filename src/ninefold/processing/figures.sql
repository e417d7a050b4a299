-- Of a figure the name is its place: `holdout.roc_auc.value`, `periods[0].period`.
SELECT regexp_extract(file.filename, '(?:\d+_)?([^/\\]+)\.json$', 1) AS stage,
  regexp_replace(replace(leaf.fullkey, '$.metrics.', ''), '"((?:[^"\\]|\\.)*)"', '\1', 'g') AS name,
  CASE WHEN leaf.type IN ('UBIGINT', 'BIGINT', 'DOUBLE') THEN CAST(leaf.atom AS DOUBLE) END AS value,
  leaf.value ->> '$' AS text
FROM read_text({files}) AS file, json_tree(file.content, '$.metrics') AS leaf
WHERE leaf.type NOT IN ('OBJECT', 'ARRAY')
ORDER BY file.filename, leaf.id
