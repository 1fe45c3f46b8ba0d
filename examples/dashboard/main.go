// Dashboard shows live charts of a WebSocket server in the browser, and opens test clients
// that give them something to show.
//
//	go run ./examples/dashboard
//
// Then open http://localhost:8080. Ctrl-C stops the program. When it is started again, the
// page reconnects automatically.
package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"flag"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/f44ffc3b/websocket"
)

//go:embed page
var files embed.FS

// The limits of the server, see README.md.
const (
	maxClients      = 500       // connections to /echo
	maxViewers      = 50        // connections to /stats
	maxMessage      = 64 << 10  // bytes in a message to /echo
	maxAnswers      = 100       // to a message
	sendQueue       = 256 << 10 // bytes that may wait for a client of /echo
	shutdownTimeout = 10 * time.Second
)

func main() {
	addr := flag.String("addr", "localhost:8080", "`host:port` to listen on")
	flag.Parse()
	if err := serve(*addr); err != nil {
		slog.Error("stopped", "err", err)
		os.Exit(1)
	}
}

// serve runs the program until Ctrl-C.
func serve(addr string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second Ctrl-C ends the program at once.
	context.AfterFunc(ctx, stop)

	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	slog.Info("open this in a browser", "url", pageURL(l.Addr()))
	return run(ctx, l, newMonitor(newEchoes()))
}

// run serves the page and both WebSockets on l until ctx is done. Then it closes all
// connections and waits for them.
func run(ctx context.Context, l net.Listener, m *monitor) error {
	handler := routes(m)
	if addr, ok := l.Addr().(*net.TCPAddr); ok && addr.IP.IsLoopback() {
		handler = localOnly(handler)
	}
	srv := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second, // a client must send its handshake in this time
		// These two are for the page. They end with the handshake of a WebSocket.
		ReadTimeout:  10 * time.Second, // also the time in which a client must send its next request
		WriteTimeout: 10 * time.Second,
		// A WebSocket keeps the headers of its handshake. Browsers send less than a kilobyte.
		MaxHeaderBytes: 16 << 10,
	}
	// Shutdown of the server neither closes nor waits for WebSocket connections.
	srv.RegisterOnShutdown(func() { m.echoes.Shutdown(context.Background()) })
	srv.RegisterOnShutdown(func() { m.socket.Shutdown(context.Background()) })

	go m.run(ctx)
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
	err := errors.Join(srv.Shutdown(ctx), m.echoes.Shutdown(ctx), m.socket.Shutdown(ctx))
	<-served
	return err
}

// newEchoes returns the handler of the test clients, which the dashboard watches.
func newEchoes() *websocket.Handler {
	return websocket.Handle(echo, websocket.MaxMessageSize(maxMessage), websocket.SendQueue(sendQueue))
}

// echo sends every message back, as often as the message asks for. It does not wait for the
// client, so a client that reads too slowly has a queue, which the dashboard shows. If the
// queue is full, the error closes the connection with 1013.
func echo(c *websocket.Conn) error {
	go measure(c)
	for msg, err := range c.Messages() {
		if err != nil {
			return err
		}
		answer, err := websocket.PrepareMessage(msg.Opcode, msg.Data)
		if err != nil {
			return err
		}
		for range answers(msg.Data) {
			if err := c.TrySendPrepared(answer); err != nil {
				return err
			}
		}
	}
	return nil
}

// measure measures the round trip time in each interval, for Stats. The keepalive sends a ping
// only each PingInterval. A shorter PingInterval would not help, because a round trip that takes
// longer than PingInterval may be measured from a later ping.
func measure(c *websocket.Conn) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if _, err := c.Ping(c.Context()); err != nil {
			return
		}
		select {
		case <-ticker.C:
		case <-c.Context().Done():
			return
		}
	}
}

// answers returns how many answers a message asks for: the number before its first space, from
// 1 to maxAnswers.
func answers(data []byte) int {
	number, _, _ := bytes.Cut(data[:min(len(data), 8)], []byte(" "))
	n, _ := strconv.Atoi(string(number)) // 0 if there is no number
	return min(max(n, 1), maxAnswers)
}

// routes returns the handler of the program: the page, the WebSocket of the test clients, and
// that of the page. Both WebSockets accept only pages of this server, as every Handler does.
func routes(m *monitor) http.Handler {
	page, err := fs.Sub(files, "page")
	if err != nil {
		panic(err) // cannot happen, because the directory is embedded in the program
	}
	mux := http.NewServeMux()
	mux.Handle("/echo", atMost(maxClients, m.echoes))
	mux.Handle("/stats", atMost(maxViewers, m.socket))
	mux.Handle("/", secured(http.FileServerFS(page)))
	return mux
}

// atMost serves at most n connections of next at the same time. It refuses others before the
// handshake, because a refused WebSocket would take memory until it is closed.
func atMost(n int, next http.Handler) http.Handler {
	places := make(chan struct{}, n)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
			next.ServeHTTP(w, r)
		default:
			w.Header().Set("Retry-After", "10")
			refuse(w, r, http.StatusServiceUnavailable, "there are too many connections: try again later")
		}
	})
}

// localOnly refuses requests to names other than localhost. Without it, a page of any site
// could pass the check of the origin, with a name whose address becomes that of this machine
// (DNS rebinding).
func localOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host // without a port
		}
		if _, err := netip.ParseAddr(host); err != nil && host != "localhost" {
			refuse(w, r, http.StatusForbidden, "this server is for localhost")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refuse answers a request that may be a handshake, and closes its connection. A proxy may forward
// raw bytes after a handshake that was refused, and further requests would reach the server unchecked.
func refuse(w http.ResponseWriter, r *http.Request, status int, text string) {
	if r.ProtoMajor == 1 { // over HTTP/2, it would end the streams of other requests too
		w.Header().Set("Connection", "close")
	}
	http.Error(w, text, status)
}

// secured adds security headers to the responses of next. The page may only load files of
// this server and connect to this server.
func secured(next http.Handler) http.Handler {
	const policy = "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self'; " +
		"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
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
