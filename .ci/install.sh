#!/usr/bin/env bash
# install.sh PACKAGES COMMAND... installs the Debian packages if none of the commands
# is in PATH.
set -euo pipefail

packages=$1
shift
for command in "$@"; do
  if command -v "$command" >/dev/null; then
    exit
  fi
done
if ! command -v apt-get >/dev/null; then
  echo "None of these commands is in PATH: $*. Install one. Debian has it in: $packages" >&2
  exit 1
fi

sudo=$([ "$(id -u)" = 0 ] || echo sudo)
$sudo apt-get update -qq
# shellcheck disable=SC2086 # several packages are several words
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages
