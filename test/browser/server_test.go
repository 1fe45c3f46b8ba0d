package browser

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"testing"
	"time"
)

// A server is a process of the chat.
type server struct {
	t    *testing.T
	addr string
	cmd  *exec.Cmd
	ends sync.WaitGroup // of what it logs
}

// startServer starts the chat on addr, of which the port may be 0.
func startServer(t *testing.T, addr string) *server {
	t.Helper()
	s := &server{t: t, cmd: exec.Command(chatBinary, "-addr", addr)}
	log, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	port := make(chan string, 1)
	s.ends.Go(func() { s.follow(log, port) })
	select {
	case p := <-port:
		s.addr = net.JoinHostPort("127.0.0.1", p)
	case <-time.After(patience):
		s.kill()
		t.Fatal("the chat does not say where it listens")
	}
	t.Cleanup(s.stop)
	return s
}

var listening = regexp.MustCompile(`url=http://.*:(\d+)`)

// follow shows what the server logs and sends on the port that it names.
func (s *server) follow(log io.Reader, port chan<- string) {
	for lines := bufio.NewScanner(log); lines.Scan(); {
		s.t.Log("chat: ", lines.Text())
		if match := listening.FindStringSubmatch(lines.Text()); match != nil {
			port <- match[1]
		}
	}
}

// stop is Ctrl-C: the server says goodbye and ends by itself.
func (s *server) stop() {
	s.t.Helper()
	if s.cmd.ProcessState != nil {
		return
	}
	s.signal(os.Interrupt)
	alarm := time.AfterFunc(patience, func() { s.cmd.Process.Kill() })
	defer alarm.Stop()
	s.ends.Wait()
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("the chat ended with %v", err)
	}
}

func (s *server) signal(sig os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Errorf("sending the chat %v: %v", sig, err)
	}
}

func (s *server) kill() {
	s.cmd.Process.Kill()
	s.ends.Wait()
	s.cmd.Wait()
}

func (s *server) url() string { return "http://" + s.addr }

// A proxy is a network between the browser and a server that can be cut.
type proxy struct {
	t      *testing.T
	addr   string
	target string
	cut    func() // resets the connections and refuses new ones
}

func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	p := &proxy{t: t, addr: "127.0.0.1:0", target: target}
	p.mend()
	t.Cleanup(func() { p.cut() })
	return p
}

// mend lets connections through, until cut.
func (p *proxy) mend() {
	p.t.Helper()
	l, err := net.Listen("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	context.AfterFunc(ctx, func() { l.Close() })
	var pipes sync.WaitGroup
	pipes.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			pipes.Go(func() { p.pipe(ctx, c) })
		}
	})
	p.cut = func() {
		cancel()
		pipes.Wait()
	}
}

// pipe connects c with the target. When ctx is done, both ends see a reset: no
// close frame, no goodbye of TCP.
func (p *proxy) pipe(ctx context.Context, c net.Conn) {
	defer c.Close()
	target, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer target.Close()
	defer context.AfterFunc(ctx, func() {
		for _, end := range []net.Conn{c, target} {
			end.(*net.TCPConn).SetLinger(0)
			end.Close()
		}
	})()
	var both sync.WaitGroup
	both.Go(func() { forward(target, c) })
	both.Go(func() { forward(c, target) })
	both.Wait()
}

func forward(to, from net.Conn) {
	io.Copy(to, from)
	to.(*net.TCPConn).CloseWrite()
}
