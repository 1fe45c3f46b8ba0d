package websocket

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

func TestReceiveMessage_owns_its_slice(t *testing.T) {
	c, _ := newScriptConn(t, segments(slices.Concat(clientFrame(true, Text, "first"), clientFrame(true, Text, "other"), clientFrame(true, Binary, ""))))
	_, first, _ := c.ReceiveMessage()
	copy(first, "XXXXX")
	_, other, _ := c.ReceiveMessage()
	if string(first) != "XXXXX" || string(other) != "other" {
		t.Errorf("got %q and %q, want two separate slices", first, other)
	}
	if _, empty, err := c.ReceiveMessage(); empty == nil || len(empty) > 0 || err != nil {
		t.Errorf("empty message: got %v and error %v, want an empty slice", empty, err)
	}
	if op, data, err := c.ReceiveMessage(); op != 0 || data != nil || err == nil {
		t.Errorf("got %v, %v and error %v, want an error and nothing else", op, data, err)
	}
}

func TestAppendMessage(t *testing.T) {
	wire := slices.Concat(clientFrame(false, Text, "one"), clientFrame(true, Continuation, "two"), clientFrame(true, Binary, "three"), clientFrame(true, Binary, ""))

	t.Run("appends within the capacity", func(t *testing.T) {
		c, _ := newScriptConn(t, segments(wire))
		room := make([]byte, 4, 100)
		copy(room, "keep")
		op, data, err := c.AppendMessage(room)
		if err != nil || op != Text || string(data) != "keeponetwo" || &data[0] != &room[0] {
			t.Errorf("got %v %q and error %v, want keeponetwo in the same array", op, data, err)
		}
		op, data, err = c.AppendMessage(data)
		if err != nil || op != Binary || string(data) != "keeponetwothree" || &data[0] != &room[0] {
			t.Errorf("got %v %q and error %v, want keeponetwothree in the same array", op, data, err)
		}
		if _, data, err = c.AppendMessage(data[:0]); err != nil || len(data) > 0 {
			t.Errorf("got %q and error %v, want nothing appended", data, err)
		}
	})
	t.Run("grows beyond the capacity", func(t *testing.T) {
		c, _ := newScriptConn(t, segments(wire))
		small := []byte("keep")[:4:4]
		_, data, err := c.AppendMessage(small)
		if err != nil || string(data) != "keeponetwo" || string(small) != "keep" {
			t.Errorf("got %q and error %v, want keeponetwo", data, err)
		}
	})
	t.Run("does not change the bytes after the message", func(t *testing.T) {
		c, _ := newScriptConn(t, segments(clientFrame(true, Binary, "new")))
		room := []byte("0123456789")
		if _, _, err := c.AppendMessage(room[:2]); err != nil {
			t.Fatal(err)
		}
		if string(room) != "01new56789" {
			t.Errorf("got %q, want 01new56789", room)
		}
	})
	t.Run("returns dst on an error", func(t *testing.T) {
		for name, c := range map[string]*Conn{"Handle": endedConn(t, false), "HandleConcurrent": endedConn(t, true)} {
			dst := []byte("dst")
			op, data, err := c.AppendMessage(dst)
			if err == nil || op != 0 || string(data) != "dst" {
				t.Errorf("%s: got %v, %q and error %v, want dst and an error", name, op, data, err)
			}
		}
	})
}

// endedConn returns a Conn whose peer has closed the socket.
func endedConn(t *testing.T, concurrent bool) *Conn {
	c, _ := newScriptConn(t, nil)
	if concurrent {
		beginReadAhead(c)
	}
	return c
}

func TestAllocations(t *testing.T) {
	if wstest.RaceEnabled() {
		t.Skip("the race detector allocates")
	}
	for _, size := range []int{0, 16, 1 << 10, 4096, 64 << 10} {
		for _, op := range []Opcode{Text, Binary} {
			data := strings.Repeat("x", size)
			c := newRepeatConn(t, clientFrame(true, op, data))
			buf := make([]byte, 0, size)
			checkAllocs(t, fmt.Sprintf("AppendMessage and SendMessage of %d bytes of %v", size, op), 0, func() {
				op, got, err := c.AppendMessage(buf[:0])
				if err == nil {
					err = c.SendMessage(op, got)
				}
				if err != nil {
					t.Fatal(err)
				}
			})
			checkAllocs(t, fmt.Sprintf("ReceiveMessage of %d bytes of %v", size, op), min(1, float64(size)), func() {
				if _, _, err := c.ReceiveMessage(); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
	t.Run("fragments and pings", func(t *testing.T) {
		c := newRepeatConn(t, slices.Concat(clientFrame(true, Ping, "ping"), clientFrame(false, Text, "one"), clientFrame(true, Continuation, "two")))
		buf := make([]byte, 0, 16)
		checkAllocs(t, "AppendMessage", 0, func() { c.AppendMessage(buf) })
	})
}

func TestMessages(t *testing.T) {
	c, _ := newScriptConn(t, segments(slices.Concat(clientFrame(true, Text, "a"), clientFrame(true, Binary, "b"), clientFrame(true, Text, "c"), clientFrame(true, Close, closeBody(StatusGoingAway, "")))))
	var got []string
	for m, err := range c.Messages() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%v %s", m.Opcode, m.Data))
		if len(got) == 2 {
			break
		}
	}
	var last error
	for m, err := range c.Messages() {
		if last != nil {
			t.Error("got a value after the error")
		}
		if last = err; err != nil {
			if m.Opcode != 0 || m.Data != nil {
				t.Errorf("got message %v with the error", m)
			}
			continue
		}
		got = append(got, fmt.Sprintf("%v %s", m.Opcode, m.Data))
	}
	if want := []string{"text a", "binary b", "text c"}; !slices.Equal(got, want) {
		t.Errorf("got messages %q, want %q", got, want)
	}
	if CloseStatus(last) != StatusGoingAway {
		t.Errorf("got last error %v, want the peer's close", last)
	}
}

func TestJSON(t *testing.T) {
	type point struct{ X, Y int }
	c, s := newScriptConn(t, segments(slices.Concat(
		clientFrame(true, Text, `{"X":1,"Y":2}`),
		clientFrame(true, Text, `{"X":`),
		clientFrame(true, Text, `{"X":"a text"}`),
		clientFrame(true, Text, ""),
		clientFrame(true, Binary, `{"X":3,"Y":4}`))))
	var p point
	if err := c.ReceiveJSON(&p); err != nil || p != (point{1, 2}) {
		t.Errorf("got %v and error %v, want {1 2}", p, err)
	}
	var syntax *json.SyntaxError
	err := c.ReceiveJSON(&p)
	if !errors.As(err, &syntax) || !errors.Is(err, ErrInvalidJSON) || CloseStatus(err) != StatusInvalidPayload {
		t.Errorf("got error %v, want ErrInvalidJSON and a JSON syntax error", err)
	}
	wantMention(t, fmt.Sprint(err), "5 bytes", "*websocket.point")
	var mismatch *json.UnmarshalTypeError
	if err := c.ReceiveJSON(&p); !errors.As(err, &mismatch) || !errors.Is(err, ErrInvalidJSON) {
		t.Errorf("got error %v, want a JSON type error", err)
	}
	if err := c.ReceiveJSON(&p); !errors.Is(err, ErrInvalidJSON) {
		t.Errorf("an empty message: got error %v, want ErrInvalidJSON", err)
	}
	for _, v := range []any{nil, p, (*point)(nil)} {
		var invalid *json.InvalidUnmarshalError
		if err := c.ReceiveJSON(v); !errors.As(err, &invalid) || errors.Is(err, ErrInvalidJSON) || CloseStatus(err) != 0 {
			t.Errorf("into %#v: got error %v, want an invalid argument, and no message lost", v, err)
		}
	}
	if err := c.ReceiveJSON(&p); err != nil || p != (point{3, 4}) {
		t.Errorf("after bad JSON: got %v and error %v, want {3 4}", p, err)
	}
	if err := c.SendJSON(func() {}); err == nil {
		t.Error("got no error for a func, which JSON cannot hold")
	}
	s.wantSent(t)
	if err := c.SendJSON(p); err != nil {
		t.Error(err)
	}
	s.wantSent(t, sentFrame{true, Text, `{"X":3,"Y":4}`})
	wantError(t, c.ReceiveJSON(&p), io.ErrUnexpectedEOF)
	wantError(t, c.SendJSON(p), io.ErrUnexpectedEOF)
}

// Many goroutines send in every way at the same time. Every byte of a message says which
// goroutine has sent it.
func TestSendMessage_never_interleaves(t *testing.T) {
	const senders, messages = 8, 20
	send := func(c *Conn, id byte, rnd *rand.Rand) error {
		data := bytes.Repeat([]byte{id}, rnd.IntN(20000)+1)
		if id%2 == 0 {
			return c.SendMessage(Binary, data)
		}
		w, err := c.MessageWriter(Binary)
		if err != nil {
			return err
		}
		for p := range slices.Chunk(data, rnd.IntN(8000)+1) {
			if _, err := w.Write(p); err != nil {
				return err
			}
			if err := c.SendMessage(Ping, []byte{id}); err != nil {
				return err
			}
		}
		return w.Close()
	}
	p := dialServer(t, startServer(t, func(c *Conn) error {
		errs := make(chan error, senders)
		for id := range byte(senders) {
			go func() {
				rnd := rand.New(rand.NewPCG(1, uint64(id)))
				var err error
				for i := 0; i < messages && err == nil; i++ {
					err = send(c, id, rnd)
				}
				errs <- err
			}()
		}
		for range senders {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		return nil
	}))
	counts := map[byte]int{}
	var open []Frame
	for len(counts) < senders || !allEqual(counts, messages) {
		f := p.read()
		if f.Opcode == Ping {
			continue
		}
		if open = append(open, f); !f.Fin {
			continue
		}
		_, data, err := ProcessFragments(open)
		if err != nil {
			t.Fatalf("fragments of two messages are mixed: %v", err)
		}
		if len(data) == 0 || bytes.Count(data, data[:1]) != len(data) {
			t.Fatalf("message %s has more than one sender", wstest.Hex(data))
		}
		counts[data[0]]++
		open = nil
	}
	p.expectClose(StatusNormalClosure)
}

func allEqual(counts map[byte]int, n int) bool {
	for _, count := range counts {
		if count != n {
			return false
		}
	}
	return true
}

func TestReceiveMessage_many_goroutines(t *testing.T) {
	const readers, messages = 8, 400
	var mu sync.Mutex
	counts := map[byte]int{}
	fn, results := captureError(func(c *Conn) error {
		var wg sync.WaitGroup
		for i := range readers {
			wg.Go(func() {
				for {
					var expired int
					_, data, err := receivers[i%2].receive(c, &expired)
					if err != nil {
						return
					}
					mu.Lock()
					if bytes.Count(data, data[:1]) == len(data) {
						counts[data[0]]++
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		_, _, err := c.ReceiveMessage()
		return err
	})
	p := dialServer(t, startServer(t, fn))
	var wire []byte
	for i := range messages {
		id := string([]byte{byte(i % 100)})
		wire = append(wire, clientFrame(false, Binary, strings.Repeat(id, 1+i*7%5000))...)
		wire = append(wire, clientFrame(true, Continuation, strings.Repeat(id, 10))...)
	}
	p.Write(wire)
	p.Close()
	wantError(t, await(t, results), io.EOF)
	if len(counts) != 100 || !allEqual(counts, messages/100) {
		t.Errorf("got %v whole messages, want %d of each of 100", counts, messages/100)
	}
}
