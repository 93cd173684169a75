# packages.sh: install what a bare Debian lacks, and nothing else.
#
# Sourced after lib.sh. Invariant: no package is installed before its name was
# printed, and a package that is there is not touched.

# lh_server_packages prints what building and running lakehouse needs.
lh_server_packages() {
	local major
	major=$(lh_pg_major)
	echo gcc libc6-dev make pkg-config librdkafka-dev libcurl4-openssl-dev zlib1g-dev libzstd-dev liblz4-dev libbz2-dev \
		"postgresql-$major" "postgresql-server-dev-$major" "postgresql-$major-cron"
}

# lh_test_packages prints what the tests need beyond that.
lh_test_packages() {
	echo "postgresql-$(lh_pg_major)-pgtap" libipc-run-perl \
		libtap-parser-sourcehandler-pgtap-perl perl procps \
		bzip2 gzip lz4 zstd clang libclang-rt-dev python3-avro
}

# lh_kafka_packages prints what test/kafka/install.sh needs to get Apache Kafka,
# where it is missing and may be installed; elsewhere those tests are skipped.
lh_kafka_packages() {
	if command -v java >/dev/null && command -v mvn >/dev/null; then
		return 0
	fi
	if [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null; then
		echo default-jre-headless maven
	fi
}

# lh_missing_packages prints those of its arguments that are not installed.
lh_missing_packages() {
	local package
	for package in "$@"; do
		dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || echo "$package"
	done
}

# lh_install_packages installs the missing ones of its arguments, as root or
# through sudo. Debian's packages would create and start a cluster "main" on
# port 5432; nobody asked for one, so that is switched off for this call.
lh_install_packages() {
	local missing root=() policy=/etc/postgresql-common/createcluster.d/lakehouse-setup.conf
	command -v dpkg-query >/dev/null && command -v apt-get >/dev/null ||
		lh_die "this set-up needs Debian's apt-get; elsewhere install PostgreSQL 15 with its server headers, pg_cron, pgTAP and librdkafka, then use make, make install and make installcheck"
	missing=$(lh_missing_packages "$@" | tr '\n' ' ')
	missing=${missing% }
	[ -n "$missing" ] || return 0

	lh_say "installing: $missing"
	if [ "$(id -u)" -ne 0 ]; then
		command -v sudo >/dev/null || lh_die "these packages are missing: $missing" \
			"Become root or install sudo, or ask for: apt-get install $missing"
		root=(sudo)
	fi
	local apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0)
	"${apt[@]}" update </dev/null || lh_die "apt-get update failed"
	if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
		"${root[@]}" mkdir -p "${policy%/*}"
		echo "create_main_cluster = false" | "${root[@]}" tee "$policy" >/dev/null
	fi
	# word splitting wanted: one argument a package
	# shellcheck disable=SC2086
	if ! "${apt[@]}" install -y --no-install-recommends $missing </dev/null >"${TMPDIR:-/tmp}/lakehouse-apt.$$" 2>&1; then
		cat "${TMPDIR:-/tmp}/lakehouse-apt.$$" >&2
		[ ! -e "$policy" ] || "${root[@]}" rm -f "$policy"
		lh_die "apt-get install failed"
	fi
	rm -f "${TMPDIR:-/tmp}/lakehouse-apt.$$"
	[ ! -e "$policy" ] || "${root[@]}" rm -f "$policy"
}
