//go:build unix

package stress

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A flow is a connection whose client can read slowly, or not at all.
type flow struct {
	net.Conn
	wait     atomic.Int64  // before each read; stopped for no reads
	released chan struct{} // ends the waits
	once     sync.Once
}

const (
	stopped   time.Duration = -1
	slowPiece               = 64 << 10 // of each read of a slow client
)

func (f *flow) Read(b []byte) (int, error) {
	switch wait := time.Duration(f.wait.Load()); {
	case wait == stopped:
		<-f.released
	case wait > 0:
		b = b[:min(len(b), slowPiece)]
		time.Sleep(wait)
	}
	return f.Conn.Read(b)
}

// release ends the waits, because the connection is closed.
func (f *flow) release() { f.once.Do(func() { close(f.released) }) }
