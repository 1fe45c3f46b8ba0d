package websocket

import (
	"net/http"
	"sync/atomic"
	"unique"

	"github.com/f44ffc3b/websocket/internal/events"
)

// HandleMessages returns an http.Handler for servers with very many connections that are mostly
// idle. It upgrades requests as [Handle] does, and calls open once for each connection, on the
// goroutine of the request: open may send, and may block. The function that open returns is
// called with each message of the peer, one at a time and in order. data is valid only until it
// returns.
//
//	http.Handle("/echo", websocket.HandleMessages(func(c *websocket.Conn) (websocket.MessageFunc, error) {
//		return func(op websocket.Opcode, data []byte) error {
//			return c.SendMessage(op, data)
//		}, nil
//	}))
//
// If the function returns nil, it is called again with the next message. If it returns an error or
// panics, the connection is closed as with a [HandlerFunc]. The same is true for open. If open
// returns a nil function and a nil error, the connection closes with 1000. The function is not told
// when the peer closes the connection, so [OnClose] is the place to release what open has
// allocated.
//
// On Linux, an idle connection whose [net.Conn] is a [*net.TCPConn] or a [*net.UnixConn] has no
// goroutine and no buffer. Every other connection has a goroutine: over TLS and HTTP/2, on other
// systems, and if the [net.Listener] wraps its connections. So limit the number of connections in a
// handler, not in a listener. In both cases the request is released when open has returned: from then on,
// [Conn.Request] returns nil and [Conn.Context] has no values of the request. Let open copy what the
// function needs into variables.
//
// A function that blocks holds a goroutine, and delays only its own connection. If no function has
// blocked for a while, the library needs up to 20 ms to notice the first one that blocks. Messages
// of other connections can wait for that time. Pings are answered within a second. The peer's close
// frame is answered after the messages in front of it, or within a second if the function has got no
// message since the close frame arrived.
//
// The function may send and close. [Conn.Close] waits for the peer, and [Conn.StartClose] does not.
// The receiving methods and SetReadDeadline return an error. All options apply, except [Detached],
// which has no effect. HandleMessages panics if open is nil or an [Option] is invalid.
func HandleMessages(open func(c *Conn) (MessageFunc, error), opts ...Option) *Handler {
	if open == nil {
		panic("websocket: HandleMessages(nil): want a function")
	}
	h := &Handler{open: open, fn: passAll, opts: newOptions(opts)}
	h.opts.prepare, h.opts.detached = prepareMessages, false
	return h
}

// messages is what a connection of HandleMessages has in addition to a Conn.
type messages struct {
	inbox
	conn    *Conn
	handler *Handler
	fn      MessageFunc
	source  events.Source // while the event loop serves the connection

	// How the connection leaves the event loop, for the goroutine that continues.
	end     error       // of the function or the reader, nil if there is none yet
	held    bool        // the goroutine has to begin with the lock of the reader held
	inFunc  bool        // the event loop runs fn
	leaving atomic.Bool // the goroutine begins when the socket is closed
}

// prepareMessages makes c a connection of HandleMessages.
func prepareMessages(c *Conn) {
	m := &messages{conn: c}
	m.inbox.messages = m
	c.inbox = &m.inbox
	if t, ok := c.socket.transport.(rawSocket); ok && events.Supported {
		c.socket.transport = &eventTransport{t, m}
	}
}

// openMessages calls open, and begins to pass messages to the function that it returns. It ends
// the connection if there is none.
func (h *Handler) openMessages(c *Conn) {
	returned, passed := false, false
	defer func() {
		if !passed {
			h.end(c, returned, recover())
		}
	}()
	fn, err := h.open(c)
	if fn != nil && err == nil {
		passed = true
		c.inbox.messages.begin(h, fn)
		return
	}
	err = h.closeAs(c, err)
	returned = true
	if err != nil {
		h.report(c, err)
	}
}

// begin begins to pass messages to fn: in the event loop, or on a goroutine.
func (m *messages) begin(h *Handler, fn MessageFunc) {
	c := m.conn
	m.handler, m.fn = h, fn
	m.server, m.path = serverOf(c), unique.Make(cut(pathOf(c), maxLogLine))
	c.request.Store(nil)
	switch {
	case m.watch():
	case c.socket.http2() != nil:
		h.serve(c) // the stream ends when ServeHTTP returns
	default:
		go h.serve(c)
	}
}

// watch passes the connection to the event loop. It reports false if that cannot serve it.
func (m *messages) watch() bool {
	t, ok := m.conn.socket.transport.(*eventTransport)
	if !ok || m.conn.in.acquire() != nil { // the lock is held from now on, as by a goroutine that waits
		return false
	}
	if events.Watch(&m.source, t.rawPart().raw, m) == nil {
		return true
	}
	m.conn.in.release() // the process has too many descriptors, or watches too many
	return false
}

// passAll is the HandlerFunc of a connection of HandleMessages that has a goroutine, from the
// beginning or because it has left the event loop.
func passAll(c *Conn) error {
	m := c.inbox.messages
	end, held := m.end, m.held
	if end != nil && !held {
		return end
	}
	for {
		if !held {
			if err := c.in.acquire(); err != nil {
				return err
			}
		}
		var msg lentMessage
		if end == nil {
			end = c.in.lend(&msg)
		}
		if end != nil {
			end = c.received(end)
		}
		c.in.release()
		held = false
		switch {
		case end == errReadDeadline: // the library has set none
			c.socket.restoreRead()
			end = nil
			continue
		case end == nil:
			end = m.fn(msg.op, msg.data)
			releaseInput(msg.buf)
		}
		if end != nil {
			return end
		}
	}
}

// messageCost is what a message costs in addition to its bytes, for the budget of a worker.
const messageCost = 256

// Run implements events.Runner: it passes on what has arrived. While the connection waits for
// events, no goroutine runs for it, but the lock of the reader is held, as by a goroutine that
// waits. So the rest of the library treats both alike: to make such a goroutine return, it sets a
// deadline or closes the socket, and then eventTransport wakes the connection.
func (m *messages) Run(b *events.Budget) (result events.Result) {
	returned := false
	defer func() {
		if !returned {
			m.panicked(recover())
			result = events.Left
		}
	}()
	result = m.passArrived(b)
	returned = true
	return result
}

// passArrived passes messages to fn while there are any and the budget lasts. A panic of fn leaves it.
func (m *messages) passArrived(b *events.Budget) events.Result {
	c := m.conn
	c.in.buf.short = false // something may have arrived
	for {
		var msg lentMessage
		c.in.buf.noWait = true
		err := c.in.lend(&msg)
		c.in.buf.noWait = false
		switch {
		case err == errReadDeadline && c.life.current() < phaseLost:
			return events.Idle
		case err == errReadDeadline:
			return m.leave(nil, true) // the goroutine waits for the end
		case err != nil:
			return m.leave(err, true)
		}
		c.in.release()
		m.inFunc = true
		err = m.fn(msg.op, msg.data)
		m.inFunc = false
		releaseInput(msg.buf)
		if err == nil {
			err = c.in.acquire()
		}
		if err != nil {
			return m.leave(err, false)
		}
		if b.Spend(messageCost + len(msg.data)) {
			return events.More
		}
	}
}

// leave takes the connection out of the event loop, and a goroutine continues, because the end of a
// connection may take long. If another goroutine is closing the connection, the new goroutine is
// started only when the socket is closed. So Shutdown needs only one goroutine for each connection
// whose peer does not answer.
func (m *messages) leave(end error, held bool) events.Result {
	c := m.conn
	m.source.Leave()
	m.end, m.held = end, held
	if c.life.err() == nil {
		go m.handler.serve(c)
		return events.Left
	}
	if held {
		m.end, m.held = c.life.err(), false
		c.in.release() // the goroutine that closes the connection needs the lock
	}
	m.leaving.Store(true)
	if c.life.closed.IsSet() {
		m.socketClosed()
	}
	return events.Left
}

// socketClosed implements inbox.socketClosed. It starts the goroutine that leave has not started.
func (m *messages) socketClosed() {
	if m.leaving.CompareAndSwap(true, false) {
		go m.handler.serve(m.conn)
	}
}

// panicked ends the connection after fn has panicked with v, or has called runtime.Goexit if v is
// nil.
func (m *messages) panicked(v any) {
	if !m.inFunc {
		panic(v) // a fault of this package
	}
	if v != nil && v != http.ErrAbortHandler {
		logPanicOf(m.conn, v)
		v = loggedPanic{v}
	}
	m.source.Leave()
	go m.handler.end(m.conn, false, v)
}
