# lakehouse: a PGXS extension. "make", "make install" and "make installcheck"
# behave as for every PostgreSQL extension; "make demo" and "make test" need
# nothing but Debian, git, make and root or sudo.

EXTENSION    = lakehouse
EXTVERSION   = $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" lakehouse.control)
MODULE_big   = lakehouse
OBJS         = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c src/*/*.c)))
INSTALL_SQL  = $(sort $(wildcard sql/install/*.sql))
DATA_built   = sql/lakehouse--$(EXTVERSION).sql
PGFILEDESC   = "lakehouse - medallion pipelines in one database"

PG_CPPFLAGS  = -I$(CURDIR)/src
SHLIB_LINK   = -lrdkafka

# Bitcode for JIT inlining would double the build time and is never used: the
# functions here are called once for a batch, not once for a row.
override with_llvm = no

PG_CONFIG   ?= pg_config
PGXS        := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
include $(PGXS)

$(DATA_built): $(INSTALL_SQL) lakehouse.control
	cat $(INSTALL_SQL) > $@

$(OBJS): $(wildcard src/*.h src/*/*.h)
