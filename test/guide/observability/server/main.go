package main

import (
	"context"
	"expvar"
	"log"
	"log/slog"
	"net/http"
	_ "net/http/pprof" // registers its pages in http.DefaultServeMux, and so does expvar
	"runtime/pprof"
	"time"

	"github.com/f44ffc3b/websocket"
)

func main() {
	echo := websocket.Handle(serve, observe(slog.Default().With("path", "/echo"))...)
	expvar.Publish("websocket", expvar.Func(func() any { return echo.Stats() }))
	go func() { // for the operator, on an address that only this machine can reach
		log.Fatal(newServer("localhost:6060", http.DefaultServeMux).ListenAndServe())
	}()
	mux := http.NewServeMux()
	mux.Handle("/echo", echo)
	log.Fatal(newServer(":8080", mux).ListenAndServe())
}

func newServer(addr string, h http.Handler) *http.Server {
	return &http.Server{
		Addr:              addr,
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
	}
}

// observe returns options that log the end of each connection, and each refusal. They do not use
// the request of the connection, so they are also for HandleMessages, which has released it by then.
func observe(log *slog.Logger) []websocket.Option {
	return []websocket.Option{
		websocket.OnClose(func(c *websocket.Conn, err error) {
			s := c.Stats()
			log.Info("websocket closed",
				"remote", c.RemoteAddr(),
				"code", int(websocket.CloseStatus(err)),
				"cause", err,
				"duration", time.Since(s.Opened).Round(time.Millisecond),
				"received", s.MessagesReceived,
				"sent", s.MessagesSent,
				"rtt", s.RTT)
		}),
		websocket.OnError(func(c *websocket.Conn, err error) {
			log.Error("websocket function failed", "remote", c.RemoteAddr(), "error", err)
		}),
		websocket.OnRefused(func(r *http.Request, err *websocket.HandshakeError) {
			log.Warn("websocket refused", "remote", r.RemoteAddr, "status", err.Status, "reason", err.Reason)
		}),
	}
}

// serve gives its goroutine a label, which profiles show.
func serve(c *websocket.Conn) (err error) {
	labels := pprof.Labels("websocket", c.Request().URL.Path)
	pprof.Do(c.Context(), labels, func(context.Context) { err = echo(c) })
	return err
}

// echo sends every message back.
func echo(c *websocket.Conn) error {
	for msg, err := range c.Messages() {
		if err != nil {
			return err
		}
		if err := c.SendMessage(msg.Opcode, msg.Data); err != nil {
			return err
		}
	}
	return nil
}
