//go:build unix

package stress

import (
	"math/rand/v2"
	"time"
)

// A random makes the random choices of one goroutine.
type random struct{ *rand.Rand }

// newRandom returns the random of a script, or of something else that has a number.
func newRandom(seed uint64, number int) random {
	return random{rand.New(rand.NewPCG(seed, uint64(number)))}
}

// oneIn reports true once in n calls.
func (r random) oneIn(n int) bool { return r.IntN(n) == 0 }

// upTo returns a number from 1 to n. Small ones are more frequent.
func (r random) upTo(n int) int { return 1 + r.IntN(1+r.IntN(n)) }

// between returns a duration from least to most. Short ones are more frequent.
func (r random) between(least, most time.Duration) time.Duration {
	return least + time.Duration(r.Float64()*r.Float64()*float64(most-least))
}

// pick returns one of the values.
func pick[T any](r random, values ...T) T { return values[r.IntN(len(values))] }

// size returns the size of a message: often one at which the header of the frame or the buffer of the
// server changes.
func (r random) size(most int) int {
	n := pick(r, r.IntN(100), r.upTo(20_000), 125, 126, 4086, 4096, 65535, 65536, 70_000) + r.IntN(3)
	return min(n, most)
}
