package websocket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// quiet is the ErrorLog of servers whose log is not what is tested.
var quiet = log.New(io.Discard, "", 0)

func TestSmoke(t *testing.T) {
	srv := serve(t, echo)
	p := dial(t, srv)
	p.send(Text, "hello")
	p.expect(Text, "hello")
	big := string(make([]byte, 1<<20))
	go p.send(Binary, big)
	p.expect(Binary, big)
	p.expectNothing()
	p.close()
}

var errSecret = errors.New("the password is 1234")

// answerClose is the peer's part when the server closes.
func answerClose(code StatusCode, reason string) func(p *peer) {
	return func(p *peer) {
		p.t.Helper()
		if got := p.expectClose(code); got != reason {
			p.t.Errorf("got close reason %q, want %q", got, reason)
		}
		p.send(Close, closeBody(StatusNormalClosure, ""))
		hangUp(p)
		p.expectEOF()
	}
}

// leave makes a peer that closes with code and gets it back.
func leave(code StatusCode) func(p *peer) {
	return func(p *peer) {
		p.t.Helper()
		p.send(Close, closeBody(code, "I must go"))
		p.expectClose(code)
		hangUp(p)
		p.expectEOF()
	}
}

// disturb makes a peer that sends bytes which break a rule.
func disturb(code StatusCode, b ...byte) func(p *peer) {
	return func(p *peer) {
		p.t.Helper()
		p.write(b)
		p.expectClose(code)
		hangUp(p)
		p.expectEOF()
	}
}

func reset(p *peer) {
	p.conn.(*net.TCPConn).SetLinger(0)
	p.conn.Close()
}

// hangUp ends the peer's side, so that the server need not wait for more.
func hangUp(p *peer) { p.conn.(*net.TCPConn).CloseWrite() }

// handlerEnds is every way in which a HandlerFunc can end: what the peer sees of
// it, and what OnError is told by default and with PropagateCommonErrors ("" for
// nothing).
var handlerEnds = []struct {
	name     string
	fn       HandlerFunc
	peer     func(p *peer)
	reported string
	common   string
}{
	{name: "nil closes with 1000", fn: noop, peer: answerClose(1000, "")},
	{name: "CloseError closes with its code and reason",
		fn:   func(*Conn) error { return &CloseError{4321, "enough"} },
		peer: answerClose(4321, "enough")},
	{name: "CloseError, wrapped, closes with its code and reason",
		fn:   func(*Conn) error { return fmt.Errorf("after lunch: %w", &CloseError{StatusGoingAway, "siesta"}) },
		peer: answerClose(1001, "siesta")},
	{name: "CloseError 1005 closes without a code",
		fn:   func(*Conn) error { return &CloseError{Code: StatusNoStatusReceived} },
		peer: answerClose(1005, "")},
	{name: "CloseError 1006 must not be sent",
		fn:   func(*Conn) error { return &CloseError{Code: StatusAbnormalClosure} },
		peer: answerClose(1011, ""), reported: "1006"},
	{name: "CloseError without a code must not be sent",
		fn:   func(*Conn) error { return &CloseError{} },
		peer: answerClose(1011, ""), reported: "close code 0"},
	{name: "CloseError with a reason that is too long",
		fn:   func(*Conn) error { return &CloseError{4000, strings.Repeat("x", 124)} },
		peer: answerClose(1011, ""), reported: "124 bytes"},
	{name: "CloseError with a reason that is not UTF-8",
		fn:   func(*Conn) error { return &CloseError{4000, "\xff"} },
		peer: answerClose(1011, ""), reported: "UTF-8"},
	{name: "another error closes with 1011 and keeps its text",
		fn:   func(*Conn) error { return errSecret },
		peer: answerClose(1011, ""), reported: "1234"},
	{name: "io.EOF of something else is another error",
		fn:   func(*Conn) error { return fmt.Errorf("reading a file: %w", io.EOF) },
		peer: answerClose(1011, ""), reported: "reading a file"},
	{name: "what was refused to be sent is another error",
		fn:   func(c *Conn) error { return c.SendMessage(Text, []byte("\xff")) },
		peer: answerClose(1011, ""), reported: "UTF-8"},
	{name: "the peer closed with 1000", fn: receiveAll, peer: leave(1000), common: "1000"},
	{name: "the peer closed with 4001", fn: receiveAll, peer: leave(4001), common: "I must go"},
	{name: "the peer's close, wrapped",
		fn:   func(c *Conn) error { return fmt.Errorf("chatting: %w", receiveAll(c)) },
		peer: leave(4001), common: "chatting"},
	{name: "the peer's close, swallowed",
		fn:   func(c *Conn) error { receiveAll(c); return nil },
		peer: leave(4001)},
	{name: "the peer closed, and fn fails for another reason",
		fn:   func(c *Conn) error { receiveAll(c); return errSecret },
		peer: leave(4001), reported: "1234"},
	{name: "the peer closed, and fn wants another code",
		fn:   func(c *Conn) error { receiveAll(c); return &CloseError{Code: 4002} },
		peer: leave(4001), common: "4002"},
	{name: "the peer's close seen through Context", fn: func(c *Conn) error {
		go receiveAll(c)
		<-c.Context().Done()
		return c.Context().Err()
	}, peer: leave(1000), common: "canceled"},
	{name: "the peer broke a rule", fn: receiveAll, peer: disturb(1002, 0x81, 0x00), common: "unmasked"},
	{name: "the peer sent text that is none", fn: receiveAll, peer: disturb(1007, 0x81, 0x81, 0, 0, 0, 0, 0xff), common: "UTF-8"},
	{name: "the peer sent too much", fn: receiveAll, peer: disturb(1009, 0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0), common: "MaxFrameSize"},
	{name: "the peer hung up", fn: receiveAll, peer: hangUp, common: "unexpected EOF"},
	{name: "the peer reset the connection", fn: receiveAll, peer: reset, common: "reset"},
	{name: "closed by fn, and nil",
		fn:   func(c *Conn) error { return c.Close(4000, "my way") },
		peer: answerClose(4000, "my way")},
	{name: "closed by fn, and an error of afterwards",
		fn:   func(c *Conn) error { c.Close(4000, "my way"); return c.SendMessage(Text, nil) },
		peer: answerClose(4000, "my way"), common: "closed here"},
	{name: "close frame sent by fn, and nil",
		fn:   func(c *Conn) error { return c.SendMessage(Close, []byte(closeBody(4000, "my way"))) },
		peer: answerClose(4000, "my way")},
	{name: "close frame sent by fn, and an error of afterwards", fn: func(c *Conn) error {
		c.SendMessage(Close, []byte(closeBody(4000, "my way")))
		return c.SendMessage(Text, nil)
	}, peer: answerClose(4000, "my way"), common: "closed here"},
	{name: "close frame sent by fn, and its answer",
		fn:   func(c *Conn) error { c.SendMessage(Close, nil); return receiveAll(c) },
		peer: answerClose(1005, ""), common: "closed here"},
	{name: "panic", fn: func(*Conn) error { panic(errSecret) }, peer: answerClose(1011, ""), reported: "1234"},
	{name: "panic after the end",
		fn:   func(c *Conn) error { panic(receiveAll(c)) },
		peer: leave(1000), reported: "panicked"},
	{name: "panic(http.ErrAbortHandler)", fn: func(*Conn) error { panic(http.ErrAbortHandler) }, peer: answerClose(1011, "")},
	{name: "runtime.Goexit", fn: func(*Conn) error { runtime.Goexit(); return nil }, peer: answerClose(1011, "")},
}

func TestHandle_closes_as_fn_ends(t *testing.T) {
	handles := map[string]func(HandlerFunc, ...Option) *Handler{"Handle": Handle, "HandleConcurrent": HandleConcurrent}
	for name, handle := range handles {
		for _, propagate := range []bool{false, true} {
			for _, tt := range handlerEnds {
				want := tt.reported
				if propagate && want == "" {
					want = tt.common
				}
				t.Run(fmt.Sprintf("%s/propagate=%t/%s", name, propagate, tt.name), func(t *testing.T) {
					got := reports(t, handle, tt.fn, tt.peer, PropagateCommonErrors(propagate))
					wantReport(t, got, want)
				})
			}
		}
	}
}

// reports runs fn against peer and returns what OnError was told.
func reports(t *testing.T, handle func(HandlerFunc, ...Option) *Handler, fn HandlerFunc, peer func(p *peer), opts ...Option) []error {
	var got []error
	onError := OnError(func(c *Conn, err error) {
		if c.err() == nil {
			t.Errorf("OnError was called on an open connection, with %v", err)
		}
		got = append(got, err)
	})
	h := handle(fn, append(opts, onError)...)
	over := make(chan struct{})
	p := dial(t, serveHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(over)
		h.ServeHTTP(w, r)
	})))
	peer(p)
	await(t, over)
	return got
}

func wantReport(t *testing.T, got []error, want string) {
	t.Helper()
	if want == "" {
		if len(got) > 0 {
			t.Errorf("reported %v, want nothing", got)
		}
		return
	}
	if len(got) != 1 || !strings.Contains(got[0].Error(), want) {
		t.Errorf("reported %v, want one error with %q", got, want)
	}
}

func TestHandle_reports_what_the_close_of_nil_ends_with(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []error
		c, p := pipe(t, PropagateCommonErrors(true), OnError(func(_ *Conn, err error) { got = append(got, err) }))
		done := serveConn(c, noop)
		p.expectClose(StatusNormalClosure)
		<-done
		wantReport(t, got, "within CloseTimeout 5s")
	})
}

// lines is a log that can be waited for.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// serveLogged runs fn behind a server that logs to lines, and to over when the
// handler has returned.
func serveLogged(t *testing.T, fn HandlerFunc) (p *peer, logged lines, over <-chan struct{}) {
	logged = make(lines, 16)
	ended := make(chan struct{})
	h := Handle(fn)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		h.ServeHTTP(w, r)
	}))
	srv.Config.ErrorLog = log.New(logged, "", 0)
	srv.Start()
	t.Cleanup(srv.Close)
	return dial(t, srv), logged, ended
}

func TestHandle_logs_to_the_server_by_default(t *testing.T) {
	p, logged, over := serveLogged(t, func(*Conn) error { return errSecret })
	answerClose(1011, "")(p)
	await(t, over)
	want := fmt.Sprintf("websocket: handler of \"/\" for %v: %v\n", p.conn.LocalAddr(), errSecret)
	if got := await(t, logged); got != want {
		t.Errorf("logged %q, want %q", got, want)
	}
}

func TestHandle_logs_no_common_end(t *testing.T) {
	p, logged, over := serveLogged(t, receiveAll)
	leave(4001)(p)
	await(t, over)
	if len(logged) > 0 {
		t.Errorf("logged %q, want nothing", <-logged)
	}
}

func panickingHandler(*Conn) error { panic("of all things") }

// The first line is net/http's, so there is none by this package.
func TestHandle_leaves_a_panic_to_net_http_with_its_stack(t *testing.T) {
	p, logged, over := serveLogged(t, panickingHandler)
	answerClose(1011, "")(p)
	await(t, over)
	got := await(t, logged)
	for _, want := range []string{"http: panic serving " + p.conn.LocalAddr().String(), "of all things", "panickingHandler"} {
		if !strings.Contains(got, want) {
			t.Errorf("logged %q, want it to contain %q", got, want)
		}
	}
}

func TestHandle_logs_without_a_server_log(t *testing.T) {
	var out bytes.Buffer
	log.SetOutput(&out)
	defer log.SetOutput(os.Stderr)
	c, p := pipe(t)
	done := serveConn(c, func(*Conn) error { return errSecret })
	p.expectClose(StatusInternalError)
	p.send(Close, "")
	await(t, done)
	if !strings.Contains(out.String(), errSecret.Error()) {
		t.Errorf("logged %q, want it to contain %q", out.String(), errSecret)
	}
}

func TestHandle_leaves_a_refused_request_alone(t *testing.T) {
	h := Handle(func(*Conn) error { t.Error("fn was called"); return nil })
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != http.StatusUpgradeRequired {
		t.Errorf("got status %d, want 426", w.Code)
	}
}

// The methods of a Conn that fn gave away must not hang or panic later on.
func TestHandle_leaves_a_closed_Conn_behind(t *testing.T) {
	conns := make(chan *Conn, 1)
	p := dial(t, serve(t, func(c *Conn) error { conns <- c; return nil }))
	answerClose(StatusNormalClosure, "")(p)
	c := await(t, conns)
	c.Close(StatusNormalClosure, "")
	wantError(t, c.err(), net.ErrClosed)
	wantSticky(t, c, c.err())
}

func TestConn_accessors(t *testing.T) {
	conns := make(chan *Conn, 1)
	srv := serve(t, func(c *Conn) error { conns <- c; return receiveAll(c) }, Subprotocols("soap", "chat"))
	p := dial(t, srv, "Sec-WebSocket-Protocol: other, chat\r\n", "X-Test: yes\r\n")
	c := await(t, conns)
	tests := []struct{ what, got, want string }{
		{"Subprotocol", c.Subprotocol(), "chat"},
		{"Request header", c.Request().Header.Get("X-Test"), "yes"},
		{"Request host", c.Request().Host, "example.test"},
		{"LocalAddr", c.LocalAddr().String(), srv.Listener.Addr().String()},
		{"RemoteAddr", c.RemoteAddr().String(), p.conn.LocalAddr().String()},
		{"NetConn", fmt.Sprintf("%T", c.NetConn()), "*net.TCPConn"},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.what, tt.got, tt.want)
		}
	}
	p.close()
}

func TestHandle_loses_nothing_sent_behind_the_handshake(t *testing.T) {
	handshake := fmt.Appendf(nil, testHandshake, "")
	tests := []struct {
		name string
		size int // of each message
		n    int
		cut  int // bytes at the end that come in a segment of their own
	}{
		{"one message", 5, 1, 0},
		{"empty messages", 0, 7, 0},
		{"small messages", 100, 20, 0},
		{"more than the buffer of net/http", 1000, 20, 0},
		{"a message larger than the buffer of net/http", 100_000, 1, 0},
		{"cut within a header", 100, 3, 103},
		{"cut within a payload", 100, 3, 50},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := dialRaw(t, serve(t, echo))
			segment := slices.Clone(handshake)
			message := func(i int) string { return strings.Repeat(string(rune('a'+i)), tt.size) }
			for i := range tt.n {
				segment = append(segment, clientFrame(true, Text, message(i))...)
			}
			now := len(segment) - tt.cut
			p.write(segment[:now])
			p.upgraded()
			p.write(segment[now:])
			for i := range tt.n {
				p.expect(Text, message(i))
			}
			p.close()
		})
	}
}

// upgraded reads the response to a handshake.
func (p *peer) upgraded() {
	p.t.Helper()
	resp, err := http.ReadResponse(p.br, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		p.t.Fatalf("got response %v, error %v, want 101", resp, err)
	}
}

type testKey struct{}

func TestContext_carries_the_request_but_not_its_cancellation(t *testing.T) {
	c, p := pipe(t)
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), testKey{}, "value"))
	c.request = c.request.WithContext(ctx)
	cancel()
	if err := c.Context().Err(); err != nil {
		t.Errorf("got a context that is done with the request: %v", err)
	}
	if got := c.Context().Value(testKey{}); got != "value" {
		t.Errorf("got value %v, want that of the request", got)
	}
	if got, ok := FromContext(context.WithValue(c.Context(), testKey{}, 1)); got != c || !ok {
		t.Errorf("FromContext = %p, %t, want %p", got, ok, c)
	}
	if got, ok := FromContext(ctx); got != nil || ok {
		t.Errorf("FromContext of another context = %p, %t, want none", got, ok)
	}
	if c.Context() != c.Context() {
		t.Error("got two contexts for one connection")
	}
	p.conn.Close()
	c.Close(StatusNormalClosure, "")
}

// connEnds is every way in which a connection can end, on TCP.
var connEnds = []struct {
	name string
	end  func(c *Conn, p *peer)
	want error
	code StatusCode
}{
	{"the peer's close", func(c *Conn, p *peer) { p.send(Close, closeBody(1001, "")); hangUp(p); receiveAll(c) }, io.EOF, 1001},
	{"failing", func(c *Conn, p *peer) { p.write([]byte{0x81, 0x00}); hangUp(p); receiveAll(c) }, ErrProtocol, 1002},
	{"Close", func(c *Conn, p *peer) { p.send(Close, ""); hangUp(p); c.Close(4000, "") }, net.ErrClosed, 4000},
	{"the answer to a close frame", func(c *Conn, p *peer) {
		c.SendMessage(Close, []byte(closeBody(4000, "")))
		p.send(Close, closeBody(4001, ""))
		hangUp(p)
		receiveAll(c)
	}, net.ErrClosed, 4000},
	{"EOF without a close frame", func(c *Conn, p *peer) { hangUp(p); receiveAll(c) }, io.ErrUnexpectedEOF, 1006},
	{"EOF within a frame", func(c *Conn, p *peer) { p.write([]byte{0x81, 0x85, 0}); hangUp(p); receiveAll(c) }, io.ErrUnexpectedEOF, 1006},
	{"reset", func(c *Conn, p *peer) { reset(p); receiveAll(c) }, syscall.ECONNRESET, 1006},
	{"reset, while sending", func(c *Conn, p *peer) {
		reset(p)
		for c.SendMessage(Binary, make([]byte, 1000)) == nil {
		}
	}, nil, 1006},
}

func TestContext_is_done_exactly_at_the_end(t *testing.T) {
	for _, tt := range connEnds {
		t.Run(tt.name, func(t *testing.T) {
			c, p := dialConn(t, PingInterval(0))
			ctx := c.Context()
			if ctx.Err() != nil || context.Cause(ctx) != nil {
				t.Fatalf("done before the end: %v", context.Cause(ctx))
			}
			tt.end(c, p)
			if ctx.Err() != context.Canceled {
				t.Fatalf("got context error %v after the end, want %v", ctx.Err(), context.Canceled)
			}
			if tt.want != nil {
				wantError(t, c.err(), tt.want)
			}
			if got := CloseStatus(c.err()); got != tt.code {
				t.Errorf("got close status %v, want %v", got, tt.code)
			}
			if tt.code == StatusAbnormalClosure && errors.Is(c.err(), io.EOF) {
				t.Errorf("%v is io.EOF, which is a normal end", c.err())
			}
			wantSticky(t, c, c.err())
		})
	}
}

func TestContext_made_after_the_end(t *testing.T) {
	for _, tt := range connEnds {
		t.Run(tt.name, func(t *testing.T) {
			c, p := dialConn(t, PingInterval(0))
			tt.end(c, p)
			if got := context.Cause(c.Context()); got != c.err() || got == nil {
				t.Errorf("got cause %v, want %v", got, c.err())
			}
		})
	}
}

// Every method may be called from any goroutine, whatever the others do and
// however the connection ends.
func TestConn_is_safe_for_everybody_at_once(t *testing.T) {
	for _, tt := range connEnds {
		t.Run(tt.name, func(t *testing.T) {
			c, p := dialConn(t, PingInterval(time.Millisecond))
			var wg sync.WaitGroup
			wg.Go(func() { io.Copy(io.Discard, p.conn) })
			for name, call := range everyMethod {
				if name == "Close" || name == "SendMessage/Close" {
					continue
				}
				wg.Go(func() {
					for c.err() == nil {
						call(c)
					}
				})
			}
			wg.Go(func() {
				for c.err() == nil {
					if w, err := c.MessageWriter(Binary); err == nil {
						w.Write(make([]byte, 5000))
						w.Close()
					}
				}
			})
			for range 20 {
				p.write(join(clientFrame(true, Ping, "!"), clientFrame(false, Text, "1"), clientFrame(true, Continuation, "2")))
			}
			tt.end(c, p)
			c.Close(StatusNormalClosure, "")
			p.conn.Close()
			wg.Wait()
			wantSticky(t, c, c.err())
		})
	}
}

// misbehaviour is what a healthy connection must not notice.
var misbehaviour = map[string]func(p *peer){
	"reads nothing": func(p *peer) {
		b := clientFrame(true, Binary, string(make([]byte, 100_000)))
		p.conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		for range 100 {
			p.conn.Write(b)
		}
	},
	"floods with pings": func(p *peer) { p.conn.Write(bytes.Repeat(clientFrame(true, Ping, "now?"), 10_000)) },
	"breaks a rule":     func(p *peer) { p.conn.Write([]byte{0x81, 0x00}) },
	"stops in a header": func(p *peer) { p.conn.Write([]byte{0x81}) },
	"stops in a frame":  func(p *peer) { p.conn.Write(clientFrame(true, Text, "hello")[:8]) },
	"hangs up":          hangUp,
	"resets":            reset,
	"panics":            func(p *peer) { p.conn.Write(clientFrame(true, Text, "panic")) },
}

func TestHandle_serves_the_healthy_beside_the_misbehaving(t *testing.T) {
	srv := serve(t, func(c *Conn) error {
		for {
			op, data, err := c.ReceiveMessage()
			if err != nil {
				return err
			}
			if string(data) == "panic" {
				panic("as asked")
			}
			if err := c.SendMessage(op, data); err != nil {
				return err
			}
		}
	}, CloseTimeout(100*time.Millisecond))
	healthy := dial(t, srv)
	var wg sync.WaitGroup
	for _, misbehave := range misbehaviour {
		p := dial(t, srv)
		wg.Go(func() { misbehave(p) })
	}
	for i := range 100 {
		message := fmt.Sprint("still here ", i)
		healthy.send(Text, message)
		healthy.expect(Text, message)
	}
	wg.Wait()
	healthy.expectNothing()
	healthy.close()
}

func TestHandle_over_TLS_closes_in_order(t *testing.T) {
	p := dialTLS(t, echo)
	p.send(Text, "secret")
	p.expect(Text, "secret")
	p.write(join(clientFrame(true, Close, closeBody(4000, "")), make([]byte, 1000)))
	p.expectClose(4000)
	p.expectEOF()
}

func TestHandle_costs_one_goroutine_a_connection(t *testing.T) {
	for _, detached := range []bool{false, true} {
		t.Run(fmt.Sprintf("Detached(%t)", detached), func(t *testing.T) {
			const conns = 200
			srv := serve(t, receiveAll, PingInterval(100*time.Millisecond), Detached(detached))
			before := runtime.NumGoroutine()
			var peers []*peer
			for range conns {
				peers = append(peers, dial(t, srv))
			}
			for _, p := range peers {
				p.read() // a ping: the keepalive runs
			}
			// A tick is a goroutine too, for as long as it takes.
			most := before + conns
			got := runtime.NumGoroutine()
			for deadline := time.Now().Add(patience); got > most && time.Now().Before(deadline); got = runtime.NumGoroutine() {
				runtime.Gosched()
			}
			if got > most {
				t.Errorf("%d connections cost %d goroutines, want one each", conns, got-before)
			}
		})
	}
}
