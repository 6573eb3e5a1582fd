# What one types here. Each target says what it does in `make help`.
.DEFAULT_GOAL := help
.PHONY: help demo test compare check bench install clean

TARGET := $(or $(CARGO_TARGET_DIR),target)
PREFIX ?= /usr/local
BINARIES := svidecar svidecar-agent svidecar-server

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## server, agent, two sidecars, an app and a client: the whole story (KEEP=1 leaves it running)
	@cargo build --locked --profile demo
	@$(TARGET)/demo/svidecar-demo conduct $(if $(KEEP),--keep)

test: ## every test, with the clients of others (installed into target/tools)
	@tests/run

compare: ## our server's commands against SPIRE's own, byte for byte (needs Go, minutes to build)
	@tests/spire-commands

check: ## format, clippy, rustdoc, house rules, dependencies: all as errors
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet
	tests/house-rules
	tests/dependencies

bench: ## entry-to-identity latency, idle memory and start-up time; writes benches/README.md
	cargo build --locked --release --workspace --bins
	$(TARGET)/release/svidecar-bench

install: ## the three binaries into PREFIX/bin (default /usr/local)
	cargo build --locked --release $(foreach binary,$(BINARIES),--bin $(binary))
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 0755 $(foreach binary,$(BINARIES),$(TARGET)/release/$(binary)) $(DESTDIR)$(PREFIX)/bin

clean: ## all that was built or fetched
	cargo clean
