-- Every type with a conversion of its own gives what the server's input function
-- gives, value for value, and refuses what that refuses: on a list of hard cases
-- and on random changes of them. Repeat a run with its seed:
-- SET lakehouse_test.seed = 0.123 before this file.
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(29);
CREATE SCHEMA convert_test;
SET LOCAL search_path = convert_test, public;

-- the type's own judgement, through the input function with the column's typmod
CREATE FUNCTION by_server(value text, type text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text;
BEGIN
    EXECUTE format('SELECT (jsonb_populate_record(NULL::convert_test.%I, jsonb_build_object(''c'', $1))).c::text', type)
       INTO result USING value;
    RETURN result;
EXCEPTION WHEN data_exception OR invalid_text_representation OR string_data_right_truncation THEN
    RETURN 'refused';
END $$;

-- ours; failfast, so that a refusal and a NULL can be told apart
CREATE FUNCTION by_us(value text, type text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text;
BEGIN
    EXECUTE format('SELECT (lakehouse.from_json(json_build_object(''c'', $1)::text, NULL::convert_test.%I, ''failfast'')).c::text', type)
       INTO result USING value;
    RETURN result;
EXCEPTION WHEN data_exception OR invalid_text_representation OR string_data_right_truncation THEN
    RETURN 'refused';
END $$;

-- permissive mode raises nothing at all for these types
CREATE FUNCTION quietly(value text, type text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text;
BEGIN
    EXECUTE format('SELECT (lakehouse.from_json(json_build_object(''c'', $1)::text, NULL::convert_test.%I)).c::text', type)
       INTO result USING value;
    RETURN result;
END $$;

CREATE TABLE kind (type text PRIMARY KEY, definition text, family text);
INSERT INTO kind VALUES
    ('int2', 'int2', 'number'), ('int4', 'int4', 'number'), ('int8', 'int8', 'number'),
    ('float4', 'float4', 'number'), ('float8', 'float8', 'number'), ('numeric', 'numeric', 'number'),
    ('numeric_4_2', 'numeric(4,2)', 'number'), ('numeric_5', 'numeric(5)', 'number'),
    ('numeric_2_5', 'numeric(2,5)', 'number'), ('numeric_3_m2', 'numeric(3,-2)', 'number'),
    ('bool', 'bool', 'word'), ('uuid', 'uuid', 'uuid'),
    ('text', 'text', 'text'), ('varchar', 'varchar', 'text'), ('varchar_3', 'varchar(3)', 'text'),
    ('char_4', 'char(4)', 'text'), ('bpchar', 'bpchar', 'text'),
    ('date', 'date', 'time'), ('timestamp', 'timestamp', 'time'), ('timestamptz', 'timestamptz', 'time'),
    ('timestamp_3', 'timestamp(3)', 'time'), ('timestamptz_0', 'timestamptz(0)', 'time');
DO $$ DECLARE k record; BEGIN
    FOR k IN SELECT * FROM kind LOOP
        EXECUTE format('CREATE TYPE convert_test.%I AS (c %s)', k.type, k.definition);
    END LOOP;
END $$;

CREATE TABLE hard (family text, value text);
INSERT INTO hard SELECT 'number', unnest(ARRAY[
    '', ' ', '0', '-0', '+5', '--1', '-', '+', '1 ', ' 1', E'\t1\n', '1 2', '1.0', '1e3', '0x10', '1_000', '32767', '32768',
    '-32768', '-32769', '2147483647', '2147483648', '-2147483648', '-2147483649', '9223372036854775807',
    '9223372036854775808', '-9223372036854775808', '-9223372036854775809', '99999999999999999999', '999999999999999999',
    '000000000000000000000000012', '1.5', '.5', '5.', '.', '-.5', '1e5', '1E+5', '1e-5', '1e', '1e+', 'e5', '1e400', '-1e400',
    '1e-400', '1e-320', '4.9e-324', '2.4e-324', '1.7976931348623157e308', '1.7976931348623159e308', '3.4028235e38',
    '3.4028236e38', '1e-45', '1e-46', '1.17549435e-38', 'NaN', 'nan', '-nan', 'NaNx', 'Infinity', '-Infinity', '+Infinity', 'inf',
    '-inf', 'infin', '0x1p3', '9007199254740993', '9007199254740992', '16777217', '0.1', '0.30000000000000004',
    '123456789012345678901234567890', '1e22', '1e23', '-0.0', '00.5e-0', '7.0385310e-26', '1.00000005960464477540',
    '1e131071', '1e131072', '1e-16383', '1e-16384', '0e200000', '1e99999999999', '99.994', '99.995', '-99.995', '9.9e1',
    '99.9949999', '9999.4', '9999.5', '99999.4', '99999.5', '0.00099', '0.000994', '0.000995', '99949', '99950', '49', '50', '1,5',
    '1d5', U&'\0663', '60.1000000000000000', '-179.90000000000000000', '0.0000000000000000000', '7.00000000000000000e2',
    '123456789012345678.90', '1234567890123456.70', '9007199254740993.000', '123456789012345678', '-1234567890.12345678',
    '12345678901234567.8', '0.00', '-0.50', '12.3', '1.20', '12.', '99.9', '9.90', '0012.5']);
INSERT INTO hard SELECT 'word', unnest(ARRAY['t', 'f', 'true', 'FALSE', 'yes', 'no', 'on', 'off', 'o', 'of', '1', '0', '2', ' true ', 'y', 'n', '', 'truex', 'T']);
INSERT INTO hard SELECT 'uuid', unnest(ARRAY['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11',
    '{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}', 'a0eebc999c0b4ef8bb6d6bb9bd380a11', 'a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11',
    '{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11-', '', 'a-0eebc999c0b4ef8bb6d6bb9bd380a11']);
INSERT INTO hard SELECT 'text', unnest(ARRAY['', ' ', 'abc', 'abcd', 'abc ', 'abc    ', 'abcde', 'ab  ', U&'\00e9\00e9\00e9', U&'\00e9\00e9\00e9 ', U&'\00e9\00e9\00e9\00e9', U&'\+01F600\+01F600\+01F600\+01F600\+01F600', E'a\nb', '"quoted"', '\\']);
INSERT INTO hard SELECT 'time', unnest(ARRAY[
    '2014-02-28', '2014-02-29', '2016-02-29', '1900-02-29', '2000-02-29', '2014-13-01', '2014-00-10', '2014-01-00', '0000-01-01', '0001-01-01', '9999-12-31',
    '20140228', '2014-2-8', '02/28/2014', '28/02/2014', '28.02.2014', 'Feb 28, 2014', '28-Feb-2014', 'Jan-08-1999', '99-01-08', '1999.008', 'J2451187',
    'infinity', '-infinity', 'epoch', '', ' ', '294276-12-31', '294277-01-01', '5874897-12-31', '5874898-01-01', '4714-11-24 BC', '4714-11-23 BC', '44-03-15 BC',
    '2014-02-28 12:30:45', '2014-02-28T12:30:45', '2014-02-28t12:30:45', '2014-02-28 12:30', '2014-02-28 24:00:00', '2014-02-28 24:00:01', '2014-02-28 23:59:60', '2014-02-28 23:60:00',
    '2014-02-28 25:00:00', '2014-02-28 12:30:45.1', '2014-02-28 12:30:45.123456', '2014-02-28 12:30:45.1234567', '2014-02-28 12:30:45.9999995', '2014-02-28 12:30:45.',
    '2014-02-28 12:30:45Z', '2014-02-28T12:30:45z', '2014-02-28 12:30:45+00', '2014-02-28 12:30:45-05', '2014-02-28 12:30:45+05:30', '2014-02-28 12:30:45+0530', '2014-02-28 12:30:45+14:59',
    '2014-02-28 12:30:45+15:59', '2014-02-28 12:30:45+16', '2014-02-28 12:30:45+05:60', '2014-02-28 12:30:45+05:30:15', '2014-02-28 12:30:45 UTC', '2014-02-28 12:30:45 EST',
    '2014-02-28 12:30:45 America/New_York', '2014-02-28 12:30:45 Foo/Bar', '2014-02-28 12:30:45 FOO', '2014-03-09 02:30:00', '2014-11-02 01:30:00', '1883-11-18 12:00:00', '12:30:45',
    '2014-02-28 12:30:45 PM', '2014-02-28 01:30:45 PM', '2014-02-28  12:30:45', ' 2014-02-28', '2014-02-28 ', '2014-02-28x', '2014-02-28 Foo/Bar', '1392000000', '2014-02-28 12:30:45+5',
    '2014/02/28 12:30:45', '2014-059', 'y2001m02d04', '2014W091']);

-- random changes of the hard cases
CREATE TABLE sample (family text, value text);
DO $$
DECLARE
    seed float8 := coalesce(nullif(current_setting('lakehouse_test.seed', true), ''),
                            round(random()::numeric, 6)::text)::float8;
    letters text := '0123456789.eE+-: /TZabxnJ"{}' || E'\t';
    h record; place int; kind int;
BEGIN
    PERFORM setseed(seed);
    PERFORM set_config('lakehouse_test.seed', seed::text, true);
    FOR i IN 1 .. 8 LOOP
        FOR h IN SELECT * FROM hard ORDER BY family, value COLLATE "C" LOOP
            place := floor(random() * (length(h.value) + 1));
            kind := floor(random() * 3);
            INSERT INTO sample VALUES (h.family, CASE kind
                WHEN 0 THEN overlay(h.value PLACING substr(letters, 1 + floor(random() * length(letters))::int, 1) FROM place + 1 FOR 1)
                WHEN 1 THEN overlay(h.value PLACING substr(letters, 1 + floor(random() * length(letters))::int, 1) FROM place + 1 FOR 0)
                ELSE overlay(h.value PLACING '' FROM place + 1 FOR 1) END);
        END LOOP;
    END LOOP;
    FOR i IN 1 .. 400 LOOP
        INSERT INTO sample VALUES
            ('number', (random() - 0.5)::text), ('number', ((random() - 0.5) * 10 ^ (random() * 600 - 300))::text),
            ('number', trunc(((random() - 0.5) * 10 ^ (random() * 21))::numeric)::text),
            ('number', round(((random() - 0.5) * 2000)::numeric, (random() * 8)::int)::text),
            ('number', ((random() - 0.5) * 10 ^ (random() * 70 - 35))::float4::text),
            ('time', (timestamp '0001-01-01' + random() * interval '9998 years')::text),
            ('time', (timestamptz '1900-01-01' + random() * interval '200 years')::text),
            ('time', to_char(timestamp '1800-01-01' + random() * interval '300 years', 'YYYY-MM-DD"T"HH24:MI:SS.USOF'));
    END LOOP;
END $$;
INSERT INTO sample SELECT * FROM hard;
SELECT diag('repeat this with lakehouse_test.seed = ' || current_setting('lakehouse_test.seed') || ', ' || count(*) || ' values') FROM sample;

SET LOCAL timezone = 'America/New_York';
SET LOCAL extra_float_digits = 1;
SELECT is_empty(format(
    $q$ SELECT value, a AS server, b AS ours
          FROM (SELECT value, convert_test.by_server(value, %1$L) a, convert_test.by_us(value, %1$L) b
                  FROM convert_test.sample WHERE family = %2$L) s
         WHERE a IS DISTINCT FROM b LIMIT 10 $q$, type, family),
    definition || ' is what the server makes of it')
  FROM kind ORDER BY family, type;

-- dates under other settings
SET LOCAL datestyle = 'German';
SET LOCAL timezone = 'Australia/Lord_Howe';
SELECT is_empty(
    $q$ SELECT value, type, a AS server, b AS ours
          FROM (SELECT value, type, convert_test.by_server(value, type) a, convert_test.by_us(value, type) b
                  FROM convert_test.sample JOIN convert_test.kind USING (family)
                 WHERE family = 'time' AND type IN ('date', 'timestamptz')) s
         WHERE a IS DISTINCT FROM b LIMIT 10 $q$, 'dates and times under another DateStyle and time zone');
RESET datestyle;
SET LOCAL timezone = 'UTC';

-- enough of the sample must be values for the comparison to say something
SELECT cmp_ok(count(*) FILTER (WHERE convert_test.by_us(value, CASE family WHEN 'number' THEN 'numeric' ELSE 'timestamptz' END) <> 'refused'),
              '>', 1000::bigint, 'many of the values are good ones')
  FROM sample WHERE family IN ('number', 'time');

-- no common type raises in permissive mode
SELECT lives_ok($q$ SELECT convert_test.quietly(value, type) FROM convert_test.sample JOIN convert_test.kind USING (family) $q$,
    'nothing is raised in permissive mode');

-- SQLSTATEs are the server's
CREATE FUNCTION state(value text, type text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM convert_test.by_text(value, type);
    RETURN '00000';
EXCEPTION WHEN OTHERS THEN RETURN sqlstate;
END $$;
CREATE FUNCTION by_text(value text, type text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SELECT lakehouse.from_json(json_build_object(''c'', $1)::text, NULL::convert_test.%I, ''failfast'')', type) USING value;
END $$;
SELECT results_eq(
    $q$ SELECT convert_test.state(v, t) FROM (VALUES (1, '99999', 'int2'), (2, 'x', 'int4'), (3, '1e999', 'float8'),
        (4, '1e999999', 'numeric'), (5, '100', 'numeric_4_2'), (6, 'abcd', 'varchar_3'), (7, '2014-02-30', 'date'),
        (8, 'yesterdayish', 'date'), (9, '2014-01-01 00:00:00+99', 'timestamptz'), (10, 'x', 'uuid'), (11, 'x', 'bool'),
        (12, '5', 'int4')) s(n, v, t) ORDER BY n $q$,
    ARRAY['22003', '22P02', '22003', '22003', '22003', '22001', '22008', '22007', '22009', '22P02', '22P02', '00000'],
    'SQLSTATEs of refusals');

-- json and jsonb
CREATE TABLE doc (value text);
INSERT INTO doc VALUES ('{"a": [1, 2.50, "x\u00e9", null, true]}'), ('"a"'), ('1e5'), ('-0'), ('-0.0'), ('[]'), ('{}'),
    ('{"b":1,"a":2,"b":3}'), ('"\ud83d\ude00"'), ('  1  '), ('{"a":{"b":[[],{}]}}'), ('1E+2'), ('[1e-5, 123456789012345678901234567890.5]'),
    ('{"":""}'), (E'{"a":\t[\n]}'), ('"\"\\\/\b\f\n\r\t"');
SELECT results_eq('SELECT lakehouse.from_json(value, NULL::jsonb, ''failfast'')::text FROM convert_test.doc',
                  'SELECT value::jsonb::text FROM convert_test.doc', 'jsonb has the values that the server gives');
SELECT is_empty('SELECT value FROM convert_test.doc WHERE lakehouse.from_json(value, NULL::json, ''failfast'')::text <> btrim(value)',
                'json is the text as written');
CREATE TABLE nodoc (value text);
INSERT INTO nodoc VALUES (''), ('nul'), ('[1,]'), ('{"a"}'), ('01'), ('1.'), ('.5'), ('+1'), ('[1 2]'), ('"\x"'), (E'"\t"'), ('"'), ('{"a":1'), ('[1}'),
    ('1 2'), ('"\u12"'), ('tRue'), ('[,1]'), ('{,}'), ('{1:2}'), ('1e'), ('-'), ('- 1'), ('NaN');
SELECT is_empty('SELECT value FROM convert_test.nodoc WHERE lakehouse.from_json(value, NULL::json) IS NOT NULL OR lakehouse.from_json(value, NULL::jsonb) IS NOT NULL',
                'what is no JSON is none');

SELECT * FROM finish();
ROLLBACK;
