package websocket

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

var errCause = errors.New("the cause")

// inPhase returns a life that has entered p directly.
func inPhase(p phase) *life {
	l := &life{by: never}
	if p != phaseOpen {
		l.enter(p, errCause, never)
	}
	return l
}

func TestLife_moves_only_to_later_phases(t *testing.T) {
	may := map[phase][]phase{
		phaseOpen:      {phaseCloseSent, phaseLost, phaseClosing, phaseFailing, phaseDraining, phaseClosed},
		phaseCloseSent: {phaseLost, phaseClosing, phaseFailing, phaseDraining, phaseClosed},
		phaseLost:      {phaseClosing, phaseFailing, phaseDraining, phaseClosed},
		phaseClosing:   {phaseDraining, phaseClosed},
		phaseFailing:   {phaseDraining, phaseClosed},
		phaseDraining:  {phaseClosed},
		phaseClosed:    {},
	}
	for from := phaseOpen; from <= phaseClosed; from++ {
		for to := phaseOpen; to <= phaseClosed; to++ {
			t.Run(fmt.Sprint(from, " to ", to), func(t *testing.T) {
				l := inPhase(from)
				want := false
				for _, p := range may[from] {
					want = want || p == to
				}
				if got := l.enter(to, errCause, never); got != want {
					t.Errorf("enter returned %t, want %t", got, want)
				}
				end := from
				if want {
					end = to
				}
				if got := l.current(); got != end {
					t.Errorf("the phase is %d, want %d", got, end)
				}
			})
		}
	}
}

func TestLife_ends_once(t *testing.T) {
	for p := phaseClosing; p <= phaseClosed; p++ {
		t.Run(fmt.Sprint("phase ", p), func(t *testing.T) {
			l := &life{by: never}
			ctx := l.context(context.Background)
			if l.err() != nil || l.over.IsSet() || ctx.Err() != nil {
				t.Fatalf("an open connection has ended: %v", l.err())
			}
			l.enter(p, errCause, never)
			l.enter(phaseClosed, errors.New("another cause"), never)
			if got := l.err(); got != errCause {
				t.Errorf("the cause is %v, want the first one: %v", got, errCause)
			}
			if !l.over.IsSet() {
				t.Error("over is not set")
			}
			if got := context.Cause(ctx); got != errCause {
				t.Errorf("the cause of the context is %v, want %v", got, errCause)
			}
			if got := context.Cause(l.context(context.Background)); got != errCause {
				t.Errorf("the cause of a context that was made after the end is %v, want %v", got, errCause)
			}
		})
	}
}

func TestLife_is_not_over_in_phaseLost(t *testing.T) {
	writeErr, closeErr := errors.New("the write failed"), &CloseError{Code: 1000}
	t.Run("the close frame of the peer replaces the error of the write", func(t *testing.T) {
		l := &life{by: never}
		l.enter(phaseLost, writeErr, never)
		if l.err() != nil || l.over.IsSet() {
			t.Fatalf("the connection has ended: %v", l.err())
		}
		if got := l.sendErr(); got != writeErr {
			t.Errorf("senders see %v, want %v", got, writeErr)
		}
		l.enter(phaseFailing, closeErr, never)
		if got := l.err(); got != closeErr {
			t.Errorf("the cause is %v, want %v", got, closeErr)
		}
	})
	t.Run("without one the error of the write is the cause", func(t *testing.T) {
		l := &life{by: never}
		l.enter(phaseLost, writeErr, never)
		l.enter(phaseClosed, nil, never)
		if got := l.err(); got != writeErr {
			t.Errorf("the cause is %v, want %v", got, writeErr)
		}
	})
}

func TestLife_keeps_the_earlier_limit_of_a_close(t *testing.T) {
	for _, tt := range []struct {
		from, to    phase
		first, then time.Duration
		want        time.Duration
	}{
		{phaseCloseSent, phaseClosing, 5, 9, 5},
		{phaseCloseSent, phaseClosing, 9, 5, 5},
		{phaseClosing, phaseDraining, 5, 9, 5},
		{phaseFailing, phaseDraining, 5, 9, 9},
		{phaseLost, phaseFailing, 5, 9, 9},
	} {
		t.Run(fmt.Sprint(tt), func(t *testing.T) {
			l := &life{by: never}
			l.enter(tt.from, errCause, tt.first)
			l.enter(tt.to, errCause, tt.then)
			if _, by := l.until(); by != tt.want {
				t.Errorf("the phase must be over at %d, want %d", by, tt.want)
			}
		})
	}
}

func TestLife_bound_is_for_one_phase(t *testing.T) {
	l := &life{by: never}
	l.enter(phaseLost, errCause, 5)
	l.bound(phaseFailing, 7)
	if _, by := l.until(); by != 5 {
		t.Errorf("the limit of another phase moved this one to %d", by)
	}
	l.bound(phaseLost, 7)
	if _, by := l.until(); by != 7 {
		t.Errorf("the phase must be over at %d, want 7", by)
	}
}

func TestLife_notes_the_first_close_frame(t *testing.T) {
	for _, code := range []StatusCode{0, 1000, 4999, 65535} {
		l := new(life)
		if _, sent := l.closeSent(); sent {
			t.Fatal("noteCloseSent was not called, but a close frame is noted")
		}
		if !l.noteCloseSent(code) || l.noteCloseSent(code+1) {
			t.Errorf("code %d: want the first close frame noted, and no other", code)
		}
		if got, sent := l.closeSent(); got != code || !sent {
			t.Errorf("got code %d, %t, want %d, true", got, sent, code)
		}
	}
}

// If several goroutines end the connection at the same time, only one of them succeeds.
func TestLife_has_one_end_for_all_goroutines(t *testing.T) {
	for range 100 {
		l := &life{by: never}
		ctxs := make(chan context.Context, 8)
		var wins sync.Map
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				err := fmt.Errorf("cause %d", i)
				if l.enter(phaseFailing, err, never) {
					wins.Store(i, err)
				}
				ctxs <- l.context(context.Background)
			})
		}
		wg.Wait()
		n := 0
		wins.Range(func(_, err any) bool {
			n++
			if l.err() != err {
				t.Errorf("the cause is %v, want %v", l.err(), err)
			}
			return true
		})
		if n != 1 {
			t.Fatalf("%d goroutines ended the connection, want 1", n)
		}
		for range 8 {
			if got := context.Cause(<-ctxs); got != l.err() {
				t.Errorf("the cause of a context is %v, want %v", got, l.err())
			}
		}
	}
}
