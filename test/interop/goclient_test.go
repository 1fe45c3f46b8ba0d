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

// The Go clients, each of which dials and gives a session.
var goClients = []client{
	goClient("github.com/gorilla/websocket", dialGorilla),
	goClient("github.com/coder/websocket", dialCoder),
	goClient("github.com/gobwas/ws", dialGobwas),
	goClient("github.com/lxzan/gws", dialGWS),
	goClient("golang.org/x/net", dialXNet, "send-fragments", "receive-fragments", "client-ping", "server-close"),
}

type dialer func(ctx context.Context, url string, config *tls.Config, subprotocols ...string) (session, error)

func goClient(module string, dial dialer, lacks ...string) client {
	return client{
		name:    strings.ReplaceAll(module[strings.Index(module, "/")+1:], "/", "-"),
		lacks:   lacks,
		version: func() (string, error) { return moduleVersion(module) },
		run: func(ctx context.Context, p path, run string, names []string) map[string]error {
			results := map[string]error{}
			for _, name := range names {
				results[name] = runCase(ctx, dial, p, run, name)
			}
			return results
		},
	}
}

func moduleVersion(module string) (string, error) {
	return output("go", "list", "-m", "-f", "{{.Version}}", module)
}

// A session is a connection of a Go client. What it receives goes to its mailbox.
type session interface {
	send(op websocket.Opcode, data []byte) error
	sendFragments(parts ...string) error
	ping(payload string) error
	subprotocol() string
	sendClose(code int, reason string) error
	hangUp()
	inbox() *mailbox
}

var (
	errCut    = errors.New("the connection was cut")
	errCannot = errors.New("this client cannot do that")
)

// closedError is a close frame from the server, as far as the client tells of it.
type closedError struct {
	code   int
	reason string
}

func (e closedError) Error() string { return fmt.Sprintf("closed with %d %q", e.code, e.reason) }

type message struct {
	op   websocket.Opcode
	data []byte
}

// A mailbox is where the goroutine that reads from a client leaves what comes.
type mailbox struct {
	messages chan message
	pongs    chan string

	once sync.Once
	end  error
	gone chan struct{} // closed when end is set
}

func newMailbox() *mailbox {
	return &mailbox{messages: make(chan message, 16), pongs: make(chan string, 16), gone: make(chan struct{})}
}

func (m *mailbox) inbox() *mailbox { return m }

func (m *mailbox) deliver(op websocket.Opcode, data []byte) {
	m.messages <- message{op, append([]byte(nil), data...)}
}

// ended takes what the client makes of the end: a close frame, or anything else.
// What it says first is what counts.
func (m *mailbox) ended(err error) {
	m.once.Do(func() {
		if !errors.As(err, new(closedError)) {
			err = fmt.Errorf("%w: %w", errCut, err)
		}
		m.end = err
		close(m.gone)
	})
}

func (m *mailbox) receive(ctx context.Context) (message, error) {
	select {
	case msg := <-m.messages:
		return msg, nil
	case <-m.gone:
	case <-ctx.Done():
		return message{}, ctx.Err()
	}
	// What came before the end is here already.
	select {
	case msg := <-m.messages:
		return msg, nil
	default:
		return message{}, m.end
	}
}

func (m *mailbox) pong(ctx context.Context) (string, error) {
	select {
	case payload := <-m.pongs:
		return payload, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func runCase(ctx context.Context, dial dialer, p path, run, name string) error {
	s, err := dial(ctx, p.websocket+"/"+run+"/"+name, p.tls, offers[name]...)
	if err != nil {
		return fmt.Errorf("dialling: %w", err)
	}
	defer s.hangUp()
	t := talk{ctx, s}
	if err := cases[name](t); err != nil {
		return err
	}
	if strings.HasSuffix(name, "-close") {
		return nil
	}
	return t.close(int(websocket.StatusNormalClosure), "")
}

var offers = map[string][]string{"subprotocol": {"chat.v0", subprotocol}}

// A talk is a session in a case.
type talk struct {
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

var cases = map[string]func(talk) error{
	"text":   func(t talk) error { return t.echo(websocket.Text, someText, nil) },
	"binary": func(t talk) error { return t.echo(websocket.Binary, someBytes, nil) },
	"large": func(t talk) error {
		if err := t.echo(websocket.Text, mebibyte); err != nil {
			return err
		}
		return t.echo(websocket.Binary, mebibyte)
	},
	"send-fragments": func(t talk) error {
		parts := []string{part('x'), part('y'), part('z')}
		if err := t.sendFragments(parts...); err != nil {
			return err
		}
		return t.expectFragments(len(parts), strings.Join(parts, ""))
	},
	"receive-fragments": func(t talk) error {
		if err := t.send(websocket.Text, someText); err != nil {
			return err
		}
		return t.expectFragments(1, string(someText))
	},
	"client-ping": func(t talk) error {
		if err := t.ping("are you there?"); err != nil {
			return err
		}
		payload, err := t.inbox().pong(t.ctx)
		if err == nil && payload != "are you there?" {
			return fmt.Errorf("got pong %q", payload)
		}
		return err
	},
	"server-ping": func(t talk) error { return t.expect(websocket.Text, []byte("pong")) },
	"subprotocol": func(t talk) error {
		if got := t.subprotocol(); got != subprotocol {
			return fmt.Errorf("agreed on %q", got)
		}
		return t.expect(websocket.Text, []byte(subprotocol))
	},
	"client-close": func(t talk) error { return t.close(clientCode, clientReason) },
	"server-close": func(t talk) error { return t.expectClose(closedError{serverCode, serverReason}) },
	"idle": func(t talk) error {
		if err := t.expect(websocket.Text, []byte("awake")); err != nil {
			return err
		}
		return t.echo(websocket.Text, []byte("thanks"))
	},
}

// part is as large as the buffer of gorilla/websocket, which is what it fragments by.
func part(b byte) string { return strings.Repeat(string(b), 4096) }

func (t talk) echo(op websocket.Opcode, messages ...[]byte) error {
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

func (t talk) expect(op websocket.Opcode, data []byte) error {
	got, err := t.inbox().receive(t.ctx)
	if err != nil {
		return err
	}
	if got.op != op || string(got.data) != string(data) {
		return fmt.Errorf("got %v %.50q (%d bytes), want %v %.50q (%d bytes)", got.op, got.data, len(got.data), op, data, len(data))
	}
	return nil
}

func (t talk) expectFragments(count int, message string) error {
	return t.expect(websocket.Text, fmt.Appendf(nil, "%d: %s%s%s", count, message, filling('a'), filling('b')))
}

func (t talk) close(code int, reason string) error {
	if err := t.sendClose(code, reason); err != nil {
		return err
	}
	return t.expectClose(closedError{code, ""})
}

// silent is for clients that do not tell what their close was answered with.
const silent = 0

func (t talk) expectClose(want closedError) error {
	msg, err := t.inbox().receive(t.ctx)
	var got closedError
	if !errors.As(err, &got) {
		return fmt.Errorf("got %.50q, %w; want %w", msg.data, err, want)
	}
	if got.code != silent && got != want {
		return fmt.Errorf("got %w, want %w", got, want)
	}
	return nil
}
