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

// A process is a child of this one: the same binary as a server or as the load
// generator. They talk in lines.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out chan string // closed when the child has closed its output
}

// spawn starts a child on a core of its own.
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
			return "", errors.New("the child has ended")
		}
		return s, nil
	case <-time.After(2 * time.Minute):
		return "", errors.New("the child does not answer")
	}
}

// ask sends a line and decodes the answer into v.
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

// stop ends the child, which has nothing left to do.
func (p *process) stop() {
	p.cmd.Process.Kill()
	for range p.out {
	}
	p.cmd.Wait()
}
