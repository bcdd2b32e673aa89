# Two commands: `make demo` shows Baton at work on this machine, `make test` runs every test. `make help` lists the rest.

CARGO ?= cargo
BATON := $(or $(CARGO_TARGET_DIR),target)/release/baton

# Building is done as the user that calls; only what touches network namespaces and the kernel runs as root.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
TRIPLE := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
RUN_AS_ROOT := $(if $(SUDO),CARGO_TARGET_$(TRIPLE)_RUNNER='sudo -E')

define heading
@printf '\n==> %s\n' '$(1)'
endef

# Where `make bench` keeps what it measured. Names of machines stay out of it: MACHINE is a word of yours for this one.
MACHINE ?= here
RUN := bench/runs/$(shell date -u +%F)-$(MACHINE).json

.PHONY: help build demo test test-all test-user test-lab fuzz bench bench-table4 lint setup privilege

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /make \1:@/p' Makefile | column -t -s @

build: setup ## target/release/baton
	$(CARGO) build --release

demo: privilege build ## a cluster on this machine, real clients and servers, and what they did
	$(SUDO) $(BATON) lab run demo

test: test-all test-lab ## every test, as root
	$(call heading,all tests passed)

# One build for all of them. The features add the tests that load programs into the kernel, the ignored ones make network namespaces.
test-all: privilege build
	$(call heading,tests of the parts)
	$(SUDO) $(BATON) probe
	$(RUN_AS_ROOT) $(CARGO) test --workspace --all-features -- --include-ignored

test-user: setup ## the tests that need no privileges
	$(call heading,tests that need no privileges)
	$(CARGO) test --workspace

# What takes two minutes of `baton lab run faults`: one of each kind.
FAULTS := nothing-breaks,5.1/cut-in-handshake,5.1/cut-before-request,5.1/cut-before-answer,5.1/cut-in-download,5.1/cut-in-upload,\
5.1/cut-in-websocket,5.1/cut-idle,5.1/cut-at-boundary,5.2/killed,5.2/upgraded,5.3/every-2s,5.4/balancer,5.5/*,5.6/partition,6/drain,6/reload-under-load

test-lab: build privilege
	$(call heading,whole clusters in network namespaces: handoff)
	$(SUDO) $(BATON) lab run matrix --short --mechanism handoff
	$(call heading,whole clusters in network namespaces: relay)
	$(SUDO) $(BATON) lab run matrix --short --mechanism relay
	$(call heading,what dies, and what clients notice)
	$(SUDO) $(BATON) lab run faults --short --only '$(FAULTS)'

# How long `make fuzz` takes in all, over its targets.
FUZZ_SECONDS ?= 600

fuzz: setup ## the fuzz targets with coverage guidance, FUZZ_SECONDS in all (docs/architecture.md)
	@fuzz/run $(FUZZ_SECONDS)

bench: privilege build ## direct, handoff, relay, HAProxy and nginx side by side, as a table (docs/performance.md)
	$(SUDO) $(BATON) lab run compare --record $(RUN)
	$(call heading,$(RUN))
	@$(BATON) lab table $(RUN)

bench-table4: privilege build ## what the loss of a proxy costs, noticed after 5 s to 10 ms, beside the paper's Table 4; about ten minutes
	$(SUDO) $(BATON) lab run table4

lint: setup ## format, clippy, licences
	$(call heading,lint)
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --all-features -- -D warnings
	@if $(CARGO) deny --version > /dev/null 2>&1; then \
		$(CARGO) deny --offline check licenses bans sources; \
	else \
		echo 'cargo-deny is not installed (cargo install cargo-deny --locked): bans and sources are not checked here'; \
	fi

setup: ## installs what is missing, with apt-get
	@.ci/setup

privilege:
	@[ -z '$(SUDO)' ] || sudo -v || { \
		echo 'This needs root: run make as root, or as a user who may use sudo. `make test-user` needs neither.' >&2; \
		exit 1; \
	}
