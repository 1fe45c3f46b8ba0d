# The checks of this repository, one target each. "make" without a target lists them.
# The targets of the first group need only Go. A time is one for a machine with two cores.

FUZZTIME  ?= 10s
BENCHTIME ?= 1x
SOAK      ?= 1m

# The packages of the library with their own tests, without the suites in test/.
library := . ./internal/... ./websockettest ./extendedconnect/...

.PHONY: help build test race cover lint fuzz bench compare soak nettest guides \
	download cross vet-cross purego portable versions emulated browser cluster interop ci

help: ## list the targets
	@awk -F ':.*## ' '/^##/ { print substr($$0, 3) } /^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

## These targets need only Go:
build: ## compile the library, the examples and the Autobahn server
	go build ./...

test: ## run all tests except those of the nested modules (90 s)
	go test ./...

race: ## run the same tests with the race detector, which needs a C compiler on Linux (3 min)
	go test -race -timeout 20m ./...

cover: ## measure how much of the root package its own tests cover; less than 95 % fails (30 s)
	go test -coverprofile cover.out .
	@go tool cover -func cover.out | awk '/^total:/ { sub("%", "", $$3); total = $$3 } \
		END { print "statements covered: " total " %, wanted: 95 % or more"; exit !(total >= 95) }'

lint: ## check the format, the dependencies, and each module with vet and staticcheck (2 min)
	.ci/lint.sh

fuzz: ## run each fuzz target for FUZZTIME=10s (3 min)
	.ci/fuzz.sh $(FUZZTIME)

bench: ## run each benchmark once; BENCHTIME=1s measures (30 s)
	go test -run '^$$' -bench . -benchtime $(BENCHTIME) ./...

compare: ## run a small comparison with the other libraries, in memory (20 s)
	cd benchmarks && go test ./... && go run . -inmemory -messages 100 -rounds 1

soak: ## run the soak test for SOAK=1m
	go test ./test/soak -v -timeout 0 -run '^TestSoak$$' -soak $(SOAK)

nettest: ## test Conn.Stream with golang.org/x/net/nettest and net/http (30 s)
	cd test/nettest && go test -race -count=1 -timeout 5m ./...

guides: ## test the programs of docs/migrating.md, and the metrics for Prometheus (1 min)
	cd test/migrating && go test -race -count=1 -timeout 5m ./...
	cd examples/prometheus && go test -race -count=1 -timeout 5m ./...

download: ## test that the go command can download the module, and the module in a program (30 s)
	cd test/download && go test -count=1 -timeout 10m ./...

vet-cross: ## run vet for other processors and systems (1 min)
	GOOS=linux GOARCH=arm64 go vet ./...
	GOOS=linux GOARCH=386 go vet ./...
	GOOS=linux GOARCH=s390x go vet ./...
	GOOS=windows GOARCH=amd64 go vet ./...
	GOOS=darwin GOARCH=arm64 go vet ./...
	cd benchmarks && GOOS=darwin GOARCH=arm64 go vet ./...
	go vet -tags purego ./...

purego: ## test the library without its assembly (30 s)
	go test -tags purego $(library)

portable: ## run on Linux the code for other systems: that of macOS, then that of Windows (2 min)
	go test -tags notlinux $(library) ./test/conformance ./test/faults ./test/hostile ./test/model
	go test -tags notlinux,notunix $(library) ./test/conformance ./test/faults ./test/hostile ./test/model

versions: ## test the library with the oldest and the newest Go (2 min)
	GOTOOLCHAIN=go1.25.0 go test $(library)
	GOTOOLCHAIN=go1.27.0 go test $(library)

## These targets install Debian packages if a program is missing:
emulated: ## run the tests for arm64, arm (32 bits) and s390x (big-endian) with QEMU (3 min)
	.ci/install.sh qemu-user qemu-s390x qemu-s390x-static
	.ci/emulate.sh

browser: ## test the chat and the dashboard in Chromium (3 min)
	.ci/install.sh chromium chromium chromium-browser google-chrome
	cd test/browser && go test -race -count=1 ./...

cluster: ## test the example on several processes, with NATS and Chromium (1 min)
	.ci/install.sh chromium chromium chromium-browser google-chrome
	cd examples/cluster && go build -o /dev/null . && go vet ./... && go test -race -count=1 -timeout 5m ./...

interop: ## test with clients, proxies and middleware (3 min)
	test/interop/install.sh
	cd test/interop && go test -count=1 -timeout 15m ./...

## These targets run several of the others:
cross: vet-cross purego portable versions emulated ## run vet-cross, purego, portable, versions and emulated

ci: ## run every target (20 min)
	.ci/run
