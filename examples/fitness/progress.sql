-- One moment of the pipeline, as demo.sh shows it: row counts of every table
-- side by side, then what is still on its way. "produced" is the number of
-- messages that were sent so far.

WITH counted (layer, place, name, rows) AS (
    SELECT 1, 1, 'registered_users',    (SELECT count(*) FROM bronze.registered_users) UNION ALL
    SELECT 1, 2, 'gym_logins',          (SELECT count(*) FROM bronze.gym_logins) UNION ALL
    SELECT 1, 3, 'kafka_multiplex',     (SELECT count(*) FROM bronze.kafka_multiplex) UNION ALL
    SELECT 2, 1, 'users',               (SELECT count(*) FROM silver.users) UNION ALL
    SELECT 2, 2, 'gym_logs',            (SELECT count(*) FROM silver.gym_logs) UNION ALL
    SELECT 2, 3, 'user_profile',        (SELECT count(*) FROM silver.user_profile) UNION ALL
    SELECT 2, 4, 'user_bins',           (SELECT count(*) FROM silver.user_bins) UNION ALL
    SELECT 2, 5, 'workouts',            (SELECT count(*) FROM silver.workouts) UNION ALL
    SELECT 2, 6, 'completed_workouts',  (SELECT count(*) FROM silver.completed_workouts) UNION ALL
    SELECT 2, 7, 'heart_rate',          (SELECT count(*) FROM silver.heart_rate) UNION ALL
    SELECT 2, 8, 'workout_bpm',         (SELECT count(*) FROM silver.workout_bpm) UNION ALL
    SELECT 3, 1, 'workout_bpm_summary', (SELECT count(*) FROM gold.workout_bpm_summary) UNION ALL
    SELECT 3, 2, 'gym_summary',         (SELECT count(*) FROM gold.gym_summary) UNION ALL
    SELECT 3, 3, 'yearly_summary',      (SELECT count(*) FROM gold.yearly_summary)
), cell AS (
    SELECT layer, place,
           format(CASE layer WHEN 1 THEN '%-16s%8s  ' WHEN 2 THEN '%-18s%8s  ' ELSE '%-19s%4s' END,
                  name, to_char(rows, 'FM999,999,990')) AS text
      FROM counted
), state AS (
    SELECT (SELECT coalesce(sum(rows + rejected), 0) FROM lakehouse.kafka_offset) AS read,
           (SELECT count(*) FROM lakehouse.pending) AS pending,
           (SELECT count(*) FROM lakehouse.reject) AS rejects,
           (SELECT count(*) FROM pg_stat_activity
             WHERE backend_type LIKE 'lakehouse%' AND datname = current_database()) AS workers
), line (number, text) AS (
    SELECT 0, format('%-26s%-28s%s', 'BRONZE', 'SILVER', 'GOLD')
    UNION ALL
    SELECT place, rtrim(string_agg(coalesce(text, repeat(' ', CASE layer WHEN 1 THEN 26 ELSE 28 END)), '' ORDER BY layer))
      FROM (SELECT layer, place FROM generate_series(1, 3) AS layer, generate_series(1, 8) AS place) AS grid
      LEFT JOIN cell USING (layer, place)
     GROUP BY place
    UNION ALL
    SELECT 9, format('messages %s, waiting %s  pending loads %s  rejects %s  workers %s',
                     to_char(:produced, 'FM999,999,990'), to_char(greatest(:produced - read, 0), 'FM999,999,990'),
                     pending, rejects, workers)
      FROM state
)
SELECT text FROM line ORDER BY number;
