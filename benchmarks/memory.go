package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"

	"github.com/f44ffc3b/websocket/benchmarks/inmemory"
	"github.com/f44ffc3b/websocket/benchmarks/servers"
)

// An in-memory run without -messages echoes memoryBytes bytes of payload, but not more
// than memoryMessages messages.
const (
	memoryBytes    = 256 << 20
	memoryMessages = 200_000
)

// runInMemory runs the cases without network connections. It measures CPU time, as the
// race does, because CPU time includes the garbage collector and excludes other processes. After
// an error it returns the results so far too.
func (r race) runInMemory(cases []inmemory.Case) ([]Result, error) {
	runtime.GOMAXPROCS(1)
	if err := startProfile(r.profile); err != nil {
		return nil, err
	}
	defer pprof.StopCPUProfile()
	var results []Result
	for _, c := range cases {
		fmt.Fprintln(os.Stderr, c.Name)
		samples := make(map[string][]Sample)
		for range r.rounds {
			for _, s := range r.contestants {
				if !c.Admits(s) {
					continue
				}
				sample, err := r.inMemory(c, s)
				if err != nil {
					return results, fmt.Errorf("%s, %s: %w", c.Name, s.Name, err)
				}
				samples[s.Name] = append(samples[s.Name], sample)
			}
		}
		results = appendResults(results, r.contestants, c.Workload, c.Baseline(), samples)
	}
	return results, nil
}

// inMemory runs one contestant in one case once.
func (r race) inMemory(c inmemory.Case, s servers.Contestant) (Sample, error) {
	n := r.counted.Messages
	if n == 0 {
		n = min(memoryMessages, memoryBytes/c.Size)
	}
	var before, after snapshot
	counted := 0
	runtime.GC()
	err := c.Run(s, n/10, n, func(n int) {
		counted = n
		before = takeSnapshot()
	}, func() { after = takeSnapshot() })
	if err != nil || counted == 0 {
		return Sample{}, err
	}
	messages := float64(counted)
	return Sample{
		CPU:    micros(after.CPU-before.CPU) / messages,
		Allocs: float64(after.Mallocs-before.Mallocs) / messages,
		Bytes:  float64(after.Bytes-before.Bytes) / messages,
	}, nil
}
