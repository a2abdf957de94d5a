# Comparison of Tailwater with other servers of the same protocol; see benches/README.md.

PEERS_DIR := target/peers

# Two ways to compact, and enough memory that it is not what decides when.
FOLD_OFTEN := DS_STORAGE__FOLD_BYTES=64MiB
FOLD_NEVER := DS_STORAGE__FOLD_BYTES=1TiB
FOLD_MEMORY := DS_LIMITS__MAX_MEMORY_BYTES=4GiB

.PHONY: bench bench-peers bench-durable bench-acid bench-shards bench-compaction bench-many bench-overload bench-subscriptions bench-queues bench-mirror bench-edge bench-micro bench-peers-install bench-peers-build

# A short run over every scenario: shows that everything works, not who is faster.
bench: bench-peers-install bench-peers-build
	cargo run --release -p tailwater-benches --bin loadgen -- peers --quick

# The full comparison; LOADGEN_ARGS are passed on, for example LOADGEN_ARGS="--modes append --pairs 9".
bench-peers: bench-peers-install bench-peers-build
	cargo run --release -p tailwater-benches --bin loadgen -- peers $(LOADGEN_ARGS)

# The comparison on disk with the peer that syncs what it acknowledges as fast as we do.
bench-durable: bench-peers-install bench-peers-build
	cargo run --release -p tailwater-benches --bin loadgen -- --durability durable \
	    peers --peer durable-streams $(LOADGEN_ARGS)

# The comparison of sharded databases with the peer that has some.
bench-acid: bench-peers-install bench-peers-build
	cargo run --release -p tailwater-benches --bin loadgen -- --durability acid peers $(LOADGEN_ARGS)

# Numbers of shards against each other, and against files.
bench-shards: bench-peers-build
	cargo run --release -p tailwater-benches --bin loadgen -- shards $(LOADGEN_ARGS)

# What compaction does to appends: the same build, compacting often and not at all.
bench-compaction: bench-peers-build
	cargo run --release -p tailwater-benches --bin loadgen -- --durability durable \
	    --set $(FOLD_OFTEN) --set $(FOLD_MEMORY) \
	    versus --other $(FOLD_NEVER) --other $(FOLD_MEMORY) $(LOADGEN_ARGS) append --streams 1000

# Appends over few streams and over very many, each on a server of its own, in many short turns.
bench-many: bench-peers-build
	cargo run --release -p tailwater-benches --bin loadgen -- --durability durable $(LOADGEN_ARGS) \
	    in-turn --connections 256 --streams 1000 --other-streams 100000

# What readers that never pause leave of the appends' rate: readers of small streams, then of large ones.
bench-overload: bench-peers-build
	for stream_bytes in 256 67108864; do for round in 1 2 3; do \
	    cargo run --release -p tailwater-benches --bin loadgen -- --durability durable $(LOADGEN_ARGS) \
	        overload --stream-bytes $$stream_bytes || exit 1; \
	done; done

# Appends without and beside ten thousand subscriptions, what these take of memory, and webhooks to one receiver.
bench-subscriptions: bench-peers-build
	for durability in memory durable; do \
	    cargo run --release -p tailwater-benches --bin loadgen -- --durability $$durability $(LOADGEN_ARGS) \
	        subscriptions || exit 1; \
	done

# Job cycles beside the same in a table of PostgreSQL, in both durable modes; then how soon a job is claimed, and what very
# many ready jobs cost.
bench-queues: bench-peers-build $(if $(POSTGRES_BIN),,$(POSTGRES_INSTALLED))
	for mode in durable acid; do \
	    cargo run --release -p tailwater-benches --bin loadgen -- --durability $$mode queues $(LOADGEN_ARGS) && \
	    cargo run --release -p tailwater-benches --bin loadgen -- --durability $$mode claim-wait && \
	    for ready in 1000 1000000; do \
	        cargo run --release -p tailwater-benches --bin loadgen -- --durability $$mode jobs --backlog $$ready || exit 1; \
	    done || exit 1; \
	done

# The mirror beside psql, and how far it is behind; TAILWATER_MIRROR_EVENTS says how many events it catches up with.
bench-mirror: build $(if $(POSTGRES_BIN),,$(POSTGRES_INSTALLED))
	$(CARGO) test --release -p tailwater-e2e --test mirror_speed -- --ignored --nocapture --test-threads=1

# What tails take at Envoy, and how soon events come through it.
bench-edge: build $(if $(ENVOY),,$(ENVOY_INSTALLED))
	$(CARGO) test --release -p tailwater-e2e --test edge_figures -- --ignored --nocapture

# Engine and store alone, without HTTP; BENCH_ARGS are criterion's.
bench-micro:
	cargo bench -p tailwater-benches -- $(BENCH_ARGS)

# Both crates install a binary of the same name, so each has a directory of its own.
bench-peers-install:
	cargo install --root $(PEERS_DIR)/rival durable-streams --version 0.1.5 --locked
	cargo install --root $(PEERS_DIR)/dss durable-streams-server --version 0.3.0 --locked

# The generator runs the server that lies beside it, so both are built in the same profile.
bench-peers-build:
	cargo build --release -p tailwater --bin tailwater
	cargo build --release -p tailwater-benches --bin loadgen
