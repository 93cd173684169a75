-- What the original pipeline expects of its data, as one query: a line for
-- each expectation with the number of rows that break it.
--
--   psql -v first_day=2014-01-01 -v last_day=2015-12-31 -f validate.sql

\if :{?first_day}
\else
\set first_day 2014-01-01
\endif
\if :{?last_day}
\else
\set last_day 2015-12-31
\endif

SELECT expectation, violations
  FROM (
    SELECT 1, 'bronze.kafka_multiplex: topic is one of the three', count(*)
      FROM bronze.kafka_multiplex WHERE topic IS NULL OR topic NOT IN ('user_info', 'workout', 'bpm')
    UNION ALL
    SELECT 2, 'bronze.kafka_multiplex: key and value are not null', count(*)
      FROM bronze.kafka_multiplex WHERE key IS NULL OR value IS NULL
    UNION ALL
    SELECT 3, 'bronze.registered_users: user_id, device_id and mac_address are not null', count(*)
      FROM bronze.registered_users WHERE user_id IS NULL OR device_id IS NULL OR mac_address IS NULL
    UNION ALL
    SELECT 4, 'bronze.gym_logins: mac_address, gym and login are not null', count(*)
      FROM bronze.gym_logins WHERE mac_address IS NULL OR gym IS NULL OR login IS NULL
    UNION ALL
    SELECT 5, format('bronze.gym_logins: login and logout lie between %s and %s', :'first_day', :'last_day'), count(*)
      FROM bronze.gym_logins
     WHERE login  NOT BETWEEN extract(epoch FROM date :'first_day') AND extract(epoch FROM date :'last_day' + 1)
        OR logout NOT BETWEEN extract(epoch FROM date :'first_day') AND extract(epoch FROM date :'last_day' + 1)
    UNION ALL
    SELECT 6, 'bronze.gym_logins: logout is after login', count(*)
      FROM bronze.gym_logins WHERE logout <= login
    UNION ALL
    SELECT 7, 'silver.gym_logs: logout is known', count(*)
      FROM silver.gym_logs WHERE logout IS NULL
    UNION ALL
    SELECT 8, 'silver.users: device and address belong to one user', count(*)
      FROM silver.users AS a
     WHERE EXISTS (SELECT FROM silver.users AS b
                    WHERE (b.device_id = a.device_id OR b.mac_address = a.mac_address) AND b.user_id <> a.user_id)
    UNION ALL
    SELECT 9, 'silver.workouts: action is start or stop', count(*)
      FROM silver.workouts WHERE action IS NULL OR action NOT IN ('start', 'stop')
    UNION ALL
    SELECT 10, 'silver.user_bins: age is valid', count(*)
      FROM silver.user_bins WHERE age = 'invalid age'
    UNION ALL
    SELECT 11, 'silver.heart_rate: reading is valid', count(*)
      FROM silver.heart_rate WHERE valid IS NOT TRUE
  ) AS e (number, expectation, violations)
 ORDER BY number;
