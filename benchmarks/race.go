package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/f44ffc3b/websocket/benchmarks/load"
	"github.com/f44ffc3b/websocket/benchmarks/servers"
)

// A race runs every contestant in every workload, in several rounds.
type race struct {
	contestants []servers.Contestant
	workloads   []load.Workload
	rounds      int
	counted     load.Limit
	profile     string
}

// run runs the race. Each round runs all contestants in turn, so that a period in which the
// machine is slow affects all of them. After an error it returns the results so far too, because
// a race takes long.
func (r race) run() ([]Result, error) {
	var results []Result
	for _, w := range r.workloads {
		w, note := fitFiles(w)
		if w.Conns == 0 {
			fmt.Fprintf(os.Stderr, "%s: left out%s\n", w.Name, note)
			continue
		}
		samples := make(map[string][]Sample)
		rounds := r.rounds
		if w.Kind == load.Idle {
			rounds = 1 // the run takes long, and other processes do not change its memory
		}
		for round := range rounds {
			fmt.Fprintf(os.Stderr, "%s, round %d of %d%s\n", w.Name, round+1, rounds, note)
			for _, c := range r.contestants {
				if !w.Admits(c) {
					continue
				}
				s, err := r.runOnce(c, w)
				if err != nil {
					return results, fmt.Errorf("%s, %s: %w", w.Name, c.Name, err)
				}
				samples[c.Name] = append(samples[c.Name], s)
			}
		}
		results = appendResults(results, r.contestants, w, w.Baseline(), samples)
	}
	return results, nil
}

// fitFiles reduces the connections of w to the limit on open files. It returns a note if it
// did. A broadcast to fewer connections would be another workload, so it gets none.
func fitFiles(w load.Workload) (load.Workload, string) {
	if most := maxFiles() - 100; w.Conns > most {
		if w.Kind == load.Broadcast {
			note := fmt.Sprintf(" (it needs %d open files, and the limit is %d: see ulimit -n)", w.Conns+100, maxFiles())
			w.Conns = 0
			return w, note
		}
		note := fmt.Sprintf(" (only %d connections, because of the limit on open files)", most)
		w.Conns = most
		return w, note
	}
	return w, ""
}

// runOnce runs one contestant in one workload once.
func (r race) runOnce(c servers.Contestant, w load.Workload) (s Sample, err error) {
	server, err := spawn(true, "-serve", c.Name, "-mode", string(w.ModeFor(c)),
		fmt.Sprintf("-keep=%t", w.Kind != load.Idle), fmt.Sprintf("-smallbuffers=%t", w.Kind == load.Broadcast),
		"-protocol", string(w.Protocol), "-cpuprofile", r.profile)
	if err != nil {
		return s, err
	}
	defer server.stop()
	addr, err := server.line()
	if err != nil {
		return s, err
	}
	client, err := spawn(false, "-generate")
	if err != nil {
		return s, err
	}
	defer client.stop()
	if w.Kind == load.Idle {
		return idle(server, client, r.job(c, w, addr))
	}
	s, err = busy(server, client, r.job(c, w, addr))
	if errors.Is(err, load.ErrBlocked) {
		fmt.Fprintf(os.Stderr, "%s, %s: %v\n", w.Name, c.Name, err)
		return Sample{Blocked: true}, nil
	}
	return s, err
}

// job returns the load generator's job. The warm-up is a quarter of the counted part.
func (r race) job(c servers.Contestant, w load.Workload, addr string) job {
	warmup := load.Limit{Messages: (r.counted.Messages + 3) / 4, Duration: r.counted.Duration / 4}
	return job{Workload: w, Addr: addr, Raw: c.Raw, Warmup: warmup, Counted: r.counted}
}

// assign sends a job to a load generator and waits until it has warmed up.
func (p *process) assign(j job) error {
	line, err := json.Marshal(j)
	if err != nil {
		return err
	}
	_, err = p.outcome(string(line))
	return err
}

// outcome sends a line to a load generator and returns the outcome that it answers.
func (p *process) outcome(line string) (outcome, error) {
	var o outcome
	if err := p.ask(line, &o); err != nil {
		return o, err
	}
	if o.Blocked {
		return o, blockedError(o.Error)
	}
	if o.Error != "" {
		return o, errors.New(o.Error)
	}
	return o, nil
}

// A blockedError is a load.ErrBlocked that another process has seen.
type blockedError string

func (e blockedError) Error() string { return string(e) }
func (e blockedError) Unwrap() error { return load.ErrBlocked }

// busy measures the server's CPU time and allocations per message.
func busy(server, client *process, j job) (Sample, error) {
	var before, after snapshot
	if err := client.assign(j); err != nil {
		return Sample{}, err
	}
	if err := server.ask(beginCommand, &before); err != nil {
		return Sample{}, err
	}
	o, err := client.outcome("go")
	if err != nil {
		return Sample{}, err
	}
	if err := server.ask(endCommand, &after); err != nil {
		return Sample{}, err
	}
	n := float64(o.Messages)
	wire := float64(o.Received) / n
	return Sample{
		CPU:       micros(after.CPU-before.CPU) / n,
		Rate:      n / o.Elapsed.Seconds(),
		Allocs:    float64(after.Mallocs-before.Mallocs) / n,
		Bytes:     float64(after.Bytes-before.Bytes) / n,
		Generator: micros(o.CPU) / n,
		P99:       micros(o.P99),
		Wire:      wire,
		Ratio:     wire / max(1, j.Workload.PayloadSize()), // a handshake has no payload
	}, nil
}

// idle measures the server's memory per idle connection: for new connections, after the echoes
// on each, and again when they have been quiet.
func idle(server, client *process, j job) (Sample, error) {
	var empty, fresh, used snapshot
	if err := server.ask(settleCommand, &empty); err != nil {
		return Sample{}, err
	}
	if err := client.assign(j); err != nil {
		return Sample{}, err
	}
	if err := server.ask(settleCommand, &fresh); err != nil {
		return Sample{}, err
	}
	if _, err := client.outcome("go"); err != nil {
		return Sample{}, err
	}
	if err := server.ask(settleCommand, &used); err != nil {
		return Sample{}, err
	}
	perConn := func(s snapshot) float64 {
		return float64(s.Resident-empty.Resident) / 1024 / float64(j.Workload.Conns)
	}
	s := Sample{Fresh: perConn(fresh), Used: perConn(used)}
	if j.Workload.Quiet > 0 {
		var quiet snapshot
		time.Sleep(j.Workload.Quiet)
		if err := server.ask(settleCommand, &quiet); err != nil {
			return Sample{}, err
		}
		s.Quiet = perConn(quiet)
	}
	return s, nil
}

// micros returns d in microseconds.
func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
