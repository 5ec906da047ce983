# Cleave. `make` lists what can be made; CONTRIBUTING.md explains.
# Needed: Go (see go.mod), a C compiler, npm.

GO       ?= go
DEMO     ?=
PKG      ?= ./...
FUZZTIME ?= 10s

# Same layout as os.UserCacheDir on Linux. Tools are built once and kept.
CACHE         := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/cleave
LINT_VERSION  := v2.15.0
LINT_DIR      := $(CACHE)/tools/golangci-lint-$(LINT_VERSION)
LINT          := $(LINT_DIR)/golangci-lint
LINT_MODULE   := github.com/golangci/golangci-lint/v2/cmd/golangci-lint

VERSION := $(or $(shell git describe --tags --always --dirty 2>/dev/null),unknown)

# The version comes from git describe above: Go need not ask git again.
export GOFLAGS := $(strip $(shell $(GO) env GOFLAGS) -buildvcs=false)

.DEFAULT_GOAL := help
.PHONY: help setup build demo docs test test-slow fuzz bench lint

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 18

build: ## compile bin/cleave
	$(GO) build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/cleave ./cmd/cleave

setup: build ## fetch and check what Cleave needs at run time (once; no network after that)
	bin/cleave setup

demo: setup ## the main job on this machine; DEMO='--scene private' passes flags
	bin/cleave demo $(DEMO)

docs: build ## print docs/benchmarks.md anew, from the experiments and docs/results
	bin/cleave bench docs > bin/benchmarks.md && mv bin/benchmarks.md docs/benchmarks.md

test: setup ## all tests, race detector on, in random order; PKG=./partition/... for a part
	$(GO) test -race -shuffle=on -timeout 600s $(PKG)

test-slow: setup ## every legal cut of every network, not the day's sample; the zoo at its published size; every loss rate of fec
	CLEAVE_TEST_SLOW=1 $(GO) test -race -timeout 3600s ./models/zoo ./nodes/ort ./transport/quic ./transport/quic/fec

fuzz: setup ## every fuzz target for FUZZTIME (10s)
	@grep -rEHo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sort | sed 's/:func / /' | \
	while read -r file target; do \
		echo "== $$(dirname "$$file") $$target"; \
		$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")" || exit 1; \
	done

bench: setup ## Go benchmarks of every package
	$(GO) test -run '^$$' -bench . -benchmem $(PKG)

lint: $(LINT) ## golangci-lint at the pinned version
	GOLANGCI_LINT_CACHE=$(CACHE)/golangci-lint $(LINT) run $(PKG)

$(LINT):
	@echo "building golangci-lint $(LINT_VERSION), once: about 3 minutes on 2 cores"
	GOBIN=$(LINT_DIR) $(GO) install $(LINT_MODULE)@$(LINT_VERSION)
