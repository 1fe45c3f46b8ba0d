package model

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket"
	_ "github.com/f44ffc3b/websocket/extendedconnect"
	"github.com/f44ffc3b/websocket/internal/memnet"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

func TestMain(m *testing.M) { wstest.Main(m) }

// offer is the header with which the client offers compression.
const offer = "Sec-WebSocket-Extensions: permessage-deflate"

// In memory, the clock is that of a bubble, so the handler can pause for seconds. A poll reads in
// each second of a pause.
func TestModel_in_memory(t *testing.T) {
	pauses := pauses{handler: 4 * time.Second, client: 30 * time.Millisecond, often: 4}
	forSeeds(t, wstest.Scale(t, 120, 60), func(t *testing.T, k kind, seed int) {
		synctest.Test(t, func(t *testing.T) {
			s := newScenario(k, seed, pauses)
			s.opts = append(s.opts, websocket.ConnectionTimeout(0)) // because the handler can pause for longer
			s.run(t, connectInMemory, 24*time.Hour)
		})
	})
}

func TestModel_over_TCP(t *testing.T) { overNetwork(t, connectTCP) }

func TestModel_over_TLS(t *testing.T) { overNetwork(t, connectTLS) }

func TestModel_over_HTTP2(t *testing.T) { overNetwork(t, connectHTTP2) }

func overNetwork(t *testing.T, connect connectFunc) {
	pauses := pauses{handler: 2 * time.Millisecond, often: 20}
	forSeeds(t, wstest.Scale(t, 20, 10), func(t *testing.T, k kind, seed int) {
		newScenario(k, seed, pauses).run(t, connect, time.Minute)
	})
}

// forSeeds calls f for each kind of handler and each seed from 1 to n. The seeds of one kind run
// one after the other.
func forSeeds(t *testing.T, n int, f func(t *testing.T, k kind, seed int)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			for seed := 1; seed <= n; seed++ {
				t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { f(t, k, seed) })
			}
		})
	}
}

// A connectFunc connects a client to h. It returns the client after the handshake, and how many
// bytes of wire have reached the server already.
type connectFunc func(t *testing.T, h *websocket.Handler, r random, wire []byte) (c *wstest.Client, early int)

func connectTCP(t *testing.T, h *websocket.Handler, _ random, _ []byte) (*wstest.Client, int) {
	c := wstest.Dial(t, wstest.Serve(t, h).Listener.Addr().String())
	c.Handshake(offer + "\r\n")
	return c, 0
}

func connectTLS(t *testing.T, h *websocket.Handler, _ random, _ []byte) (*wstest.Client, int) {
	c := wstest.DialTLS(t, wstest.ServeTLS(t, h).Listener.Addr().String())
	c.Handshake(offer + "\r\n")
	return c, 0
}

func connectHTTP2(t *testing.T, h *websocket.Handler, _ random, _ []byte) (*wstest.Client, int) {
	c := wstest.DialHTTP2(t, wstest.ServeHTTP2(t, h).Listener.Addr().String(), 0)
	return c.ConnectClient(t, "sec-websocket-extensions: permessage-deflate"), 0
}

// connectInMemory makes the buffer between the client and the server small in most scenarios. In
// half of them, the server gets some bytes together with the handshake.
func connectInMemory(t *testing.T, h *websocket.Handler, r random, wire []byte) (*wstest.Client, int) {
	server, client := memnet.Pipe(&net.TCPAddr{}, &net.TCPAddr{})
	if !r.oneIn(3) {
		server.SetReadBuffer(1 + r.IntN(10000))
	}
	w := &wstest.Hijacker{Conn: server}
	early := 0
	if r.oneIn(2) {
		early = r.IntN(min(len(wire), 100_000) + 1)
		w.Buffer = buffered(wire[:early], server)
	}
	served := make(chan struct{})
	t.Cleanup(func() { <-served })
	c := wstest.NewClient(t, client) // its cleanup closes the connection before the wait
	go func() {
		defer close(served)
		h.ServeHTTP(w, wstest.ReadRequest(wstest.Request(offer)))
	}()
	if err := c.ReadUpgrade(); err != nil {
		t.Fatal(err)
	}
	return c, early
}

// buffered returns the buffers of a server that has read b together with the handshake.
func buffered(b []byte, conn net.Conn) *bufio.ReadWriter {
	r := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(b), conn), max(16, len(b)))
	r.Peek(len(b))
	return bufio.NewReadWriter(r, bufio.NewWriter(conn))
}

// run connects the client of the scenario to its handler, and compares the results of both with it.
// patience is how long each of them may take.
func (s *scenario) run(t *testing.T, connect connectFunc, patience time.Duration) {
	ended := make(chan error, 1)
	rec := s.newReceiver()
	h := s.kind.handler(rec, append(s.opts, websocket.OnClose(func(_ *websocket.Conn, err error) { ended <- rec.result(err) })))
	conn, early := connect(t, h, s.random, s.wire())
	conn.Conn.SetDeadline(time.Now().Add(patience))
	err := s.newClient(conn).run(early)
	if err != nil {
		t.Errorf("seed %d: the client: %v", s.seed, err)
	}
	conn.Conn.Close()
	select {
	case err = <-ended:
	case <-time.After(patience):
		err = errors.New("has not ended")
	}
	if err != nil {
		t.Errorf("seed %d: the handler: %v", s.seed, err)
	}
	if !t.Failed() {
		s.checkCounts(t, h)
	}
}

// checkCounts compares the counts of h, which has served only this scenario.
func (s *scenario) checkCounts(t *testing.T, h *websocket.Handler) {
	if err := h.Shutdown(context.Background()); err != nil {
		t.Errorf("seed %d: Shutdown: %v", s.seed, err)
	}
	got, messages := h.Stats(), uint64(len(s.messages))
	if got.Accepted != 1 || got.Open != 0 || got.MessagesReceived != messages || got.Closed[websocket.StatusNormalClosure] != 1 {
		t.Errorf("seed %d: got %+v, want one connection with %d messages, closed with 1000", s.seed, got, messages)
	}
}
