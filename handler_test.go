package websocket

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

var errSecret = errors.New("the password is 1234")

// answerClose returns a function for a peer that checks the server's close frame and
// answers it.
func answerClose(code StatusCode, reason string) func(p *peer) {
	return func(p *peer) {
		p.t.Helper()
		if got := p.expectClose(code); got != reason {
			p.t.Errorf("got close reason %q, want %q", got, reason)
		}
		p.send(Close, closeBody(StatusNormalClosure, ""))
		hangUp(p)
		p.ExpectEOF()
	}
}

// peerCloses returns a function for a peer that closes with code and reads the answer.
func peerCloses(code StatusCode) func(p *peer) {
	return func(p *peer) {
		p.t.Helper()
		p.send(Close, closeBody(code, "I must go"))
		p.expectClose(code)
		hangUp(p)
		p.ExpectEOF()
	}
}

// peerBreaksRule returns a function for a peer that sends bytes which break a rule.
func peerBreaksRule(code StatusCode, b ...byte) func(p *peer) {
	return func(p *peer) {
		p.t.Helper()
		p.Write(b)
		p.expectClose(code)
		hangUp(p)
		p.ExpectEOF()
	}
}

// sendsAndAnswers returns a function for a peer that sends a text, and then does as that of
// answerClose.
func sendsAndAnswers(text string, code StatusCode, reason string) func(p *peer) {
	return func(p *peer) {
		p.t.Helper()
		p.send(Text, text)
		answerClose(code, reason)(p)
	}
}

// receiveNumber receives a number in JSON.
func receiveNumber(c *Conn) error { return c.ReceiveJSON(new(int)) }

// handlerEnds are the ways in which a HandlerFunc can end. peer checks the frames that the
// peer gets. OnError is called with an error that contains reported, or that contains
// common if PropagateCommonErrors is set. "" means that it is not called.
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
	{name: "CloseError with a reason of 200 bytes is cut",
		fn:   func(*Conn) error { return &CloseError{4001, strings.Repeat("x", 200)} },
		peer: answerClose(4001, strings.Repeat("x", 123))},
	{name: "CloseError with a long reason is cut between characters",
		fn:   func(*Conn) error { return &CloseError{4001, strings.Repeat("€", 100)} },
		peer: answerClose(4001, strings.Repeat("€", 41))},
	{name: "CloseError with a reason that is not UTF-8 is repaired",
		fn:   func(*Conn) error { return &CloseError{4000, "so\xff"} },
		peer: answerClose(4000, "so\uFFFD")},
	{name: "CloseError 1005 with a reason must not be sent",
		fn:   func(*Conn) error { return &CloseError{StatusNoStatusReceived, "why"} },
		peer: answerClose(1011, ""), reported: "1005"},
	{name: "invalid JSON closes with 1007", fn: receiveNumber,
		peer: sendsAndAnswers("one", 1007, "invalid JSON"), common: "invalid JSON"},
	{name: "invalid JSON, wrapped, closes with 1007",
		fn:   func(c *Conn) error { return fmt.Errorf("login: %w", receiveNumber(c)) },
		peer: sendsAndAnswers("[1]", 1007, "invalid JSON"), common: "login"},
	{name: "invalid JSON as the reason of a CloseError",
		fn:   func(c *Conn) error { return fmt.Errorf("%w after %w", &CloseError{4002, "a number"}, receiveNumber(c)) },
		peer: sendsAndAnswers("{}", 4002, "a number")},
	{name: "JSON into a value that is not a pointer is another error",
		fn:   func(c *Conn) error { return c.ReceiveJSON(1) },
		peer: answerClose(1011, ""), reported: "needs a pointer"},
	{name: "the application's own JSON error is another error",
		fn:   func(*Conn) error { return json.Unmarshal([]byte("{"), new(int)) },
		peer: answerClose(1011, ""), reported: "unexpected end of JSON"},
	{name: "an expired read deadline is another error",
		fn:   func(c *Conn) error { c.SetReadDeadline(pastTime); return receiveAll(c) },
		peer: answerClose(1011, ""), reported: "receiving: the read deadline has passed: i/o timeout"},
	{name: "an expired write deadline is another error",
		fn:   func(c *Conn) error { c.SetWriteDeadline(pastTime); return c.SendMessage(Text, nil) },
		peer: answerClose(1011, ""), reported: "sending: the write deadline has passed: i/o timeout"},
	{name: "another error closes with 1011 and keeps its text",
		fn:   func(*Conn) error { return errSecret },
		peer: answerClose(1011, ""), reported: "1234"},
	{name: "io.EOF of another reader is another error",
		fn:   func(*Conn) error { return fmt.Errorf("reading a file: %w", io.EOF) },
		peer: answerClose(1011, ""), reported: "reading a file"},
	{name: "refused text closes with 1011",
		fn:   func(c *Conn) error { return c.SendMessage(Text, []byte("\xff")) },
		peer: answerClose(1011, ""), reported: "UTF-8"},
	{name: "a refused opcode closes with 1011",
		fn:   func(c *Conn) error { return c.SendMessage(Continuation, nil) },
		peer: answerClose(1011, ""), reported: "continuation"},
	{name: "a refused ping closes with 1011",
		fn:   func(c *Conn) error { return c.SendMessage(Ping, make([]byte, 126)) },
		peer: answerClose(1011, ""), reported: "126"},
	{name: "a refused close payload closes with 1011",
		fn:   func(c *Conn) error { return c.SendMessage(Close, []byte("\x03\xee")) },
		peer: answerClose(1011, ""), reported: "1006"},
	{name: "a refused stream closes with 1011",
		fn:   func(c *Conn) error { _, err := c.MessageWriter(Ping); return err },
		peer: answerClose(1011, ""), reported: "ping"},
	{name: "refused text of a stream closes with 1011",
		fn: func(c *Conn) error {
			w, err := c.MessageWriter(Text)
			if err == nil {
				_, err = w.Write([]byte("\xff"))
			}
			return err
		},
		peer: answerClose(1011, ""), reported: "UTF-8"},
	{name: "a refused value closes with 1011",
		fn:   func(c *Conn) error { return c.SendJSON(func() {}) },
		peer: answerClose(1011, ""), reported: "func()"},
	{name: "a refused code of Close closes with 1011",
		fn:   func(c *Conn) error { return c.Close(StatusAbnormalClosure, "") },
		peer: answerClose(1011, ""), reported: "1006"},
	{name: "refused text, although the peer has closed meanwhile",
		fn: func(c *Conn) error {
			err := c.SendMessage(Text, []byte("\xff"))
			c.SendMessage(Text, []byte("refused"))
			receiveAll(c)
			return err
		},
		peer: func(p *peer) { p.expect(Text, "refused"); peerCloses(4001)(p) }, reported: "UTF-8"},
	{name: "invalid JSON, although the peer has closed meanwhile",
		fn: func(c *Conn) error {
			err := receiveNumber(c)
			receiveAll(c)
			return err
		},
		peer: func(p *peer) { p.send(Text, "one"); peerCloses(4001)(p) }, common: "invalid JSON"},
	{name: "the peer closed with 1000", fn: receiveAll, peer: peerCloses(1000), common: "1000"},
	{name: "the peer closed with 4001", fn: receiveAll, peer: peerCloses(4001), common: "I must go"},
	{name: "the peer's close, wrapped",
		fn:   func(c *Conn) error { return fmt.Errorf("chatting: %w", receiveAll(c)) },
		peer: peerCloses(4001), common: "chatting"},
	{name: "the peer's close, and fn returns nil",
		fn:   func(c *Conn) error { receiveAll(c); return nil },
		peer: peerCloses(4001)},
	{name: "the peer closed, and fn fails for another reason",
		fn:   func(c *Conn) error { receiveAll(c); return errSecret },
		peer: peerCloses(4001), reported: "1234"},
	{name: "the peer closed, and fn wants another code",
		fn:   func(c *Conn) error { receiveAll(c); return &CloseError{Code: 4002} },
		peer: peerCloses(4001), common: "4002"},
	{name: "the peer's close seen through Context", fn: func(c *Conn) error {
		go receiveAll(c)
		<-c.Context().Done()
		return c.Context().Err()
	}, peer: peerCloses(1000), common: "canceled"},
	{name: "the peer broke a rule", fn: receiveAll, peer: peerBreaksRule(1002, 0x81, 0x00), common: "unmasked"},
	{name: "the peer sent invalid text", fn: receiveAll, peer: peerBreaksRule(1007, 0x81, 0x81, 0, 0, 0, 0, 0xff), common: "UTF-8"},
	{name: "the peer sent too much", fn: receiveAll, peer: peerBreaksRule(1009, 0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0), common: "MaxFrameSize"},
	{name: "the peer hung up", fn: receiveAll, peer: hangUp, common: "unexpected EOF"},
	{name: "the peer reset the connection", fn: receiveAll, peer: resetPeer, common: "reset"},
	{name: "closed by fn, and nil",
		fn:   func(c *Conn) error { return c.Close(4000, "my way") },
		peer: answerClose(4000, "my way")},
	{name: "closed by fn, and the error of a later call",
		fn:   func(c *Conn) error { c.Close(4000, "my way"); return c.SendMessage(Text, nil) },
		peer: answerClose(4000, "my way"), common: "closed here"},
	{name: "close frame sent by fn, and nil",
		fn:   func(c *Conn) error { return c.SendMessage(Close, []byte(closeBody(4000, "my way"))) },
		peer: answerClose(4000, "my way")},
	{name: "close frame sent by fn, and the error of a later call", fn: func(c *Conn) error {
		c.SendMessage(Close, []byte(closeBody(4000, "my way")))
		return c.SendMessage(Text, nil)
	}, peer: answerClose(4000, "my way"), common: "closed here"},
	{name: "close frame sent by fn, and its answer",
		fn:   func(c *Conn) error { c.SendMessage(Close, nil); return receiveAll(c) },
		peer: answerClose(1005, ""), common: "closed here"},
	{name: "panic", fn: func(*Conn) error { panic(errSecret) }, peer: answerClose(1011, ""), reported: "1234"},
	{name: "panic after the end",
		fn:   func(c *Conn) error { panic(receiveAll(c)) },
		peer: peerCloses(1000), reported: "panicked"},
	{name: "panic(http.ErrAbortHandler)", fn: func(*Conn) error { panic(http.ErrAbortHandler) }, peer: answerClose(1011, "")},
	{name: "runtime.Goexit", fn: func(*Conn) error { runtime.Goexit(); return nil }, peer: answerClose(1011, "")},
}

func TestHandle_closes_according_to_the_result_of_fn(t *testing.T) {
	t.Parallel()
	handles := map[string]func(HandlerFunc, ...Option) *Handler{"Handle": Handle, "HandleConcurrent": HandleConcurrent}
	for name, handle := range handles {
		for _, propagate := range []bool{false, true} {
			for _, tt := range handlerEnds {
				want := tt.reported
				if propagate && want == "" {
					want = tt.common
				}
				t.Run(fmt.Sprintf("%s/propagate=%t/%s", name, propagate, tt.name), func(t *testing.T) {
					computes(t)
					got := reportedErrors(t, handle, tt.fn, tt.peer, PropagateCommonErrors(propagate))
					wantReport(t, got, want)
				})
			}
		}
	}
}

// reportedErrors runs fn and peer, and returns the errors that OnError was called with.
func reportedErrors(t *testing.T, handle func(HandlerFunc, ...Option) *Handler, fn HandlerFunc, peer func(p *peer), opts ...Option) []error {
	var got []error
	onError := OnError(func(c *Conn, err error) {
		if endOf(c) == nil {
			t.Errorf("OnError was called on an open connection, with %v", err)
		}
		got = append(got, err)
	})
	h := handle(fn, append(opts, onError)...)
	over := make(chan struct{})
	p := dialServer(t, wstest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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

func TestHandle_reports_ErrCloseTimeout_after_a_nil_error(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []error
		c, p := newPipeConn(t)
		done := runHandler(c, noop, PropagateCommonErrors(true), OnError(func(_ *Conn, err error) { got = append(got, err) }))
		p.expectClose(StatusNormalClosure)
		<-done
		wantReport(t, got, "within CloseTimeout 5s")
	})
}

// logLines is the output of a log. A test can wait for its lines.
type logLines chan string

func (l logLines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// serveLogged runs fn in a server that logs to logged, and returns its peer. over is closed
// when the handler has returned.
func serveLogged(t *testing.T, fn HandlerFunc) (p *peer, logged logLines, over <-chan struct{}) {
	logged = make(logLines, 16)
	ended := make(chan struct{})
	h := Handle(fn)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		h.ServeHTTP(w, r)
	}))
	srv.Config.ErrorLog = log.New(logged, "", 0)
	srv.Start()
	t.Cleanup(srv.Close)
	return dialServer(t, srv), logged, ended
}

func TestHandle_logs_to_the_server_by_default(t *testing.T) {
	p, logged, over := serveLogged(t, func(*Conn) error { return errSecret })
	answerClose(1011, "")(p)
	await(t, over)
	want := fmt.Sprintf("websocket: handler of \"/\" for %v: %v\n", p.Conn.LocalAddr(), errSecret)
	if got := await(t, logged); got != want {
		t.Errorf("logged %q, want %q", got, want)
	}
}

func TestHandle_logs_no_common_end(t *testing.T) {
	p, logged, over := serveLogged(t, receiveAll)
	peerCloses(4001)(p)
	await(t, over)
	if len(logged) > 0 {
		t.Errorf("logged %q, want nothing", <-logged)
	}
}

func panickingHandler(*Conn) error { panic("of all things") }

// net/http logs the first line. This package must not log before it.
func TestHandle_repanics_with_the_stack(t *testing.T) {
	p, logged, over := serveLogged(t, panickingHandler)
	answerClose(1011, "")(p)
	await(t, over)
	got := await(t, logged)
	for _, want := range []string{"http: panic serving " + p.Conn.LocalAddr().String(), "of all things", "panickingHandler"} {
		if !strings.Contains(got, want) {
			t.Errorf("logged %q, want it to contain %q", got, want)
		}
	}
}

func TestHandle_logs_without_a_server_log(t *testing.T) {
	var out bytes.Buffer
	log.SetOutput(&out)
	defer log.SetOutput(os.Stderr)
	c, p := newPipeConn(t)
	done := runHandler(c, func(*Conn) error { return errSecret })
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

// A goroutine may use a Conn after fn has returned. Its methods must not hang or panic.
func TestHandle_Conn_can_be_used_after_fn(t *testing.T) {
	conns := make(chan *Conn, 1)
	p := dialServer(t, startServer(t, func(c *Conn) error { conns <- c; return nil }))
	answerClose(StatusNormalClosure, "")(p)
	c := await(t, conns)
	c.Close(StatusNormalClosure, "")
	wantError(t, endOf(c), net.ErrClosed)
	wantSticky(t, c, endOf(c))
}

// A panickyError is a user's error whose method panics.
type panickyError struct{ method string }

func (e panickyError) Error() string { return "panics in " + e.method }

func (e panickyError) Is(error) bool {
	if e.method == "Is" {
		panic(e)
	}
	return false
}

func (e panickyError) As(any) bool {
	if e.method == "As" {
		panic(e)
	}
	return false
}

// For every error of fn, the peer gets a close frame, and the socket is closed when the
// handler returns. A panic goes on to the caller of the handler.
func TestHandle_closes_for_a_nil_CloseError_and_for_an_error_that_panics(t *testing.T) {
	returns := func(err error) HandlerFunc { return func(*Conn) error { return err } }
	andThen := func(err error) HandlerFunc { return func(c *Conn) error { receiveAll(c); return err } }
	var none *CloseError
	tests := []struct {
		name     string
		fn       HandlerFunc
		peer     []byte // the bytes that the peer sends
		panics   any
		reported string
		wire     []string
	}{
		{"a nil *CloseError", returns(none), nil, nil, "nil *CloseError", []string{"0s close 1011", "5s end"}},
		{"a nil *CloseError, wrapped", returns(fmt.Errorf("late: %w", none)), nil, nil, "late", []string{"0s close 1011", "5s end"}},
		{"a nil *CloseError when the peer has closed", andThen(none), clientFrame(true, Close, closeBody(4000, "")), nil,
			"nil *CloseError", []string{"0s close 4000", "0s end"}},
		{"a panic in As", returns(panickyError{"As"}), nil, panickyError{"As"}, "panics in As", []string{"0s close 1011", "5s end"}},
		{"a panic in Is", andThen(panickyError{"Is"}), clientFrame(true, Close, closeBody(4000, "")), panickyError{"Is"},
			"panics in Is", []string{"0s close 4000", "0s end"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got []error
				c, p := newPipeConn(t)
				w := record(p, false)
				if tt.peer != nil {
					w.Send(tt.peer)
				}
				panicked := make(chan any)
				go func() {
					defer func() { panicked <- recover() }()
					serveConn(c, tt.fn, OnError(func(_ *Conn, err error) { got = append(got, err) }))
				}()
				if v := <-panicked; v != tt.panics {
					t.Errorf("got panic %v, want %v", v, tt.panics)
				}
				wantSocketClosed(t, c)
				wantReport(t, got, tt.reported)
				synctest.Wait()
				w.expect(tt.wire...)
			})
		})
	}
}

// An endingError is a *CloseError that must not be sent. Its method As ends the connection
// while the handler examines the error.
type endingError struct{ end func() }

func (endingError) Error() string { return "ends" }

func (e endingError) As(target any) bool {
	own, ok := target.(**CloseError)
	if ok {
		e.end()
		*own = &CloseError{Code: StatusAbnormalClosure}
	}
	return ok
}

func TestHandle_waits_for_an_end_that_comes_while_the_close_is_checked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		w := record(p, false)
		go receiveAll(c)
		done := runHandler(c, func(c *Conn) error {
			return endingError{func() {
				w.Send([]byte{0x81, 0x00})
				<-c.Context().Done()
			}}
		}, OnError(func(*Conn, error) {}))
		<-done
		wantSocketClosed(t, c)
		wantDuration(t, "the handler", w.Start, drainTime)
		synctest.Wait()
		w.expect("0s close 1002", "1s end")
	})
}
