// Prometheus is an echo server at ws://localhost:8080/echo whose statistics Prometheus can
// scrape at http://localhost:2112/metrics.
//
//	cd examples/prometheus
//	go run .
package main

import (
	"log"
	"net/http"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

func main() {
	public, metrics := newHandlers()
	go func() { log.Fatal(newServer("localhost:2112", metrics).ListenAndServe()) }()
	log.Print("ws://localhost:8080/echo and http://localhost:2112/metrics")
	log.Fatal(newServer(":8080", public).ListenAndServe())
}

// newHandlers returns the handler for clients, and that for Prometheus.
func newHandlers() (public, metrics *http.ServeMux) {
	collector := NewCollector("echo")
	h := websocket.Handle(echo, websocket.OnClose(collector.OnClose))
	collector.Watch(h)
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector)

	public, metrics = http.NewServeMux(), http.NewServeMux()
	public.Handle("/echo", h)
	metrics.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return public, metrics
}

func newServer(addr string, h http.Handler) *http.Server {
	return &http.Server{
		Addr:              addr,
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
	}
}

// echo sends every message back until the connection ends.
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
