# Comparison of Tailwater with other servers of the same protocol; see benches/README.md.

PEERS_DIR := target/peers

.PHONY: bench bench-peers bench-peers-install bench-peers-build

# A short run over every scenario: shows that everything works, not who is faster.
bench: bench-peers-install bench-peers-build
	cargo run --release -p tailwater-benches --bin loadgen -- peers --quick

# The full comparison; LOADGEN_ARGS are passed on, for example LOADGEN_ARGS="--modes append --pairs 9".
bench-peers: bench-peers-install bench-peers-build
	cargo run --release -p tailwater-benches --bin loadgen -- peers $(LOADGEN_ARGS)

# Both crates install a binary of the same name, so each has a directory of its own.
bench-peers-install:
	cargo install --root $(PEERS_DIR)/rival durable-streams --version 0.1.5 --locked
	cargo install --root $(PEERS_DIR)/dss durable-streams-server --version 0.3.0 --locked

# The generator runs the server that lies beside it, so both are built in the same profile.
bench-peers-build:
	cargo build --release -p tailwater --bin tailwater
	cargo build --release -p tailwater-benches --bin loadgen
