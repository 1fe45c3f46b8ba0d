package wstest

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Usage holds the resources that the process uses.
type Usage struct {
	Memory     uint64 // heap and stacks, after a collection
	Goroutines int
	Files      int
}

// MemorySlack is how much more memory may be in use in a load or after it than its
// connections need: the runtime keeps the structures of ended goroutines, pools keep
// buffers, and what is allocated while the collector marks counts as live. A flood
// allocates several MiB in that time if the machine is slow.
const MemorySlack = 8 << 20

// Measure collects garbage and returns the resources that are in use.
func Measure() Usage {
	runtime.GC()
	runtime.GC() // a sync.Pool frees its values in the second collection
	// HeapAlloc would include garbage that was made since the collection.
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(samples)
	return Usage{samples[0].Value.Uint64() + samples[1].Value.Uint64(), runtime.NumGoroutine(), OpenFiles()}
}

// Growth returns how much more memory is in use in u than in before.
func (u Usage) Growth(before Usage) uint64 {
	return u.Memory - min(u.Memory, before.Memory)
}

// String describes u for a log.
func (u Usage) String() string {
	return fmt.Sprintf("%d KiB, %d goroutines, %d descriptors", u.Memory>>10, u.Goroutines, u.Files)
}

// Allocated returns how many bytes f allocates.
func Allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// MaxFiles returns how many descriptors the process may have. The Go runtime has
// already raised the limit as far as it may.
func MaxFiles() int {
	limits, err := os.ReadFile("/proc/self/limits")
	for line := range strings.Lines(string(limits)) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(line, "Max open files") {
			continue
		}
		if fields[3] == "unlimited" {
			return 1 << 20
		}
		if n, err := strconv.Atoi(fields[3]); err == nil {
			return n
		}
	}
	if err != nil {
		return 1000 // not Linux
	}
	return 256
}

// Registrations returns how many descriptors the epoll sets of the process watch. It skips the test
// if the system does not tell.
func Registrations(t testing.TB) (n int) {
	t.Helper()
	files, _ := filepath.Glob("/proc/self/fdinfo/*")
	for _, file := range files {
		info, _ := os.ReadFile(file) // some are closed meanwhile
		n += strings.Count(string(info), "tfd:")
	}
	if n == 0 {
		t.Skip("the system does not tell what epoll sets watch")
	}
	return n
}

// RaceEnabled reports whether this is a build with the race detector. That detector
// allocates memory, and makes a sync.Pool drop values.
func RaceEnabled() bool {
	info, _ := debug.ReadBuildInfo()
	return info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// Scale returns how many clients a test has: n of them, or underRace of them with
// the race detector, and a tenth in a short run.
func Scale(t testing.TB, n, underRace int) int {
	t.Helper()
	full := n
	if RaceEnabled() {
		n = underRace
	}
	if testing.Short() {
		n = max(n/10, 1)
	}
	if n != full {
		t.Logf("scaled down from %d to %d", full, n)
	}
	return n
}

// Eventually waits until done returns true, and reports whether it did so within
// Patience. It is for conditions that no channel reports.
func Eventually(done func() bool) bool {
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if done() {
			return true
		}
	}
	return done()
}
