package websocket

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Connections end in any order.
func TestRegistry_keeps_the_order(t *testing.T) {
	for seed := range uint64(200) {
		var (
			random = rand.New(rand.NewPCG(seed, 0))
			r      registry
			want   []*Conn
		)
		for range 50 {
			if i := random.IntN(8); i < len(want) {
				c := want[i]
				r.unlink(c)
				if c.registered != (registered{}) {
					t.Fatalf("seed %d: a connection that was removed still refers to others", seed)
				}
				want = slices.Delete(want, i, i+1)
			} else {
				c := new(Conn)
				r.link(c)
				want = append(want, c)
			}
			if got := r.all(); !slices.Equal(got, want) || r.open != len(want) {
				t.Fatalf("seed %d: got %d connections %p, want %p", seed, r.open, got, want)
			}
		}
		for len(want) > 0 {
			r.unlink(want[0])
			want = want[1:]
		}
		if r.oldest != nil || r.newest != nil || r.open != 0 {
			t.Fatalf("seed %d: the empty registry is %+v", seed, r.all())
		}
	}
}
