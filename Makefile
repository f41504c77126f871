# `make gate` and `make test` need a Rust toolchain and nothing else: they install, build and run.
#
# Every build selects the whole workspace. Selecting single packages gives their build dependencies other
# features, and that is enough for cargo to compile RocksDB again.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

SEED ?= 1
CARGO := . scripts/env.sh && cargo
BUILD := $(CARGO) build --release --locked --workspace
RUN := . scripts/env.sh && exec "$$CARGO_TARGET_DIR/release/ninelives" run

.PHONY: help setup build sabotaged test gate gate-redb smoke sweep chaos long-work mutants power power-smoke explore power-files power-mutants certificate disk-full io-error corruption five-nodes etcd etcd-smoke etcd-files etcd-releases bench bench-engines bench-files bench-slow bench-watches fuzz restore rolling-upgrade limits restore-unlike strangers mixed etcdctl lint format deny doc clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' Makefile

setup: ## install what is missing (Debian; needs root or sudo only then)
	@scripts/setup.sh

build: setup ## release binaries; the first time RocksDB is compiled, see the README
	$(BUILD) --bins

# The same target directory, a second invocation: both binaries exist side by side, and the release one is
# built without the feature.
sabotaged: setup
	$(BUILD) --features node-under-test/sabotage --bin node-under-test-sabotaged

test: sabotaged build etcdctl ## all tests: the stock etcdctl, then everything in Rust, the planted bugs included
	@. scripts/env.sh; \
	if cargo nextest --version >/dev/null 2>&1; \
	then exec cargo nextest run --release --locked --workspace; \
	else exec cargo test --release --locked --workspace -- --test-threads=1; fi

gate: build ## the main job: 1,000 kills; SEED=n, default 1; fails unless the verdict is pass
	@$(RUN) --clusters auto scenarios/gate.toml --seed $(SEED)

gate-redb: build ## the same on redb
	@$(RUN) --clusters auto scenarios/gate-redb.toml --seed $(SEED)

smoke: build ## the gate in small: 25 kills
	@$(RUN) scenarios/smoke.toml --seed $(SEED)

mutants: sabotaged build ## the detection table: every planted bug, 20 seeds or 5, and the control; about half an hour
	@. scripts/env.sh; exec "$$CARGO_TARGET_DIR/release/ninelives" mutants scenarios/mutants.toml

power: build ## power losses: what was not synced is lost (root and /dev/fuse): 500 cycles
	@$(RUN) scenarios/power.toml --seed $(SEED)

power-smoke: build ## the same in small: 20 cycles
	@$(RUN) scenarios/power.toml --cycles 20 --seed $(SEED)

power-files: build ## the same at the n-th write, sync, rename, creation or removal of a class of file, on each engine (root and /dev/fuse)
	@for scenario in power-files power-files-redb; do ( $(RUN) scenarios/$$scenario.toml --seed $(SEED) ); done

explore: build ## many crash states of each power loss, recovered offline (root and /dev/fuse)
	@$(RUN) scenarios/power-explore.toml --seed $(SEED)

power-mutants: sabotaged build ## the detection table of missing syncs (root and /dev/fuse)
	@. scripts/env.sh; exec "$$CARGO_TARGET_DIR/release/ninelives" mutants scenarios/power-mutants.toml

certificate: sabotaged build ## both detection tables as one certificate, JSON and HTML (root and /dev/fuse); an hour or more
	@. scripts/env.sh; exec "$$CARGO_TARGET_DIR/release/ninelives" mutants scenarios/mutants.toml scenarios/power-mutants.toml

disk-full: build ## disks that are full for a while, on each engine (root and /dev/fuse): 60 cycles each
	@for engine in disk-full disk-full-redb; do ( $(RUN) scenarios/$$engine.toml --seed $(SEED) ) || exit; done

io-error: build ## syncs, reads and writes that fail, on each engine (root and /dev/fuse): 60 cycles each
	@for engine in io-error io-error-redb; do ( $(RUN) scenarios/$$engine.toml --seed $(SEED) ) || exit; done

corruption: build ## damaged files of dead members, on each engine and on both: 60 cycles each
	@for engine in corruption corruption-redb corruption-mixed; do ( $(RUN) scenarios/$$engine.toml --seed $(SEED) ) || exit; done

five-nodes: build ## five members
	@$(RUN) scenarios/five-nodes.toml --seed $(SEED)

sweep: build ## not at random: a kill at every step of the protocols, in each role, on each engine
	@for engine in sweep sweep-redb; do ( $(RUN) --sweep --clusters auto scenarios/$$engine.toml --seed $(SEED) ); done

chaos: build ## pauses, cut and slow links, several faults at once, kills in recovery
	@$(RUN) scenarios/chaos.toml --seed $(SEED)

long-work: build ## reads and deletes of everything, compactions and defragmentations under load, while members die
	@$(RUN) scenarios/long-work.toml --seed $(SEED)

restore: build ## disaster recovery: saved, killed, restored from the snapshot, and grown, while members die
	@$(RUN) scenarios/restore.toml --seed $(SEED)

rolling-upgrade: build ## members change their engine, one after the other and back, while members die
	@$(RUN) scenarios/rolling-upgrade.toml --seed $(SEED)

limits: build ## requests at the limits of what a member takes and beyond them, while members die
	@$(RUN) scenarios/limits.toml --seed $(SEED)

restore-unlike: build ## restores in which one founder is first started from another state than the others
	@$(RUN) scenarios/restore-unlike.toml --seed $(SEED)

strangers: build ## members of another cluster in the places of dead ones, and hostile peers at all, while members die
	@$(RUN) scenarios/strangers.toml --seed $(SEED)

mixed: build ## one member on redb, two on rocksdb
	@$(RUN) scenarios/mixed.toml --seed $(SEED)

etcd: build ## the gate on a real etcd, three members of what is on PATH: 1,000 kills
	@$(RUN) scenarios/etcd.toml --seed $(SEED)

etcd-smoke: build ## the same in small
	@$(RUN) scenarios/etcd-smoke.toml --seed $(SEED)

etcd-files: build ## etcd killed between two system calls, under the fault filesystem (root and /dev/fuse): 300 kills
	@$(RUN) scenarios/etcd-files.toml --seed $(SEED)

etcd-releases: build ## etcd as others released it, one with a bug among them: fetched, killed, and told apart; some minutes
	@releases=$$(scripts/etcd-releases.sh) && . scripts/env.sh; \
	PATH="$$releases:$$PATH" exec "$$CARGO_TARGET_DIR/release/ninelives" mutants --jobs 1 scenarios/etcd-releases.toml

etcdctl: build ## the stock etcdctl against a three-node cluster, on each engine
	@. scripts/env.sh; for engine in redb rocksdb; do scripts/etcdctl.sh "$$CARGO_TARGET_DIR/release/node-under-test" $$engine; done

bench: build ## cycles per minute beside the floor, the split of a cycle, writes per second, linearizability's cost
	$(CARGO) bench --locked --workspace --bench cycles --bench linearizability

bench-engines: setup ## snapshots of 1 GiB between the engines, a migration of 1,000,000 keys: time, peak memory
	$(CARGO) bench --locked --workspace --bench engines

bench-files: build ## what the fault filesystem costs beside the plain directory (root and /dev/fuse)
	$(CARGO) bench --locked --workspace --bench fault_filesystem

bench-slow: build ## long operations on 1,000,000 keys beside a load of puts: p99, and whether raft's term moved
	$(CARGO) bench --locked --workspace --bench slow

bench-watches: build ## puts beside 1,000 streams of watches, the node beside etcd
	$(CARGO) bench --locked --workspace --bench watches

FUZZ_SECONDS ?= 600
# Directory of a fuzz crate's parent, and target.
FUZZ_TARGETS ?= backend/snapshot_reader raft/peer_service ./requests
fuzz: setup ## arbitrary bytes for the snapshot reader, the peer service and the clients' services; FUZZ_SECONDS=n each, default 600 (installs cargo-fuzz once)
	@. scripts/env.sh; cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz
	@. scripts/env.sh; export CARGO_TARGET_DIR="$$CARGO_TARGET_DIR/fuzz"; for target in $(FUZZ_TARGETS); do \
	( cd "node-under-test/$${target%/*}" && \
	cargo fuzz run --sanitizer none "$${target##*/}" -- -max_total_time=$(FUZZ_SECONDS) -max_len=65536 ); done

lint: setup ## rustfmt and clippy, warnings are errors; all feature sets
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --release --locked --workspace --all-targets --features node-under-test/sabotage -- -D warnings
	$(CARGO) clippy --release --locked -p node-under-test --no-default-features -- -D warnings

format: ## rustfmt
	$(CARGO) fmt --all

deny: setup ## licences, advisories, sources of the dependencies (installs cargo-deny once; minutes)
	@. scripts/env.sh; cargo deny --version >/dev/null 2>&1 || cargo install --locked cargo-deny
	$(CARGO) deny --workspace check

doc: setup ## the API documentation of the workspace
	$(CARGO) doc --release --locked --workspace --no-deps --document-private-items

clean: ## remove reports and the workspace's own build output; RocksDB stays compiled
	$(CARGO) clean --release --workspace
	find reports -mindepth 1 -maxdepth 1 ! -name README.md -exec rm -rf {} +
