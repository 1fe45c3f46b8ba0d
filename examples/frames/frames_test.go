package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/f44ffc3b/websocket"
)

const limit = 3 << 20

// start runs the server and returns its URL and its directory.
func start(t *testing.T) (url, dir string) {
	t.Helper()
	dir = t.TempDir()
	return startPatient(t, dir, time.Hour), dir
}

// startPatient runs the server with a limit for the time of a file, and returns its URL.
func startPatient(t *testing.T, dir string, patience time.Duration) (url string) {
	t.Helper()
	srv := httptest.NewServer(routes(newHandler(dir, limit, patience)))
	t.Cleanup(srv.Close)
	return "ws" + strings.TrimPrefix(srv.URL, "http") + "/upload"
}

func connect(t *testing.T, url string) *client {
	t.Helper()
	c, err := dial(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.conn.Close() })
	c.conn.SetDeadline(time.Now().Add(timeout))
	return c
}

// testData returns n bytes that differ from page to page.
func testData(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

// sumOf returns the SHA-256 of b in hexadecimal.
func sumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func TestUpload(t *testing.T) {
	for _, size := range []int{0, 1, fragmentSize - 1, fragmentSize, 2*reportEvery + 1, limit} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			url, dir := start(t)
			data := testData(size)
			path := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(path, data, 0o666); err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			if err := upload(url, path, &out); err != nil {
				t.Fatal(err)
			}

			var want strings.Builder
			for n := reportEvery; n <= size; n += reportEvery {
				fmt.Fprintf(&want, "%d of %d bytes\n", n, size)
			}
			fmt.Fprintf(&want, "%d of %d bytes\nSHA-256 %s\n", size, size, sumOf(data))
			if out.String() != want.String() {
				t.Errorf("the client printed\n%swant\n%s", out.String(), want.String())
			}
			got, err := os.ReadFile(filepath.Join(dir, sumOf(data)))
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("the stored file has %d bytes (error %v), want the %d bytes that were sent", len(got), err, size)
			}
		})
	}
}

// TestFrames checks that the server answers control frames between the fragments of a
// message, and that it takes several files on one connection.
func TestFrames(t *testing.T) {
	url, dir := start(t)
	c := connect(t, url)
	for _, file := range []string{"", "a file", "another"} {
		half := len(file) / 2
		c.frame(t, websocket.Binary, false, file[:half])
		c.frame(t, websocket.Ping, true, "still there?")
		c.expect(t, websocket.Pong, "still there?")
		c.frame(t, websocket.Continuation, false, "")
		c.frame(t, websocket.Pong, true, "I am")
		c.frame(t, websocket.Continuation, true, file[half:])
		want, err := json.Marshal(progress{int64(len(file)), sumOf([]byte(file))})
		if err != nil {
			t.Fatal(err)
		}
		c.expect(t, websocket.Text, string(want))
	}
	c.frame(t, websocket.Close, true, "\x03\xe8")
	c.expect(t, websocket.Close, "")
	if _, err := c.r.ReadByte(); err != io.EOF {
		t.Errorf("after the close handshake, reading returned %v, want EOF", err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 3 {
		t.Errorf("the server has stored %v (error %v), want 3 files", files, err)
	}
}

func (c *client) frame(t *testing.T, op websocket.Opcode, fin bool, payload string) {
	t.Helper()
	if err := c.write(op, fin, []byte(payload)); err != nil {
		t.Fatal(err)
	}
}

func (c *client) expect(t *testing.T, op websocket.Opcode, payload string) {
	t.Helper()
	f, err := websocket.ReadFrame(c.r, 4096)
	if err != nil {
		t.Fatal(err)
	}
	if f.Opcode != op || string(f.Payload) != payload {
		t.Fatalf("got a %v frame with %q, want a %v frame with %q", f.Opcode, f.Payload, op, payload)
	}
}

// A connection can upload maxFiles files and no more.
func TestTooManyFiles(t *testing.T) {
	url, dir := start(t)
	c := connect(t, url)
	for i := range maxFiles {
		c.frame(t, websocket.Binary, true, fmt.Sprint(i))
		if f, err := websocket.ReadFrame(c.r, 4096); err != nil || f.Opcode != websocket.Text {
			t.Fatalf("got a %v frame and error %v for file %d, want a report", f.Opcode, err, i)
		}
	}
	c.frame(t, websocket.Binary, true, "one more")
	if _, err := c.readReports(func(progress) {}); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Errorf("the server closed with %v, want 1008", err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != maxFiles {
		t.Errorf("the server has stored %d files (error %v), want %d", len(files), err, maxFiles)
	}
}

func TestRefusals(t *testing.T) {
	frame := func(op websocket.Opcode, fin bool, size int) websocket.Frame {
		h := websocket.Header{Fin: fin, Opcode: op, Masked: true}
		return websocket.Frame{Header: h, Payload: make([]byte, size)}
	}
	reserved := frame(websocket.Binary, true, 1)
	reserved.RSV1 = true
	begin := frame(websocket.Binary, false, 1)
	mega := frame(websocket.Continuation, false, 1<<20)
	for _, test := range []struct {
		name   string
		frames []websocket.Frame
		code   websocket.StatusCode
	}{
		{"text message", []websocket.Frame{frame(websocket.Text, true, 0)}, websocket.StatusUnsupportedData},
		{"new message before the last one has ended", []websocket.Frame{begin, begin}, websocket.StatusProtocolError},
		{"continuation without a message", []websocket.Frame{frame(websocket.Continuation, true, 1)}, websocket.StatusProtocolError},
		{"reserved bit", []websocket.Frame{reserved}, websocket.StatusProtocolError},
		{"reserved opcode", []websocket.Frame{begin, frame(0xB, true, 0)}, websocket.StatusProtocolError},
		{"fragmented ping", []websocket.Frame{begin, frame(websocket.Ping, false, 0)}, websocket.StatusProtocolError},
		{"ping over 125 bytes", []websocket.Frame{begin, frame(websocket.Ping, true, 126)}, websocket.StatusProtocolError},
		{"file over the limit", []websocket.Frame{begin, mega, mega, mega}, websocket.StatusMessageTooBig},
		{"frame over 1 MiB", []websocket.Frame{frame(websocket.Binary, false, 1<<20+1)}, websocket.StatusMessageTooBig},
	} {
		t.Run(test.name, func(t *testing.T) {
			url, dir := start(t)
			c := connect(t, url)
			for _, f := range test.frames {
				if err := websocket.WriteFrame(c.conn, f); err != nil {
					t.Fatal(err)
				}
			}
			_, err := c.readReports(func(progress) {})
			if got := websocket.CloseStatus(err); got != test.code {
				t.Errorf("the server closed with %v, want %v", err, test.code)
			}
			expectEmpty(t, c, dir)
		})
	}
}

// A client that sends a file one byte at a time is disconnected, and the server removes the
// unfinished file. So is a client that sends nothing.
func TestSlowUpload(t *testing.T) {
	for name, begin := range map[string]websocket.Opcode{"a byte at a time": websocket.Binary, "nothing": websocket.Pong} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c := connect(t, startPatient(t, dir, 50*time.Millisecond))
			stop := make(chan struct{})
			defer close(stop)
			go func() {
				for op := begin; ; time.Sleep(5 * time.Millisecond) {
					select {
					case <-stop:
						return
					default:
					}
					if c.write(op, op == websocket.Pong, []byte{0}) != nil {
						return
					}
					if op == websocket.Binary {
						op = websocket.Continuation
					}
				}
			}()
			_, err := c.readReports(func(progress) {})
			if got := websocket.CloseStatus(err); got != websocket.StatusPolicyViolation {
				t.Errorf("the server closed with %v, want 1008", err)
			}
			expectEmpty(t, c, dir)
		})
	}
}

// Ctrl-C closes the connections with 1001, and the server removes the unfinished files.
func TestShutdown(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, l, newHandler(dir, limit, time.Hour)) }()
	c := connect(t, "ws://"+l.Addr().String()+"/upload")
	c.frame(t, websocket.Binary, false, "the beginning of a file")
	c.frame(t, websocket.Ping, true, "is it stored?")
	c.expect(t, websocket.Pong, "is it stored?")
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("the server has stored %v (error %v), want the unfinished file", files, err)
	}

	stop()
	c.expect(t, websocket.Close, "\x03\xe9")
	c.frame(t, websocket.Close, true, "\x03\xe9")
	if err := <-ended; err != nil {
		t.Errorf("the server stopped with %v, want no error", err)
	}
	expectEmpty(t, c, dir)
}

// expectEmpty waits for the end of the connection, and checks that the server has
// removed the unfinished file.
func expectEmpty(t *testing.T, c *client, dir string) {
	t.Helper()
	if n, err := io.Copy(io.Discard, c.r); n > 0 || err != nil {
		t.Errorf("after its close frame the server sent %d bytes (error %v), want EOF", n, err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("the server has stored %v (error %v), want no file", files, err)
	}
}

func TestUploadFails(t *testing.T) {
	url, dir := start(t)

	t.Run("file over the limit", func(t *testing.T) {
		c := connect(t, url)
		_, err := c.transfer(bytes.NewReader(testData(3*limit)), func(progress) {})
		closed := new(websocket.CloseError)
		if !errors.As(err, &closed) || closed.Code != websocket.StatusMessageTooBig {
			t.Errorf("transfer returned %v, want a CloseError with 1009", err)
		}
	})

	t.Run("file that cannot be read", func(t *testing.T) {
		readError := errors.New("the disk has failed")
		c := connect(t, url)
		_, err := c.transfer(io.MultiReader(bytes.NewReader(testData(fragmentSize)), iotest.ErrReader(readError)), func(progress) {})
		if err != readError {
			t.Errorf("transfer returned %v, want %v", err, readError)
		}
	})

	t.Run("no such file, scheme or path", func(t *testing.T) {
		path := filepath.Join(dir, "no such file")
		for _, err := range []error{
			upload(url, path, io.Discard),
			upload("http://localhost/", os.Args[0], io.Discard),
			upload(strings.TrimSuffix(url, "upload"), os.Args[0], io.Discard),
		} {
			if err == nil {
				t.Error("upload returned nil, want an error")
			}
		}
	})
}
