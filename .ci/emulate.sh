#!/usr/bin/env bash
# Runs the tests for other processors with QEMU: arm64, which has no assembly here;
# arm, which has 32 bits; and s390x, which is big-endian.
set -euo pipefail
cd "$(dirname "$0")/.."

# These tests do not run here:
#   - The hostile and the soak tests measure the time and the memory of a whole
#     process, and emulation changes both. One of them also starts its own program
#     again, which the kernel cannot do with a program for another processor. The tests
#     of a pause do that, too.
#   - TestConn_stack_stays_small and TestCompression_stack_stays_small have the limits of
#     amd64. A function needs a larger stack frame on arm64.
#   - TestImport runs programs that it builds, which the kernel cannot do either.
skip='^Test(Hostile|Soak|Pause|Conn_stack|Compression_stack|Import)'

# qemu prints the emulator for a processor. Debian has called the program both ways.
qemu() {
  command -v "qemu-$1" || command -v "qemu-$1-static"
}

emulate() {
  local arch=$1 program
  program=$(qemu "$2")
  echo "$arch: $program"
  # -parallel: emulated tests are too slow to run beside many others.
  GOOS=linux GOARCH=$arch CGO_ENABLED=0 go test -short -parallel 4 -timeout 10m -exec "$program" -skip "$skip" ./...
}

emulate arm64 aarch64
emulate arm arm
emulate s390x s390x
