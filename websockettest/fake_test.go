package websockettest_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

func TestMain(m *testing.M) { wstest.Main(m) }

// A fakeTB records what a test would have reported. Methods that it does not have are those
// of the real test.
type fakeTB struct {
	testing.TB

	mu       sync.Mutex
	failures []string
	logs     []string
	cleanups []func()
}

func (f *fakeTB) note(list *[]string, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	*list = append(*list, text)
}

func (f *fakeTB) Helper()         {}
func (f *fakeTB) Log(args ...any) { f.note(&f.logs, fmt.Sprint(args...)) }
func (f *fakeTB) Errorf(format string, args ...any) {
	f.note(&f.failures, fmt.Sprintf(format, args...))
}
func (f *fakeTB) Cleanup(cleanup func()) { f.cleanups = append(f.cleanups, cleanup) }

func (f *fakeTB) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	runtime.Goexit()
}

// logged returns the log so far.
func (f *fakeTB) logged() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.logs, "\n")
}

// runFake runs test as a test of its own, with its cleanups, and returns what it reported.
func runFake(t testing.TB, test func(t testing.TB)) *fakeTB {
	t.Helper()
	fake := &fakeTB{TB: t}
	run := func(f func()) {
		var wg sync.WaitGroup
		wg.Go(f)
		wg.Wait()
	}
	run(func() { test(fake) })
	for i := len(fake.cleanups); i > 0; i-- {
		run(fake.cleanups[i-1])
	}
	return fake
}

// wantFailure checks that there was one failure, with this text. A want that ends with "…"
// is only the beginning of the text.
func (f *fakeTB) wantFailure(t testing.TB, want string) {
	t.Helper()
	if want == "" {
		if len(f.failures) > 0 {
			t.Errorf("the test failed with %q, want no failure", f.failures)
		}
		return
	}
	if len(f.failures) != 1 {
		t.Errorf("the test has the failures %q, want %q", f.failures, want)
		return
	}
	got := f.failures[0]
	if beginning, ok := strings.CutSuffix(want, "…"); ok && strings.HasPrefix(got, beginning) {
		return
	}
	if got != want {
		t.Errorf("the test failed with\n%s\nwant\n%s", got, want)
	}
}
