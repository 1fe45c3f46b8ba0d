// Autobahn is an echo server for the Autobahn conformance suite. It sends every message
// back, compressed if the suite offers that, has large limits and sends no pings.
// docs/autobahn.md says how to run the suite.
//
//	go run ./test/autobahn -addr :9001
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/f44ffc3b/websocket"
)

const (
	// shutdownTimeout limits the time in which the server closes all connections.
	shutdownTimeout = 10 * time.Second

	// maxFragments allows a message of the largest size in frames of one byte.
	maxFragments = 1 << 30
)

func main() {
	addr := flag.String("addr", ":9001", "`host:port` to listen on")
	maxMessage := flag.Int64("max-message", 16<<20, "largest message in `bytes`, 1 GiB at most")
	maxFrame := flag.Int64("max-frame", 16<<20, "largest frame in `bytes`, 1 GiB at most")
	concurrent := flag.Bool("concurrent", false, "serve with HandleConcurrent instead of Handle")
	minSize := flag.Int("compression", 0, "compress messages of at least so many `bytes`; negative: agree to no compression")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second Ctrl-C ends the program at once.
	context.AfterFunc(ctx, stop)
	l, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("echoing on ws://%v", l.Addr())
	opts := []websocket.Option{websocket.MaxMessageSize(*maxMessage), websocket.MaxFrameSize(*maxFrame)}
	if *minSize >= 0 {
		opts = append(opts, websocket.Compression(*minSize))
	}
	h := newHandler(*concurrent, opts...)
	if err := serve(ctx, l, h); err != nil {
		log.Fatal(err)
	}
}

// newHandler returns a handler that echoes.
func newHandler(concurrent bool, opts ...websocket.Option) *websocket.Handler {
	opts = append(opts,
		websocket.AcceptConnection(websocket.AnyOrigin),
		websocket.MaxFragments(maxFragments),
		// The suite compares all frames with the frames that it expects. It does
		// not expect pings of the server.
		websocket.PingInterval(0),
		websocket.ConnectionTimeout(time.Minute), // which would be off without pings
	)
	if concurrent {
		return websocket.HandleConcurrent(echo, opts...)
	}
	return websocket.Handle(echo, opts...)
}

// serve serves h on l until ctx is done, and then closes every connection with 1001.
func serve(ctx context.Context, l net.Listener, h *websocket.Handler) error {
	srv := &http.Server{ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, Handler: h}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err := errors.Join(srv.Shutdown(ctx), h.Shutdown(ctx))
	<-served
	return err
}

// echo sends every message back until the connection ends.
func echo(c *websocket.Conn) error {
	var buf []byte
	for {
		op, msg, err := c.AppendMessage(buf[:0])
		if err != nil {
			return err
		}
		if err := c.SendMessage(op, msg); err != nil {
			return err
		}
		buf = msg
	}
}
