//go:build unix

package pause

import (
	"bufio"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

const (
	timeout   = 1500 * time.Millisecond // ConnectionTimeout, WriteTimeout and CloseTimeout of the server
	pause     = 2 * timeout
	roundTrip = 100 * time.Millisecond // until a client has answered a ping

	work    = 20 * time.Millisecond // of the function, for each message
	backlog = 12                    // messages, fewer than HandleConcurrent reads ahead
)

// handlers are the servers, by the name that the child process gets.
var handlers = map[string]func() *websocket.Handler{
	"Handle":           func() *websocket.Handler { return websocket.Handle(echo, options...) },
	overTLS:            func() *websocket.Handler { return websocket.Handle(echo, options...) },
	"HandleConcurrent": func() *websocket.Handler { return websocket.HandleConcurrent(echo, options...) },
	"HandleMessages": func() *websocket.Handler {
		return websocket.HandleMessages(func(c *websocket.Conn) (websocket.MessageFunc, error) {
			return func(op websocket.Opcode, data []byte) error { return answer(c, op, data) }, nil
		}, options...)
	},
}

const overTLS = "Handle over TLS"

var options = []websocket.Option{
	websocket.PingInterval(timeout / 4), websocket.ConnectionTimeout(timeout), websocket.WriteTimeout(timeout),
	websocket.CloseTimeout(timeout),
	websocket.OnError(func(*websocket.Conn, error) {}),
}

func echo(c *websocket.Conn) error {
	for {
		op, data, err := c.ReceiveMessage()
		if err == nil {
			err = answer(c, op, data)
		}
		if err != nil {
			return err
		}
	}
}

// The messages that are not echoed.
const (
	closeNow  = "close"
	sendLarge = "large"

	largeSize = 16 << 20 // more than the kernel takes
)

func answer(c *websocket.Conn, op websocket.Opcode, data []byte) error {
	switch string(data) {
	case closeNow:
		c.StartClose(websocket.StatusNormalClosure, "")
		return nil
	case sendLarge:
		return c.SendMessage(websocket.Binary, make([]byte, largeSize))
	}
	time.Sleep(work)
	return c.SendMessage(op, data)
}

// serverVariable is the environment variable that makes the test binary a server.
const serverVariable = "PAUSE_TEST_SERVER"

func TestMain(m *testing.M) {
	kind := os.Getenv(serverVariable)
	if kind == "" {
		os.Exit(m.Run())
	}
	srv := httptest.NewUnstartedServer(handlers[kind]())
	if kind == overTLS {
		srv.StartTLS()
	} else {
		srv.Start()
	}
	fmt.Println(srv.Listener.Addr())
	io.Copy(io.Discard, os.Stdin) // until the test ends
}

// A server is a process that can be paused.
type server struct {
	t       *testing.T
	process *os.Process
	dial    func(t testing.TB, addr string) *wstest.Client
	addr    string
}

func startServer(t *testing.T, kind string) *server {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serverVariable+"="+kind)
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil { // it ends with this process
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill() // also if it is paused
		cmd.Wait()
	})
	addr, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	dial := wstest.Dial
	if kind == overTLS {
		dial = wstest.DialTLS
	}
	return &server{t, cmd.Process, dial, strings.TrimSpace(addr)}
}

func (s *server) pause(d time.Duration) {
	s.signal(syscall.SIGSTOP)
	time.Sleep(d)
	s.signal(syscall.SIGCONT)
}

func (s *server) signal(sig os.Signal) {
	if err := s.process.Signal(sig); err != nil {
		s.t.Error(err)
	}
}

// connect returns a client whose reads and writes fail after wstest.Patience.
func (s *server) connect() *wstest.Client {
	s.t.Helper()
	c := s.dial(s.t, s.addr)
	if err := c.Upgrade(); err != nil {
		s.t.Fatal(err)
	}
	c.Conn.SetDeadline(time.Now().Add(wstest.Patience))
	return c
}

// readUntil reads frames up to the first for which last returns true.
func readUntil(t *testing.T, c *wstest.Client, last func(wstest.Frame) bool) {
	t.Helper()
	for {
		f, err := c.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if last(f) {
			return
		}
	}
}

// eachServer runs test with each kind of server.
func eachServer(t *testing.T, test func(t *testing.T, s *server)) {
	if testing.Short() {
		t.Skip("it takes 40 s")
	}
	for kind := range handlers {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			test(t, startServer(t, kind))
		})
	}
}

// A peer that answers pings keeps its connection, although it sends nothing during the pause and needs
// a round trip to answer the first ping after it.
func TestPause_keeps_connections(t *testing.T) {
	eachServer(t, func(t *testing.T, s *server) {
		var clients []*wstest.Client
		var answering sync.WaitGroup
		for range 20 {
			c := s.connect()
			clients = append(clients, c)
			answering.Go(func() {
				if err := answerPings(c); err != nil {
					t.Errorf("the pause has ended a connection: %v", err)
				}
			})
		}
		time.Sleep(timeout)
		s.pause(pause)
		time.Sleep(timeout)
		for _, c := range clients {
			c.Conn.Write(wstest.Message(wstest.Text, "the end"))
		}
		answering.Wait()
	})
}

// answerPings answers pings until a message arrives.
func answerPings(c *wstest.Client) error {
	for {
		f, err := c.ReadFrame()
		if err != nil || f.Opcode() == wstest.Text {
			return err
		}
		if f.Opcode() == wstest.Ping {
			time.Sleep(roundTrip)
			c.Conn.Write(wstest.Message(wstest.Pong, string(f.Payload)))
		}
	}
}

// A function that has not answered all messages when the process is paused answers them afterwards.
func TestPause_loses_no_answers(t *testing.T) {
	eachServer(t, func(t *testing.T, s *server) {
		c := s.connect()
		message := wstest.Message(wstest.Text, "hello")
		c.Conn.Write([]byte(strings.Repeat(string(message), backlog) + string(wstest.Message(wstest.Close, "\x0f\xa0"))))
		answers := 0
		for {
			f, err := c.ReadFrame()
			if err != nil {
				t.Fatalf("after %d answers: %v", answers, err)
			}
			if f.Opcode() == wstest.Close {
				break
			}
			if f.Opcode() != wstest.Text {
				continue
			}
			if answers++; answers == 1 {
				s.pause(pause)
			}
		}
		if answers != backlog {
			t.Errorf("got %d answers and then the close frame, want %d", answers, backlog)
		}
	})
}

// A client that has answered the close frame during the pause sees the end of the stream, not a reset.
func TestPause_in_the_close_handshake(t *testing.T) {
	eachServer(t, func(t *testing.T, s *server) {
		var clients []*wstest.Client
		for range 20 {
			c := s.connect()
			c.Conn.Write(wstest.Message(wstest.Text, closeNow))
			readUntil(t, c, func(f wstest.Frame) bool { return f.Opcode() == wstest.Close })
			clients = append(clients, c)
		}
		s.signal(syscall.SIGSTOP)
		time.Sleep(roundTrip)
		for _, c := range clients {
			c.Conn.Write(wstest.Message(wstest.Close, wstest.ClosePayload(1000, "")))
		}
		time.Sleep(pause)
		s.signal(syscall.SIGCONT)
		for _, c := range clients {
			if rest, err := io.ReadAll(c.Buffer); err != nil || len(rest) > 0 {
				t.Errorf("got %d bytes and error %v, want the end of the stream", len(rest), err)
			}
		}
	})
}

// A write of which less than half of WriteTimeout is over before the pause is not cut off.
func TestPause_in_a_write(t *testing.T) {
	eachServer(t, func(t *testing.T, s *server) {
		for _, pause := range []time.Duration{timeout * 85 / 100, timeout * 92 / 100, timeout * 2} {
			c := s.connect()
			c.Conn.Write(wstest.Message(wstest.Text, sendLarge))
			time.Sleep(roundTrip)
			s.pause(pause)
			time.Sleep(roundTrip)
			t.Logf("after a pause of %v", pause)
			readUntil(t, c, func(f wstest.Frame) bool { return len(f.Payload) == largeSize })
			c.Conn.Close()
		}
	})
}
