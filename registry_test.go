package websocket

import (
	"math/rand/v2"
	"testing"
)

// Connections end in any order.
func TestRegistry_holds_the_connections_that_are_open(t *testing.T) {
	for seed := range uint64(200) {
		var (
			random = rand.New(rand.NewPCG(seed, 0))
			r      registry
			open   = map[*Conn]bool{}
			order  []*Conn // in which they were added
		)
		check := func() {
			t.Helper()
			got := r.all()
			for _, c := range got {
				if !open[c] {
					t.Fatalf("seed %d: got a connection that was removed, or one twice", seed)
				}
				delete(open, c)
			}
			if len(open) > 0 {
				t.Fatalf("seed %d: %d connections are missing", seed, len(open))
			}
			for _, c := range got {
				open[c] = true
			}
		}
		remove := func(i int) {
			r.unlink(order[i])
			delete(open, order[i])
			order = append(order[:i], order[i+1:]...)
			check()
		}
		for range 50 {
			if i := random.IntN(8); i < len(order) {
				remove(i)
				continue
			}
			c := new(Conn)
			r.link(c)
			open[c], order = true, append(order, c)
			check()
		}
		for len(order) > 0 {
			remove(len(order) - 1)
		}
		for i, c := range r.conns[:cap(r.conns)] {
			if c != nil {
				t.Fatalf("seed %d: the empty registry still refers to a connection, at %d", seed, i)
			}
		}
	}
}
