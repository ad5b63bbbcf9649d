"""The saved Athena queries over the archive (infra/archive.py): each runs as it is, and is there to be changed.

A line is one message. A batch is counted once however often it was delivered, by its id; what follows unpacks its
columns as contract/batch.py does, in Trino's SQL.
"""
from typing import NamedTuple


class Query(NamedTuple):
    """One saved query. logical_id: letters and digits; title, description: as Athena's console lists them."""

    logical_id: str
    title: str
    description: str
    sql: str


_SINCE = "day >= date_format(current_date - INTERVAL '{days}' DAY, '%Y-%m-%d')"

# One row a reading and field. Packed: values [exponent, whole number, ...] or ["text", number as text, ...];
# timestamps [exponent, first, usual step, deviation of each further step] or ["as is", timestamp, ...].
_ROWS = """WITH batch AS (
  SELECT json_extract_scalar(line, '$.site') AS site, json_extract_scalar(line, '$.id') AS id, max(line) AS line
  FROM archive
  WHERE {where}
  GROUP BY 1, 2
), series AS (
  SELECT site, id, json_extract_scalar(part, '$.device') AS device,
    CAST(json_extract(part, '$.timestamp') AS array(json)) AS stamps,
    CAST(json_extract(part, '$.values') AS map(varchar, array(json))) AS fields,
    sequence(1, CAST(json_extract_scalar(part, '$.n') AS integer)) AS places
  FROM batch CROSS JOIN UNNEST(CAST(json_extract(line, '$.series') AS array(json))) AS parts (part)
), stamped AS (
  SELECT site, id, device, place, fields, stamps,
    sum(CASE WHEN json_format(stamps[1]) = '"as is"' THEN NULL
      WHEN place = 1 THEN CAST(stamps[2] AS bigint)
      ELSE CAST(stamps[3] AS bigint) + CAST(stamps[place + 2] AS bigint)
    END) OVER (PARTITION BY site, id, device ORDER BY place) AS steps
  FROM series CROSS JOIN UNNEST(places) AS each_place (place)
), moments AS (
  SELECT site, id, device, place, fields,
    CASE WHEN steps IS NOT NULL THEN from_unixtime(steps * power(10, CAST(stamps[1] AS integer)))
      ELSE coalesce(
        TRY(from_unixtime(CAST(json_extract_scalar(stamps[place + 1], '$') AS double))),
        TRY(from_iso8601_timestamp(json_extract_scalar(stamps[place + 1], '$')) AT TIME ZONE 'UTC'))
    END AS moment
  FROM stamped
), readings AS (
  SELECT site, device, moment, id, place, field,
    CASE WHEN json_format(packed[1]) = '"text"' THEN CAST(json_extract_scalar(packed[place + 1], '$') AS double)
      ELSE CAST(packed[place + 1] AS double) * power(10, CAST(packed[1] AS integer))
    END AS value
  FROM moments CROSS JOIN UNNEST(fields) AS each_field (field, packed)
)
"""

QUERIES = (
    Query("Readings", "readings and events, one by one",
          "A row for each reading and field of the last day; add: AND device = 'pi-1'.",
          _ROWS.format(where="route IN ('readings', 'events') AND " + _SINCE.format(days=1)) + (
              "SELECT site, device, moment, field, value\n"
              "FROM readings\n"
              "WHERE value IS NOT NULL\n"
              "ORDER BY site, device, field, moment\n"
              "LIMIT 10000")),
    Query("Hours", "hours of every device",
          "Number, mean, smallest and largest by hour, of the last 30 days, or of any time longer ago.",
          _ROWS.format(where="route IN ('readings', 'events') AND " + _SINCE.format(days=30)) + (
              "SELECT site, device, field, date_trunc('hour', moment) AS hour, count(*) AS n, avg(value) AS mean,\n"
              "  min(value) AS smallest, max(value) AS largest\n"
              "FROM readings\n"
              "WHERE value IS NOT NULL\n"
              "GROUP BY 1, 2, 3, 4\n"
              "ORDER BY 1, 2, 3, 4")),
    Query("Anomalies", "anomalies by device and day",
          "How many readings were anomalous, the smallest and the largest of them; an anomaly sent twice counts once.",
          f"""WITH message AS (
  SELECT json_extract_scalar(line, '$.site') AS site, json_extract_scalar(line, '$.device_id') AS device,
    concat(ARRAY[json_parse(line)], coalesce(CAST(json_extract(line, '$.also') AS array(json)), ARRAY[])) AS found
  FROM archive
  WHERE route = 'alerts' AND {_SINCE.format(days=30)}
), anomaly AS (
  SELECT DISTINCT site, device, json_extract_scalar(one, '$.field') AS field,
    json_extract_scalar(one, '$.number') AS receive_number,
    from_unixtime(CAST(json_extract_scalar(one, '$.at') AS bigint) / 1000) AS moment,
    CAST(coalesce(json_extract_scalar(one, '$.value'), json_extract_scalar(one, '$.sensor2')) AS double) AS value
  FROM message CROSS JOIN UNNEST(found) AS each_one (one)
  WHERE json_extract_scalar(one, '$.anomaly') = 'true'
)
SELECT site, device, field, CAST(moment AS date) AS day, count(*) AS anomalies, min(value) AS smallest,
  max(value) AS largest
FROM anomaly
GROUP BY 1, 2, 3, 4
ORDER BY 4 DESC, 5 DESC"""),
)
