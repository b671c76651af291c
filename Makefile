# Two commands are enough to begin: `make run` and `make test`. `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

# The target directory is outside the working copy, so that every clone finds RocksDB
# compiled. ccache saves it once more, across target directories, where it is installed.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/aegis/target
export PATH := $(if $(wildcard /usr/lib/ccache),/usr/lib/ccache:)$(PATH):$(HOME)/.cargo/bin

AEGIS := $(CARGO_TARGET_DIR)/debug/aegis
# HTTP, peers and events of the four nodes of the demo.
PORTS := 8003 8004 8006 8013 8014 8016 8023 8024 8026 8033 8034 8036

##@ Begin
.PHONY: run
run: deps ports build ## Build, start four nodes in ./data, certify 16 roll calls; Ctrl-C stops
	@exec "$(AEGIS)" demo --data ./data

.PHONY: test
test: deps test-deps ## Run every test
	cargo test --workspace

.PHONY: clean-data
clean-data: ## Remove ./data, so that `make run` starts over
	@for lock in data/node-*/store/lock; do \
	    [ ! -e "$$lock" ] || flock --nonblock "$$lock" true || \
	        { echo "A node still runs on $${lock%/store/lock}. Stop it first." >&2; exit 1; }; \
	done
	rm -rf ./data

##@ Develop
.PHONY: build
build: deps ## Build the binary
	cargo build --workspace

.PHONY: fmt
fmt: ## Format the code
	cargo fmt --all

.PHONY: lint
lint: deps ## Check formatting and run clippy, warnings denied
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

.PHONY: docs
docs: deps ## Build the API documentation, warnings denied
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

.PHONY: layers
layers: deps ## Check the layers, that ring is absent and RocksDB compiled once
	cargo test --workspace --test it -- architecture::
	scripts/tree

.PHONY: bench
bench: deps ## Run the criterion benchmarks with the profile that ships
	cargo bench --workspace --profile dev --bench '*'

.PHONY: soak
soak: deps ## Simulate a committee under SEEDS (2000) of faults and liars
	AEGIS_SIM_SEEDS=$(or $(SEEDS),2000) cargo test -p aegis-sim --test it -- soak

.PHONY: model-check
model-check: deps ## Search the agreement's states at length
	cargo test -p aegis-pbft --lib -- --ignored --nocapture model

##@ Ship
.PHONY: dist
dist: build ## Make the release tarball in ./dist
	scripts/dist "$(AEGIS)"

##@ Prepare
.PHONY: deps
deps: ## Install what a build needs (root), or print the command
	@scripts/deps build

.PHONY: test-deps
test-deps: ## Install what the tests need (root), or print the command
	@scripts/deps test

.PHONY: ports
ports:
	@scripts/ports $(PORTS)

.PHONY: help
help: ## Show this
	@awk 'BEGIN { FS = ":.*## " } /^##@/ { printf "\n%s\n", substr($$0, 5) } \
	    /^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
