SELECT regexp_extract(file.filename, '(?:\d+_)?([^/\\]+)\.json$', 1) AS stage,
  line.value ->> '$.name' AS "check", line.value ->> '$.value' AS value, line.value ->> '$.limit' AS "limit",
  CAST(line.value ->> '$.passed' AS BOOLEAN) AS passed
FROM read_text({files}) AS file, json_each(file.content, '$.gate.checks') AS line
ORDER BY file.filename, CAST(line.key AS INTEGER)
