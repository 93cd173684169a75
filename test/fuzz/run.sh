#!/usr/bin/env bash
# run.sh: fuzzes the scanners of CSV, JSON and Avro with libFuzzer, the
# address and the undefined-behaviour sanitizer ("make fuzz").
#
#   run.sh [directory [name]]  where it builds and works (default: .fuzz at the
#                            top), and the only one to fuzz: csv, json, split or avro
#   FUZZ_SECONDS=n           seconds for all together (default 300)
#   LAKEHOUSE_SEED=n         repeats the random choices of a run that printed n
#   LAKEHOUSE_SHARED=folder  holds corpora/ to begin with (default: "shared"
#                            beside the project); without it the seeds below serve
#   PG_CONFIG, CLANG         which PostgreSQL headers, which compiler
#
# Ends with a failure and the input's path as soon as an input breaks a rule or
# a sanitizer reports. A finding is repeated by running the program on that file.
set -euo pipefail
shopt -s nullglob

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=${here%/test/fuzz}
work=${1:-$top/.fuzz}
names=${2:-csv json split avro}
seconds=${FUZZ_SECONDS:-300}
seed=${LAKEHOUSE_SEED:-$((RANDOM * 32768 + RANDOM))}
clang=${CLANG:-clang}
libraries=()
corpora=
for folder in ${LAKEHOUSE_SHARED:+"$LAKEHOUSE_SHARED"} "$top/../shared" "$top/../../../shared"; do
	[ -n "$corpora" ] || [ ! -d "$folder/corpora" ] || corpora=$(cd "$folder/corpora" && pwd)
done

# build makes the program of the harness $1 for the sources behind it.
build() {
	local name=$1
	shift
	"$clang" -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
		-fno-omit-frame-pointer -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare \
		-Wno-missing-field-initializers -Wno-ignored-attributes \
		-I"$top/src" -I"$("${PG_CONFIG:-pg_config}" --includedir-server)" \
		-o "$work/${name}_fuzz" "$here/${name}_fuzz.c" "${@/#/$top/src/}" "${libraries[@]}"
}

# seed_csv writes the files of the corpora and a few more, each with the bytes
# that choose dialects and windows before it.
seed_csv() {
	local number=0 head file text
	for head in '\000\003\001\001' '\000\001\000\007' '\020\003\020\003' '\104\002\001\101' '\050\004\003\011'; do
		for file in ${corpora:+"$corpora"/csv-spectrum/csvs/*.csv}; do
			{ printf "$head"; head -c 4000 "$file"; } >"$1/file$((++number))"
		done
		for text in 'a,b,c\n1,2,3\n' '"a","b ""c""",d\r\n"x\ny",,"z\r\nw"\r\n' 'a,"b\nc,d\n' '"a"b,c\nd,e\n' \
			'a\rb\r\r\nc' '\n\n#note\na;b\n' "'a''b';'c'\n" '"a\\"b","c\\\n"\n' 'a|"' '\000,\377\n"\303\244"\n' \
			'012345678901234567890123456789012345678901234567890123456789012,"3456"\n'; do
			{ printf "$head"; printf "$text"; } >"$1/text$((++number))"
		done
	done
	# marks of several bytes, cut by the windows
	for head in '\000\000\000\003' '\000\005\000\005' '\000\002\000\003' '\000\024\000\007'; do
		for text in ':::::::\n::a::b\n' 'x|\n|y||\n"a"|\n' ',,,,,,,a,,,\n' ' "a" ,,, b \n' 'a\r\nb\r\n'; do
			{ printf "$head"; printf "$text$text$text"; } >"$1/wide$((++number))"
		done
	done
}

seed_json() {
	local number=0 file text
	for file in ${corpora:+"$corpora"/JSONTestSuite/test_parsing/*.json "$corpora"/csv-spectrum/json/*.json}; do
		head -c 4000 "$file" >"$1/file$((++number))"
	done
	for text in '{"a":1,"b":[true,false,null],"c":{"d":"e"}}' '[-0.5e+10, 1E2 ,0]' '"\\u00e4\\ud834\\udd1e\\n\\"\\\\"' \
		'"\\u0000"' '"\\ud800"' '"\\udc00\\ud800"' '{"":{"":[[[]]]}}' '"0123456789abcdef0123456789abcdef\\t"' ' 1 ' '{"a":1}{' '\303\244'; do
		printf "$text" >"$1/text$((++number))"
	done
	printf '[%.0s' $(seq 1001) >"$1/deep"
	{ printf '[%.0s' $(seq 1000); printf ']%.0s' $(seq 1000); } >"$1/deepest"
}

seed_split() {
	local number=0 head file text
	for head in '\000\001' '\101\021' '\003\141'; do
		for file in ${corpora:+"$corpora"/JSONTestSuite/test_parsing/[ny]_*.json}; do
			{ printf "$head"; head -c 2000 "$file"; } >"$1/file$((++number))"
		done
		for text in '{"a":1}\n{"b":[2]}' '[{"a":"}"},\n {"b":"\\""},3,"x"]' '{"a":\n{"b":2}\n' '[\n  {"a":"\n  {"b":1}\n]' '{"a":1}{"b":2' '1 {"a":2}\ntrue\n' '{"a":\n{"b":true,"c":"\\u00e4"}}\n'; do
			{ printf "$head"; printf "$text"; } >"$1/text$((++number))"
		done
	done
}

# seed_avro writes schemas and values of them.
seed_avro() {
	local number=0 text
	for text in '\001\001\001\001' '\003\015\001\003\007\016\004abc' '\002\014\000\002' '\004\012\003\004\002\004\006\000' '\003\013\007\002\002a\002b\000' \
		'\004\015\000\013\311\000\000' '\003\016\002\000\006\001\002\003' '\002\023\000\200\200\200\200\020' '\003\015\003\005\004\001\020\000\000\000\000\000\000\360\177'; do
		printf "$text" >"$1/text$((++number))"
	done
}

# fuzz runs the harness $1 with the known fragments $2...
fuzz() {
	local name=$1 log=$work/$1.log word status=0
	shift
	mkdir -p "$work/$name-corpus" "$work/$name-seeds" "$work/found"
	"seed_$name" "$work/$name-seeds"
	for word in "$@"; do printf '"%s"\n' "$word"; done >"$work/$name.dict"
	ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1 \
		"$work/${name}_fuzz" -max_total_time=$(((seconds + 3) / 4)) -max_len=4096 -timeout=10 \
		-rss_limit_mb=1024 -seed="$seed" -dict="$work/$name.dict" -artifact_prefix="$work/found/$name-" \
		-print_final_stats=1 "$work/$name-corpus" "$work/$name-seeds" >"$log" 2>&1 || status=$?
	if [ "$status" -ne 0 ]; then
		grep -vE '^(#|INFO|"|\s*NEW_FUNC)' "$log" | head -n 60 >&2
		echo "$name: failed with status $status, output in $log, LAKEHOUSE_SEED=$seed" >&2
		exit 1
	fi
	sed -nE "s/^stat::number_of_executed_units: +([0-9]+)/$name: \1 inputs, no finding/p" "$log"
}

if ! command -v "$clang" >/dev/null; then
	. "$top/test/setup/lib.sh"
	. "$top/test/setup/packages.sh"
	lh_install_packages clang libclang-rt-dev "postgresql-server-dev-$(lh_pg_major)"
fi
mkdir -p "$work"
echo "fuzzing for $seconds seconds, LAKEHOUSE_SEED=$seed, corpora: ${corpora:-none}"
for name in $names; do
	case $name in
		csv)
			build csv source/csv_scan.c source/csv_scan_wide.c
			fuzz csv '::' '|\x0a' ',,,' ' ,' '\" ' '\"' '\"\"' ',' ';' '\x0d\x0a' '\x0a' '\x0d' '\\\"' '#' "'" '\",\"' '\"\x0a\"'
			;;
		json)
			build json json/json_scan.c json/json_lax.c
			fuzz json '/*' '*/' '//' "'" "\\\\'" NaN -INF +Infinity 007 '{a:' '{' '}' '[' ']' ':' ',' '\"' '\\u0000' '\\ud834\\udd1e' '\\u' '\\n' \
				true false null '-0' '1e+1' '0.5'
			;;
		split)
			build split source/json_split.c json/json_scan.c json/json_lax.c
			fuzz split '/*' '*/' '//' "'" '{' '}' '[' ']' '\x0a' '\x0a{' '\x0a]' ',' ':' '\"' '\\\"' '{}' '[]' '{\"a\":' '  '
			;;
		avro)
			# of the server what is in its libraries for clients
			libraries=("$("${PG_CONFIG:-pg_config}" --pkglibdir)"/lib{pgcommon,pgport}.a -lm)
			build avro avro/avro_json.c avro/avro_text.c json/json_scan.c json/json_lax.c error.c
			fuzz avro '\x00' '\x01' '\x02' '\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01' '\xfe\xff\xff\xff\x0f' '\x80' '\xc3\xa4' '\x0d' '\x0a' '\x0b' '\x0c'
			;;
	esac
done
