package websocket

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// A servedPeer is a client in memory of a Handler.
type servedPeer struct {
	*peer
	served chan struct{} // closed when ServeHTTP has returned, also by a panic
}

// connectTo makes a connection in memory to h, with a handshake.
func connectTo(t testing.TB, h http.Handler) *servedPeer {
	t.Helper()
	server, client := net.Pipe()
	p := &servedPeer{newPeer(t, client), make(chan struct{})}
	go func() {
		defer close(p.served)
		defer func() { recover() }() // as net/http does
		h.ServeHTTP(&wstest.Hijacker{Conn: server}, wstest.ReadRequest(wstest.Request()))
	}()
	if err := p.ReadUpgrade(); err != nil {
		t.Fatal(err)
	}
	return p
}

// askFor sends a handshake to h, for which there is no connection, and returns the response.
func askFor(h http.Handler) *http.Response {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, wstest.ReadRequest(wstest.Request()))
	return w.Result()
}

func wantShutResponse(t testing.TB, r *http.Response) {
	t.Helper()
	seconds, err := strconv.Atoi(r.Header.Get("Retry-After"))
	if r.StatusCode != http.StatusServiceUnavailable || err != nil || seconds <= 0 || r.Header.Get("Connection") != "close" {
		t.Errorf("got status %s with the header %v, want 503 with Retry-After and Connection: close", r.Status, r.Header)
	}
}

// shutDown calls Shutdown with a ctx that is done after limit, or at once if it is 0. It
// returns how long Shutdown took, and its error.
func shutDown(h *Handler, limit time.Duration) (took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	start := time.Now()
	err = h.Shutdown(ctx)
	return time.Since(start), err
}

// waitLonger does not end with its connection.
func waitLonger(c *Conn) error {
	<-c.Context().Done()
	time.Sleep(time.Hour)
	return nil
}

func TestShutdown_waits_for_all_or_ctx(t *testing.T) {
	computes(t)
	const s = time.Second
	answer := func(p *servedPeer) { p.expectClose(1001); p.send(Close, closeBody(1001, "")); p.ExpectEOF() }
	answerLate := func(p *servedPeer) {
		p.expectClose(1001)
		time.Sleep(2 * s)
		p.Conn.Write(clientFrame(true, Close, closeBody(1001, "")))
	}
	ignore := func(p *servedPeer) { p.expectClose(1001); p.Conn.SetDeadline(time.Time{}); p.ReadFrame() }
	cut := func(p *servedPeer) { p.ReadFrame() }
	blocked := func(p *servedPeer) { time.Sleep(time.Minute) } // it does not even read
	panics := func(c *Conn) error { receiveAll(c); panic(errSecret) }
	exits := func(c *Conn) error { receiveAll(c); runtime.Goexit(); return nil }
	sends := func(c *Conn) error { return c.SendMessage(Text, []byte("a peer that does not read")) }
	tests := []struct {
		name  string
		fn    HandlerFunc
		peer  func(*servedPeer)
		opts  []Option
		limit time.Duration
		took  time.Duration
		err   error
	}{
		{"the peers answer", receiveAll, answer, nil, time.Hour, 0, nil},
		{"the peers answer after two seconds", receiveAll, answerLate, nil, time.Hour, 2 * s, nil},
		{"no peer answers", receiveAll, ignore, nil, time.Hour, 5 * s, nil},
		{"no peer answers within a CloseTimeout of 7 s", receiveAll, ignore, []Option{CloseTimeout(7 * s)}, time.Hour, 7 * s, nil},
		{"no peer reads", sends, blocked, nil, time.Hour, 5 * s, nil},
		{"ctx is done before the peers answer", receiveAll, answerLate, nil, s, s, context.DeadlineExceeded},
		{"no peer answers, and CloseTimeout is 0", receiveAll, ignore, []Option{CloseTimeout(0), ConnectionTimeout(0)}, 3 * s, 3 * s, context.DeadlineExceeded},
		{"ctx is done already", receiveAll, cut, nil, 0, 0, context.DeadlineExceeded},
		{"the functions do not receive", waitForEnd, answer, nil, time.Hour, 0, nil},
		{"the functions take longer", waitLonger, answer, nil, 2 * time.Hour, time.Hour, nil},
		{"the functions take longer than ctx", waitLonger, answer, nil, s, s, context.DeadlineExceeded},
		{"the functions panic", panics, answer, nil, time.Hour, 0, nil},
		{"the functions call runtime.Goexit", exits, answer, nil, time.Hour, 0, nil},
		{"the functions run detached", receiveAll, answer, []Option{Detached(true)}, time.Hour, 0, nil},
		{"the functions panic detached", panics, answer, []Option{Detached(true), OnError(func(*Conn, error) {})}, time.Hour, 0, nil},
	}
	for name, handle := range map[string]func(HandlerFunc, ...Option) *Handler{"Handle": Handle, "HandleConcurrent": HandleConcurrent} {
		for _, tt := range tests {
			t.Run(name+"/"+tt.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var running sync.WaitGroup
					h := handle(func(c *Conn) error {
						running.Add(1)
						defer running.Done()
						c.request.Store(quietRequest(c.Request()))
						return tt.fn(c)
					}, tt.opts...)
					var peers sync.WaitGroup
					for range 3 {
						p := connectTo(t, h)
						peers.Go(func() { tt.peer(p) })
					}
					synctest.Wait()
					took, err := shutDown(h, tt.limit)
					if err != tt.err || took != tt.took {
						t.Errorf("got %v after %v, want %v after %v", err, took, tt.err, tt.took)
					}
					if left := len(slices.Collect(h.Conns())); err == nil && left > 0 {
						t.Errorf("%d connections are left after a complete Shutdown", left)
					}
					wantShutResponse(t, askFor(h))
					running.Wait()
					peers.Wait()
				})
			})
		}
	}
}

// quietRequest returns r with a server whose log is dropped.
func quietRequest(r *http.Request) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), http.ServerContextKey, &http.Server{ErrorLog: wstest.NoLog}))
}

// A connection that Shutdown cuts because ctx is done has no socket any more.
func TestShutdown_cuts_what_is_left(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := make(chan error, 1)
		h := Handle(func(c *Conn) error { ends <- receiveAll(c); return nil }, CloseTimeout(time.Hour))
		p := connectTo(t, h)
		start := time.Now()
		go shutDown(h, 3*time.Second)
		p.expectClose(1001)
		p.ExpectEOF()
		wantDuration(t, "the end", start, 3*time.Second)
		err := await(t, ends)
		wantError(t, err, net.ErrClosed)
		if got := CloseStatus(err); got != StatusGoingAway {
			t.Errorf("got close status %v, want 1001", got)
		}
		<-p.served
	})
}

func TestShutdown_can_be_called_at_any_time(t *testing.T) {
	const s = time.Second
	tests := []struct {
		name string
		run  func(t *testing.T, h *Handler) // three connections are open, which are never answered
	}{
		{"twice", func(t *testing.T, h *Handler) {
			for i, want := range []time.Duration{5 * s, 0} {
				if took, err := shutDown(h, time.Hour); err != nil || took != want {
					t.Errorf("call %d: got %v after %v, want nil after %v", i+1, err, took, want)
				}
			}
		}},
		{"by several goroutines", func(t *testing.T, h *Handler) {
			var calls sync.WaitGroup
			for range 4 {
				calls.Go(func() {
					if took, err := shutDown(h, time.Hour); err != nil || took != 5*s {
						t.Errorf("got %v after %v, want nil after 5s", err, took)
					}
				})
			}
			calls.Wait()
		}},
		{"again with less time", func(t *testing.T, h *Handler) {
			done := make(chan struct{})
			go func() {
				defer close(done)
				if took, err := shutDown(h, time.Hour); err != nil || took != 2*s {
					t.Errorf("got %v after %v, want nil after 2s", err, took)
				}
			}()
			time.Sleep(s)
			if took, err := shutDown(h, s); err != context.DeadlineExceeded || took != s {
				t.Errorf("got %v after %v, want %v after 1s", err, took, context.DeadlineExceeded)
			}
			<-done
		}},
		{"with a ctx that is canceled", func(t *testing.T, h *Handler) {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(s, cancel)
			if err := h.Shutdown(ctx); err != context.Canceled {
				t.Errorf("got %v, want %v", err, context.Canceled)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := Handle(receiveAll)
				var peers []*servedPeer
				for range 3 {
					p := connectTo(t, h)
					go p.ReadFrame()
					peers = append(peers, p)
				}
				tt.run(t, h)
				for _, p := range peers {
					<-p.served
				}
			})
		})
	}
}

func TestShutdown_before_any_request(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	h := Handle(echoAll)
	if err := h.Shutdown(ctx); err != nil {
		t.Errorf("got %v, want nil, because there is nothing to wait for", err)
	}
	wantShutResponse(t, askFor(h))
}

func TestShutdown_called_by_the_function_waits_for_itself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h *Handler
		h = Handle(func(c *Conn) error {
			if took, err := shutDown(h, time.Minute); err != context.DeadlineExceeded || took != time.Minute {
				t.Errorf("got %v after %v, want %v after 1m", err, took, context.DeadlineExceeded)
			}
			return nil
		})
		p := connectTo(t, h)
		p.expectClose(1001)
		p.send(Close, closeBody(1001, ""))
		p.ExpectEOF()
		<-p.served
	})
}

// Shutdown is called while the handshake is in each of its steps.
func TestShutdown_during_a_handshake(t *testing.T) {
	t.Run("while the request is checked", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			checking, proceed := make(chan bool), make(chan bool)
			h := Handle(echoAll, AcceptConnection(func(*http.Request) bool { checking <- true; return <-proceed }))
			response := make(chan *http.Response)
			go func() { response <- askFor(h) }()
			<-checking
			if took, err := shutDown(h, time.Hour); err != nil || took != 0 {
				t.Errorf("got %v after %v, want nil at once, because nothing was hijacked", err, took)
			}
			proceed <- true
			wantShutResponse(t, <-response)
		})
	})
	tests := []struct {
		name  string
		limit time.Duration
		took  time.Duration
		err   error
		read  func(p *peer) // after a second
	}{
		{"while the response is sent", time.Hour, time.Second, nil, func(p *peer) {
			if err := p.ReadUpgrade(); err != nil {
				t.Error(err)
			}
			p.expectClose(1001)
			p.send(Close, closeBody(1001, ""))
			p.ExpectEOF()
		}},
		{"while a response is sent that fails", time.Hour, time.Second, nil, func(p *peer) { p.Conn.Close() }},
		{"ended by ctx before the response is sent", time.Second / 2, time.Second / 2, context.DeadlineExceeded, func(p *peer) {
			if err := p.ReadUpgrade(); err != nil {
				t.Error(err)
			}
			if f, err := p.ReadFrame(); err == nil && Opcode(f.Opcode()) != Close {
				t.Errorf("got %v, want the end of the connection", f)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := Handle(receiveAll)
				server, client := net.Pipe()
				p, served := newPeer(t, client), make(chan struct{})
				go func() {
					defer close(served)
					h.ServeHTTP(&wstest.Hijacker{Conn: server}, wstest.ReadRequest(wstest.Request()))
				}()
				var peers sync.WaitGroup
				peers.Go(func() { time.Sleep(time.Second); tt.read(p) })
				synctest.Wait()
				if took, err := shutDown(h, tt.limit); err != tt.err || took != tt.took {
					t.Errorf("got %v after %v, want %v after %v", err, took, tt.err, tt.took)
				}
				<-served
				peers.Wait()
			})
		})
	}
	t.Run("that a panic ends", func(t *testing.T) {
		h := Handle(echoAll)
		func() {
			defer func() { recover() }()
			h.ServeHTTP(panickingHijacker{httptest.NewRecorder()}, wstest.ReadRequest(wstest.Request()))
		}()
		if _, err := shutDown(h, wstest.Patience); err != nil {
			t.Errorf("got %v, want nil", err)
		}
	})
}

type panickingHijacker struct{ *httptest.ResponseRecorder }

func (panickingHijacker) Unwrap() http.ResponseWriter { panic(errSecret) }

func TestShutdown_started_by_the_server(t *testing.T) {
	t.Parallel()
	over := make(chan error, 1)
	h := Handle(func(c *Conn) error { over <- receiveAll(c); return nil })
	srv := wstest.Serve(t, h)
	ctx, cancel := context.WithTimeout(context.Background(), wstest.Patience)
	defer cancel()
	srv.Config.RegisterOnShutdown(func() { h.Shutdown(ctx) })
	p := dialServer(t, srv)
	srv.Config.Shutdown(ctx)
	p.expectClose(1001)
	p.send(Close, closeBody(1001, ""))
	p.ExpectEOF()
	wantError(t, await(t, over), net.ErrClosed)
	if err := h.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

func TestShutdown_refuses_over_TCP_and_closes(t *testing.T) {
	h := Handle(echoAll)
	srv := wstest.Serve(t, h)
	shutDown(h, wstest.Patience)
	p := dialTCP(t, srv)
	p.Write([]byte(wstest.Request()))
	r, err := http.ReadResponse(p.Buffer, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" || !r.Close {
		t.Errorf("got %s with the header %v, want 503 with Retry-After and Connection: close", r.Status, r.Header)
	}
}

func TestConns_yields_those_that_are_served(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := Handle(receiveAll)
		count := func() int { return len(slices.Collect(h.Conns())) }
		if got := count(); got != 0 {
			t.Errorf("got %d connections before the first request, want 0", got)
		}
		var peers []*servedPeer
		for range 4 {
			peers = append(peers, connectTo(t, h))
		}
		synctest.Wait()
		if got := count(); got != 4 {
			t.Errorf("got %d connections, want 4", got)
		}
		peers[0].Close()
		<-peers[0].served
		if got := count(); got != 3 {
			t.Errorf("got %d connections after one has ended, want 3", got)
		}
		for range h.Conns() {
			break
		}
		for _, p := range peers[1:] {
			go func() { p.expectClose(4000); p.send(Close, closeBody(4000, "")) }()
		}
		closed := 0
		for c := range h.Conns() { // the body closes them, and one more comes
			if closed == 0 {
				peers = append(peers, connectTo(t, h))
			}
			closed++
			c.Close(4000, "")
		}
		synctest.Wait()
		if got := count(); closed != 3 || got != 1 {
			t.Errorf("the loop had %d connections and left %d, want 3 and 1", closed, got)
		}
		last := peers[len(peers)-1]
		last.Close()
		<-last.served
	})
}

func TestShutdown_races_with_connections(t *testing.T) {
	for range 20 {
		h := Handle(func(c *Conn) error { return c.SendMessage(Text, []byte("hello")) })
		var clients sync.WaitGroup
		for range 20 {
			clients.Go(func() {
				server, client := net.Pipe()
				defer client.Close()
				go func() {
					w := &wstest.Hijacker{Conn: server}
					h.ServeHTTP(w, wstest.ReadRequest(wstest.Request()))
					server.Close()
				}()
				p := wstest.NewClient(nil, client)
				if p.ReadUpgrade() != nil {
					return
				}
				for range h.Conns() {
				}
				for {
					f, err := p.ReadFrame()
					if err != nil {
						return
					}
					if Opcode(f.Opcode()) == Close {
						client.Write(clientFrame(true, Close, string(f.Payload)))
					}
				}
			})
		}
		runtime.Gosched()
		if _, err := shutDown(h, wstest.Patience); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if left := slices.Collect(h.Conns()); len(left) > 0 {
			t.Errorf("%d connections are left", len(left))
		}
		clients.Wait()
	}
}

// A wrapper whose connection cannot be hijacked must not make Shutdown wait.
func TestShutdown_after_a_refused_hijack(t *testing.T) {
	h := Handle(echoAll)
	if r := askFor(h); r.StatusCode != http.StatusInternalServerError {
		t.Errorf("got %s, want 500", r.Status)
	}
	if _, err := shutDown(h, wstest.Patience); err != nil {
		t.Errorf("got %v, want nil", err)
	}
}
