package events

// A queue holds the sources that a worker has to run, first in, first out. The zero value is
// empty.
type queue struct {
	ring  []*Source // its length is a power of two
	first int
	count int
}

func (q *queue) len() int { return q.count }

func (q *queue) push(s *Source) {
	if q.count == len(q.ring) {
		larger := make([]*Source, max(64, 2*len(q.ring)))
		n := copy(larger, q.ring[q.first:])
		copy(larger[n:], q.ring[:q.first])
		q.ring, q.first = larger, 0
	}
	q.ring[(q.first+q.count)&(len(q.ring)-1)] = s
	q.count++
}

// pop returns nil if the queue is empty.
func (q *queue) pop() *Source {
	if q.count == 0 {
		return nil
	}
	s := q.ring[q.first]
	q.ring[q.first] = nil
	q.first = (q.first + 1) & (len(q.ring) - 1)
	q.count--
	return s
}
