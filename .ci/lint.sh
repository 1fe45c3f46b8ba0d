#!/usr/bin/env bash
# Checks what does not depend on running the code: the format, the dependencies of
# the root module, and the findings of vet and staticcheck in every module.
set -euo pipefail
cd "$(dirname "$0")/.."

staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.8.1

unformatted=$(gofmt -l .)
if [ -n "$unformatted" ]; then
  printf 'These files are not formatted; run gofmt -w on them:\n%s\n' "$unformatted" >&2
  exit 1
fi

if grep -n '^require' go.mod; then
  echo "The root module must not require other modules: the library uses only the standard library." >&2
  exit 1
fi

.ci/modules.sh go vet ./...
.ci/modules.sh go run "$staticcheck" ./...
