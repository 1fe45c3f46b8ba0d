package main

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

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
			if w.Admits(c) && w.Slow == 0 {
				t.Run(w.Name+"/"+c.Name, func(t *testing.T) { fewMessages(t, w, c) })
			}
		}
	}
}

// serveForTest starts c and returns its address.
func serveForTest(t *testing.T, w load.Workload, c servers.Contestant) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if w.Kind == load.Broadcast {
		ln = servers.SmallBuffers(ln)
	}
	// The listener stays open until the process ends, because nbio's accept loop spins on
	// a closed listener.
	go c.Serve(ln, w.ModeFor(c), w.Protocol)
	return ln.Addr().String()
}

func fewMessages(t *testing.T, w load.Workload, c servers.Contestant) {
	g, err := load.Connect(w, serveForTest(t, w, c), c.Raw)
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

// TestSlowMembers runs each contestant with a member that does not read. A loop of writes
// blocks, which must end the run. A broadcast with queues goes on, also when a queue is full.
func TestSlowMembers(t *testing.T) {
	for _, w := range load.Workloads() {
		if w.Slow == 0 || w.Conns > 2000 {
			continue
		}
		w.Conns = 4
		for _, c := range servers.All {
			if !w.Admits(c) {
				continue
			}
			queues := w.Service == servers.QueuePath || c.Kind == servers.Own || c.Name == "gws" || c.Name == "nbio"
			t.Run(w.Name+"/"+c.Name, func(t *testing.T) {
				if !queues {
					w.Stall = 50 * time.Millisecond
				}
				n, err := slowRun(w, serveForTest(t, w, c))
				if queues && (err != nil || n < slowMessages) {
					t.Errorf("got %d deliveries and the error %v, want %d and none", n, err, slowMessages)
				}
				if !queues && !errors.Is(err, load.ErrBlocked) {
					t.Errorf("got %d deliveries and the error %v, want %v", n, err, load.ErrBlocked)
				}
			})
		}
	}
}

// slowMessages are more than any queue holds.
const slowMessages = 3 * 400

func slowRun(w load.Workload, addr string) (int, error) {
	g, err := load.Connect(w, addr, false)
	if err != nil {
		return 0, err
	}
	defer g.Close()
	return g.Run(load.Limit{Messages: slowMessages}, true)
}

func ownAndGorilla(t *testing.T) []servers.Contestant {
	gorilla, err := servers.Find("gorilla")
	if err != nil {
		t.Fatal(err)
	}
	return []servers.Contestant{servers.All[0], gorilla}
}

// TestBlockedProcess runs a blocked broadcast with its processes: the table says so.
func TestBlockedProcess(t *testing.T) {
	var ws []load.Workload
	for _, name := range []string{"broadcast-1K-2000c", "broadcast-1K-2000c" + load.SlowSuffix} {
		w, err := load.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		w.Conns = 10
		if w.Slow > 0 {
			w.Stall = 300 * time.Millisecond
		}
		ws = append(ws, w)
	}
	r := race{contestants: ownAndGorilla(t), workloads: ws, rounds: 1, counted: load.Limit{Messages: 100}}
	report := newReport(r.rounds)
	var err error
	if report.Race, err = r.run(); err != nil {
		t.Fatal(err)
	}
	last := report.Race[len(report.Race)-1]
	if last.Contestant != "gorilla" || !last.Median.Blocked || last.Median.CPU != 0 {
		t.Errorf("got %+v, want a blocked gorilla without figures", last)
	}
	for _, title := range []string{"p99 of the time", "p99 with slow", "deliveries per second with slow"} {
		_, table, _ := strings.Cut(report.markdown(), "### Broadcast: "+title)
		table, _, _ = strings.Cut(table, "###")
		_, row, _ := strings.Cut(table, "\n| broadcast-1K-2000c-1%slow | ")
		cells := strings.Split(row, " | ")
		if len(cells) < 2 || cells[0] == "blocked" || !strings.HasPrefix(cells[1], "blocked") {
			t.Errorf("%s: got the cells %q, want a figure and \"blocked\"", title, cells)
		}
	}
}

// TestSlowResults checks the figures that are relative to the run without slow members.
func TestSlowResults(t *testing.T) {
	result := func(workload string, s Sample) Result {
		return Result{Contestant: "gws", Workload: workload, Median: s}
	}
	got := slowResults([]Result{
		result("a", Sample{P99: 100, Rate: 50}),
		result("a"+load.SlowSuffix, Sample{P99: 110, Rate: 40}),
		result("alone"+load.SlowSuffix, Sample{P99: 110, Rate: 40}),
	})
	if len(got) != 1 || got[0].Median.P99 != 1.1 || got[0].Median.Rate != 0.8 {
		t.Errorf("got %+v, want one result with 1.1 and 0.8", got)
	}
}

// TestFitFiles checks what happens to workloads that need more files than the limit.
func TestFitFiles(t *testing.T) {
	many := maxFiles()
	tests := map[string]struct {
		kind        load.Kind
		conns, want int
		note        bool
	}{
		"a broadcast that fits":                 {load.Broadcast, 10, 10, false},
		"a broadcast that does not is left out": {load.Broadcast, many, 0, true},
		"idle connections are reduced":          {load.Idle, many, many - 100, true},
	}
	for name, tt := range tests {
		w, note := fitFiles(load.Workload{Kind: tt.kind, Conns: tt.conns})
		if w.Conns != tt.want || (note != "") != tt.note {
			t.Errorf("%s: got %d connections and the note %q, want %d", name, w.Conns, note, tt.want)
		}
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
		contestants: ownAndGorilla(t), workloads: []load.Workload{echo, idle}, rounds: 2,
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

// After an error in the middle of a race, the results before it are not lost.
func TestRace_returns_results_with_an_error(t *testing.T) {
	small, err := load.Find("echo-16B-1c")
	if err != nil {
		t.Fatal(err)
	}
	large := small
	large.Name, large.Size = "too large", 4<<20 // more than the servers accept
	r := race{
		contestants: ownAndGorilla(t), workloads: []load.Workload{small, large}, rounds: 1,
		counted: load.Limit{Messages: 1},
	}
	results, err := r.run()
	if err == nil || !strings.Contains(err.Error(), large.Name) {
		t.Errorf("got error %v, want one with %q", err, large.Name)
	}
	if len(results) != 2 || results[0].Workload != small.Name {
		t.Errorf("got %d results, want those of %s", len(results), small.Name)
	}
}

func TestRounds(t *testing.T) {
	results := func(samples ...int) (rs []Result) {
		for _, n := range samples {
			rs = append(rs, Result{Samples: make([]Sample, n)})
		}
		return rs
	}
	tests := map[string]struct {
		race, inMemory []Result
		want           string
	}{
		"all alike":         {results(5, 5), nil, "5"},
		"different numbers": {results(3, 9, 1), nil, "1 to 9"},
		"with in-memory":    {results(5), results(7, 7), "5, and 7 for the library alone"},
		"only in-memory":    {nil, results(7), "7 for the library alone"},
	}
	for name, tt := range tests {
		if got := (Report{Race: tt.race, InMemory: tt.inMemory}).rounds(); got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}
