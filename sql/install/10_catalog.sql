-- The catalog: what there is (source, flow, job), what arrived (load, file,
-- kafka_offset, reject), what is waiting (pending) and what was done
-- (flow_run, job_run, task_run). Identifiers come from sequences that are
-- dumped with the tables. No foreign keys between these tables: a parallel
-- restore loads them in any order.

-- ---------------------------------------------------------------- sources
CREATE SEQUENCE lakehouse.source_id_seq AS integer;
CREATE TABLE lakehouse.source (
    source_id     integer PRIMARY KEY DEFAULT pg_catalog.nextval('lakehouse.source_id_seq'),
    name          text NOT NULL UNIQUE,
    owner         regrole NOT NULL,
    server        name NOT NULL,
    kind          text NOT NULL CHECK (kind IN ('files', 'kafka')),
    target        regclass NOT NULL,
    format        text,                       -- files: csv, json, text, binary
    path          text,                       -- files: glob beneath the server's directory
    topics        text[],                     -- kafka: topic names
    options       jsonb NOT NULL DEFAULT '{}',
    trigger       text NOT NULL DEFAULT 'available_now' CHECK (trigger IN ('available_now', 'continuous')),
    paused        text,                       -- NULL = active, otherwise the reason
    home          text NOT NULL,              -- system identifier and database oid where it may run
    created       timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);

-- What the last runs of a source did; apart from the definition because it
-- changes with every batch.
CREATE TABLE lakehouse.source_state (
    source_id     integer PRIMARY KEY,
    last_success  timestamptz,
    last_failure  timestamptz,
    failures      integer NOT NULL DEFAULT 0, -- in a row
    crashes       integer NOT NULL DEFAULT 0, -- times in a row that a worker began and did not end
    sqlstate      text,                       -- of the last failure while failures > 0
    error         text,
    retry_at      timestamptz,
    clean_failures integer NOT NULL DEFAULT 0, -- of its clean-up as a whole, in a row
    clean_sqlstate text,
    clean_error    text,
    clean_retry_at timestamptz,
    publish_error text                        -- kafka: why the group could not be told positions
);

CREATE SEQUENCE lakehouse.file_id_seq;
-- What a pass over all entries reads comes first: it is a matter of microseconds
-- for each of a million.
CREATE TABLE lakehouse.file (
    file_id       bigint PRIMARY KEY DEFAULT pg_catalog.nextval('lakehouse.file_id_seq'),
    size          bigint NOT NULL,
    mtime_ns      bigint NOT NULL,            -- epoch nanoseconds: timestamptz is coarser than the file system
    source_id     integer NOT NULL,
    version       integer NOT NULL DEFAULT 1, -- a changed file that is loaded as a whole again is another entry
    ended         timestamptz,                -- when another version took its place
    seen_size     bigint,                     -- what a listing found that the entry does not have yet
    seen_mtime_ns bigint,
    path          text COLLATE pg_catalog."C" NOT NULL, -- beneath the server's directory
    state         text NOT NULL CHECK (state IN ('discovered', 'loading', 'loaded', 'failed', 'skipped', 'changed', 'superseded', 'replaced', 'undone', 'duplicate')),
    sqlstate      text,
    mtime         timestamptz NOT NULL,
    hash          bigint,                     -- of the bytes up to "position"
    hash_blocks   bigint,                     -- of the whole blocks among them, to go on from
    by_name       boolean NOT NULL DEFAULT false, -- waits for its turn by name, not by time
    replaces      boolean NOT NULL DEFAULT false, -- rows of earlier versions go when this one is loaded
    "position"    bigint NOT NULL DEFAULT 0,  -- bytes loaded, or on the list of ranges (resume position)
    line          bigint NOT NULL DEFAULT 0,  -- lines of these
    header        text,                       -- CSV header line of a file that is loaded in parts
    rows          bigint NOT NULL DEFAULT 0,
    rejected      bigint NOT NULL DEFAULT 0,
    attempts      integer NOT NULL DEFAULT 0,
    error         text,
    retry_at      timestamptz,
    content       bytea,                      -- SHA-256 of the file, if it is the one of the source that is loaded
    duplicate_of  bigint,                     -- the entry that had the same content, while the state is duplicate
    discovered    timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    loaded        timestamptz
);
CREATE UNIQUE INDEX file_path ON lakehouse.file (source_id, path) WHERE ended IS NULL;
CREATE UNIQUE INDEX file_content ON lakehouse.file (source_id, content) WHERE content IS NOT NULL;
CREATE INDEX file_duplicate ON lakehouse.file (source_id, duplicate_of) WHERE duplicate_of IS NOT NULL;
CREATE INDEX file_ended ON lakehouse.file (source_id, path, version) WHERE ended IS NOT NULL;
CREATE INDEX file_waiting ON lakehouse.file (source_id, (CASE WHEN by_name THEN 0 ELSE mtime_ns END), path)
 WHERE state IN ('discovered', 'loading', 'failed');

-- What looking for files came to, of each source of files.
CREATE TABLE lakehouse.discovery (
    source_id     integer PRIMARY KEY,
    watched       boolean,                    -- the system tells all that happens
    directories   integer NOT NULL DEFAULT 0, -- that are watched
    listings      bigint NOT NULL DEFAULT 0,
    listed        timestamptz,                -- the last one: when, how long, what
    listing_ms    double precision,
    listed_files  bigint,
    unmarked      bigint,
    unreadable    text[],
    looks         bigint NOT NULL DEFAULT 0,  -- at what the system told of
    looked_at     bigint NOT NULL DEFAULT 0,  -- names in these
    found_told    bigint NOT NULL DEFAULT 0,  -- files new to the ledger
    found_listed  bigint NOT NULL DEFAULT 0,
    found_backfill bigint NOT NULL DEFAULT 0  -- of these, though all is watched
);

-- Ranges of large files that workers who share a source load side by side: what
-- of the bytes before "position" of the file is not loaded yet.
CREATE TABLE lakehouse.file_range (
    source_id      integer NOT NULL,
    file_id        bigint NOT NULL,
    first_position bigint NOT NULL,           -- bytes [first, last): both are record boundaries
    last_position  bigint NOT NULL,
    line           bigint NOT NULL,           -- lines before the first byte
    header         text,                      -- CSV header line, or where the read of another format stands
    PRIMARY KEY (source_id, file_id, first_position)
);

-- What becomes of loaded files of sources with option clean_source. "acting" is
-- the intent, committed before anything happens to the file.
CREATE TABLE lakehouse.file_clean (
    file_id       bigint PRIMARY KEY,
    source_id     integer NOT NULL,
    mode          text NOT NULL CHECK (mode IN ('move', 'delete')), -- as it was when the file was loaded
    state         text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'acting', 'moved', 'deleted', 'left')),
    due           timestamptz,                -- not before; NULL = finished
    target        text,                       -- path that it is moved to, or was
    attempts      integer NOT NULL DEFAULT 0,
    sqlstate      text,
    error         text,
    finished      timestamptz
);
CREATE INDEX file_clean_due ON lakehouse.file_clean (source_id, due) WHERE due IS NOT NULL;

-- What sources changed of their targets.
CREATE SEQUENCE lakehouse.schema_change_id_seq;
CREATE TABLE lakehouse.schema_change (
    change_id     bigint PRIMARY KEY DEFAULT pg_catalog.nextval('lakehouse.schema_change_id_seq'),
    source_id     integer NOT NULL,
    relation      regclass NOT NULL,
    file_id       bigint,                     -- in which the new field was found
    change        text NOT NULL CHECK (change IN ('column added', 'column widened', 'widening pending')),
    column_name   text NOT NULL,
    column_type   text NOT NULL,              -- that it was given, or would need
    old_type      text,                       -- unless it was added
    reason        text,                       -- why it is pending
    pending       boolean NOT NULL DEFAULT false, -- not to be tried again until a person acts
    changed       timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE INDEX schema_change_source ON lakehouse.schema_change (source_id, change_id);

-- What people decided about single files.
CREATE SEQUENCE lakehouse.file_action_id_seq;
CREATE TABLE lakehouse.file_action (
    action_id     bigint PRIMARY KEY DEFAULT pg_catalog.nextval('lakehouse.file_action_id_seq'),
    source_id     integer NOT NULL,
    path          text NOT NULL,
    action        text NOT NULL CHECK (action IN ('reingest', 'skip', 'undo')),
    rows          bigint,                     -- undo: deleted
    role          regrole NOT NULL,           -- who did it
    done          timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE INDEX file_action_source ON lakehouse.file_action (source_id, path);

CREATE TABLE lakehouse.kafka_offset (
    source_id      integer NOT NULL,
    topic          text NOT NULL,
    "partition"    integer NOT NULL,
    next_offset    bigint NOT NULL,           -- the next offset to read
    end_offset     bigint,                    -- end of the partition when last looked (last stable offset)
    high_offset    bigint,                    -- its end with transactions that are not finished
    low_offset     bigint,                    -- oldest offset the broker still had
    last_offset    bigint,                    -- last record loaded, to recognise a recreated topic
    last_timestamp bigint,                    -- its Kafka timestamp (milliseconds)
    last_hash      bigint,                    -- and a hash of its key and value
    last_epoch     integer,                   -- epoch of its leader, where librdkafka tells it
    topic_id       text,                      -- id of the topic that was read, likewise
    rows           bigint NOT NULL DEFAULT 0,
    rejected       bigint NOT NULL DEFAULT 0,
    bytes          bigint NOT NULL DEFAULT 0, -- keys and values
    row_rate       float8 NOT NULL DEFAULT 0, -- a second, as of "updated"
    byte_rate      float8 NOT NULL DEFAULT 0,
    last_fetch     timestamptz,               -- when a record, or the end of the partition, came last
    caught_up      timestamptz,               -- when nothing was known to be left
    sqlstate       text,                      -- set while the partition is stopped
    error          text,
    since          timestamptz,               -- when it stopped
    updated        timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (source_id, topic, "partition")
);

-- Which of several workers reads a partition; written by the scheduler alone.
CREATE TABLE lakehouse.kafka_share (
    source_id      integer NOT NULL,
    topic          text NOT NULL,
    "partition"    integer NOT NULL,
    worker         integer NOT NULL,          -- its number, from 0
    PRIMARY KEY (source_id, topic, "partition")
);

-- Ranges of a topic that a source went past without reading them, because they
-- were not there any more.
CREATE SEQUENCE lakehouse.kafka_loss_id_seq;
CREATE TABLE lakehouse.kafka_loss (
    loss_id        bigint PRIMARY KEY DEFAULT pg_catalog.nextval('lakehouse.kafka_loss_id_seq'),
    source_id      integer NOT NULL,
    topic          text NOT NULL,
    "partition"    integer NOT NULL,
    first_offset   bigint NOT NULL,
    next_offset    bigint NOT NULL,
    resumed_offset bigint NOT NULL,           -- where reading went on
    reason         text NOT NULL,
    found          timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE INDEX ON lakehouse.kafka_loss (source_id);

CREATE SEQUENCE lakehouse.reject_id_seq;
CREATE TABLE lakehouse.reject (
    reject_id     bigint PRIMARY KEY DEFAULT pg_catalog.nextval('lakehouse.reject_id_seq'),
    source_id     integer,
    flow_id       integer,
    load_id       bigint NOT NULL,
    file_id       bigint,
    line          bigint,                     -- first line of the record, from 1
    byte_offset   bigint,                     -- first byte of the record, from 0
    topic         text,
    "partition"   integer,
    "offset"      bigint,
    raw           bytea,                      -- the record as it stood; Kafka: its value
    raw_cut       boolean NOT NULL DEFAULT false, -- not all of it is kept
    key           bytea,                      -- Kafka
    headers       jsonb,                      -- Kafka: [{"key": text, "value": text}, ...], "key_base64" and "value_base64" where it is no text
    timestamp_ms  bigint,                     -- Kafka: since 1970; -1 = none
    timestamp_type integer,                   -- Kafka: 0 = set by the producer, 1 = by the broker, -1 = none;
                                              -- NULL = key, headers and timestamp were not kept
    stage         text NOT NULL CHECK (stage IN ('parse', 'convert', 'store', 'merge')),
    sqlstate      text NOT NULL,
    message       text NOT NULL,
    column_name   text,
    rejected_at   timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    state         text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'dropped', 'resolved', 'stored')),
    replayed_at   timestamptz,                -- last replay
    replayed_load bigint                      -- resolved: the load that stored the record
);
CREATE INDEX reject_source ON lakehouse.reject (source_id, load_id);
CREATE INDEX reject_file ON lakehouse.reject (file_id) WHERE file_id IS NOT NULL;
CREATE INDEX reject_flow ON lakehouse.reject (flow_id, load_id) WHERE flow_id IS NOT NULL;

-- ------------------------------------------------------------ loads, delta
CREATE SEQUENCE lakehouse.load_id_seq;
CREATE TABLE lakehouse.load (
    load_id        bigint PRIMARY KEY,
    relation       regclass NOT NULL,
    kind           text NOT NULL CHECK (kind IN ('file', 'kafka', 'flow', 'user')),
    source_id      integer,
    flow_id        integer,
    file_id        bigint,
    first_position bigint,                    -- file: bytes [first, last)
    last_position  bigint,
    offsets        jsonb,                     -- kafka: {"topic": {"partition": [first, next]}}
    rows           bigint,                    -- NULL for a user's transaction: not counted
    rejected       bigint NOT NULL DEFAULT 0,
    rescued        bigint NOT NULL DEFAULT 0, -- rows with rescued data
    bytes          bigint,
    header         text,                      -- file: its CSV header, if records of the load were rejected
    role           regrole NOT NULL,          -- who wrote it
    started        timestamptz NOT NULL,
    finished       timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    undone         timestamptz                -- when its rows and rejects were taken back
);
CREATE INDEX load_relation ON lakehouse.load (relation, load_id);
CREATE INDEX load_file ON lakehouse.load (file_id) WHERE file_id IS NOT NULL;
CREATE INDEX load_source ON lakehouse.load (source_id, load_id) WHERE source_id IS NOT NULL;

-- Values that a load put into the column for rescued data, by field. They stay
-- as long as the load's row.
CREATE TABLE lakehouse.rescued (
    load_id        bigint NOT NULL,
    column_name    text,                      -- field; NULL for all beyond the first 200
    reason         text NOT NULL CHECK (reason IN ('unknown_column', 'type_mismatch', 'duplicate', 'case_mismatch')),
    count          bigint NOT NULL
);
CREATE INDEX rescued_load ON lakehouse.rescued (load_id);

-- Tables that carry _load_id. old_images is set while some flow needs to see
-- what updated and deleted rows looked like.
CREATE TABLE lakehouse.managed_table (
    relation      regclass PRIMARY KEY,
    old_images    regclass
);

-- What a flow has not yet consumed: one row for each load of each streaming
-- input, written in the load's own transaction.
CREATE TABLE lakehouse.pending (
    flow_id       integer NOT NULL,
    input         regclass NOT NULL,
    load_id       bigint NOT NULL,
    PRIMARY KEY (flow_id, load_id, input)
);

-- Targets that are merged by sequence: the side table that remembers deleted
-- keys, and what it was made for. live: it also holds the sequence of the keys
-- that are there, because the target does not.
CREATE TABLE lakehouse.merge_target (
    relation      regclass PRIMARY KEY,
    tombstones    regclass NOT NULL,
    keys          text[] NOT NULL,
    sequence_by   text[] NOT NULL,
    live          boolean NOT NULL
);

-- ------------------------------------------------------------------- flows
CREATE SEQUENCE lakehouse.flow_id_seq AS integer;
CREATE TABLE lakehouse.flow (
    flow_id        integer PRIMARY KEY DEFAULT pg_catalog.nextval('lakehouse.flow_id_seq'),
    name           text NOT NULL UNIQUE,
    owner          regrole NOT NULL,
    target         regclass NOT NULL,          -- kafka, upsert_kafka: lakehouse.outbox
    mode           text NOT NULL CHECK (mode IN ('append', 'insert_only', 'upsert', 'scd1', 'aggregate', 'complete', 'sql', 'kafka', 'upsert_kafka')),
    query          text NOT NULL,
    keys           text[] NOT NULL DEFAULT '{}',
    sequence_by    text[] NOT NULL DEFAULT '{}',
    delete_when    text,
    except_columns text[] NOT NULL DEFAULT '{}',
    trigger        text NOT NULL DEFAULT 'auto' CHECK (trigger IN ('auto', 'available_now', 'continuous')),
    max_loads      integer NOT NULL DEFAULT 1000 CHECK (max_loads > 0),
    path           text NOT NULL,              -- search_path that the query was written under
    tombstones     regclass,                   -- scd1: keys that were deleted, with their sequence
    options        jsonb NOT NULL DEFAULT '{}',
    server         name,                       -- kafka, upsert_kafka: where its messages go
    topic          text,
    paused         text,
    created        timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);

CREATE TABLE lakehouse.flow_input (
    flow_id       integer NOT NULL,
    input         regclass NOT NULL,
    streaming     boolean NOT NULL,
    PRIMARY KEY (flow_id, input)
);
CREATE INDEX flow_input_input ON lakehouse.flow_input (input) WHERE streaming;

CREATE TABLE lakehouse.flow_state (
    flow_id       integer PRIMARY KEY,
    last_success  timestamptz,
    last_failure  timestamptz,
    failures      integer NOT NULL DEFAULT 0,
    sqlstate      text,
    error         text,
    retry_at      timestamptz
);

CREATE SEQUENCE lakehouse.flow_run_id_seq;
CREATE TABLE lakehouse.flow_run (
    run_id        bigint PRIMARY KEY DEFAULT pg_catalog.nextval('lakehouse.flow_run_id_seq'),
    flow_id       integer NOT NULL,
    technique     text NOT NULL,
    loads         integer NOT NULL,            -- pending loads consumed
    rows_in       bigint,                      -- rows the delta gave
    inserted      bigint NOT NULL DEFAULT 0,
    updated       bigint NOT NULL DEFAULT 0,
    deleted       bigint NOT NULL DEFAULT 0,
    rejected      bigint NOT NULL DEFAULT 0,
    load_id       bigint,                      -- what it wrote; NULL when nothing changed
    started       timestamptz NOT NULL,
    finished      timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE INDEX flow_run_flow ON lakehouse.flow_run (flow_id, run_id);

-- ------------------------------------------------------------------ outbox
-- What transactions want to be in Kafka, until the cluster has it. A batch is
-- what one transaction has for one server in the name of one role; its
-- commit_order is that in which transactions with common keys committed.
CREATE SEQUENCE lakehouse.outbox_batch_id_seq;
CREATE SEQUENCE lakehouse.outbox_commit_order_seq;
CREATE TABLE lakehouse.outbox_batch (
    batch_id      bigint PRIMARY KEY,
    server        name NOT NULL,
    owner         regrole NOT NULL,           -- who sends: whose user mapping is used
    home          text NOT NULL,              -- as source.home: a copied database does not send it too
    commit_order  bigint NOT NULL,
    committed     timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE INDEX outbox_batch_order ON lakehouse.outbox_batch (server, owner, commit_order);

CREATE SEQUENCE lakehouse.outbox_message_id_seq;
CREATE TABLE lakehouse.outbox (
    message_id    bigint NOT NULL DEFAULT pg_catalog.nextval('lakehouse.outbox_message_id_seq'),
    batch_id      bigint NOT NULL,
    topic         text NOT NULL,
    "partition"   integer,                    -- NULL = by key
    key           bytea,                      -- NULL = none, and in no order
    key_hash      integer,                    -- of topic and key; NULL as the key
    value         bytea,                      -- NULL = tombstone
    headers       jsonb,
    sqlstate      text,                       -- set: the cluster refused it; later ones of its key wait
    error         text,
    failed        timestamptz,
    PRIMARY KEY (batch_id, message_id)
);
CREATE INDEX outbox_failed ON lakehouse.outbox (key_hash) WHERE sqlstate IS NOT NULL;

-- What sending came to: of one topic, or of the whole server (topic '').
CREATE TABLE lakehouse.outbox_state (
    server        name NOT NULL,
    owner         regrole NOT NULL,
    topic         text NOT NULL,
    sent          bigint NOT NULL DEFAULT 0,  -- acknowledged by the cluster
    last_sent     timestamptz,
    last_failure  timestamptz,
    failures      integer NOT NULL DEFAULT 0, -- in a row
    sqlstate      text,                       -- of the last failure while failures > 0
    error         text,
    retry_at      timestamptz,
    PRIMARY KEY (server, owner, topic)
);

-- -------------------------------------------------------------------- jobs
CREATE SEQUENCE lakehouse.job_id_seq AS integer;
CREATE TABLE lakehouse.job (
    job_id        integer PRIMARY KEY DEFAULT pg_catalog.nextval('lakehouse.job_id_seq'),
    name          text NOT NULL UNIQUE,
    owner         regrole NOT NULL,
    definition    jsonb NOT NULL,
    path          text NOT NULL,               -- search_path that its SQL was written under
    schedule      text,                        -- cron expression, for show and for export
    cron_job_id   bigint,
    paused        text,
    created       timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);

CREATE SEQUENCE lakehouse.job_run_id_seq;
CREATE TABLE lakehouse.job_run (
    run_id        bigint PRIMARY KEY DEFAULT pg_catalog.nextval('lakehouse.job_run_id_seq'),
    job_id        integer NOT NULL,
    cause         text NOT NULL CHECK (cause IN ('manual', 'schedule')),
    role          regrole NOT NULL,
    state         text NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'canceled', 'skipped')),
    definition    jsonb NOT NULL,              -- as it was when the run began
    parameters    jsonb NOT NULL DEFAULT '{}',
    error         text,
    home          text NOT NULL,               -- as source.home: a copied database does not go on with it
    queued        timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    started       timestamptz,
    finished      timestamptz
);
CREATE INDEX job_run_job ON lakehouse.job_run (job_id, run_id);
CREATE INDEX job_run_open ON lakehouse.job_run (state) WHERE state IN ('queued', 'running');

CREATE TABLE lakehouse.task_run (
    run_id        bigint NOT NULL,
    task_key      text NOT NULL,
    attempt       integer NOT NULL,            -- from 0
    state         text NOT NULL CHECK (state IN ('blocked', 'queued', 'running', 'waiting_for_retry', 'succeeded', 'failed', 'timed_out', 'canceled', 'crashed', 'excluded', 'upstream_failed')),
    parameters    jsonb NOT NULL DEFAULT '{}',
    result        jsonb,
    sqlstate      text,
    error         text,
    pid           integer,
    not_before    timestamptz,
    started       timestamptz,
    finished      timestamptz,
    PRIMARY KEY (run_id, task_key, attempt)
);
