package interop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket"
)

// caseTime limits all cases of one client on one path. It is long, because other clients
// run at the same time.
const caseTime = 60 * time.Second

// quickCases holds every case except idle, in the order in which they run.
var quickCases = []string{
	"text", "binary", "large", "send-fragments", "receive-fragments", "client-ping",
	"server-ping", "subprotocol", "client-close", "server-close",
}

// A client is a WebSocket client of another project.
type client struct {
	name        string
	version     func() (string, error) // returns an error if the client is not installed
	unsupported []string               // the cases that the client's API does not support
	direct      bool                   // the client uses no proxies

	// run runs cases on a path and returns the error of each; nil means success. A
	// case without a result has not run; the error at "" then says why.
	run func(ctx context.Context, p path, run string, cases []string) map[string]error
}

// sample holds the names of the clients for the paths that not every client uses.
var sample = []string{"chromium", "ws", "gorilla-websocket"}

// choose returns those of the paths that the client uses.
func (c client) choose(all []path) []path {
	return slices.DeleteFunc(slices.Clone(all), func(p path) bool {
		return p.sample && !slices.Contains(sample, c.name) || c.direct && p.proxied
	})
}

// clients returns all clients. It starts Chromium for the test.
func clients(t *testing.T) []client {
	return slices.Concat([]client{chromium(t)}, scripts, goClients)
}

func TestClients(t *testing.T) {
	a := newApp()
	paths := startPaths(t, a, &a.mux)
	for _, c := range clients(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			requireClient(t, c)
			for _, p := range c.choose(paths.common) {
				t.Run(p.name, func(t *testing.T) {
					run := c.name + "-" + p.name
					a.runCases(t, c, p, run)
					a.expectOrigin(t, c, p, run)
				})
			}
		})
	}
	t.Cleanup(func() { a.expectEmptyLog(t) })
}

// startInterval is the time between the starts of two idle clients. It lets a machine
// with two cores start each before the server's timeout.
const startInterval = 100 * time.Millisecond

// TestIdle checks that idle connections stay open, for all clients on all paths at the same
// time.
func TestIdle(t *testing.T) {
	t.Parallel()
	a := newApp()
	paths := startPaths(t, a, &a.mux).idle
	all := clients(t)
	outcomes := map[string]<-chan error{}
	for _, c := range all {
		for _, p := range c.choose(paths) {
			run := c.name + "-" + p.name
			outcomes[run] = start(t.Context(), c, p, run, "idle", caseTime+*idleFor)
			time.Sleep(startInterval)
		}
	}
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			requireClient(t, c)
			for _, p := range c.choose(paths) {
				t.Run(p.name, func(t *testing.T) {
					run := c.name + "-" + p.name
					if err := <-outcomes[run]; err != nil {
						t.Error(err)
					}
					a.expectEnd(t, run, "idle")
				})
			}
		})
	}
	a.expectEmptyLog(t)
}

// start starts one case of a client and returns a channel for its error. A note that a
// client prints is an error only if the case has not run.
func start(ctx context.Context, c client, p path, run, name string, limit time.Duration) <-chan error {
	outcome := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		results := c.run(ctx, p, run, []string{name})
		err, ran := results[name]
		if !ran {
			err = errors.Join(errors.New("the client did not run the case"), results[""])
		}
		outcome <- err
	}()
	return outcome
}

// runCases runs the quick cases of a client, and checks for each that the connection also
// ended as expected on the server.
func (a *app) runCases(t *testing.T, c client, p path, run string) {
	ctx, cancel := context.WithTimeout(t.Context(), caseTime)
	defer cancel()
	cases := slices.DeleteFunc(slices.Clone(quickCases), func(name string) bool { return slices.Contains(c.unsupported, name) })
	results := c.run(ctx, p, run, cases)
	for _, name := range cases {
		t.Run(name, func(t *testing.T) {
			err, ran := results[name]
			if !ran {
				t.Fatalf("the client did not run the case: %v", results[""])
			}
			if err != nil {
				t.Fatal(err)
			}
			a.expectEnd(t, run, name)
		})
	}
}

// expectEnd checks that the connection of run for the named case has ended on the server as
// the case requires.
func (a *app) expectEnd(t *testing.T, run, name string) {
	t.Helper()
	select {
	case err := <-a.end(run, name):
		if wrong := wrongEnd(name, err); wrong != nil {
			t.Error("on the server:", wrong)
		}
	case <-time.After(10 * time.Second):
		t.Error("on the server: the connection has not ended within 10 seconds")
	}
}

// wrongEnd returns nil if err is the right end of a connection of the named case, else an
// error that says which end is right.
func wrongEnd(name string, err error) error {
	want := websocket.CloseError{Code: websocket.StatusNormalClosure}
	switch name {
	case "server-close":
		return err
	case "client-close":
		want = websocket.CloseError{Code: clientCode, Reason: clientReason}
	}
	var got *websocket.CloseError
	if !errors.As(err, &got) || *got != want {
		return fmt.Errorf("got %w, want %w", err, &want)
	}
	return nil
}

// requireClient logs the version of a client. A missing client fails the test, because a
// skipped test looks like success.
func requireClient(t *testing.T, c client) {
	t.Helper()
	version, err := c.version()
	require(t, c.name, version, err)
}

// require fails the test if err is not nil, or skips it if INTEROP_SKIP_MISSING is set.
func require(t *testing.T, name, version string, err error) {
	t.Helper()
	switch {
	case err == nil:
		t.Logf("%s %s", name, version)
	case skipMissing():
		t.Skipf("%s is missing: %v", name, err)
	default:
		t.Fatalf("%s is missing: %v; run ./install.sh, or set INTEROP_SKIP_MISSING=1 to skip it", name, err)
	}
}

// skipMissing reports whether the tests skip what is missing.
func skipMissing() bool { return os.Getenv("INTEROP_SKIP_MISSING") != "" }
