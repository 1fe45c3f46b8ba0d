// Benchmarks races this WebSocket library against others for Go, and against
// hand-written servers that do the least that could be done.
//
//	go run .                            the race, over loopback; Linux for exact figures
//	go run . -inmemory                  the libraries alone, without a kernel
//	go run . -list                      who takes part, and in what
//	go run . -json race.json            the figures for machines
//	go run . -report race.json,mem.json the tables and plots of docs/performance.md
package main

import (
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
	generate           bool
}

// maxDuration keeps a run below the first ping of any server.
const maxDuration = 20 * time.Second

func main() {
	flag.StringVar(&flags.only, "only", "", "contestants, with commas between them (all)")
	flag.StringVar(&flags.workloads, "workloads", "", "workloads, with commas between them; * matches (all)")
	flag.IntVar(&flags.rounds, "rounds", 5, "how often everything is run; the tables have the medians")
	flag.IntVar(&flags.messages, "messages", 0, "end a run after so many messages instead of -duration")
	flag.DurationVar(&flags.duration, "duration", 500*time.Millisecond, "how long a run is, without its warm-up; at most 20s")
	flag.BoolVar(&flags.inMemory, "inmemory", false, "race without a kernel")
	flag.BoolVar(&flags.list, "list", false, "list contestants and workloads")
	flag.StringVar(&flags.json, "json", "", "also write the figures to this `file`")
	flag.StringVar(&flags.report, "report", "", "run nothing; write the tables and plots of these `files` to -docs")
	flag.StringVar(&flags.docs, "docs", "../docs", "the `directory` of performance.md")
	flag.StringVar(&flags.profile, "cpuprofile", "", "profile the counted part in the server to this `file`: for one contestant and workload, the last run stays")
	flag.StringVar(&flags.serve, "serve", "", "used by the program itself: be this contestant")
	flag.StringVar(&flags.mode, "mode", "", "used by the program itself: of -serve")
	flag.BoolVar(&servers.KeepMessages, "keep", true, "used by the program itself: of -serve")
	flag.BoolVar(&flags.generate, "generate", false, "used by the program itself: be the load generator")
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
	if err != nil {
		return err
	}
	fmt.Print(report.markdown())
	if flags.json == "" {
		return nil
	}
	return report.write(flags.json)
}

// pick returns those of all whose names match one of the patterns.
func pick[T any](all []T, patterns string, name func(T) string) ([]T, error) {
	if patterns == "" {
		return all, nil
	}
	var picked []T
	for _, v := range all {
		for p := range strings.SplitSeq(patterns, ",") {
			// The slashes in names are no separators to whoever types a pattern.
			flat := strings.NewReplacer("/", "|")
			if ok, _ := path.Match(flat.Replace(p), flat.Replace(name(v))); ok {
				picked = append(picked, v)
				break
			}
		}
	}
	if len(picked) == 0 {
		return nil, fmt.Errorf("nothing is called %q; see -list", patterns)
	}
	return picked, nil
}

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
