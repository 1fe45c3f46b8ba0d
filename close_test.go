package websocket

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// closeTests are codes and reasons that Close may send.
var closeTests = []CloseError{
	{1000, ""}, {1001, "going home"}, {1002, ""}, {1003, ""}, {1007, ""}, {1008, ""}, {1009, ""}, {1010, ""},
	{1011, ""}, {1012, ""}, {1013, ""}, {1014, ""}, {3000, ""}, {4999, strings.Repeat("x", 123)}, {1005, ""},
}

func TestClose_sends_and_waits_for_the_answer(t *testing.T) {
	for _, tt := range closeTests {
		t.Run(tt.Code.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t)
				start := time.Now()
				go func() {
					want := closeBody(tt.Code, tt.Reason)
					if tt.Code == StatusNoStatusReceived {
						want = ""
					}
					p.expect(Close, want)
					time.Sleep(2 * time.Second)
					p.send(Close, closeBody(4002, "whatever"))
				}()
				if err := c.Close(tt.Code, tt.Reason); err != nil {
					t.Errorf("got error %v, want none", err)
				}
				wantDuration(t, "Close", start, 2*time.Second)
				p.ExpectEOF()
				wantError(t, endOf(c), net.ErrClosed)
				if got := CloseStatus(endOf(c)); got != tt.Code {
					t.Errorf("got close status %v, want %v", got, tt.Code)
				}
				wantSticky(t, c, endOf(c))
			})
		})
	}
}

func TestClose_refuses_codes_that_must_not_be_sent(t *testing.T) {
	tests := []struct {
		name   string
		code   StatusCode
		reason string
	}{
		{"code 0", 0, ""},
		{"code 999", 999, ""},
		{"code 1004", 1004, ""},
		{"code 1005 with a reason", 1005, "x"},
		{"code 1006", 1006, ""},
		{"code 1015", 1015, ""},
		{"code 2000", 2000, ""},
		{"code 5000", 5000, ""},
		{"code 5000 and a long reason", 5000, strings.Repeat("x", 200)},
	}
	c, p := newTCPConn(t)
	done := runHandler(c, echoAll)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wantError(t, c.Close(tt.code, tt.reason), ErrProtocol)
			p.ExpectNothing()
			p.send(Text, "open")
			p.expect(Text, "open")
		})
	}
	p.finish(done)
}

func TestClose_sends_what_fits_of_any_reason(t *testing.T) {
	for _, tt := range closeReasons {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t)
				go func() {
					if got := p.expectClose(3500); got != tt.sent {
						t.Errorf("got reason %q, want %q", got, tt.sent)
					}
					p.send(Close, closeBody(3500, ""))
					p.ExpectEOF()
				}()
				if err := c.Close(3500, tt.reason); err != nil {
					t.Errorf("got error %v, want none", err)
				}
				if got := CloseStatus(endOf(c)); got != 3500 {
					t.Errorf("got end %v, want one with 3500", endOf(c))
				}
				synctest.Wait()
			})
		})
	}
}

func TestClose_drops_the_frames_before_the_answer(t *testing.T) {
	computes(t)
	tests := map[string][]byte{
		"a message":                clientFrame(true, Text, "late"),
		"a ping":                   clientFrame(true, Ping, "late"),
		"half a message":           clientFrame(false, Binary, "late"),
		"a message over a limit":   clientFrame(true, Binary, string(make([]byte, 2<<20))),
		"invalid text":             clientFrame(true, Text, "\xff"),
		"an unmasked frame":        AppendFrame(nil, Frame{Header{Fin: true, Opcode: Text}, []byte("late")}),
		"a reserved opcode":        clientFrame(true, 5, "late"),
		"a long control frame":     clientFrame(true, Pong, strings.Repeat("x", 200)),
		"many messages":            bytes.Repeat(clientFrame(true, Text, "late"), 5000),
		"a ping between fragments": slices.Concat(clientFrame(false, Text, "a"), clientFrame(true, Ping, ""), clientFrame(true, Continuation, "b")),
	}
	for name, late := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t)
				go func() {
					p.expectClose(4000)
					p.Write(late)
					p.send(Close, closeBody(4000, ""))
					p.ExpectEOF()
				}()
				if err := c.Close(4000, ""); err != nil {
					t.Errorf("got error %v, want none", err)
				}
				synctest.Wait()
			})
		})
	}
}

func TestClose_in_the_middle_of_a_received_message(t *testing.T) {
	big := string(make([]byte, 20_000))
	tests := []struct {
		name string
		sent []byte // before the close
		rest []byte // after it
		read func(c *Conn)
	}{
		{"a frame read halfway", clientFrame(true, Binary, big)[:10_000], clientFrame(true, Binary, big)[10_000:], func(c *Conn) {
			_, r, _ := c.MessageReader()
			io.ReadFull(r, make([]byte, 5000))
		}},
		{"a header that is cut in two", clientFrame(true, Binary, big)[:3], clientFrame(true, Binary, big)[3:], func(c *Conn) {
			c.SetReadDeadline(time.Now().Add(time.Second))
			c.ReceiveMessage()
		}},
		{"a message between its frames", clientFrame(false, Text, "half"), clientFrame(true, Continuation, "rest"), func(c *Conn) {
			c.SetReadDeadline(time.Now().Add(time.Second))
			c.ReceiveMessage()
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t)
				w := record(p, false)
				w.Send(tt.sent)
				tt.read(c)
				w.Send(tt.rest)
				w.Send(clientFrame(true, Close, ""))
				if err := c.Close(4000, ""); err != nil {
					t.Errorf("got error %v, want none", err)
				}
			})
		})
	}
}

// silentPeers are peers that never answer a close frame.
var silentPeers = []struct {
	name string
	peer func(c *Conn, p *peer)
}{
	{"a silent peer", func(c *Conn, p *peer) { record(p, false) }},
	{"a peer that reads nothing", func(c *Conn, p *peer) {}},
	{"a peer that blocks a sender", func(c *Conn, p *peer) { go c.SendMessage(Text, []byte("x")); synctest.Wait() }},
	{"a peer that stops in the middle of a frame", func(c *Conn, p *peer) { record(p, false).Send([]byte{0x81, 0x90, 0}) }},
	{"a peer that sends for ever", func(c *Conn, p *peer) { go record(p, false).Flood() }},
}

func TestClose_waits_no_longer_than_CloseTimeout(t *testing.T) {
	computes(t)
	for _, tt := range silentPeers {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t, CloseTimeout(7*time.Second), PingInterval(0))
				tt.peer(c, p)
				start := time.Now()
				err := c.Close(4000, "")
				wantDuration(t, "Close", start, 7*time.Second)
				wantError(t, err, ErrCloseTimeout)
				if !strings.Contains(err.Error(), "CloseTimeout 7s") {
					t.Errorf("error %q does not name the option and its value", err)
				}
				wantError(t, endOf(c), net.ErrClosed)
			})
		})
	}
}

// Close gives the peer CloseTimeout to answer, even if the connection was silent for
// almost ConnectionTimeout before.
func TestClose_is_not_cut_short_by_ConnectionTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t, ConnectionTimeout(10*time.Second), PingInterval(0))
		w := record(p, false)
		time.Sleep(9 * time.Second)
		time.AfterFunc(3*time.Second, func() { w.Send(clientFrame(true, Close, "")) })
		if err := c.Close(4000, ""); err != nil {
			t.Errorf("got error %v, want none", err)
		}
		wantDuration(t, "Close", w.Start, 12*time.Second)
	})
}

func TestClose_without_CloseTimeout(t *testing.T) {
	forEver := []Option{CloseTimeout(0), PingInterval(0), ConnectionTimeout(time.Minute)}
	t.Run("waits for a late answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := newPipeConn(t, forEver...)
			w := record(p, false)
			start := time.Now()
			for i := range 10 {
				time.AfterFunc(time.Duration(i)*50*time.Second, func() { w.Send(clientFrame(true, Pong, "")) })
			}
			time.AfterFunc(500*time.Second, func() { w.Send(clientFrame(true, Close, "")) })
			if err := c.Close(4000, ""); err != nil {
				t.Errorf("got error %v, want none", err)
			}
			wantDuration(t, "Close", start, 500*time.Second)
		})
	})
	t.Run("ends after ConnectionTimeout without a byte from the peer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := newPipeConn(t, forEver...)
			record(p, false)
			start := time.Now()
			if err := c.Close(4000, ""); err == nil {
				t.Error("got no error, although the peer has not answered")
			}
			wantDuration(t, "Close", start, time.Minute+pingPoll)
		})
	})
}

func TestClose_of_a_peer_that_hangs_up(t *testing.T) {
	last := map[string][]byte{
		"at once":                nil,
		"within a header":        {0x81},
		"within a payload":       clientFrame(true, Text, "hello")[:8],
		"within a control frame": clientFrame(true, Close, closeBody(4000, ""))[:7],
	}
	for name, b := range last {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t)
				go func() {
					p.expectClose(4000)
					p.Write(b)
					p.Conn.Close()
				}()
				start := time.Now()
				err := c.Close(4000, "")
				wantDuration(t, "Close", start, 0)
				if err == nil || errors.Is(err, io.EOF) || CloseStatus(err) != StatusAbnormalClosure {
					t.Errorf("got error %v, want one that is 1006 and not io.EOF", err)
				}
			})
		})
	}
}

func TestClose_a_second_time(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		w := record(p, false)
		time.AfterFunc(3*time.Second, func() { w.Send(clientFrame(true, Close, "")) })
		const closers = 5
		results := make(chan error, closers)
		start := time.Now()
		for range closers {
			go func() {
				err := c.Close(4000, "")
				wantDuration(t, "Close", start, 3*time.Second)
				results <- err
			}()
		}
		closed := 0
		for range closers {
			if err := <-results; err == nil {
				closed++
			} else {
				wantError(t, err, net.ErrClosed)
			}
		}
		if closed != 1 {
			t.Errorf("%d of %d calls closed the connection, want one", closed, closers)
		}
		wantError(t, c.Close(4000, ""), net.ErrClosed)
		synctest.Wait()
		w.expect("0s close 4000", "3s end")
	})
}

func TestClose_wakes_receivers_at_once(t *testing.T) {
	peers := map[string]func(p *peer){
		"of a peer that reads":         func(p *peer) { record(p, false) },
		"of a peer that reads nothing": func(p *peer) {},
	}
	for peerName, peer := range peers {
		for _, name := range receivingMethods {
			t.Run(name+" "+peerName, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, p := newPipeConn(t)
					peer(p)
					start := time.Now()
					received := make(chan error)
					go func() {
						err := allMethods[name](c)
						wantDuration(t, name, start, time.Second)
						received <- err
					}()
					time.AfterFunc(time.Second, func() { c.Close(4000, "") })
					wantError(t, <-received, net.ErrClosed)
				})
			})
		}
	}
}

func TestClose_wakes_senders_that_wait_for_a_MessageWriter(t *testing.T) {
	closes := map[string]func(c *Conn) error{
		"Close":              func(c *Conn) error { return c.Close(4000, "") },
		"SendMessage(Close)": func(c *Conn) error { return c.SendMessage(Close, nil) },
		"WriteFrame(Close)":  func(c *Conn) error { return c.WriteFrame(Frame{Header: Header{Fin: true, Opcode: Close}}) },
	}
	for name, end := range closes {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t)
				record(p, false)
				writer, _ := c.MessageWriter(Text)
				start := time.Now()
				waited := make(chan error)
				go func() {
					err := c.SendMessage(Text, nil)
					wantDuration(t, "SendMessage", start, time.Second)
					waited <- err
				}()
				time.AfterFunc(time.Second, func() { end(c) })
				wantError(t, <-waited, net.ErrClosed)
				wantError(t, writer.Close(), net.ErrClosed)
				c.Close(4000, "")
			})
		})
	}
}

func TestClose_in_the_middle_of_a_MessageWriter(t *testing.T) {
	c, p := newTCPConn(t)
	w, err := c.MessageWriter(Binary)
	if err != nil {
		t.Fatal(err)
	}
	part := make([]byte, 10_000)
	if _, err := w.Write(part); err != nil {
		t.Fatal(err)
	}
	p.send(Close, "")
	hangUp(p)
	if err := c.Close(4000, ""); err != nil {
		t.Errorf("got error %v, want none", err)
	}
	_, err = w.Write(part)
	wantError(t, err, net.ErrClosed)
	wantError(t, w.Close(), net.ErrClosed)
	if f := p.read(); f.Fin || f.Opcode != Binary || len(f.Payload) != len(part) {
		t.Errorf("got %+v, want the fragment", f.Header)
	}
	p.expectClose(4000)
	p.ExpectEOF()
}

// Every message for which SendMessage has returned nil is on the wire before the close
// frame.
func TestClose_is_sent_after_the_accepted_messages(t *testing.T) {
	const senders = 8
	c, p := newTCPConn(t)
	var wg sync.WaitGroup
	var sent [senders]int
	for i := range senders {
		wg.Go(func() {
			message := bytes.Repeat([]byte{byte(i)}, 1+i*1000)
			for {
				if err := c.SendMessage(Binary, message); err != nil {
					wantError(t, err, net.ErrClosed)
					return
				}
				sent[i]++
			}
		})
	}
	var got [senders]int
	for n := 0; ; n++ {
		if n == 500 {
			wg.Go(func() {
				if err := c.Close(4000, ""); err != nil {
					t.Errorf("Close: got error %v, want none", err)
				}
			})
		}
		f := p.read()
		if f.Opcode == Close {
			break
		}
		if i := int(f.Payload[0]); len(f.Payload) == 1+i*1000 {
			got[i]++
		}
	}
	p.send(Close, "")
	hangUp(p)
	p.ExpectEOF()
	wg.Wait()
	if got != sent {
		t.Errorf("got %v messages before the close frame, want those that were sent: %v", got, sent)
	}
}

func TestClose_during_a_poll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPipeConn(t)
		w := record(p, true)
		time.Sleep(15*time.Second + time.Millisecond)
		time.AfterFunc(time.Second, func() { w.Send(clientFrame(true, Close, "")) })
		start := time.Now()
		if err := c.Close(4000, ""); err != nil {
			t.Errorf("got error %v, want none", err)
		}
		wantDuration(t, "Close", start, time.Second)
		synctest.Wait()
		w.expect("15s ping", "15.001s close 4000", "16.001s end")
	})
}

// If the peer answers a close frame with garbage, the error describes the bytes.
func TestClose_describes_the_bytes_that_arrived_instead_of_the_answer(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer []byte
		want   string
	}{
		{"a length of 64 bits whose highest is set", []byte("\x82\xff\x80"), "highest of its 64 bits"},
		{"a length that would fit a shorter form", []byte("\x82\xfe\x00\x05"), "length 5 in 16 bits"},
		{"the end of the connection", nil, "without a close frame"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPipeConn(t)
				go func() {
					p.expectClose(4000)
					p.Write(tt.answer)
					if tt.answer == nil {
						p.Conn.Close()
					}
				}()
				err := c.Close(4000, "")
				if err == nil || CloseStatus(err) != StatusAbnormalClosure {
					t.Fatalf("got error %v, want one that is 1006", err)
				}
				wantMention(t, err.Error(), "did not answer the close frame", tt.want)
			})
		})
	}
}
