package websocket

import (
	"time"
)

// Stats are the statistics of one connection. Messages are those of Text and Binary, without
// control frames. Bytes are those of all frames with their headers, without those that TLS adds. What
// is being written counts as sent, until the write fails.
type Stats struct {
	Opened           time.Time     // when the handshake was done
	MessagesReceived uint64        // read to their end; with HandleConcurrent, including those that are read ahead
	MessagesSent     uint64        // given to the kernel, or being written to it; those that wait, for example in the queue, are counted when they are written
	BytesReceived    uint64        // read from the socket
	BytesSent        uint64        // given to the kernel, or being written to it
	RTT              time.Duration // from a ping of the keepalive or of Ping to the pong, in whole microseconds; 0 before the first pong
	Queued           int           // bytes that wait in the queue, as SendQueue counts them
}

// HandlerStats are the statistics of a Handler. The sums include connections that have ended, and
// never decrease.
type HandlerStats struct {
	Open             int    // connections that are being served: from the handshake until OnClose has returned
	Accepted         uint64 // connections so far: those that are open and those in Closed
	Refused          uint64 // requests that did not become a connection
	MessagesReceived uint64
	MessagesSent     uint64
	BytesReceived    uint64
	BytesSent        uint64

	// Closed counts the connections that have ended, by the code that OnClose gets, and by 1006 if
	// the handshake response could not be sent. If the peer has closed, it has chosen the code: one
	// of about 2000. So 1011 does not say that a function has failed; OnError does.
	Closed map[StatusCode]uint64
}

// Stats returns the statistics of the connection, even after it has ended. It does not wait, and
// costs less than a microsecond.
func (c *Conn) Stats() Stats {
	now := time.Now()
	received, sent := c.in.counted(), c.out.counted()
	return Stats{
		Opened:           now.Add(c.timer.opened - now.Sub(epoch)), // not from epoch on, because the wall clock may have been set since
		MessagesReceived: received.messages,
		MessagesSent:     sent.messages,
		BytesReceived:    received.bytes,
		BytesSent:        sent.bytes,
		RTT:              c.timer.roundTrip(),
		Queued:           c.out.queued(),
	}
}

// add adds the numbers of one connection to the sums.
func (s *HandlerStats) add(c Stats) {
	s.MessagesReceived += c.MessagesReceived
	s.MessagesSent += c.MessagesSent
	s.BytesReceived += c.BytesReceived
	s.BytesSent += c.BytesSent
}
