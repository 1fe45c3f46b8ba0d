package websocket

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// A pacedConn is the socket of a peer that reads rate bytes in a second, and most bytes in
// all.
type pacedConn struct {
	net.Conn
	rate int
	most int // 0 for no limit
	read *int
}

func (c pacedConn) Read(p []byte) (int, error) {
	if c.most > 0 && *c.read >= c.most {
		time.Sleep(time.Hour)
		return 0, io.EOF
	}
	n, err := c.Conn.Read(p[:min(len(p), max(1, c.rate/10))])
	*c.read += n
	time.Sleep(time.Duration(n) * time.Second / time.Duration(c.rate))
	return n, err
}

// A test waits for longer than the deadlines of wstest.
func (pacedConn) SetReadDeadline(time.Time) error { return nil }

// readAll reads until conn is closed.
func readAll(conn net.Conn) {
	b := make([]byte, progressSize)
	for err := error(nil); err == nil; {
		_, err = conn.Read(b)
	}
}

// largeSends are the ways to send a large message.
var largeSends = map[string]func(c *Conn, data []byte) error{
	"SendMessage": func(c *Conn, data []byte) error { return c.SendMessage(Binary, data) },
	"WriteFrame": func(c *Conn, data []byte) error {
		return c.WriteFrame(Frame{Header: Header{Fin: true, Opcode: Binary}, Payload: data})
	},
	"one Write of a MessageWriter": func(c *Conn, data []byte) error {
		w, err := c.MessageWriter(Binary)
		if err != nil {
			return err
		}
		_, err = w.Write(data)
		return errors.Join(err, w.Close())
	},
	"many Writes of a MessageWriter": func(c *Conn, data []byte) error {
		w, err := c.MessageWriter(Binary)
		if err != nil {
			return err
		}
		for len(data) > 0 && err == nil {
			_, err = w.Write(data[:min(3000, len(data))])
			data = data[min(3000, len(data)):]
		}
		return errors.Join(err, w.Close())
	},
	"SendMessage behind pending frames": func(c *Conn, data []byte) error {
		c.out.noteBuffered(true)
		for range 20 {
			if err := c.SendMessage(Binary, make([]byte, pendingLength)); err != nil {
				return err
			}
		}
		return c.SendMessage(Binary, data)
	},
}

// eachConn runs a test on a connection in memory, whose type the library knows, and on a
// wrapper of it. The peer reads as paced says.
func eachConn(t *testing.T, paced pacedConn, run func(t *testing.T, c *Conn, p *peer), opts ...Option) {
	for name, wrap := range map[string]func(net.Conn) net.Conn{
		"known":   func(conn net.Conn) net.Conn { return conn },
		"wrapped": func(conn net.Conn) net.Conn { return wstest.Wrap(conn) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, client := net.Pipe()
				paced := paced
				paced.Conn, paced.read = client, new(int)
				c, p := newTestConn(wrap(server), nil, opts...), newPeer(t, paced)
				run(t, c, p)
				client.Close()
				c.Close(StatusNormalClosure, "")
				time.Sleep(2 * time.Hour) // for the peer
			})
		})
	}
}

// A peer that reads 25 KB in a second needs 80 s for a message of 2 MB, which is more than
// every timeout. No ping fits into a frame, so the peer has nothing to answer meanwhile.
func TestWrite_to_a_peer_that_reads_slowly(t *testing.T) {
	t.Parallel()
	data := samplePayload(Binary, 2_000_000)
	for name, send := range largeSends {
		t.Run(name, func(t *testing.T) {
			computes(t)
			eachConn(t, pacedConn{rate: 25_000}, func(t *testing.T, c *Conn, p *peer) {
				sent := make(chan error, 1)
				go func() { sent <- send(c, data) }()
				go receiveAll(c)
				start := time.Now()
				messages := make(chan []byte, 1)
				go readPaced(p, len(data), messages)
				got := <-messages
				if err := <-sent; err != nil || !bytes.Equal(got, data) {
					t.Errorf("got %d bytes and error %v, want the %d bytes that were sent", len(got), err, len(data))
				}
				if time.Since(start) < 80*time.Second {
					t.Error("the peer was not slow")
				}
				time.Sleep(2 * time.Minute)
				if endOf(c) != nil {
					t.Errorf("the connection has ended: %v", endOf(c))
				}
			})
		})
	}
}

// readPaced reads frames, and answers pings. It sends what it got when size bytes have
// arrived in frames that are not pending ones.
func readPaced(p *peer, size int, messages chan<- []byte) {
	var got []byte
	for {
		f, err := p.ReadFrame()
		switch {
		case err != nil:
			return
		case Opcode(f.Opcode()) == Ping:
			p.send(Pong, "")
		case len(f.Payload) != pendingLength:
			if got = append(got, f.Payload...); len(got) == size {
				messages <- got
			}
		}
	}
}

// pendingLength is the length of the frames that wait in front of a large message.
const pendingLength = 2000

// The least rate is one piece in WriteTimeout.
func TestWrite_least_rate(t *testing.T) {
	const timeout = 10 * time.Second
	tests := []struct {
		name  string
		paced pacedConn
		want  time.Duration // when the connection ends; 0 for never
	}{
		{"a peer at the least rate gets everything", pacedConn{rate: progressSize / 8}, 0},
		{"a peer below the least rate is disconnected", pacedConn{rate: progressSize / 12}, timeout},
		{"a peer that reads a byte at a time is disconnected", pacedConn{rate: 1}, timeout},
		{"a peer that reads one byte and then nothing is disconnected", pacedConn{rate: 1, most: 1}, timeout},
		{"a peer that stops in the middle is disconnected", pacedConn{rate: progressSize, most: 5 * progressSize / 2}, 2*time.Second + timeout},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			eachConn(t, tt.paced, func(t *testing.T, c *Conn, p *peer) {
				data := make([]byte, 10*progressSize)
				go readAll(p.Conn)
				start := time.Now()
				err := c.SendMessage(Binary, data)
				if tt.want == 0 {
					if err != nil {
						t.Errorf("got error %v after %v, want none", err, time.Since(start))
					}
					return
				}
				if took := time.Since(start).Round(time.Second); !isTimeout(err) || took != tt.want || endOf(c) == nil {
					t.Errorf("got error %v after %v, want the end by WriteTimeout after %v", err, took, tt.want)
				}
			}, WriteTimeout(timeout), PingInterval(0), ConnectionTimeout(0))
		})
	}
}

// Only a write that had to wait is a sign of life. A socket takes bytes for a peer that is
// gone, as long as it has room.
func TestWrite_for_which_there_is_room_is_not_a_sign_of_life(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newScriptConn(t, nil, ConnectionTimeout(10*time.Second))
		s.Hook = func(op *wstest.Op) (int, error) {
			if op.Write {
				return len(op.P), nil
			}
			return 0, op.Wait(time.Hour)
		}
		start := time.Now()
		for endOf(c) == nil {
			c.SendMessage(Binary, make([]byte, 4*progressSize))
			time.Sleep(time.Second / 4)
		}
		wantError(t, endOf(c), ErrConnectionTimeout)
		if took := time.Since(start).Round(time.Second); took != 10*time.Second {
			t.Errorf("the silent peer was disconnected after %v, want 10s", took)
		}
	})
}

// The user's deadline applies to all pieces together.
func TestWrite_deadline_between_pieces(t *testing.T) {
	eachConn(t, pacedConn{rate: progressSize}, func(t *testing.T, c *Conn, p *peer) {
		go readAll(p.Conn)
		c.SetWriteDeadline(time.Now().Add(3500 * time.Millisecond))
		err := timedCall(t, "SendMessage", 3500*time.Millisecond+pingPoll, func() error {
			return c.SendMessage(Binary, make([]byte, 10*progressSize))
		})
		wantError(t, err, errTimedOut)
		if CloseStatus(endOf(c)) != StatusAbnormalClosure {
			t.Errorf("got end %v, want the error of a frame that was cut off", endOf(c))
		}
	})
}

// Over TCP, the kernel says how much it has taken: a large frame is written with as few
// system calls as possible, and each piece is progress nevertheless.
func TestWrite_progress_over_TCP(t *testing.T) {
	t.Parallel()
	for name, length := range map[string]int{"several pieces": 50 * progressSize, "one piece": maxCopied + 1} {
		t.Run(name, func(t *testing.T) {
			client, server := tcpPair(t)
			server.(*net.TCPConn).SetWriteBuffer(4096)
			c := newTestConn(server, nil)
			defer c.expire(net.ErrClosed)
			head, payload := []byte("head"), samplePayload(Binary, length)
			got := make(chan []byte)
			go func() {
				b := make([]byte, len(head)+len(payload))
				io.ReadFull(client, b)
				got <- b
			}()
			n, err := c.socket.writeLarge(head, payload, progress{&c.timer, clock()})
			if err != nil || n != len(head)+len(payload) {
				t.Errorf("got %d bytes and error %v, want %d", n, err, len(head)+len(payload))
			}
			if !bytes.Equal(<-got, append(head, payload...)) {
				t.Error("the peer got other bytes")
			}
			if reported := time.Duration(c.timer.writing.Load()) != noTime; reported != (length > progressSize) {
				t.Errorf("progress was reported: %t, want %t", reported, length > progressSize)
			}
		})
	}
	t.Run("to a peer that has closed", func(t *testing.T) {
		c, p := newTCPConn(t)
		p.Reset()
		var err error
		for err == nil { // the reset may arrive late
			_, err = c.socket.writeLarge([]byte("head"), make([]byte, 10*progressSize), progress{&c.timer, clock()})
		}
		if errors.Is(err, io.EOF) || isTimeout(err) {
			t.Errorf("got error %v, want that of the system call", err)
		}
	})
	t.Run("until a deadline", func(t *testing.T) {
		c, _ := newTCPConn(t)
		c.socket.SetWriteDeadline(time.Now().Add(time.Millisecond))
		n, err := c.socket.writeLarge([]byte("head"), make([]byte, 32<<20), progress{&c.timer, clock()})
		if !isTimeout(err) || n == 32<<20 {
			t.Errorf("got %d bytes and error %v, want a deadline in the middle", n, err)
		}
	})
}

func TestWrite_of_a_large_message_does_not_allocate(t *testing.T) {
	client, server := tcpPair(t)
	c := newTestConn(server, nil)
	defer c.expire(net.ErrClosed)
	go io.Copy(io.Discard, client)
	data := make([]byte, 100_000)
	checkAllocs(t, "SendMessage", 0, func() { c.SendMessage(Binary, data) })
}
