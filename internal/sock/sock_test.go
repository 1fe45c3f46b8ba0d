package sock

import (
	"net"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	if !Supported {
		if _, err := Read(0, make([]byte, 1)); err == nil {
			t.Error("got no error on a system that is not supported")
		}
		return
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	raw, err := server.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var (
		p     [8]byte
		n     int
		waits int
	)
	read := func(fd uintptr) bool {
		n, err = Read(fd, p[:])
		if WouldWait(err) {
			if waits++; waits == 1 {
				client.Write([]byte("hello"))
			}
			return false
		}
		return !Interrupted(err)
	}
	if rawErr := raw.Read(read); rawErr != nil {
		t.Fatal(rawErr)
	}
	if err != nil || string(p[:n]) != "hello" {
		t.Errorf("got %q and error %v, want hello", p[:n], err)
	}
	if waits == 0 {
		t.Error("a read of an empty socket did not report that it would wait")
	}
	client.Close()
	if rawErr := raw.Read(read); rawErr != nil || n != 0 || err != nil {
		t.Errorf("got %d bytes and errors %v, %v at the end of the stream, want none", n, rawErr, err)
	}
}

func TestReady(t *testing.T) {
	if !Supported {
		t.Skip("this platform waits in a read")
	}
	tests := []struct {
		name string
		peer func(c *net.TCPConn)
		want string // the error of the read
	}{
		{"a byte", func(c *net.TCPConn) { c.Write([]byte("x")) }, ""},
		{"the end of the stream", func(c *net.TCPConn) { c.CloseWrite() }, "EOF"},
		{"a reset", func(c *net.TCPConn) { c.SetLinger(0); c.Close() }, "reset"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			client, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			server, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			raw, err := server.(*net.TCPConn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			waits := 0
			err = raw.Read(func(fd uintptr) bool {
				if Ready(fd) {
					return true
				}
				if waits++; waits == 1 {
					tt.peer(client.(*net.TCPConn))
				}
				return false
			})
			if err != nil || waits == 0 {
				t.Errorf("got error %v after %d waits, want no error and a wait", err, waits)
			}
			switch _, err := server.Read(make([]byte, 1)); {
			case tt.want == "" && err != nil:
				t.Errorf("got error %v of the read", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got error %v of the read, want %s", err, tt.want)
			}
		})
	}
}
