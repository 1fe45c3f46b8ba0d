package websocket

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// A slowConn writes large slices in small parts, up to a limit.
type slowConn struct {
	net.Conn
	limit int
}

func (s *slowConn) Write(p []byte) (int, error) {
	const part, pause = 250, 40 * time.Millisecond
	if len(p) <= 4*part {
		return s.Conn.Write(p)
	}
	for i := 0; i < min(len(p), s.limit); i += part {
		if _, err := s.Conn.Write(p[i:min(i+part, len(p))]); err != nil {
			return i, err
		}
		time.Sleep(pause)
	}
	return len(p), nil
}

// crypto/tls does not return a part of a record, but its bytes show that the peer is not silent. A
// peer that stops in the middle of a record is.
func TestConnectionTimeout_in_a_TLS_record(t *testing.T) {
	const timeout, size = time.Second, 16000 // one record, which takes 2.5 s
	for name, limit := range map[string]int{"whole": size * 2, "half": size / 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ended := make(chan error, 1)
			srv := wstest.ServeTLS(t, Handle(echoAll, PingInterval(timeout/4), ConnectionTimeout(timeout), OnClose(func(_ *Conn, err error) { ended <- err })))
			raw, err := net.Dial("tcp", srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			if _, ok := acked(raw); !ok {
				t.Skip("this system does not report when bytes have arrived")
			}
			slow := &slowConn{raw, limit}
			p := newPeer(t, tls.Client(slow, &tls.Config{InsecureSkipVerify: true, DynamicRecordSizingDisabled: true}))
			p.Handshake()
			go p.Conn.Write(clientFrame(true, Binary, stars(size)))
			start := time.Now()
			f := p.readPastPings()
			switch took := time.Since(start); {
			case limit > size && (f.Opcode != Binary || len(f.Payload) != size):
				t.Errorf("got %v %.50q after %v, want the echo", f.Opcode, f.Payload, took)
			case limit < size && (f.Opcode != Close || took > 4*timeout):
				t.Errorf("a peer that stops: got %v after %v, want a close frame", f.Opcode, took)
			}
			raw.Close()
			if err := <-ended; limit < size {
				wantError(t, err, ErrConnectionTimeout)
			}
		})
	}
}
