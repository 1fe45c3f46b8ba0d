package wstest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// A Recorder is a client that reads all the time and records each frame with its time.
// Another goroutine writes, because a write to a connection in memory blocks until the
// other side reads. A Recorder is for synctest bubbles, in which the times are exact.
type Recorder struct {
	Client *Client
	Start  time.Time
	Ended  chan struct{} // closed when the connection has ended

	answerPings bool
	queue       chan []byte

	mu     sync.Mutex
	events []string
}

// Record starts to record the frames that c receives. Afterwards, the test must not read
// from c or write to it directly. With answerPings, the Recorder answers each ping.
func Record(c *Client, answerPings bool) *Recorder {
	c.Conn.SetDeadline(time.Time{})
	r := &Recorder{
		Client:      c,
		Start:       time.Now(),
		Ended:       make(chan struct{}),
		answerPings: answerPings,
		queue:       make(chan []byte, 1000),
	}
	go r.read()
	go r.write()
	return r
}

func (r *Recorder) read() {
	defer close(r.Ended)
	for {
		f, err := r.Client.ReadFrame()
		if err != nil {
			r.note("end")
			return
		}
		switch f.Opcode() {
		case Ping:
			r.note("ping")
			if r.answerPings {
				select {
				case r.queue <- Message(Pong, string(f.Payload)):
				default: // the server has stopped reading
				}
			}
		case Close:
			code, _, err := f.CloseCode()
			if err != nil {
				r.note(err.Error())
				continue
			}
			r.note(fmt.Sprintf("close %d", code))
		case Pong:
			r.note("pong " + string(f.Payload))
		case Text:
			r.note("text " + string(f.Payload))
		}
	}
}

func (r *Recorder) write() {
	for {
		select {
		case b := <-r.queue:
			if _, err := r.Client.Conn.Write(b); err != nil {
				return
			}
		case <-r.Ended:
			return
		}
	}
}

// Send queues b to be written as it is. It waits only if 1000 writes are queued.
func (r *Recorder) Send(b []byte) {
	select {
	case r.queue <- b:
	case <-r.Ended:
	}
}

// Flood sends a message every millisecond until the connection has ended.
func (r *Recorder) Flood() {
	for {
		select {
		case <-time.After(time.Millisecond):
			r.Send(Message(Binary, "more"))
		case <-r.Ended:
			return
		}
	}
}

func (r *Recorder) note(event string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, fmt.Sprintf("%v %s", time.Since(r.Start), event))
}

// Events returns the frames so far, each with the time since Start: "15s ping",
// "16s close 1000", "16s end". Binary messages and continuations are not recorded.
func (r *Recorder) Events() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// Expect checks that exactly these events were recorded so far.
func (r *Recorder) Expect(t testing.TB, want ...string) {
	t.Helper()
	got := r.Events()
	if slices.Equal(got, want) {
		return
	}
	const most = 50
	if dropped := len(got) - most; dropped > 0 {
		got = append(got[:most:most], fmt.Sprintf("and %d more", dropped))
	}
	t.Errorf("the client received\n %q, want\n %q", got, want)
}
