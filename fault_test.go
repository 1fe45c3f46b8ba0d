package websocket

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wait"
)

// A faultyConn is a socket on which one operation goes wrong: the read or the
// write with the number at, counted from 0.
type faultyConn struct {
	net.Conn
	fault   fault
	writing bool // the fault is in a write
	at      int

	readBy, writeBy wait.Deadline // for an operation that is stalled, not in the pipe
	closed          chan struct{}

	mu            sync.Mutex
	reads, writes int
	broken        error // of every operation from now on
	spoiled       func(op *operation) (int, error)
}

// A fault is one way for an operation to go wrong.
type fault struct {
	name string
	do   func(op *operation) (int, error)

	// Where the fault is one that a session must get over with everything delivered.
	harmlessRead, harmlessWrite bool
	deadline                    bool // it is a deadline that expires
}

// An operation is a read or a write that is to go wrong.
type operation struct {
	conn     *faultyConn
	transfer func([]byte) (int, error)
	p        []byte
	by       *wait.Deadline
}

var faults = []fault{
	{name: "one byte", harmlessRead: true, do: func(op *operation) (int, error) { return op.some(1) }},
	{name: "half", harmlessRead: true, do: func(op *operation) (int, error) { return op.some(len(op.p) / 2) }},
	{name: "never more than 300 bytes again", harmlessRead: true, do: func(op *operation) (int, error) {
		return op.fromNowOn(func(op *operation) (int, error) { return op.some(300) })
	}},
	{name: "neither a byte nor an error", harmlessRead: true, do: nothing},
	{name: "neither a byte nor an error for ever", do: func(op *operation) (int, error) { return op.fromNowOn(nothing) }},
	{name: "a deadline", deadline: true, harmlessRead: true, do: func(op *operation) (int, error) { return 0, os.ErrDeadlineExceeded }},
	{name: "a byte and a deadline", deadline: true, harmlessRead: true, do: func(op *operation) (int, error) {
		n, _ := op.some(1)
		return n, os.ErrDeadlineExceeded
	}},
	{name: "a timeout of the network", do: func(op *operation) (int, error) { return 0, op.breaks(syscall.ETIMEDOUT) }},
	{name: "a reset", do: func(op *operation) (int, error) { return 0, op.breaks(syscall.ECONNRESET) }},
	{name: "half and a reset", do: func(op *operation) (int, error) {
		n, _ := op.some(len(op.p) / 2)
		return n, op.breaks(syscall.ECONNRESET)
	}},
	{name: "all and a reset", do: func(op *operation) (int, error) {
		n, _ := op.transfer(op.p)
		return n, op.breaks(syscall.ECONNRESET)
	}},
	{name: "the end", do: func(op *operation) (int, error) { return 0, op.breaks(io.EOF) }},
	{name: "all and the end", do: func(op *operation) (int, error) {
		n, _ := op.transfer(op.p)
		return n, op.breaks(io.EOF)
	}},
	{name: "closed", do: func(op *operation) (int, error) { return 0, op.breaks(net.ErrClosed) }},
	{name: "a second", harmlessRead: true, harmlessWrite: true, do: func(op *operation) (int, error) { return op.late(time.Second) }},
	{name: "an hour", do: func(op *operation) (int, error) { return op.late(time.Hour) }},
	{name: "half and an hour", do: func(op *operation) (int, error) {
		n, err := op.some(len(op.p) / 2)
		if err != nil {
			return n, err
		}
		op.p = op.p[n:]
		rest, err := op.late(time.Hour)
		return n + rest, err
	}},
}

func nothing(*operation) (int, error) { return 0, nil }

// some transfers no more than n bytes. Of a write that is short, but without an
// error, a broken net.Conn is the only source.
func (op *operation) some(n int) (int, error) {
	return op.transfer(op.p[:min(max(n, 1), len(op.p))])
}

func (op *operation) breaks(err error) error {
	op.conn.mu.Lock()
	defer op.conn.mu.Unlock()
	op.conn.broken = err
	op.conn.Conn.Close()
	return err
}

func (op *operation) fromNowOn(do func(*operation) (int, error)) (int, error) {
	op.conn.mu.Lock()
	op.conn.spoiled = do
	op.conn.mu.Unlock()
	return do(op)
}

// late transfers everything after d, unless the deadline or Close comes first, as
// on any socket.
func (op *operation) late(d time.Duration) (int, error) {
	select {
	case <-time.After(d):
		return op.transfer(op.p)
	case <-op.by.Done():
		return 0, os.ErrDeadlineExceeded
	case <-op.conn.closed:
		return 0, net.ErrClosed
	}
}

func (c *faultyConn) Read(p []byte) (int, error) {
	return c.run(&operation{c, c.Conn.Read, p, &c.readBy}, &c.reads, false)
}

func (c *faultyConn) Write(p []byte) (int, error) {
	return c.run(&operation{c, c.Conn.Write, p, &c.writeBy}, &c.writes, true)
}

func (c *faultyConn) run(op *operation, count *int, writing bool) (int, error) {
	c.mu.Lock()
	number := *count
	*count++
	broken, spoiled := c.broken, c.spoiled
	c.mu.Unlock()
	switch {
	case broken != nil:
		return 0, broken
	case writing != c.writing:
	case spoiled != nil:
		return spoiled(op)
	case number == c.at && c.fault.do != nil:
		return c.fault.do(op)
	}
	return op.transfer(op.p)
}

func (c *faultyConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.closed:
	default:
		close(c.closed)
	}
	return c.Conn.Close()
}

func (c *faultyConn) SetReadDeadline(t time.Time) error {
	c.readBy.Set(t)
	return c.Conn.SetReadDeadline(t)
}

func (c *faultyConn) SetWriteDeadline(t time.Time) error {
	c.writeBy.Set(t)
	return c.Conn.SetWriteDeadline(t)
}

// A script is what the client of a session sends.
type script []struct {
	after time.Duration
	bytes []byte
}

// longText is over the size up to which a frame is one write, and over that of
// the read buffer.
var longText = string(bytes.Repeat([]byte("long "), 4000))

// pauseOfScript lets the keepalive send its ping.
const pauseOfScript = 20 * time.Second

var clientScript = script{
	{0, clientFrame(true, Text, "text")},
	{0, join(clientFrame(false, Binary, "frag"), clientFrame(true, Ping, "between"), clientFrame(true, Continuation, "mented"))},
	{0, clientFrame(true, Ping, "ping")},
	{pauseOfScript, clientFrame(true, Text, longText)},
	{0, clientFrame(true, Text, "")},
	{0, clientFrame(false, Text, longText)},
	{0, clientFrame(true, Continuation, "last")},
}

// clientMessages are the messages of the script.
var clientMessages = []Message{
	{Text, []byte("text")}, {Binary, []byte("fragmented")}, {Text, []byte(longText)},
	{Text, []byte{}}, {Text, []byte(longText + "last")},
}

// A clientEnd is what the client does at the end of its script.
type clientEnd int

const (
	waits          clientEnd = iota // for the server to close
	closes                          // right behind the last message
	closesAnswered                  // when it has all the answers
)

// A faultSession is one whole life of a connection.
type faultSession struct {
	name       string
	concurrent bool
	ends       clientEnd
	receives   bool // all that the client sends
	fn         func(c *Conn, l *ledger) error
}

var faultSessions = []faultSession{
	{name: "ReceiveMessage and SendMessage", ends: closes, receives: true, fn: echoTo(insistOnMessage)},
	{name: "MessageReader and SendMessage", ends: closes, receives: true, fn: echoTo(insistOnReader)},
	{name: "ReceiveFragments and SendMessage", ends: closes, receives: true, fn: echoTo(insistOnFragments)},
	{name: "HandleConcurrent", concurrent: true, ends: closesAnswered, receives: true, fn: echoTo(insistOnMessage)},
	{name: "MessageWriter and Close", fn: sendAndClose},
	{name: "SendMessage beside a receiver, and a Close by the end of the handler", receives: true, fn: sendBesideReceiver},
}

// A ledger is what the handler of a session takes for granted.
type ledger struct {
	received     []Message // received
	attempted    []Message // given to a sending method
	acknowledged int       // how many of those it returned nil for
}

// insist goes on after a deadline that nobody has set.
func insist(c *Conn, try func() error) error {
	for {
		if err := try(); !isTimeout(err) || c.err() != nil {
			return err
		}
	}
}

func (l *ledger) send(c *Conn, op Opcode, data []byte) error {
	l.attempted = append(l.attempted, Message{op, data})
	err := insist(c, func() error { return c.SendMessage(op, data) })
	if err == nil {
		l.acknowledged++
	}
	return err
}

func (l *ledger) stream(c *Conn, op Opcode, pieces ...string) error {
	var w io.WriteCloser
	l.attempted = append(l.attempted, Message{op, joinStrings(pieces)})
	err := insist(c, func() (err error) { w, err = c.MessageWriter(op); return err })
	for i := 0; err == nil && i < len(pieces); i++ {
		rest := []byte(pieces[i])
		err = insist(c, func() error {
			n, err := w.Write(rest)
			rest = rest[n:]
			return err
		})
	}
	if err == nil {
		err = insist(c, func() error { return w.Close() })
	}
	if err == nil {
		l.acknowledged++
	}
	return err
}

func joinStrings(pieces []string) []byte {
	var b []byte
	for _, piece := range pieces {
		b = append(b, piece...)
	}
	return b
}

func insistOnMessage(c *Conn) (op Opcode, data []byte, err error) {
	err = insist(c, func() error { op, data, err = c.ReceiveMessage(); return err })
	return op, data, err
}

func insistOnReader(c *Conn) (op Opcode, data []byte, err error) {
	var r io.Reader
	err = insist(c, func() error { op, r, err = c.MessageReader(); return err })
	if err != nil {
		return 0, nil, err
	}
	data = []byte{}
	err = insist(c, func() error {
		more, err := io.ReadAll(r)
		data = append(data, more...)
		return err
	})
	return op, data, err
}

func insistOnFragments(c *Conn) (Opcode, []byte, error) {
	var frames []Frame
	err := insist(c, func() (err error) { frames, err = c.ReceiveFragments(); return err })
	if err != nil {
		return 0, nil, err
	}
	return ProcessFragments(frames)
}

func echoTo(receive func(c *Conn) (Opcode, []byte, error)) func(*Conn, *ledger) error {
	return func(c *Conn, l *ledger) error {
		for {
			op, data, err := receive(c)
			if err != nil {
				return err
			}
			l.received = append(l.received, Message{op, data})
			if err := l.send(c, op, data); err != nil {
				return err
			}
		}
	}
}

func sendAndClose(c *Conn, l *ledger) error {
	err := errors.Join(
		l.stream(c, Text, "a ", longText, "b "),
		l.send(c, Binary, []byte("between")),
		l.stream(c, Binary, longText, longText))
	if err == nil {
		err = c.Close(4000, "that was all")
	}
	return err
}

func sendBesideReceiver(c *Conn, l *ledger) error {
	received := make(chan error, 1)
	go func() {
		for range clientMessages {
			op, data, err := insistOnMessage(c)
			if err != nil {
				received <- err
				return
			}
			l.received = append(l.received, Message{op, data})
		}
		received <- nil
	}()
	var err error
	for i := 0; i < 5 && err == nil; i++ {
		err = l.send(c, Text, []byte(longText[:1<<(3*i)]))
	}
	return errors.Join(err, <-received)
}

// A scriptedClient plays a script, answers pings and closes, and keeps what it
// received.
type scriptedClient struct {
	conn     net.Conn
	queue    chan []byte
	ended    chan struct{}
	answered chan struct{} // closed when there are as many messages as the script has
	messages []Message
	broken   error // a rule that the server broke
}

func playScript(conn net.Conn, end clientEnd) *scriptedClient {
	p := &scriptedClient{conn: conn, queue: make(chan []byte, 100), ended: make(chan struct{}), answered: make(chan struct{})}
	go p.write()
	go p.read()
	go p.play(end)
	return p
}

func (p *scriptedClient) play(end clientEnd) {
	for _, step := range clientScript {
		select {
		case <-time.After(step.after):
			p.queue <- step.bytes
		case <-p.ended:
			return
		}
	}
	if end == closesAnswered {
		select {
		case <-p.answered:
		case <-p.ended:
		}
	}
	if end != waits {
		p.queue <- clientFrame(true, Close, closeBody(StatusNormalClosure, ""))
	}
}

func (p *scriptedClient) write() {
	for {
		select {
		case b := <-p.queue:
			if _, err := p.conn.Write(b); err != nil {
				return
			}
		case <-p.ended:
			return
		}
	}
}

func (p *scriptedClient) read() {
	defer close(p.ended)
	defer p.conn.Close()
	br := bufio.NewReader(p.conn)
	var open *Message
	for closed := false; ; {
		f, err := ReadFrame(br, 1<<20)
		if err != nil {
			return
		}
		if closed || f.Masked || f.RSV1 || f.RSV2 || f.RSV3 || (f.Opcode == Continuation) == (open == nil) && !f.Opcode.IsControl() {
			p.broken = fmt.Errorf("frame %+v in the wrong place", f.Header)
			return
		}
		switch f.Opcode {
		case Close:
			closed = true
			p.queue <- clientFrame(true, Close, string(f.Payload))
		case Ping:
			p.queue <- clientFrame(true, Pong, string(f.Payload))
		case Text, Binary, Continuation:
			open = p.take(open, f)
		}
	}
}

func (p *scriptedClient) take(open *Message, f Frame) *Message {
	if open == nil {
		open = &Message{Opcode: f.Opcode}
	}
	open.Data = append(open.Data, f.Payload...)
	if !f.Fin {
		return open
	}
	p.messages = append(p.messages, *open)
	if len(p.messages) == len(clientMessages) {
		close(p.answered)
	}
	return nil
}

// longestSession is how long a session may take with one operation gone wrong:
// every timeout there is, one after the other.
const longestSession = pauseOfScript + (15+60+60+5+5+1)*time.Second

// runFault runs a session with one fault and checks what must hold after any. It
// returns how many reads and writes there were.
func runFault(t *testing.T, s faultSession, f fault, writing bool, at int) (reads, writes int) {
	synctest.Test(t, func(t *testing.T) {
		server, client := net.Pipe()
		conn := &faultyConn{Conn: server, fault: f, writing: writing, at: at, closed: make(chan struct{})}
		c := newConn(conn, httptest.NewRequest("GET", "/", nil), "", newOptions([]Option{OnError(func(*Conn, error) {})}), nil)
		p := playScript(client, s.ends)
		start := time.Now()
		var l ledger
		run := serveConn
		if s.concurrent {
			run = serveConcurrent
		}
		err := <-run(c, func(c *Conn) error { return s.fn(c, &l) })
		if lasted := time.Since(start); lasted > longestSession {
			t.Errorf("the session lasted %v, want at most %v", lasted, longestSession)
		}
		<-p.ended
		harmless := f.do == nil || f.harmlessRead && !writing || f.harmlessWrite && writing
		if f.deadline && (s.concurrent || !s.receives) {
			harmless = false // nobody is there, or nobody waits any more, whom it could be told
		}
		l.check(t, s, p, harmless, err)
		reads, writes = conn.reads, conn.writes
	})
	return reads, writes
}

// check holds what the handler was told against what the client sent and got.
func (l *ledger) check(t *testing.T, s faultSession, p *scriptedClient, harmless bool, err error) {
	t.Helper()
	if p.broken != nil {
		t.Error(p.broken)
	}
	if !isPrefix(l.received, clientMessages) {
		t.Errorf("received %v, which is not what was sent", sizes(l.received))
	}
	if !isPrefix(p.messages, l.attempted) || len(p.messages) < l.acknowledged {
		t.Errorf("the client has %v of %v, of which %d were acknowledged", sizes(p.messages), sizes(l.attempted), l.acknowledged)
	}
	if !harmless {
		return
	}
	if err != nil && CloseStatus(err) != StatusNormalClosure {
		t.Errorf("the session ended with %v, want it to get over the fault", err)
	}
	if s.receives && len(l.received) != len(clientMessages) {
		t.Errorf("received %d of %d messages, want it to get over the fault", len(l.received), len(clientMessages))
	}
	if l.acknowledged != len(l.attempted) || len(p.messages) != len(l.attempted) {
		t.Errorf("%d of %d messages are at the client, %d acknowledged, want it to get over the fault", len(p.messages), len(l.attempted), l.acknowledged)
	}
}

func isPrefix(got, want []Message) bool {
	return len(got) <= len(want) && slices.EqualFunc(got, want[:len(got)], equalMessages)
}

// sizes makes long messages fit for a log.
func sizes(messages []Message) []string {
	var s []string
	for _, m := range messages {
		s = append(s, fmt.Sprintf("%v of %d", m.Opcode, len(m.Data)))
	}
	return s
}

// Every operation of a session goes wrong in every way, one at a time. No session
// may hang, panic or leave a goroutine behind, which synctest sees to, nor lose a
// byte that was acknowledged.
func TestFaults_at_every_operation_of_a_session(t *testing.T) {
	total := 0
	for _, s := range faultSessions {
		t.Run(s.name, func(t *testing.T) {
			reads, writes := runFault(t, s, fault{}, false, 0)
			if reads+writes < 10 {
				t.Fatalf("the session has %d reads and %d writes, too few to be the whole script", reads, writes)
			}
			for _, f := range faults {
				t.Run(f.name, func(t *testing.T) {
					total += runFaults(t, s, f, false, reads) + runFaults(t, s, f, true, writes)
				})
			}
		})
	}
	t.Logf("%d sessions", total)
}

// runFaults runs the session once for each of n reads or writes.
func runFaults(t *testing.T, s faultSession, f fault, writing bool, n int) int {
	runs, step := 0, 1
	if testing.Short() {
		step = 5
	}
	what := "read"
	if writing {
		what = "write"
	}
	for at := 0; at < n; at += step {
		runs++
		t.Run(fmt.Sprintf("in %s %d", what, at), func(t *testing.T) { runFault(t, s, f, writing, at) })
	}
	return runs
}
