package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"time"

	"github.com/f44ffc3b/websocket/benchmarks/load"
)

// A job is the task of a load generator. It gets the job as a line of JSON on its standard
// input.
type job struct {
	Workload load.Workload
	Addr     string
	Raw      bool
	Warmup   load.Limit
	Counted  load.Limit
}

// An outcome is the answer of a load generator, as a line of JSON. The load generator
// sends an empty outcome when it is connected and has warmed up. Then it waits for
// another line, runs the counted part and sends its outcome.
type outcome struct {
	Messages int
	Received int64 // bytes, on connections with compression
	Elapsed  time.Duration
	CPU      time.Duration
	P99      time.Duration // of the deliveries of a broadcast
	Error    string
	Blocked  bool // Error is load.ErrBlocked
}

// generate runs the process of a load generator. It keeps its connections open until its
// input ends.
func generate() error {
	time.AfterFunc(childTimeout, func() { os.Exit(1) })
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
		return out.Encode(failed(err))
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

// prepare connects and warms up. The warm-up compares every answer byte for byte. Idle
// connections have no warm-up, because the counted part is their first echo.
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

// measure runs the counted part.
func measure(g *load.Generator, l load.Limit, verify bool) outcome {
	start, cpu, received := time.Now(), cpuTime(), g.Received()
	n, err := g.Run(l, verify)
	o := outcome{Messages: n, Elapsed: time.Since(start), CPU: cpuTime() - cpu, Received: g.Received() - received}
	if err != nil {
		return failed(err)
	}
	o.P99 = g.P99()
	return o
}

func failed(err error) outcome {
	return outcome{Error: err.Error(), Blocked: errors.Is(err, load.ErrBlocked)}
}
