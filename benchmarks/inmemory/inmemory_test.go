package inmemory

import (
	"bytes"
	"testing"

	"github.com/f44ffc3b/websocket/benchmarks/load"
	"github.com/f44ffc3b/websocket/benchmarks/servers"
)

// each runs f as a subtest for every contestant in every case that admits it.
func each[T interface{ Run(string, func(T)) bool }](t T, f func(t T, c Case, s servers.Contestant)) {
	for _, c := range Cases() {
		for _, s := range servers.All {
			if c.Admits(s) {
				t.Run(c.Name+"/"+s.Name, func(t T) { f(t, c, s) })
			}
		}
	}
}

func BenchmarkEcho(b *testing.B) {
	each(b, func(b *testing.B, c Case, s servers.Contestant) {
		b.ReportAllocs()
		b.SetBytes(int64(c.Size))
		// A batched read may contain the end of the warm-up and some counted messages.
		// Those few are not measured, but b.N includes them.
		if err := c.Run(s, 100, b.N, func(int) { b.ResetTimer() }, b.StopTimer); err != nil {
			b.Fatal(err)
		}
	})
}

func TestEchoIsExact(t *testing.T) {
	each(t, func(t *testing.T, c Case, s servers.Contestant) {
		if c.Text == load.JSON {
			t.Skip("a compressed answer has many right forms; TestEveryContestant inflates them")
		}
		const n = 3
		var got bytes.Buffer
		if err := c.run(s, 0, n, func(int) {}, func() {}, &got); err != nil {
			t.Fatal(err)
		}
		messages := c.perRead()
		_, echoed := c.Wire(messages)
		want := bytes.Repeat(echoed, n)[:n*len(echoed)/messages]
		_, frames, _ := bytes.Cut(got.Bytes(), []byte("\r\n\r\n"))
		if s.Name == "coder" { // net/http writes the response, not this contestant
			frames = got.Bytes()
		}
		if !bytes.HasPrefix(frames, want) {
			t.Errorf("got %d bytes that differ from the echo of the messages, want these %d bytes", len(frames), len(want))
		}
	})
}

// TestOffsets checks the arithmetic with messages of different sizes.
func TestOffsets(t *testing.T) {
	ends := []int{10, 15, 40}
	for n, want := range []int{0, 10, 15, 40, 50, 55, 80, 90} {
		if got := offset(ends, n); got != want {
			t.Errorf("offset of %d messages: got %d, want %d", n, got, want)
		}
		if got := count(ends, want); got != n {
			t.Errorf("messages in %d bytes: got %d, want %d", want, got, n)
		}
		if got := count(ends, want+4); got != n {
			t.Errorf("complete messages in %d bytes: got %d, want %d", want+4, got, n)
		}
	}
}
