package websocket

import (
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// A connection ends once: end decides for what, and whoever it lets through sees
// to it that the socket is closed, in one of four ways.
//
//	die          the TCP connection is broken: close the socket
//	fail, abort  close frame, then let it arrive (RFC 6455 section 7.1.7)
//	peerClosed   answer the close frame, then let it arrive (section 5.5.1)
//	Close        close frame, wait for the peer's (section 7.1.2)
//
// None of them holds a lock that another end waits for, and the watchdog bounds each:
// it closes the socket under all of it.

// lingerTime is how long what the peer still sends is drained behind our last
// frame: closing a socket with unread bytes resets the connection, and the
// reset would destroy the close frame on its way.
const lingerTime = time.Second

// failTimeout bounds the sending of a last close frame where CloseTimeout does not.
const failTimeout = 5 * time.Second

// err is what ended the connection, nil while it lives.
func (c *Conn) err() error {
	if p := c.ended.Load(); p != nil {
		return *p
	}
	return nil
}

// end makes err the end of the connection and reports whether it is. It is not
// when the connection has ended before; nothing is left to do then.
func (c *Conn) end(err error) bool {
	if c.ended.Load() != nil {
		return false
	}
	reason := err // on the heap, and only where it stays there
	if !c.ended.CompareAndSwap(nil, &reason) {
		return false
	}
	if ctx := c.ctx.Load(); ctx != nil {
		ctx.cancel(err)
	}
	return true
}

// closeSocket is the last act of an end.
func (c *Conn) closeSocket() {
	c.cutSocket()
	c.keepalive.alarm.Stop()
	c.out.flushAlarm.Stop()
	c.gone.Set()
}

// cutSocket closes the socket under whatever is going on with it. The Close of a
// TLS connection would write first, and wait for a peer that does not read;
// linger has said goodbye to one that does.
func (c *Conn) cutSocket() {
	if conn, ok := c.conn.(*tls.Conn); ok {
		conn.NetConn().Close()
		return
	}
	c.conn.Close()
}

// die ends a connection whose socket does not work any more.
func (c *Conn) die(doing string, err error) error {
	if c.end(&deadError{doing, err}) {
		c.closeSocket()
	}
	return c.err()
}

// fail ends the connection because the peer broke a rule or a limit. The
// receiving side is held.
func (c *Conn) fail(err error) error {
	if c.end(err) {
		c.sendLastClose(failPayload(err))
		c.linger()
	}
	return c.err()
}

// abort is fail for who does not hold the receiving side and has the payload of
// the close frame.
func (c *Conn) abort(err error, payload []byte) {
	if !c.end(err) {
		return
	}
	c.setClosingDeadline(past)
	c.sendLastClose(payload)
	c.closeWithin(lingerTime)
	c.in.lock.Lock()
	defer c.in.lock.Unlock()
	c.linger()
}

// peerClosed takes the peer's close frame and answers it with the same code. The
// receiving side is held.
func (c *Conn) peerClosed(payload []byte) error {
	c.in.closeReceived.Store(true)
	if c.in.draining {
		return errCloseReceived
	}
	peer, err := parseClosePayload(payload)
	if err != nil {
		return c.fail(err)
	}
	var end error = peer
	if c.out.closeSent.Load() {
		end = &closedError{CloseError: CloseError{Code: c.out.closeCode}, peer: peer}
	}
	if c.end(end) {
		c.sendLastClose(payload[:min(len(payload), 2)])
		c.linger()
	}
	return c.err()
}

// failPayload tells the peer what it did wrong, as far as there is room.
func failPayload(err error) []byte {
	reason := strings.TrimPrefix(err.Error(), "websocket: ")
	if len(reason) > maxReason {
		reason = reason[:maxReason]
		for !utf8.ValidString(reason) {
			reason = reason[:len(reason)-1]
		}
	}
	return closeBytes(CloseStatus(err), reason)
}

// sendLastClose sends a close frame on a connection that has ended, behind
// everything that is being sent.
func (c *Conn) sendLastClose(payload []byte) {
	c.keepalive.ignoreSilence()
	if c.out.broken.Load() {
		return
	}
	limit := c.opts.closeTimeout
	if limit == 0 {
		limit = failTimeout
	}
	before := c.closeWithin(limit)
	c.sendCloseOnce(payload)
	c.closeAt(before) // lingering has a bound of its own
}

// sendCloseOnce sends a close frame unless there was one.
func (c *Conn) sendCloseOnce(payload []byte) {
	c.out.lock.Lock()
	defer c.unlockSender()
	if !c.out.closeSent.Load() {
		c.writeClose(payload)
	}
}

// linger shuts the write side, drains what still comes for a moment and closes
// the socket. The receiving side is held.
func (c *Conn) linger() {
	defer c.closeSocket()
	conn, ok := c.conn.(interface{ CloseWrite() error })
	if !ok && c.in.closeReceived.Load() {
		return // the peer has sent its last frame: there is nothing to drain
	}
	c.closeWithin(lingerTime)
	if ok && conn.CloseWrite() != nil {
		return
	}
	c.setClosingDeadline(time.Time{})
	c.in.releaseBuffer()
	c.in.bulk = false
	c.in.takeBuffer()
	defer c.in.releaseBuffer()
	for {
		if _, err := c.conn.Read(c.in.buf); err != nil {
			return
		}
	}
}

// Close closes the connection: it sends a close frame with code and reason,
// waits for the peer's, for at most CloseTimeout, and closes the socket (RFC 6455
// section 7.1.2). What was sent before is on the wire before the close frame,
// what the peer sent is dropped. Every other method that is waiting returns an
// error that is [net.ErrClosed], and so does every call from then on.
//
// StatusNoStatusReceived with no reason sends a close frame without a code. A code
// that must not be sent (RFC 6455 section 7.4) and a reason of more than 123 bytes
// are [ErrProtocol], a reason that is not UTF-8 is [ErrInvalidUTF8]; the connection
// is not closed then.
//
// A peer that does not answer in time is [ErrCloseTimeout]; the socket is closed
// all the same. Of a connection that has ended already, Close waits until the
// socket is closed and returns the error that it ended with. A handler need not
// call it: returning closes the connection.
func (c *Conn) Close(code StatusCode, reason string) error {
	payload, err := closePayload(code, reason)
	if err != nil && c.err() == nil {
		return err
	}
	defer c.release()
	if c.out.closeSent.Load() {
		code = c.out.closeCode // what the peer was told
	}
	if c.err() != nil || !c.end(&closedError{CloseError: CloseError{code, reason}}) {
		c.gone.Wait()
		return c.err()
	}
	return c.closeHandshake(payload)
}

func (c *Conn) closeHandshake(payload []byte) error {
	if c.opts.closeTimeout > 0 {
		c.keepalive.ignoreSilence()
		c.closeWithin(c.opts.closeTimeout)
	}
	c.setClosingDeadline(past)
	c.sendCloseOnce(payload)
	c.in.lock.Lock()
	defer c.in.lock.Unlock()
	if c.awaitClose() == errCloseReceived {
		c.linger()
		return nil
	}
	c.closeSocket()
	if c.keepalive.tooLate() {
		return c.noAnswer()
	}
	return &deadError{"the peer did not answer the close frame", io.ErrUnexpectedEOF}
}

func (c *Conn) noAnswer() error {
	return fmt.Errorf("%w: the peer did not answer the close frame within CloseTimeout %v (RFC 6455 section 7.1.1)", ErrCloseTimeout, c.opts.closeTimeout)
}

// awaitClose drops what comes until the peer's close frame. The rules for what
// comes hold no more: the connection is over.
func (c *Conn) awaitClose() error {
	in := &c.in
	if in.closeReceived.Load() {
		return errCloseReceived
	}
	in.draining, in.isText = true, false
	c.setClosingDeadline(time.Time{})
	for {
		if err := c.drainPayload(); err != nil {
			return err
		}
		n, err := c.nextHeader()
		if err != nil {
			return err
		}
		if in.header.Opcode.IsControl() && in.header.Length <= maxControlPayload {
			if err := c.handleControl(n); err != nil {
				return err
			}
			continue
		}
		in.r += n
		in.openFrame()
	}
}

// drainPayload drops what is left of the open frame, if one is open.
func (c *Conn) drainPayload() error {
	in := &c.in
	for in.open && in.left > 0 {
		if in.r == in.w {
			if err := c.fill(); err != nil {
				return err
			}
		}
		n := min(int64(in.w-in.r), in.left)
		in.r += int(n)
		in.left -= n
	}
	in.open = false
	return nil
}

// release waits for the goroutines of a connection whose socket is closed.
func (c *Conn) release() {
	c.keepalive.alarm.Wait()
	c.out.flushAlarm.Wait()
	c.deadlines.release()
	if c.inbox != nil {
		c.inbox.release()
	}
}
