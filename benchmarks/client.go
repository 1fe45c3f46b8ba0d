package main

import (
	"bufio"
	"encoding/json"
	"os"
	"time"

	"github.com/f44ffc3b/websocket/benchmarks/load"
)

// A job is what the load generator is told, in JSON, on its standard input.
type job struct {
	Workload load.Workload
	Addr     string
	Raw      bool
	Warmup   load.Limit
	Counted  load.Limit
}

// An outcome is what the load generator answers: once when it is connected and has
// warmed up, and once, after a line that tells it to go on, when the counted part
// is over.
type outcome struct {
	Messages int
	Elapsed  time.Duration
	CPU      time.Duration
	Error    string
}

// generate is the load generator's process. It keeps its connections until the
// input ends.
func generate() error {
	time.AfterFunc(childLife, func() { os.Exit(1) })
	in, out := bufio.NewReader(os.Stdin), json.NewEncoder(os.Stdout)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return err
	}
	var j job
	if err := json.Unmarshal(line, &j); err != nil {
		return err
	}
	g, err := prepare(j)
	if err != nil {
		return out.Encode(outcome{Error: err.Error()})
	}
	defer g.Close()
	out.Encode(outcome{})
	if _, err := in.ReadBytes('\n'); err != nil {
		return err
	}
	out.Encode(measure(g, j.Counted, j.Workload.Kind == load.Idle))
	in.ReadBytes('\n')
	return nil
}

// prepare connects and warms up, where every answer is compared. Idle connections
// stay cold: their one echo is what is counted.
func prepare(j job) (*load.Generator, error) {
	g, err := load.Connect(j.Workload, j.Addr, j.Raw)
	if err != nil || j.Workload.Kind == load.Idle {
		return g, err
	}
	if _, err := g.Run(j.Warmup, true); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

func measure(g *load.Generator, l load.Limit, verify bool) outcome {
	start, cpu := time.Now(), cpuTime()
	n, err := g.Run(l, verify)
	o := outcome{Messages: n, Elapsed: time.Since(start), CPU: cpuTime() - cpu}
	if err != nil {
		o.Error = err.Error()
	}
	return o
}
