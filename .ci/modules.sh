#!/usr/bin/env bash
# modules.sh COMMAND... runs the command in the folder of each Go module. It searches
# the folders for go.mod, because a source archive is not a Git repository.
set -euo pipefail
cd "$(dirname "$0")/.."

modules=$(find . -name node_modules -prune -o -name go.mod -print | sort)
for mod in $modules; do
  echo "${mod%/go.mod}: $*"
  (cd "$(dirname "$mod")" && "$@")
done
