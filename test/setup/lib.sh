# lib.sh: what "make test", "make bench" and "make demo" share.
#
# Sourced by bash with -u. PostgreSQL refuses to run as root, so everything
# that runs it goes through lh_as_user; everything written lies in one
# directory that this user owns and that lh_stop_below can empty of processes.

# ------------------------------------------------------------------ messages
lh_say() { printf '== %s\n' "$*"; }

# lh_die ends the script: first argument what happened, others what to do.
lh_die() {
	printf 'error: %s\n' "$1" >&2
	shift
	[ $# -eq 0 ] || printf '  %s\n' "$@" >&2
	exit 1
}

# ---------------------------------------------------------- which PostgreSQL
# lh_pg_major prints the major version to use: that of PG_CONFIG if it was
# given, otherwise Debian's.
lh_pg_major() {
	local codename=
	if [ -n "${PG_CONFIG:-}" ] && command -v "$PG_CONFIG" >/dev/null; then
		"$PG_CONFIG" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/'
		return
	fi
	[ ! -r /etc/os-release ] || codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	case $codename in
		trixie) echo 17 ;;
		*) echo 15 ;;
	esac
}

# lh_pg_config prints the pg_config of that version's installation.
lh_pg_config() {
	if [ -n "${PG_CONFIG:-}" ] && command -v "$PG_CONFIG" >/dev/null; then
		command -v "$PG_CONFIG"
	else
		echo "/usr/lib/postgresql/$(lh_pg_major)/bin/pg_config"
	fi
}

# -------------------------------------------------------------- unprivileged
# lh_user prints who runs PostgreSQL: oneself, or for root the user postgres.
lh_user() {
	if [ "$(id -u)" -ne 0 ]; then
		id -un
	elif getent passwd postgres >/dev/null; then
		echo postgres
	else
		getent passwd lakehouse-test >/dev/null ||
			useradd --system --no-create-home --home-dir /nonexistent --shell /bin/bash lakehouse-test
		echo lakehouse-test
	fi
}

# lh_as_user runs a command as that user: in the current directory, or in / if
# the user may not be there. PATH and the other exported variables are kept,
# HOME is not.
lh_as_user() {
	local user
	if [ "$(id -u)" -ne 0 ]; then
		"$@"
	else
		user=$(lh_user)
		HOME=/tmp USER=$user LOGNAME=$user setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups -- \
			sh -c 'cd "$0" 2>/dev/null || cd /; exec "$@"' "$PWD" "$@"
	fi
}

# lh_make_home makes the directory $1 anew, owned by the unprivileged user, and
# prints its real path. Where that user cannot reach it (a clone beneath /root),
# the directory is made in /tmp and $1 becomes a link to it.
lh_make_home() {
	local wanted=$1 real
	lh_remove_home "$wanted"
	mkdir -p "$wanted"
	if [ "$(id -u)" -eq 0 ]; then
		chown "$(lh_user):" "$wanted"
		if ! lh_as_user test -w "$wanted" 2>/dev/null || ! (cd / && lh_as_user ls "$wanted" >/dev/null 2>&1); then
			rmdir "$wanted"
			real=$(mktemp -d /tmp/lakehouse.XXXXXXXX)
			chown "$(lh_user):" "$real"
			ln -s "$real" "$wanted"
		fi
	fi
	(cd -P "$wanted" && pwd)
}

# lh_remove_home ends what still runs beneath the directory and removes it.
lh_remove_home() {
	local real
	[ -e "$1" ] || [ -L "$1" ] || return 0
	if real=$(cd -P "$1" 2>/dev/null && pwd); then
		lh_stop_below "$real"
		rm -rf -- "$real"
	fi
	rm -rf -- "$1"
}

# ----------------------------------------------------------------- processes
# lh_processes_below prints the ids of processes whose program or working
# directory lies beneath the directory $1: the servers, brokers and clients
# that were started for it, and no others.
lh_processes_below() {
	local proc link
	for proc in /proc/[0-9]*; do
		[ "${proc#/proc/}" != "$$" ] && [ "${proc#/proc/}" != "${BASHPID:-0}" ] || continue
		for link in exe cwd; do
			case $(readlink "$proc/$link" 2>/dev/null) in
				"$1"/*) echo "${proc#/proc/}"; break ;;
			esac
		done
	done
}

# lh_stop_below ends them: postmasters first and in order, then what is left.
lh_stop_below() {
	local file pid deadline
	while read -r file; do
		pid=$(head -n 1 "$file" 2>/dev/null) && [ -n "$pid" ] || continue
		[ "$(readlink "/proc/$pid/cwd")" != "${file%/postmaster.pid}" ] || kill -QUIT "$pid" 2>/dev/null || true
	done < <(find "$1" -name postmaster.pid -type f 2>/dev/null)
	deadline=$((SECONDS + 5))
	while [ -n "$(lh_processes_below "$1")" ] && [ "$SECONDS" -lt "$deadline" ]; do
		for pid in $(lh_processes_below "$1"); do
			kill -TERM "$pid" 2>/dev/null || true
		done
		sleep 0.2
	done
	for pid in $(lh_processes_below "$1"); do
		kill -KILL "$pid" 2>/dev/null || true
	done
}

# lh_free_port prints a TCP port that nobody listens on, on loopback.
lh_free_port() {
	perl -MIO::Socket::INET -e '
		my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", Proto => "tcp", Listen => 1) or die;
		print $s->sockport, "\n"'
}

# --------------------------------------------------------------- build, copy
# lh_copy_tree copies the sources from $1 to $2, without what was built there,
# so that no stale object decides a result.
lh_copy_tree() {
	mkdir -p "$2"
	tar -C "$1" --exclude=./.git --exclude=./tmp_check --exclude=./.demo --exclude=./.bench --exclude=./.fuzz \
		--exclude='*.o' --exclude='*.so' --exclude='*.bc' --exclude='./sql/lakehouse--*.sql' \
		--exclude=./results --exclude=./output_iso --exclude=./log --exclude=./build \
		--exclude=./test/kafka/mock_broker --exclude=./test/kafka/kafka_produce --exclude=./examples/fitness/generate -cf - . | tar -C "$2" -xf -
}

# lh_private_pg copies the PostgreSQL installation beneath $1 and prints the
# copy's pg_config. PostgreSQL finds its files relative to its programs, so the
# copy is complete: "make install" into it leaves the machine as it was.
lh_private_pg() {
	local config major bin share into=$1
	config=$(lh_pg_config)
	major=$(lh_pg_major)
	bin=$("$config" --bindir)
	share=$("$config" --sharedir)
	mkdir -p "$into/include" "$into/lib/postgresql" "$into/share/postgresql"
	cp -a "${bin%/bin}" "$into/lib/postgresql/$major"
	cp -aL "$share" "$into/share/postgresql/$major"
	[ ! -e "${share%/*/*}/postgresql-common" ] || ln -s "${share%/*/*}/postgresql-common" "$into/share/postgresql-common"
	ln -s "$("$config" --includedir)" "$into/include/postgresql"
	# a link that leads out of the copy by a relative path would dangle
	find "$into/share" -xtype l -delete
	bin=$into/lib/postgresql/$major/bin
	[ "$("$bin/pg_config" --pkglibdir)" = "$into/lib/postgresql/$major/lib" ] ||
		lh_die "the copy of PostgreSQL in $into does not find its own files" \
			"$config --pkglibdir must lie beneath its own directory, as in Debian's packages"
	echo "$bin/pg_config"
}

# lh_build builds and installs the sources in $1 for the pg_config $2; further
# arguments go to make.
lh_build() {
	local tree=$1 config=$2 log
	shift 2
	log=$tree/build.log
	if ! { make -C "$tree" -j"${JOBS:-$(nproc)}" PG_CONFIG="$config" "$@" &&
		make -C "$tree" install PG_CONFIG="$config" "$@"; } >"$log" 2>&1; then
		tail -n 60 "$log" >&2
		lh_die "the build failed; the whole output is in $log"
	fi
}

# ------------------------------------------------------------------- cluster
# lh_start_cluster starts a new cluster: $1 directory of programs, $2 directory
# for it, $3 port, then words to put before pg_ctl (env with variables of the
# server); further settings come from standard input. It trusts whoever
# reaches it, so it listens only on a socket in $2, which is closed to others,
# or on loopback where that path is too long for a socket. Sets LH_HOST.
lh_start_cluster() {
	local bin=$1 dir=$2 port=$3 listen= socket=$2
	shift 3
	lh_as_user mkdir -p -m 700 "$dir"
	lh_as_user "$bin/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 -N >"$dir/initdb.log" 2>&1 ||
		{ cat "$dir/initdb.log" >&2; lh_die "initdb failed"; }
	LH_HOST=$dir
	if [ "${#dir}" -gt 85 ]; then
		LH_HOST=127.0.0.1
		listen=127.0.0.1
		socket=
	fi
	{
		cat <<-END
			port = $port
			listen_addresses = '$listen'
			unix_socket_directories = '$socket'
			shared_preload_libraries = 'lakehouse,pg_cron'
			cron.database_name = 'postgres'
			cron.host = '$LH_HOST'
			max_worker_processes = 32
		END
		cat
	} | lh_as_user tee -a "$dir/data/postgresql.conf" >/dev/null
	(cd "$dir" && lh_as_user "$@" "$bin/pg_ctl" -s -w -D "$dir/data" -l "$dir/server.log" start) </dev/null >/dev/null ||
		{ tail -n 20 "$dir/server.log" >&2; lh_die "the server did not start"; }
}

# lh_stop_cluster stops the cluster in $2 with the programs in $1.
lh_stop_cluster() {
	(cd "$2" && lh_as_user "$1/pg_ctl" -s -w -m fast -D "$2/data" stop) || true
}
