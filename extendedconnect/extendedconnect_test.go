package extendedconnect_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
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

// program prints whether its HTTP/2 server advertises SETTINGS_ENABLE_CONNECT_PROTOCOL, and its GODEBUG afterwards.
const program = `package main

import (
	"net/http"
	"fmt"
	"io"
	"net"
	"os"
	IMPORT
	"encoding/binary"
)

func main() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	s := &http.Server{Protocols: new(http.Protocols)}
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
	v, set := os.LookupEnv("GODEBUG")
	fmt.Printf("type=%d on=%v GODEBUG=%q set=%v", h[3], on, v, set)
}
`

// build builds the program with more imports, and returns the binary. flags are for go build.
func build(t *testing.T, imports string, flags ...string) string {
	t.Helper()
	dir := t.TempDir()
	src, bin := filepath.Join(dir, "main.go"), filepath.Join(dir, "program.exe")
	if err := os.WriteFile(src, []byte(strings.Replace(program, "IMPORT", imports, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append(append([]string{"build"}, flags...), "-o", bin, src)
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Fatalf("go %q: %v\n%s", args, err, out)
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
	if raceEnabled { // the standard library is compiled already
		flagged = append(flagged, "-race")
	}
	other := build(t, imported+"\n\t_ \"crypto/x509\"\n\t_ \"net/http/pprof\"\n\t_ \"archive/zip\"", flagged...)
	for _, tt := range []struct{ name, bin, env, want string }{
		{"unset", with, "", `type=4 on=true GODEBUG="" set=false`},
		{"empty", with, "GODEBUG=", `type=4 on=true GODEBUG="" set=true`},
		{"other settings", with, "GODEBUG=madvdontneed=1", `type=4 on=true GODEBUG="madvdontneed=1" set=true`},
		{"switched off by the user", with, "GODEBUG=http2xconnect=0", `type=4 on=false GODEBUG="http2xconnect=0" set=true`},
		{"switched on by the user", with, "GODEBUG=http2xconnect=1", `type=4 on=true GODEBUG="http2xconnect=1" set=true`},
		{"with other imports and flags", other, "", `type=4 on=true GODEBUG="" set=false`},
		{"switched off among others", with, "GODEBUG=a=1,http2xconnect=0,b=2", `type=4 on=false GODEBUG="a=1,http2xconnect=0,b=2" set=true`},
		{"another setting with that end", with, "GODEBUG=nohttp2xconnect=0", `type=4 on=true GODEBUG="nohttp2xconnect=0" set=true`},
		{"without the import", without, "", `type=4 on=false GODEBUG="" set=false`},
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
