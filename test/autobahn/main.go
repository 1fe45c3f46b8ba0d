// Autobahn is an echo server for the Autobahn conformance suite. It sends every message
// back, has large limits and sends no pings. docs/autobahn.md says how to run the suite.
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
	if err := serve(ctx, l, *maxMessage, *maxFrame); err != nil {
		log.Fatal(err)
	}
}

// serve echoes on l until ctx is done, and then closes every connection with 1001.
func serve(ctx context.Context, l net.Listener, maxMessage, maxFrame int64) error {
	h := websocket.Handle(
		echo,
		websocket.AcceptConnection(websocket.AnyOrigin),
		websocket.MaxMessageSize(maxMessage),
		websocket.MaxFrameSize(maxFrame),
		websocket.MaxFragments(maxFragments),
		// The suite compares all frames with the frames that it expects. It does
		// not expect pings of the server.
		websocket.PingInterval(0),
		websocket.ConnectionTimeout(time.Minute), // which would be off without pings
	)
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
