package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/f44ffc3b/websocket"
)

const (
	// greeting is how many of the newest messages a new client gets.
	greeting = 50
	// catchUpStep is how many bytes a client gets at a time while it is behind. When no more
	// are left, they go to its send queue, which is larger, and the client joins the group.
	catchUpStep = 64 << 10
	sendQueue   = 512 << 10
	// aliveEvery is how often each client gets an event. page/cluster.js reconnects if it has
	// got none for 50 seconds.
	aliveEvery = 20 * time.Second
)

// A publisher stores the messages of clients. It is the bus, or that of a test.
type publisher interface {
	publish(ctx context.Context, id string, data []byte) (seq uint64, err error)
	newest(ctx context.Context) (uint64, error)
}

// A room is the part of the chat that runs in one process: it has the clients of this process and a
// copy of the history. The messages of all clients, including those of this process, come from the
// bus, so that every client gets the same messages in the same order.
type room struct {
	handler *websocket.Handler
	bus     publisher
	name    string
	limits  limits
	gate    *gate
	live    websocket.Group // the clients that have all messages of the history

	// mu guards the fields below. It is held while a message is added to the history and sent
	// to the group, and while a client gets the end of the history and joins the group. So
	// each message reaches a client in one of these ways. Nothing waits for a client meanwhile.
	mu        sync.Mutex
	stream    string        // the id of the stream; "" before the first begin
	history   *history      // a new one if the numbers of the old one are not valid any more
	target    uint64        // the history is complete when its last is this or more
	newest    uint64        // the last message up to target that the stream still has
	connected bool          // to NATS
	advanced  chan struct{} // closed and removed when the fields above change; nil if no goroutine waits
}

func newRoom(name string, l limits) *room {
	r := &room{name: name, limits: l, gate: newGate(l), history: &history{}}
	r.handler = websocket.Handle(r.run,
		websocket.MaxMessageSize(maxMessage),
		websocket.SendQueue(sendQueue),
		websocket.WriteTimeout(l.write),
		websocket.CloseTimeout(2*time.Second), // a connection counts until it is closed
		websocket.OnError(func(c *websocket.Conn, err error) {
			slog.Error("connection failed", "from", c.RemoteAddr(), "err", err)
		}))
	return r
}

// ServeHTTP counts the connection. If there are too many, it refuses the request before the
// handshake, because a refused WebSocket would take memory until it is closed.
func (r *room) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	leave, ok := r.gate.enter(r.gate.address(req))
	if !ok {
		if req.ProtoMajor == 1 { // over HTTP/2, it would end the streams of other requests too
			w.Header().Set("Connection", "close")
		}
		w.Header().Set("Retry-After", "10")
		http.Error(w, "there are too many connections: try again later", http.StatusServiceUnavailable)
		return
	}
	defer leave()
	r.handler.ServeHTTP(w, req)
}

// run serves one client: its hello, the messages that it has missed, and then its remarks.
// Meanwhile, the goroutine of the bus sends it what other clients say.
func (r *room) run(c *websocket.Conn) error {
	var in hello
	c.SetReadDeadline(time.Now().Add(r.limits.hello))
	if err := receive(c, &in); err != nil {
		return err
	}
	c.SetReadDeadline(time.Time{})
	name, err := cleanName(in.Name)
	if err != nil {
		return err
	}
	if err := r.join(c, name, in); err != nil {
		return err
	}
	own := throttle{rate: r.limits.perConnection}
	for {
		var m remark
		if err := receive(c, &m); err != nil {
			return err
		}
		own.wait(c.Context()) // its next remarks stay in the buffers of TCP meanwhile
		if err := r.say(c, name, m); err != nil {
			return err
		}
	}
}

// receive receives a message and decodes it into v. If the message is not JSON for v, or
// the read deadline has passed, the client has broken a rule of the chat.
func receive(c *websocket.Conn, v any) error {
	err := c.ReceiveJSON(v)
	if err != nil && c.Context().Err() == nil {
		return refuse("want a JSON message of this chat")
	}
	return err
}

// say publishes a remark and tells the client the result. The message itself comes back from
// the bus, as for all other clients.
func (r *room) say(c *websocket.Conn, name string, m remark) error {
	if err := checkID(m.ID); err != nil {
		return err
	}
	text, err := cleanText(m.Text)
	if err != nil {
		return err
	}
	data, err := json.Marshal(stored{remark: remark{m.ID, text}, Name: name, Server: r.name})
	if err != nil {
		return err
	}
	seq, err := r.bus.publish(c.Context(), m.ID, data)
	result := event{Type: "stored", ID: m.ID, Seq: seq}
	if err != nil {
		if c.Context().Err() != nil {
			return context.Cause(c.Context())
		}
		slog.Warn("a message was not published", "err", errors.Unwrap(err))
		result = event{Type: "failed", ID: m.ID, Reason: err.Error()}
	}
	return c.TrySend(websocket.Text, result.encode())
}

// join sends a client its welcome and all messages behind those that it has seen, and adds it
// to the group. The client ends up with every message once, in order.
func (r *room) join(c *websocket.Conn, name string, in hello) error {
	from, err := r.position(c.Context(), in)
	if err != nil {
		return err
	}
	welcome := event{Type: "welcome", Name: name, Server: r.name,
		Stream: from.stream, Seq: from.seq, Time: from.time, Reset: from.reset}
	if err := c.SendMessage(websocket.Text, welcome.encode()); err != nil {
		return err
	}
	at := from.seq
	end := time.Now().Add(r.limits.catchUp)
	for {
		entries, joined, err := r.step(c, from.history, &at)
		if joined || err != nil {
			return err
		}
		for _, e := range entries {
			if time.Now().After(end) {
				return later("the messages that you have missed took too long; the rest comes next time")
			}
			if err := send(e, &at, c.SendMessage, c.SendPrepared); err != nil {
				return err
			}
		}
	}
}

// A position is where the messages of a client begin.
type position struct {
	history *history
	stream  string
	seq     uint64    // the number before them
	time    time.Time // of the message with that number; zero if it is not known
	reset   bool      // the client knew numbers that are not valid any more
}

// position returns the position of a client. It waits until this process has all messages that
// the client has seen in another process.
func (r *room) position(ctx context.Context, in hello) (position, error) {
	late := time.After(r.limits.behind)
	for waiting := true; waiting; {
		p, wait := r.tryPosition(in)
		if wait == nil {
			return p, nil
		}
		select {
		case <-wait:
		case <-late:
			waiting = false
		case <-ctx.Done():
			return position{}, context.Cause(ctx)
		}
	}
	// Either this process is behind, or the stream has lost the messages that the client has
	// seen: a NATS server without copies may lose the newest ones if its machine fails.
	if newest, err := r.bus.newest(ctx); err != nil || newest >= in.Last {
		return position{}, later("this server does not have all messages yet")
	}
	p, wait := r.tryPosition(hello{})
	if wait != nil {
		return position{}, later("this server does not have all messages yet")
	}
	p.reset = true
	return p, nil
}

// tryPosition is position, but does not wait. If the process is behind, it returns a channel
// that is closed when that may have changed.
func (r *room) tryPosition(in hello) (p position, wait <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.history.expire(time.Now())
	known := in.Stream == r.stream && in.Stream != ""
	need := r.target
	if known {
		need = max(need, in.Last)
	}
	if r.stream == "" || r.history.last < need {
		return position{}, r.waitLocked()
	}
	// The stream may have lost its newest messages and used their numbers again.
	if at := r.history.timeOf(in.Last); !at.IsZero() && !in.Time.IsZero() && !at.Equal(in.Time) {
		known = false
	}
	seq := in.Last
	if !known {
		seq = r.history.beforeLast(greeting)
	}
	reset := in.Stream != "" && !known
	return position{r.history, r.stream, seq, r.history.timeOf(seq), reset}, nil
}

// waitLocked returns a channel that is closed at the next change. r.mu is held.
func (r *room) waitLocked() <-chan struct{} {
	if r.advanced == nil {
		r.advanced = make(chan struct{})
	}
	return r.advanced
}

// changed wakes the goroutines that wait for a change. r.mu is held.
func (r *room) changed() {
	if r.advanced != nil {
		close(r.advanced)
		r.advanced = nil
	}
}

// waitReady waits until the history is complete and the process is connected to NATS.
func (r *room) waitReady(ctx context.Context) error {
	for {
		wait := r.ready()
		if wait == nil {
			return nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ready returns nil, or a channel that is closed when the room may be ready.
func (r *room) ready() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stream != "" && r.history.last >= r.target && r.connected {
		return nil
	}
	return r.waitLocked()
}

// step returns the next entries for a client at the position at. If few are left, it puts them
// into the client's send queue instead, and the client joins the group.
func (r *room) step(c *websocket.Conn, h *history, at *uint64) (entries []entry, joined bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.history != h {
		return nil, false, restarted()
	}
	h.expire(time.Now())
	entries, complete := h.after(*at, catchUpStep)
	if !complete {
		return entries, false, nil
	}
	for _, e := range entries {
		if err := send(e, at, c.TrySend, c.TrySendPrepared); err != nil {
			return nil, false, err
		}
	}
	// The newest messages may be gone already.
	if err := sendMissed(at, h.last+1, c.TrySend); err != nil {
		return nil, false, err
	}
	live := event{Type: "live", Connected: &r.connected}
	if err := c.TrySend(websocket.Text, live.encode()); err != nil {
		return nil, false, err
	}
	if !r.live.Join(c) {
		return nil, false, context.Cause(c.Context())
	}
	return nil, true, nil
}

// send sends an entry and moves the position of the client behind it.
func send(e entry, at *uint64, sendMessage func(websocket.Opcode, []byte) error, sendPrepared func(*websocket.PreparedMessage) error) error {
	if err := sendMissed(at, e.seq, sendMessage); err != nil {
		return err
	}
	*at = e.seq
	if e.frame == nil {
		return nil
	}
	return sendPrepared(e.frame)
}

// sendMissed tells a client that the messages between its position and next are gone.
func sendMissed(at *uint64, next uint64, sendMessage func(websocket.Opcode, []byte) error) error {
	count := next - *at - 1
	if count == 0 {
		return nil
	}
	*at = next - 1
	return sendMessage(websocket.Text, event{Type: "missed", Seq: next - 1, Count: count}.encode())
}

// restarted returns the error of a client whose numbers are not valid any more. The page
// connects again, and its hello shows which stream it knows.
func restarted() error {
	return &websocket.CloseError{Code: websocket.StatusServiceRestart, Reason: "the history was made again"}
}

// last implements receiver.
func (r *room) last() (seq uint64, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.history.last, r.history.lastAt
}

// follows implements receiver.
func (r *room) follows(s streamState) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.followsLocked(s)
}

func (r *room) followsLocked(s streamState) bool {
	sameTime := s.lastAt.IsZero() || s.lastAt.Equal(r.history.lastAt)
	return s.id == r.stream && s.last >= r.history.last && sameTime
}

// begin implements receiver.
func (r *room) begin(s streamState) (next uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.changed()
	if !r.followsLocked(s) {
		if r.stream != "" {
			slog.Warn("the stream was made again, or has lost its newest messages", "last", s.last, "known", r.history.last)
		}
		for c := range r.live.All() {
			r.live.Leave(c)
			c.StartClose(websocket.StatusServiceRestart, "the history was made again")
		}
		r.stream = s.id
		r.history = &history{last: s.first - 1}
	}
	r.history.maxEntries = atMost(s.messages, r.limits.historyEntries)
	r.history.maxBytes = atMost(s.bytes, r.limits.historyBytes)
	r.history.maxAge = s.age
	r.target, r.newest = s.last, s.newest
	r.skipDeleted()
	return r.history.last + 1
}

// atMost returns n, or the limit if n is larger or, as in NATS, not a limit.
func atMost(n, limit int64) int64 {
	if n <= 0 {
		return limit
	}
	return min(n, limit)
}

// deliver implements receiver.
func (r *room) deliver(seq uint64, at time.Time, data []byte) {
	message, err := said(seq, at, data)
	if err != nil {
		slog.Warn("there is a message in the stream that is not one of this chat", "seq", seq, "err", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if seq <= r.history.last {
		return
	}
	defer r.changed()
	r.missed(seq)
	e := entry{seq: seq, at: at, size: len(message) + entryOverhead}
	if err == nil {
		e.frame, err = websocket.PrepareMessage(websocket.Text, message)
	}
	r.history.add(e)
	if err == nil {
		r.live.Broadcast(websocket.Text, message) // the error is that of PrepareMessage
	}
	r.skipDeleted()
}

// skipDeleted skips the numbers behind the newest message that the stream still has, because
// no message with these numbers comes. r.mu is held.
func (r *room) skipDeleted() {
	if r.history.last < r.newest || r.history.last >= r.target {
		return
	}
	r.missed(r.target + 1)
	r.history.last, r.history.lastAt = r.target, time.Time{}
}

// missed tells the live clients that the messages between the last one and next are gone:
// NATS has dropped them while this process could not read them. r.mu is held.
func (r *room) missed(next uint64) {
	if count := next - r.history.last - 1; count > 0 {
		r.live.Broadcast(websocket.Text, event{Type: "missed", Seq: next - 1, Count: count}.encode())
	}
}

// setConnected implements receiver.
func (r *room) setConnected(connected bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.connected == connected {
		return
	}
	r.connected = connected
	r.changed()
	r.live.Broadcast(websocket.Text, event{Type: "bus", Connected: &connected}.encode())
}

// sayAlive sends an event to all live clients in each interval until ctx is done. Some network
// failures cause no event in a page, and a page does not see the pings of the library. So a page
// notices such a failure only if it knows that an event should have come.
func (r *room) sayAlive(ctx context.Context, every time.Duration) {
	alive := event{Type: "alive"}.encode()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			r.live.Broadcast(websocket.Text, alive)
		case <-ctx.Done():
			return
		}
	}
}
