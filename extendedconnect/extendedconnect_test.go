package extendedconnect_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket/extendedconnect"
)

func TestConfigure(t *testing.T) {
	defaults := http.HTTP2Config{WriteByteTimeout: time.Minute, SendPingTimeout: 15 * time.Second, MaxReceiveBufferPerStream: 64 << 10}
	own := http.HTTP2Config{WriteByteTimeout: 1, SendPingTimeout: 2, MaxReceiveBufferPerStream: 3, PingTimeout: 4}
	mixed := defaults
	mixed.SendPingTimeout = 2
	for _, tt := range []struct {
		name string
		in   *http.HTTP2Config
		want http.HTTP2Config
	}{
		{"nil", nil, defaults},
		{"zero", &http.HTTP2Config{}, defaults},
		{"all set", &own, own},
		{"one set", &http.HTTP2Config{SendPingTimeout: 2}, mixed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &http.Server{HTTP2: tt.in}
			extendedconnect.Configure(s)
			if !reflect.DeepEqual(*s.HTTP2, tt.want) {
				t.Errorf("got %+v, want %+v", *s.HTTP2, tt.want)
			}
		})
	}
}

// program prints whether its HTTP/2 server advertises SETTINGS_ENABLE_CONNECT_PROTOCOL, its GODEBUG
// afterwards, that of a child process, and what answers an extended CONNECT: the handler, or a
// reset of the stream.
const program = `package main

import (
	"net/http"
	"fmt"
	"io"
	"net"
	"os"
	IMPORT
	"encoding/binary"
	"os/exec"
)

func main() {
	if len(os.Args) > 1 {
		v, set := os.LookupEnv("GODEBUG")
		fmt.Printf("%s %v", v, set)
		return
	}
	child, err := exec.Command(os.Args[0], "child").Output()
	if err != nil {
		panic(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	s := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(299)
	})}
	s.Protocols.SetUnencryptedHTTP2(true)
	go s.Serve(l)
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		panic(err)
	}
	io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	var h [9]byte
	io.ReadFull(c, h[:])
	b := make([]byte, int(h[1])<<8|int(h[2]))
	io.ReadFull(c, b)
	on := false
	for ; len(b) >= 6; b = b[6:] {
		on = on || binary.BigEndian.Uint16(b) == 8 && binary.BigEndian.Uint32(b[2:]) == 1
	}
	var fields []byte
	for _, s := range []string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":path", "/", ":authority", "a"} {
		if s[0] == ':' {
			fields = append(fields, 0) // a literal field
		}
		fields = append(append(fields, byte(len(s))), s...)
	}
	c.Write(append([]byte{0, 0, byte(len(fields)), 1, 4, 0, 0, 0, 1}, fields...))
	answer := ""
	for answer == "" {
		io.ReadFull(c, h[:])
		payload := make([]byte, int(h[1])<<8|int(h[2]))
		if _, err := io.ReadFull(c, payload); err != nil {
			panic(err)
		}
		switch h[3] {
		case 1:
			answer = "served"
		case 3:
			answer = fmt.Sprintf("reset %d", payload[3])
		}
	}
	v, set := os.LookupEnv("GODEBUG")
	fmt.Printf("on=%v GODEBUG=%q %v, child %q, %s", on, v, set, child, answer)
}
`

// build builds the program with more imports, and returns the binary. flags are for go build.
func build(t *testing.T, imports string, flags ...string) string {
	t.Helper()
	dir := t.TempDir()
	src := filepath.Join(dir, "main.go")
	write(t, src, strings.Replace(program, "IMPORT", imports, 1))
	return runBuild(t, "", filepath.Join(dir, "program.exe"), src, flags...)
}

// buildModule builds the program as a module that imports extendedconnect only by a dependency,
// whose path is the last of all. The path of another dependency, which uses net/http while it is
// initialized, is before that of extendedconnect.
func buildModule(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "main.go"), strings.Replace(program, "IMPORT", "_ \"a.example/first\"\n\t_ \"zz.example/last\"", 1))
	write(t, filepath.Join(dir, "go.mod"), "module 0.example/app\ngo 1.25\n"+
		"require (\na.example/first v0.0.0\nzz.example/last v0.0.0\ngithub.com/f44ffc3b/websocket v0.0.0\n)\n"+
		"replace (\na.example/first => ./first\nzz.example/last => ./last\ngithub.com/f44ffc3b/websocket => "+strconv.Quote(root)+"\n)\n")
	write(t, filepath.Join(dir, "first", "go.mod"), "module a.example/first\ngo 1.25\n")
	write(t, filepath.Join(dir, "first", "first.go"), "package first\nimport \"net/http\"\nfunc init() { http.Handle(\"/\", http.NotFoundHandler()) }\n")
	write(t, filepath.Join(dir, "last", "go.mod"), "module zz.example/last\ngo 1.25\nrequire github.com/f44ffc3b/websocket v0.0.0\n")
	write(t, filepath.Join(dir, "last", "last.go"), "package last\nimport _ \"github.com/f44ffc3b/websocket/extendedconnect\"\n")
	return runBuild(t, dir, filepath.Join(dir, "program.exe"), ".")
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// runBuild runs go build for src in dir, and returns bin.
func runBuild(t *testing.T, dir, bin, src string, flags ...string) string {
	t.Helper()
	c := exec.Command("go", append(append([]string{"build"}, flags...), "-o", bin, src)...)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%q: %v\n%s", c.Args, err, out)
	}
	return bin
}

func TestImport(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("this test builds programs, and there is no go command")
	}
	const imported = `_ "github.com/f44ffc3b/websocket/extendedconnect"`
	with, without := build(t, imported), build(t, "")
	flagged := []string{"-trimpath"}
	if raceEnabled {
		flagged = []string{"-race"} // for which the standard library is compiled already
	}
	other := build(t, imported+"\n\t_ \"crypto/x509\"\n\t_ \"net/http/pprof\"\n\t_ \"archive/zip\"", flagged...)
	module := buildModule(t)
	for _, tt := range []struct{ name, bin, env, want string }{
		{"unset", with, "", `on=true GODEBUG="" false, child " false", served`},
		{"empty", with, "GODEBUG=", `on=true GODEBUG="" true, child " true", served`},
		{"other settings", with, "GODEBUG=madvdontneed=1", `on=true GODEBUG="madvdontneed=1" true, child "madvdontneed=1 true", served`},
		{"switched off by the user", with, "GODEBUG=http2xconnect=0", `on=false GODEBUG="http2xconnect=0" true, child "http2xconnect=0 true", reset 1`},
		{"switched on by the user", with, "GODEBUG=http2xconnect=1", `on=true GODEBUG="http2xconnect=1" true, child "http2xconnect=1 true", served`},
		{"with other imports and flags", other, "", `on=true GODEBUG="" false, child " false", served`},
		{"imported by a dependency", module, "", `on=true GODEBUG="" false, child " false", served`},
		{"switched off among others", with, "GODEBUG=a=1,http2xconnect=0,b=2", `on=false GODEBUG="a=1,http2xconnect=0,b=2" true, child "a=1,http2xconnect=0,b=2 true", reset 1`},
		{"another setting with that end", with, "GODEBUG=nohttp2xconnect=0", `on=true GODEBUG="nohttp2xconnect=0" true, child "nohttp2xconnect=0 true", served`},
		{"without the import", without, "", `on=false GODEBUG="" false, child " false", reset 1`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := exec.Command(tt.bin)
			for _, e := range os.Environ() {
				if !strings.HasPrefix(e, "GODEBUG=") {
					c.Env = append(c.Env, e)
				}
			}
			if tt.env != "" {
				c.Env = append(c.Env, tt.env)
			}
			out, err := c.CombinedOutput()
			if err != nil || string(out) != tt.want {
				t.Errorf("got %s (%v), want %s", out, err, tt.want)
			}
		})
	}
}
