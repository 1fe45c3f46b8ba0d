// Chat is a room in the browser: several people, what they say, and who is there.
//
//	go run ./examples/chat
//
// and open http://localhost:8080 in two windows. Stop it with Ctrl-C and start it
// again: the windows come back by themselves.
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

// grace is how long everybody may take to say goodbye when the server stops.
const grace = 10 * time.Second

func main() {
	addr := flag.String("addr", ":8080", "`host:port` to listen on")
	flag.Parse()
	if err := serve(*addr); err != nil {
		slog.Error("stopped", "err", err)
		os.Exit(1)
	}
}

// serve runs the chat until Ctrl-C.
func serve(addr string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second Ctrl-C ends the program at once.
	context.AfterFunc(ctx, stop)

	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	slog.Info("open this in several windows", "url", pageURL(l.Addr()))
	return run(ctx, l, newHub())
}

// run serves the chat on l until ctx is done, and then sends everybody away.
func run(ctx context.Context, l net.Listener, h *hub) error {
	srv := &http.Server{
		Handler:           routes(h),
		ReadHeaderTimeout: 5 * time.Second,
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}

	slog.Info("shutting down")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	// Shutdown knows nothing of connections that were upgraded: they are closed,
	// and waited for, by the hub.
	h.close()
	err := errors.Join(srv.Shutdown(ctx), h.wait(ctx))
	<-served
	return err
}

func routes(h *hub) http.Handler {
	page, err := fs.Sub(files, "page")
	if err != nil {
		panic(err) // the directory is part of the program
	}
	mux := http.NewServeMux()
	mux.Handle("/chat", h)
	mux.Handle("/", secured(http.FileServerFS(page)))
	return mux
}

// secured lets the page load and connect to what comes from here and nothing
// else: should somebody's words ever end up in its HTML, they stay words.
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

// pageURL is what to type into a browser on this machine.
func pageURL(addr net.Addr) string {
	host, port, _ := net.SplitHostPort(addr.String())
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() || ip.IsLoopback() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port)
}
