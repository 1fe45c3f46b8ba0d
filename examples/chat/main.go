// Chat is a chat room in the browser. It shows the messages and the names of the people
// in the room.
//
//	go run ./examples/chat
//
// Then open http://localhost:8080 in two windows. Stop the program with Ctrl-C and
// start it again: the pages reconnect automatically.
package main

import (
	"context"
	"embed"
	"errors"
	"flag"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

//go:embed page
var files embed.FS

// shutdownTimeout limits the time in which the server closes all connections.
const shutdownTimeout = 10 * time.Second

func main() {
	addr := flag.String("addr", ":8080", "`host:port` to listen on")
	l := defaultLimits()
	flag.BoolVar(&l.forwarders, "behind-proxy", false,
		"take the address of a client from the last entry of X-Forwarded-For; only if all clients come through a proxy that sets it")
	flag.Parse()
	if err := serve(*addr, l); err != nil {
		slog.Error("stopped", "err", err)
		os.Exit(1)
	}
}

// serve runs the chat until Ctrl-C.
func serve(addr string, limits limits) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second Ctrl-C ends the program at once.
	context.AfterFunc(ctx, stop)

	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	slog.Info("open this in several windows", "url", pageURL(l.Addr()))
	return run(ctx, l, newHub(limits))
}

// run serves the chat on l until ctx is done. Then it closes all connections and waits
// for them.
func run(ctx context.Context, l net.Listener, h *hub) error {
	srv := &http.Server{
		Handler:           routes(h),
		ReadHeaderTimeout: 5 * time.Second, // a client must send its handshake in this time
		// These two are for the page. They end with the handshake of a WebSocket.
		ReadTimeout:  10 * time.Second, // also the time in which a client must send its next request
		WriteTimeout: 10 * time.Second,
		// A WebSocket keeps the headers of its handshake. Browsers send less than a kilobyte.
		MaxHeaderBytes: 16 << 10,
	}
	// Shutdown of the server neither closes nor waits for WebSocket connections.
	srv.RegisterOnShutdown(func() { h.socket.Shutdown(context.Background()) })
	go h.sayAlive(ctx, aliveEvery)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}

	slog.Info("shutting down")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err := errors.Join(srv.Shutdown(ctx), h.socket.Shutdown(ctx))
	<-served
	return err
}

// routes returns the handler of the program: the WebSocket at /chat and the page at /.
func routes(h *hub) http.Handler {
	page, err := fs.Sub(files, "page")
	if err != nil {
		panic(err) // cannot happen, because the directory is embedded in the program
	}
	mux := http.NewServeMux()
	mux.Handle("/chat", h)
	mux.Handle("/", secured(http.FileServerFS(page)))
	return mux
}

// secured adds security headers to the responses of next. The page may only load files
// of this server and connect to this server. If a fault of the page ever put a user's
// text into its HTML, a script in that text would not run.
func secured(next http.Handler) http.Handler {
	const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", policy)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cache-Control", "no-cache")
		next.ServeHTTP(w, r)
	})
}

// pageURL returns the URL of the page for a browser on this machine.
func pageURL(addr net.Addr) string {
	host, port, _ := net.SplitHostPort(addr.String())
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() || ip.IsLoopback() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port)
}
