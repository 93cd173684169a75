#!/usr/bin/env bash
# run.sh: "make bench". Each row of the table is our rate, the rate of the
# comparison in the same run on the same machine, and the ratio of the medians.
# The two alternate, so that a busy moment hits both. Prints a Markdown table.
#
#   BENCH_ROWS=n      size of the large inputs (default 5000000)
#   BENCH_RUNS=n      measured runs of each side (default 5)
#   BENCH="csv json ..."   only these: csv csv2 wide targets json kafka drain
#                     latency files scan from_json scd1 gold flat
#   BENCH_FILES=n     small files (default 20000)
#   BENCH_MESSAGES=n  messages of the cases kafka and drain (default BENCH_ROWS, at most 640000)
#   BENCH_KNOWN=n     known files of a scan (default 1000000)
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
here=$top/test/bench
. "$top/test/setup/lib.sh"
. "$top/test/setup/packages.sh"
ROWS=${BENCH_ROWS:-5000000}
RUNS=${BENCH_RUNS:-5}
export LC_ALL=C.UTF-8 TZ=UTC
home=
broker=
messages=
leave() {
	local status=$?
	trap - EXIT INT TERM
	[ -z "$home" ] || lh_remove_home "$top/.bench"
	exit "$status"
}
trap leave EXIT INT TERM

# sql runs the statements of $1 in the database bench, quietly.
sql() {
	lh_as_user "$bin/psql" -XqAt -h "$LH_HOST" -p "$port" -U postgres -d bench -v ON_ERROR_STOP=1 \
		-v dir="$data" -v rows="$ROWS" -v broker="$broker" -f - <<<"$1"
}

# timed prints the milliseconds that the last statement of $1 took.
timed() {
	sql "\\timing on
$1" | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' | tail -n 1
}

# spread prints "median (min - max)" of its arguments with the format $1.
spread() {
	local format=$1
	shift
	printf '%s\n' "$@" | sort -g | awk -v f="$format" '{ v[NR] = $1 }
		END { m = NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2
		      printf f " (" f " - " f ")", m, v[1], v[NR] }'
}

# must_hold ends the run unless the table $1 holds $2 rows: a rate of rows that
# did not arrive is none.
must_hold() {
	local count
	count=$(sql "SELECT count(*) FROM $1")
	[ "$count" = "$2" ] || lh_die "$1 holds $count rows instead of $2" "$(sql "SELECT path, state, rows, error FROM lakehouse.file_status ORDER BY file_id DESC LIMIT 3" 2>&1)"
}

median() { spread '%.6f' "$@" | cut -d' ' -f1; }

# compare measures the two functions $4 (ours) and $5 (theirs), which print
# milliseconds for $3 units of work, and adds a row: $1 work, $2 target ratio,
# $6 what the comparison is.
compare() {
	local work=$1 target=$2 units=$3 ours=$4 theirs=$5 against=$6 run ms a=() b=()
	lh_say "$work" >&2
	for run in $(seq 0 "$RUNS"); do
		ms=$($ours "$run")
		# the first run of each warms the caches
		[ "$run" -eq 0 ] || a+=("$(awk -v u="$units" -v ms="$ms" 'BEGIN { print u * 1000 / ms }')")
		ms=$($theirs "$run")
		[ "$run" -eq 0 ] || b+=("$(awk -v u="$units" -v ms="$ms" 'BEGIN { print u * 1000 / ms }')")
	done
	add_row "$work" "$(spread '%.0f' "${a[@]}")" "$against" "$(spread '%.0f' "${b[@]}")" \
		"$(awk -v a="$(median "${a[@]}")" -v b="$(median "${b[@]}")" 'BEGIN { printf "%.2f", a / b }')" "$target"
}

add_row() {
	local line
	line=$(printf '| %s | %s | %s | %s | %s | %s |' "$@")
	echo "$line" >>"$home/table"
	echo "$line" >&2
}

# ------------------------------------------------------------------ CSV, JSON
csv_columns='id bigint, device integer, at timestamptz, heartrate double precision'
row_columns="$csv_columns, name text, city text"
csv_prepare() {
	sql "CREATE TABLE plain_csv ($csv_columns);
	CREATE TABLE bronze.csv ($csv_columns);
	COPY (SELECT i AS id, i % 1000 AS device, timestamptz '2015-01-01Z' + i * interval '1 second' AS at,
	             60 + (i * 7919::bigint % 1200) / 10.0 AS heartrate
	        FROM generate_series(1, :rows) i)
	  TO '$data/rows.csv' (FORMAT csv, HEADER);
	SELECT lakehouse.create_source('csv', server => 'files', target => 'bronze.csv', format => 'csv',
	         path => 'csv/*.csv', options => '{\"header\": true}');" >/dev/null
	lh_as_user mkdir -p "$data/csv" "$data/csv2"
}
# a link is a new file to the source, without the cost of writing it
csv_ours() {
	lh_as_user ln "$data/rows.csv" "$data/csv/$1.csv"
	timed "TRUNCATE bronze.csv; SELECT 1 FROM lakehouse.run_source('csv');"
	must_hold bronze.csv "$ROWS"
	lh_as_user rm "$data/csv/$1.csv"
}
csv_theirs() { timed "TRUNCATE plain_csv; COPY plain_csv FROM '$data/rows.csv' (FORMAT csv, HEADER);"; }
bench_csv() {
	compare "CSV file of four typed columns to bronze, one session (rows/s)" 2.0 "$ROWS" csv_ours csv_theirs "COPY FROM the same file"
}
# from the arrival of the file to the commit of its last range
csv2_ours() {
	local began
	sql "TRUNCATE bronze.csv2; CHECKPOINT;"
	began=$(date +%s%N)
	lh_as_user ln "$data/rows.csv" "$data/csv2/$1.csv"
	sql "DO \$\$ BEGIN
	  LOOP
	    PERFORM FROM lakehouse.file WHERE path = 'csv2/$1.csv' AND state = 'loaded';
	    EXIT WHEN FOUND;
	    PERFORM pg_sleep(0.05);
	  END LOOP;
	END \$\$;"
	sql "SELECT extract(epoch FROM max(pg_xact_commit_timestamp(l.xmin))) * 1000 - $began / 1e6
	       FROM lakehouse.load l JOIN lakehouse.file f USING (file_id) WHERE f.path = 'csv2/$1.csv'"
	must_hold bronze.csv2 "$ROWS"
	lh_as_user rm "$data/csv2/$1.csv"
}
bench_csv2() {
	sql "CREATE TABLE bronze.csv2 ($csv_columns);
	SELECT lakehouse.create_source('csv2', server => 'files', target => 'bronze.csv2', format => 'csv', path => 'csv2/*.csv',
	         trigger => 'continuous', options => '{\"header\": true, \"workers\": 2, \"settle_ms\": 0}');" >/dev/null
	sleep 3
	compare "the same, two workers on the one file, from its arrival to the last commit (rows/s)" 3.0 "$ROWS" csv2_ours csv_theirs "COPY FROM, one session"
	sql "SELECT lakehouse.drop_source('csv2');" >/dev/null
}
wide_ours() {
	lh_as_user ln "$data/wide.csv" "$data/wide/$1.csv"
	timed "TRUNCATE bronze.wide; SELECT 1 FROM lakehouse.run_source('wide');"
	must_hold bronze.wide "$((ROWS / 25))"
	lh_as_user rm "$data/wide/$1.csv"
}
wide_theirs() { timed "TRUNCATE plain_wide; COPY plain_wide FROM '$data/wide.csv' (FORMAT csv, HEADER);"; }
bench_wide() {
	local types=(bigint integer text 'numeric(12,2)' date timestamptz boolean 'double precision' uuid text) wide='' i
	for i in $(seq 0 49); do
		wide+="${wide:+, }c$i ${types[i % 10]}"
	done
	lh_as_user mkdir -p "$data/wide"
	lh_as_user perl -e 'my $n = shift; print join(",", map { "c$_" } 0 .. 49), "\n";
		for my $i (1 .. $n) { print join(",", map { my $k = $_ % 10; my $v = $i * ($_ + 1);
			$k == 0 ? $v * 1000 : $k == 1 ? $v % 100000 : $k == 2 ? "text $_ " . $i % 997 : $k == 3 ? sprintf("%.2f", $v % 100000 / 100)
			: $k == 4 ? sprintf("2015-%02d-%02d", 1 + $i % 12, 1 + $v % 28)
			: $k == 5 ? sprintf("2015-%02d-%02d %02d:%02d:%02dZ", 1 + $i % 12, 1 + $v % 28, $i % 24, $i % 60, $_)
			: $k == 6 ? ($i % 2 ? "t" : "f") : $k == 7 ? sprintf("%.3f", $v / 7) : $k == 8 ? sprintf("%08x-0000-4000-8000-%012x", $i, $_)
			: $i % 17 ? "word" . $i % 13 : "" } 0 .. 49), "\n" }' "$((ROWS / 25))" | lh_as_user tee "$data/wide.csv" >/dev/null
	sql "CREATE TABLE bronze.wide ($wide); CREATE TABLE plain_wide ($wide);
	SELECT lakehouse.create_source('wide', server => 'files', target => 'bronze.wide', format => 'csv',
	         path => 'wide/*.csv', options => '{\"header\": true}');" >/dev/null
	compare "CSV file of 50 columns of ten types to bronze, one session (rows/s)" 1.5 "$((ROWS / 25))" wide_ours wide_theirs "COPY FROM the same file"
}
# the same rows into targets that have something; $into says which
target_ours() {
	lh_as_user ln "$data/fifth.csv" "$data/targets/$into/$1.csv"
	timed "TRUNCATE bronze.$into; SELECT 1 FROM lakehouse.run_source('$into');"
	must_hold "bronze.$into" "$((ROWS / 5))"
	lh_as_user rm "$data/targets/$into/$1.csv"
}
target_theirs() { timed "TRUNCATE plain.$into; COPY plain.$into (id, device, at, heartrate) FROM '$data/fifth.csv' (FORMAT csv, HEADER);"; }
# makes the target $1 with the statements $2 (%s: its name) and measures; $3 says what it has
one_target() {
	local schema statements=$2
	into=$1
	for schema in bronze plain; do
		sql "${statements//%s/$schema.$into}" >/dev/null
	done
	lh_as_user mkdir -p "$data/targets/$into"
	sql "SELECT lakehouse.create_source('$into', server => 'files', target => 'bronze.$into', format => 'csv',
	       path => 'targets/$into/*.csv', options => '{\"header\": true}');" >/dev/null
	compare "CSV to a target with $3 (rows/s)" 1.0 "$((ROWS / 5))" target_ours target_theirs "COPY FROM into the same"
	sql "DROP TABLE plain.$into; SELECT lakehouse.drop_source('$into'); DROP TABLE bronze.$into;" >/dev/null
}
bench_targets() {
	local parts='' i
	sql "CREATE SCHEMA plain;
	CREATE TABLE public.device (device integer PRIMARY KEY);
	INSERT INTO public.device SELECT generate_series(0, 999);
	CREATE FUNCTION public.as_it_is() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
	CREATE FUNCTION public.count_added() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM count(*) FROM added; RETURN NULL; END';" >/dev/null
	lh_as_user head -n "$((ROWS / 5 + 1))" "$data/rows.csv" | lh_as_user tee "$data/fifth.csv" >/dev/null
	for i in $(seq 0 7); do
		parts+="CREATE TABLE %s_$i PARTITION OF %s FOR VALUES WITH (modulus 8, remainder $i); "
	done
	one_target indexes "CREATE TABLE %s ($csv_columns, PRIMARY KEY (id)); CREATE INDEX ON %s (device)" "a primary key and an index"
	one_target checks "CREATE TABLE %s ($csv_columns, note text DEFAULT 'none', made date NOT NULL DEFAULT '2020-01-01', CHECK (id > 0), CHECK (heartrate < 1000))" "two checks and two defaults"
	one_target serial "CREATE TABLE %s ($csv_columns, number bigint GENERATED BY DEFAULT AS IDENTITY)" "an identity column"
	one_target generated "CREATE TABLE %s ($csv_columns, twice bigint GENERATED ALWAYS AS (id * 2) STORED)" "a generated column"
	one_target partitions "CREATE TABLE %s ($csv_columns) PARTITION BY HASH (device); $parts" "eight hash partitions"
	one_target foreign_key "CREATE TABLE %s ($csv_columns, FOREIGN KEY (device) REFERENCES public.device)" "a foreign key"
	one_target before_row "CREATE TABLE %s ($csv_columns); CREATE TRIGGER t BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION public.as_it_is()" "a BEFORE ROW trigger"
	one_target after_row "CREATE TABLE %s ($csv_columns); CREATE TRIGGER t AFTER INSERT ON %s FOR EACH ROW EXECUTE FUNCTION public.as_it_is()" "an AFTER ROW trigger"
	one_target transition "CREATE TABLE %s ($csv_columns); CREATE TRIGGER t AFTER INSERT ON %s REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION public.count_added()" "a transition table"
}
json_ours() {
	lh_as_user ln "$data/rows.json" "$data/json/$1.json"
	timed "TRUNCATE bronze.json; SELECT 1 FROM lakehouse.run_source('json');"
	must_hold bronze.json "$((ROWS * 2 / 5))"
	lh_as_user rm "$data/json/$1.json"
}
json_theirs() {
	timed "TRUNCATE json_text; TRUNCATE plain_json;
	DO \$\$ BEGIN
	  COPY json_text FROM '$data/rows.json' (FORMAT csv, QUOTE e'\\x01', DELIMITER e'\\x02');
	  INSERT INTO plain_json SELECT r.* FROM json_text, jsonb_to_record(line::jsonb) AS r($row_columns);
	END \$\$;"
}
bench_json() {
	sql "CREATE TABLE plain_json ($row_columns);
	CREATE TABLE bronze.json ($row_columns);
	CREATE TABLE json_text (line text);
	COPY (SELECT json_build_object('id', i, 'device', i % 1000, 'at', timestamptz '2015-01-01Z' + i * interval '1 second',
	             'heartrate', 60 + (i * 7919::bigint % 1200) / 10.0, 'name', 'name ' || i % 5000, 'city', 'city ' || i % 300)
	        FROM generate_series(1, $((ROWS * 2 / 5))) i)
	  TO '$data/rows.json' (FORMAT csv, QUOTE e'\\x01', DELIMITER e'\\x02');
	SELECT lakehouse.create_source('json', server => 'files', target => 'bronze.json', format => 'json',
	         path => 'json/*.json');" >/dev/null
	lh_as_user mkdir -p "$data/json"
	compare "JSON lines to typed bronze (rows/s)" 8.0 "$((ROWS * 2 / 5))" json_ours json_theirs "COPY to text, jsonb_to_record INSERT"
}

# ---------------------------------------------------------------------- Kafka
kind=
kafka_columns='topic text, "partition" integer, "offset" bigint, key text, value text, "timestamp" bigint, headers jsonb'
# start_real starts Apache Kafka where it can be had.
start_real() {
	local dir src
	dir=$(bash "$tree/test/kafka/install.sh" 2>"$data/kafka.log") || {
		lh_say "the mock cluster instead of Apache Kafka: $(tail -n 1 "$data/kafka.log")" >&2
		return 1
	}
	cp -r "$dir" "$home/kafka"
	chmod -R a+rX "$home/kafka"
	src=$(dirname "$("$pg_config" --pgxs)")/..
	lh_as_user mkdir -p "$data/kafka"
	lh_as_user mkfifo "$data/broker"
	(cd "$data" && lh_as_user env PATH="$bin:$PATH" LAKEHOUSE_KAFKA="$home/kafka" PG_REGRESS=none TESTDIR="$data/kafka" TESTDATADIR="$data/kafka" TESTLOGDIR="$data/kafka" \
		perl -I "$src/test/perl" -I "$tree/test/perl" "$tree/test/kafka/serve.pl" <>"$data/broker" >"$data/broker.log" 2>"$data/kafka.log" &)
	for _ in $(seq 1200); do
		broker=$(sed -n 's/^kafka //p' "$data/broker.log" 2>/dev/null)
		[ -z "$broker" ] || return 0
		sleep 0.1
	done
	lh_die "Apache Kafka does not start" "$(tail -n 5 "$data/kafka.log")"
}
# start_broker starts a real cluster or else the mock one, once.
start_broker() {
	[ -z "$broker" ] || return 0
	if start_real; then
		kind="Apache Kafka"
		broker_do '{"do": "create", "topic": "load", "partitions": 16}'
		broker_do '{"do": "create", "topic": "live", "partitions": 4}'
	else
		kind="mock broker"
		(cd "$data" && lh_as_user "$tree/test/kafka/mock_broker" --keep --topics "load:16,live:4" --control "$data/broker" \
			--bootstrap-file "$data/bootstrap" >"$data/broker.log" 2>&1 </dev/null &)
		for _ in $(seq 100); do
			[ ! -s "$data/bootstrap" ] || break
			sleep 0.1
		done
		broker=$(cat "$data/bootstrap")
	fi
	sql "CREATE SERVER kafka FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS (\"bootstrap.servers\" '$broker');" >/dev/null
	# the mock brokers hold a fetch that finds nothing for all of its time, real ones only until something comes
	[ "$kind" = "Apache Kafka" ] || sql "ALTER SERVER kafka OPTIONS (ADD \"fetch.wait.max.ms\" '5');" >/dev/null
}
# broker_do sends a command and waits for its answer.
broker_do() {
	local before
	before=$(wc -l <"$data/broker.log")
	lh_as_user bash -c 'echo "$1" >"$2"' _ "$1" "$data/broker"
	for _ in $(seq 12000); do
		[ "$(wc -l <"$data/broker.log")" -le "$before" ] || break
		sleep 0.05
	done
	tail -n 1 "$data/broker.log" | grep -q '^ok' || lh_die "broker: $(tail -n 1 "$data/broker.log")"
}
# broker_fill sends $3 messages of $4 bytes to the $2 partitions of the topic $1,
# $5 a second if it is given.
broker_fill() {
	if [ "$kind" = "Apache Kafka" ]; then
		broker_do "{\"do\": \"fill\", \"topic\": \"$1\", \"partitions\": $2, \"count\": $3, \"size\": $4, \"rate\": ${5:-0}}"
	elif [ -z "${5:-}" ]; then
		broker_do "fill $1 $2 $3 $4"
	else
		lh_as_user awk -v t="$1" -v p="$2" -v n="$3" -v s="$4" 'BEGIN { for (i = 0; i < n; i++)
			printf "{\"topic\": \"%s\", \"partition\": %d, \"key\": \"%d\", \"value\": \"%0*d\"}\n", t, i % p, i, s, i }' >"$home/$1.json"
		broker_do "file $home/$1.json $5"
	fi
}
kafka_ours() {
	sql "TRUNCATE bronze.kafka;
	SELECT lakehouse.create_source('kafka$1', server => 'kafka', target => 'bronze.kafka', topics => '{load}');" >/dev/null
	timed "SELECT 1 FROM lakehouse.run_source('kafka$1');"
	[ "$(sql 'SELECT count(*) FROM bronze.kafka')" = "$messages" ] || lh_die "Kafka: not all messages arrived"
	sql "SELECT lakehouse.drop_source('kafka$1');" >/dev/null
}
kafka_binary() {
	[ -e "$data/kafka.bin" ] || sql "COPY (SELECT topic, \"partition\", \"offset\", key, value, \"timestamp\", headers FROM bronze.kafka)
		TO '$data/kafka.bin' (FORMAT binary);" >/dev/null
	timed "TRUNCATE plain_kafka; COPY plain_kafka FROM '$data/kafka.bin' (FORMAT binary);"
}
kafka_kcat() {
	local began
	sql "TRUNCATE kcat_text;"
	began=$(date +%s%N)
	lh_as_user kcat -q -C -b "$broker" -t load -e -o beginning -f '%t\t%p\t%o\t%k\t%s\t%T\n' |
		lh_as_user "$bin/psql" -XqAt -h "$LH_HOST" -p "$port" -U postgres -d bench -c 'COPY kcat_text FROM STDIN (FORMAT csv, DELIMITER e'"'\\t'"', QUOTE e'"'\\x01'"')'
	awk -v a="$began" -v b="$(date +%s%N)" 'BEGIN { print (b - a) / 1e6 }'
}
kafka_fill() {
	[ -z "$messages" ] || return 0
	messages=${BENCH_MESSAGES:-$((ROWS < 640000 ? ROWS : 640000))}
	start_broker
	broker_fill load 16 "$messages" 100
	sql "CREATE TABLE bronze.kafka ($kafka_columns);" >/dev/null
}
bench_kafka() {
	kafka_fill
	sql "CREATE TABLE plain_kafka ($kafka_columns);
	     CREATE TABLE kcat_text (topic text, \"partition\" integer, \"offset\" bigint, key text, value text, \"timestamp\" bigint);" >/dev/null
	compare "Kafka topic to bronze, $messages messages of 100 bytes, 16 partitions, $kind (messages/s)" 0.8 "$messages" \
		kafka_ours kafka_binary "COPY BINARY of the same rows from a file"
	command -v kcat >/dev/null || { lh_say "kcat is not installed: its comparison is left out" >&2; return 0; }
	compare "the same (messages/s)" 3.0 "$messages" kafka_ours kafka_kcat "kcat piped into COPY"
}
# A worker that finds a backlog: how fast it reads, and how much memory of its own
# it has meanwhile, looked at ten times a second.
bench_drain() {
	local began pid position=0 now early=0 late=0
	kafka_fill
	sql "TRUNCATE bronze.kafka;
	SELECT lakehouse.create_source('drain', server => 'kafka', target => 'bronze.kafka', topics => '{load}', trigger => 'continuous');" >/dev/null
	began=$(date +%s%N)
	while [ "$position" -lt "$messages" ]; do
		sleep 0.1
		IFS='|' read -r position pid <<<"$(sql "SELECT coalesce(sum(next_offset), 0), (SELECT max(pid) FROM pg_stat_activity WHERE application_name LIKE '%source%drain%')
			FROM lakehouse.kafka_offset JOIN lakehouse.source USING (source_id) WHERE name = 'drain'")"
		now=$(awk '/^RssAnon/ { print int($2 / 1024) }' "/proc/${pid:-0}/status" 2>/dev/null || true)
		if [ "$((position * 2))" -lt "$messages" ]; then
			early=$((${now:-0} > early ? ${now:-0} : early))
		else
			late=$((${now:-0} > late ? ${now:-0} : late))
		fi
		[ "$(date +%s%N)" -lt "$((began + 600000000000))" ] || lh_die "the backlog is not read after 10 minutes"
	done
	add_row "$kind: backlog of $messages messages of 100 bytes, read by one worker from its start (messages/s)" \
		"$(awk -v n="$messages" -v a="$began" -v b="$(date +%s%N)" 'BEGIN { printf "%.0f", n / (b - a) * 1e9 }')" - - - -
	add_row "the same: most private memory of the worker in the first half / in the second (MB)" "$early / $late" - - - flat
	must_hold bronze.kafka "$messages"
	sql "SELECT lakehouse.drop_source('drain');" >/dev/null
}
# Bronze and silver are asked for the commit of each row. A row of gold changes
# with every batch, so gold is looked at all the time: how old is the newest
# record that it has counted? That is its delay and the pause until the next.
bench_latency() {
	local seconds=10 mark sampler
	start_broker
	sql "CREATE TABLE bronze.live ($kafka_columns);
	CREATE TABLE silver.live (\"partition\" integer, \"offset\" bigint, sent bigint, PRIMARY KEY (\"partition\", \"offset\"));
	CREATE TABLE gold.live (\"partition\" integer, minute bigint, records bigint, newest bigint, PRIMARY KEY (\"partition\", minute));
	CREATE INDEX ON silver.live (\"partition\", (sent / 60000));
	CREATE TABLE gold_age (at bigint, ms bigint);
	SELECT lakehouse.create_source('live', server => 'kafka', target => 'bronze.live', topics => '{live}', trigger => 'continuous');
	SELECT lakehouse.create_flow('live', target => 'silver.live', mode => 'insert_only', keys => '{partition,offset}',
	         query => \$\$ SELECT \"partition\", \"offset\", \"timestamp\" AS sent FROM bronze.live \$\$);
	SELECT lakehouse.create_flow('live_gold', target => 'gold.live', mode => 'aggregate', keys => '{partition,minute}',
	         query => \$\$ SELECT \"partition\", sent / 60000 AS minute, count(*) AS records, max(sent) AS newest FROM silver.live GROUP BY 1, 2 \$\$);" >/dev/null
	# the first records start everything and are not measured
	broker_fill live 4 2000 80 1000
	sleep 3
	mark=$(date +%s%3N)
	sql "DO \$\$ DECLARE at bigint[]; age bigint[]; t bigint;
	BEGIN
		LOOP
			t := extract(epoch FROM clock_timestamp()) * 1000;
			EXIT WHEN t > $mark + $((seconds * 1000));
			age := age || (SELECT t - max(newest) FROM gold.live);
			at := at || t;
			COMMIT;
			PERFORM pg_sleep(0.005);
		END LOOP;
		INSERT INTO gold_age SELECT * FROM unnest(at, age);
	END \$\$" &
	sampler=$!
	broker_fill live 4 $((seconds * 1000)) 80 1000
	wait "$sampler"
	for _ in $(seq 200); do
		[ "$(sql "SELECT sum(records) FROM gold.live")" != $((seconds * 1000 + 2000)) ] || break
		sleep 0.1
	done
	must_hold "(SELECT generate_series(1, sum(records)) FROM gold.live) x" $((seconds * 1000 + 2000))
	local share="round(percentile_cont(0.5) WITHIN GROUP (ORDER BY ms)) || ' / ' || round(percentile_cont(0.99) WITHIN GROUP (ORDER BY ms))"
	local commits="SELECT $share FROM (SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000 - %s AS ms FROM %s WHERE %s >= $mark) x"
	# shellcheck disable=SC2059
	add_row "$kind: produce to commit in bronze, 1,000 messages/s for $seconds s (ms, median / p99)" \
		"$(sql "$(printf "$commits" '"timestamp"' bronze.live '"timestamp"')")" - - - "p99 50"
	# shellcheck disable=SC2059
	add_row "$kind: produce to commit in silver, insert_only (ms, median / p99)" \
		"$(sql "$(printf "$commits" sent silver.live sent)")" - - - -
	# the first second waits for the first record of the new burst
	add_row "$kind: age of the newest record counted in gold behind silver, looked at every 5 ms (ms, median / p99)" \
		"$(sql "SELECT $share FROM gold_age WHERE at >= $mark + 1000 AND at <= (SELECT max(newest) FROM gold.live)")" - - - "p99 150"
	sql "SELECT lakehouse.alter_source('live', trigger => 'available_now');" >/dev/null
}

# ---------------------------------------------------------------- small files
files_ours() {
	lh_as_user mkdir -p "$data/small"
	lh_as_user cp -rl "$data/small_all" "$data/small/$1"
	timed "TRUNCATE bronze.small; SELECT 1 FROM lakehouse.run_source('small');"
	must_hold bronze.small "$((files * 10))"
	lh_as_user rm -r "$data/small/$1"
}
# a sample of 100 files, scaled to all
files_theirs() {
	local began n=100
	sql "TRUNCATE plain_small;"
	began=$(date +%s%N)
	for f in $(lh_as_user ls "$data/small_all" | head -n $n); do
		lh_as_user "$bin/psql" -Xq -h "$LH_HOST" -p "$port" -U postgres -d bench \
			-c "\\copy plain_small FROM '$data/small_all/$f' (FORMAT csv, HEADER)" </dev/null
	done
	awk -v a="$began" -v b="$(date +%s%N)" -v f="$((files / n))" 'BEGIN { print (b - a) / 1e6 * f }'
}
bench_files() {
	files=${BENCH_FILES:-20000}
	sql "CREATE TABLE bronze.small ($row_columns); CREATE TABLE plain_small ($row_columns);
	SELECT lakehouse.create_source('small', server => 'files', target => 'bronze.small', format => 'csv',
	         path => 'small/*/*.csv', options => '{\"header\": true}');" >/dev/null
	lh_as_user mkdir -p "$data/small_all"
	lh_as_user perl -e 'for my $f (1 .. $ARGV[1]) { open my $o, ">", sprintf("%s/%06d.csv", $ARGV[0], $f) or die;
		print $o "id,device,at,heartrate,name,city\n";
		print $o "$_,1,2015-01-01 00:00:00Z,61.5,a name,a city\n" for 1 .. 10; close $o }' "$data/small_all" "$files"
	compare "$files files of 10 rows (files/s)" 50 "$files" files_ours files_theirs "a shell loop of psql \\copy (100 files, scaled)"
}

# ---------------------------------------------------------------- known files
scan_ours() { timed "SELECT 1 FROM lakehouse.run_source('scan');"; }
scan_theirs() {
	local began
	began=$(date +%s%N)
	lh_as_user find "$data/scan" -type f -printf '%P %s %T@\n' >/dev/null
	awk -v a="$began" -v b="$(date +%s%N)" 'BEGIN { print (b - a) / 1e6 }'
}
# CPU milliseconds of the process $1 so far
cpu_ms() { sed 's/.*) //' "/proc/$1/stat" | awk -v hz="$(getconf CLK_TCK)" '{ printf "%d", ($12 + $13) * 1000 / hz }'; }
bench_scan() {
	local known=${BENCH_KNOWN:-1000000} pid before ms run times=()
	lh_as_user mkdir -p "$data/scan"
	lh_as_user perl -e 'for my $d (1 .. 100) { my $dir = sprintf "%s/d%03d", $ARGV[0], $d; mkdir $dir or die;
		for (1 .. $ARGV[1] / 100) { open my $o, ">", sprintf("%s/orders-%08d.csv", $dir, $_) or die; close $o } }' "$data/scan" "$known"
	sql "CREATE TABLE bronze.scan (id bigint);
	SELECT lakehouse.create_source('scan', server => 'files', target => 'bronze.scan', format => 'csv',
	         path => 'scan/**/*.csv', options => '{\"include_existing\": false, \"settle_ms\": 0}');
	VACUUM ANALYZE lakehouse.file;" >/dev/null
	compare "listing of $known known files, compared with the ledger (files/s)" "333333 files/s" "$known" scan_ours scan_theirs "find -printf, compared with nothing"
	sql "SELECT lakehouse.alter_source('scan', trigger => 'continuous');" >/dev/null
	for _ in $(seq 600); do
		[ "$(sql "SELECT watched FROM lakehouse.discovery_status WHERE source = 'scan'")" != t ] || break
		sleep 0.1
	done
	sleep 1
	pid=$(sql "SELECT pid FROM lakehouse.worker_status WHERE kind = 'source' AND object = 'scan'")
	before=$(cpu_ms "$pid")
	sleep 20
	add_row "idle worker with $known known files, CPU in 20 s (ms)" "$(($(cpu_ms "$pid") - before))" - - - "nothing"
	for run in $(seq 0 "$RUNS"); do
		echo "$run" | lh_as_user tee "$data/new" >/dev/null
		ms=$(sql "\\setenv DATA :dir
		SELECT extract(epoch FROM clock_timestamp()) * 1000 AS began \\gset
		\\! mv \"\$DATA/new\" \"\$DATA/scan/d050/new$run.csv\"
		DO \$\$ BEGIN FOR i IN 1 .. 10000 LOOP
		  EXIT WHEN EXISTS (SELECT FROM bronze.scan WHERE id = $run);
		  PERFORM pg_sleep(0.001); COMMIT; END LOOP; END \$\$;
		SELECT round(extract(epoch FROM clock_timestamp()) * 1000 - :began)")
		[ "$run" -eq 0 ] || times+=("$ms")
	done
	must_hold bronze.scan "$((RUNS + 1))"
	add_row "file renamed in beside $known known ones, until its row is visible, settle_ms 0 (ms)" "$(spread '%.0f' "${times[@]}")" - - - 1000
	sql "SELECT lakehouse.drop_source('scan');" >/dev/null
	lh_as_user rm -r "$data/scan"
}

# ------------------------------------------------------------ from_json, SCD1
from_json_ours() {
	timed "SELECT sum(v.id), sum(v.device), max(v.at), sum(v.heartrate), max(v.name), max(v.city)
	         FROM json_value, lakehouse.from_json(value, NULL::json_shape) AS v;"
}
from_json_theirs() {
	timed "SELECT sum((j->>'id')::bigint), sum((j->>'device')::integer), max((j->>'at')::timestamptz),
	              sum((j->>'heartrate')::double precision), max(j->>'name'), max(j->>'city')
	         FROM (SELECT value::jsonb AS j FROM json_value OFFSET 0) x;"
}
bench_from_json() {
	local n=$((ROWS / 2))
	sql "CREATE TYPE json_shape AS ($row_columns);
	CREATE TABLE json_value AS
	SELECT json_build_object('id', i, 'device', i % 1000, 'at', timestamptz '2015-01-01Z' + i * interval '1 second',
	             'heartrate', 60 + (i * 7919::bigint % 1200) / 10.0, 'name', 'name ' || i % 5000, 'city', 'city ' || i % 300)::text AS value
	  FROM generate_series(1, $n) i;
	VACUUM ANALYZE json_value;" >/dev/null
	compare "from_json to a typed row (rows/s)" 4.0 "$n" from_json_ours from_json_theirs "jsonb ->> and casts, parsed once"
}
# both change the same table and are rolled back, so that each finds it as it was
scd1_ours() {
	sql "VACUUM scd1;"
	sql "\\timing on
	BEGIN;
	SELECT 1 FROM lakehouse.merge_scd1('scd1', 'SELECT * FROM scd1_change', keys => '{id}', sequence_by => '{at}');
	\\timing off
	ROLLBACK;" | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' | tail -n 1
}
scd1_theirs() {
	sql "VACUUM scd1;"
	sql "\\timing on
	BEGIN;
	MERGE INTO scd1 t
	USING (SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY id ORDER BY at DESC) AS n FROM scd1_change) x WHERE n = 1) s
	   ON t.id = s.id
	 WHEN MATCHED AND s.at > t.at THEN UPDATE SET at = s.at, name = s.name, city = s.city
	 WHEN NOT MATCHED THEN INSERT (id, at, name, city) VALUES (s.id, s.at, s.name, s.city);
	\\timing off
	ROLLBACK;" | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' | tail -n 1
}
bench_scd1() {
	local changes=$((ROWS / 5))
	sql "CREATE TABLE scd1 (id bigint PRIMARY KEY, at timestamptz, name text, city text);
	INSERT INTO scd1 SELECT i, timestamptz '2015-01-01Z', 'name ' || i, 'city' FROM generate_series(1, :rows) i;
	CREATE TABLE scd1_change AS
	SELECT (i * 7919::bigint) % ($changes * 9 / 10) * 5 + 1 AS id, timestamptz '2015-01-02Z' + i * interval '1 second' AS at,
	       'new name ' || i AS name, 'new city' AS city FROM generate_series(1, $changes) i;
	ANALYZE scd1; ANALYZE scd1_change; CHECKPOINT;" >/dev/null
	compare "SCD1: $changes changes onto $ROWS rows (changes/s)" 1.5 "$changes" scd1_ours scd1_theirs "hand-written MERGE with row_number()"
}

# ----------------------------------------------------------------------- gold
gold_query='SELECT device, day, count(*) AS n, min(heartrate) AS lowest, avg(heartrate) AS mean, max(heartrate) AS highest FROM %s GROUP BY device, day'
gold_fact() {
	echo "SELECT (i % 1000)::integer AS device, date '2015-01-01' + (i / 86400)::integer AS day, (60 + i % 120)::integer AS heartrate
	        FROM generate_series($1::bigint, $2::bigint) i"
}
# $1 name of the fact table, $2 rows of history
gold_prepare() {
	sql "CREATE TABLE silver.$1 (device integer, day date, heartrate integer);
	INSERT INTO silver.$1 $(gold_fact 1 "$2");
	CREATE INDEX ON silver.$1 (device, day);
	CREATE TABLE gold.$1 (device integer, day date, n bigint, lowest integer, mean numeric, highest integer, PRIMARY KEY (device, day));
	SELECT lakehouse.create_flow('$1', target => 'gold.$1', mode => 'aggregate', keys => '{device,day}',
	         streaming => '{silver.$1}', query => \$\$ $(printf "$gold_query" "silver.$1") \$\$);
	SELECT 1 FROM lakehouse.run_flow('$1');
	VACUUM ANALYZE silver.$1; VACUUM ANALYZE gold.$1;" >/dev/null
}
gold_ours() {
	sql "INSERT INTO silver.gold $(gold_fact $((ROWS + $1 * ROWS / 100 + 1)) $((ROWS + ($1 + 1) * ROWS / 100)));" >/dev/null
	timed "SELECT 1 FROM lakehouse.run_flow('gold');"
}
gold_theirs() { timed "REFRESH MATERIALIZED VIEW gold.plain;"; }
bench_gold() {
	gold_prepare gold "$ROWS"
	sql "CREATE MATERIALIZED VIEW gold.plain AS $(printf "$gold_query" silver.gold);" >/dev/null
	compare "gold refresh after 1 % new rows, $ROWS rows of history, indexed by group (refreshes/s x 1000)" 50 1000 gold_ours gold_theirs "REFRESH MATERIALIZED VIEW"
	[ "$(sql "REFRESH MATERIALIZED VIEW gold.plain;
		SELECT count(*) FROM (TABLE gold.plain EXCEPT SELECT device, day, n, lowest, mean, highest FROM gold.gold) x")" = 0 ] ||
		lh_die "gold differs from the materialized view"
}
# the same batch after 1, 10 and 100 times as much history
bench_flat() {
	local factor base=$((ROWS / 50)) batch=$((ROWS / 1000)) history times line=
	for factor in 1 10 100; do
		history=$((base * factor))
		[ "$history" -le $((ROWS * 2)) ] || break
		gold_prepare "flat$factor" "$history"
		times=()
		for run in $(seq 0 "$RUNS"); do
			sql "INSERT INTO silver.flat$factor $(gold_fact $((history + run * batch + 1)) $((history + (run + 1) * batch)));" >/dev/null
			ms=$(timed "SELECT 1 FROM lakehouse.run_flow('flat$factor');")
			[ "$run" -eq 0 ] || times+=("$ms")
		done
		line+="${line:+; }$history rows: $(spread '%.1f' "${times[@]}")"
	done
	add_row "gold refresh after $batch new rows as history grows, indexed by group (ms)" "$line" - - - "within 20 %"
}

# ----------------------------------------------------------------------- main
# shellcheck disable=SC2046
lh_install_packages $(lh_server_packages) $(lh_kafka_packages) perl libipc-run-perl kcat
home=$(lh_make_home "$top/.bench")
tree=$home/source
data=$home/data
lh_say "building" >&2
lh_copy_tree "$top" "$tree"
[ "$(id -u)" -ne 0 ] || chown -R "$(lh_user):" "$tree"
pg_config=$(lh_private_pg "$home/pg")
bin=${pg_config%/*}
lh_build "$tree" "$pg_config"
make -s -C "$tree/test/kafka" >/dev/null
lh_as_user mkdir -p "$data"
port=$(lh_free_port)
lh_start_cluster "$bin" "$home/cluster" "$port" <<-END
	shared_buffers = 1GB
	max_wal_size = 8GB
	work_mem = 64MB
	track_commit_timestamp = on
	autovacuum = off
	lakehouse.launcher_naptime = 500
END
lh_as_user "$bin/createdb" -h "$LH_HOST" -p "$port" -U postgres bench
sql "CREATE EXTENSION lakehouse;
CREATE SCHEMA bronze; CREATE SCHEMA silver; CREATE SCHEMA gold;
CREATE SERVER files FOREIGN DATA WRAPPER lakehouse_files OPTIONS (directory '$data');" >/dev/null

{
	echo "| work | lakehouse: median (min - max) | comparison | its rate | ratio | target |"
	echo "|---|---|---|---|---|---|"
} >"$home/table"
load_before=$(cut -d' ' -f1 /proc/loadavg)
[[ " ${BENCH:-csv} " != *" csv"* && " ${BENCH:-csv} " != *" targets"* ]] || csv_prepare
for work in ${BENCH:-csv csv2 wide targets json kafka drain latency files scan from_json scd1 gold flat}; do
	"bench_$work"
done
add_row "whole fitness pipeline against Spark Structured Streaming + Delta" "not measured here" - - - 20

echo
echo "$(nproc) cores, $(awk '/^MemTotal/ { printf "%.0f GB", $2 / 1048576 }' /proc/meminfo), $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)," \
	"$("$pg_config" --version), load average $load_before before and $(cut -d' ' -f1 /proc/loadavg) after; BENCH_ROWS=$ROWS, $RUNS runs of each side, alternating."
echo
cat "$home/table"
