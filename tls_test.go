package websocket

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket/internal/sock"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

// A tlsPair is a TLS connection over TCP, after its handshake.
type tlsPair struct {
	server *tls.Conn
	client *tls.Conn
	below  *corkConn // the client's socket
}

// A corkConn collects what is written to it while it is corked, so that a test can send records in
// pieces, or together.
type corkConn struct {
	*net.TCPConn
	mu     sync.Mutex
	corked bool
	held   bytes.Buffer
}

func (c *corkConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.corked {
		return c.held.Write(p)
	}
	return c.TCPConn.Write(p)
}

// collect returns what write writes.
func (c *corkConn) collect(write func()) []byte {
	c.setCorked(true)
	defer c.setCorked(false)
	write()
	return slices.Clone(c.held.Next(c.held.Len()))
}

func (c *corkConn) setCorked(corked bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = corked
}

// newTLSPair connects with one version of TLS. wrap, if it is not nil, wraps the server's socket.
func newTLSPair(t testing.TB, version uint16, wrap func(net.Conn) net.Conn) tlsPair {
	t.Helper()
	config := tlsConfig().Clone()
	config.MinVersion, config.MaxVersion = version, version
	client, server := tcpPair(t)
	below := &corkConn{TCPConn: client.(*net.TCPConn)}
	if wrap != nil {
		server = wrap(server)
	}
	p := tlsPair{tls.Server(server, config), tls.Client(below, &tls.Config{InsecureSkipVerify: true}), below}
	done := make(chan error, 1)
	go func() { done <- p.client.Handshake() }()
	if err := errors.Join(p.server.Handshake(), await(t, done)); err != nil {
		t.Fatal(err)
	}
	return p
}

// tlsConfig returns the configuration of a server. Starting a server for each test takes longer.
var tlsConfig = sync.OnceValue(func() *tls.Config {
	srv := httptest.NewUnstartedServer(nil)
	srv.StartTLS()
	defer srv.Close()
	return srv.TLS
})

// newQuietConn returns a Conn over TLS 1.3 on TCP. Its keepalive sends nothing during the test,
// unless opts say otherwise.
func newQuietConn(t testing.TB, opts ...Option) (*Conn, *peer, tlsPair) {
	t.Helper()
	return newQuietConnOf(t, tls.VersionTLS13, opts...)
}

func newQuietConnOf(t testing.TB, version uint16, opts ...Option) (*Conn, *peer, tlsPair) {
	t.Helper()
	if !sock.Supported {
		t.Skip("this platform waits with a buffer")
	}
	pair := newTLSPair(t, version, nil)
	c := newTestConn(pair.server, nil, append([]Option{PingInterval(time.Hour)}, opts...)...)
	t.Cleanup(func() {
		pair.below.Close()
		c.Close(StatusNormalClosure, "")
	})
	return c, newPeer(t, pair.client), pair
}

// rest does what a tick does each PingInterval, until the goroutine that receives waits below TLS.
// An interruption may come at a moment at which it has no effect: before the goroutine reads what
// has arrived.
func rest(t testing.TB, c *Conn) {
	t.Helper()
	awaitQuiet(t, c, func() { c.socket.interruptRead(c.socket.overTLS()) })
}

// awaitRest waits until the goroutine that receives waits below TLS.
func awaitRest(t testing.TB, c *Conn) {
	t.Helper()
	awaitQuiet(t, c, func() {})
}

func awaitQuiet(t testing.TB, c *Conn, tick func()) {
	t.Helper()
	waits := &c.socket.overTLS().waits
	for deadline := time.Now().Add(wstest.Patience); ; time.Sleep(100 * time.Microsecond) {
		tick()
		// The detector cannot see that the goroutine does not use its buffer while it waits.
		if endOf(c) != nil { // at a limit, on a slow machine
			return
		}
		if waits.Load() && (wstest.RaceEnabled() || len(c.in.buf.buf) == 0) && waits.Load() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the connection does not wait below TLS, or it does with a buffer")
		}
	}
}

// The receiving methods, each in a function that echoes messages until the end.
var tlsReceivers = []struct {
	name  string
	serve func(*Conn, HandlerFunc, ...Option) <-chan error
	fn    HandlerFunc
}{
	{"ReceiveMessage", runHandler, echoAll},
	{"AppendMessage", runHandler, appendEcho},
	{"ReceiveFunc", runHandler, lendEcho},
	{"HandleConcurrent", runConcurrent, echoAll},
	{"MessageReader", runHandler, func(c *Conn) error {
		for {
			op, r, err := c.MessageReader()
			if err != nil {
				return err
			}
			data, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			if err := c.SendMessage(op, data); err != nil {
				return err
			}
		}
	}},
	{"ReceiveFragments", runHandler, func(c *Conn) error {
		for {
			frames, err := c.ReceiveFragments()
			if err != nil {
				return err
			}
			op, data, err := ProcessFragments(frames)
			if err != nil {
				return err
			}
			if err := c.SendMessage(op, data); err != nil {
				return err
			}
		}
	}},
	{"ReadFrame", runHandler, func(c *Conn) error {
		for {
			f, err := c.ReadFrame()
			switch {
			case err != nil:
				return err
			case f.Opcode == Ping:
				f.Opcode = Pong
			}
			if err := c.WriteFrame(f); err != nil || f.Opcode == Close {
				return err
			}
		}
	}},
	{"Stream", runHandler, func(c *Conn) error {
		s := c.Stream(Binary)
		p := make([]byte, 8<<10)
		for {
			n, err := s.Read(p)
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			if _, err := s.Write(p[:n]); err != nil {
				return err
			}
		}
	}},
}

// The peer's bytes wake a connection that waits below TLS, whatever method receives.
func TestQuiet_wakes_up(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		peer func(t *testing.T, c *Conn, p *peer, pair tlsPair)
	}{
		{"for a message", func(t *testing.T, c *Conn, p *peer, _ tlsPair) {
			p.send(Binary, "hello")
			p.expect(Binary, "hello")
		}},
		{"for messages in one record", func(t *testing.T, c *Conn, p *peer, _ tlsPair) {
			p.Write(slices.Concat(clientFrame(true, Binary, "a"), clientFrame(true, Binary, "b")))
			p.expect(Binary, "a")
			p.expect(Binary, "b")
		}},
		{"for records in one segment", func(t *testing.T, c *Conn, p *peer, pair tlsPair) {
			pair.below.Write(pair.below.collect(func() {
				p.send(Binary, "a")
				p.send(Binary, "b")
				p.send(Binary, "c")
			}))
			p.expect(Binary, "a")
			p.expect(Binary, "b")
			p.expect(Binary, "c")
		}},
		{"for a part of a record, and rests again until the end of it comes", func(t *testing.T, c *Conn, p *peer, pair tlsPair) {
			record := pair.below.collect(func() { p.send(Binary, "hello") })
			for _, part := range [][]byte{record[:3], record[3:20]} {
				pair.below.Write(part)
				for c.socket.overTLS().waits.Load() {
					time.Sleep(50 * time.Microsecond)
				}
				rest(t, c)
			}
			pair.below.Write(record[20:])
			p.expect(Binary, "hello")
		}},
		{"for a record and a part of the next one", func(t *testing.T, c *Conn, p *peer, pair tlsPair) {
			records := pair.below.collect(func() { p.send(Binary, "a"); p.send(Binary, "b") })
			pair.below.Write(records[:len(records)-5])
			p.expect(Binary, "a")
			rest(t, c)
			pair.below.Write(records[len(records)-5:])
			p.expect(Binary, "b")
		}},
		{"for a ping", func(t *testing.T, c *Conn, p *peer, _ tlsPair) {
			p.send(Ping, "here?")
			p.expect(Pong, "here?")
		}},
		{"for a large message", func(t *testing.T, c *Conn, p *peer, _ tlsPair) {
			const size = 100_000
			p.send(Binary, strings.Repeat("x", size))
			for got := 0; got < size; { // a Stream echoes each piece that it reads
				got += len(p.read().Payload)
			}
		}},
	}
	for _, r := range tlsReceivers {
		for _, tt := range tests {
			t.Run(r.name+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				c, p, pair := newQuietConn(t)
				done := r.serve(c, r.fn)
				for range 2 {
					rest(t, c)
					tt.peer(t, c, p, pair)
				}
				rest(t, c)
				p.Close()
				await(t, done)
			})
		}
	}
}

// A record of the handshake protocol, which has no data, does not end the wait for data.
func TestQuiet_after_records_without_data(t *testing.T) {
	computes(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			c, p, _ := newQuietConnOf(t, version)
			done := runHandler(c, echoAll)
			rest(t, c)
			p.send(Text, "")
			p.expect(Text, "")
			rest(t, c)
			if _, err := p.Conn.Write(nil); err != nil { // TLS 1.0 to 1.3: a record without data
				t.Fatal(err)
			}
			checkEcho(p)
			p.finish(done)
		})
	}
}

// A connection that waits below TLS ends as any other.
func TestQuiet_ends(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		opts []Option
		end  func(c *Conn, p *peer, pair tlsPair)
		want error
		code StatusCode
	}{
		{"with the peer's close frame", nil, func(_ *Conn, p *peer, _ tlsPair) { p.Write(clientFrame(true, Close, closeBody(4000, ""))) }, nil, 4000},
		{"with a broken rule", nil, func(_ *Conn, p *peer, _ tlsPair) { p.Write([]byte{0x83, 0x80, 0, 0, 0, 0}) }, ErrProtocol, 1002},
		{"with close_notify", nil, func(_ *Conn, _ *peer, pair tlsPair) { pair.client.CloseWrite() }, io.ErrUnexpectedEOF, 1006},
		{"with the end of the stream", nil, func(_ *Conn, _ *peer, pair tlsPair) { pair.below.CloseWrite() }, io.ErrUnexpectedEOF, 1006},
		{"with the end of the stream in a record", nil, func(_ *Conn, p *peer, pair tlsPair) {
			record := pair.below.collect(func() { p.send(Text, "hello") })
			pair.below.Write(record[:8])
			pair.below.CloseWrite()
		}, io.ErrUnexpectedEOF, 1006},
		{"with a reset", nil, func(_ *Conn, _ *peer, pair tlsPair) { pair.below.SetLinger(0); pair.below.Close() }, errReset, 1006},
		{"with a damaged record", nil, func(_ *Conn, _ *peer, pair tlsPair) { pair.below.Write(make([]byte, 50)) }, nil, 1006},
		{"with CloseNow", nil, func(c *Conn, _ *peer, _ tlsPair) { c.CloseNow() }, net.ErrClosed, 1006},
		{"with Close", nil, func(c *Conn, p *peer, _ tlsPair) {
			go c.Close(4001, "")
			p.ReadFrame()
			p.Write(clientFrame(true, Close, closeBody(4001, "")))
		}, net.ErrClosed, 4001},
		{"with StartClose, and a peer that does not answer", []Option{CloseTimeout(20 * time.Millisecond)}, func(c *Conn, _ *peer, _ tlsPair) { c.StartClose(4001, "") }, net.ErrClosed, 4001},
		{"with SendMessage(Close), and a peer that does not answer", []Option{CloseTimeout(20 * time.Millisecond)}, func(c *Conn, _ *peer, _ tlsPair) {
			c.SendMessage(Close, []byte(closeBody(4001, "")))
		}, ErrCloseTimeout, 0},
		{"with silence", []Option{PingInterval(10 * time.Millisecond), ConnectionTimeout(100 * time.Millisecond)}, func(*Conn, *peer, tlsPair) {}, ErrConnectionTimeout, 1001},
		{"with MaxLifetime", []Option{MaxLifetime(100 * time.Millisecond), CloseTimeout(10 * time.Millisecond)}, func(*Conn, *peer, tlsPair) {}, net.ErrClosed, 1001},
	}
	for name, serve := range runners {
		for _, tt := range tests {
			t.Run(name+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				c, p, pair := newQuietConn(t, tt.opts...)
				done := serve(c, receiveAll)
				rest(t, c)
				tt.end(c, p, pair)
				go func() { // so that the end does not wait for the peer
					io.Copy(io.Discard, pair.client)
					pair.below.Close()
				}()
				await(t, done)
				err := endOf(c)
				if tt.want != nil {
					wantError(t, err, tt.want)
				}
				if got := CloseStatus(err); tt.code != 0 && got != tt.code {
					t.Errorf("got error %v with status %d, want %d", err, got, tt.code)
				}
				wantSocketClosed(t, c)
			})
		}
	}
}

// The deadline of the user holds before, during and after the wait below TLS.
func TestQuiet_read_deadline(t *testing.T) {
	t.Parallel()
	const soon = 20 * time.Millisecond
	receive := func(c *Conn) <-chan error {
		done := make(chan error, 1)
		go func() { _, _, err := c.ReceiveMessage(); done <- err }()
		return done
	}
	tests := []struct {
		name string
		do   func(t *testing.T, c *Conn) <-chan error
	}{
		{"set before", func(t *testing.T, c *Conn) <-chan error {
			c.SetReadDeadline(time.Now().Add(soon))
			done := receive(c)
			c.socket.interruptRead(c.socket.overTLS())
			return done
		}},
		{"set before, after the interruption of no read", func(t *testing.T, c *Conn) <-chan error {
			c.socket.interruptRead(c.socket.overTLS())
			c.SetReadDeadline(time.Now().Add(soon))
			return receive(c)
		}},
		{"passed before", func(t *testing.T, c *Conn) <-chan error {
			c.SetReadDeadline(pastTime)
			c.socket.interruptRead(c.socket.overTLS())
			return receive(c)
		}},
		{"set during", func(t *testing.T, c *Conn) <-chan error {
			done := receive(c)
			rest(t, c)
			c.SetReadDeadline(time.Now().Add(soon))
			return done
		}},
		{"set during, and passed", func(t *testing.T, c *Conn) <-chan error {
			done := receive(c)
			rest(t, c)
			c.SetReadDeadline(pastTime)
			return done
		}},
		{"removed during, and set again", func(t *testing.T, c *Conn) <-chan error {
			c.SetReadDeadline(time.Now().Add(time.Hour))
			done := receive(c)
			rest(t, c)
			c.SetReadDeadline(time.Time{})
			c.SetReadDeadline(time.Now().Add(soon))
			return done
		}},
		{"set after", func(t *testing.T, c *Conn) <-chan error {
			done := receive(c)
			rest(t, c)
			c.socket.interruptRead(c.socket.overTLS()) // does nothing
			c.SetReadDeadline(time.Now().Add(soon))
			return done
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, p, _ := newQuietConn(t)
			for range 2 {
				err := await(t, tt.do(t, c))
				if !isTimeout(err) {
					t.Fatalf("got error %v, want that of a deadline", err)
				}
				c.SetReadDeadline(time.Time{})
				done := receive(c)
				rest(t, c)
				p.send(Text, "hello")
				if err := await(t, done); err != nil {
					t.Errorf("got error %v after the deadline was lifted", err)
				}
			}
		})
	}
	t.Run("that is lifted is not reported", func(t *testing.T) {
		c, p, _ := newQuietConn(t)
		for range 50 {
			done := receive(c)
			c.socket.interruptRead(c.socket.overTLS())
			c.SetReadDeadline(time.Now().Add(time.Hour))
			c.socket.interruptRead(c.socket.overTLS())
			c.SetReadDeadline(time.Time{})
			p.send(Text, "hello")
			if err := await(t, done); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// The interruption may come at any moment of a conversation, also inside a message.
func TestQuiet_interruptions_lose_nothing(t *testing.T) {
	t.Parallel()
	for _, r := range tlsReceivers {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			c, p, _ := newQuietConn(t)
			done := r.serve(c, r.fn)
			stop := make(chan struct{})
			var interrupter sync.WaitGroup
			interrupter.Go(func() {
				for !isClosed(stop) {
					c.socket.interruptRead(c.socket.overTLS())
					time.Sleep(20 * time.Microsecond)
				}
			})
			for _, size := range []int{0, 1, 100, 4000, 4100, 20_000, 70_000, 200_000, 1, 1} {
				want := strings.Repeat("x", size) + "."
				go p.send(Binary, want)
				var got []byte
				for !bytes.HasSuffix(got, []byte(".")) {
					got = append(got, p.read().Payload...)
				}
				if string(got) != want {
					t.Fatalf("got %d bytes, want the echo of %d", len(got), len(want))
				}
			}
			close(stop)
			interrupter.Wait()
			p.Close()
			await(t, done)
		})
	}
}
