#!/usr/bin/env bash
# install.sh: Apache Kafka for the tests, from Maven Central by Maven.
#
# Prints the directory that holds it: lib/ with Kafka and all it needs, classes/
# with the compiled KafkaDriver. It lies in a cache outside of the repository,
# LAKEHOUSE_CACHE or else $XDG_CACHE_HOME/lakehouse or ~/.cache/lakehouse; once
# it is full, nothing is fetched and Maven is not needed any more.
# Status 3 and a reason on standard error: it cannot be had here.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${LAKEHOUSE_CACHE:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/lakehouse}
version=$(sed -n 's|.*<kafka.version>\(.*\)</kafka.version>.*|\1|p' "$here/pom.xml")
dir=$cache/kafka-$version

lacks() { echo "$1" >&2; exit 3; }

# resolve fills lib/ as the pom says.
resolve() {
	local new=$dir/lib.new
	command -v mvn >/dev/null || lacks "Maven is not installed"
	rm -rf "$new"
	if ! (cd "$cache" && timeout 900 mvn -B -q -ntp -f "$here/pom.xml" "-Dmaven.repo.local=$cache/maven" \
		dependency:copy-dependencies -DincludeScope=runtime "-DoutputDirectory=$new") >"$dir/maven.log" 2>&1 </dev/null; then
		tail -n 5 "$dir/maven.log" >&2
		lacks "Maven could not fetch Apache Kafka $version (is Maven Central reachable?)"
	fi
	rm -rf "$dir/lib"
	mv "$new" "$dir/lib"
	cp "$here/pom.xml" "$dir/pom.xml"
}

# compile makes the driver anew.
compile() {
	rm -rf "$dir/classes"
	java -XX:TieredStopAtLevel=1 -cp "$dir/lib/*" org.eclipse.jdt.internal.compiler.batch.Main \
		-17 -nowarn -cp "$(printf '%s:' "$dir"/lib/*.jar)" -d "$dir/classes.new" "$here"/*.java >&2 ||
		lacks "the driver does not compile"
	mv "$dir/classes.new" "$dir/classes"
	cat "$here"/*.java >"$dir/classes/source"
}

command -v java >/dev/null || lacks "Java is not installed"
java_version=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
[ "${java_version:-0}" -ge 17 ] || lacks "Java 17 is needed, this is Java ${java_version:-of an unknown version}"
mkdir -p "$dir"
exec 9>"$cache/.lock"
flock 9
cmp -s "$here/pom.xml" "$dir/pom.xml" || resolve
cat "$here"/*.java | cmp -s - "$dir/classes/source" || compile
echo "$dir"
