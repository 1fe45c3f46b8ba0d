package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/websockettest"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
)

// newHandler returns a handler with a collector.
func newHandler() (*websocket.Handler, *Collector) {
	c := NewCollector("echo")
	h := websocket.Handle(echo, websocket.OnClose(c.OnClose))
	c.Watch(h)
	return h, c
}

func TestCollector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, collector := newHandler()
		closed, open := websockettest.Dial(t, h), websockettest.Dial(t, h)
		websockettest.Dial(t, h, websockettest.Header("Origin", "https://evil.example"))
		closed.Send(websocket.Text, []byte("hello"))
		closed.Receive()
		open.Send(websocket.Text, []byte("hi"))
		open.Receive()
		closed.Close(websocket.StatusNormalClosure, "")
		synctest.Wait()

		// Sent: two messages and a close frame, and received: the same with masks.
		want := `
# HELP websocket_connection_duration_seconds Durations of the connections that have ended.
# TYPE websocket_connection_duration_seconds histogram
websocket_connection_duration_seconds_bucket{handler="echo",le="1"} 1
websocket_connection_duration_seconds_bucket{handler="echo",le="4"} 1
websocket_connection_duration_seconds_bucket{handler="echo",le="16"} 1
websocket_connection_duration_seconds_bucket{handler="echo",le="64"} 1
websocket_connection_duration_seconds_bucket{handler="echo",le="256"} 1
websocket_connection_duration_seconds_bucket{handler="echo",le="1024"} 1
websocket_connection_duration_seconds_bucket{handler="echo",le="4096"} 1
websocket_connection_duration_seconds_bucket{handler="echo",le="16384"} 1
websocket_connection_duration_seconds_bucket{handler="echo",le="65536"} 1
websocket_connection_duration_seconds_bucket{handler="echo",le="+Inf"} 1
websocket_connection_duration_seconds_sum{handler="echo"} 0
websocket_connection_duration_seconds_count{handler="echo"} 1
# HELP websocket_connections Connections that are open.
# TYPE websocket_connections gauge
websocket_connections{handler="echo"} 1
# HELP websocket_connections_accepted_total Handshakes that became a connection.
# TYPE websocket_connections_accepted_total counter
websocket_connections_accepted_total{handler="echo"} 2
# HELP websocket_connections_closed_total Connections that have ended, by close code.
# TYPE websocket_connections_closed_total counter
websocket_connections_closed_total{code="1000",handler="echo"} 1
# HELP websocket_handshakes_refused_total Requests that did not become a connection.
# TYPE websocket_handshakes_refused_total counter
websocket_handshakes_refused_total{handler="echo"} 1
# HELP websocket_received_bytes_total Bytes from clients, with the headers of frames.
# TYPE websocket_received_bytes_total counter
websocket_received_bytes_total{handler="echo"} 27
# HELP websocket_received_messages_total Messages from clients.
# TYPE websocket_received_messages_total counter
websocket_received_messages_total{handler="echo"} 2
# HELP websocket_sent_bytes_total Bytes to clients, with the headers of frames.
# TYPE websocket_sent_bytes_total counter
websocket_sent_bytes_total{handler="echo"} 15
# HELP websocket_sent_messages_total Messages to clients.
# TYPE websocket_sent_messages_total counter
websocket_sent_messages_total{handler="echo"} 2
`
		names := []string{"websocket_connection_duration_seconds", "websocket_connections"}
		for line := range strings.Lines(want) {
			if fields := strings.Fields(line); len(fields) > 2 && fields[1] == "TYPE" {
				names = append(names, fields[2])
			}
		}
		if err := testutil.CollectAndCompare(collector, strings.NewReader(want), names...); err != nil {
			t.Error(err)
		}
	})
}

// The names and the units are those that Prometheus recommends.
func TestCollector_names(t *testing.T) {
	_, collector := newHandler()
	problems, err := testutil.CollectAndLint(collector)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// A connection that has answered a ping has a round trip.
func TestCollector_round_trip(t *testing.T) {
	h, collector := newHandler()
	websockettest.Dial(t, h).Close(websocket.StatusNormalClosure, "")
	client := websockettest.Dial(t, h)
	done := make(chan error)
	go func() {
		for { // the handler may have the second one a moment later than the client
			for c := range h.Conns() {
				if c.Context().Err() == nil { // the first one may still be served
					_, err := c.Ping(t.Context())
					done <- err
					return
				}
			}
			time.Sleep(time.Millisecond)
		}
	}()
	ping := client.ReceiveFrame()
	client.Send(websocket.Pong, ping.Payload)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	client.Close(websocket.StatusNormalClosure, "")
	h.Shutdown(t.Context()) // waits until OnClose has returned

	metrics, err := testutil.CollectAndFormat(collector, expfmt.TypeTextPlain,
		"websocket_connection_duration_seconds", "websocket_round_trip_seconds")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`websocket_connection_duration_seconds_count{handler="echo"} 2`,
		`websocket_round_trip_seconds_count{handler="echo"} 1`,
	} {
		if !strings.Contains(string(metrics), want) {
			t.Errorf("the metrics have no line %s:\n%s", want, metrics)
		}
	}
}

// Many goroutines may scrape while connections come and go.
func TestMetrics_while_connections_come_and_go(t *testing.T) {
	public, metrics := newHandlers()
	server := httptest.NewServer(metrics)
	defer server.Close()
	scraped := make(chan string)
	for range 4 {
		go func() {
			var body []byte
			for range 50 {
				res, err := http.Get(server.URL + "/metrics")
				if err != nil {
					body = []byte(err.Error())
					break
				}
				body, _ = io.ReadAll(res.Body)
				res.Body.Close()
			}
			scraped <- string(body)
		}()
	}
	for range 50 {
		c := websockettest.Dial(t, public, websockettest.URL("/echo"))
		c.Send(websocket.Text, []byte("hello"))
		c.Receive()
		c.Close(websocket.StatusNormalClosure, "")
	}
	for range 4 {
		if body := <-scraped; !strings.Contains(body, `websocket_connections_accepted_total{handler="echo"}`) {
			t.Errorf("got %q, want the metrics", body)
		}
	}
}
