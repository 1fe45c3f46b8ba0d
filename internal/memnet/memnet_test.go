package memnet

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	addrA = &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1000}
	addrB = &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 80}
)

// Each side sees the same after an end as with TCP.
func TestConn_ends(t *testing.T) {
	const unread = "unread"
	tests := []struct {
		name string
		end  func(a, b *Conn)
		// What b reads, the error behind it, and the error of its writes.
		read       string
		readErr    error
		writeErr   error
		ownRead    error // what a reads and writes
		ownWrite   error
		closeWrite error // what b.CloseWrite returns
	}{
		{"CloseWrite", func(a, b *Conn) { a.CloseWrite() }, unread, io.EOF, nil, nil, errBrokenPipe, nil},
		{"Close", func(a, b *Conn) { a.Close() }, unread, io.EOF, errBrokenPipe, net.ErrClosed, net.ErrClosed, errBrokenPipe},
		{"CloseWrite and Close", func(a, b *Conn) { a.CloseWrite(); a.Close() }, unread, io.EOF, errBrokenPipe, net.ErrClosed, net.ErrClosed, errBrokenPipe},
		{"Close twice", func(a, b *Conn) { a.Close(); a.Close() }, unread, io.EOF, errBrokenPipe, net.ErrClosed, net.ErrClosed, errBrokenPipe},
		{"Reset", func(a, b *Conn) { a.Reset() }, "", errReset, errReset, net.ErrClosed, net.ErrClosed, errReset},
		{"Reset after CloseWrite", func(a, b *Conn) { a.CloseWrite(); a.Reset() }, "", errReset, errReset, net.ErrClosed, net.ErrClosed, errReset},
		{"Close of both", func(a, b *Conn) { a.Close(); b.Close() }, "", net.ErrClosed, net.ErrClosed, net.ErrClosed, net.ErrClosed, net.ErrClosed},
		{"Close after Reset of the peer", func(a, b *Conn) { b.Reset(); a.Close() }, "", net.ErrClosed, net.ErrClosed, net.ErrClosed, net.ErrClosed, net.ErrClosed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := Pipe(addrA, addrB)
			a.Write([]byte(unread))
			tt.end(a, b)
			check := func(what string, got, want error) {
				t.Helper()
				if want == nil && got != nil || !errors.Is(got, want) {
					t.Errorf("%s returned %v, want %v", what, got, want)
				}
			}
			if err := b.CloseWrite(); tt.closeWrite != nil {
				check("CloseWrite of the peer", err, tt.closeWrite)
			}
			if tt.readErr != nil {
				read, err := io.ReadAll(b)
				if err == nil {
					err = io.EOF
				}
				if string(read) != tt.read {
					t.Errorf("the peer read %q, want %q", read, tt.read)
				}
				check("Read of the peer", err, tt.readErr)
			}
			if tt.writeErr != nil {
				_, err := b.Write([]byte("x"))
				check("Write of the peer", err, tt.writeErr)
			}
			if tt.ownRead != nil {
				_, err := a.Read(make([]byte, 1))
				check("Read", err, tt.ownRead)
			}
			_, err := a.Write([]byte("x"))
			check("Write", err, tt.ownWrite)
		})
	}
}

func TestConn_ends_wake_waiting_goroutines(t *testing.T) {
	tests := []struct {
		name        string
		end         func(a, b *Conn)
		read, write error // of a
	}{
		{"Close", func(a, b *Conn) { a.Close() }, net.ErrClosed, net.ErrClosed},
		{"Close of the peer", func(a, b *Conn) { b.Close() }, io.EOF, errBrokenPipe},
		{"Reset of the peer", func(a, b *Conn) { b.Reset() }, errReset, errReset},
		{"deadline", func(a, b *Conn) { a.SetDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded, os.ErrDeadlineExceeded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := Pipe(addrA, addrB)
				var wg sync.WaitGroup
				wg.Go(func() {
					if _, err := a.Read(make([]byte, 1)); !errors.Is(err, tt.read) {
						t.Errorf("Read returned %v, want %v", err, tt.read)
					}
				})
				wg.Go(func() {
					n, err := a.Write(make([]byte, DefaultReadBuffer+1))
					if n != DefaultReadBuffer || !errors.Is(err, tt.write) {
						t.Errorf("Write returned %d and %v, want %d and %v", n, err, DefaultReadBuffer, tt.write)
					}
				})
				synctest.Wait()
				tt.end(a, b)
				wg.Wait()
			})
		})
	}
}

func TestConn_deadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Pipe(addrA, addrB)
		start := time.Now()
		a.SetReadDeadline(start.Add(time.Second))
		_, err := a.Read(make([]byte, 1))
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("Read returned %v after %v, want a timeout after 1s", err, time.Since(start))
		}

		b.Write([]byte("x"))
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after the deadline, Read of a byte that has arrived returned %v, want a timeout", err)
		}
		a.SetReadDeadline(time.Time{})
		if n, err := a.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("without the deadline, Read returned %d and %v, want 1 and nil", n, err)
		}

		go func() { // moves the deadline of a Write that waits
			time.Sleep(time.Second)
			a.SetWriteDeadline(time.Now().Add(time.Second))
		}()
		start = time.Now()
		a.SetWriteDeadline(start.Add(time.Hour))
		if _, err := a.Write(make([]byte, DefaultReadBuffer+1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 2*time.Second {
			t.Errorf("Write returned %v after %v, want a timeout after 2s", err, time.Since(start))
		}
	})
}

func TestConn_SetReadBuffer_limits_what_is_unread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Pipe(addrA, addrB)
		b.SetReadBuffer(10)
		written := make(chan int, 1)
		go func() {
			n, _ := a.Write(make([]byte, 30))
			written <- n
		}()
		wantUnread := func(want int) {
			t.Helper()
			synctest.Wait()
			if got := b.Unread(); got != want {
				t.Errorf("%d bytes are unread, want %d", got, want)
			}
		}
		wantUnread(10)
		b.Read(make([]byte, 4))
		wantUnread(10)
		b.SetReadBuffer(5)
		wantUnread(10)
		b.Read(make([]byte, 7))
		wantUnread(5)
		b.SetReadBuffer(100)
		wantUnread(30 - 4 - 7)
		if n := <-written; n != 30 {
			t.Errorf("Write returned %d, want 30", n)
		}
	})
}

// The bytes of a Write stay together, and a Write that waits for another one does not stop
// the clock of a bubble.
func TestConn_Write_by_several_goroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Pipe(addrA, addrB)
		b.SetReadBuffer(10)
		for _, letter := range "abcd" {
			go a.Write([]byte(strings.Repeat(string(letter), 100)))
		}
		time.Sleep(time.Second)
		got := make([]byte, 400)
		if _, err := io.ReadFull(b, got); err != nil {
			t.Fatal(err)
		}
		for block := range 4 {
			part := got[100*block : 100*block+100]
			if !bytes.Equal(part, bytes.Repeat(part[:1], 100)) {
				t.Errorf("the bytes of Writes are mixed: %q", part)
			}
		}
	})
}

func TestConn_TryWrite(t *testing.T) {
	begin := time.Now()
	tests := []struct {
		name   string
		before func(a, b *Conn)
		n      int // of 10 bytes
		err    error
	}{
		{"with room", func(a, b *Conn) {}, 10, nil},
		{"before the deadline", func(a, b *Conn) { a.SetWriteDeadline(begin.Add(time.Hour)) }, 10, nil},
		{"with room for a part", func(a, b *Conn) { b.SetReadBuffer(7) }, 7, nil},
		{"without room", func(a, b *Conn) { b.SetReadBuffer(0) }, 0, nil},
		{"after the deadline", func(a, b *Conn) { a.SetWriteDeadline(begin) }, 0, os.ErrDeadlineExceeded},
		{"after Close", func(a, b *Conn) { a.Close() }, 0, net.ErrClosed},
		{"after CloseWrite", func(a, b *Conn) { a.CloseWrite() }, 0, errBrokenPipe},
		{"after Close of the peer", func(a, b *Conn) { b.Close() }, 0, errBrokenPipe},
		{"after Reset of the peer", func(a, b *Conn) { b.Reset() }, 0, errReset},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := Pipe(addrA, addrB)
			defer a.Close()
			tt.before(a, b)
			n, err := a.TryWrite(make([]byte, 10))
			if n != tt.n || !errors.Is(err, tt.err) || tt.err == nil && err != nil {
				t.Errorf("got %d and %v, want %d and %v", n, err, tt.n, tt.err)
			}
			if got := b.Unread(); got != tt.n {
				t.Errorf("the peer has %d bytes, want %d", got, tt.n)
			}
		})
	}
	t.Run("while a Write waits", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b := Pipe(addrA, addrB)
			b.SetReadBuffer(10)
			go a.Write([]byte("first and more"))
			synctest.Wait()
			b.Read(make([]byte, 5))
			if n, err := a.TryWrite([]byte("second")); n != 0 || err != nil {
				t.Errorf("got %d and %v, want 0 and nil", n, err)
			}
			b.Close()
		})
	})
}

func TestConn_errors_are_those_of_package_net(t *testing.T) {
	a, b := Pipe(addrA, addrB)
	if a.LocalAddr() != net.Addr(addrA) || a.RemoteAddr() != net.Addr(addrB) || b.RemoteAddr() != net.Addr(addrA) {
		t.Errorf("the addresses are %v, %v and %v", a.LocalAddr(), a.RemoteAddr(), b.RemoteAddr())
	}
	a.Reset()
	_, err := b.Read(make([]byte, 1))
	if got, want := err.Error(), "read tcp 192.0.2.2:80->192.0.2.1:1000: read: connection reset by peer"; got != want {
		t.Errorf("got the text %q, want %q", got, want)
	}
	select {
	case <-a.Closed():
	default:
		t.Error("Closed is not done after Reset")
	}
	select {
	case <-b.Closed():
		t.Error("Closed of the peer is done after Reset")
	default:
	}
}
