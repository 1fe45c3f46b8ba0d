package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"time"

	"github.com/f44ffc3b/websocket/benchmarks/servers"
)

// The commands that a server takes on its standard input, a line each. It answers
// each with a snapshot, and exits when the input ends.
const (
	beginCommand  = "begin"  // the counted part begins
	endCommand    = "end"    // it has ended
	settleCommand = "settle" // collect garbage and give memory back
)

// A snapshot is what a server has used up so far.
type snapshot struct {
	CPU      time.Duration
	Mallocs  uint64
	Bytes    uint64
	Resident int64
}

// childLife ends a child whose parent has forgotten it.
const childLife = 10 * time.Minute

// serve is a server process: it prints its address and obeys.
func serve(name string, mode servers.Mode, profile string) error {
	time.AfterFunc(childLife, func() { os.Exit(1) })
	c, err := servers.Find(name)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() {
		fmt.Fprintln(os.Stderr, "serving:", c.Serve(ln, mode))
		os.Exit(1)
	}()
	fmt.Println(ln.Addr())
	return obey(profile)
}

func obey(profile string) error {
	out := json.NewEncoder(os.Stdout)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var err error
		s := takeSnapshot()
		switch lines.Text() {
		case settleCommand:
			s = settle()
		case beginCommand:
			err = startProfile(profile)
			s = takeSnapshot()
		case endCommand:
			pprof.StopCPUProfile()
		}
		if err = errors.Join(err, out.Encode(s)); err != nil {
			return err
		}
	}
	return nil
}

func startProfile(file string) error {
	if file == "" {
		return nil
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return pprof.StartCPUProfile(f)
}

// settle collects twice: what a sync.Pool holds goes with the second collection.
func settle() snapshot {
	runtime.GC()
	time.Sleep(100 * time.Millisecond)
	runtime.GC()
	debug.FreeOSMemory()
	return takeSnapshot()
}

func takeSnapshot() snapshot {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return snapshot{CPU: cpuTime(), Mallocs: m.Mallocs, Bytes: m.TotalAlloc, Resident: resident()}
}
