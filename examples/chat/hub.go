package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/f44ffc3b/websocket"
)

const (
	maxHistory = 50 // messages in the history that a new member gets
	maxKey     = 64 // bytes; also the limit of a remark's ID

	// aliveEvery is how often each member gets an event. page/chat.js reconnects if it has
	// got none for 50 seconds.
	aliveEvery = 20 * time.Second
)

// A hello is the first message of a browser on a connection.
type hello struct {
	Name string `json:"name"`
	// Key is a secret of the browser's tab. A tab that reconnects with the same
	// name and key replaces its old connection, which the server may still
	// consider open after a network failure.
	Key string `json:"key"`
}

// A remark is every other message of a browser.
type remark struct {
	// ID is chosen by the browser. It tells the browser that its remark has
	// arrived. If the browser sends a remark again on a new connection, the
	// server and the other browsers recognize the repetition by its ID.
	ID   string `json:"id"`
	Text string `json:"text"`
}

// A message is a remark with its author and time, as the browsers show it.
type message struct {
	remark
	Name string    `json:"name"`
	Time time.Time `json:"time"`
}

// An event is a message of the server to a browser.
type event struct {
	Type    string    `json:"type"`              // "welcome", "joined", "left", "said" or "alive"
	Name    string    `json:"name,omitempty"`    // the member that joined, left or is welcomed
	People  []string  `json:"people,omitempty"`  // "welcome" only: the names of all members
	History []message `json:"history,omitempty"` // "welcome" only: the last messages, oldest first
	Message *message  `json:"message,omitempty"` // "said" only
}

// encode returns the event as JSON. An event for many members is encoded once.
func (e event) encode() []byte {
	data, err := json.Marshal(e)
	if err != nil {
		panic(err) // cannot happen, because every event can be encoded
	}
	return data
}

// A hub is the chat room. A websocket.Group sends the events to its members. It does not wait
// for a browser: events wait in the queue of each connection, and a connection whose queue is
// full is closed with 1013. Events come at the rate of the gate, and no faster, so the queues
// of members that read are not full.
type hub struct {
	socket *websocket.Handler
	gate   *gate
	room   websocket.Group // the connections of the members

	// mu guards the fields below. It is held while an event is sent, so all members get the
	// events in the same order.
	mu      sync.Mutex
	members map[*member]bool
	waiting []*member // those that have not sent their hello, the oldest first
	history []message
}

// A member is a connection to the room.
type member struct {
	conn      *websocket.Conn
	from      *address
	name, key string // from its hello; they do not change after join
}

func newHub(l limits) *hub {
	h := &hub{gate: newGate(l), members: make(map[*member]bool)}
	h.socket = websocket.Handle(h.serve,
		websocket.MaxMessageSize(8<<10),
		websocket.SendQueue(l.queue),
		websocket.WriteTimeout(l.write),
		websocket.CloseTimeout(2*time.Second), // a connection counts until it is closed
		websocket.OnError(func(c *websocket.Conn, err error) {
			slog.Error("connection failed", "from", c.RemoteAddr(), "err", err)
		}))
	return h
}

// ServeHTTP counts the connection. If there are too many, it refuses the request before
// the handshake, because a refused WebSocket would take memory until it is closed.
func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	from := h.gate.enter(h.gate.address(r))
	if from == nil {
		if r.ProtoMajor == 1 { // over HTTP/2, it would end the streams of other requests too
			w.Header().Set("Connection", "close")
		}
		w.Header().Set("Retry-After", "10")
		http.Error(w, "there are too many connections: try again later", http.StatusServiceUnavailable)
		return
	}
	defer h.gate.leave(from)
	ctx := context.WithValue(r.Context(), addressKey{}, from)
	h.socket.ServeHTTP(w, r.WithContext(ctx))
}

// addressKey is the key of the *address in the context of a connection.
type addressKey struct{}

// serve runs one connection. When it returns, the library closes the connection.
func (h *hub) serve(c *websocket.Conn) error {
	m := &member{conn: c, from: c.Context().Value(addressKey{}).(*address)}
	err := h.listen(m)
	h.leave(m, err)
	return err
}

// listen handles the messages of the browser until the connection ends or the browser
// breaks a rule of the chat.
func (h *hub) listen(m *member) error {
	ctx := m.conn.Context()
	h.expectHello(m)
	var intro hello
	m.conn.SetReadDeadline(time.Now().Add(h.gate.limits.hello))
	if err := receive(m.conn, &intro); err != nil {
		return err
	}
	m.conn.SetReadDeadline(time.Time{})
	h.greeted(m)
	h.gate.wait(ctx, m.from)
	if err := h.join(m, intro); err != nil {
		return err
	}
	own := throttle{rate: h.gate.limits.perMember}
	for {
		var r remark
		if err := receive(m.conn, &r); err != nil {
			return err
		}
		// While the member waits, its next remarks stay in the buffers of TCP.
		own.wait(ctx)
		h.gate.wait(ctx, m.from)
		if err := h.say(m, r); err != nil {
			return err
		}
	}
}

// receive receives a message and decodes it into v. If the message is not JSON for v, or
// the read deadline has passed, the connection is still open, and receive returns the
// error of refuse: the browser has broken a rule, and the server has not failed.
func receive(c *websocket.Conn, v any) error {
	err := c.ReceiveJSON(v)
	if err != nil && c.Context().Err() == nil {
		return refuse("want a JSON message of this chat")
	}
	return err
}

// expectHello adds a connection to those that have not sent their hello. If there are too
// many, it closes the oldest of them: a browser sends its hello at once, so a new connection
// is more likely to be honest than an old one.
func (h *hub) expectHello(m *member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.waiting) == h.gate.limits.waiting {
		h.waiting[0].conn.StartClose(websocket.StatusTryAgainLater, "the hello is late")
		h.waiting = slices.Delete(h.waiting, 0, 1)
	}
	h.waiting = append(h.waiting, m)
}

// greeted removes a connection from those that have not sent their hello.
func (h *hub) greeted(m *member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting = slices.DeleteFunc(h.waiting, func(other *member) bool { return other == m })
}

// join gives the member its name and key, and tells all members. If another connection
// has the same key and the same name, or one that looks like it, the member replaces it.
func (h *hub) join(m *member, intro hello) error {
	name, err := cleanName(intro.Name)
	if err != nil {
		return err
	}
	if len(intro.Key) == 0 || len(intro.Key) > maxKey {
		return refuse("want a key of 1 to %d bytes", maxKey)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if ctx := m.conn.Context(); ctx.Err() != nil {
		return context.Cause(ctx) // the connection has ended while it waited
	}
	old := h.find(name)
	if slices.ContainsFunc(old, func(other *member) bool { return other.key != intro.Key }) {
		return refuse("the name %s is taken", name)
	}
	if len(old) == 0 && len(h.members) >= h.gate.limits.people {
		return &websocket.CloseError{Code: websocket.StatusTryAgainLater, Reason: "the room is full"}
	}
	again := h.replace(old, name)
	if !again {
		h.tell(event{Type: "joined", Name: name})
	}
	m.name, m.key = name, intro.Key
	h.members[m] = true
	slog.Info("joined", "name", name, "from", m.from.prefix, "reconnected", again)
	// The welcome comes first, because the member joins the Group behind it.
	welcome := event{Type: "welcome", Name: name, People: h.people(), History: h.history}
	if err := m.conn.TrySend(websocket.Text, welcome.encode()); err != nil {
		return err
	}
	h.room.Join(m.conn) // if the connection has ended, the next receive returns why
	return nil
}

// replace removes the old connections of a browser that joins as name. It reports whether
// one of them had exactly this name, so that no member has to be told. The caller holds
// h.mu.
func (h *hub) replace(old []*member, name string) (again bool) {
	for _, m := range old {
		delete(h.members, m)
		m.conn.StartClose(websocket.StatusPolicyViolation, "you have joined in another window")
		if m.name == name {
			again = true
			continue
		}
		h.tellLeft(m.name)
	}
	return again
}

// say sends a remark to all members, its author included.
func (h *hub) say(m *member, r remark) error {
	if len(r.ID) == 0 || len(r.ID) > maxKey {
		return refuse("want an id of 1 to %d bytes", maxKey)
	}
	text, err := cleanText(r.Text)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	known := func(old message) bool { return old.ID == r.ID }
	if !h.members[m] || slices.ContainsFunc(h.history, known) {
		return nil // the browser has reconnected, or has sent the remark before
	}
	said := message{remark: remark{ID: r.ID, Text: text}, Name: m.name, Time: time.Now()}
	if len(h.history) == maxHistory {
		h.history = slices.Delete(h.history, 0, 1)
	}
	h.history = append(h.history, said)
	h.tell(event{Type: "said", Message: &said})
	return nil
}

// leave removes a connection that ends because of err.
func (h *hub) leave(m *member, err error) {
	h.greeted(m)
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.members[m] {
		return
	}
	delete(h.members, m)
	h.room.Leave(m.conn) // the connection is still open if the browser has broken a rule
	h.tellLeft(m.name)
	slog.Info("left", "name", m.name, "err", err)
}

// tellLeft tells all members at once that a member has left. It counts as an event of the
// room, so later events wait longer. The caller holds h.mu.
func (h *hub) tellLeft(name string) {
	h.gate.room.take()
	h.tell(event{Type: "left", Name: name})
}

// tell sends e to all members. The caller holds h.mu.
func (h *hub) tell(e event) {
	h.room.Broadcast(websocket.Text, e.encode()) // cannot fail, because JSON is valid UTF-8
}

// sayAlive sends an event to all members in each interval until ctx is done. Some network
// failures cause no event in a page, and a page does not see the pings of the library. So a page
// notices such a failure only if it knows that an event should have come.
func (h *hub) sayAlive(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			h.mu.Lock()
			h.tell(event{Type: "alive"})
			h.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

// find returns the members with this name or one that looks like it. The caller holds
// h.mu.
func (h *hub) find(name string) []*member {
	var found []*member
	for m := range h.members {
		if alike(m.name, name) {
			found = append(found, m)
		}
	}
	return found
}

// people returns the names of all members, sorted. The caller holds h.mu.
func (h *hub) people() []string {
	var names []string
	for m := range h.members {
		names = append(names, m.name)
	}
	slices.Sort(names)
	return names
}

// refuse returns the error that closes a connection because the browser broke a rule of
// the chat. The page does not reconnect after it, but shows the reason to its user.
func refuse(format string, args ...any) error {
	return &websocket.CloseError{Code: websocket.StatusPolicyViolation, Reason: fmt.Sprintf(format, args...)}
}
