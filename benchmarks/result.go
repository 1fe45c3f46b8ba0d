package main

import (
	"encoding/json"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/f44ffc3b/websocket/benchmarks/load"
	"github.com/f44ffc3b/websocket/benchmarks/servers"
)

// A Sample holds the figures of one run of a contestant in a workload. In a handshake
// workload a message stands for a handshake. In a broadcast workload it stands for the
// delivery of a message to one connection.
type Sample struct {
	CPU       float64 `json:"cpu_us,omitempty"`       // CPU time of the server per message, in microseconds
	Rate      float64 `json:"per_second,omitempty"`   // messages per second
	Allocs    float64 `json:"allocs"`                 // allocations per message
	Bytes     float64 `json:"bytes"`                  // bytes allocated per message
	Generator float64 `json:"generator_us,omitempty"` // CPU time of the load generator per message, in microseconds
	Fresh     float64 `json:"fresh_kib,omitempty"`    // resident memory per new idle connection, in KiB
	Used      float64 `json:"used_kib,omitempty"`     // resident memory per idle connection after one echo, in KiB
	P99       float64 `json:"p99_us,omitempty"`       // 99 % of the deliveries of a broadcast took at most so many microseconds
	Wire      float64 `json:"wire_bytes,omitempty"`   // with compression: bytes that the server sends per message, with the headers of frames
	Ratio     float64 `json:"wire_ratio,omitempty"`   // Wire divided by the size of the messages
	Quiet     float64 `json:"quiet_kib,omitempty"`    // resident memory per connection that has been quiet, in KiB
	Blocked   bool    `json:"blocked,omitempty"`      // the broadcast waited for connections that are not read; no other figures
}

// metrics has a function for each field of a Sample.
var metrics = []func(*Sample) *float64{
	func(s *Sample) *float64 { return &s.CPU },
	func(s *Sample) *float64 { return &s.Rate },
	func(s *Sample) *float64 { return &s.Allocs },
	func(s *Sample) *float64 { return &s.Bytes },
	func(s *Sample) *float64 { return &s.Generator },
	func(s *Sample) *float64 { return &s.Fresh },
	func(s *Sample) *float64 { return &s.Used },
	func(s *Sample) *float64 { return &s.P99 },
	func(s *Sample) *float64 { return &s.Wire },
	func(s *Sample) *float64 { return &s.Ratio },
	func(s *Sample) *float64 { return &s.Quiet },
}

// median returns the median of each field. A broadcast that has blocked in one round can
// block, so its median is blocked.
func median(samples []Sample) (m Sample) {
	if slices.ContainsFunc(samples, func(s Sample) bool { return s.Blocked }) {
		return Sample{Blocked: true}
	}
	for _, metric := range metrics {
		var values []float64
		for _, s := range samples {
			values = append(values, *metric(&s))
		}
		slices.Sort(values)
		n := len(values)
		*metric(&m) = (values[(n-1)/2] + values[n/2]) / 2
	}
	return m
}

// A Result holds the figures of a contestant in a workload.
type Result struct {
	Contestant string   `json:"contestant"`
	Workload   string   `json:"workload"`
	Group      string   `json:"group"`
	Conns      int      `json:"connections,omitempty"`
	Baseline   string   `json:"baseline"`
	Median     Sample   `json:"median"`
	Samples    []Sample `json:"samples"`

	slow bool // the figures are ratios, see slowResults
}

// appendResults appends a Result for each contestant that has samples.
func appendResults(rs []Result, cs []servers.Contestant, w load.Workload, baseline string, samples map[string][]Sample) []Result {
	for _, c := range cs {
		if s := samples[c.Name]; len(s) > 0 {
			rs = append(rs, Result{
				Contestant: c.Name, Workload: w.Name, Group: w.Group, Conns: w.Conns,
				Baseline: baseline, Median: median(s), Samples: s,
			})
		}
	}
	return rs
}

// A Report holds all figures of one run of this program, and the versions and the machine
// that they depend on.
type Report struct {
	Go       string            `json:"go"`
	System   string            `json:"system"`
	Cores    int               `json:"cores"`
	Rounds   int               `json:"rounds"`
	Modules  map[string]string `json:"modules"`
	Race     []Result          `json:"race,omitempty"`
	InMemory []Result          `json:"inmemory,omitempty"`
}

func newReport(rounds int) Report {
	r := Report{
		Go:     runtime.Version(),
		System: runtime.GOOS + "/" + runtime.GOARCH,
		Cores:  runtime.NumCPU(), Rounds: rounds,
		Modules: make(map[string]string),
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			r.Modules[m.Path] = m.Version
		}
	}
	return r
}

// write writes the report to a file as JSON.
func (r Report) write(file string) error {
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}

// readReports reads and merges the reports in files, a list that is separated by commas.
func readReports(files string) (Report, error) {
	var all Report
	for _, file := range strings.Split(files, ",") {
		data, err := os.ReadFile(file)
		if err != nil {
			return all, err
		}
		race, inMemory := all.Race, all.InMemory
		all = Report{}
		if err := json.Unmarshal(data, &all); err != nil {
			return all, err
		}
		all.Race = append(race, all.Race...)
		all.InMemory = append(inMemory, all.InMemory...)
	}
	return all, nil
}
