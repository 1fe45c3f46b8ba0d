package main

import (
	"cmp"
	"slices"
	"time"

	"github.com/f44ffc3b/websocket"
)

// An entry is a message of the stream, framed once for all clients that get it later.
type entry struct {
	seq   uint64
	at    time.Time
	frame *websocket.PreparedMessage // nil for a message that is not one of this chat
	size  int
}

// entryOverhead is about what an entry takes in memory in addition to its frame.
const entryOverhead = 128

// A history is the copy that a process has of the stream, with the same limits. It exists so
// that ten thousand clients that reconnect at the same time ask their process and not NATS,
// and so that they get their messages while NATS is away.
type history struct {
	entries []entry // with rising numbers
	bytes   int64
	last    uint64    // the number of the newest message, even if it is not in entries any more
	lastAt  time.Time // of that message; zero if this process has not read it

	maxEntries, maxBytes int64
	maxAge               time.Duration // 0 is no limit
}

// add adds an entry whose number is larger than last.
func (h *history) add(e entry) {
	h.entries = append(h.entries, e)
	h.bytes += int64(e.size)
	h.last, h.lastAt = e.seq, e.at
	h.expire(e.at)
}

// expire drops the oldest entries that exceed a limit.
func (h *history) expire(now time.Time) {
	drop := 0
	for drop < len(h.entries) {
		oldest := h.entries[drop]
		tooMany := int64(len(h.entries)-drop) > h.maxEntries || h.bytes > h.maxBytes
		tooOld := h.maxAge > 0 && now.Sub(oldest.at) > h.maxAge
		if !tooMany && !tooOld {
			break
		}
		h.bytes -= int64(oldest.size)
		drop++
	}
	h.entries = slices.Delete(h.entries, 0, drop) // which also clears the frames behind the end
}

// after returns the entries behind the number seq, which the caller must not change. They
// end before maxBytes are exceeded, but there is one at least. complete says that they reach
// the newest entry.
func (h *history) after(seq uint64, maxBytes int) (entries []entry, complete bool) {
	start, _ := h.find(seq + 1)
	end, size := start, 0
	for end < len(h.entries) && (end == start || size+h.entries[end].size <= maxBytes) {
		size += h.entries[end].size
		end++
	}
	// A copy, because expire moves the entries.
	return slices.Clone(h.entries[start:end]), end == len(h.entries)
}

// find returns the index of the entry with the number seq, or of the first behind it.
func (h *history) find(seq uint64) (index int, found bool) {
	return slices.BinarySearchFunc(h.entries, seq, func(e entry, want uint64) int { return cmp.Compare(e.seq, want) })
}

// timeOf returns the time of the message with the number seq. It is zero if this process does
// not have the message any more.
func (h *history) timeOf(seq uint64) time.Time {
	if seq == h.last {
		return h.lastAt
	}
	if i, found := h.find(seq); found {
		return h.entries[i].at
	}
	return time.Time{}
}

// beforeLast returns the position from which a client gets the newest n entries.
func (h *history) beforeLast(n int) uint64 {
	if len(h.entries) == 0 {
		return h.last
	}
	return h.entries[max(0, len(h.entries)-n)].seq - 1
}
