#!/usr/bin/env bash
# install.sh: Apache Kafka for the tests, from Maven Central by Maven.
#
# Prints the directory that holds it: lib/ with Kafka and all it needs, older/
# with the same of an older release, classes/ with the compiled driver. It lies in a cache outside of the repository,
# LAKEHOUSE_CACHE or else $XDG_CACHE_HOME/lakehouse or ~/.cache/lakehouse; once
# it is full, nothing is fetched and Maven is not needed any more.
# Status 3 and a reason on standard error: it cannot be had here.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${LAKEHOUSE_CACHE:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/lakehouse}
dir=$cache/kafka

lacks() { echo "$1" >&2; exit 3; }

# version prints a version that the pom names.
version() { sed -n "s|.*<$1>\(.*\)</$1>.*|\1|p" "$here/pom.xml"; }

# resolve fills the directory $1 with the release $2.
resolve() {
	command -v mvn >/dev/null || lacks "Maven is not installed"
	rm -rf "$dir/new" "${dir:?}/$1"
	if ! (cd "$cache" && timeout 900 mvn -B -q -ntp -f "$here/pom.xml" "-Dmaven.repo.local=$cache/maven" "-Dkafka.version=$2" \
		dependency:copy-dependencies -DincludeScope=runtime "-DoutputDirectory=$dir/new") >"$dir/maven.log" 2>&1 </dev/null; then
		tail -n 5 "$dir/maven.log" | sed 's/\x1b\[[0-9;]*m//g' >&2
		lacks "Maven could not fetch Apache Kafka $2 (is Maven Central reachable?)"
	fi
	mv "$dir/new" "$dir/$1"
}

# compile makes the driver anew; another run may use the old one meanwhile.
compile() {
	rm -rf "$dir/classes.new"
	java -XX:TieredStopAtLevel=1 -cp "$dir/lib/*" org.eclipse.jdt.internal.compiler.batch.Main \
		-17 -nowarn -cp "$(printf '%s:' "$dir"/lib/*.jar)" -d "$dir/classes.new" "$here"/*.java >&2 ||
		lacks "the driver does not compile"
	rm -rf "$dir/classes"
	mv "$dir/classes.new" "$dir/classes"
	cat "$here"/*.java >"$dir/classes/source"
}

command -v java >/dev/null || lacks "Java is not installed"
java_version=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
[ "${java_version:-0}" -ge 17 ] || lacks "Java 17 is needed, this is Java ${java_version:-of an unknown version}"
mkdir -p "$dir"
exec 9>"$cache/.lock"
flock 9
if ! cmp -s "$here/pom.xml" "$dir/pom.xml"; then
	resolve lib "$(version kafka.version)"
	resolve older "$(version kafka.older.version)"
	cp "$here/pom.xml" "$dir/pom.xml"
fi
cat "$here"/*.java | cmp -s - "$dir/classes/source" || compile
echo "$dir"
