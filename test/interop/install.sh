#!/usr/bin/env bash
# Installs what the tests need and this machine lacks: clients and proxies from
# Debian, the Node clients from npm.
set -euo pipefail
cd "$(dirname "$0")"

missing=()
# needs names a package and the command that succeeds if it is there.
needs() {
  local package=$1
  shift
  "$@" >/dev/null 2>&1 || missing+=("$package")
}

# Debian keeps the proxies where only root's PATH leads.
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
  # The tests start their own proxies: none may begin to listen as it is installed.
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
  echo "undici wants Node 20.18 or later; this is $(node --version)" >&2
  exit 1
fi
if ! cmp -s package-lock.json node_modules/.installed; then
  npm ci --no-audit --no-fund
  cp package-lock.json node_modules/.installed
fi
