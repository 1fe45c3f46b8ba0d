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
	maxPeople  = 500  // connections at a time
	maxHistory = 50   // messages that a newcomer is shown
	maxQueue   = 64   // events that a browser may be behind
	maxName    = 24   // characters
	maxText    = 1000 // characters
	maxKey     = 64   // bytes, of ids too

	helloTimeout = 10 * time.Second
)

// A hello is the first message of a browser.
type hello struct {
	Name string `json:"name"`
	// Key is a secret of the browser's tab. Who comes back with the same one,
	// over a network that broke without a word, takes its old place.
	Key string `json:"key"`
}

// A remark is every further message of a browser.
type remark struct {
	// ID is made by the browser. By it, the browser knows that its remark has
	// arrived, and everybody that one sent twice, over two connections, is one.
	ID   string `json:"id"`
	Text string `json:"text"`
}

// A message is a remark as everybody sees it.
type message struct {
	remark
	Name string    `json:"name"`
	Time time.Time `json:"time"`
}

// An event is what a browser is sent.
type event struct {
	Type    string    `json:"type"`              // "welcome", "joined", "left" or "said"
	Name    string    `json:"name,omitempty"`    // who is welcome, joined or left
	People  []string  `json:"people,omitempty"`  // with "welcome": who is here
	History []message `json:"history,omitempty"` // with "welcome": what was said last, oldest first
	Message *message  `json:"message,omitempty"` // with "said"
}

// A hub is the room that everybody is in. It never waits for a browser: it puts
// events into the queue of each member, whose own goroutine sends them as fast as
// its browser reads, and dismisses a member whose queue is full.
type hub struct {
	socket  http.Handler
	pace    time.Duration  // see throttle
	running sync.WaitGroup // the requests in ServeHTTP

	mu      sync.Mutex // guards what follows, and the names and keys of members
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

// ServeHTTP counts, so that wait can wait: a connection that was upgraded is
// none of http.Server's business any more.
func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.running.Add(1)
	defer h.running.Done()
	h.socket.ServeHTTP(w, r)
}

// serve is the life of one connection. It reads on this goroutine, whose end is
// the end of the connection, and sends on another that is gone when it returns.
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

// listen takes in what the browser sends, until the connection ends or a rule of
// the room is broken.
func (h *hub) listen(m *member) error {
	var who hello
	m.conn.SetReadDeadline(time.Now().Add(helloTimeout))
	if err := receive(m.conn, &who); err != nil {
		return err
	}
	m.conn.SetReadDeadline(time.Time{})
	if err := h.join(m, who); err != nil {
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

// receive is ReceiveJSON for peers that are not trusted: JSON of another kind, or
// none in time, breaks a rule of the room and is no failure of the server.
func receive(c *websocket.Conn, v any) error {
	err := c.ReceiveJSON(v)
	if err != nil && websocket.CloseStatus(err) == 0 {
		return refuse("want JSON of this chat")
	}
	return err
}

// enter lets a connection in, which is nobody yet.
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

// join makes the member somebody, and tells it and everybody else.
func (h *hub) join(m *member, who hello) error {
	name, err := cleanName(who.Name)
	if err != nil {
		return err
	}
	if len(who.Key) == 0 || len(who.Key) > maxKey {
		return refuse("want a key of 1 to %d bytes", maxKey)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	old := h.find(name)
	if old != nil && old.key != who.Key {
		return refuse("the name %s is taken", name)
	}
	if old != nil {
		delete(h.members, old)
		old.dismiss(refuse("you are here in another window"))
	} else {
		h.tell(event{Type: "joined", Name: name})
	}
	m.name, m.key = name, who.Key
	m.tell(event{Type: "welcome", Name: name, People: h.people(), History: slices.Clone(h.history)})
	slog.Info("joined", "name", name, "from", m.conn.RemoteAddr(), "again", old != nil)
	return nil
}

// say passes a remark on to everybody, its author included.
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
		return nil // it is back on another connection, and says it there
	}
	said := message{remark: remark{ID: r.ID, Text: text}, Name: m.name, Time: time.Now()}
	if len(h.history) == maxHistory {
		h.history = slices.Delete(h.history, 0, 1)
	}
	h.history = append(h.history, said)
	h.tell(event{Type: "said", Message: &said})
	return nil
}

// leave takes the member out of the room and lets its sender end.
func (h *hub) leave(m *member, why error) {
	m.dismiss(nil)
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.members[m] {
		return
	}
	delete(h.members, m)
	if m.name != "" {
		h.tell(event{Type: "left", Name: m.name})
		slog.Info("left", "name", m.name, "why", why)
	}
}

// tell queues e for everybody who has a name. h.mu is held, which gives all of
// them the same order.
func (h *hub) tell(e event) {
	for m := range h.members {
		if m.name != "" {
			m.tell(e)
		}
	}
}

func (h *hub) find(name string) *member {
	for m := range h.members {
		if m.name != "" && strings.EqualFold(m.name, name) {
			return m
		}
	}
	return nil
}

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

// close dismisses everybody, and those who are still to come.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for m := range h.members {
		m.dismiss(goingAway)
	}
}

// wait returns when the last connection is closed, or ctx is done.
func (h *hub) wait(ctx context.Context) error {
	empty := make(chan struct{})
	go func() {
		h.running.Wait() // which the timeouts of the connections bound as well
		close(empty)
	}()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for connections to close: %w", ctx.Err())
	}
}

// A member is a connection and, from its hello on, who is at the other end.
type member struct {
	conn      *websocket.Conn
	name, key string
	queue     chan event

	// ctx is done when the connection has ended or is to end; its cause may be
	// a *websocket.CloseError, which says with what.
	ctx     context.Context
	dismiss context.CancelCauseFunc
}

func newMember(c *websocket.Conn) *member {
	ctx, dismiss := context.WithCancelCause(c.Context())
	return &member{conn: c, queue: make(chan event, maxQueue), ctx: ctx, dismiss: dismiss}
}

// tell queues e. Who is that far behind misses nothing by being dismissed: its
// browser comes back and is shown the history.
func (m *member) tell(e event) {
	select {
	case m.queue <- e:
	default:
		m.dismiss(&websocket.CloseError{Code: websocket.StatusTryAgainLater, Reason: "you fell behind"})
	}
}

// send sends what is queued, for as long as the member is in the room. A
// connection that ends here, by an error or a dismissal, ends listen as well.
func (m *member) send() {
	for {
		select {
		case e := <-m.queue:
			if err := m.conn.SendJSON(e); err != nil {
				return
			}
		case <-m.ctx.Done():
			if why, ok := context.Cause(m.ctx).(*websocket.CloseError); ok {
				m.conn.Close(why.Code, why.Reason)
			}
			return
		}
	}
}

// A throttle holds back who says more than ten things at once: it is read one
// remark per pace from then on, and TCP makes the rest wait at its end.
type throttle struct {
	pace time.Duration
	next time.Time
}

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

// cleanName returns the name as it is shown: printable, which leaves out what
// would turn or hide the text around it, and with single spaces.
func cleanName(name string) (string, error) {
	name = strings.Join(strings.Fields(name), " ")
	n := utf8.RuneCountInString(name)
	hidden := func(r rune) bool { return !unicode.IsPrint(r) }
	if n == 0 || n > maxName || strings.ContainsFunc(name, hidden) {
		return "", refuse("want a name of 1 to %d printable characters", maxName)
	}
	return name, nil
}

func cleanText(text string) (string, error) {
	text = strings.TrimSpace(text)
	if n := utf8.RuneCountInString(text); n == 0 || n > maxText {
		return "", refuse("want a text of 1 to %d characters", maxText)
	}
	return text, nil
}

// refuse is for those who broke a rule of the room. A browser does not come back
// from it by itself, but shows its user the reason.
func refuse(format string, args ...any) error {
	return &websocket.CloseError{Code: websocket.StatusPolicyViolation, Reason: fmt.Sprintf(format, args...)}
}
