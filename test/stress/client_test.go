//go:build unix

package stress

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// A client runs a script. One goroutine writes what the script sends, and another reads: it answers
// pings and the close frame of the server.
type client struct {
	s    *script
	p    *process
	tcp  *net.TCPConn  // below everything
	http *wstest.HTTP2 // nil unless the script uses HTTP/2
	conn *wstest.Client
	flow *flow // below conn

	writing sync.Mutex // held for whole frames
	silent  bool       // it answers no pings; guarded by writing
	closed  bool       // it has sent its close frame; guarded by writing
	mark    time.Time  // the last act of the client; guarded by writing

	mu      sync.Mutex // guards the rest
	changed *sync.Cond
	got     result
}

// A result is what a client has received.
type result struct {
	began      time.Time // of the parts
	messages   []message
	bytes      int    // of the messages
	pushed     uint64 // numbers of the function, after the messages
	pongs      []string
	code       uint16 // of the server's close frame, 0 for none
	closedAt   time.Time
	err        error // the end of the stream, nil while the client reads
	endedAt    time.Time
	broken     string // an act of the script that has failed
	report     *report
	reportedAt time.Time
}

// connect connects the client of a script and sends the handshake.
func connect(s *script, p *process) (*client, error) {
	addr := p.plain
	if s.transport == overTLS {
		addr = p.tls
	}
	if s.proxied {
		addr = p.proxies[addr].addr()
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &client{s: s, p: p, tcp: conn.(*net.TCPConn)}
	c.changed = sync.NewCond(&c.mu)
	if s.narrow {
		c.tcp.SetReadBuffer(64 << 10)
	}
	c.mark = time.Now()
	conn.SetDeadline(c.mark.Add(patience))
	if err := c.handshake(); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *client) handshake() error {
	fields := [][2]string{{idHeader, fmt.Sprint(c.s.id)}, {serverHeader, c.s.server}, {receiveHeader, c.s.receive}, {workHeader, c.s.work.String()}}
	var conn net.Conn = c.tcp
	switch c.s.transport {
	case overTLS:
		conn = tls.Client(c.tcp, &tls.Config{InsecureSkipVerify: true})
	case overHTTP2:
		http, err := wstest.NewHTTP2(c.tcp, 0)
		if err != nil {
			return err
		}
		c.http = http
		stream, err := http.Connect(http2Fields(fields)...)
		if err == nil && stream.Status != 200 {
			err = fmt.Errorf("got the status %d, want 200", stream.Status)
		}
		if err != nil {
			return err
		}
		conn = stream
		stream.SetDeadline(time.Now().Add(patience))
	}
	c.flow = &flow{Conn: conn, released: make(chan struct{})}
	c.conn = wstest.NewClient(nil, c.flow)
	if c.http != nil {
		return nil
	}
	var headers []string
	for _, f := range fields {
		headers = append(headers, f[0]+": "+f[1]+"\r\n")
	}
	return c.conn.Upgrade(headers...)
}

// http2Fields returns header fields with names in lower case, as HTTP/2 requires.
func http2Fields(fields [][2]string) (lines []string) {
	for _, f := range fields {
		lines = append(lines, strings.ToLower(f[0])+": "+f[1])
	}
	return lines
}

// run follows the script, and waits for the end of the connection and for its report.
func (c *client) run() {
	c.got.began = time.Now()
	var reading sync.WaitGroup
	reading.Go(c.read)
	c.writeParts()
	if c.s.act != nil {
		c.s.act(c)
	}
	reading.Wait()
	if c.http != nil {
		c.awaitReport() // if the TCP connection ended now, net/http might drop what the stream has received
	}
	c.close()
	c.awaitReport()
}

// close closes the connection, unless it is closed.
func (c *client) close() {
	if c.flow != nil {
		c.flow.release()
	}
	if c.http != nil {
		c.http.Close()
	}
	c.tcp.Close()
}

// read reads until the connection ends.
func (c *client) read() {
	for {
		f, err := c.conn.ReadFrame()
		if err == nil {
			err = c.handle(f)
		}
		if err != nil {
			c.mu.Lock()
			c.got.err, c.got.endedAt = err, time.Now()
			c.changed.Broadcast()
			c.mu.Unlock()
			return
		}
	}
}

// handle notes a frame and answers it.
func (c *client) handle(f wstest.Frame) error {
	c.note(f)
	switch f.Opcode() {
	case wstest.Ping:
		c.answer(wstest.Message(wstest.Pong, string(f.Payload)), false)
	case wstest.Close:
		code, _, err := f.CloseCode()
		if err != nil {
			return err
		}
		if !c.s.noAnswer {
			c.answer(closeFrame(code), true)
		}
	}
	return nil
}

func (c *client) note(f wstest.Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.changed.Broadcast()
	switch f.Opcode() {
	case wstest.Text, wstest.Binary, wstest.Continuation:
		c.noteData(f)
	case wstest.Pong:
		c.got.pongs = append(c.got.pongs, string(f.Payload))
	case wstest.Close:
		c.got.code, _, _ = f.CloseCode()
		c.got.closedAt = time.Now()
	}
}

// answer sends the answer to a control frame. Its error does not matter: the connection has ended, and
// the read says how.
func (c *client) answer(frame []byte, last bool) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.closed || c.silent && !last {
		return
	}
	c.closed = last
	if !last {
		c.mark = time.Now()
	}
	c.conn.Conn.Write(frame)
}
