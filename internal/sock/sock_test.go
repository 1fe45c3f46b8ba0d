package sock

import (
	"net"
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
