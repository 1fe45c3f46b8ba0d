package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// A process is a child process: this program as a server or as a load generator. Parent and
// child exchange lines.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out chan string // closed when the child has closed its output
}

// spawn starts a child on the last core, or on the first.
func spawn(lastCore bool, args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := startOn(cmd, lastCore); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, in: in, out: make(chan string, 1)}
	go p.readLines(out)
	return p, nil
}

// readLines sends the lines of the child's output to p.out.
func (p *process) readLines(r io.Reader) {
	defer close(p.out)
	for lines := bufio.NewScanner(r); lines.Scan(); {
		p.out <- lines.Text()
	}
}

// line waits for the next line of the child.
func (p *process) line() (string, error) {
	select {
	case s, ok := <-p.out:
		if !ok {
			return "", errors.New("the child process has ended; its standard error says why")
		}
		return s, nil
	case <-time.After(2 * time.Minute):
		return "", errors.New("the child process has not answered for 2 minutes")
	}
}

// ask sends a line to the child and decodes the JSON of its answer into v.
func (p *process) ask(line string, v any) error {
	if _, err := fmt.Fprintln(p.in, line); err != nil {
		return err
	}
	s, err := p.line()
	if err != nil {
		return err
	}
	return json.NewDecoder(strings.NewReader(s)).Decode(v)
}

// stop kills the child and waits until it has ended.
func (p *process) stop() {
	p.cmd.Process.Kill()
	for range p.out {
	}
	p.cmd.Wait()
}
