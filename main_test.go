package websocket

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

// TestMain fails a run that leaves a goroutine of this package or a file
// descriptor behind. No test can see that for itself: what leaks may be held by
// a timer that goes off later.
func TestMain(m *testing.M) {
	flag.Parse()
	if fuzzing() {
		os.Exit(m.Run())
	}
	before := openFiles()
	code := m.Run()
	if leak := findLeak(before); leak != "" && code == 0 {
		fmt.Fprintln(os.Stderr, leak)
		code = 1
	}
	os.Exit(code)
}

// fuzzing reports whether this is a fuzzing run, whose engine has descriptors and
// processes of its own.
func fuzzing() bool {
	for _, name := range []string{"test.fuzz", "test.fuzzworker"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != f.DefValue {
			return true
		}
	}
	return false
}

// findLeak says what is left, "" for nothing. What is merely on its way out gets
// the time for it.
func findLeak(before int) string {
	const retries, pause = 100, 50 * time.Millisecond
	var leak string
	for range retries {
		if leak = leftGoroutines(); leak == "" {
			leak = leftFiles(before)
		}
		if leak == "" {
			return ""
		}
		time.Sleep(pause)
	}
	return leak
}

// leftGoroutines returns the stacks of the goroutines that run code of this
// package or were started by it.
func leftGoroutines() string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var left []string
	for i, stack := range strings.Split(string(buf), "\n\n") {
		if i > 0 && strings.Contains(stack, "github.com/f44ffc3b/websocket.") { // the first is the caller
			left = append(left, stack)
		}
	}
	if left == nil {
		return ""
	}
	return fmt.Sprintf("%d goroutines are left after the tests:\n\n%s", len(left), strings.Join(left, "\n\n"))
}

const descriptors = "/proc/self/fd"

// openFiles counts the open descriptors, where the system tells.
func openFiles() int {
	// The first socket of a process makes the poller's own descriptors.
	if ln, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		ln.Close()
	}
	files, _ := os.ReadDir(descriptors)
	return len(files)
}

func leftFiles(before int) string {
	after := openFiles()
	if after <= before {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d descriptors were open before the tests and %d are after them:\n", before, after)
	files, _ := os.ReadDir(descriptors)
	for _, file := range files {
		target, _ := os.Readlink(filepath.Join(descriptors, file.Name()))
		fmt.Fprintf(&b, "%s -> %s\n", file.Name(), target)
	}
	return b.String()
}
