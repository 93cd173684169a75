-- What could not become a row, with the place where it came from. A flow's
-- reject is the row that it would have merged; the flows of this pipeline put
-- the message's partition, offset and text into it.
SELECT coalesce(r.source, r.flow) AS "source or flow",
       CASE WHEN r.file IS NOT NULL THEN format('%s line %s', r.file, r.line)
            WHEN r.topic IS NOT NULL THEN format('%s/%s offset %s', r.topic, r."partition", r."offset")
            ELSE format('%s/%s offset %s', m.topic, v.record->>'partition', v.record->>'offset') END AS place,
       left(translate(coalesce(v.record->>'value', encode(r.raw, 'escape')), E'\n', '|'), 36) AS record,
       r.sqlstate, left(r.message, 58) AS reason
  FROM lakehouse.reject_status AS r
  LEFT JOIN (VALUES ('user_profile', 'user_info'), ('workouts', 'workout'), ('heart_rate', 'bpm')) AS m (flow, topic)
         ON m.flow = r.flow
 CROSS JOIN LATERAL (SELECT CASE WHEN r.flow IS NOT NULL THEN convert_from(r.raw, 'UTF8')::jsonb END) AS v (record)
 ORDER BY 1, 2
 LIMIT 20;
