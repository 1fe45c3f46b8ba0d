package websocket

import "time"

// Reading the clock would be a fifth of the cost of a small message. So only the first writes after
// a tick note when they begin. Later ones are untimed, and then a tick comes within a tenth of
// WriteTimeout. If a write is in progress, this tick counts as its beginning. So a write may take a
// tenth longer than WriteTimeout, but is never cut off early. If there are only a few writes, no
// such tick is needed.
const (
	oneWrite   = readsMask + 1 // what beginWrite adds to keepalive.recent
	manyWrites = 64 * oneWrite

	untimed  = noTime + 1 // keepalive.writing: a write is in progress, and a tick will note the time
	settling = noTime + 2 // a tick is doing that
)

// writePrecision is the part of WriteTimeout that an untimed write may take longer.
const writePrecision = 10

// beginWrite limits the write that follows to WriteTimeout. A deadline of the socket for each
// write would cost more. While there are many writes, it costs a store and a load.
func (k *keepalive) beginWrite() {
	k.writing.Store(int64(untimed))
	if k.recent.Load() < manyWrites { // in this order: either settleWrites sees the write, or the write sees that it is one of few
		k.timeWrite()
	}
}

// timeWrite notes when the write in progress has begun. The last of the writes that are timed
// sets the alarm for the untimed ones.
func (k *keepalive) timeWrite() {
	now := clock()
	k.pieceBegins(now)
	timeout := k.timeouts.writeTimeout
	if timeout > 0 && k.recent.Add(oneWrite) >= manyWrites && int64(now+part(timeout, writePrecision)) < k.alarmAt.Load() {
		k.schedule()
	}
}

// beginLargeWrite is beginWrite for a frame whose progress is reported.
func (k *keepalive) beginLargeWrite() progress {
	began := clock()
	k.pieceBegins(began)
	return progress{k, began}
}

// settleWrites gives an untimed write that is in progress the time of this tick. Writes that begin
// later are timed again. There are two steps, because another write may begin between them, and
// must not get a time before its beginning.
func (k *keepalive) settleWrites() {
	if k.writing.CompareAndSwap(int64(untimed), int64(settling)) {
		k.writing.CompareAndSwap(int64(settling), int64(clock()))
	}
}

// pieceBegins notes that the write in progress, or its next piece, begins now.
func (k *keepalive) pieceBegins(now time.Duration) {
	k.writing.Store(int64(now))
	if int64(deadlineAfter(now, part(k.timeouts.writeTimeout, 2))) < k.alarmAt.Load() {
		k.schedule()
	}
}

// notePiece implements pieceNoter. The next piece has WriteTimeout again.
func (k *keepalive) notePiece(began time.Duration) {
	now := clock()
	k.noteTaken(began, now)
	k.pieceBegins(now)
}

// endWrite notes that the write has ended. It does not read the clock, see ackStep.
func (k *keepalive) endWrite() { k.writing.Store(int64(noTime)) }

// writeBegan returns when the write in progress, or its piece, has begun. timed is false if there is
// none, or if that time is not known yet.
func (k *keepalive) writeBegan() (began time.Duration, timed bool) {
	began = time.Duration(k.writing.Load())
	return began, began > settling
}

// writeBy is when the write in progress is late.
func (k *keepalive) writeBy() time.Duration {
	if began, timed := k.writeBegan(); timed {
		return deadlineAfter(began, k.timeouts.writeTimeout)
	}
	return never
}

// writesLookBy is when a tick has to look at an untimed write. An alarm that is set already does
// that, and must not be set to a later time, even if it is due and the tick has not begun.
func (k *keepalive) writesLookBy(alarmAt time.Duration) time.Duration {
	return min(alarmAt, deadlineAfter(clock(), part(k.timeouts.writeTimeout, writePrecision)))
}

// A writeStep is a step of the search for a peer that reads while a write to it waits, see also
// ackStep. The kernel reports room only when a large part of its buffer is free, which can be
// megabytes, so the write may make no progress although the peer reads.
type writeStep struct {
	note  bool          // a write has taken half of WriteTimeout
	again time.Duration // when its time begins again, if the peer takes enough
}

// A slowWrite is a write for which writeStep.note was due. keepalive.mu guards it.
type slowWrite struct {
	began time.Duration
	first time.Duration // the same, but not changed by a pause
	acked uint64        // bytes that the peer had acknowledged then
}

// isSlow reports whether writeStep.note was due for the write that began at a time. k.mu is held.
func (k *keepalive) isSlow(began time.Duration) bool {
	w := k.core.slowWrite()
	return w != nil && w.began == began
}

// leastTaken is how many bytes a peer has to take in the second half of WriteTimeout.
const leastTaken = progressSize / 2

// noteHalfWrite notes that a write has taken half of WriteTimeout. If this tick is late, the process
// was paused, maybe while the write was about to return: then the write gets WriteTimeout again, once.
func (k *keepalive) noteHalfWrite(now, late time.Duration, do *due) {
	began, timed := k.writeBegan()
	if !timed {
		return // it has ended at this moment
	}
	first, paused := began, late >= part(k.timeouts.writeTimeout, writePrecision)
	if paused && k.writing.CompareAndSwap(int64(began), int64(now)) {
		began = now
	}
	k.noteSlowWrite(began, first, do)
}

// noteSlowWrite notes a write for isSlow. first is when it began, before a pause has made it begin
// again.
func (k *keepalive) noteSlowWrite(began, first time.Duration, do *due) {
	w := k.core.slowWriteUsed()
	w.began, w.first, do.write.note = began, first, true
}

// checkWrite notes that a write has taken WriteTimeout. writeGoesOn has to follow. If there was no
// tick between half of WriteTimeout and its end, the process was paused, see noteHalfWrite.
func (k *keepalive) checkWrite(now time.Duration, do *due) {
	began, timed := k.writeBegan()
	late := timed && now >= deadlineAfter(began, k.timeouts.writeTimeout)
	if !late || !k.writing.CompareAndSwap(int64(began), int64(now)) {
		return // it has ended at this moment, and maybe another has begun
	}
	if !k.isSlow(began) {
		k.noteSlowWrite(now, began, do)
		return
	}
	do.limit, do.write = writePassed, writeStep{again: now}
}

// noteWriteAcks notes what the peer had acknowledged when note was due.
func (k *keepalive) noteWriteAcks(a acks) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.core.slowWriteUsed().acked = a.Acked
}

// writeGoesOn reports whether a write that has taken WriteTimeout may go on for another. ok is
// false if the system does not report what the peer has acknowledged.
func (k *keepalive) writeGoesOn(step writeStep, a acks, ok bool) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if ok && a.Acked-k.core.slowWriteUsed().acked >= leastTaken {
		return true
	}
	k.writing.CompareAndSwap(int64(step.again), int64(noTime))
	return false
}

// noteWriteAt is when half of WriteTimeout is over for the write in progress, never if that was
// noted.
func (k *keepalive) noteWriteAt() time.Duration {
	if began, timed := k.writeBegan(); timed && !k.isSlow(began) {
		return deadlineAfter(began, part(k.timeouts.writeTimeout, 2))
	}
	return never
}
