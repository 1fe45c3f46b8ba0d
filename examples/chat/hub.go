package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/f44ffc3b/websocket"
)

const (
	maxPeople  = 500  // connections at the same time
	maxHistory = 50   // messages in the history that a new member gets
	maxQueue   = 64   // events in the queue of a member
	maxName    = 24   // characters
	maxText    = 1000 // characters
	maxKey     = 64   // bytes; also the limit of a remark's ID

	helloTimeout = 10 * time.Second
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
	Type    string    `json:"type"`              // "welcome", "joined", "left" or "said"
	Name    string    `json:"name,omitempty"`    // the member that joined, left or is welcomed
	People  []string  `json:"people,omitempty"`  // "welcome" only: the names of all members
	History []message `json:"history,omitempty"` // "welcome" only: the last messages, oldest first
	Message *message  `json:"message,omitempty"` // "said" only
}

// A hub is the chat room. It never waits for a browser: it puts events into the queue
// of each member, and a goroutine of the member sends them. If a queue is full, the hub
// removes the member.
type hub struct {
	socket  http.Handler
	pace    time.Duration  // see throttle
	running sync.WaitGroup // the calls of ServeHTTP

	mu      sync.Mutex // guards the fields below, and the name and key of each member
	closed  bool
	members map[*member]bool
	history []message
}

func newHub() *hub {
	h := &hub{pace: 500 * time.Millisecond, members: make(map[*member]bool)}
	h.socket = websocket.Handle(h.serve,
		websocket.MaxMessageSize(8<<10),
		websocket.WriteTimeout(5*time.Second),
		websocket.OnError(func(c *websocket.Conn, err error) {
			slog.Error("connection failed", "from", c.RemoteAddr(), "err", err)
		}))
	return h
}

// ServeHTTP counts running connections for wait, because http.Server does not track
// hijacked ones.
func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.running.Add(1)
	defer h.running.Done()
	h.socket.ServeHTTP(w, r)
}

// serve runs one connection. It receives on this goroutine and sends on another. It
// returns when both have finished; then the library closes the connection.
func (h *hub) serve(c *websocket.Conn) error {
	m, err := h.enter(c)
	if err != nil {
		return err
	}
	var sender sync.WaitGroup
	sender.Go(m.send)
	err = h.listen(m)
	h.leave(m, err)
	sender.Wait()
	return err
}

// listen handles the messages of the browser until the connection ends or the browser
// breaks a rule of the chat.
func (h *hub) listen(m *member) error {
	var intro hello
	m.conn.SetReadDeadline(time.Now().Add(helloTimeout))
	if err := receive(m.conn, &intro); err != nil {
		return err
	}
	m.conn.SetReadDeadline(time.Time{})
	if err := h.join(m, intro); err != nil {
		return err
	}
	limit := throttle{pace: h.pace}
	for {
		var r remark
		if err := receive(m.conn, &r); err != nil {
			return err
		}
		if err := h.say(m, r); err != nil {
			return err
		}
		limit.wait(m.ctx)
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

// enter adds a connection to the room. It has no name until join.
func (h *hub) enter(c *websocket.Conn) (*member, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, goingAway
	}
	if len(h.members) == maxPeople {
		return nil, &websocket.CloseError{Code: websocket.StatusTryAgainLater, Reason: "the room is full"}
	}
	m := newMember(c)
	h.members[m] = true
	return m, nil
}

// join gives the member its name and key, and tells all members. If another connection
// has the same name and key, the member replaces it.
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
	old := h.find(name)
	if old != nil && old.key != intro.Key {
		return refuse("the name %s is taken", name)
	}
	if old != nil {
		delete(h.members, old)
		old.dismiss(refuse("you have joined in another window"))
	} else {
		h.tell(event{Type: "joined", Name: name})
	}
	m.name, m.key = name, intro.Key
	m.tell(event{Type: "welcome", Name: name, People: h.people(), History: slices.Clone(h.history)})
	slog.Info("joined", "name", name, "from", m.conn.RemoteAddr(), "reconnected", old != nil)
	return nil
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

// leave removes the member from the room and stops the goroutine that sends to it.
func (h *hub) leave(m *member, err error) {
	m.dismiss(nil)
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.members[m] {
		return
	}
	delete(h.members, m)
	if m.name != "" {
		h.tell(event{Type: "left", Name: m.name})
		slog.Info("left", "name", m.name, "err", err)
	}
}

// tell puts e into the queue of every member that has a name. The caller holds h.mu, so
// all members get the events in the same order.
func (h *hub) tell(e event) {
	for m := range h.members {
		if m.name != "" {
			m.tell(e)
		}
	}
}

// find returns the member with this name, without regard to case, or nil. The caller
// holds h.mu.
func (h *hub) find(name string) *member {
	for m := range h.members {
		if m.name != "" && strings.EqualFold(m.name, name) {
			return m
		}
	}
	return nil
}

// people returns the names of all members, sorted. The caller holds h.mu.
func (h *hub) people() []string {
	var names []string
	for m := range h.members {
		if m.name != "" {
			names = append(names, m.name)
		}
	}
	slices.Sort(names)
	return names
}

var goingAway = &websocket.CloseError{Code: websocket.StatusGoingAway, Reason: "the server is going away"}

// close closes the connections of all members with 1001. Connections that are made
// later are closed in the same way.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for m := range h.members {
		m.dismiss(goingAway)
	}
}

// wait returns nil when the last connection is closed, or an error when ctx is done.
func (h *hub) wait(ctx context.Context) error {
	empty := make(chan struct{})
	go func() {
		h.running.Wait() // ends even if ctx does not, because connections have timeouts
		close(empty)
	}()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for connections to close: %w", ctx.Err())
	}
}

// A member is a connection to the room.
type member struct {
	conn      *websocket.Conn
	name, key string // from its hello; "" before join
	queue     chan event

	// ctx is done when the connection has ended or must end. If its cause is a
	// *websocket.CloseError, send closes the connection with that code and reason.
	ctx     context.Context
	dismiss context.CancelCauseFunc
}

func newMember(c *websocket.Conn) *member {
	ctx, dismiss := context.WithCancelCause(c.Context())
	return &member{conn: c, queue: make(chan event, maxQueue), ctx: ctx, dismiss: dismiss}
}

// tell puts e into the queue. If the queue is full, the member is removed; its browser
// reconnects and gets the last messages from the history.
func (m *member) tell(e event) {
	select {
	case m.queue <- e:
	default:
		m.dismiss(&websocket.CloseError{Code: websocket.StatusTryAgainLater, Reason: "this connection is too slow"})
	}
}

// send sends the queued events until ctx is done or sending fails. In both cases the
// connection ends, so listen returns as well.
func (m *member) send() {
	for {
		select {
		case e := <-m.queue:
			if err := m.conn.SendJSON(e); err != nil {
				return
			}
		case <-m.ctx.Done():
			if end, ok := context.Cause(m.ctx).(*websocket.CloseError); ok {
				m.conn.Close(end.Code, end.Reason)
			}
			return
		}
	}
}

// A throttle limits the rate of a member's remarks. After ten remarks without a pause,
// the server reads one remark in each interval of pace. TCP flow control keeps the
// others at the client.
type throttle struct {
	pace time.Duration
	next time.Time // when the next remark may be read
}

// wait waits until the next remark may be read, or ctx is done.
func (t *throttle) wait(ctx context.Context) {
	now := time.Now()
	if earliest := now.Add(-10 * t.pace); t.next.Before(earliest) {
		t.next = earliest
	}
	t.next = t.next.Add(t.pace)
	select {
	case <-time.After(t.next.Sub(now)):
	case <-ctx.Done():
	}
}

// cleanName returns the name with single spaces. It refuses names with characters that
// are not printable, because some of them hide the text around them or reverse its
// direction.
func cleanName(name string) (string, error) {
	name = strings.Join(strings.Fields(name), " ")
	n := utf8.RuneCountInString(name)
	hidden := func(r rune) bool { return !unicode.IsPrint(r) }
	if n == 0 || n > maxName || strings.ContainsFunc(name, hidden) {
		return "", refuse("want a name of 1 to %d printable characters", maxName)
	}
	return name, nil
}

// cleanText returns the text without space around it.
func cleanText(text string) (string, error) {
	text = strings.TrimSpace(text)
	if n := utf8.RuneCountInString(text); n == 0 || n > maxText {
		return "", refuse("want a text of 1 to %d characters", maxText)
	}
	return text, nil
}

// refuse returns the error that closes a connection because the browser broke a rule of
// the chat. The page does not reconnect after it, but shows the reason to its user.
func refuse(format string, args ...any) error {
	return &websocket.CloseError{Code: websocket.StatusPolicyViolation, Reason: fmt.Sprintf(format, args...)}
}
