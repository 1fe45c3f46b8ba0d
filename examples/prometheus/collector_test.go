package main

import (
	"context"
	"errors"
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
# HELP websocket_connections_closed_total Connections that have ended, by close code and by the side that chose it.
# TYPE websocket_connections_closed_total counter
websocket_connections_closed_total{by="client",code="1000",handler="echo"} 1
websocket_connections_closed_total{by="server",code="1011",handler="echo"} 0
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

// Only a failure of the function counts as 1011 of the server. A client can send that code too, and
// each of 2000 others, which are one series.
func TestCollector_ends(t *testing.T) {
	fail := func(c *websocket.Conn) error {
		_, data, err := c.ReceiveMessage()
		switch {
		case err != nil || len(data) == 0:
			return err
		case string(data) == "bye":
			c.SendMessage(websocket.Close, websocket.AppendClose(nil, 4000, ""))
			return c.Discard()
		}
		return errors.New("failure")
	}
	tests := []struct {
		name string
		end  func(h *websocket.Handler, c *websockettest.Client)
		want string
	}{
		{"a function that fails", func(_ *websocket.Handler, c *websockettest.Client) { c.Send(websocket.Text, []byte("x")) }, `{by="server",code="1011",handler="echo"} 1`},
		{"a function that returns", func(_ *websocket.Handler, c *websockettest.Client) { c.Send(websocket.Text, nil) }, `{by="server",code="1000",handler="echo"} 1`},
		{"a client with 1011", func(_ *websocket.Handler, c *websockettest.Client) { c.Close(1011, "ping timeout") }, `{by="client",code="1011",handler="echo"} 1`},
		{"a client with a code of its own", func(_ *websocket.Handler, c *websockettest.Client) { c.Close(4999, "") }, `{by="client",code="other",handler="echo"} 1`},
		{"a client without a code", func(_ *websocket.Handler, c *websockettest.Client) {
			c.SendFrame(websocket.Frame{Header: websocket.Header{Fin: true, Opcode: websocket.Close}})
		}, `{by="client",code="1005",handler="echo"} 1`},
		{"a client that breaks a rule", func(_ *websocket.Handler, c *websockettest.Client) { c.Send(websocket.Text, []byte{0xff}) }, `{by="server",code="1007",handler="echo"} 1`},
		{"a lost connection", func(_ *websocket.Handler, c *websockettest.Client) { c.Abort() }, `{by="server",code="1006",handler="echo"} 1`},
		{"a shutdown", func(h *websocket.Handler, c *websockettest.Client) {
			go h.Shutdown(context.Background())
			c.WantClose(websocket.StatusGoingAway)
		}, `{by="server",code="1001",handler="echo"} 1`},
		{"a close frame of the function, which the client answers", func(_ *websocket.Handler, c *websockettest.Client) {
			c.Send(websocket.Text, []byte("bye"))
			c.WantClose(4000)
		}, `{by="server",code="4000",handler="echo"} 1`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				collector := NewCollector("echo")
				h := websocket.Handle(fail, websocket.OnClose(collector.OnClose), websocket.OnError(func(*websocket.Conn, error) {}))
				collector.Watch(h)
				c := websockettest.Dial(t, h)
				tt.end(h, c)
				time.Sleep(time.Minute) // until the close handshake is over
				metrics, err := testutil.CollectAndFormat(collector, expfmt.TypeTextPlain, "websocket_connections_closed_total")
				if err != nil {
					t.Fatal(err)
				}
				for line := range strings.Lines(string(metrics)) {
					ends := strings.TrimPrefix(strings.TrimSpace(line), "websocket_connections_closed_total")
					if strings.HasSuffix(ends, "} 1") && ends != tt.want {
						t.Errorf("got the end %s, want %s", ends, tt.want)
					}
				}
				if !strings.Contains(string(metrics), tt.want) {
					t.Errorf("got the ends\n%swant %s", metrics, tt.want)
				}
			})
		})
	}
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
