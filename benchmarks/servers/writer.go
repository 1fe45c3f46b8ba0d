package servers

import "sync"

// queueLength is how many messages wait for a slow connection: the length in gorilla's chat
// example.
const queueLength = 256

// A writer is a connection in a broadcast with a queue: a goroutine writes the messages of a
// channel, so the sender never waits for the peer.
type writer[M any] struct {
	queue chan M
	cut   func()
}

// newWriter starts the goroutine of a connection. cut closes the connection; a connection
// is cut if a write fails, or if its queue of length messages is full.
func newWriter[M any](length int, write func(M) error, cut func()) *writer[M] {
	w := &writer[M]{make(chan M, length), sync.OnceFunc(cut)}
	go func() {
		var err error
		for m := range w.queue {
			if err != nil {
				continue // the messages that came before the hub has noticed
			}
			if err = write(m); err != nil {
				w.cut()
			}
		}
	}()
	return w
}

// send adds m to the queue. A full queue cuts the connection, on another goroutine, because
// some libraries wait for the peer when they close.
func (w *writer[M]) send(m M) {
	select {
	case w.queue <- m:
	default:
		go w.cut()
	}
}

// member adds w to the room while loop runs. Afterwards nothing is sent to w.
func (w *writer[M]) member(room *hub[*writer[M]], loop func()) {
	room.join(w)
	defer close(w.queue)
	defer room.leave(w)
	loop()
}
