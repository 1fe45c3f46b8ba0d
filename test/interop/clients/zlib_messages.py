"""Inflates or deflates messages as RFC 7692 section 7.2 tells, with zlib.

zlib_messages.py inflate BITS    reads pairs of a compressed message and its bytes, with context takeover
zlib_messages.py deflate         reads messages and writes each compressed in several ways

Each string of bytes has its length before it, in four bytes, the highest first.
"""

import struct
import sys
import zlib

TAIL = b"\x00\x00\xff\xff"


def read():
    size = sys.stdin.buffer.read(4)
    if not size:
        return None
    return sys.stdin.buffer.read(struct.unpack(">I", size)[0])


def write(data):
    sys.stdout.buffer.write(struct.pack(">I", len(data)) + data)


def inflate(bits):
    inflater = zlib.decompressobj(wbits=-bits)
    count = 0
    while (message := read()) is not None:
        # zlib checks a distance only if it goes back beyond the bytes of this call.
        got, rest, want = b"", message + TAIL, read()
        while rest or len(got) < len(want):
            piece = inflater.decompress(rest, 16)
            if not piece and len(rest) == len(inflater.unconsumed_tail):
                break
            got, rest = got + piece, inflater.unconsumed_tail
        if got != want:
            sys.exit(f"message {count}: got {got!r}, want {want!r}")
        count += 1
    print(count)


def deflate():
    strategies = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED)
    while (message := read()) is not None:
        for level in range(10):
            for strategy in strategies:
                for bits in (9, 12, 15):
                    deflater = zlib.compressobj(level, zlib.DEFLATED, -bits, 8, strategy)
                    data = deflater.compress(message) + deflater.flush(zlib.Z_SYNC_FLUSH)
                    assert data.endswith(TAIL)
                    write(data[:-4])


if sys.argv[1] == "inflate":
    inflate(int(sys.argv[2]))
else:
    deflate()
