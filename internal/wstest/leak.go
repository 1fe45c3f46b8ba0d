package wstest

import (
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// parallelTests is how many parallel tests run at the same time, unless the command sets that.
// The parallel tests wait for the clock most of the time, so all of them may begin at once.
const parallelTests = "1000"

// Main is for the TestMain of a package. It runs the tests and fails a run that
// leaves a goroutine of this module or a file descriptor behind. A single test cannot
// check that, because it may end before the goroutine or the descriptor does.
func Main(m *testing.M) {
	flag.Parse()
	if isFuzzing() {
		os.Exit(m.Run())
	}
	if p := flag.Lookup("test.parallel"); p.Value.String() == p.DefValue {
		p.Value.Set(parallelTests)
	}
	before := OpenFiles()
	code := m.Run()
	if leak := findLeak(before); leak != "" && code == 0 {
		fmt.Fprintln(os.Stderr, leak)
		code = 1
	}
	os.Exit(code)
}

// isFuzzing reports whether this is a fuzzing run. The fuzzing engine opens descriptors
// and starts processes, which are not leaks.
func isFuzzing() bool {
	for _, name := range []string{"test.fuzz", "test.fuzzworker"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != f.DefValue {
			return true
		}
	}
	return false
}

// findLeak describes the goroutines and descriptors that are left, or returns "" if none
// are. It waits up to five seconds for them to end.
func findLeak(filesBefore int) string {
	const retries, pause = 1000, 5 * time.Millisecond
	var leak string
	for range retries {
		if leak = remainingGoroutines(); leak == "" {
			leak = remainingFiles(filesBefore)
		}
		if leak == "" {
			return ""
		}
		time.Sleep(pause)
	}
	return leak
}

// modulePath begins the names of all functions of the module.
const modulePath = "github.com/f44ffc3b/websocket"

// remainingGoroutines returns the stacks of the goroutines that run code of this
// module or were started by it.
func remainingGoroutines() string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var left []string
	for i, stack := range strings.Split(string(buf), "\n\n") {
		if i > 0 && strings.Contains(stack, modulePath) { // the first is the caller
			left = append(left, stack)
		}
	}
	if left == nil {
		return ""
	}
	return fmt.Sprintf("%d goroutines are left after the tests:\n\n%s", len(left), strings.Join(left, "\n\n"))
}

const fileDirectory = "/proc/self/fd"

// OpenFiles returns how many file descriptors are open, or 0 if the system has no
// /proc/self/fd.
func OpenFiles() int {
	// The first socket of a process opens the poller's own descriptors.
	if ln, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		ln.Close()
	}
	files, _ := os.ReadDir(fileDirectory)
	return len(files)
}

func remainingFiles(before int) string {
	after := OpenFiles()
	if after <= before {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d descriptors were open before the tests and %d are open after them:\n", before, after)
	files, _ := os.ReadDir(fileDirectory)
	for _, file := range files {
		target, _ := os.Readlink(filepath.Join(fileDirectory, file.Name()))
		fmt.Fprintf(&b, "%s -> %s\n", file.Name(), target)
	}
	return b.String()
}
