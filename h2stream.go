package websocket

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/f44ffc3b/websocket/internal/wait"
)

// An h2stream is a stream of HTTP/2 as a net.Conn and a transport. net/http gives its handler a
// body to read and a ResponseWriter, whose deadlines cannot be removed after they have passed. So
// the stream has deadlines of its own:
//
//   - A goroutine, the watcher, waits for input. It calls the Read method of the body with an
//     empty slice, which returns when there is something to read. A method that reads waits for
//     the watcher or for its deadline. No buffer is held meanwhile.
//   - If the write deadline passes while a write is in progress, a timer makes net/http reset the
//     stream. net/http does not get the deadline itself: it could reset the stream after a write
//     that has ended just in time.
//
// net/http ends the stream when its handler returns, and there is no other way to send
// END_STREAM. After that, the ResponseWriter must not be used.
type h2stream struct {
	response      response
	body          requestBody
	buf           *inbuf
	local, remote net.Addr

	// One goroutine at a time reads.
	readDeadline wait.Deadline
	ask          chan struct{} // has a token if the watcher has to wait for input
	ready        chan struct{} // has a token if the watcher has found some
	asked        bool          // the watcher was asked, and ready was not read since
	known        bool          // the body is that of net/http
	unread       []byte        // what the watcher has read from another body
	dead         atomic.Bool   // the watcher has ended: reads do not wait any more
	watched      chan struct{} // closed when the watcher has ended

	mu            sync.Mutex
	writeDeadline time.Time
	writeAlarm    wait.Alarm // calls cutWrite
	watching      bool       // there is a watcher
	writing       bool
	closed        bool
	served        bool        // finish is called before the handler returns, see begin
	finished      bool        // the handler is about to return, or has returned
	cutOff        bool        // the write deadline has passed during a write
	gone          bool        // the stream is closed in both directions
	peerEnded     bool        // the peer has ended its side
	lateReset     *time.Timer // see cut
	stopLost      func() bool // see onLost; nil before
	untouched     atomic.Bool // the last write has failed before it wrote a byte
}

func newStream(w streamWriter, r *http.Request, body io.ReadCloser) *h2stream {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if local == nil {
		local = textAddr("")
	}
	return &h2stream{
		response: response{w}, body: requestBody{body}, local: local, remote: parseAddr(r.RemoteAddr),
		ask: make(chan struct{}, 1), ready: make(chan struct{}, 1), watched: make(chan struct{}),
		known: isStreamBody(body),
	}
}

// isStreamBody reports whether body is that of an HTTP/2 stream of net/http or of
// golang.org/x/net/http2, whose Read method waits for input even with an empty slice. Middleware
// may have replaced it, and other types return at once.
func isStreamBody(body io.ReadCloser) bool {
	switch reflect.TypeOf(body).String() {
	case "*http.http2requestBody", "*http2.requestBody":
		return true
	}
	return false
}

// goneLimit is how long a read from a stream that is gone waits for the watcher.
const goneLimit = 100 * time.Millisecond

// await waits for input, or for the end of it. If the stream is gone, the watcher finds one of them as
// soon as it runs. Then await gives it more time than the deadline, which may be a short one of the
// library: what the peer has sent before it reset the stream is not lost on a busy machine.
func (s *h2stream) await() error {
	expired := s.readDeadline.Done()
	if s.known && s.isGone() {
		var soon wait.Deadline
		soon.Set(time.Now().Add(goneLimit))
		defer soon.Set(time.Time{})
		expired = soon.Done()
	}
	select {
	case <-expired:
		return os.ErrDeadlineExceeded
	default:
	}
	if err := s.startWatcher(); err != nil {
		return err
	}
	if s.dead.Load() || !s.asked && len(s.unread) > 0 { // if asked, the watcher may be writing to unread
		return nil
	}
	if !s.asked {
		s.asked = true
		wakeUp(s.ask)
	}
	select {
	case <-s.ready:
		s.asked = false
		return nil
	case <-expired:
		return os.ErrDeadlineExceeded
	}
}

// startWatcher starts the watcher with the first read that may wait.
func (s *h2stream) startWatcher() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	if !s.watching {
		s.watching = true
		go s.watch()
	}
	return nil
}

// watch is the watcher. It ends with the stream; cut wakes it. After cut, it does not touch unread,
// because a read may be in progress. It checks isClosed after each wait too, because a body of
// middleware may return input in spite of cut.
func (s *h2stream) watch() {
	defer close(s.watched)
	for range s.ask {
		ended := s.isClosed() || s.waitForInput() != nil || s.isClosed()
		if ended {
			s.dead.Store(true)
		}
		wakeUp(s.ready)
		if ended {
			return
		}
	}
}

// isGone reports whether the stream is closed in both directions, as far as a read or a write has noticed.
func (s *h2stream) isGone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gone
}

func (s *h2stream) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// waitForInput waits until a read from the stream would not wait.
func (s *h2stream) waitForInput() error {
	if s.known {
		_, err := s.body.Read(nil)
		return err
	}
	p := make([]byte, readBufferSize)
	n, err := s.body.Read(p)
	s.unread = p[:n]
	return err
}

// wakeUp leaves a token in c, unless there is one.
func wakeUp(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// read reads what has arrived.
func (s *h2stream) read(p []byte) (n int, err error) {
	if len(s.unread) > 0 {
		n = copy(p, s.unread)
		s.unread = s.unread[n:]
		return n, nil
	}
	for range maxEmptyReads {
		if n, err = s.body.Read(p); n > 0 || err != nil {
			break
		}
	}
	switch {
	case n > 0:
		return n, nil
	case err == nil:
		return 0, io.ErrNoProgress
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == io.EOF {
		s.peerEnded = true
	} else {
		s.gone = true
	}
	switch {
	case s.closed:
		return 0, net.ErrClosed
	case s.cutOff || s.writing && s.writeExpired(): // the write deadline has reset the stream
		return 0, errFrameCutOff
	case errors.Is(err, os.ErrDeadlineExceeded): // of ReadTimeout, or of middleware; it cannot be removed
		return 0, errors.New("the read deadline of the http.Server has ended the HTTP/2 stream")
	}
	return 0, err
}

func (s *h2stream) Read(p []byte) (int, error) {
	if err := s.await(); err != nil {
		return 0, err
	}
	return s.read(p)
}

func (s *h2stream) fill() error {
	if err := s.await(); err != nil {
		return err
	}
	n, err := s.read(s.buf.space())
	if err != nil {
		return err
	}
	s.buf.filled(n, true)
	return nil
}

func (s *h2stream) poll() error              { return s.fill() }
func (s *h2stream) waitsWithoutBuffer() bool { return true }

// The kernel knows only the TCP connection, which many streams share.
func (s *h2stream) behind() (unread int32, ended, ok bool) { return 0, false, false }
func (s *h2stream) acked() (a acks, ok bool)               { return acks{}, false }

// copiedWrite is the size of the buffer of net/http. net/http does not copy a larger write, and
// may still send from its slice after the write has failed.
const copiedWrite = 4 << 10

// Write sends p in one DATA frame, or in several if p is larger than the peer's frames may be.
func (s *h2stream) Write(p []byte) (int, error) {
	if len(p) <= copiedWrite {
		return s.write(p)
	}
	return s.writeLarge(nil, p, progress{})
}

// writeLarge writes copies, see copiedWrite. So head and the beginning of payload are in the same
// DATA frame.
func (s *h2stream) writeLarge(head, payload []byte, p progress) (written int, err error) {
	b := pendingBuffers.Get().(*[pendingSize]byte)
	for first := true; len(head) > 0 || len(payload) > 0; first = false {
		if !first && p.timer != nil {
			p.report()
		}
		n := copy(b[:], head)
		head = head[n:]
		m := copy(b[n:], payload)
		payload = payload[m:]
		if n, err = s.write(b[:n+m]); err != nil {
			return written, err // b is garbage, because net/http may still read it
		}
		written += n
	}
	pendingBuffers.Put(b)
	return written, nil
}

// write writes p and flushes it. If it fails, it is not known how much of p was sent.
func (s *h2stream) write(p []byte) (n int, err error) {
	if err := s.beginWrite(); err != nil {
		return 0, err
	}
	n, err = s.response.send(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.endWrite(n, err)
}

func (s *h2stream) beginWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return net.ErrClosed
	case s.writeExpired():
		s.untouched.Store(true)
		return os.ErrDeadlineExceeded
	}
	s.untouched.Store(false)
	s.writing = true
	s.limitWrite()
	return nil
}

// limitWrite sets the alarm for the write in progress. s.mu is held.
func (s *h2stream) limitWrite() {
	if s.writeDeadline.IsZero() {
		s.writeAlarm.Clear()
		return
	}
	wait.SetAlarm(&s.writeAlarm, time.Until(s.writeDeadline), s, (*h2stream).cutWrite)
}

// cutWrite resets the stream if the write deadline has passed during a write. It may have been called
// too early, because the wall clock was set back.
func (s *h2stream) cutWrite() {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.writing || s.closed:
	case s.writeExpired():
		s.cutOff = true
		s.reset()
	default:
		s.limitWrite()
	}
}

// writeExpired reports whether the write deadline has passed. s.mu is held.
func (s *h2stream) writeExpired() bool {
	return !s.writeDeadline.IsZero() && !time.Now().Before(s.writeDeadline)
}

// endWrite ends a write that has returned n and err. s.mu is held.
func (s *h2stream) endWrite(n int, err error) (int, error) {
	s.writing = false
	s.writeAlarm.Clear()
	if err == nil && !s.cutOff {
		return n, nil
	}
	s.gone = true
	s.noteReturn(err)
	switch {
	case s.closed:
		err = net.ErrClosed
	case s.cutOff || s.writeExpired():
		s.cutOff, err = true, os.ErrDeadlineExceeded
	}
	return 0, err
}

// writeNow is not possible, because net/http does not report whether there is room.
func (s *h2stream) writeNow([]byte, bool) (int, error) { return 0, errors.ErrUnsupported }

// exact is true after a write whose deadline had passed before it began.
func (s *h2stream) exact() bool { return s.untouched.Load() }

// closeWrite is not possible, see h2stream.
func (s *h2stream) closeWrite() error { return errors.ErrUnsupported }

// cut closes the stream for this side. If the peer has the close frame or has ended its side, the
// return of the handler ends the stream, because a reset could destroy what was sent before; the
// stream is reset if that takes longer than drainTime. Otherwise cut resets the stream at once, as
// closing the socket would.
func (s *h2stream) cut(told bool) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	switch {
	case s.finished:
	case s.writing, !told && !s.gone && !s.peerEnded:
		s.reset() // the write returns
	case !s.gone && s.served:
		s.lateReset = time.AfterFunc(drainTime, s.resetLate)
	}
	if s.stopLost != nil {
		s.stopLost()
	}
	s.mu.Unlock()
	s.body.Close()
	wakeUp(s.ask)
	s.readDeadline.Set(time.Time{}) // its timer would keep the stream in memory
}

// resetLate is reset on the goroutine of a timer.
func (s *h2stream) resetLate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reset()
}

// release waits for the watcher of a stream that is cut. If the Close method of the body does
// not end its Read method, because middleware has replaced the body, a reset does.
func (s *h2stream) release() {
	s.mu.Lock()
	watching := s.watching
	s.mu.Unlock()
	if watching {
		patience := time.AfterFunc(drainTime, s.resetLate)
		<-s.watched
		patience.Stop()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finished = s.finished || !s.served // the handler that has called Upgrade may return now
}

// begin says that finish will be called. After Upgrade it is not. It comes before anything can close
// the stream.
func (s *h2stream) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.served = true
}

// finish runs before the Handler returns: the ResponseWriter is not used any more. After a panic,
// returned is false. Then finish resets the stream, as net/http does if nothing recovers from the
// panic. Otherwise middleware that recovers could write an error page, and the peer would get that
// as frames behind the close frame. A write of the close frame has already ended, so the reset
// comes after that frame.
func (s *h2stream) finish(returned bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !returned {
		s.reset()
	}
	s.finished = true
	if s.lateReset != nil {
		s.lateReset.Stop()
	}
}

// onLost makes f run on a goroutine when the context of the request is done, which it is as
// soon as the peer resets the stream or its TCP connection ends.
func (s *h2stream) onLost(ctx context.Context, f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.stopLost = context.AfterFunc(ctx, f)
	}
}

// isLost reports whether the stream is closed in both directions. It is false if a write is in
// progress, which then fails. After Upgrade it is not known, because the handler may just be
// returning.
func (s *h2stream) isLost() (lost, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed || s.writing:
		return false, true
	case s.finished:
		return s.gone, true
	case !s.served:
		return false, false
	}
	err := s.response.flush()
	s.noteReturn(err)
	s.gone = s.gone || err != nil
	return err != nil, true
}

// noteReturn notes that the handler of net/http has returned, if err, an error of the response,
// says so. s.mu is held.
func (s *h2stream) noteReturn(err error) {
	if _, ok := err.(*panicError); ok {
		s.finished = true
	}
}

// reset makes net/http reset the stream, unless its handler has returned. s.mu is held.
func (s *h2stream) reset() {
	if !s.finished {
		s.noteReturn(s.response.reset())
	}
}

func (s *h2stream) SetReadDeadline(t time.Time) error {
	s.readDeadline.Set(t)
	return nil
}

func (s *h2stream) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeDeadline = t
	if s.writing && !s.closed {
		s.limitWrite()
	}
	return nil
}

func (s *h2stream) SetDeadline(t time.Time) error {
	s.SetReadDeadline(t)
	return s.SetWriteDeadline(t)
}

// Close resets the stream.
func (s *h2stream) Close() error {
	s.cut(false)
	return nil
}

func (s *h2stream) conn() net.Conn       { return s }
func (s *h2stream) LocalAddr() net.Addr  { return s.local }
func (s *h2stream) RemoteAddr() net.Addr { return s.remote }
