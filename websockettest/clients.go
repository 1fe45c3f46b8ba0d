package websockettest

import (
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket/internal/wait"
)

// A clientSet is the clients of one test. The handler of one client may wait for another client, for
// example if it sends to a client that does not read.
type clientSet struct {
	test any
	open []*Client // whose cleanups have not begun; sets.mu guards it

	// The labels of servers whose handlers have returned, but whose goroutines may be left. Only
	// cleanups use it, and a test runs them one after another.
	unchecked []string
}

// sets holds the set of each test, until the cleanup of its last client begins.
var sets = struct {
	mu     sync.Mutex
	byTest map[any]*clientSet
}{byTest: map[any]*clientSet{}}

// addClient adds c to the set of its test and returns the set.
func addClient(t testing.TB, c *Client) *clientSet {
	test := any(t)
	if !reflect.ValueOf(t).Comparable() { // a wrapper of a testing.T that cannot be a key
		test = c
	}
	sets.mu.Lock()
	defer sets.mu.Unlock()
	s := sets.byTest[test]
	if s == nil {
		s = &clientSet{test: test}
		sets.byTest[test] = s
	}
	s.open = append(s.open, c)
	return s
}

// remove removes c, and returns the clients that are left.
func (s *clientSet) remove(c *Client) (left []*Client) {
	sets.mu.Lock()
	defer sets.mu.Unlock()
	s.open = slices.DeleteFunc(s.open, func(other *Client) bool { return other == c })
	if len(s.open) == 0 {
		delete(sets.byTest, s.test)
	}
	return slices.Clone(s.open)
}

// end is the cleanup of c. It leaves the other clients open, because a cleanup of the test that comes
// later may use them. If the handler of c has not ended after a twentieth of limit, it may wait for
// one of them, so end closes them too.
func (s *clientSet) end(c *Client, limit time.Duration) {
	c.t.Helper()
	defer c.server.release()
	c.conn.Close()
	others := s.remove(c)
	var by wait.Deadline
	defer by.Set(time.Time{})
	start := time.Now()
	by.Set(start.Add(limit / 20))
	missing := s.await(c, len(others) == 0, &by)
	if missing != "" {
		for _, other := range others {
			other.conn.Close()
		}
		by.Set(start.Add(limit))
		missing = s.await(c, len(others) == 0, &by)
	}
	if missing != "" {
		c.t.Errorf("websockettest: "+missing+"\n%s", limit, stacks(append(s.unchecked, c.server.label)))
		s.unchecked = nil // reported
	}
}

// await is server.await, and waits for the goroutines of a detached connection too. A profile of all
// goroutines takes long in a test with many clients. So if the connection was closed before the
// handler has returned, which is so without Detached, the cleanup of the last client looks.
func (s *clientSet) await(c *Client, last bool, by *wait.Deadline) (missing string) {
	if missing := c.server.await(by); missing != "" {
		return missing
	}
	s.unchecked = append(s.unchecked, c.server.label)
	if !last && !c.server.leftOpen {
		return ""
	}
	if !waitDetached(s.unchecked, by) {
		return "the handler has returned, but a goroutine that it has started in package websocket has not ended %v after the client has closed the connection; with Detached, it runs the function of the connection"
	}
	s.unchecked = nil
	return ""
}
