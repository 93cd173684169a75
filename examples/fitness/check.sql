-- Recomputes every silver and gold table of the fitness pipeline from the
-- bronze rows, in plain SQL and with none of the functions of lakehouse, and
-- compares full contents. One line for each table: how many rows it has, how
-- many are missing and how many should not be there.
--
--   psql -f check.sql
--
-- Leaves nothing behind: all objects are temporary.

\set ON_ERROR_STOP on
\set QUIET on
\if :{?age_on}
\else
\set age_on 2015-12-31
\endif
SET client_min_messages = warning;
SET timezone = 'Pacific/Kiritimati';  -- far from UTC: no date may depend on it

CREATE OR REPLACE FUNCTION pg_temp.object(value text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN CASE WHEN jsonb_typeof(value::jsonb) = 'object' THEN value::jsonb END;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;  -- no JSON
END $$;

CREATE TEMP TABLE message AS
SELECT topic, pg_temp.object(value) AS j FROM bronze.kafka_multiplex WHERE topic IN ('user_info', 'workout', 'bpm');

CREATE TEMP TABLE expected_date_lookup AS
SELECT d::date AS date, (sunday + 6 - date_trunc('year', sunday + 6)::date) / 7 + 1 AS week,
       extract(year FROM d)::integer AS year, extract(month FROM d)::integer AS month,
       extract(dow FROM d)::integer + 1 AS dayofweek, extract(day FROM d)::integer AS dayofmonth,
       extract(doy FROM d)::integer AS dayofyear,
       format('%s-%s', extract(year FROM sunday + 6), (sunday + 6 - date_trunc('year', sunday + 6)::date) / 7 + 1) AS week_part
  FROM generate_series(timestamp '2013-12-29', '2016-01-02', '1 day') AS d,
       LATERAL (SELECT d::date - extract(dow FROM d)::integer) AS s (sunday);

CREATE TEMP TABLE expected_users AS
SELECT DISTINCT ON (user_id) user_id, device_id, mac_address, to_timestamp(registration_timestamp) AS registration_timestamp
  FROM bronze.registered_users
 WHERE user_id IS NOT NULL
 ORDER BY user_id, _load_id;

CREATE TEMP TABLE expected_gym_logs AS
SELECT mac_address, gym, to_timestamp(login) AS login,
       to_timestamp(max(CASE WHEN logout > login THEN logout END)) AS logout
  FROM bronze.gym_logins
 WHERE mac_address IS NOT NULL AND gym IS NOT NULL AND login IS NOT NULL
 GROUP BY mac_address, gym, login;

-- equal times: anything beats a delete, then the greater row wins, column by
-- column, text by its bytes, NULL least
CREATE TEMP TABLE expected_user_profile AS
WITH event AS (
    SELECT (j->>'user_id')::bigint AS user_id,
           make_date(split_part(j->>'dob', '/', 3)::integer, split_part(j->>'dob', '/', 1)::integer,
                     split_part(j->>'dob', '/', 2)::integer) AS dob,
           j->>'sex' AS sex, j->>'gender' AS gender, j->>'first_name' AS first_name, j->>'last_name' AS last_name,
           j#>>'{address,street_address}' AS street_address, j#>>'{address,city}' AS city,
           j#>>'{address,state}' AS state, j#>>'{address,zip}' AS zip,
           to_timestamp((j->>'timestamp')::double precision) AS updated, j->>'update_type' AS update_type
      FROM message
     WHERE topic = 'user_info' AND j->>'update_type' IN ('new', 'update', 'delete')
       AND j->>'user_id' IS NOT NULL AND j->>'timestamp' IS NOT NULL
), latest AS (
    SELECT DISTINCT ON (user_id) *
      FROM event
     ORDER BY user_id, updated DESC, update_type = 'delete', dob DESC NULLS LAST,
              sex COLLATE "C" DESC NULLS LAST, gender COLLATE "C" DESC NULLS LAST,
              first_name COLLATE "C" DESC NULLS LAST, last_name COLLATE "C" DESC NULLS LAST,
              street_address COLLATE "C" DESC NULLS LAST, city COLLATE "C" DESC NULLS LAST,
              state COLLATE "C" DESC NULLS LAST, zip COLLATE "C" DESC NULLS LAST
)
SELECT user_id, dob, sex, gender, first_name, last_name, street_address, city, state, zip, updated
  FROM latest WHERE update_type <> 'delete';

CREATE TEMP TABLE expected_workouts AS
SELECT DISTINCT (j->>'user_id')::bigint AS user_id, (j->>'workout_id')::integer AS workout_id,
       to_timestamp((j->>'timestamp')::double precision) AS time, j->>'action' AS action,
       (j->>'session_id')::integer AS session_id
  FROM message
 WHERE topic = 'workout' AND j->>'user_id' IS NOT NULL AND j->>'timestamp' IS NOT NULL;

CREATE TEMP TABLE expected_heart_rate AS
SELECT DISTINCT (j->>'device_id')::bigint AS device_id, to_timestamp((j->>'time')::double precision) AS time,
       (j->>'heartrate')::numeric AS heartrate, (j->>'heartrate')::numeric > 0 AS valid
  FROM message
 WHERE topic = 'bpm' AND j->>'device_id' IS NOT NULL AND j->>'time' IS NOT NULL;

CREATE TEMP TABLE expected_user_bins AS
WITH aged AS (
    SELECT *, date_part('year', age(timestamp :'age_on', dob::timestamp)) AS years FROM expected_user_profile
)
SELECT user_id,
       CASE WHEN dob IS NULL OR dob > date :'age_on' THEN 'invalid age'
            WHEN years < 18 THEN 'under 18'
            WHEN years < 25 THEN '18-25'
            WHEN years >= 95 THEN '95+'
            ELSE format('%s-%s', 5 + 10 * floor((years - 5) / 10), 15 + 10 * floor((years - 5) / 10)) END AS age,
       gender, city, state
  FROM aged WHERE user_id IN (SELECT user_id FROM expected_users);

CREATE TEMP TABLE expected_completed_workouts AS
SELECT a.user_id, a.workout_id, a.session_id, a.time AS start_time, b.time AS end_time
  FROM expected_workouts AS a, expected_workouts AS b
 WHERE a.action = 'start' AND b.action = 'stop' AND (a.user_id, a.workout_id, a.session_id) = (b.user_id, b.workout_id, b.session_id)
   AND b.time - a.time >= interval '0' AND b.time - a.time < interval '3 hours';

CREATE TEMP TABLE expected_workout_bpm AS
SELECT w.user_id, w.workout_id, w.session_id, h.time, w.start_time, w.end_time, h.heartrate
  FROM expected_completed_workouts AS w
  JOIN expected_users AS u USING (user_id)
  JOIN expected_heart_rate AS h USING (device_id)
 WHERE h.time > w.start_time AND h.time <= w.end_time AND h.heartrate > 0;

CREATE TEMP TABLE expected_workout_bpm_summary AS
SELECT user_id, workout_id, session_id, age, gender, city, state, min(heartrate) AS min_bpm,
       round(sum(heartrate) / count(*), 2) AS avg_bpm, max(heartrate) AS max_bpm, count(*) AS num_recordings
  FROM expected_workout_bpm JOIN expected_user_bins USING (user_id)
 GROUP BY user_id, workout_id, session_id, age, gender, city, state;

CREATE TEMP TABLE expected_gym_summary AS
SELECT DISTINCT timezone('UTC', l.login)::date AS date, l.gym, l.mac_address, w.workout_id, w.session_id,
       round((extract(epoch FROM l.logout) - extract(epoch FROM l.login)) / 60, 2) AS minutes_in_gym,
       round((extract(epoch FROM w.end_time) - extract(epoch FROM w.start_time)) / 60, 2) AS minutes_exercising
  FROM expected_gym_logs AS l
  JOIN expected_users AS u USING (mac_address)
  JOIN expected_completed_workouts AS w USING (user_id)
 WHERE w.start_time >= l.login AND w.start_time <= l.logout;

-- ----------------------------------------------------------------- compare
CREATE TEMP TABLE difference ("table" text, rows bigint, missing bigint, unexpected bigint);

DO $$
DECLARE
    name text;
    columns text;
BEGIN
    FOREACH name IN ARRAY ARRAY['silver.date_lookup', 'silver.users', 'silver.gym_logs', 'silver.user_profile',
        'silver.workouts', 'silver.heart_rate', 'silver.user_bins', 'silver.completed_workouts', 'silver.workout_bpm',
        'gold.workout_bpm_summary', 'gold.gym_summary']
    LOOP
        SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO columns
          FROM pg_attribute
         WHERE attrelid = ('pg_temp.expected_' || split_part(name, '.', 2))::regclass AND attnum > 0;
        EXECUTE format('INSERT INTO difference
                        SELECT %L, (SELECT count(*) FROM %s),
                               (SELECT count(*) FROM (SELECT %s FROM %s EXCEPT ALL SELECT %3$s FROM %2$s) AS x),
                               (SELECT count(*) FROM (SELECT %3$s FROM %2$s EXCEPT ALL SELECT %3$s FROM %4$s) AS x)',
                       name, name, columns, 'pg_temp.expected_' || split_part(name, '.', 2));
    END LOOP;
    -- the calendar and the generated columns of bronze must agree
    INSERT INTO difference
    SELECT 'bronze.kafka_multiplex', count(*),
           count(*) FILTER (WHERE d.date IS NULL),
           count(*) FILTER (WHERE (b.date, b.week_part) IS DISTINCT FROM (d.date, d.week_part))
      FROM bronze.kafka_multiplex AS b
      LEFT JOIN silver.date_lookup AS d ON d.date = timezone('UTC', to_timestamp(b."timestamp" / 1000.0))::date;
END $$;

TABLE difference;
DROP TABLE difference, message, expected_date_lookup, expected_users, expected_gym_logs, expected_user_profile,
    expected_workouts, expected_heart_rate, expected_user_bins, expected_completed_workouts, expected_workout_bpm,
    expected_workout_bpm_summary, expected_gym_summary;
RESET timezone;
RESET client_min_messages;
