package faults

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

func TestMain(m *testing.M) { wstest.Main(m) }

// Every operation of a session goes wrong in every way, one at a time. synctest
// fails a session that hangs or leaves a goroutine behind.
func TestFaults_at_every_operation_of_a_session(t *testing.T) {
	total := 0
	for _, s := range sessions {
		t.Run(s.name, func(t *testing.T) {
			reads, writes := runSession(t, s, fault{}, false, 0)
			if reads+writes < 10 {
				t.Fatalf("the session has %d reads and %d writes, too few to be the whole script", reads, writes)
			}
			for _, f := range faults {
				t.Run(f.name, func(t *testing.T) {
					total += runSessions(t, s, f, false, reads) + runSessions(t, s, f, true, writes)
				})
			}
		})
	}
	t.Logf("%d sessions", total)
}

// runSessions runs the session once for each of n reads or writes.
func runSessions(t *testing.T, s session, f fault, inWrite bool, n int) int {
	runs, step := 0, 1
	if testing.Short() {
		step = 5
	}
	what := "read"
	if inWrite {
		what = "write"
	}
	for at := 0; at < n; at += step {
		runs++
		t.Run(fmt.Sprintf("in %s %d", what, at), func(t *testing.T) { runSession(t, s, f, inWrite, at) })
	}
	return runs
}

// longestSession is how long a session with one fault may take: the sum of all timeouts.
const longestSession = scriptPause + (15+60+60+5+5+1)*time.Second

// runSession runs a session with one fault and checks the rules for every fault. It
// returns how many reads and writes there were.
func runSession(t *testing.T, s session, f fault, inWrite bool, at int) (reads, writes int) {
	synctest.Test(t, func(t *testing.T) {
		server, client := net.Pipe()
		socket := newFaultSocket(server, f, inWrite, at)
		c := startClient(client, s.end)
		var l log
		start := time.Now()
		result := s.serve(&wstest.Hijacker{Conn: socket}, wstest.ReadRequest(wstest.Request()), &l)
		if lasted := time.Since(start); lasted > longestSession {
			t.Errorf("the session lasted %v, want at most %v", lasted, longestSession)
		}
		<-c.ended
		harmless := f.do == nil || f.harmlessRead && !inWrite || f.harmlessWrite && inWrite
		if f.deadline && (s.end == closeWhenEchoed || !s.receives) {
			harmless = false // no method is waiting that could return the deadline
		}
		l.check(t, s, c, harmless, result)
		reads, writes = socket.Operations()
	})
	return reads, writes - handshakeWrites
}

// check compares the results of the handler with what the client sent and received.
func (l *log) check(t *testing.T, s session, c *sessionClient, harmless bool, err error) {
	t.Helper()
	if c.err != io.EOF && c.err != io.ErrUnexpectedEOF && !errors.Is(c.err, io.ErrClosedPipe) {
		t.Errorf("the client got %v", c.err)
	}
	if !isPrefix(l.received, clientMessages) {
		t.Errorf("the handler received %v, which is not what the client sent", sizes(l.received))
	}
	if !isPrefix(c.messages, l.attempted) || len(c.messages) < l.acknowledged {
		t.Errorf("the client has %v of %v, of which %d were acknowledged", sizes(c.messages), sizes(l.attempted), l.acknowledged)
	}
	if !harmless {
		return
	}
	if err != nil && websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("the session ended with %v, want it to survive the fault", err)
	}
	if s.receives && len(l.received) != len(clientMessages) {
		t.Errorf("the handler received %d of %d messages, want it to survive the fault", len(l.received), len(clientMessages))
	}
	if l.acknowledged != len(l.attempted) || len(c.messages) != len(l.attempted) {
		t.Errorf("the client has %d of %d messages, %d acknowledged, want it to survive the fault", len(c.messages), len(l.attempted), l.acknowledged)
	}
}

func isPrefix(got, want []websocket.Message) bool {
	return len(got) <= len(want) && slices.EqualFunc(got, want[:len(got)], func(a, b websocket.Message) bool {
		return a.Opcode == b.Opcode && bytes.Equal(a.Data, b.Data)
	})
}

// sizes describes messages that are too long for a failure text.
func sizes(messages []websocket.Message) []string {
	var s []string
	for _, m := range messages {
		s = append(s, fmt.Sprintf("%v of %d", m.Opcode, len(m.Data)))
	}
	return s
}
