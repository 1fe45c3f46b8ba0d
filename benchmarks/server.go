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

// The commands of a server process. It reads them as lines from its standard input, answers
// each with a snapshot, and exits when the input ends.
const (
	beginCommand  = "begin"  // the counted part begins
	endCommand    = "end"    // the counted part has ended
	settleCommand = "settle" // collect garbage and return memory to the system
)

// A snapshot holds the resources that a process has used so far, and its memory.
type snapshot struct {
	CPU      time.Duration
	Mallocs  uint64
	Bytes    uint64
	Resident int64
}

// childTimeout ends a child process whose parent has not ended it.
const childTimeout = 10 * time.Minute

// serve runs a server process. It prints its address and then handles commands.
func serve(name string, mode servers.Mode, profile string) error {
	time.AfterFunc(childTimeout, func() { os.Exit(1) })
	c, err := servers.Find(name)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if flags.small {
		ln = servers.SmallBuffers(ln)
	}
	go func() {
		fmt.Fprintln(os.Stderr, "serving:", c.Serve(ln, mode, servers.Protocol(flags.protocol)))
		os.Exit(1)
	}()
	fmt.Println(ln.Addr())
	return handleCommands(profile)
}

// handleCommands answers the commands until the input ends.
func handleCommands(profile string) error {
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

// startProfile starts a CPU profile, unless file is "".
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

// settle collects garbage and returns memory to the system. It collects twice, because the
// contents of a sync.Pool are freed by the second collection.
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
