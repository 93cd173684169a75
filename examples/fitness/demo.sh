#!/usr/bin/env bash
# demo.sh: the fitness pipeline from an empty machine to gold tables.
#
#   make demo           everything, then nothing is left running
#   make demo KEEP=1    leaves the server running and prints how to look at it
#   make demo-stop      ends it
#
# Invariants: packages are named before they are installed; everything else
# happens in .demo/ (ignored by git): a copy of PostgreSQL with the extension,
# a cluster and a mock Kafka broker, both on loopback or a socket only. Without
# KEEP no process outlives the script.
#
#   SETS=n, BPM=n       other amounts of data (2 sets, 253801 heart rates in each)
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
. "$top/test/setup/lib.sh"
. "$top/test/setup/packages.sh"
demo=$top/.demo
here=$top/examples/fitness
sets=${SETS:-2}
export LC_ALL=C.UTF-8
unset PGHOST PGPORT PGUSER PGDATABASE PGPASSWORD PGSERVICE PGOPTIONS PGDATA PGTZ

home=
began=$SECONDS
started=$(date +%s.%N)

# seconds prints the time since the sources began to send.
seconds() { awk -v a="$started" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f", b - a }'; }

headline() {
	if [ -t 1 ]; then
		printf '\033[1m%s\033[0m\n' "$*"
	else
		printf '%s\n' "$*"
	fi
}

# ------------------------------------------------------------------- stopping
stop_demo() {
	if [ -e "$demo" ] || [ -L "$demo" ]; then
		lh_remove_home "$demo"
		lh_say "stopped; .demo is removed"
	else
		lh_say "nothing is running"
	fi
}

leave() {
	local status=$?
	trap - EXIT HUP INT TERM
	[ -z "${simulator:-}" ] || kill "$simulator" 2>/dev/null || true
	if [ -n "$home" ] && { [ "$status" -ne 0 ] || [ -z "${KEEP:-}" ]; }; then
		[ "$status" -eq 0 ] || printf 'the demo did not finish; the log of the server is %s\n' "$home/cluster/server.log" >&2
		lh_stop_below "$home"
	fi
	exit "$status"
}

# ------------------------------------------------------------------ the house
sql() { "$bin/psql" -X -q -h "$LH_HOST" -p "$port" -U postgres -d fitness -P pager=off -v ON_ERROR_STOP=1 "$@"; }

value() { sql -At -c "$1"; }

build() {
	lh_say "building and installing the extension into a copy of PostgreSQL $(lh_pg_major) in .demo"
	lh_copy_tree "$top" "$home/source"
	pg_config=$(lh_private_pg "$home/pg")
	bin=${pg_config%/*}
	lh_build "$home/source" "$pg_config"
	make -s -C "$home/source/test/kafka" PG_CONFIG="$pg_config"
	make -s -C "$home/source" PG_CONFIG="$pg_config" examples/fitness/generate
	mkdir -p "$home/landing/registered_users" "$home/landing/gym_logins"
	[ "$(id -u)" -ne 0 ] || chown -R "$(lh_user):" "$home/source" "$home/landing"
}

start_server() {
	port=$(lh_free_port)
	lh_say "starting PostgreSQL (port $port, socket only) and a mock Kafka broker"
	lh_start_cluster "$bin" "$home/cluster" "$port" 9>&- <<-END
		cron.database_name = 'fitness'
		cron.use_background_workers = on
		lakehouse.launcher_naptime = 500
		lakehouse.poll_interval = 200
		shared_buffers = 256MB
		max_wal_size = 2GB
	END
	"$bin/createdb" -h "$LH_HOST" -p "$port" -U postgres fitness
}

start_broker() {
	local deadline=$((SECONDS + 10))
	(cd "$home/source" && lh_as_user setsid --fork "$home/source/test/kafka/mock_broker" --keep \
		--topics user_info:10,workout:10,bpm:10 --bootstrap-file "$home/landing/.brokers") \
		</dev/null >"$home/broker.log" 2>&1 9>&-
	until [ -s "$home/landing/.brokers" ]; do
		[ "$SECONDS" -lt "$deadline" ] || lh_die "the mock broker did not start" "Its log is $home/broker.log."
		sleep 0.1
	done
	brokers=$(cat "$home/landing/.brokers")
}

deploy() {
	lh_say "deploying pipeline.sql and job.sql: 3 continuous sources, 10 flows, 1 job on pg_cron"
	sql -c 'CREATE EXTENSION pg_cron'
	sql -o /dev/null -v landing="$home/landing" -v bootstrap_servers="$brokers" -f "$here/pipeline.sql"
	sql -o /dev/null -v schedule='* * * * *' -f "$here/job.sql"
	sql -o /dev/null -c "SELECT lakehouse.alter_source(name, trigger => 'continuous') FROM lakehouse.source"
}

# ---------------------------------------------------------------- the sources
# simulate sends set after set: CSV files into the landing directory, messages
# to the broker. A few records are broken on purpose.
simulate() {
	local set messages=$home/messages options=(--sets 1 --partitions 10 --out-of-order 0.01)
	[ -z "${BPM:-}" ] || options+=(--bpm "$BPM")
	for ((set = 1; set <= sets; set++)); do
		lh_as_user "$home/source/examples/fitness/generate" --first-set "$set" "${options[@]}" \
			--only csv --broken 0.15 "$home/landing" 2>>"$home/generate.log"
		lh_as_user "$home/source/examples/fitness/generate" --first-set "$set" "${options[@]}" \
			--only messages --broken 0.00001 --stdout "$home" 2>>"$home/generate.log" >"$messages.$set"
		"$home/source/test/kafka/kafka_produce" "$brokers" "$messages.$set" >>"$home/produced"
	done
	touch "$home/sent"
}

produced() { awk '{ n += $1 } END { print n + 0 }' "$home/produced" 2>/dev/null || echo 0; }

# complete: everything that was sent has passed all layers, and pg_cron has run
# the job on it.
complete() {
	[ -e "$home/sent" ] || return 1
	[ "$(value "SELECT (SELECT coalesce(sum(rows + rejected), 0) FROM lakehouse.kafka_offset) >= $(produced)
	    AND (SELECT count(*) FROM lakehouse.file WHERE state = 'loaded') = $((2 * sets))
	    AND NOT EXISTS (SELECT FROM lakehouse.pending)")" = t ] || return 1
	if [ -z "$arrived" ]; then
		arrived=$(seconds)
		last_run=$(value "SELECT coalesce(max(run_id), 0) FROM lakehouse.job_run")
	fi
	[ "$(value "SELECT count(*) FROM lakehouse.job_run
	             WHERE run_id > $last_run AND cause = 'schedule' AND state = 'succeeded'")" -gt 0 ]
}

# watch_progress redraws one table on a terminal and writes lines elsewhere.
watch_progress() {
	local text lines=0 shown=-10 deadline=$((SECONDS + ${LIMIT:-600})) note done_=
	while [ -z "$done_" ]; do
		[ "$SECONDS" -lt "$deadline" ] || lh_die "the data did not arrive in time"
		kill -0 "$simulator" 2>/dev/null || [ -e "$home/sent" ] || lh_die "the simulator failed" "Its log is $home/generate.log."
		! complete || done_=1
		if [ -t 1 ]; then
			note="sources are sending"
			[ -z "$arrived" ] || note="all arrived after $arrived s; pg_cron starts the job in $((60 - 10#$(date +%S))) s"
			[ -z "$done_" ] || note="all arrived after $arrived s; the job ran"
			# a line that wraps would spoil the way back up
			text=$({ sql -At -v produced="$(produced)" -f "$here/progress.sql"; printf '%s s  %s\n' "$(seconds)" "$note"; } |
				cut -c "1-$(tput cols 2>/dev/null || echo 80)")
			[ "$lines" -eq 0 ] || printf '\033[%dA' "$lines"
			printf '%s\n' "$text" | sed 's/$/\x1b[K/'
			lines=$(printf '%s\n' "$text" | wc -l)
			sleep 0.4
		else
			if [ $((SECONDS - shown)) -ge 5 ] || [ -n "$done_" ]; then
				printf '%6s s   %s\n' "$(seconds)" "$(sql -At -v produced="$(produced)" -f "$here/progress.sql" | tail -n 1)"
				shown=$SECONDS
			fi
			sleep 0.5
		fi
	done
}

# ------------------------------------------------------------------ the result
show_result() {
	headline "gold.workout_bpm_summary"
	sql -P footer=off -c 'SELECT user_id, workout_id AS workout, session_id AS session, age, gender, city, state,
		min_bpm, avg_bpm, max_bpm, num_recordings AS recordings
		FROM gold.workout_bpm_summary ORDER BY user_id, workout_id, session_id LIMIT 16'
	headline "gold.gym_summary"
	sql -P footer=off -c 'SELECT date, gym, mac_address, workout_id AS workout, session_id AS session, minutes_in_gym, minutes_exercising
		FROM gold.gym_summary ORDER BY date, gym, mac_address, session_id LIMIT 16'
	headline "gold.yearly_summary (by the job's two parallel tasks)"
	sql -P footer=off -c 'SELECT * FROM gold.yearly_summary ORDER BY year, gym'
	headline "Every silver and gold table against an independent recomputation from bronze (check.sql)"
	sql -P footer=off -f "$here/check.sql"
	headline "Rejects: what could not become a row, with its place"
	sql -P footer=off -f "$here/rejects.sql"
	headline "Runs of the job, started by pg_cron"
	sql -P footer=off -c "SELECT r.run_id, r.state, t.task_key, t.state AS task_state,
		t.started::time(3) AS started, round(extract(epoch FROM t.finished - t.started) * 1000) AS ms
		FROM lakehouse.job_run AS r JOIN lakehouse.task_run AS t USING (run_id) ORDER BY run_id, t.started, task_key"
	headline "Rows"
	sql -At -v produced="$(produced)" -f "$here/progress.sql" | head -n 9
}

say_goodbye() {
	local total=$((SECONDS - began))
	echo
	headline "$(produced) messages and $((2 * sets)) files were in gold $arrived s after the first was sent (whole demo: $((total / 60)) min $((total % 60)) s)."
	if [ -n "${KEEP:-}" ]; then
		echo "Look around:  $bin/psql -h $LH_HOST -p $port -U postgres fitness"
		echo "Files in $home/landing are picked up by themselves; the brokers are $brokers."
		echo "Stop with:    make demo-stop"
	else
		echo "make demo KEEP=1 leaves the server running to look around."
	fi
}

# ------------------------------------------------------------------------ main
if [ "${1:-}" = stop ]; then
	stop_demo
	exit 0
fi
# shellcheck disable=SC2046
lh_install_packages $(lh_server_packages)
exec 9>"$top/.demo.lock"
flock -n 9 || lh_die "another \"make demo\" is running in this directory"
trap leave EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
home=$(lh_make_home "$demo")
build
start_server
start_broker
deploy

arrived=
last_run=0
echo
headline "Sources send, background workers load, flows keep silver and gold current"
started=$(date +%s.%N)
simulate 9>&- &
simulator=$!
watch_progress
wait "$simulator"
echo
show_result
say_goodbye
