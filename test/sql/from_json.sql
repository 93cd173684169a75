-- lakehouse.from_json: JSON text to typed values
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS lakehouse;
RESET client_min_messages;
CREATE SCHEMA from_json;
SET search_path = from_json;
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
\set VERBOSITY default
\pset null '~'

CREATE TYPE address AS (street_address text, zip int);
CREATE DOMAIN positive AS int CHECK (value > 0);
CREATE DOMAIN ratings AS int[] CHECK (cardinality(value) < 3);
CREATE TYPE mood AS ENUM ('calm', 'tired');
CREATE TYPE event AS (
    user_id int, ts timestamptz, name text, amount numeric(6,2), home address, tags text[],
    matrix int[], doc jsonb, raw json, ok bool, born date, rate float8);

-- every kind of value, nested, in another order than the columns
\x on
SELECT v.* FROM lakehouse.from_json($$
  {"ts": "2014-02-28T12:00:00.5Z", "user_id": 12474, "name": "a\u00e9\ud83d\ude00\n\"q\" \\ \/",
   "amount": 1.2345e1, "home": {"zip": 12, "street_address": "1 \"A\" St", "more": [1, {"a": 2}]},
   "tags": ["a", null, "b\"c", {"k": 1}, 1.50], "matrix": [[1,2],[3,4]],
   "doc": {"b": [1, 2.50, "x", null, true, {}], "a": 1, "a": 2}, "raw": {"b" : [1, 2.50] },
   "ok": true, "born": "1980-01-31", "rate": 0.1, "unknown": {"deep": [[]]}} $$, NULL::event) v;

-- permissive: what does not convert is NULL, the rest is there
SELECT v.* FROM lakehouse.from_json($$
  {"user_id": "x", "name": "here", "amount": 12345.678, "home": [1], "tags": "x", "matrix": [[1],[2,3]],
   "doc": "\u0000", "ok": "maybe", "born": "2014-02-30", "rate": 1e400, "ts": ""} $$, NULL::event) v;
\x off

-- nested: only the inner field is NULL
SELECT v.* FROM lakehouse.from_json('{"street_address": "s", "zip": 99999999999}', NULL::address) v;
SELECT lakehouse.from_json('[{"zip": "x", "street_address": "s"}, null, {"zip": 2}]', NULL::address[]);

-- what is no JSON, or no object, is NULL
SELECT t.json, v IS NULL AS is_null
  FROM (VALUES (NULL), (''), ('{'), ('{"zip": 1'), ('{"zip": 1}}'), ('{"zip": 01}'), ('{zip: 1}'), ('{''zip'': 1}'),
               ('[1]'), ('1'), ('null'), ('{"zip": 1,}'), ('{"zip": 1} x'), ('{"zip": NaN}'), ('{"zip": 1}'), ('{}')) t(json),
       LATERAL (SELECT lakehouse.from_json(t.json, NULL::address)) f(v);

-- duplicates: the last counts; keys are compared byte by byte, after their escapes
SELECT v.* FROM lakehouse.from_json('{"zip": 1, "ZIP": 2, "\u007aip": 3, "street_address": "a", "street_address": null}', NULL::address) v;

-- a value in text is the JSON text as written, a string its content
SELECT v.value, lakehouse.from_json(v.value, NULL::text)
  FROM (VALUES ('"a\tb"'), ('1.50'), ('-0.0'), ('true'), ('null'), ('{"a" : [1 , 2]}'), (' [ ] ')) v(value);

-- a value nested as a string or as an object: both give the same text
CREATE TYPE pair AS (key text, value text);
SELECT j.value, (lakehouse.from_json(j.value, NULL::address)).*
  FROM (VALUES ('{"key": "k", "value": "{\"zip\": 1}"}'), ('{"key": "k", "value": {"zip": 1}}')) m(line),
       LATERAL (SELECT (lakehouse.from_json(m.line, NULL::pair)).value) j;

-- other types than rows: scalars, arrays, domains, enums, the types of tables
SELECT lakehouse.from_json('12', NULL::int), lakehouse.from_json('"12"', NULL::bigint),
       lakehouse.from_json('[1, 2, null]', NULL::int[]), lakehouse.from_json('[]', NULL::int[]),
       lakehouse.from_json('[[], []]', NULL::int[]), lakehouse.from_json('{"a": 1}', NULL::jsonb),
       lakehouse.from_json('"calm"', NULL::mood), lakehouse.from_json('"10:00"', NULL::time);
SELECT lakehouse.from_json('5', NULL::positive), lakehouse.from_json('-5', NULL::positive),
       lakehouse.from_json('[1, 2]', NULL::ratings), lakehouse.from_json('[1, 2, 3]', NULL::ratings),
       lakehouse.from_json('"angry"', NULL::mood), lakehouse.from_json('"25:00"', NULL::time);
CREATE TABLE visit (gone int, gym int, login timestamptz, note varchar(3), code char(4));
ALTER TABLE visit DROP COLUMN gone;
SELECT v.* FROM lakehouse.from_json('{"gone": 1, "gym": 5, "login": 0, "note": "abc  ", "code": "x"}', NULL::visit) v;
SELECT v.* FROM lakehouse.from_json('{"gym": 5, "login": "epoch", "note": "abcd", "code": "\u00e9"}', NULL::visit) v;

-- failfast names the field and the value
\set SHOW_CONTEXT always
SELECT lakehouse.from_json('{"zip": "x"}', NULL::address, 'failfast');
SELECT lakehouse.from_json('{"home": {"zip": 99999999999}}', NULL::event, 'failfast');
SELECT lakehouse.from_json('{"born": "2014-02-30"}', NULL::event, 'failfast');
SELECT lakehouse.from_json('{"doc": {"a": "\u0000"}}', NULL::event, 'failfast');
SELECT lakehouse.from_json('{"name": "\ud800"}', NULL::event, 'failfast');
SELECT lakehouse.from_json('{"matrix": [[1], [2, 3]]}', NULL::event, 'failfast');
SELECT lakehouse.from_json('{"matrix": "{1}"}', NULL::event, 'failfast');
SELECT lakehouse.from_json('{"home": "(a,1)"}', NULL::event, 'failfast');
SELECT lakehouse.from_json('{"zip": 1,}', NULL::address, 'failfast');
SELECT lakehouse.from_json('{"zip": 1}{', NULL::address, 'failfast');
SELECT lakehouse.from_json('["zip"]', NULL::address, 'failfast');
SELECT lakehouse.from_json('-5', NULL::positive, 'failfast');
SELECT lakehouse.from_json(repeat('[', 100000), NULL::jsonb, 'failfast');
SELECT lakehouse.from_json(repeat('[', 1000) || repeat(']', 1000), NULL::json, 'failfast') IS NOT NULL;

-- arguments
SELECT lakehouse.from_json('{}', NULL::address, 'failfats');
SELECT lakehouse.from_json('{}', NULL::address, 'quiet');
SELECT lakehouse.from_json('{}', NULL::address, NULL);
SELECT lakehouse.from_json('{}', NULL::record);
SELECT lakehouse.from_json(NULL, NULL::address, 'failfast') IS NULL AS nothing_from_nothing;

-- keys in ever other orders, and more keys than positions that are remembered
SELECT count(*) FILTER (WHERE v = ROW('s' || i, i)::address) AS equal, count(*)
  FROM generate_series(1, 200) i,
       LATERAL (SELECT lakehouse.from_json(
           CASE i % 3 WHEN 0 THEN format('{"street_address": "s%s", "zip": %s}', i, i)
                      WHEN 1 THEN format('{"zip": %2$s, "street_address": "s%1$s"}', i, i)
                      ELSE '{' || (SELECT string_agg(format('"other%s": 1', n), ',') FROM generate_series(1, i) n)
                           || format(', "zip": %2$s, "street_address": "s%1$s"}', i, i) END,
           NULL::address)) f(v);

\pset null ''
SET client_min_messages = warning;
RESET search_path;
DROP SCHEMA from_json CASCADE;
