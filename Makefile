# What one types here. Each target says what it does in `make help`.
.DEFAULT_GOAL := help
.PHONY: help demo up down logs test soak compare fuzz check bench bench-instructions install clean

TARGET := $(or $(CARGO_TARGET_DIR),target)
PREFIX ?= /usr/local
BINARIES := svidecar svidecar-agent svidecar-server

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## server, agent, two sidecars, an app and a client: the whole story (KEEP=1 leaves it running)
	@cargo build --locked --profile demo
	@$(TARGET)/demo/svidecar-demo conduct $(if $(KEEP),--keep)

up: ## the same in containers: builds the images, starts the stack, shows the client's request (LABELS=1: by labels)
	@compose/stack up

down: ## stops the stack and keeps its volumes
	@compose/stack down

logs: ## follows what the stack says
	@compose/stack logs

test: ## every test, with the clients of others (installed into target/tools)
	@tests/run

soak: ## a fleet under load and accidents by the hundred, for MINUTES (30), drawn from SEED (as root)
	@cargo build --locked --workspace --bins
	@$(TARGET)/debug/svidecar-faults soak --minutes $(or $(MINUTES),30) $(if $(SEED),--seed $(SEED))

compare: ## our server's commands against SPIRE's own, byte for byte (needs Go, minutes to build)
	@tests/spire-commands

fuzz: ## searches for bytes that break a parser: SECONDS (60) for each of TARGETS (all)
	@TARGETS="$(TARGETS)" tests/fuzz $(or $(SECONDS),60)

check: ## format, clippy, rustdoc, house rules, dependencies: all as errors
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet
	tests/house-rules
	tests/arrows-test
	tests/dependencies

# Parts of the race, and with what: SUBJECTS, WORKLOADS, ROUNDS, SECONDS, WRITE=1, GHOSTUNNEL, ZTUNNEL. SVIDECAR names a
# proxy that is already built; everything else is then built in the quick profile.
BENCH_PROFILE := $(if $(SVIDECAR),demo,release)
BENCH_BINARIES := svidecar-bench $(filter-out $(if $(SVIDECAR),svidecar),$(BINARIES))
bench_option = $(if $($(1)),--$(2) "$($(1))")

bench: ## the race with Envoy, HAProxy and nginx (SUBJECTS=svidecar,haproxy WORKLOADS=h1 for a part)
	@SUBJECTS="$(SUBJECTS)" benches/setup
	@cargo build --locked --workspace --profile $(BENCH_PROFILE) $(foreach binary,$(BENCH_BINARIES),--bin $(binary))
	@$(TARGET)/$(BENCH_PROFILE)/svidecar-bench race $(if $(WRITE),--write) \
	  $(call bench_option,SUBJECTS,subjects) $(call bench_option,WORKLOADS,workloads) \
	  $(call bench_option,ROUNDS,rounds) $(call bench_option,SECONDS,seconds) \
	  $(call bench_option,SVIDECAR,svidecar) $(call bench_option,GHOSTUNNEL,ghostunnel) \
	  $(call bench_option,ZTUNNEL,ztunnel)

bench-instructions: ## what a request costs in instructions, against benches/instructions.txt (needs valgrind)
	@cargo build --locked --release --package svidecar-pieces
	@$(TARGET)/release/svidecar-pieces count benches/instructions.txt

install: ## the three binaries into PREFIX/bin (default /usr/local)
	cargo build --locked --release $(foreach binary,$(BINARIES),--bin $(binary))
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 0755 $(foreach binary,$(BINARIES),$(TARGET)/release/$(binary)) $(DESTDIR)$(PREFIX)/bin

clean: ## removes all that was built, fetched or started: target, and the stack with its volumes and images
	-@if docker version >/dev/null 2>&1; then compose/stack clean; fi
	@if command -v cargo >/dev/null; then cargo clean; else rm -rf "$(TARGET)"; fi
