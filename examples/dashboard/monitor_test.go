package main

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/websockettest"
)

// A viewer gets the history first, and then each sample.
func TestMonitor_Samples(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(newEchoes())
		early := websockettest.Dial(t, m.socket)
		if got := samples(early); len(got) != 0 {
			t.Errorf("before the first second, the history is %+v, want none", got)
		}
		client := websockettest.Dial(t, m.echoes)
		client.Send(websocket.Text, []byte("3 hello"))
		for range 3 {
			client.Receive()
		}
		time.Sleep(2 * time.Second)
		m.next()
		got := samples(early)
		if len(got) != 1 {
			t.Fatalf("got the samples %+v, want one", got)
		}
		s := got[0]
		if s.Open != 1 || s.Accepted != 1 || s.Received != 0.5 || s.Sent != 1.5 {
			t.Errorf("got %+v, want 1 connection, and 0.5 and 1.5 messages per second", s)
		}
		if s.Time != time.Now().UnixMilli() {
			t.Errorf("the time is %d, want %d", s.Time, time.Now().UnixMilli())
		}

		client.Close(websocket.StatusNormalClosure, "")
		synctest.Wait()
		time.Sleep(time.Second)
		m.next()
		s = samples(early)[0]
		if s.Open != 0 || s.Accepted != 1 || s.Received != 0 || s.Closed["1000"] != 1 {
			t.Errorf("after the end got %+v, want no connection and one end with 1000", s)
		}
		late := websockettest.Dial(t, m.socket)
		if got := samples(late); len(got) != 2 || got[1].Time != s.Time {
			t.Errorf("the history of a later viewer is %+v, want both samples", got)
		}
	})
}

// The server takes a sample each second by itself, and stops when it has to.
func TestMonitor_Run(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(newEchoes())
		viewer := websockettest.Dial(t, m.socket)
		samples(viewer)
		go m.run(t.Context()) // ends with the test, or synctest fails it
		begin := time.Now()
		for i := range maxHistory + 10 {
			if got := samples(viewer); len(got) != 1 || time.Since(begin) != time.Duration(i+1)*time.Second {
				t.Fatalf("after %v got %+v, want one sample after %d s", time.Since(begin), got, i+1)
			}
		}
		if late := samples(websockettest.Dial(t, m.socket)); len(late) != maxHistory {
			t.Errorf("the history has %d samples, want %d", len(late), maxHistory)
		}
	})
}

// A round trip is shown when a ping is answered, however long that takes. Connections that have
// answered none do not change the median.
func TestMonitor_RTT(t *testing.T) {
	for _, rtt := range []time.Duration{30 * time.Millisecond, 20 * interval} {
		t.Run(rtt.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMonitor(newEchoes())
				client := websockettest.Dial(t, m.echoes)
				for range 2 {
					websockettest.Dial(t, m.echoes)
				}
				ping := client.ReceiveFrame()
				if ping.Opcode != websocket.Ping {
					t.Fatalf("got %v, want a ping", ping.Opcode)
				}
				time.Sleep(rtt)
				m.next()
				if got := m.history[0].RTT; got != (spread{}) {
					t.Errorf("before the first pong, the round trips are %+v, want none", got)
				}
				client.Send(websocket.Pong, ping.Payload)
				synctest.Wait()
				m.next()
				ms := float64(rtt.Milliseconds())
				if got := m.history[1].RTT; got != (spread{Median: ms, Max: ms, Sum: ms}) {
					t.Errorf("the round trips are %+v, want %v ms", got, ms)
				}
			})
		})
	}
}

// Clients choose the codes that they close with. Those of a client that uses all of them do not make
// the history too large for the queue of a viewer.
func TestMonitor_many_codes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(newEchoes())
		const codes = 2000
		for code := range websocket.StatusCode(codes) {
			client := websockettest.Dial(t, m.echoes)
			client.Close(3000+code, "")
		}
		websockettest.Dial(t, m.echoes).Close(websocket.StatusInternalError, "")
		synctest.Wait()
		for range maxHistory {
			time.Sleep(interval)
			m.next()
		}
		got := samples(websockettest.Dial(t, m.socket))
		if len(got) != maxHistory {
			t.Fatalf("the history has %d samples, want %d", len(got), maxHistory)
		}
		if want := map[string]uint64{"other": codes, "1011": 1}; !maps.Equal(got[0].Closed, want) {
			t.Errorf("the ends are %v, want %v", got[0].Closed, want)
		}
	})
}

func TestSpreadOf(t *testing.T) {
	for _, tt := range []struct {
		name   string
		values []float64
		want   spread
	}{
		{"none", nil, spread{}},
		{"one", []float64{3}, spread{3, 3, 3}},
		{"in no order", []float64{9, 1, 5}, spread{5, 9, 15}},
		{"an even number", []float64{4, 1, 3, 2}, spread{3, 4, 10}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := spreadOf(slices.Clone(tt.values)); got != tt.want {
				t.Errorf("spreadOf(%v) is %+v, want %+v", tt.values, got, tt.want)
			}
		})
	}
}

func TestPerSecond(t *testing.T) {
	for _, tt := range []struct {
		name        string
		now, before uint64
		d           time.Duration
		want        float64
	}{
		{"a second", 30, 10, time.Second, 20},
		{"two seconds", 30, 10, 2 * time.Second, 10},
		{"nothing", 10, 10, time.Second, 0},
		{"less than before", 9, 10, time.Second, 0},
		{"no time", 30, 10, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := perSecond(tt.now, tt.before, tt.d); got != tt.want {
				t.Errorf("perSecond(%d, %d, %v) is %v, want %v", tt.now, tt.before, tt.d, got, tt.want)
			}
		})
	}
}

// A history without samples is an empty array, and the codes are the keys of closed, because the
// page relies on both.
func TestMonitor_JSON(t *testing.T) {
	m := newMonitor(newEchoes())
	var got struct{ Samples json.RawMessage }
	if err := json.Unmarshal(m.encode(m.history...), &got); err != nil || string(got.Samples) != "[]" {
		t.Errorf("the samples are %s with error %v, want []", got.Samples, err)
	}
	var codes struct {
		Samples []struct{ Closed map[string]int }
	}
	data := m.encode(sample{Closed: byCode(map[websocket.StatusCode]uint64{websocket.StatusGoingAway: 2})})
	if err := json.Unmarshal(data, &codes); err != nil || codes.Samples[0].Closed["1001"] != 2 {
		t.Errorf("the message is %s with error %v, want 1001: 2", data, err)
	}
}

// samples returns the samples of the next message to a viewer.
func samples(viewer *websockettest.Client) []sample {
	var m message
	viewer.ReceiveJSON(&m)
	return m.Samples
}
