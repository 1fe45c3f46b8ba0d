package main

import (
	"net"
	"os"
	"strings"
	"testing"

	"github.com/f44ffc3b/websocket/benchmarks/inmemory"
	"github.com/f44ffc3b/websocket/benchmarks/load"
	"github.com/f44ffc3b/websocket/benchmarks/servers"
)

// TestMain lets the test binary also run as a server and as a load generator.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "-serve" || os.Args[1] == "-generate") {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestEveryContestant runs each contestant in each workload for a few messages and
// compares every answer byte for byte.
func TestEveryContestant(t *testing.T) {
	for _, w := range load.Workloads() {
		// A few connections are enough to test what a workload does.
		w.Conns = min(w.Conns, 3)
		for _, c := range servers.All {
			if w.Admits(c) {
				t.Run(w.Name+"/"+c.Name, func(t *testing.T) { fewMessages(t, w, c) })
			}
		}
	}
}

func fewMessages(t *testing.T, w load.Workload, c servers.Contestant) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// The listener stays open until the process ends, because nbio's accept loop spins on
	// a closed listener.
	go c.Serve(ln, w.ModeFor(c))
	g, err := load.Connect(w, ln.Addr().String(), c.Raw)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	const least = 6
	n, err := g.Run(load.Limit{Messages: least}, true)
	if err != nil {
		t.Fatal(err)
	}
	if want := min(least, w.Conns*max(1, w.Burst)); n < want {
		t.Errorf("got %d messages, want %d or more", n, want)
	}
}

// TestProcesses runs a short race with its processes and its tables.
func TestProcesses(t *testing.T) {
	echo, err := load.Find("echo-1K-64c")
	if err != nil {
		t.Fatal(err)
	}
	idle, err := load.Find("idle-10000c")
	if err != nil {
		t.Fatal(err)
	}
	idle.Conns = 10
	r := race{
		contestants: servers.All[:2], workloads: []load.Workload{echo, idle}, rounds: 2,
		counted: load.Limit{Messages: 200},
	}
	report := newReport(r.rounds)
	if report.Race, err = r.run(); err != nil {
		t.Fatal(err)
	}
	if report.InMemory, err = r.runInMemory(inmemory.Cases()[:1]); err != nil {
		t.Fatal(err)
	}
	md := report.markdown()
	for _, row := range []string{"\n| echo-1K-64c | ", "\n| idle-10000c | ", "\n| binary-16B | "} {
		if !strings.Contains(md, row) {
			t.Errorf("got no row %q in:\n%s", row, md)
		}
	}
	if m := report.Race[0].Median; m.CPU <= 0 || m.Rate <= 0 {
		t.Errorf("got %+v, want a CPU time and a rate above 0", m)
	}
}
