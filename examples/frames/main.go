// Frames uploads files with a protocol that is made of WebSocket frames.
//
//	go run ./examples/frames                # the server, on :8080
//	go run ./examples/frames -upload FILE   # a client that uploads FILE to it
//
// A file is one binary message in any number of frames. The server stores each frame
// when it arrives, so a file takes no more memory than a frame. The server reports its
// progress in text frames. The last of them contains the SHA-256 of the file.
//
// Everybody who reaches the server can upload, and a connection at most 100 files of -limit bytes. On
// the internet, check who the client is first, and limit how much each client may store.
//
// The programs use frames, not messages: server.go reads and writes frames with a Conn
// and answers control frames; client.go reads and writes frames on a TCP connection.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/f44ffc3b/websocket"
)

// shutdownTimeout limits the time in which the server closes all connections.
const shutdownTimeout = 10 * time.Second

// progress is the report of the server, as JSON in a text frame.
type progress struct {
	Received int64  `json:"received"`         // bytes so far
	SHA256   string `json:"sha256,omitempty"` // of the whole file, at the end
}

func main() {
	addr := flag.String("addr", ":8080", "`host:port` that the server listens on")
	dir := flag.String("dir", "", "existing `directory` in which the server keeps the files (default a new one)")
	limit := flag.Int64("limit", 1<<30, "largest file that the server accepts, in `bytes`")
	patience := flag.Duration("patience", time.Hour, "longest time for a whole file, from the end of the last one")
	file := flag.String("upload", "", "run as a client: upload `file` to the URL in the next argument, or to port 8080 of this machine")
	flag.Parse()

	var err error
	if *file != "" {
		url := "ws://localhost:8080/upload"
		if flag.NArg() > 0 {
			url = flag.Arg(0)
		}
		err = upload(url, *file, os.Stdout)
	} else {
		err = serve(*addr, *dir, *limit, *patience)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// serve runs the server until Ctrl-C. An empty dir stands for a new directory.
func serve(addr, dir string, limit int64, patience time.Duration) error {
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "uploads-"); err != nil {
			return err
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once

	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	log.Printf("listening on %s, keeping files in %s", addr, dir)
	return run(ctx, l, newHandler(dir, limit, patience))
}

// run serves l until ctx is done. Then it closes all connections and waits for them, because
// their functions remove the unfinished files.
func run(ctx context.Context, l net.Listener, h *websocket.Handler) error {
	srv := &http.Server{
		Handler:           routes(h),
		ReadHeaderTimeout: 5 * time.Second, // a client must send its handshake in this time
		// These two are for other requests. A WebSocket has timeouts of its own.
		ReadTimeout:  10 * time.Second, // also the time in which a client must send its next request
		WriteTimeout: 10 * time.Second,
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err := errors.Join(h.Shutdown(ctx), srv.Shutdown(ctx))
	<-served
	return err
}

// newHandler returns the handler of the uploads.
func newHandler(dir string, limit int64, patience time.Duration) *websocket.Handler {
	return websocket.Handle(func(c *websocket.Conn) error {
		r := receiver{conn: c, dir: dir, limit: limit, patience: patience}
		defer r.discard()
		return r.receive()
	})
}

// routes returns the handler of the server: the WebSocket at /upload and a help text.
func routes(uploads http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "Upload a file with\n\n\tgo run ./examples/frames -upload FILE ws://%s/upload\n", r.Host)
	})
	mux.Handle("/upload", uploads)
	return mux
}
