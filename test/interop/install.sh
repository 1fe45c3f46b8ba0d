#!/usr/bin/env bash
# Installs the clients and proxies that the tests need, if they are missing: from Debian, and
# the Node clients from npm.
set -euo pipefail
cd "$(dirname "$0")"

missing=()
# needs adds a package to missing, unless the command after its name succeeds.
needs() {
  local package=$1
  shift
  "$@" >/dev/null 2>&1 || missing+=("$package")
}

# Debian installs the proxies in directories that only root has in PATH.
export PATH="$PATH:/usr/sbin:/sbin"
needs chromium command -v chromium
needs haproxy command -v haproxy
needs nginx-light command -v nginx
needs nodejs command -v node
needs npm command -v npm
needs python3-aiohttp /usr/bin/python3 -c 'import aiohttp'
needs python3-websocket /usr/bin/python3 -c 'import websocket'
needs python3-websockets /usr/bin/python3 -c 'import websockets'

if [ ${#missing[@]} -gt 0 ]; then
  sudo=$([ "$(id -u)" = 0 ] || echo sudo)
  $sudo apt-get update -qq
  # The installation must not start the proxies, because the tests start them.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
    $sudo chmod +x "$policy"
    trap '$sudo rm -f "$policy"' EXIT
  fi
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

if ! node -e 'const [major, minor] = process.versions.node.split(".").map(Number);
    process.exit(major > 20 || (major === 20 && minor >= 18) ? 0 : 1)'; then
  echo "undici needs Node 20.18 or later; this is $(node --version): install a newer Node" >&2
  exit 1
fi
if ! cmp -s package-lock.json node_modules/.installed; then
  npm ci --no-audit --no-fund
  cp package-lock.json node_modules/.installed
fi
