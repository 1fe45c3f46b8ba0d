package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// patience limits each wait of a test. Tests do not come near it on an idle machine.
const patience = 30 * time.Second

// testNATS starts a NATS server in this process.
func testNATS(t *testing.T, cfg embeddedConfig) *embedded {
	t.Helper()
	if cfg.listen == "" {
		cfg.listen = "127.0.0.1:0"
	}
	e, err := startNATS(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.stop)
	return e
}

// testBus connects a room to NATS.
func testBus(t *testing.T, url string) (*bus, *room) {
	t.Helper()
	r := newRoom("test", defaultLimits())
	b, err := openBus(t.Context(), testBusConfig(url), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.close)
	return b, r
}

func testBusConfig(url string) busConfig {
	return busConfig{url: url, replicas: 1, keepMessages: 1000, keepBytes: 1 << 20, keepAge: time.Hour}
}

// waitFor waits until condition is true for the room.
func waitFor(t *testing.T, r *room, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		r.mu.Lock()
		met := condition()
		r.mu.Unlock()
		if met {
			return
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-deadline:
			t.Fatalf("after %v this is still false: %s", patience, what)
		}
	}
}

// has returns the condition that the room has the messages up to last.
func (r *room) has(last uint64) func() bool {
	return func() bool { return r.history.last >= last }
}

// publishTest publishes the message "message id" and checks its number.
func publishTest(t *testing.T, b *bus, id string, want uint64) {
	t.Helper()
	seq, err := b.publish(t.Context(), id, fmt.Appendf(nil, `{"id":%q,"name":"Bob","text":"message %s"}`, id, id))
	if err != nil || seq != want {
		t.Fatalf("publish of %s returned %d and error %v, want %d", id, seq, err, want)
	}
}

func TestBus_stores_an_id_once(t *testing.T) {
	t.Parallel()
	n := testNATS(t, embeddedConfig{})
	b, r := testBus(t, n.url())
	other, _ := testBus(t, n.url())
	publishTest(t, b, "1", 1)
	publishTest(t, other, "1", 1)
	publishTest(t, other, "2", 2)
	waitFor(t, r, "the room has both messages", r.has(2))
	joinRoom(t, r, "", 0).expect(concat([]string{"welcome"}, messages(1, 2), []string{"live true"})...)
	if newest, err := b.newest(t.Context()); err != nil || newest != 2 {
		t.Errorf("the newest message is %d (error %v), want 2", newest, err)
	}
}

// A process that starts has the whole history before it serves clients.
func TestBus_reads_the_history_first(t *testing.T) {
	t.Parallel()
	n := testNATS(t, embeddedConfig{})
	b, _ := testBus(t, n.url())
	for seq := range uint64(300) {
		publishTest(t, b, fmt.Sprint(seq+1), seq+1)
	}
	_, late := testBus(t, n.url())
	joinRoom(t, late, "", 0).expect(concat([]string{"welcome"}, messages(251, 300), []string{"live true"})...)
}

// The stream drops the oldest messages, and clients are told.
func TestBus_limits_of_the_stream(t *testing.T) {
	t.Parallel()
	n := testNATS(t, embeddedConfig{})
	cfg := testBusConfig(n.url())
	cfg.keepMessages = 3
	r := newRoom("test", defaultLimits())
	b, err := openBus(t.Context(), cfg, r)
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	for seq := range uint64(10) {
		publishTest(t, b, fmt.Sprint(seq+1), seq+1)
	}
	waitFor(t, r, "the room has all messages", r.has(10))
	want := concat([]string{"welcome", "missed 5 up to 7"}, messages(8, 10), []string{"live true"})
	joinRoom(t, r, r.stream, 2).expect(want...)
	_, late := testBus(t, n.url()) // with the limits of the first process
	joinRoom(t, late, r.stream, 2).expect(want...)
}

// NATS ends and comes back with its files. Clients are told, messages fail at once, and then
// everything continues.
func TestBus_when_NATS_restarts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := testNATS(t, embeddedConfig{dir: dir})
	b, r := testBus(t, n.url())
	publishTest(t, b, "1", 1)
	waitFor(t, r, "the room has the message", r.has(1))
	u := joinRoom(t, r, "", 0)
	u.expect("welcome", "1 message 1", "live true")

	address := n.server.Addr().String()
	n.stop()
	u.expect("bus false")
	start := time.Now()
	u.SendJSON(remark{ID: "a", Text: "Is NATS there?"})
	u.expect("failed a")
	if took := time.Since(start); took > publishTimeout/2 {
		t.Errorf("without a connection, a message failed after %v, want at once", took)
	}

	testNATS(t, embeddedConfig{listen: address, dir: dir})
	u.expect("bus true")
	u.SendJSON(remark{ID: "a", Text: "Is NATS there?"})
	u.expectBoth("2 Is NATS there?", "stored a")
}

// expectBoth receives two events in any order.
func (u *user) expectBoth(first, second string) {
	u.t.Helper()
	var one, other event
	u.ReceiveJSON(&one)
	u.ReceiveJSON(&other)
	got, want := line(one)+", "+line(other), first+", "+second
	if got != want && got != second+", "+first {
		u.t.Fatalf("got the events %q, want %q in any order", got, want)
	}
}

// NATS comes back without its files. The numbers begin again, so clients have to know.
func TestBus_when_NATS_has_lost_the_stream(t *testing.T) {
	t.Parallel()
	n := testNATS(t, embeddedConfig{})
	b, r := testBus(t, n.url())
	for seq := range uint64(5) {
		publishTest(t, b, fmt.Sprint(seq+1), seq+1)
	}
	waitFor(t, r, "the room has all messages", r.has(5))
	u := joinRoom(t, r, "", 0)
	u.expect(concat([]string{"welcome"}, messages(1, 5), []string{"live true"})...)
	old := r.stream

	address := n.server.Addr().String()
	n.stop()
	u.expect("bus false")
	testNATS(t, embeddedConfig{listen: address})
	u.WantClose(1012)
	waitFor(t, r, "the process is connected", func() bool { return r.connected })
	publishTest(t, b, "1", 1)
	again := joinRoom(t, r, old, 5)
	again.expect("welcome reset")
	again.expectBoth("1 message 1", "live true")
}

// The machine of NATS fails, and NATS comes back without its newest messages. Other processes
// use their numbers again before this process has reconnected.
func TestBus_when_numbers_are_used_again(t *testing.T) {
	t.Parallel()
	dir, backup := t.TempDir(), t.TempDir()
	n := testNATS(t, embeddedConfig{dir: dir})
	address := n.server.Addr().String()
	network := newNetwork(t, address)
	b, r := testBus(t, "nats://"+network.addr)
	publishTest(t, b, "1", 1)
	n.stop()
	waitFor(t, r, "the process knows that NATS is away", func() bool { return !r.connected })
	if err := os.CopyFS(backup, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	n = testNATS(t, embeddedConfig{listen: address, dir: dir})
	waitFor(t, r, "the process is connected again", func() bool { return r.connected })
	publishTest(t, b, "2", 2)
	publishTest(t, b, "3", 3)
	waitFor(t, r, "the room has all messages", r.has(3))
	u := joinRoom(t, r, "", 0)
	u.expect(concat([]string{"welcome"}, messages(1, 3))...)
	newest := u.time
	u.expect("live true")
	old := r.stream

	network.setSilent(true)
	n.stop()
	testNATS(t, embeddedConfig{listen: address, dir: backup})
	other, _ := testBus(t, "nats://"+address)
	for seq := uint64(2); seq <= 4; seq++ {
		publishTest(t, other, fmt.Sprint("new-", seq), seq)
	}
	network.setSilent(false)
	u.expect("bus false")
	u.WantClose(1012)
	again := joinRoomAt(t, r, old, 3, newest)
	again.expect("welcome reset", "1 message 1", "2 message new-2", "3 message new-3", "4 message new-4")
}

// The newest messages are deleted from the stream. A process that starts does not wait for them.
func TestBus_when_the_newest_messages_were_deleted(t *testing.T) {
	t.Parallel()
	n := testNATS(t, embeddedConfig{})
	b, r := testBus(t, n.url())
	for seq := range uint64(4) {
		publishTest(t, b, fmt.Sprint(seq+1), seq+1)
	}
	waitFor(t, r, "the room has all messages", r.has(4))
	stream, err := b.js.Stream(t.Context(), streamName)
	if err != nil {
		t.Fatal(err)
	}
	for _, seq := range []uint64{3, 4} {
		if err := stream.DeleteMsg(t.Context(), seq); err != nil {
			t.Fatal(err)
		}
	}
	state, err := b.state(t.Context(), stream)
	if err != nil || state.last != 4 || state.newest != 2 || !r.follows(state) {
		t.Errorf("the state is %+v (error %v), want the newest message 2 of 4, and that the process follows it", state, err)
	}
	_, late := testBus(t, n.url())
	joinRoom(t, late, r.stream, 4).expect("welcome", "live true")
	publishTest(t, b, "5", 5)
	waitFor(t, late, "the process has the next message", late.has(5))
	joinRoom(t, late, r.stream, 1).expect("welcome", "2 message 2", "missed 2 up to 4", "5 message 5", "live true")
}

// The stream is deleted while NATS runs.
func TestBus_when_the_stream_is_deleted(t *testing.T) {
	t.Parallel()
	n := testNATS(t, embeddedConfig{})
	b, r := testBus(t, n.url())
	publishTest(t, b, "1", 1)
	waitFor(t, r, "the room has the message", r.has(1))
	old := r.stream
	if err := b.js.DeleteStream(t.Context(), streamName); err != nil {
		t.Fatal(err)
	}
	waitFor(t, r, "the process follows a new stream", func() bool { return r.stream != old && r.connected })
	publishTest(t, b, "2", 1)
	waitFor(t, r, "the room has the message of the new stream", r.has(1))
}

// The network to NATS drops all bytes, without an error. Everything ends in time.
func TestBus_when_the_network_is_silent(t *testing.T) {
	t.Parallel()
	n := testNATS(t, embeddedConfig{})
	network := newNetwork(t, n.server.Addr().String())
	b, r := testBus(t, "nats://"+network.addr)
	publishTest(t, b, "1", 1)
	waitFor(t, r, "the room has the message", r.has(1))

	network.setSilent(true)
	start := time.Now()
	_, err := b.publish(t.Context(), "2", []byte(`{"id":"2","name":"Bob","text":"message 2"}`))
	var failure *publishError
	if !errors.As(err, &failure) || !strings.Contains(failure.text, "may still arrive") {
		t.Errorf("publish returned %v, want that the message may still arrive", err)
	}
	if took := time.Since(start); took < publishTimeout || took > 2*publishTimeout {
		t.Errorf("publish returned after %v, want %v", took, publishTimeout)
	}
	waitFor(t, r, "the process knows that NATS is away", func() bool { return !r.connected })
	network.setSilent(false)
	waitFor(t, r, "the process is connected again", func() bool { return r.connected })
	seq, err := b.publish(t.Context(), "2", []byte(`{"id":"2","name":"Bob","text":"message 2"}`))
	if err != nil || seq != 2 {
		t.Errorf("publish returned %d and error %v, want 2", seq, err)
	}
}

// A network forwards TCP connections to NATS. If it is silent, it drops all bytes.
type network struct {
	addr string

	mu     sync.Mutex
	silent bool
}

func newNetwork(t *testing.T, target string) *network {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &network{addr: l.Addr().String()}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { n.forward(ctx, c, target) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		cancel()
		running.Wait()
	})
	return n
}

func (n *network) setSilent(silent bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.silent = silent
}

func (n *network) forward(ctx context.Context, c net.Conn, target string) {
	defer c.Close()
	d, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer d.Close()
	defer context.AfterFunc(ctx, func() { c.Close(); d.Close() })()
	var both sync.WaitGroup
	both.Go(func() { io.Copy(lossy{n, d}, c); d.Close() })
	both.Go(func() { io.Copy(lossy{n, c}, d); c.Close() })
	both.Wait()
}

// A lossy writes nothing while its network is silent.
type lossy struct {
	n *network
	w io.Writer
}

func (l lossy) Write(p []byte) (int, error) {
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	if l.n.silent {
		return len(p), nil
	}
	return l.w.Write(p)
}

func TestOpenBus_fails(t *testing.T) {
	withToken := testNATS(t, embeddedConfig{token: "secret"})
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	tests := []struct {
		name, url, token, want string
	}{
		{"no NATS", "nats://user:hidden@" + free.Addr().String(), "", "connecting to NATS at nats://127.0.0.1:"},
		{"a slash in the password", "nats://user:hid/den@host:4222", "", "must be escaped"},
		{"a percent sign in the password", "nats://user:den%hid@host:4222", "", "must be escaped"},
		{"a comma in the password", "nats://user:hid,den@host:4222", "", "must be escaped"},
		{"no token", withToken.url(), "", "NATS_TOKEN"},
		{"a wrong token", withToken.url(), "guess", "NATS_TOKEN"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := testBusConfig(tt.url)
			cfg.token = tt.token
			b, err := openBus(t.Context(), cfg, newRoom("test", defaultLimits()))
			if err == nil {
				b.close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hid") {
				t.Errorf("got error %v, want one with %q and without the password", err, tt.want)
			}
		})
	}
	cfg := testBusConfig(withToken.url())
	cfg.token = "secret"
	b, err := openBus(t.Context(), cfg, newRoom("test", defaultLimits()))
	if err != nil {
		t.Fatalf("with the token: %v", err)
	}
	b.close()
}

func TestStartNATS(t *testing.T) {
	busy := testNATS(t, embeddedConfig{})
	tests := []struct {
		name string
		cfg  embeddedConfig
		want string
	}{
		{"an address that other machines can reach, without a token", embeddedConfig{listen: "0.0.0.0:0"}, "NATS_TOKEN"},
		{"all addresses, without a token", embeddedConfig{listen: ":0"}, "NATS_TOKEN"},
		{"a port that is in use", embeddedConfig{listen: busy.server.Addr().String()}, "join it with -nats"},
		{"no port", embeddedConfig{listen: "localhost"}, "missing port"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, err := startNATS(tt.cfg)
			if err == nil {
				e.stop()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
		})
	}
	open := testNATS(t, embeddedConfig{listen: "0.0.0.0:0", token: "secret"})
	nc, err := nats.Connect(open.url(), nats.Token("secret"))
	if err != nil {
		t.Fatalf("with a token: %v", err)
	}
	nc.Close()
	temporary := testNATS(t, embeddedConfig{})
	temporary.stop()
	if _, err := os.Stat(temporary.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the temporary directory is still there: %v", err)
	}
}

func TestRedact(t *testing.T) {
	for url, want := range map[string]string{
		"nats://localhost:4222":         "nats://localhost:4222",
		"nats://user:pass@host:4222":    "nats://host:4222",
		"tls://token@a:1,nats://b@c@:2": "tls://a:1,nats://:2",
		"token@host":                    "nats://host",
	} {
		if got := redact(url); got != want {
			t.Errorf("redact(%s) is %s, want %s", url, got, want)
		}
	}
}
