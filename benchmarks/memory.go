package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"

	"github.com/f44ffc3b/websocket/benchmarks/inmemory"
	"github.com/f44ffc3b/websocket/benchmarks/servers"
)

// memoryBytes is the payload that an in-memory run echoes if nothing else is said,
// up to memoryMessages.
const (
	memoryBytes    = 256 << 20
	memoryMessages = 200_000
)

// runInMemory is the race without a kernel. The time is that of the processor here,
// too, so that it includes the garbage collector's and excludes the neighbours'.
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
					return nil, fmt.Errorf("%s, %s: %w", c.Name, s.Name, err)
				}
				samples[s.Name] = append(samples[s.Name], sample)
			}
		}
		results = appendResults(results, r.contestants, c.Workload, c.Baseline(), samples)
	}
	return results, nil
}

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
