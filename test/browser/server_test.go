package browser

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"
)

// A server is a process of one of the programs.
type server struct {
	t    *testing.T
	name string // of the program: "chat" or "dashboard"
	addr string
	cmd  *exec.Cmd
	logs sync.WaitGroup // the goroutine that reads the log
}

// startServer starts the program with this name on addr. With port 0, the system chooses a
// port.
func startServer(t *testing.T, name, addr string) *server {
	t.Helper()
	s := &server{t: t, name: name, cmd: exec.Command(filepath.Join(binaries, name), "-addr", addr)}
	log, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	port := make(chan string, 1)
	s.logs.Go(func() { s.readLog(log, port) })
	select {
	case p := <-port:
		s.addr = net.JoinHostPort("127.0.0.1", p)
	case <-time.After(testTimeout):
		s.kill()
		t.Fatalf("the %s has not logged its URL after %v", name, testTimeout)
	}
	t.Cleanup(s.stop)
	return s
}

var listening = regexp.MustCompile(`url=http://.*:(\d+)`)

// readLog copies the server's log to the test's log, and sends the port that the server
// listens on.
func (s *server) readLog(log io.Reader, port chan<- string) {
	for lines := bufio.NewScanner(log); lines.Scan(); {
		s.t.Logf("%s: %s", s.name, lines.Text())
		if match := listening.FindStringSubmatch(lines.Text()); match != nil {
			port <- match[1]
		}
	}
}

// stop sends SIGINT, as Ctrl-C does, and waits until the server has closed its
// connections and ended.
func (s *server) stop() {
	s.t.Helper()
	if s.cmd.ProcessState != nil {
		return
	}
	s.signal(os.Interrupt)
	timer := time.AfterFunc(testTimeout, func() { s.cmd.Process.Kill() })
	defer timer.Stop()
	s.logs.Wait()
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("the %s ended with %v, want no error", s.name, err)
	}
}

func (s *server) signal(sig os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Errorf("sending %v to the %s: %v", sig, s.name, err)
	}
}

func (s *server) kill() {
	s.cmd.Process.Kill()
	s.logs.Wait()
	s.cmd.Wait()
}

func (s *server) url() string { return "http://" + s.addr }

// A proxy stands for the network between the browser and a server. Tests cut and restore
// it.
type proxy struct {
	t      *testing.T
	addr   string
	target string
	cut    func() // resets the connections and refuses new ones
}

func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	p := &proxy{t: t, addr: "127.0.0.1:0", target: target}
	p.restore()
	t.Cleanup(func() { p.cut() })
	return p
}

// restore accepts connections until cut is called.
func (p *proxy) restore() {
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

// pipe copies between c and a connection to the target. When ctx is done, it resets both
// TCP connections, so neither side gets a close frame or an end of the stream.
func (p *proxy) pipe(ctx context.Context, c net.Conn) {
	defer c.Close()
	target, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer target.Close()
	defer context.AfterFunc(ctx, func() {
		for _, conn := range []net.Conn{c, target} {
			conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
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
