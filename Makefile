# What one types here. `make help` lists it.

MAKEFLAGS += --no-print-directory
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The architectures of the image, such as ARCH=amd64,arm64.
ARCH ?= $(shell go env GOARCH)

OUT   := _output
TOOLS := bin/tools
LINT  := bin/golangci-lint

# Lists what has a comment behind two hashes.
.PHONY: help
help:
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build the program and the lab into _output/bin
	@mkdir -p $(OUT)/bin
	CGO_ENABLED=0 go build -trimpath -o $(OUT)/bin/ ./cmd/open-local
	go build -C hack/lab -o $(CURDIR)/$(OUT)/bin/ . ./demo ./scale

.PHONY: generate
generate: tools ## make clients, deep copies, definitions and gRPC code again
	go run ./hack/generate -tools $(TOOLS)

.PHONY: verify
verify: tools lint ## fail when generated code or the form of the source is stale, and lint
	go run ./hack/generate -check -tools $(TOOLS)
	@unformed=$$(gofmt -l apis cmd hack pkg); [ -z "$$unformed" ] || { echo "not as gofmt would have it:" $$unformed; exit 1; }

.PHONY: lint
lint: $(LINT) ## run the linters of .golangci.yml over every module
	$(LINT) run
	cd hack/chart && ../../$(LINT) run --config ../../.golangci.yml
	cd hack/lab && ../../$(LINT) run --config ../../.golangci.yml

.PHONY: test
test: ## everything below that begins with test, side by side where it can be
	@hack/test.sh all

.PHONY: test-unit
test-unit: ## tests that need neither root nor a cluster, with the race detector
	@hack/test.sh unit

.PHONY: test-lvm
test-lvm: ## tests on real LVM and real file systems, in a kernel of their own
	@hack/test.sh lvm

.PHONY: test-e2e
test-e2e: ## tests on a real cluster, in the lab
	@hack/test.sh e2e

.PHONY: test-scale
test-scale: ## pods with volumes on a thousand hollow nodes, a short form of make scale
	@hack/test.sh scale

.PHONY: scale
scale: build ## how open-local does on thousands of hollow nodes; ARGS='--nodes 5000', see docs/scale.md
	@$(OUT)/bin/scale $(ARGS)

.PHONY: bench
bench: ## how long the scheduler waits for an answer, and what it costs
	go test -run '^$$' -bench . -benchmem ./pkg/extender/... ./pkg/ledger/...

.PHONY: demo
demo: build image ## watch a real cluster use the disks of its nodes; KEEP=1 leaves it up
	@$(OUT)/bin/demo -lab $(OUT)/bin/lab -image $(OUT)/image/open-local.tar

.PHONY: image
image: ## build the image as one OCI archive, without a container engine
	@go run ./hack/image -arch $(ARCH) -output $(OUT)/image/open-local.tar

.PHONY: clean
clean: ## take labs down and remove what was built here
	@for dir in $(OUT)/lab $(OUT)/demo $(OUT)/e2e/lab*; do \
		[ ! -d $$dir ] || [ ! -x $(OUT)/bin/lab ] || $(OUT)/bin/lab --dir $$dir down; done
	rm -rf $(OUT) bin

# Code generators of hack/tools/go.mod. go build knows when there is nothing to do.
.PHONY: tools
tools:
	@mkdir -p $(TOOLS)
	@go build -C hack/tools -o $(CURDIR)/$(TOOLS)/ tool

# The linter has a module of its own: it takes a minute to build and nothing else needs it.
$(LINT): hack/tools/lint/go.mod hack/tools/lint/go.sum
	@echo "building golangci-lint (a minute, once)"
	@mkdir -p bin
	@go build -C hack/tools/lint -o $(CURDIR)/$(LINT) tool
	@touch $(LINT)
