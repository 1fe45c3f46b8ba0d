//go:build unix

package stress

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A process is the child process that serves, as the parent sees it.
type process struct {
	plain, tls string            // addresses
	proxies    map[string]*proxy // of these addresses
	cmd        *exec.Cmd
	input      *os.File
	stderr     *capture
	done       chan struct{} // closed when the process writes no more lines
	usage      chan string   // the answers to shutDown
	stalls     *stalls

	mu      sync.Mutex
	reports map[int]chan *report
	strange []string // reports that no script has asked for
	pauses  []period
}

// A period is a time in which the process was stopped, or in which this one did not run.
type period struct{ from, to time.Time }

// overlaps reports whether a part of p was between two times.
func (p period) overlaps(from, to time.Time) bool { return p.to.After(from) && p.from.Before(to) }

// patience is how long a client waits for something that must happen. It is longer than all limits and
// the pauses that they may meet.
const patience = 30 * time.Second

// roleVariable is the environment variable that makes the test binary a server or a burner.
const roleVariable = "STRESS_TEST_ROLE"

// command returns the test binary in another role. It ends when the input is closed.
func command(role string) (cmd *exec.Cmd, input *os.File, err error) {
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	theirs, ours, err := os.Pipe()
	cmd.Stdin = theirs
	return cmd, ours, err
}

func startProcess(t *testing.T) *process {
	t.Helper()
	cmd, input, err := command("server")
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, input: input, stderr: new(capture), done: make(chan struct{}), usage: make(chan string, 1),
		reports: map[int]chan *report{}, proxies: map[string]*proxy{}, stalls: watchStalls()}
	cmd.Stderr = p.stderr
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	cmd.Stdin.(*os.File).Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() }) // also if it is stopped; it has ended if stop was called
	lines := json.NewDecoder(bufio.NewReader(stdout))
	var first line
	if err := lines.Decode(&first); err != nil {
		t.Fatalf("the server has not started: %v\n%s", err, p.stderr)
	}
	p.plain, p.tls = first.Plain, first.TLS
	for _, addr := range []string{p.plain, p.tls} {
		p.proxies[addr] = startProxy(t, addr)
	}
	go p.read(lines)
	return p
}

func (p *process) read(lines *json.Decoder) {
	defer close(p.done)
	for {
		var l line
		if lines.Decode(&l) != nil {
			return
		}
		switch {
		case l.Usage:
			p.usage <- l.Left
		case l.Report != nil:
			p.deliver(l.Report)
		}
	}
}

func (p *process) deliver(r *report) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case p.reports[r.ID] <- r: // a nil channel is never ready
	default:
		p.strange = append(p.strange, fmt.Sprintf("%+v", *r))
	}
}

// expect prepares for the report of a script.
func (p *process) expect(id int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reports[id] = make(chan *report, 1)
}

// awaitReport returns the report of a script, or nil if there is none. It returns a report once.
func (p *process) awaitReport(id int) *report {
	p.mu.Lock()
	reports := p.reports[id]
	p.mu.Unlock()
	select {
	case r := <-reports:
		return r
	default:
	}
	select {
	case r := <-reports:
		return r
	case <-p.done:
	case <-time.After(patience):
	}
	return nil
}

// shutDown lets the server close all connections.
func (p *process) shutDown() { fmt.Fprintln(p.input, "shut down") }

// stop ends the process after shutDown, and checks that nothing is left of the connections.
func (p *process) stop(t *testing.T) {
	t.Helper()
	select {
	case left := <-p.usage:
		if left != "" {
			t.Errorf("the connections have ended, but these are left: %s", left)
		}
	case <-p.done:
		t.Error("the server has ended before its connections")
	case <-time.After(patience):
		t.Errorf("the server has not answered within %v", patience)
		p.cmd.Process.Signal(syscall.SIGQUIT) // shows what its goroutines do
	}
	p.input.Close()
	<-p.done
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("the server has ended with %v", err)
	}
	if text := p.stderr.String(); text != "" {
		t.Errorf("the server has written this, want nothing:\n%s", text)
	}
	for _, r := range p.strange {
		t.Errorf("the server has reported the end of a connection that no script has, or twice: %s", r)
	}
	for _, proxy := range p.proxies {
		proxy.close()
	}
	p.stalls.stop()
}

// A capture keeps the beginning of what a process writes.
type capture struct {
	mu   sync.Mutex
	text strings.Builder
}

const maxCapture = 20_000

func (c *capture) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text.Write(b[:min(len(b), maxCapture-c.text.Len())])
	return len(b), nil
}

func (c *capture) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}
