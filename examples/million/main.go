// Million holds very many connections, and shows what they cost as it runs.
//
//	go run ./examples/million
//
// It sends every message of ws://localhost:8080/ws back. Once a second it prints how many
// connections there are, their memory and their messages; http://localhost:8080 shows the same.
// docs/million.md has a load generator, and the limits of the operating system.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/f44ffc3b/websocket"
)

// shutdownTimeout is how long Ctrl-C waits for the clients. The close handshakes of a million
// connections take half a minute of processor time.
const shutdownTimeout = time.Minute

func main() {
	addr := flag.String("addr", "localhost:8080", "`host:port` to listen on")
	way := flag.String("serve", "messages", "how to serve the connections: messages, detached or handle")
	every := flag.Duration("every", time.Second, "the time between two lines of figures")
	flag.Parse()
	if err := serve(*addr, *way, *every); err != nil {
		slog.Error("stopped", "err", err)
		os.Exit(1)
	}
}

// serve runs the program until Ctrl-C.
func serve(addr, way string, every time.Duration) error {
	closing := newCloser()
	h, err := newHandler(way, closing)
	if err != nil {
		return err
	}
	if every <= 0 {
		return fmt.Errorf("-every is %v, want more than 0", every)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once

	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return run(ctx, l, h, closing, every, os.Stdout)
}

// newHandler returns the handler of the connections. They differ in what an idle one holds:
// nothing but its Conn, a goroutine, or a goroutine and the request.
func newHandler(way string, closing closer) (*websocket.Handler, error) {
	opts := []websocket.Option{
		websocket.AcceptConnection(websocket.AnyOrigin),
		websocket.MaxMessageSize(64 << 10),
		// Pings of idle connections are most of the traffic. The timeout of a proxy in front
		// must be longer than this.
		websocket.PingInterval(50 * time.Second),
		websocket.ConnectionTimeout(2 * time.Minute),
		websocket.OnClose(closing.closed),
	}
	switch way {
	case "messages":
		return websocket.HandleMessages(func(c *websocket.Conn) (websocket.MessageFunc, error) {
			return c.SendMessage, nil
		}, opts...), nil
	case "detached":
		return websocket.Handle(echo, append(opts, websocket.Detached(true))...), nil
	case "handle":
		return websocket.Handle(echo, opts...), nil
	}
	return nil, fmt.Errorf("-serve is %q, want messages, detached or handle", way)
}

// echo sends every message back. ReceiveFunc needs no buffer for the messages.
func echo(c *websocket.Conn) error {
	for {
		if err := c.ReceiveFunc(c.SendMessage); err != nil {
			return err
		}
	}
}

// run serves l until ctx is done, and writes the figures to out. Then it closes all connections
// and waits for them.
func run(ctx context.Context, l net.Listener, h *websocket.Handler, closing closer, every time.Duration, out io.Writer) error {
	m := newMeter(h)
	mux := http.NewServeMux()
	mux.Handle("/ws", h)
	mux.Handle("GET /{$}", m)
	srv := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       10 * time.Second, // does not apply to a WebSocket
		WriteTimeout:      10 * time.Second,
		MaxHeaderBytes:    16 << 10,
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	fmt.Fprintf(out, "ws://%s/ws sends every message back\n", l.Addr())

	pace := time.NewTicker(every)
	defer pace.Stop()
	for {
		select {
		case <-pace.C:
			fmt.Fprintln(out, m.measure())
		case err := <-served:
			return err
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
			defer cancel()
			err := srv.Shutdown(ctx)
			closing.closeAll(ctx, h)
			err = errors.Join(err, h.Shutdown(ctx))
			<-served
			return err
		}
	}
}

// A closer has an element for each close handshake in progress. A connection takes a goroutine, and
// so several times its memory, until the client has answered the close frame. So it limits their
// number.
type closer chan struct{}

func newCloser() closer { return make(closer, 5000) }

// closeAll begins the close handshakes of all connections.
func (cl closer) closeAll(ctx context.Context, h *websocket.Handler) {
	for c := range h.Conns() {
		select {
		case cl <- struct{}{}:
			if c.StartClose(websocket.StatusGoingAway, "") != nil { // it has ended before
				cl.closed(c, nil)
			}
		case <-ctx.Done():
			return
		}
	}
}

// closed is for OnClose.
func (cl closer) closed(*websocket.Conn, error) {
	select {
	case <-cl:
	default: // the client has closed the connection
	}
}
