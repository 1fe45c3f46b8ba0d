#!/usr/bin/env bash
# Installs the clients and proxies that the tests need and this machine lacks: from
# Debian, and the Node clients and Vite from npm.
set -euo pipefail
cd "$(dirname "$0")"

missing=()
# needs names a package and a command that succeeds if the package is not needed.
needs() {
  local package=$1
  shift
  "$@" >/dev/null 2>&1 || missing+=("$package")
}

# present reports whether one of the commands is in PATH.
present() {
  local name
  for name in "$@"; do
    if command -v "$name"; then
      return
    fi
  done
  return 1
}

# Debian installs the proxies in folders that only root's PATH contains.
export PATH="$PATH:/usr/sbin:/sbin"
needs chromium present chromium chromium-browser google-chrome
needs default-jdk-headless present javac
needs firefox-esr present firefox-esr firefox
needs haproxy present haproxy
needs libokhttp-java test -e /usr/share/java/okhttp.jar
needs nginx-light present nginx
needs nodejs present node
needs npm present npm
needs python3-aiohttp /usr/bin/python3 -c 'import aiohttp'
needs python3-websocket /usr/bin/python3 -c 'import websocket'
needs python3-websockets /usr/bin/python3 -c 'import websockets'
needs varnish present varnishd

sudo=$([ "$(id -u)" = 0 ] || echo sudo)
if [ ${#missing[@]} -gt 0 ]; then
  if ! command -v apt-get >/dev/null; then
    echo "Install these Debian packages, or what your system has instead: ${missing[*]}" >&2
    exit 1
  fi
  $sudo apt-get update -qq
  # The tests start their own proxies, so no proxy may start when it is installed.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
    $sudo chmod +x "$policy"
    trap '$sudo rm -f "$policy"' EXIT
  fi
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

# Vite needs Node 20.19 or later, or 22.12 or later, and Debian 12 has Node 18.
recent='const [major, minor] = process.versions.node.split(".").map(Number);
  process.exit(major > 22 || (major === 22 && minor >= 12) || (major === 20 && minor >= 19) ? 0 : 1)'
if ! node -e "$recent"; then
  $sudo npm install --global --no-audit --no-fund node@22
  hash -r
  node -e "$recent" || {
    echo "Vite needs Node 20.19, 22.12 or later; PATH leads to $(command -v node), which is $(node --version)" >&2
    exit 1
  }
fi

if ! cmp -s package-lock.json node_modules/.installed; then
  npm ci --no-audit --no-fund
  cp package-lock.json node_modules/.installed
fi
