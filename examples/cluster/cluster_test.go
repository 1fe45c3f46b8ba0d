package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	client "github.com/coder/websocket"

	"github.com/f44ffc3b/websocket"
	"github.com/f44ffc3b/websocket/internal/wstest"
)

// binary builds the program. The result is shared by all tests.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "cluster-test-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "cluster")
	args := []string{"build", "-o", path}
	if wstest.RaceEnabled() {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
		return "", errors.Join(fmt.Errorf("go build: %w\n%s", err, out), os.RemoveAll(dir))
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := binary(); err == nil {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// A process is a running program.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	logs  sync.WaitGroup // the goroutine that reads the log
	url   string         // of the page
	nats  string         // the URL of NATS, if it is in this process
	ended bool
}

// startProcess starts a process on a free port, or on the one of args.
func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: exec.Command(path, append([]string{"-listen", "127.0.0.1:0", "-nats-listen", "127.0.0.1:0"}, args...)...)}
	log, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.terminate)
	ready := make(chan string, 1)
	nats := make(chan string, 1)
	p.logs.Go(func() { p.readLog(log, ready, nats) })
	select {
	case p.url = <-ready:
	case <-time.After(patience):
		p.kill()
		t.Fatalf("the process has not logged its URL after %v", patience)
	}
	select {
	case p.nats = <-nats:
	default:
	}
	return p
}

var (
	readyLine = regexp.MustCompile(`url=(http://\S+)`)
	natsLine  = regexp.MustCompile(`nats=(nats://\S+) data=`)
)

// readLog copies the log of the process to that of the test, and sends the URLs in it.
func (p *process) readLog(log io.Reader, ready, nats chan<- string) {
	for lines := bufio.NewScanner(log); lines.Scan(); {
		p.t.Log(p.cmd.Process.Pid, lines.Text())
		if match := natsLine.FindStringSubmatch(lines.Text()); match != nil {
			nats <- match[1]
		}
		if match := readyLine.FindStringSubmatch(lines.Text()); match != nil {
			ready <- strings.Replace(match[1], "localhost", "127.0.0.1", 1)
		}
	}
}

// kill ends the process with SIGKILL.
func (p *process) kill() {
	p.ended = true
	p.cmd.Process.Kill()
	p.logs.Wait()
	p.cmd.Wait()
}

// terminate ends the process with SIGTERM. It must end without an error.
func (p *process) terminate() {
	p.t.Helper()
	if p.ended {
		return
	}
	p.ended = true
	p.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(patience, func() { p.cmd.Process.Kill() })
	defer timer.Stop()
	p.logs.Wait()
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("the process ended with %v, want no error", err)
	}
}

// A reader is a client of the chat over TCP. It does what the page does: it reconnects to
// any process, with the last number that it has seen, and sends again what was not stored.
type reader struct {
	name  string
	urls  func() []string // of the processes that run
	again int             // which of them is next

	conn         *client.Conn
	stream       string
	last         uint64
	time         time.Time // of the message last
	reconnected  int
	texts        []string // in the order of the stream
	problems     []string
	unconfirmed  []remark
	stillToSend  []remark
	wantMessages int
}

// run sends the remarks and reads until the reader has wantMessages texts.
func (r *reader) run(ctx context.Context) error {
	for len(r.texts) < r.wantMessages || len(r.unconfirmed)+len(r.stillToSend) > 0 {
		err := r.session(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("%s has %d of %d messages, and %d are not confirmed: %w", r.name, len(r.texts), r.wantMessages, len(r.unconfirmed)+len(r.stillToSend), err)
		}
		if err != nil {
			r.reconnected++
		}
	}
	return nil
}

// session is one connection.
func (r *reader) session(ctx context.Context) error {
	urls := r.urls()
	url := urls[r.again%len(urls)]
	r.again++
	conn, _, err := client.Dial(ctx, url+"/chat", nil)
	if err != nil {
		time.Sleep(10 * time.Millisecond) // the process has just ended
		return err
	}
	defer conn.CloseNow()
	r.conn = conn
	if err := r.send(ctx, hello{Name: r.name, Stream: r.stream, Last: r.last, Time: r.time}); err != nil {
		return err
	}
	for len(r.texts) < r.wantMessages || len(r.unconfirmed)+len(r.stillToSend) > 0 {
		_, data, err := conn.Read(ctx)
		if err != nil {
			return err
		}
		var e event
		if err := json.Unmarshal(data, &e); err != nil {
			return err
		}
		if err := r.handle(ctx, e); err != nil {
			return err
		}
	}
	return conn.Close(client.StatusNormalClosure, "")
}

func (r *reader) handle(ctx context.Context, e event) error {
	switch e.Type {
	case "welcome":
		if e.Reset {
			r.problems = append(r.problems, "the numbers were reset")
		}
		if e.Seq != r.last {
			r.problems = append(r.problems, fmt.Sprintf("the position is %d, want %d", e.Seq, r.last))
		}
		r.stream = e.Stream
	case "said":
		if e.Seq != r.last+1 {
			r.problems = append(r.problems, fmt.Sprintf("message %d came behind %d", e.Seq, r.last))
		}
		r.last, r.time = e.Seq, e.Time
		r.texts = append(r.texts, e.Text)
	case "missed":
		r.problems = append(r.problems, line(e))
	case "live":
		for _, m := range r.unconfirmed {
			if err := r.send(ctx, m); err != nil {
				return err
			}
		}
		if len(r.unconfirmed) == 0 {
			return r.next(ctx)
		}
	case "stored":
		r.unconfirmed = slices.DeleteFunc(r.unconfirmed, func(m remark) bool { return m.ID == e.ID })
		if len(r.unconfirmed) == 0 {
			return r.next(ctx)
		}
	case "failed":
		r.problems = append(r.problems, "failed: "+e.Reason)
	}
	return nil
}

// next sends the next remark.
func (r *reader) next(ctx context.Context) error {
	if len(r.stillToSend) == 0 {
		return nil
	}
	m := r.stillToSend[0]
	r.stillToSend = r.stillToSend[1:]
	r.unconfirmed = append(r.unconfirmed, m)
	return r.send(ctx, m)
}

func (r *reader) send(ctx context.Context, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return r.conn.Write(ctx, client.MessageText, data)
}

// Clients of three processes exchange messages. One process is killed meanwhile. Its clients
// reconnect to the others, and every client gets every message once, in the same order.
func TestCluster_kill(t *testing.T) {
	t.Parallel()
	n := testNATS(t, embeddedConfig{})
	var processes []*process
	var mu sync.Mutex
	var alive []string
	for i := range 3 {
		p := startProcess(t, "-nats", n.url(), "-name", fmt.Sprint("p", i))
		processes = append(processes, p)
		alive = append(alive, p.url)
	}
	urls := func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(alive)
	}

	const clients, each = 6, 14
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	var readers []*reader
	var running sync.WaitGroup
	results := make(chan error, clients)
	for i := range clients {
		r := &reader{name: fmt.Sprint("Client ", i), urls: urls, again: i, wantMessages: clients * each}
		for m := range each {
			r.stillToSend = append(r.stillToSend, remark{ID: fmt.Sprintf("%d-%d", i, m), Text: fmt.Sprintf("%d of client %d", m, i)})
		}
		readers = append(readers, r)
		running.Go(func() { results <- r.run(ctx) })
	}
	// The messages of each client beyond its burst come at 2 per second, so they flow for two
	// seconds. The process is killed in the middle of them.
	_, watch := testBus(t, n.url())
	waitFor(t, watch, "half of the messages are sent", watch.has(clients*each/2))
	mu.Lock()
	alive = alive[1:]
	mu.Unlock()
	processes[0].kill()
	running.Wait()
	close(results)
	for err := range results {
		if err != nil {
			t.Error(err)
		}
	}
	checkReaders(t, readers, clients, each)
}

func checkReaders(t *testing.T, readers []*reader, clients, each int) {
	t.Helper()
	reconnected := 0
	for _, r := range readers {
		reconnected += r.reconnected
		for _, p := range r.problems {
			t.Errorf("%s: %s", r.name, p)
		}
		if !slices.Equal(r.texts, readers[0].texts) {
			t.Errorf("%s has other messages than %s:\n%q\n%q", r.name, readers[0].name, r.texts, readers[0].texts)
		}
	}
	for i := range clients {
		next := 0
		for _, text := range readers[0].texts {
			var m, from int
			if _, err := fmt.Sscanf(text, "%d of client %d", &m, &from); err != nil || from != i {
				continue
			}
			if m != next {
				t.Errorf("message %d of client %d came instead of %d", m, i, next)
			}
			next = m + 1
		}
		if next != each {
			t.Errorf("%d messages of client %d arrived, want %d", next, i, each)
		}
	}
	if reconnected < 2 {
		t.Errorf("%d clients reconnected, want the two of the process that was killed", reconnected)
	}
}

// The process with NATS is killed and started again. The others tell their clients, and
// continue with the same history.
func TestCluster_kill_the_process_with_NATS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := startProcess(t, "-data", dir)
	second := startProcess(t, "-nats", first.nats)
	c := dialProcess(t, second)
	c.write(hello{Name: "Ada"})
	c.expect("welcome", "live true")
	c.write(remark{ID: "a", Text: "Hello"})
	c.expectAnyOrder("1 Hello", "stored a")

	first.kill()
	c.expect("bus false")
	c.write(remark{ID: "b", Text: "Is NATS there?"})
	c.expect("failed b")
	late := dialProcess(t, second) // the history is still there
	late.write(hello{Name: "Bob"})
	late.expect("welcome", "1 Hello", "live false")

	startProcess(t, "-data", dir, "-nats-listen", strings.TrimPrefix(first.nats, "nats://"))
	c.expect("bus true")
	late.expect("bus true")
	c.write(remark{ID: "b", Text: "Is NATS there?"})
	c.expectAnyOrder("2 Is NATS there?", "stored b")
	late.expect("2 Is NATS there?")
}

// A process that gets SIGTERM closes its connections with 1001 and ends.
func TestCluster_terminate(t *testing.T) {
	t.Parallel()
	p := startProcess(t)
	c, silent := dialProcess(t, p), dialProcess(t, p)
	c.write(hello{Name: "Ada"})
	c.expect("welcome", "live true")
	var closed sync.WaitGroup
	for _, c := range []*tcpClient{c, silent} {
		closed.Go(func() {
			_, _, err := c.conn.Read(t.Context())
			if code := client.CloseStatus(err); websocket.StatusCode(code) != websocket.StatusGoingAway {
				t.Errorf("the connection ended with %v, want 1001", err)
			}
		})
	}
	p.terminate()
	closed.Wait()
}

func TestPage(t *testing.T) {
	t.Parallel()
	p := startProcess(t)
	for file, want := range map[string]string{"": "text/html", "cluster.js": "text/javascript", "cluster.css": "text/css", "icon.svg": "image/svg"} {
		res, err := http.Get(p.url + "/" + file)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		policy := res.Header.Get("Content-Security-Policy")
		if res.StatusCode != http.StatusOK || !strings.HasPrefix(res.Header.Get("Content-Type"), want) || !strings.HasPrefix(policy, "default-src 'none';") {
			t.Errorf("/%s: %s, type %q, policy %q", file, res.Status, res.Header.Get("Content-Type"), policy)
		}
	}
}

// A program that cannot work says so and ends.
func TestCluster_does_not_start(t *testing.T) {
	t.Parallel()
	n := testNATS(t, embeddedConfig{})
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"NATS is not there":            {[]string{"-nats", "nats://127.0.0.1:1", "-listen", "127.0.0.1:0"}, "connecting to NATS at nats://127.0.0.1:1"},
		"the port of the page is used": {[]string{"-nats", n.url(), "-listen", n.server.Addr().String()}, "address already in use"},
		"the port of NATS is used":     {[]string{"-nats-listen", n.server.Addr().String(), "-listen", "127.0.0.1:0"}, "join it with -nats"},
	} {
		out, err := exec.Command(path, tt.args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), tt.want) {
			t.Errorf("%s: got error %v and the log %q, want %q", name, err, out, tt.want)
		}
	}
}

// A tcpClient is a client of a process that a test controls.
type tcpClient struct {
	t    *testing.T
	conn *client.Conn
}

func dialProcess(t *testing.T, p *process) *tcpClient {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, _, err := client.Dial(ctx, p.url+"/chat", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	return &tcpClient{t, conn}
}

func (c *tcpClient) write(v any) {
	c.t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.conn.Write(c.t.Context(), client.MessageText, data); err != nil {
		c.t.Fatal(err)
	}
}

func (c *tcpClient) read() string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	_, data, err := c.conn.Read(ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	var e event
	if err := json.Unmarshal(data, &e); err != nil {
		c.t.Fatal(err)
	}
	if e.Type == "alive" {
		return c.read()
	}
	return line(e)
}

func (c *tcpClient) expect(lines ...string) {
	c.t.Helper()
	for _, want := range lines {
		if got := c.read(); got != want {
			c.t.Fatalf("got %q, want %q", got, want)
		}
	}
}

func (c *tcpClient) expectAnyOrder(lines ...string) {
	c.t.Helper()
	var got []string
	for range lines {
		got = append(got, c.read())
	}
	slices.Sort(got)
	slices.Sort(lines)
	if !slices.Equal(got, lines) {
		c.t.Fatalf("got %q, want %q", got, lines)
	}
}
