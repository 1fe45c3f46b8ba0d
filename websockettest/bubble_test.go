package websockettest

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// The clock of a bubble decides how long a method waits. In real time a test does not wait
// for hours.
func TestDial_knows_whether_it_is_in_a_bubble(t *testing.T) {
	limit := func(t *testing.T) time.Duration { return Dial(t, http.NotFoundHandler()).limit }
	synctest.Test(t, func(t *testing.T) {
		if got := limit(t); got != bubbleLimit {
			t.Errorf("in a bubble, a method waits for %v, want %v", got, bubbleLimit)
		}
	})
	if got := limit(t); got != waitLimit {
		t.Errorf("in real time, a method waits for %v, want %v", got, waitLimit)
	}
}
