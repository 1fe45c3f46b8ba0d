package interop

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/f44ffc3b/websocket"
)

// goClients holds the Go clients. Each has a function that dials and returns a session.
var goClients = []client{
	goClient("github.com/gorilla/websocket", dialGorilla),
	goClient("github.com/coder/websocket", dialCoder),
	goClient("github.com/gobwas/ws", dialGobwas),
	goClient("github.com/lxzan/gws", dialGWS),
	goClient("golang.org/x/net", dialXNet, "send-fragments", "receive-fragments", "client-ping", "server-close"),
}

// A dialer connects to url and returns the session.
type dialer func(ctx context.Context, url string, config *tls.Config, subprotocols ...string) (session, error)

// goClient returns the client of a Go module.
func goClient(module string, dial dialer, unsupported ...string) client {
	return client{
		name:        strings.ReplaceAll(module[strings.Index(module, "/")+1:], "/", "-"),
		unsupported: unsupported,
		version:     func() (string, error) { return moduleVersion(module) },
		run: func(ctx context.Context, p path, run string, names []string) map[string]error {
			results := map[string]error{}
			for _, name := range names {
				results[name] = runCase(ctx, dial, p, run, name)
			}
			return results
		},
	}
}

// moduleVersion returns the version of a module in go.mod.
func moduleVersion(module string) (string, error) {
	return output("go", "list", "-m", "-f", "{{.Version}}", module)
}

// A session is a connection of a Go client. A goroutine reads from it and puts the
// messages and pongs into the session's mailbox.
type session interface {
	send(op websocket.Opcode, data []byte) error
	sendFragments(parts ...string) error
	ping(payload string) error
	subprotocol() string
	sendClose(code int, reason string) error
	disconnect() // closes the socket without a close handshake
	inbox() *mailbox
}

var (
	errCut         = errors.New("the connection ended without a close frame")
	errUnsupported = errors.New("the client's API does not support this")
)

// A closedError holds the code and the reason of the server's close frame, if the client's
// API returns them.
type closedError struct {
	code   int
	reason string
}

func (e closedError) Error() string { return fmt.Sprintf("closed with %d %q", e.code, e.reason) }

type message struct {
	op   websocket.Opcode
	data []byte
}

// A mailbox holds the messages and pongs that a client has received, and the error that
// ended its connection.
type mailbox struct {
	messages chan message
	pongs    chan string

	once sync.Once
	end  error
	done chan struct{} // closed when end is set
}

func newMailbox() *mailbox {
	return &mailbox{messages: make(chan message, 16), pongs: make(chan string, 16), done: make(chan struct{})}
}

func (m *mailbox) inbox() *mailbox { return m }

// deliver adds a message. data is copied.
func (m *mailbox) deliver(op websocket.Opcode, data []byte) {
	m.messages <- message{op, append([]byte(nil), data...)}
}

// ended sets the error that ended the connection. An error other than a closedError
// becomes an errCut. Only the first call has an effect.
func (m *mailbox) ended(err error) {
	m.once.Do(func() {
		if !errors.As(err, new(closedError)) {
			err = fmt.Errorf("%w: %w", errCut, err)
		}
		m.end = err
		close(m.done)
	})
}

// receive returns the next message. After the last one it returns the error that ended the
// connection.
func (m *mailbox) receive(ctx context.Context) (message, error) {
	select {
	case msg := <-m.messages:
		return msg, nil
	case <-m.done:
	case <-ctx.Done():
		return message{}, ctx.Err()
	}
	// select chooses at random, so a message may still be in the channel.
	select {
	case msg := <-m.messages:
		return msg, nil
	default:
		return message{}, m.end
	}
}

// pong returns the payload of the next pong.
func (m *mailbox) pong(ctx context.Context) (string, error) {
	select {
	case payload := <-m.pongs:
		return payload, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// runCase connects, runs the named case and closes the connection with 1000.
func runCase(ctx context.Context, dial dialer, p path, run, name string) error {
	s, err := dial(ctx, p.websocket+"/"+run+"/"+name, p.tls, offers[name]...)
	if err != nil {
		return fmt.Errorf("dialling: %w", err)
	}
	defer s.disconnect()
	t := caseRun{ctx, s}
	if err := cases[name](t); err != nil {
		return err
	}
	if strings.HasSuffix(name, "-close") {
		return nil
	}
	return t.close(int(websocket.StatusNormalClosure), "")
}

var offers = map[string][]string{"subprotocol": {"chat.v0", subprotocol}}

// A caseRun is a session that a case uses.
type caseRun struct {
	ctx context.Context
	session
}

var (
	someText  = []byte("Grüße, 世界 🌍")
	someBytes = make([]byte, 256)
	mebibyte  = make([]byte, 1<<20)
)

func init() {
	for i := range someBytes {
		someBytes[i] = byte(i)
	}
	for i := range mebibyte {
		mebibyte[i] = byte(i % 127)
	}
}

var cases = map[string]func(caseRun) error{
	"text":   func(t caseRun) error { return t.echo(websocket.Text, someText, nil) },
	"binary": func(t caseRun) error { return t.echo(websocket.Binary, someBytes, nil) },
	"large": func(t caseRun) error {
		if err := t.echo(websocket.Text, mebibyte); err != nil {
			return err
		}
		return t.echo(websocket.Binary, mebibyte)
	},
	"send-fragments": func(t caseRun) error {
		parts := []string{part('x'), part('y'), part('z')}
		if err := t.sendFragments(parts...); err != nil {
			return err
		}
		return t.expectFragments(len(parts), strings.Join(parts, ""))
	},
	"receive-fragments": func(t caseRun) error {
		if err := t.send(websocket.Text, someText); err != nil {
			return err
		}
		return t.expectFragments(1, string(someText))
	},
	"client-ping": func(t caseRun) error {
		if err := t.ping("are you there?"); err != nil {
			return err
		}
		payload, err := t.inbox().pong(t.ctx)
		if err == nil && payload != "are you there?" {
			return fmt.Errorf("got a pong with %q, want the payload of the ping", payload)
		}
		return err
	},
	"server-ping": func(t caseRun) error { return t.expect(websocket.Text, []byte("pong")) },
	"subprotocol": func(t caseRun) error {
		if got := t.subprotocol(); got != subprotocol {
			return fmt.Errorf("the client has the subprotocol %q, want %q", got, subprotocol)
		}
		return t.expect(websocket.Text, []byte(subprotocol))
	},
	"client-close": func(t caseRun) error { return t.close(clientCode, clientReason) },
	"server-close": func(t caseRun) error { return t.expectClose(closedError{serverCode, serverReason}) },
	"idle": func(t caseRun) error {
		if err := t.expect(websocket.Text, []byte("awake")); err != nil {
			return err
		}
		return t.echo(websocket.Text, []byte("thanks"))
	},
}

// part returns a text that is as large as the buffer of gorilla/websocket, because that
// client starts a new fragment when its buffer is full.
func part(b byte) string { return strings.Repeat(string(b), 4096) }

// echo sends each message and expects it back.
func (t caseRun) echo(op websocket.Opcode, messages ...[]byte) error {
	for _, data := range messages {
		if err := t.send(op, data); err != nil {
			return err
		}
		if err := t.expect(op, data); err != nil {
			return err
		}
	}
	return nil
}

// expect receives a message, which must be the given one.
func (t caseRun) expect(op websocket.Opcode, data []byte) error {
	got, err := t.inbox().receive(t.ctx)
	if err != nil {
		return err
	}
	if got.op != op || string(got.data) != string(data) {
		return fmt.Errorf("got %v %.50q (%d bytes), want %v %.50q (%d bytes)", got.op, got.data, len(got.data), op, data, len(data))
	}
	return nil
}

// expectFragments receives the answer to a message that was sent in count frames.
func (t caseRun) expectFragments(count int, message string) error {
	return t.expect(websocket.Text, fmt.Appendf(nil, "%d: %s%s%s", count, message, filling('a'), filling('b')))
}

// close closes the connection and expects the same code in the answer.
func (t caseRun) close(code int, reason string) error {
	if err := t.sendClose(code, reason); err != nil {
		return err
	}
	return t.expectClose(closedError{code, ""})
}

// unknownCode is the code in the closedError of a client whose API does not tell the code
// of the server's close frame.
const unknownCode = 0

// expectClose waits for the end of the connection, which must be the given close frame.
func (t caseRun) expectClose(want closedError) error {
	msg, err := t.inbox().receive(t.ctx)
	var got closedError
	if !errors.As(err, &got) {
		return fmt.Errorf("got %.50q, %w; want %w", msg.data, err, want)
	}
	if got.code != unknownCode && got != want {
		return fmt.Errorf("got %w, want %w", got, want)
	}
	return nil
}
