package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
	"github.com/f44ffc3b/websocket/websockettest"
)

func TestMain(m *testing.M) { wstest.Main(m) }

// A buffer can be written by several goroutines.
type buffer struct {
	mu  sync.Mutex
	log bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.Write(p)
}

// records returns the log, as one map for each line.
func (b *buffer) records(t *testing.T) (all []map[string]any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for line := range strings.Lines(b.log.String()) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatal(err)
		}
		all = append(all, record)
	}
	return all
}

func TestObserve_logs(t *testing.T) {
	tests := []struct {
		name string
		run  func(t *testing.T, h *websocket.Handler)
		want []map[string]any // of each record, some of the attributes
	}{
		{"a close by the client", func(t *testing.T, h *websocket.Handler) {
			c := websockettest.Dial(t, h)
			c.Send(websocket.Text, []byte("hello"))
			c.Receive()
			time.Sleep(20 * time.Second)
			c.Close(websocket.StatusGoingAway, "the page is closed")
		}, []map[string]any{{"level": "INFO", "msg": "websocket closed", "code": 1001.0, "cause": `websocket: closed with 1001 (going away): "the page is closed"`, "duration": 20e9, "received": 1.0, "sent": 1.0}}},
		{"a lost connection", func(t *testing.T, h *websocket.Handler) {
			websockettest.Dial(t, h).Abort()
		}, []map[string]any{{"msg": "websocket closed", "code": 1006.0}}},
		{"a silent client", func(t *testing.T, h *websocket.Handler) {
			websockettest.Dial(t, h)
			time.Sleep(2 * time.Minute)
		}, []map[string]any{{"msg": "websocket closed", "code": 1001.0}}},
		{"a refused page", func(t *testing.T, h *websocket.Handler) {
			websockettest.Dial(t, h, websockettest.Header("Origin", "https://evil.example"))
		}, []map[string]any{{"level": "WARN", "msg": "websocket refused", "status": 403.0}}},
	}
	kinds := map[string]func(opts ...websocket.Option) *websocket.Handler{
		"Handle": func(opts ...websocket.Option) *websocket.Handler { return websocket.Handle(serve, opts...) },
		"HandleMessages": func(opts ...websocket.Option) *websocket.Handler {
			return websocket.HandleMessages(func(c *websocket.Conn) (websocket.MessageFunc, error) {
				return c.SendMessage, nil
			}, opts...)
		},
	}
	for _, tt := range tests {
		for kind, newHandler := range kinds {
			t.Run(tt.name+"/"+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var log buffer
					tt.run(t, newHandler(observe(slog.New(slog.NewJSONHandler(&log, nil)))...))
					synctest.Wait()
					got := log.records(t)
					if len(got) != len(tt.want) {
						t.Fatalf("got the records %v, want %d", got, len(tt.want))
					}
					for i, want := range tt.want {
						for name, value := range want {
							if got[i][name] != value {
								t.Errorf("record %d has %s %v, want %v", i, name, got[i][name], value)
							}
						}
					}
				})
			})
		}
	}
}

// The profile of the goroutines names the handler of each.
func TestServe_labels_its_goroutine(t *testing.T) {
	c := websockettest.Dial(t, websocket.Handle(serve), websockettest.URL("/echo"))
	c.Send(websocket.Text, []byte("hello"))
	c.Receive()
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		t.Fatal(err)
	}
	if want := `# labels: {"websocket":"/echo"`; !strings.Contains(profile.String(), want) {
		t.Errorf("the profile has no line %s:\n%s", want, profile.String())
	}
}
