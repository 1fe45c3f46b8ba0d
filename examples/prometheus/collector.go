package main

import (
	"errors"
	"net"
	"strconv"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/prometheus/client_golang/prometheus"
)

// A Collector is a prometheus.Collector for one handler. It reads Handler.Stats when
// Prometheus scrapes, and OnClose counts the ends and fills two histograms. So a message costs
// nothing.
type Collector struct {
	handler              *websocket.Handler
	gauges               []metric
	counters             []metric
	closed               *prometheus.CounterVec
	lifetimes, roundTrip prometheus.Histogram
}

// A metric is a number in the statistics.
type metric struct {
	desc  *prometheus.Desc
	value func(*websocket.HandlerStats) float64
}

// NewCollector returns a Collector. All metrics have the label handler with this name. Give
// Collector.OnClose to the handler, and then the handler to Collector.Watch.
func NewCollector(name string) *Collector {
	labels := prometheus.Labels{"handler": name}
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("websocket_"+name, help, nil, labels)
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "websocket_" + name, Help: help, Buckets: buckets, ConstLabels: labels,
		})
	}
	type stats = websocket.HandlerStats
	c := &Collector{
		gauges: []metric{
			{desc("connections", "Connections that are open."), func(s *stats) float64 { return float64(s.Open) }},
		},
		counters: []metric{
			{desc("connections_accepted_total", "Handshakes that became a connection."), func(s *stats) float64 { return float64(s.Accepted) }},
			{desc("handshakes_refused_total", "Requests that did not become a connection."), func(s *stats) float64 { return float64(s.Refused) }},
			{desc("received_messages_total", "Messages from clients."), func(s *stats) float64 { return float64(s.MessagesReceived) }},
			{desc("sent_messages_total", "Messages to clients."), func(s *stats) float64 { return float64(s.MessagesSent) }},
			{desc("received_bytes_total", "Bytes from clients, with the headers of frames."), func(s *stats) float64 { return float64(s.BytesReceived) }},
			{desc("sent_bytes_total", "Bytes to clients, with the headers of frames."), func(s *stats) float64 { return float64(s.BytesSent) }},
		},
		closed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "websocket_connections_closed_total", Help: "Connections that have ended, by close code and by the side that chose it.", ConstLabels: labels,
		}, []string{"code", "by"}),
		lifetimes: histogram("connection_duration_seconds", "Durations of the connections that have ended.", prometheus.ExponentialBuckets(1, 4, 9)),
		roundTrip: histogram("round_trip_seconds", "The latest round trip of each connection that has ended and has answered a ping.", prometheus.ExponentialBuckets(0.001, 2, 13)),
	}
	c.closed.WithLabelValues("1011", "server") // 0 from the beginning, so that rate sees the first one
	return c
}

// Watch sets the handler whose statistics are collected. It must be called before the
// Collector is registered.
func (c *Collector) Watch(h *websocket.Handler) {
	c.handler = h
}

// OnClose is the function for websocket.OnClose.
func (c *Collector) OnClose(conn *websocket.Conn, err error) {
	c.closed.WithLabelValues(ending(err)).Inc()
	s := conn.Stats()
	c.lifetimes.Observe(time.Since(s.Opened).Seconds())
	if s.RTT > 0 {
		c.roundTrip.Observe(s.RTT.Seconds())
	}
}

// ending returns the labels for the end of a connection: the close code, and who has chosen it. The
// code of a close frame of the client can be any of about 2000. Those that have no meaning in the
// protocol are "other", so that a client cannot make that many series.
func ending(err error) (code, by string) {
	status := websocket.CloseStatus(err)
	code = strconv.Itoa(int(status))
	var frame *websocket.CloseError
	if !errors.As(err, &frame) || errors.Is(err, net.ErrClosed) { // closed here, and the frame is the answer
		return code, "server"
	}
	if status > 1014 {
		code = "other"
	}
	return code, "client"
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(descs chan<- *prometheus.Desc) {
	for _, m := range c.gauges {
		descs <- m.desc
	}
	for _, m := range c.counters {
		descs <- m.desc
	}
	c.closed.Describe(descs)
	c.lifetimes.Describe(descs)
	c.roundTrip.Describe(descs)
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(metrics chan<- prometheus.Metric) {
	s := c.handler.Stats()
	for _, m := range c.gauges {
		metrics <- prometheus.MustNewConstMetric(m.desc, prometheus.GaugeValue, m.value(&s))
	}
	for _, m := range c.counters {
		metrics <- prometheus.MustNewConstMetric(m.desc, prometheus.CounterValue, m.value(&s))
	}
	c.closed.Collect(metrics)
	c.lifetimes.Collect(metrics)
	c.roundTrip.Collect(metrics)
}
