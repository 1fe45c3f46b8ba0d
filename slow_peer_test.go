package websocket

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// tcpOf returns the TCP connection that conn is, or that is below TLS, or nil.
func tcpOf(conn any) *net.TCPConn {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	tcp, _ := conn.(*net.TCPConn)
	return tcp
}

// Pauses are times for which this machine, and not the library, has stopped a test in real time.
type pauses struct{ longest atomic.Int64 }

func (p *pauses) note(d time.Duration) {
	for was := p.longest.Load(); int64(d) > was && !p.longest.CompareAndSwap(was, int64(d)); {
		was = p.longest.Load()
	}
}

// readSteadily reads 3 MB in a second, and notes how long each read has taken, also the last one.
// With less, and smaller buffers, TCP itself pauses for most of a second now and then, because it
// sends no small segments.
func (p *pauses) readSteadily(client io.Reader) {
	b := make([]byte, 64<<10)
	for {
		last := time.Now()
		_, err := io.ReadFull(client, b)
		p.note(time.Since(last))
		if err != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// watch notes for how long this process is without a processor, until stop is closed.
func (p *pauses) watch(stop <-chan struct{}) {
	const interval = 5 * time.Millisecond
	for {
		last := time.Now()
		select {
		case <-stop:
			return
		case <-time.After(interval):
			p.note(time.Since(last) - interval)
		}
	}
}

// try calls run, whose result depends on real time, and fails the test with its error. If there was
// a pause of more than limit meanwhile, an error says nothing about the library, and run is called
// again.
func try(t *testing.T, limit time.Duration, run func(p *pauses) error) {
	for range 10 {
		p, stop := new(pauses), make(chan struct{})
		var watcher sync.WaitGroup
		watcher.Go(func() { p.watch(stop) })
		err := func() error {
			defer watcher.Wait()
			defer close(stop) // also if run skips the test
			return run(p)
		}()
		switch pause := time.Duration(p.longest.Load()); {
		case err == nil:
			return
		case pause <= limit:
			t.Error(err)
			return
		default:
			t.Logf("once more, because there was a pause of %v: %v", pause, err)
		}
	}
	t.Skip("the machine is too busy for a test in real time")
}

// A peer that reads slowly may send nothing while a message that fits the buffers of the kernel
// is on the way to it, because a ping waits behind the message. It does not count as silent, but
// a peer that has stopped reading does.
func TestConnectionTimeout_of_a_peer_that_reads_slowly(t *testing.T) {
	t.Parallel()
	const timeout = time.Second
	sendLarge := func(c *Conn) { c.SendMessage(Binary, make([]byte, 16<<20)) }
	tests := map[string]struct {
		send  func(c *Conn)
		alive bool // it reads, and the connection lives after 2.2 times the timeout
	}{
		"that reads steadily":      {sendLarge, true},
		"that has stopped to read": {sendLarge, false},
		"whose kernel has room for what it does not read": {func(c *Conn) {
			for c.SendMessage(Binary, []byte("small")) == nil {
				time.Sleep(10 * time.Millisecond)
			}
		}, false},
	}
	for name, tt := range tests {
		for _, kind := range []string{"TCP", "TLS"} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				try(t, timeout/8, func(p *pauses) error {
					c, client := sockets[kind](t, ConnectionTimeout(timeout), PingInterval(timeout/4), CloseTimeout(50*time.Millisecond))
					defer client.Close()
					if _, ok := c.socket.acked(); !ok {
						t.Skip("this system does not tell what the peer has acknowledged")
					}
					tcpOf(c.NetConn()).SetWriteBuffer(4 << 20)
					tcpOf(client).SetReadBuffer(128 << 10)
					sent := make(chan struct{})
					go func() { tt.send(c); close(sent) }()
					limit := wstest.Patience
					if tt.alive {
						go p.readSteadily(client.(io.Reader))
						limit = timeout * 22 / 10
					}
					select {
					case <-c.Context().Done():
					case <-time.After(limit):
					}
					end := endOf(c)
					client.Close()
					c.Close(1000, "")
					<-sent
					if alive := end == nil; alive != tt.alive || !alive && !errors.Is(end, ErrConnectionTimeout) {
						return fmt.Errorf("got end %v, want a living connection: %v", end, tt.alive)
					}
					return nil
				})
			})
		}
	}
}

// The kernel of a peer that hangs acknowledges what it has room for. If there are so many small
// messages that some wait for the acknowledgement of others, the peer looks as if it read slowly,
// but it does not answer a ping that has arrived.
func TestConnectionTimeout_of_a_peer_that_hangs_and_gets_many_small_messages(t *testing.T) {
	t.Parallel()
	const timeout = 500 * time.Millisecond
	try(t, timeout/8, func(p *pauses) error {
		c, client := sockets["TCP"](t, ConnectionTimeout(timeout), PingInterval(timeout/4), CloseTimeout(50*time.Millisecond))
		defer client.Close()
		if _, ok := c.socket.acked(); !ok {
			t.Skip("this system does not tell what the peer has acknowledged")
		}
		start := time.Now()
		for c.SendMessage(Binary, []byte("x")) == nil && time.Since(start) < wstest.Patience {
			time.Sleep(time.Millisecond)
		}
		end := endOf(c)
		client.Close()
		c.Close(1000, "")
		if !errors.Is(end, ErrConnectionTimeout) {
			return fmt.Errorf("got end %v after %v, want ErrConnectionTimeout", end, time.Since(start))
		}
		return nil
	})
}

// A write may also have waited for a processor. If the kernel tells what the peer takes, only
// that counts.
func TestWrite_that_waited_for_a_processor_is_not_a_sign_of_life(t *testing.T) {
	c, _ := newTCPConn(t)
	defer c.expire(net.ErrClosed)
	if _, ok := c.socket.acked(); !ok {
		t.Skip("this system does not tell what the peer has acknowledged")
	}
	before := c.timer.lastAlive.Load()
	c.timer.noteTaken(clock()-time.Second, clock())
	if c.timer.lastAlive.Load() != before {
		t.Error("the write counts as a sign of life")
	}
}

// A peer may need seconds for each frame, and send nothing. If the library does not know the
// kind of socket, only the writes show that the peer reads.
func TestConnectionTimeout_of_a_peer_that_reads_one_frame_after_another(t *testing.T) {
	computes(t)
	const frame = 50_000
	for _, tt := range []struct {
		name string
		most int // what the peer reads in all, 0 for no limit
	}{{"and goes on", 0}, {"and stops after three", 3*frame + 100}} {
		t.Run(tt.name, func(t *testing.T) {
			eachConn(t, pacedConn{rate: 2000, most: tt.most}, func(t *testing.T, c *Conn, p *peer) {
				go readAll(p.Conn)
				start := time.Now()
				for time.Since(start) < 10*time.Minute && c.SendMessage(Binary, make([]byte, frame)) == nil {
				}
				took := time.Since(start).Round(time.Second)
				switch end := endOf(c); {
				case tt.most == 0 && end != nil:
					t.Errorf("the connection has ended after %v: %v", took, end)
				case tt.most > 0 && (!errors.Is(end, ErrConnectionTimeout) || took > 75*time.Second+90*time.Second):
					t.Errorf("got end %v after %v, want ErrConnectionTimeout", end, took)
				}
			}, WriteTimeout(0))
		})
	}
}

// The kernel may report room for a write only after megabytes. A peer that reads faster than
// the least rate must not be cut off meanwhile, and a slower one must be.
func TestWriteTimeout_of_a_peer_that_reads_slowly(t *testing.T) {
	t.Parallel()
	for name, steady := range map[string]bool{"that reads steadily": true, "that has stopped to read": false} {
		for _, kind := range []string{"TCP", "TLS"} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				const timeout = time.Second
				try(t, timeout/8, func(p *pauses) error {
					c, client := sockets[kind](t, WriteTimeout(timeout), PingInterval(0), ConnectionTimeout(0), CloseTimeout(50*time.Millisecond))
					defer client.Close()
					if _, ok := c.socket.acked(); !ok {
						t.Skip("this system does not tell what the peer has acknowledged")
					}
					tcpOf(c.NetConn()).SetWriteBuffer(8 << 20)
					tcpOf(client).SetReadBuffer(128 << 10)
					if steady {
						go p.readSteadily(client.(io.Reader))
					}
					start, sent := time.Now(), make(chan error, 1)
					go func() { sent <- c.SendMessage(Binary, make([]byte, 32<<20)) }()
					limit := wstest.Patience
					if steady {
						limit = timeout * 22 / 10
					}
					var err error
					select {
					case err = <-sent:
					case <-time.After(limit):
					}
					c.CloseNow()
					if took := time.Since(start); (err == nil) != steady || err != nil && took < timeout {
						return fmt.Errorf("after %v, got error %v", took, err)
					}
					return nil
				})
			})
		}
	}
}

// A message that begins late in a silence is not noted at the first step.
func TestConnectionTimeout_of_a_message_late_in_a_silence(t *testing.T) {
	t.Parallel()
	const timeout = 1200 * time.Millisecond
	try(t, timeout/10, func(p *pauses) error {
		c, client := sockets["TCP"](t, ConnectionTimeout(timeout), PingInterval(timeout*9/10))
		defer client.Close()
		if _, ok := c.socket.acked(); !ok {
			t.Skip("this system does not tell what the peer has acknowledged")
		}
		tcpOf(c.NetConn()).SetWriteBuffer(4 << 20)
		tcpOf(client).SetReadBuffer(128 << 10)
		time.Sleep(timeout * 6 / 10)
		go p.readSteadily(client.(io.Reader))
		sent := make(chan error, 1)
		go func() { sent <- c.SendMessage(Binary, make([]byte, 16<<20)) }()
		time.Sleep(timeout * 12 / 10) // until half of the timeout after its end
		end := endOf(c)
		c.CloseNow()
		<-sent
		if end != nil {
			return fmt.Errorf("the connection has ended: %w", end)
		}
		return nil
	})
}
