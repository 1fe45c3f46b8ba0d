package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/f44ffc3b/websocket/benchmarks/load"
	"github.com/f44ffc3b/websocket/benchmarks/servers"
)

// A table shows one metric, with a row for each workload and a column for each contestant.
type table struct {
	title  string
	metric func(Sample) float64
	ratios bool // show this library's figure divided by those of the best peer and the baseline
	kind   kind
}

// A kind of results is shown in the same tables.
type kind int

const (
	busyKind      kind = 1 << iota // every workload with messages
	idleKind                       // idle connections
	broadcastKind                  // broadcasts, which have a latency
	slowKind                       // comparisons by slowResults
	deflateKind                    // messages with compression
	quietKind                      // idle connections with compression
	quietTLSKind                   // idle connections over TLS
)

// kinds returns the kinds of r.
func kinds(r Result) kind {
	switch {
	case r.slow:
		return slowKind
	case r.Median.Quiet != 0 && strings.HasPrefix(r.Workload, "tls-"):
		return quietTLSKind
	case r.Median.Quiet != 0:
		return quietKind
	case r.Median.Wire != 0:
		return busyKind | deflateKind
	case r.Median.Fresh != 0 || r.Median.Used != 0:
		return idleKind
	case r.Median.P99 != 0 || r.Median.Blocked:
		return busyKind | broadcastKind
	}
	return busyKind
}

var raceTables = []table{
	{"Server CPU, µs per message", func(s Sample) float64 { return s.CPU }, true, busyKind},
	{"Messages per second", func(s Sample) float64 { return s.Rate }, false, busyKind},
	{"Allocations per message", func(s Sample) float64 { return s.Allocs }, false, busyKind},
	{"Bytes allocated per message", func(s Sample) float64 { return s.Bytes }, false, busyKind},
	{"Resident KiB per idle connection, new", func(s Sample) float64 { return s.Fresh }, true, idleKind},
	{"Resident KiB per idle connection, after one echo", func(s Sample) float64 { return s.Used }, true, idleKind},
	{"Compression: bytes on the wire per message", func(s Sample) float64 { return s.Wire }, true, deflateKind},
	{"Compression: bytes on the wire ÷ bytes of the messages", func(s Sample) float64 { return s.Ratio }, false, deflateKind},
	{"Compression: resident KiB per connection, new", func(s Sample) float64 { return s.Fresh }, true, quietKind},
	{"Compression: resident KiB per connection, after its echoes", func(s Sample) float64 { return s.Used }, true, quietKind},
	{"Compression: resident KiB per connection, when it has been quiet", func(s Sample) float64 { return s.Quiet }, true, quietKind},
	{"TLS: resident KiB per idle connection, new", func(s Sample) float64 { return s.Fresh }, true, quietTLSKind},
	{"TLS: resident KiB per idle connection, after one echo", func(s Sample) float64 { return s.Used }, true, quietTLSKind},
	{"TLS: resident KiB per idle connection, when it has been quiet", func(s Sample) float64 { return s.Quiet }, true, quietTLSKind},
	{"Broadcast: p99 of the time of a delivery, ms", func(s Sample) float64 { return s.P99 / 1000 }, true, broadcastKind},
	{"Broadcast: p99 with slow members ÷ p99 without", func(s Sample) float64 { return s.P99 }, false, slowKind},
	{"Broadcast: deliveries per second with slow members ÷ without", func(s Sample) float64 { return s.Rate }, false, slowKind},
}

var memoryTables = []table{
	{"Library alone: ns per message", func(s Sample) float64 { return s.CPU * 1000 }, true, busyKind},
	{"Library alone: allocations per message", func(s Sample) float64 { return s.Allocs }, false, busyKind},
	{"Library alone: bytes allocated per message", func(s Sample) float64 { return s.Bytes }, false, busyKind},
}

// markdown returns all tables.
func (r Report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s on %s, %d cores. Each figure is the median of its rounds: %s.\n", r.Go, r.System, r.Cores, r.rounds())
	results := append(slices.Clone(r.Race), slowResults(r.Race)...)
	for _, t := range raceTables {
		t.write(&b, results)
	}
	for _, t := range memoryTables {
		t.write(&b, r.InMemory)
	}
	return b.String()
}

// slowResults divides the figures of each workload with slow members by the figures of the
// same workload without them.
func slowResults(rs []Result) []Result {
	var slow []Result
	for _, r := range rs {
		name, ok := strings.CutSuffix(r.Workload, load.SlowSuffix)
		if !ok {
			continue
		}
		i := slices.IndexFunc(rs, func(b Result) bool { return b.Workload == name && b.Contestant == r.Contestant })
		if i < 0 || rs[i].Median.Rate == 0 || rs[i].Median.P99 == 0 {
			continue
		}
		r.slow = true
		r.Median.P99 /= rs[i].Median.P99
		r.Median.Rate /= rs[i].Median.Rate
		slow = append(slow, r)
	}
	return slow
}

// rounds describes how many rounds there were. It counts samples, because the race and the library
// alone can have different numbers of rounds, and so can workloads.
func (r Report) rounds() string {
	var parts []string
	if len(r.Race) > 0 {
		parts = append(parts, roundsOf(r.Race))
	}
	if len(r.InMemory) > 0 {
		parts = append(parts, roundsOf(r.InMemory)+" for the library alone")
	}
	return strings.Join(parts, ", and ")
}

// roundsOf returns the number of samples of each result, or the smallest and the largest.
func roundsOf(rs []Result) string {
	bySamples := func(a, b Result) int { return len(a.Samples) - len(b.Samples) }
	least, most := len(slices.MinFunc(rs, bySamples).Samples), len(slices.MaxFunc(rs, bySamples).Samples)
	if least == most {
		return fmt.Sprint(most)
	}
	return fmt.Sprintf("%d to %d", least, most)
}

// write writes the table, unless it would be empty: idle connections have no CPU time, and
// echoes have no memory for each connection.
func (t table) write(b *strings.Builder, all []Result) {
	rs := slices.DeleteFunc(slices.Clone(all), func(r Result) bool { return t.empty(r) })
	if len(rs) == 0 {
		return
	}
	names := contestantNames(rs)
	header := append([]string{"workload"}, names...)
	if t.ratios {
		header = append(header, "÷ best peer", "÷ baseline")
	}
	fmt.Fprintf(b, "\n### %s\n\n| %s |\n|---%s|\n", t.title, strings.Join(header, " | "), strings.Repeat("|---:", len(header)-1))
	for _, row := range rowsOf(rs) {
		cells := []string{row[0].Workload}
		for _, name := range names {
			cells = append(cells, t.cell(row, name))
		}
		if t.ratios {
			peer, baseline := t.rivals(row)
			cells = append(cells, t.ratio(row, peer), t.ratio(row, baseline))
		}
		fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
	}
}

func (t table) empty(r Result) bool { return kinds(r)&t.kind == 0 }

// contestantNames returns the names of the contestants in rs, in the order of servers.All.
func contestantNames(rs []Result) []string {
	var names []string
	for _, c := range servers.All {
		if slices.ContainsFunc(rs, func(r Result) bool { return r.Contestant == c.Name }) {
			names = append(names, c.Name)
		}
	}
	return names
}

// rowsOf splits rs by workload.
func rowsOf(rs []Result) [][]Result {
	var rows [][]Result
	for i, r := range rs {
		if i == 0 || r.Workload != rs[i-1].Workload {
			rows = append(rows, nil)
		}
		rows[len(rows)-1] = append(rows[len(rows)-1], r)
	}
	return rows
}

func find(row []Result, name string) (Result, bool) {
	i := slices.IndexFunc(row, func(r Result) bool { return r.Contestant == name })
	if i < 0 {
		return Result{}, false
	}
	return row[i], true
}

func (t table) cell(row []Result, name string) string {
	r, ok := find(row, name)
	if !ok {
		return "–"
	}
	return t.figure(r)
}

func (t table) figure(r Result) string {
	if r.Median.Blocked {
		return "blocked"
	}
	return number(t.metric(r.Median))
}

// rivals returns the names of the best peer of a row and of its baseline. If a workload
// sends text, only peers that check text count.
func (t table) rivals(row []Result) (peer, baseline string) {
	for _, r := range row {
		c, err := servers.Find(r.Contestant)
		if err != nil || c.Kind != servers.Peer || r.Median.Blocked || isText(r) && !c.ChecksUTF8 {
			continue
		}
		if best, ok := find(row, peer); !ok || t.metric(r.Median) < t.metric(best.Median) {
			peer = r.Contestant
		}
	}
	return peer, row[0].Baseline
}

func isText(r Result) bool {
	return strings.HasPrefix(r.Workload, "ascii") || strings.HasPrefix(r.Workload, "multibyte")
}

// ratio returns this library's figure divided by the rival's.
func (t table) ratio(row []Result, rival string) string {
	own, ok := find(row, servers.All[0].Name)
	other, found := find(row, rival)
	if !ok || !found || own.Median.Blocked || t.metric(other.Median) == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f (%s)", t.metric(own.Median)/t.metric(other.Median), rival)
}

// number formats v with about three significant digits.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 0.995 || v < 0.005:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// The generated part of performance.md is between these lines.
const (
	beginMark = "<!-- generated: begin -->\n"
	endMark   = "<!-- generated: end -->"
)

// updateDocs writes the tables and plots of the reports in files.
func updateDocs(files, docs string) error {
	r, err := readReports(files)
	if err != nil {
		return err
	}
	plots, err := r.plot(docs)
	if err != nil {
		return err
	}
	page := filepath.Join(docs, "performance.md")
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, begins := strings.Cut(string(text), beginMark)
	_, after, ends := strings.Cut(rest, endMark)
	if !begins || !ends {
		return fmt.Errorf("%s has no lines %q and %q", page, beginMark, endMark)
	}
	return os.WriteFile(page, []byte(before+beginMark+"\n"+r.markdown()+plots+"\n"+endMark+after), 0o644)
}
