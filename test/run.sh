#!/usr/bin/env bash
# run.sh: all tests, from a bare Debian to one verdict ("make test").
#
# Invariants: nothing outside tmp_check/ is changed (except packages, named
# before they are installed); every planned test is counted, and one that did
# not run fails the whole; no process outlives the script.
#
#   TESTS="pattern ..."      only the files whose path matches one of the shell patterns
#   STEPS="regress pgtap isolation tap"   only these runners
#   LAKEHOUSE_SEED=n         repeats the random tests of a run that printed n
#   LAKEHOUSE_ALLOW_SKIP=1   a skipped test file is listed but does not fail the run
#   LAKEHOUSE_REQUIRE_KAFKA=1   fails where Apache Kafka cannot be had; otherwise
#                            its tests are listed as skipped, with the reason
#   LAKEHOUSE_CACHE=dir      where Apache Kafka is kept (test/kafka/install.sh)
#   KEEP=1                   keeps tmp_check/ when all went well
#   SANITIZE=1               builds with the address and undefined-behaviour
#                            sanitizers; a report ends the server and so fails
set -euo pipefail
shopt -s nullglob

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$top/test/setup/lib.sh"
. "$top/test/setup/packages.sh"

STEPS=${STEPS:-regress pgtap isolation tap}
STEP_LIMIT=${STEP_LIMIT:-2400}	# seconds for one runner
export LAKEHOUSE_SEED=${LAKEHOUSE_SEED:-$((RANDOM * 32768 + RANDOM))}
# LANG as well: PostgreSQL's own test tools forget LC_ALL, and clusters that
# they make without a locale hold no UTF-8
export LC_ALL=C.UTF-8 LANG=C.UTF-8 TZ=UTC
unset PGHOST PGPORT PGUSER PGDATABASE PGPASSWORD PGSERVICE PGOPTIONS PGDATA

home=
failures=()
summaries=()
skips=()

# Whatever happens, nothing that was started here stays behind.
leave() {
	local status=$?
	trap - EXIT INT TERM
	[ -z "$home" ] || lh_stop_below "$home"
	exit "$status"
}
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# planned prints the test files of the directory $1 with the suffix $2.
planned() {
	local file pattern
	for file in "$tree/$1"/*"$2"; do
		file=${file#"$tree/"}
		if [ -n "${TESTS:-}" ]; then
			for pattern in $TESTS; do
				# the right side is a pattern on purpose
				# shellcheck disable=SC2053
				if [[ $file == *$pattern* ]]; then
					echo "$file"
					break
				fi
			done
		else
			echo "$file"
		fi
	done
}

# run_limited runs a command as the unprivileged user, output also to $log.
run_limited() {
	(cd "$tree" && lh_as_user "${sanitizer[@]}" timeout -k 20 "$STEP_LIMIT" "$@") </dev/null 2>&1 9>&- | tee "$log"
}

# judge records the verdict of the runner $1: exit status $2, then the planned
# files that it did not report as run.
judge() {
	local step=$1 status=$2
	shift 2
	[ "$status" -ne 124 ] || failures+=("$step: stopped after $STEP_LIMIT seconds")
	[ "$status" -eq 0 ] || failures+=("$step: failed with status $status, output in $log")
	[ $# -eq 0 ] || failures+=("$step: planned but not run: $*")
}

# missing prints the words of $1 that are not among those of $2.
missing() {
	comm -23 <(printf '%s\n' $1 | sort -u) <(printf '%s\n' $2 | sort -u)
}

# regress_step runs the step $1 (regress or isolation) through PGXS's
# installcheck in a temporary instance.
regress_step() {
	local step=$1 files names ran status=0 none opts
	if [ "$step" = regress ]; then
		files=$(planned test/sql .sql) none="ISOLATION="
	else
		files=$(planned test/isolation/specs .spec) none="REGRESS="
	fi
	names=$(for file in $files; do file=${file##*/}; echo "${file%.*}"; done)
	[ -n "$names" ] || { skips+=("$step: there are no tests"); return 0; }
	lh_say "$step: $(wc -w <<<"$names") test files"
	log=$home/$step.log
	opts="--temp-instance=$home/$step --temp-config=$tree/test/regress.conf --port=$(lh_free_port)"
	run_limited make -s installcheck PG_CONFIG="$pg_config" "${step^^}=$(tr '\n' ' ' <<<"$names")" "$none" \
		EXTRA_REGRESS_OPTS="$opts" || status=$?
	# from PostgreSQL 16 on in the format of TAP
	ran=$(sed -nE 's/^test ([^ ]+) +\.\.\. (ok|FAILED).*/\1/p; s/^(not )?ok [0-9]+ +[-+] +([^ ]+) .*/\2/p' "$log")
	# shellcheck disable=SC2046
	judge "$step" "$status" $(missing "$names" "$ran")
	[ "$status" -eq 0 ] || find "$tree" -maxdepth 3 -name 'regression.diffs' -exec head -n 300 {} +
	summaries+=("== $step" "$(sed -nE 's/^[ #]+(All [0-9]+ tests? passed\.|[0-9]+ of [0-9]+ tests failed.*) *$/\1/p' "$log" | tail -n 1)")
}

# prove_step judges the output of prove for the step $1 over the files $2.
prove_step() {
	local step=$1 files=$2 status=$3 ran line
	ran=$(sed -nE 's/^(\[[0-9:]+\] )?([^ ]+) \.\.+ .*/\2/p' "$log")
	# shellcheck disable=SC2046
	judge "$step" "$status" $(missing "$files" "$ran")
	while read -r line; do
		skips+=("$line")
		[[ $line != *"skipped: Apache Kafka: "* || -n "${LAKEHOUSE_REQUIRE_KAFKA:-}" ]] || continue
		[ -n "${LAKEHOUSE_ALLOW_SKIP:-}" ] || failures+=("$step: a planned test did not run: $line")
	done < <(sed -nE 's/^(\[[0-9:]+\] )?([^ ]+) \.\.+ (skipped.*)/\2 \3/p' "$log")
	while read -r line; do
		skips+=("$step: $line")
	done < <({ grep -hE '^# SKIPPED' "$log"; grep -hoE 'ok [0-9]+ # skip.*' "$home/tap/tmp_check/log"/regress_log_*; } | sort -u)
	# nothing to find where prove was stopped
	summaries+=("== $step" "$(sed -nE '/^(All tests successful|Files=|Result: )/p' "$log" | tail -n 3)")
}

# pgtap_step runs the pgTAP files against a server with the extension.
pgtap_step() {
	local files status=0 dir=$home/pgtap port
	files=$(planned test/pgtap .sql)
	[ -n "$files" ] || { skips+=("pgtap: there are no tests"); return 0; }
	lh_say "pgtap: $(wc -w <<<"$files") test files"
	log=$home/pgtap.log
	port=$(lh_free_port)
	lh_start_cluster "$bin" "$dir" "$port" "${sanitizer[@]}" <"$tree/test/regress.conf" 9>&-
	lh_as_user "$bin/psql" -X -q -h "$LH_HOST" -p "$port" -U postgres -v ON_ERROR_STOP=1 \
		-c 'CREATE DATABASE pgtap' -c '\connect pgtap' \
		-c 'SET client_min_messages = warning' -c 'CREATE EXTENSION lakehouse' -c 'CREATE EXTENSION pgtap' </dev/null
	# word splitting wanted: one argument a file
	# shellcheck disable=SC2086
	PATH=$bin:$PATH run_limited pg_prove -h "$LH_HOST" -p "$port" -U postgres -d pgtap $files || status=$?
	lh_stop_cluster "$bin" "$dir"
	prove_step pgtap "$files" "$status"
}

# prepare_kafka puts Apache Kafka where the unprivileged user can read it, if
# one of the files $1 needs it, or says why it cannot be had.
prepare_kafka() {
	local dir
	# word splitting wanted: one argument a file
	# shellcheck disable=SC2086
	(cd "$tree" && grep -q '^use KafkaCluster' $1) || return 0
	if dir=$(bash "$tree/test/kafka/install.sh" 2>"$home/kafka.log"); then
		cp -r "$dir" "$home/kafka"
		chmod -R a+rX "$home/kafka"
		export LAKEHOUSE_KAFKA=$home/kafka
	else
		LAKEHOUSE_KAFKA_MISSING=$(tail -n 1 "$home/kafka.log")
		export LAKEHOUSE_KAFKA_MISSING
		lh_say "SKIPPED without Apache Kafka: $LAKEHOUSE_KAFKA_MISSING"
	fi
}

# tap_step runs the Perl tests. They start their own servers: from the release
# build, or from the build with fault points where they ask for it.
tap_step() {
	local files status=0 src
	files=$(planned test/t .pl)
	[ -n "$files" ] || { skips+=("tap: there are no tests"); return 0; }
	lh_say "tap: $(wc -w <<<"$files") test files, LAKEHOUSE_SEED=$LAKEHOUSE_SEED"
	log=$home/tap.log
	src=$(dirname "$("$pg_config" --pgxs)")/..
	export PATH=$bin:$PATH PG_REGRESS=$src/test/regress/pg_regress
	export TESTDIR=$home/tap TESTDATADIR=$home/tap/tmp_check TESTLOGDIR=$home/tap/tmp_check/log
	export LAKEHOUSE_SOURCE=$tree LAKEHOUSE_FAULTS_PATH=$faults_path LAKEHOUSE_MOCK_BROKER=$tree/test/kafka/mock_broker
	lh_as_user mkdir -p "$TESTDATADIR"
	prepare_kafka "$files"
	# data written by others, which lie beside the clone and not in it
	if [ -d "$top/../shared/corpora" ]; then
		mkdir -p "$home/shared"
		cp -r "$top/../shared/corpora" "$home/shared/"
		chmod -R a+rX "$home/shared"
		export LAKEHOUSE_SHARED=$home/shared
	fi
	# shellcheck disable=SC2086
	run_limited prove --timer -j "${JOBS:-$(nproc)}" -I "$src/test/perl" -I "$tree/test/perl" $files || status=$?
	prove_step tap "$files" "$status"
	if [ "$status" -ne 0 ]; then
		for file in $(sed -nE 's/^([^ ]+) +\(Wstat.*/\1/p' "$log"); do
			file=${file##*/}
			printf -- '---- end of the log of %s\n' "$file"
			tail -n 60 "$TESTLOGDIR/regress_log_${file%.pl}" 2>/dev/null || true
		done
	fi
}

# ----------------------------------------------------------------------- main
# in one piece, so that a change of this file does not change a run under way
main() {
	# shellcheck disable=SC2046
	lh_install_packages $(lh_server_packages) $(lh_test_packages) $(lh_kafka_packages)

	exec 9>"$top/.test.lock"
	flock -n 9 || lh_die "another \"make test\" is running in this directory"
	home=$(lh_make_home "$top/tmp_check")
	tree=$home/source
	lh_say "building with warnings as errors in $tree"
	lh_copy_tree "$top" "$tree"
	lh_copy_tree "$top" "$home/faults"
	warnings="-Werror -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers"
	sanitizer=(env)
	if [ -n "${SANITIZE:-}" ]; then
		# the server itself is built without, so the library must come first
		warnings+=" -fsanitize=address,undefined -fno-sanitize-recover=undefined"
		# without address space randomisation: with much of it, the sanitizer of
		# older compilers finds no room for its tables and never starts
		sanitizer=(setarch -R env "LD_PRELOAD=$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)"
			"ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:detect_stack_use_after_return=0:log_path=$home/asan"
			UBSAN_OPTIONS=print_stacktrace=1:abort_on_error=1)
	fi
	pg_config=$(lh_private_pg "$home/pg")
	bin=${pg_config%/*}
	if [ -n "${SANITIZE:-}" ] && ! timeout 20 "${sanitizer[@]}" "$bin/postgres" -V >/dev/null 2>&1; then
		gcc -shared -fPIC -O2 -o "$home/asan_start.so" "$tree/test/fault/asan_start.c"
		sanitizer=("${sanitizer[@]/%libubsan.so/libubsan.so $home/asan_start.so}")
	fi
	if [ -n "${SANITIZE:-}" ] && ! timeout 20 "${sanitizer[@]}" "$bin/postgres" -V >/dev/null 2>&1; then
		# together with the libraries of some systems its start never ends
		lh_say "the address sanitizer does not start in this server: undefined behaviour only"
		warnings=${warnings/address,undefined/undefined}
		sanitizer=(env "LD_PRELOAD=$(gcc -print-file-name=libubsan.so)"
			"UBSAN_OPTIONS=print_stacktrace=1:abort_on_error=1:log_path=$home/asan")
		timeout 20 "${sanitizer[@]}" "$bin/postgres" -V >/dev/null || lh_die "the sanitizer does not start"
	fi
	lh_build "$tree" "$pg_config" COPT="$warnings"
	faults_path=$(lh_private_pg "$home/pg-faults")
	lh_build "$home/faults" "$faults_path" COPT="$warnings" FAULTS=1
	faults_path=${faults_path%/bin/pg_config}
	make -s -C "$tree/test/kafka"
	if [ "$(id -u)" -eq 0 ]; then
		chown -R "$(lh_user):" "$tree" "$home/faults"
	fi
	if grep -qa 'fault point "%s"' "$bin/../lib/lakehouse.so"; then
		failures+=("build: the release build contains fault points")
	fi

	for step in $STEPS; do
		case $step in
			regress | isolation) regress_step "$step" ;;
			pgtap) pgtap_step ;;
			tap) tap_step ;;
			*) lh_die "there is no step \"$step\"" "Steps are regress, pgtap, isolation and tap." ;;
		esac
		left=$(lh_processes_below "$home")
		if [ -n "$left" ]; then
			failures+=("$step: processes left behind: $(ps -o pid=,args= -p "$(paste -sd, <<<"$left")" | tr '\n' ';')")
			lh_stop_below "$home"
		fi
	done

	for report in "$home"/asan.*; do
		failures+=("sanitizer: report in $report")
		head -n 40 "$report"
	done

	echo
	lh_say "skipped: ${#skips[@]}"
	for line in "${skips[@]}"; do printf '   %s\n' "$line"; done
	if [ "${#failures[@]}" -gt 0 ]; then
		lh_say "failed (LAKEHOUSE_SEED=$LAKEHOUSE_SEED; logs in $home)"
		for line in "${failures[@]}"; do printf '   %s\n' "$line"; done
	fi
	for line in "${summaries[@]}"; do printf '%s\n' "$line"; done
	[ "${#failures[@]}" -eq 0 ] || { lh_say "make test: FAIL"; exit 1; }
	[ -n "${KEEP:-}" ] || lh_remove_home "$top/tmp_check"
	lh_say "make test: PASS"
}

main
exit
