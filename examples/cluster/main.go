// Cluster is a chat that runs on several processes. NATS carries the messages between the
// processes, and JetStream, a part of NATS, keeps the history.
//
//	go run .                                                # a first process, with NATS inside
//	go run . -listen :8081 -nats nats://localhost:4222      # another process
//
// Then open http://localhost:8080 and http://localhost:8081. Stop a process and start it
// again: the pages reconnect and get the messages that they have missed.
package main

import (
	"context"
	"embed"
	"errors"
	"flag"
	"fmt"
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

const (
	// shutdownTimeout limits the time in which all connections are closed.
	shutdownTimeout = 10 * time.Second
	// startTimeout limits the time in which a process connects to NATS and reads the history.
	startTimeout = 30 * time.Second
)

// A config holds the flags.
type config struct {
	listen string // of the page and the WebSockets
	name   string // of this process, for the users
	bus    busConfig
	nats   embeddedConfig
	limits limits
}

func main() {
	cfg := config{limits: defaultLimits()}
	cfg.bus.token = os.Getenv("NATS_TOKEN")
	cfg.nats.token = cfg.bus.token
	flag.StringVar(&cfg.listen, "listen", ":8080", "`host:port` of the page")
	flag.StringVar(&cfg.name, "name", "", "`name` of this process on the page; the default is its port")
	flag.StringVar(&cfg.bus.url, "nats", "", "`URL` of NATS, or several with commas between them; without it, this process runs NATS itself")
	flag.StringVar(&cfg.nats.listen, "nats-listen", "localhost:4222",
		"`host:port` of the NATS in this process, so that other processes can join; without -nats only")
	flag.StringVar(&cfg.nats.dir, "data", "", "`directory` for the history of the NATS in this process; the default is a temporary one")
	flag.IntVar(&cfg.bus.replicas, "replicas", 1, "copies of the history, if NATS is a cluster; up to 5")
	flag.Int64Var(&cfg.bus.keepMessages, "keep-messages", 10_000, "messages in the history")
	flag.Int64Var(&cfg.bus.keepBytes, "keep-bytes", 8<<20, "bytes in the history")
	flag.DurationVar(&cfg.bus.keepAge, "keep-age", 24*time.Hour, "age of the oldest message in the history")
	flag.BoolVar(&cfg.limits.forwarders, "behind-proxy", false,
		"take the address of a client from the last entry of X-Forwarded-For; only if all clients come through a proxy that sets it")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	if err := run(ctx, cfg); err != nil {
		slog.Error("stopped", "err", err)
		os.Exit(1)
	}
}

// run runs the process until ctx is done. The parts end in the opposite order: the connections of
// the clients, the connection to NATS, and NATS, if it is in this process.
func run(ctx context.Context, cfg config) (err error) {
	if cfg.bus.url == "" {
		nats, err := startNATS(cfg.nats)
		if err != nil {
			return err
		}
		defer nats.stop()
		cfg.bus.url = nats.url()
		slog.Info("NATS is in this process; it is a single point of failure", "nats", nats.url(), "data", nats.dir)
	}
	l, err := net.Listen("tcp", cfg.listen)
	if err != nil {
		return err
	}
	if cfg.name == "" {
		cfg.name = port(l.Addr())
	}
	r := newRoom(cfg.name, cfg.limits)
	b, err := openBus(ctx, cfg.bus, r)
	if err != nil {
		l.Close()
		return err
	}
	defer b.close()
	slog.Info("open this in several windows", "url", pageURL(l.Addr()), "name", cfg.name)
	return serve(ctx, l, r)
}

// serve serves the page and the WebSockets on l until ctx is done. Then it closes all
// connections and waits for them.
func serve(ctx context.Context, l net.Listener, r *room) error {
	srv := &http.Server{
		Handler:           routes(r),
		ReadHeaderTimeout: 5 * time.Second, // a client must send its handshake in this time
		// These two are for the page. They end with the handshake of a WebSocket.
		ReadTimeout:    10 * time.Second,
		WriteTimeout:   10 * time.Second,
		MaxHeaderBytes: 16 << 10, // a WebSocket keeps its headers
	}
	go r.sayAlive(ctx, aliveEvery)
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
	srv.RegisterOnShutdown(func() { r.handler.Shutdown(ctx) })
	err := errors.Join(srv.Shutdown(ctx), r.handler.Shutdown(ctx))
	<-served
	return err
}

// routes returns the handler of the program: the WebSocket at /chat and the page at /.
func routes(r *room) http.Handler {
	page, err := fs.Sub(files, "page")
	if err != nil {
		panic(err) // cannot happen, because the directory is embedded in the program
	}
	mux := http.NewServeMux()
	mux.Handle("/chat", r)
	mux.Handle("/", secured(http.FileServerFS(page)))
	return mux
}

// secured adds security headers to the responses of next. The page may only load files
// of this server and connect to this server.
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

// port returns the port of addr, as ":8080".
func port(addr net.Addr) string {
	_, port, _ := net.SplitHostPort(addr.String())
	return ":" + port
}

// pageURL returns the URL of the page for a browser on this machine.
func pageURL(addr net.Addr) string {
	host, port, _ := net.SplitHostPort(addr.String())
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() || ip.IsLoopback() {
		host = "localhost"
	}
	return fmt.Sprintf("http://%s", net.JoinHostPort(host, port))
}
