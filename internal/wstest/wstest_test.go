package wstest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

func TestMain(m *testing.M) { Main(m) }

func TestClientFrame_is_masked(t *testing.T) {
	for _, size := range []int{0, 1, 125, 126, 1000, 65535, 65536, 70000} {
		payload := bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
		frame := ClientFrame(0x81, string(payload))
		header := ClientHeader(0x81, uint64(size))
		if !bytes.HasPrefix(frame, header) {
			t.Fatalf("%d bytes: got the header %x, want %x", size, frame[:len(header)], header)
		}
		key, got := header[len(header)-4:], frame[len(header):]
		for i := range got {
			got[i] ^= key[i%4]
		}
		if !bytes.Equal(got, payload) {
			t.Errorf("%d bytes: got %s, want %s", size, Hex(got), Hex(payload))
		}
	}
}

func TestDecoder(t *testing.T) {
	tests := []struct {
		name string
		wire string
		want error // nil for any error
	}{
		{"accepts a message in fragments with a ping between", "\x01\x01a\x89\x00\x80\x01b\x88\x00", io.EOF},
		{"accepts a length of 16 bits", "\x82\x7e\x00\x7e" + string(make([]byte, 126)), io.EOF},
		{"rejects a cut header", "\x82\x7e\x00", io.ErrUnexpectedEOF},
		{"rejects a cut payload", "\x82\x02a", io.ErrUnexpectedEOF},
		{"rejects a masked frame", "\x82\x80abcd", nil},
		{"rejects a length in a longer form than it needs", "\x82\x7e\x00\x05hello", nil},
		{"rejects a reserved bit", "\xc2\x00", nil},
		{"rejects a reserved opcode", "\x83\x00", nil},
		{"rejects a reserved control opcode", "\x8b\x00", nil},
		{"rejects a fragmented ping", "\x09\x00", nil},
		{"rejects a ping of 126 bytes", "\x89\x7e\x00\x7e" + string(make([]byte, 126)), nil},
		{"rejects a continuation without a message", "\x80\x00", nil},
		{"rejects a message inside a message", "\x01\x00\x81\x00", nil},
		{"rejects a frame after a close", "\x88\x00\x81\x00", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := NewDecoder(bytes.NewReader([]byte(tt.wire)))
			var err error
			for err == nil {
				_, err = d.ReadFrame()
			}
			if tt.want == nil && (err == io.EOF || err == io.ErrUnexpectedEOF) || tt.want != nil && err != tt.want {
				t.Errorf("got error %v, want %v", err, tt.want)
			}
		})
	}
}

func TestFrame_CloseCode(t *testing.T) {
	for payload, want := range map[string]uint16{"": 1005, "\x03\xe8": 1000, "\x0f\xa0bye": 4000, "\x03": 0, "\x03\xed": 0, "\x03\xe8\xff": 0} {
		code, _, err := Frame{First: 0x88, Payload: []byte(payload)}.CloseCode()
		if code != want || (err == nil) != (want > 0) {
			t.Errorf("%x: got the code %d and error %v, want %d", payload, code, err, want)
		}
	}
	if _, _, err := (Frame{First: 0x81}).CloseCode(); err == nil {
		t.Error("got a close code for a text frame, want an error")
	}
}

func TestSocket_follows_its_script(t *testing.T) {
	s := NewSocket([]byte("abc"), nil, []byte("d"))
	p := make([]byte, 2)
	for _, want := range []struct {
		text string
		err  error
	}{{"ab", nil}, {"c", nil}, {"", os.ErrDeadlineExceeded}, {"d", nil}, {"", io.EOF}} {
		n, err := s.Read(p)
		if string(p[:n]) != want.text || err != want.err {
			t.Errorf("got %q and error %v, want %q and %v", p[:n], err, want.text, want.err)
		}
	}
	s.Write([]byte("one"))
	s.SetWriteDeadline(time.Now().Add(-time.Second))
	if _, err := s.Write([]byte("late")); err != os.ErrDeadlineExceeded {
		t.Errorf("got error %v, want a deadline", err)
	}
	s.SetWriteDeadline(time.Time{})
	s.Write([]byte("two"))
	if got := s.Writes(); len(got) != 2 || string(s.Written()) != "onetwo" {
		t.Errorf("got writes %q, want one and two", got)
	}
	s.Close()
	if _, err := s.Write([]byte("x")); err != net.ErrClosed || !s.Closed() {
		t.Errorf("got error %v, want a closed socket", err)
	}
}

func TestSocket_operations_wait_for_a_deadline_or_Close(t *testing.T) {
	tests := []struct {
		name string
		do   func(s *Socket)
		took time.Duration
		want error
	}{
		{"nothing", func(*Socket) {}, time.Hour, nil},
		{"a deadline that was set before", func(s *Socket) { s.SetReadDeadline(time.Now().Add(time.Second)) }, time.Second, os.ErrDeadlineExceeded},
		{"a deadline that is set meanwhile", func(s *Socket) {
			time.AfterFunc(time.Second, func() { s.SetDeadline(time.Now().Add(time.Second)) })
		}, 2 * time.Second, os.ErrDeadlineExceeded},
		{"a deadline that is removed", func(s *Socket) {
			s.SetReadDeadline(time.Now().Add(2 * time.Second))
			time.AfterFunc(time.Second, func() { s.SetReadDeadline(time.Time{}) })
		}, time.Hour, nil},
		{"a deadline of the other side", func(s *Socket) { s.SetWriteDeadline(time.Now().Add(time.Second)) }, time.Hour, nil},
		{"Close", func(s *Socket) { time.AfterFunc(time.Second, func() { s.Close() }) }, time.Second, net.ErrClosed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := NewSocket()
				s.Hook = func(op *Op) (int, error) { return 0, op.Wait(time.Hour) }
				start := time.Now()
				tt.do(s)
				if _, err := s.Read(nil); err != tt.want {
					t.Errorf("got error %v, want %v", err, tt.want)
				}
				if took := time.Since(start); took != tt.took {
					t.Errorf("the read took %v, want %v", took, tt.took)
				}
			})
		})
	}
}

func TestSocket_without_deadlines(t *testing.T) {
	s := NewSocket()
	s.NoDeadlines = true
	if err := s.SetDeadline(time.Now()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got error %v, want errors.ErrUnsupported", err)
	}
}
