-- How far the mirror has come in each stream. Written with the rows, in one transaction.
CREATE TABLE tailwater.streams (
    -- Byte by byte, so that `LIKE 'runs/%'` uses the index, and no update of the system's languages spoils that.
    name text COLLATE "C" PRIMARY KEY,
    -- Which of the streams that have had this name: the server's id of it.
    incarnation bigint NOT NULL,
    -- Where the next chunk has to begin: a chunk is written only if it begins here.
    next_offset text NOT NULL,
    -- Where the chunk began that was written last.
    previous_offset text NOT NULL,
    -- Bytes of the stream before `next_offset`.
    position bigint NOT NULL,
    -- The number that the next event has in its stream.
    next_index bigint NOT NULL DEFAULT 0,
    -- Events of this incarnation that were written, dead letters among them.
    events bigint NOT NULL DEFAULT 0,
    -- Bytes of this incarnation that had been trimmed at the source before they were written.
    skipped_bytes bigint NOT NULL DEFAULT 0,
    closed boolean NOT NULL DEFAULT false,
    -- When the mirror noticed that the stream is deleted at the source. Its rows stay.
    deleted_at timestamptz,
    -- Where the stream ended when the source told of it last.
    tail_position bigint NOT NULL DEFAULT 0,
    tail_index bigint NOT NULL DEFAULT 0,
    -- What is known to be missing still.
    lag_bytes bigint NOT NULL GENERATED ALWAYS AS (greatest(tail_position - position, 0)) STORED,
    lag_events bigint NOT NULL GENERATED ALWAYS AS (greatest(tail_index - next_index, 0)) STORED,
    -- The last thing that went wrong with this stream; it is over if `updated_at` is later.
    last_error text,
    last_error_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50); -- Room for the next version of each row on its own page.

-- Every event, once. `incarnation` grows with the time at which streams are created, so ranges of it are ranges of
-- that time: add partitions for the months to come, and drop those whose streams nobody asks for any more.
CREATE TABLE tailwater.events (
    stream text COLLATE "C" NOT NULL,
    incarnation bigint NOT NULL,
    -- Of the byte behind it.
    position bigint NOT NULL,
    -- Its number in its stream, from 0.
    index bigint NOT NULL,
    appended_at timestamptz NOT NULL,
    content_type text NOT NULL,
    -- The event of a stream of JSON,
    payload jsonb,
    -- or that of any other.
    payload_bytes bytea,
    PRIMARY KEY (stream, incarnation, position)
) PARTITION BY RANGE (incarnation);
CREATE TABLE tailwater.events_default PARTITION OF tailwater.events DEFAULT;

-- Events that cannot be rows of a table.
CREATE TABLE tailwater.dead_letters (
    stream text COLLATE "C" NOT NULL,
    incarnation bigint NOT NULL,
    position bigint NOT NULL,
    index bigint,
    appended_at timestamptz,
    content_type text NOT NULL,
    -- The bytes as they are in the stream.
    payload bytea NOT NULL,
    reason text NOT NULL,
    -- The route whose table did not take it. It is in `tailwater.events` then, if that route's events are.
    route text,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (stream, incarnation, position)
);

-- The mirrors that are there. One whose time has come is dead, by this server's clock, and is never renewed again.
CREATE TABLE tailwater.instances (
    id bigint PRIMARY KEY,
    name text NOT NULL,
    -- Which streams it was told to mirror: it shares with those who were told the same.
    streams text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);

-- Who writes which part of which streams. A stream is in the part that the CRC-32 of its name modulo the number of
-- parts says. There are rows for each set of streams that a mirror was ever told to mirror.
CREATE TABLE tailwater.leases (
    -- The SHA-256 of `instances.streams`, since lists of names may be longer than what an index holds.
    streams_hash bytea NOT NULL,
    partition integer NOT NULL,
    -- How often it has changed hands: whoever writes by an older lease is refused.
    epoch bigint NOT NULL DEFAULT 0,
    -- None while nobody has it.
    holder bigint REFERENCES tailwater.instances (id),
    taken_at timestamptz,
    PRIMARY KEY (streams_hash, partition)
);
