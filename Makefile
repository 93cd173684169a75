# lakehouse: a PGXS extension. "make", "make install" and "make installcheck"
# behave as for every PostgreSQL extension; "make demo" and "make test" need
# nothing but Debian, git, make and root or sudo.

EXTENSION    = lakehouse
EXTVERSION   = $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" lakehouse.control)
MODULE_big   = lakehouse
OBJS         = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c src/*/*.c)))
INSTALL_SQL  = $(sort $(wildcard sql/install/*.sql))
DATA         = $(sort $(wildcard sql/lakehouse--*--*.sql))
DATA_built   = sql/lakehouse--$(EXTVERSION).sql
PGFILEDESC   = "lakehouse - medallion pipelines in one database"

# The server must have been started with lakehouse and pg_cron preloaded.
REGRESS        = $(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql)))
REGRESS_OPTS   = --inputdir=test --load-extension=lakehouse
ISOLATION      = $(patsubst test/isolation/specs/%.spec,%,$(sort $(wildcard test/isolation/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test/isolation --load-extension=lakehouse
EXTRA_CLEAN    = results output_iso

PG_CPPFLAGS  = -I$(CURDIR)/src $(if $(FAULTS),-DLH_FAULTS)
SHLIB_LINK   = $(shell pkg-config --libs rdkafka 2>/dev/null)
HTTP_LIBS    = $(shell pkg-config --libs libcurl 2>/dev/null)
# for compressed files; bzip2 brings nothing for pkg-config
ZIP_LIBS     = $(shell pkg-config --libs zlib libzstd liblz4 2>/dev/null)
BZ2_LIBS     = $(shell printf '\043include <bzlib.h>\n' | $(CC) -E - >/dev/null 2>&1 && echo -lbz2)

# Bitcode for JIT inlining would double the build time and is never used: the
# functions here are called once for a batch, not once for a row.
override with_llvm = no

PG_CONFIG   ?= pg_config
PGXS        := $(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null))

# What is missing decides: the first goal must say it, not the compiler. The
# goals of test/setup install what they need by themselves.
ifeq ($(PGXS),)
MISSING = PostgreSQL's server headers (no PGXS found by "$(PG_CONFIG)"): sudo apt-get install postgresql-server-dev-15 librdkafka-dev libcurl4-openssl-dev zlib1g-dev libzstd-dev liblz4-dev libbz2-dev pkg-config gcc, or set PG_CONFIG
else ifeq ($(SHLIB_LINK),)
MISSING = librdkafka's headers (no "rdkafka" found by pkg-config): sudo apt-get install librdkafka-dev pkg-config
else ifeq ($(HTTP_LIBS),)
MISSING = libcurl's headers (no "libcurl" found by pkg-config): sudo apt-get install libcurl4-openssl-dev pkg-config
else ifeq ($(ZIP_LIBS),)
MISSING = the headers of zlib, zstd and lz4 (not all of "zlib", "libzstd" and "liblz4" found by pkg-config): sudo apt-get install zlib1g-dev libzstd-dev liblz4-dev pkg-config
else ifeq ($(BZ2_LIBS),)
MISSING = the header bzlib.h: sudo apt-get install libbz2-dev
endif
SHLIB_LINK  += $(HTTP_LIBS) $(ZIP_LIBS) $(BZ2_LIBS)

ifdef MISSING
.DEFAULT_GOAL := all
all install installcheck:
	@echo 'lakehouse needs $(subst ','\'',$(MISSING))' >&2; exit 1
clean:
	rm -f lakehouse.so $(OBJS) $(DATA_built)
.PHONY: all install installcheck clean
else
include $(PGXS)

$(DATA_built): $(INSTALL_SQL) lakehouse.control
	cat $(INSTALL_SQL) > $@

$(OBJS): $(wildcard src/*.h src/*/*.h)
endif

# Everything below sets itself up: it installs what is missing, builds with
# warnings as errors in a directory of its own and runs PostgreSQL there.
test:
	@MAKELEVEL= MAKEFLAGS= bash test/run.sh

# The SQL tests and those of reading files once more, with the address and
# undefined-behaviour sanitizers.
check-asan:
	@MAKELEVEL= MAKEFLAGS= SANITIZE=1 TESTS="$(or $(TESTS),test/sql/ test/pgtap/ test/isolation/ t/020_ t/021_ t/022_ t/023_ t/024_ t/026_ t/027_)" bash test/run.sh

# Kills sessions, workers and servers while files are loaded, 100 times with
# plain files and 100 times with random sources and files, and 100 times while
# Kafka is read; restarts brokers, moves leaders and kills nodes. What was read
# is compared after each.
kills:
	@MAKELEVEL= MAKEFLAGS= LAKEHOUSE_KILLS=$${LAKEHOUSE_KILLS:-100} STEP_LIMIT=$${STEP_LIMIT:-7200} STEPS=tap \
		TESTS="t/200_ t/026_ t/203_ t/073_ t/074_" bash test/run.sh

# Random sources, files, batches and kills against a model, then kills, for
# SOAK_SECONDS (1800) and 200 kills; a million files in 100,000 directories, which
# take 3 GB of /dev/shm; and messages of 300 MB, which take 6 GB of memory.
soak:
	@MAKELEVEL= MAKEFLAGS= LAKEHOUSE_RANDOM_SECONDS=$${SOAK_SECONDS:-1800} LAKEHOUSE_KILLS=$${LAKEHOUSE_KILLS:-200} \
		LAKEHOUSE_MANY_FILES=$${LAKEHOUSE_MANY_FILES:-1000000} LAKEHOUSE_LARGE_MB=$${LAKEHOUSE_LARGE_MB:-300} \
		STEP_LIMIT=$${STEP_LIMIT:-7200} STEPS=tap TESTS="t/018_ t/026_ t/200_ t/204_" bash test/run.sh

# Fuzzes the readers' scanners for FUZZ_SECONDS (300).
fuzz:
	@MAKELEVEL= MAKEFLAGS= PG_CONFIG="$(PG_CONFIG)" bash test/fuzz/run.sh

bench:
	@MAKELEVEL= MAKEFLAGS= bash test/bench/run.sh

# Writes docs/reference.md anew from the comments in the database.
reference:
	@-MAKELEVEL= MAKEFLAGS= STEPS=tap TESTS=t/130_docs KEEP=1 bash test/run.sh >/dev/null 2>&1
	cp tmp_check/tap/tmp_check/reference.md docs/reference.md

demo:
	@MAKELEVEL= MAKEFLAGS= bash examples/fitness/demo.sh

demo-stop:
	@bash examples/fitness/demo.sh stop

examples/fitness/generate: $(wildcard examples/fitness/generate*.[ch])
	$(CC) -O2 -Wall -Wextra -o $@ $(filter %.c,$^)

.PHONY: test check-asan kills soak fuzz bench reference demo demo-stop
