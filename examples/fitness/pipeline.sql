-- The fitness pipeline: CSV files and Kafka topics become bronze, silver and
-- gold tables of the current database.
--
--   psql -v landing=/srv/landing -v bootstrap_servers=host:9092 -f pipeline.sql
--
-- landing            directory with registered_users/*.csv, gym_logins/*.csv
-- bootstrap_servers  Kafka brokers; without them the same messages are read
--                    from landing/kafka_multiplex/*.json
-- age_on             day on which ages are counted (2015-12-31: the end of
--                    the data, so that the same data give the same tables)
--
-- The script may be run again at any time, also with other variables; what is
-- loaded already stays. SELECT * FROM lakehouse.run() brings everything up to
-- date. All dates are UTC, whatever the time zone of the session.

\set ON_ERROR_STOP on
\if :{?landing}
\else
\warn 'pipeline.sql: name the landing directory: psql -v landing=/path -f pipeline.sql'
\quit
\endif
\if :{?age_on}
\else
\set age_on 2015-12-31
\endif

SET client_min_messages = warning;
BEGIN;

CREATE EXTENSION IF NOT EXISTS lakehouse;
CREATE SCHEMA IF NOT EXISTS bronze;
CREATE SCHEMA IF NOT EXISTS silver;
CREATE SCHEMA IF NOT EXISTS gold;

-- ------------------------------------------------------------- small helpers
-- They give NULL for what is no value instead of raising an error: one odd
-- message must not hold up the others.

CREATE OR REPLACE FUNCTION silver.from_epoch(seconds double precision) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN seconds >= -62135596800 AND seconds < 253402300800 THEN to_timestamp(seconds) END
$$;
COMMENT ON FUNCTION silver.from_epoch(double precision) IS
'time of epoch seconds, exact to the microsecond; NULL outside of the years 1 to 9999';

CREATE OR REPLACE FUNCTION silver.from_us_date(text) RETURNS date
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE STRICT AS $$
BEGIN
    IF $1 !~ '^\d{1,2}/\d{1,2}/\d{4}$' THEN
        RETURN NULL;
    END IF;
    RETURN make_date(split_part($1, '/', 3)::integer, split_part($1, '/', 1)::integer,
                     split_part($1, '/', 2)::integer);
EXCEPTION WHEN datetime_field_overflow THEN
    RETURN NULL;
END $$;
COMMENT ON FUNCTION silver.from_us_date(text) IS 'date written as MM/DD/YYYY; NULL for anything else';

CREATE OR REPLACE FUNCTION silver.age_bin(born date, on_day date) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
             WHEN born <= on_day THEN
               (ARRAY['under 18', '18-25', '25-35', '35-45', '45-55', '55-65', '65-75', '75-85', '85-95', '95+'])
               [1 + width_bucket(extract(year FROM age(on_day::timestamp, born::timestamp))::integer,
                                 ARRAY[18, 25, 35, 45, 55, 65, 75, 85, 95])]
             ELSE 'invalid age'
           END
$$;
COMMENT ON FUNCTION silver.age_bin(date, date) IS
'age group on a day; the lower bound belongs to the group, the upper one to the next';

-- Weeks start on Sunday and week 1 holds 1 January, so a week belongs to the
-- year of its Saturday.
CREATE OR REPLACE FUNCTION bronze.week_part(day date) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS $$
    SELECT extract(year FROM day + (6 - extract(dow FROM day)::integer))::text || '-' ||
           ((extract(doy FROM day + (6 - extract(dow FROM day)::integer))::integer + 6) / 7)::text
$$;
COMMENT ON FUNCTION bronze.week_part(date) IS
'week of a day as YYYY-W; equals silver.date_lookup.week_part and is immutable, fit for generated columns';

CREATE OR REPLACE FUNCTION bronze.kafka_date(milliseconds bigint) RETURNS date
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN milliseconds BETWEEN 0 AND 253402300799999
                THEN date '1970-01-01' + (milliseconds / 86400000)::integer END
$$;
COMMENT ON FUNCTION bronze.kafka_date(bigint) IS
'UTC date of a Kafka timestamp; NULL if the message has none';

-- -------------------------------------------------------------------- bronze
CREATE TABLE IF NOT EXISTS bronze.registered_users (
    user_id                bigint,
    device_id              bigint,
    mac_address            text,
    registration_timestamp double precision
);
COMMENT ON TABLE bronze.registered_users IS 'users as the registration sends them; epoch seconds';

CREATE TABLE IF NOT EXISTS bronze.gym_logins (
    mac_address text,
    gym         integer,
    login       double precision,
    logout      double precision
);
COMMENT ON TABLE bronze.gym_logins IS
'visits as the gyms send them, epoch seconds; a visit may come again with a later logout';

CREATE TABLE IF NOT EXISTS bronze.kafka_multiplex (
    key         text,
    value       text,
    topic       text,
    "partition" integer,
    "offset"    bigint,
    "timestamp" bigint,
    headers     jsonb,
    date        date GENERATED ALWAYS AS (bronze.kafka_date("timestamp")) STORED,
    week_part   text GENERATED ALWAYS AS (bronze.week_part(bronze.kafka_date("timestamp"))) STORED
) PARTITION BY LIST (topic);
COMMENT ON TABLE bronze.kafka_multiplex IS
'messages of the topics user_info, workout and bpm; value is JSON text, timestamp is in milliseconds';

CREATE OR REPLACE FUNCTION bronze.create_partitions(topics text[], first_year integer, last_year integer)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    topic text;
    week date;
BEGIN
    CREATE TABLE IF NOT EXISTS bronze.kafka_multiplex_other PARTITION OF bronze.kafka_multiplex DEFAULT;
    FOREACH topic IN ARRAY topics LOOP
        EXECUTE format('CREATE TABLE IF NOT EXISTS bronze.%I PARTITION OF bronze.kafka_multiplex '
                       'FOR VALUES IN (%L) PARTITION BY RANGE ("timestamp")',
                       'kafka_multiplex_' || topic, topic);
        EXECUTE format('CREATE TABLE IF NOT EXISTS bronze.%I PARTITION OF bronze.%I DEFAULT',
                       'kafka_multiplex_' || topic || '_other', 'kafka_multiplex_' || topic);
        FOR week IN
            SELECT sunday::date
              FROM generate_series(make_date(first_year, 1, 1) - extract(dow FROM make_date(first_year, 1, 1))::integer,
                                   make_date(last_year, 12, 31)::timestamp, interval '7 days') AS sunday
        LOOP
            EXECUTE format('CREATE TABLE IF NOT EXISTS bronze.%I PARTITION OF bronze.%I FOR VALUES FROM (%s) TO (%s)',
                           format('kafka_multiplex_%s_%s', topic, translate(bronze.week_part(week), '-', '_')),
                           'kafka_multiplex_' || topic,
                           (week - date '1970-01-01') * bigint '86400000',
                           (week + 7 - date '1970-01-01') * bigint '86400000');
        END LOOP;
    END LOOP;
END $$;
COMMENT ON FUNCTION bronze.create_partitions(text[], integer, integer) IS
'makes the partitions of bronze.kafka_multiplex: one for each topic and week of these years, the rest goes to default partitions';
SELECT bronze.create_partitions('{user_info,workout,bpm}', 2014, 2015);

-- The landing directory and the brokers are servers; running this script with
-- other variables moves them.
CREATE SERVER IF NOT EXISTS landing FOREIGN DATA WRAPPER lakehouse_files OPTIONS (directory :'landing');
ALTER SERVER landing OPTIONS (SET directory :'landing');

SELECT lakehouse.create_source('registered_users', server => 'landing', target => 'bronze.registered_users',
         format => 'csv', path => 'registered_users/*.csv', options => '{"header": true}', replace => true);
SELECT lakehouse.create_source('gym_logins', server => 'landing', target => 'bronze.gym_logins',
         format => 'csv', path => 'gym_logins/*.csv', options => '{"header": true}', replace => true);
\if :{?bootstrap_servers}
CREATE SERVER IF NOT EXISTS events FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS ("bootstrap.servers" :'bootstrap_servers');
ALTER SERVER events OPTIONS (SET "bootstrap.servers" :'bootstrap_servers');
SELECT lakehouse.create_source('kafka_multiplex', server => 'events', target => 'bronze.kafka_multiplex',
         topics => '{user_info,workout,bpm}', replace => true);
\else
SELECT lakehouse.create_source('kafka_multiplex', server => 'landing', target => 'bronze.kafka_multiplex',
         format => 'json', path => 'kafka_multiplex/*.json', replace => true);
\endif

-- -------------------------------------------------------------------- silver
CREATE TABLE IF NOT EXISTS silver.date_lookup (
    date       date PRIMARY KEY,
    week       integer NOT NULL,
    year       integer NOT NULL,
    month      integer NOT NULL,
    dayofweek  integer NOT NULL,
    dayofmonth integer NOT NULL,
    dayofyear  integer NOT NULL,
    week_part  text NOT NULL
);
COMMENT ON TABLE silver.date_lookup IS
'calendar: weeks start on Sunday (dayofweek 1) and week 1 holds 1 January; week_part is YYYY-W with the year of the week';

-- The history loader counts Sundays instead of calculating as
-- bronze.week_part does: each checks the other.
CREATE OR REPLACE FUNCTION silver.load_date_lookup(first_day date, last_day date) RETURNS bigint
LANGUAGE sql AS $$
    WITH day AS (
        SELECT d::date AS date,
               d::date - extract(dow FROM d)::integer AS sunday
          FROM generate_series(first_day::timestamp, last_day::timestamp, interval '1 day') AS d
    ), week AS (
        SELECT date, sunday,
               CASE WHEN sunday <= make_date(extract(year FROM date)::integer + 1, 1, 1) - 7
                    THEN extract(year FROM date)::integer ELSE extract(year FROM date)::integer + 1 END AS week_year
          FROM day
    ), numbered AS (
        SELECT date, week_year,
               (SELECT count(*) FROM generate_series(make_date(week_year, 1, 1) - 6, week.sunday, interval '1 day') AS s
                 WHERE extract(dow FROM s) = 0)::integer AS week
          FROM week
    ), inserted AS (
        INSERT INTO silver.date_lookup
        SELECT date, week, extract(year FROM date), extract(month FROM date), extract(dow FROM date) + 1,
               extract(day FROM date), extract(doy FROM date), week_year || '-' || week
          FROM numbered
        ON CONFLICT (date) DO NOTHING
        RETURNING 1
    )
    SELECT count(*) FROM inserted
$$;
COMMENT ON FUNCTION silver.load_date_lookup(date, date) IS
'fills silver.date_lookup for these days and returns how many were new';
SELECT silver.load_date_lookup('2013-12-29', '2016-01-02');

CREATE TABLE IF NOT EXISTS silver.users (
    user_id                bigint PRIMARY KEY,
    device_id              bigint,
    mac_address            text,
    registration_timestamp timestamptz
);
CREATE INDEX IF NOT EXISTS users_device_id ON silver.users (device_id);
CREATE INDEX IF NOT EXISTS users_mac_address ON silver.users (mac_address);
SELECT lakehouse.create_flow('users', target => 'silver.users', mode => 'insert_only', keys => '{user_id}', replace => true,
         query => $$
           SELECT user_id, device_id, mac_address,
                  silver.from_epoch(registration_timestamp) AS registration_timestamp
             FROM bronze.registered_users $$);

CREATE TABLE IF NOT EXISTS silver.gym_logs (
    mac_address text,
    gym         integer,
    login       timestamptz,
    logout      timestamptz,
    PRIMARY KEY (mac_address, gym, login)
);
COMMENT ON TABLE silver.gym_logs IS
'visits; logout is the latest one that was sent and lies after login, NULL while there is none';
-- A visit may stand several times in the new rows: the greatest logout counts,
-- as it would had they come one after the other.
SELECT lakehouse.create_flow('gym_logs', replace => true,
         query => $$
           MERGE INTO silver.gym_logs AS a
           USING (SELECT mac_address, gym, silver.from_epoch(login) AS login,
                         silver.from_epoch(max(logout) FILTER (WHERE logout > login)) AS logout
                    FROM bronze.gym_logins
                   WHERE mac_address IS NOT NULL AND gym IS NOT NULL AND silver.from_epoch(login) IS NOT NULL
                   GROUP BY mac_address, gym, login) AS b
              ON a.mac_address = b.mac_address AND a.gym = b.gym AND a.login = b.login
            WHEN MATCHED AND b.logout > a.login AND (a.logout IS NULL OR b.logout > a.logout) THEN
                 UPDATE SET logout = b.logout
            WHEN NOT MATCHED THEN
                 INSERT (mac_address, gym, login, logout) VALUES (b.mac_address, b.gym, b.login, b.logout) $$);

DO $$
BEGIN
    -- the shapes of the messages; fields that a message lacks are NULL
    IF to_regtype('silver.user_event') IS NULL THEN
        CREATE TYPE silver.address AS (street_address text, city text, state text, zip text);
        CREATE TYPE silver.user_event AS (user_id bigint, update_type text, "timestamp" double precision, dob text,
            sex text, gender text, first_name text, last_name text, address silver.address);
        CREATE TYPE silver.workout_event AS (user_id bigint, workout_id integer, "timestamp" double precision,
            action text, session_id integer);
        CREATE TYPE silver.bpm_event AS (device_id bigint, "time" double precision, heartrate numeric);
    END IF;
END $$;

CREATE TABLE IF NOT EXISTS silver.user_profile (
    user_id        bigint PRIMARY KEY,
    dob            date,
    sex            text,
    gender         text,
    first_name     text,
    last_name      text,
    street_address text,
    city           text,
    state          text,
    zip            text,
    updated        timestamptz
);
-- Where a message came from goes along without being stored, so that one that
-- is no event (its key or time is NULL) becomes a reject with its place and
-- text. A type of update that nobody agreed on gets no time and ends there too.
SELECT lakehouse.create_flow('user_profile', target => 'silver.user_profile',
         mode => 'scd1', keys => '{user_id}', sequence_by => '{updated}',
         delete_when => $$update_type = 'delete'$$, except_columns => '{update_type,partition,offset,value}', replace => true,
         query => $$
           SELECT v.user_id, v.update_type, silver.from_us_date(v.dob) AS dob, v.sex, v.gender,
                  v.first_name, v.last_name, (v.address).street_address, (v.address).city,
                  (v.address).state, (v.address).zip,
                  CASE WHEN v.update_type IN ('new', 'update', 'delete')
                       THEN silver.from_epoch(v."timestamp") END AS updated,
                  b."partition", b."offset",
                  CASE WHEN v.user_id IS NULL OR v."timestamp" IS NULL
                            OR v.update_type IN ('new', 'update', 'delete') IS NOT TRUE THEN b.value END AS value
             FROM bronze.kafka_multiplex AS b,
                  lakehouse.from_json(b.value, NULL::silver.user_event) AS v
            WHERE b.topic = 'user_info' $$);

CREATE TABLE IF NOT EXISTS silver.workouts (
    user_id    bigint,
    workout_id integer,
    time       timestamptz,
    action     text,
    session_id integer,
    PRIMARY KEY (user_id, time)
);
CREATE INDEX IF NOT EXISTS workouts_session ON silver.workouts (user_id, workout_id, session_id);
SELECT lakehouse.create_flow('workouts', target => 'silver.workouts', mode => 'insert_only',
         keys => '{user_id,time}', except_columns => '{partition,offset,value}', replace => true,
         query => $$
           SELECT v.user_id, v.workout_id, silver.from_epoch(v."timestamp") AS time, v.action, v.session_id,
                  b."partition", b."offset",
                  CASE WHEN v.user_id IS NULL OR v."timestamp" IS NULL THEN b.value END AS value
             FROM bronze.kafka_multiplex AS b,
                  lakehouse.from_json(b.value, NULL::silver.workout_event) AS v
            WHERE b.topic = 'workout' $$);

CREATE TABLE IF NOT EXISTS silver.heart_rate (
    device_id bigint,
    time      timestamptz,
    heartrate numeric,
    valid     boolean,
    PRIMARY KEY (device_id, time)
);
COMMENT ON COLUMN silver.heart_rate.heartrate IS
'beats per minute; numeric, so that an average does not depend on the order of the readings';
SELECT lakehouse.create_flow('heart_rate', target => 'silver.heart_rate', mode => 'insert_only',
         keys => '{device_id,time}', except_columns => '{partition,offset,value}', replace => true,
         query => $$
           SELECT v.device_id, silver.from_epoch(v."time") AS time, v.heartrate, v.heartrate > 0 AS valid,
                  b."partition", b."offset",
                  CASE WHEN v.device_id IS NULL OR v."time" IS NULL THEN b.value END AS value
             FROM bronze.kafka_multiplex AS b,
                  lakehouse.from_json(b.value, NULL::silver.bpm_event) AS v
            WHERE b.topic = 'bpm' $$);

CREATE TABLE IF NOT EXISTS silver.user_bins (
    user_id bigint PRIMARY KEY,
    age     text,
    gender  text,
    city    text,
    state   text
);
-- Keyed recomputation: a profile that changes, goes, or comes before its user
-- is registered always ends as it should.
SELECT lakehouse.create_flow('user_bins', target => 'silver.user_bins', mode => 'aggregate',
         keys => '{user_id}', replace => true,
         query => format($$
           SELECT p.user_id, silver.age_bin(p.dob, date %L) AS age, p.gender, p.city, p.state
             FROM silver.user_profile AS p
             JOIN silver.users AS u ON u.user_id = p.user_id $$, :'age_on'));

CREATE TABLE IF NOT EXISTS silver.completed_workouts (
    user_id    bigint,
    workout_id integer,
    session_id integer,
    start_time timestamptz,
    end_time   timestamptz,
    PRIMARY KEY (user_id, workout_id, session_id, start_time, end_time)
);
SELECT lakehouse.create_flow('completed_workouts', target => 'silver.completed_workouts', mode => 'insert_only',
         keys => '{user_id,workout_id,session_id,start_time,end_time}', replace => true,
         query => $$
           SELECT a.user_id, a.workout_id, a.session_id, a.time AS start_time, b.time AS end_time
             FROM silver.workouts AS a
             JOIN silver.workouts AS b
               ON b.user_id = a.user_id AND b.workout_id = a.workout_id AND b.session_id = a.session_id
            WHERE a.action = 'start' AND b.action = 'stop'
              AND a.time <= b.time AND b.time < a.time + interval '3 hours' $$);

CREATE TABLE IF NOT EXISTS silver.workout_bpm (
    user_id    bigint,
    workout_id integer,
    session_id integer,
    time       timestamptz,
    start_time timestamptz,
    end_time   timestamptz,
    heartrate  numeric,
    PRIMARY KEY (user_id, workout_id, session_id, time)
);
SELECT lakehouse.create_flow('workout_bpm', target => 'silver.workout_bpm', mode => 'insert_only',
         keys => '{user_id,workout_id,session_id,time}', replace => true,
         query => $$
           SELECT w.user_id, w.workout_id, w.session_id, h.time, w.start_time, w.end_time, h.heartrate
             FROM silver.completed_workouts AS w
             JOIN silver.users AS u ON u.user_id = w.user_id
             JOIN silver.heart_rate AS h
               ON h.device_id = u.device_id AND h.time > w.start_time AND h.time <= w.end_time
            WHERE h.valid $$);

-- ---------------------------------------------------------------------- gold
CREATE TABLE IF NOT EXISTS gold.workout_bpm_summary (
    user_id        bigint,
    workout_id     integer,
    session_id     integer,
    age            text,
    gender         text,
    city           text,
    state          text,
    min_bpm        numeric,
    avg_bpm        numeric,
    max_bpm        numeric,
    num_recordings bigint,
    PRIMARY KEY (user_id, workout_id, session_id)
);
SELECT lakehouse.create_flow('workout_bpm_summary', target => 'gold.workout_bpm_summary', mode => 'aggregate',
         keys => '{user_id,workout_id,session_id}', replace => true,
         query => $$
           SELECT w.user_id, w.workout_id, w.session_id, b.age, b.gender, b.city, b.state,
                  min(w.heartrate) AS min_bpm, round(avg(w.heartrate), 2) AS avg_bpm,
                  max(w.heartrate) AS max_bpm, count(*) AS num_recordings
             FROM silver.workout_bpm AS w
             JOIN silver.user_bins AS b ON b.user_id = w.user_id
            GROUP BY w.user_id, w.workout_id, w.session_id, b.age, b.gender, b.city, b.state $$);

CREATE TABLE IF NOT EXISTS gold.gym_summary (
    date               date,
    gym                integer,
    mac_address        text,
    workout_id         integer,
    session_id         integer,
    minutes_in_gym     numeric,
    minutes_exercising numeric,
    PRIMARY KEY (date, gym, mac_address, workout_id, session_id)
);
SELECT lakehouse.create_flow('gym_summary', target => 'gold.gym_summary', mode => 'aggregate',
         keys => '{date,gym,mac_address,workout_id,session_id}', replace => true,
         query => $$
           SELECT (l.login AT TIME ZONE 'UTC')::date AS date, l.gym, l.mac_address, w.workout_id, w.session_id,
                  max(round(extract(epoch FROM l.logout - l.login) / 60, 2)) AS minutes_in_gym,
                  max(round(extract(epoch FROM w.end_time - w.start_time) / 60, 2)) AS minutes_exercising
             FROM silver.gym_logs AS l
             JOIN silver.users AS u ON u.mac_address = l.mac_address
             JOIN silver.completed_workouts AS w
               ON w.user_id = u.user_id AND w.start_time BETWEEN l.login AND l.logout
            GROUP BY (l.login AT TIME ZONE 'UTC')::date, l.gym, l.mac_address, w.workout_id, w.session_id $$);

-- One row for each year and gym; the job refreshes each year by itself.
CREATE TABLE IF NOT EXISTS gold.yearly_summary (
    year               integer,
    gym                integer,
    users              bigint,
    workouts           bigint,
    minutes_in_gym     numeric,
    minutes_exercising numeric,
    avg_bpm            numeric,
    max_bpm            numeric,
    PRIMARY KEY (year, gym)
);
CREATE OR REPLACE PROCEDURE gold.refresh_yearly_summary(of_year integer)
LANGUAGE sql AS $$
    DELETE FROM gold.yearly_summary WHERE year = of_year;
    INSERT INTO gold.yearly_summary (year, gym, users, workouts, minutes_in_gym, minutes_exercising, avg_bpm, max_bpm)
    SELECT of_year, g.gym, count(DISTINCT g.mac_address), count(*), sum(g.minutes_in_gym), sum(g.minutes_exercising),
           round(sum(s.avg_bpm * s.num_recordings) / sum(s.num_recordings), 2), max(s.max_bpm)
      FROM gold.gym_summary AS g
      JOIN silver.users AS u ON u.mac_address = g.mac_address
      LEFT JOIN gold.workout_bpm_summary AS s
        ON s.user_id = u.user_id AND s.workout_id = g.workout_id AND s.session_id = g.session_id
     WHERE g.date >= make_date(of_year, 1, 1) AND g.date < make_date(of_year + 1, 1, 1)
     GROUP BY g.gym;
$$;
COMMENT ON PROCEDURE gold.refresh_yearly_summary(integer) IS 'recomputes the rows of one year in gold.yearly_summary';

COMMIT;
RESET client_min_messages;
