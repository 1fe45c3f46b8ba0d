// Benchmarks compares this WebSocket library with others for Go, and with hand-written
// servers that do as little work as possible.
//
//	go run .                            the race, over loopback; use Linux for exact figures
//	go run . -inmemory                  the libraries alone, without network connections
//	go run . -list                      the contestants and the workloads
//	go run . -json race.json            the race; also writes the figures as JSON
//	go run . -report race.json,mem.json the tables and plots of docs/performance.md
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"github.com/f44ffc3b/websocket/benchmarks/inmemory"
	"github.com/f44ffc3b/websocket/benchmarks/load"
	"github.com/f44ffc3b/websocket/benchmarks/servers"
)

var flags struct {
	only, workloads    string
	rounds, messages   int
	duration           time.Duration
	inMemory, list     bool
	json, report, docs string
	profile            string
	serve, mode        string
	generate, small    bool
	protocol           string
}

// maxDuration is less than the time before the first ping of any server, because a ping
// would come between the bytes that the load generator counts.
const maxDuration = 20 * time.Second

func main() {
	flag.StringVar(&flags.only, "only", "", "run only these contestants, separated by commas (default all)")
	flag.StringVar(&flags.workloads, "workloads", "", "run only these workloads, separated by commas; * matches any text (default all)")
	flag.IntVar(&flags.rounds, "rounds", 5, "run everything this many times; the tables show the medians")
	flag.IntVar(&flags.messages, "messages", 0, "end a run after this many messages, not after -duration")
	flag.DurationVar(&flags.duration, "duration", 500*time.Millisecond, "length of a run without its warm-up; at most 20s")
	flag.BoolVar(&flags.inMemory, "inmemory", false, "run the libraries alone, without network connections")
	flag.BoolVar(&flags.list, "list", false, "list the contestants and the workloads")
	flag.StringVar(&flags.json, "json", "", "also write the figures to this `file`")
	flag.StringVar(&flags.report, "report", "", "write the tables and plots of these `files` to -docs, and run nothing")
	flag.StringVar(&flags.docs, "docs", "../docs", "the `directory` of performance.md")
	flag.StringVar(&flags.profile, "cpuprofile", "", "write a CPU profile of the server in the counted part to this `file`; each run overwrites it, so select one contestant and workload")
	flag.StringVar(&flags.serve, "serve", "", "for child processes: serve as this contestant")
	flag.StringVar(&flags.mode, "mode", "", "for child processes: the mode of -serve")
	flag.BoolVar(&servers.KeepMessages, "keep", true, "for child processes: whether -serve reuses the buffer of a message")
	flag.StringVar(&flags.protocol, "protocol", "", "for child processes: the protocol of -serve")
	flag.BoolVar(&flags.small, "smallbuffers", false, "for child processes: whether -serve has small send buffers in the sockets")
	flag.BoolVar(&flags.generate, "generate", false, "for child processes: run as the load generator")
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "benchmarks:", err)
		os.Exit(1)
	}
}

func run() error {
	switch {
	case flags.serve != "":
		return serve(flags.serve, servers.Mode(flags.mode), flags.profile)
	case flags.generate:
		return generate()
	case flags.list:
		list()
		return nil
	case flags.report != "":
		return updateDocs(flags.report, flags.docs)
	}
	return compete()
}

// compete runs the race or the in-memory cases, and writes the figures.
func compete() error {
	r := race{
		rounds:  max(1, flags.rounds),
		counted: load.Limit{Messages: flags.messages, Duration: min(flags.duration, maxDuration)},
		profile: flags.profile,
	}
	var err error
	if r.contestants, err = pick(servers.All, flags.only, func(c servers.Contestant) string { return c.Name }); err != nil {
		return err
	}
	report := newReport(r.rounds)
	if flags.inMemory {
		var cases []inmemory.Case
		if cases, err = pick(inmemory.Cases(), flags.workloads, func(c inmemory.Case) string { return c.Name }); err != nil {
			return err
		}
		report.InMemory, err = r.runInMemory(cases)
	} else {
		if r.workloads, err = pick(load.Workloads(), flags.workloads, func(w load.Workload) string { return w.Name }); err != nil {
			return err
		}
		report.Race, err = r.run()
	}
	if err != nil && len(report.InMemory)+len(report.Race) == 0 {
		return err
	}
	fmt.Print(report.markdown())
	if flags.json != "" {
		err = errors.Join(err, report.write(flags.json))
	}
	return err
}

// pick returns the elements of all whose names match one of the patterns.
func pick[T any](all []T, patterns string, name func(T) string) ([]T, error) {
	if patterns == "" {
		return all, nil
	}
	var picked []T
	for _, v := range all {
		for p := range strings.SplitSeq(patterns, ",") {
			// In a pattern, * matches slashes too, because names contain them.
			flat := strings.NewReplacer("/", "|")
			if ok, _ := path.Match(flat.Replace(p), flat.Replace(name(v))); ok {
				picked = append(picked, v)
				break
			}
		}
	}
	if len(picked) == 0 {
		return nil, fmt.Errorf("no name matches %q; -list shows all names", patterns)
	}
	return picked, nil
}

// list prints the contestants and the workloads.
func list() {
	fmt.Println("contestants:")
	for _, c := range servers.All {
		fmt.Println("  " + c.Name)
	}
	fmt.Println("workloads:")
	for _, w := range load.Workloads() {
		fmt.Println("  " + w.Name)
	}
	fmt.Println("workloads of -inmemory:")
	for _, c := range inmemory.Cases() {
		fmt.Println("  " + c.Name)
	}
}
