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

// caseTime bounds all cases of one client on one path, with all others around it.
const caseTime = 60 * time.Second

// quickCases is every case but idle, in the order in which they run.
var quickCases = []string{
	"text", "binary", "large", "send-fragments", "receive-fragments", "client-ping",
	"server-ping", "subprotocol", "client-close", "server-close",
}

// A client is a WebSocket client that somebody else made.
type client struct {
	name    string
	version func() (string, error) // an error if the client is not there
	lacks   []string               // the cases that its interface has no means for

	// run runs cases against a path and returns what went wrong with each; nil
	// is nothing. A case that it says nothing of has not run.
	run func(ctx context.Context, p path, run string, cases []string) map[string]error
}

// clients are all clients. Chromium is started for the test, once it is needed.
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
			for _, p := range paths.common {
				t.Run(p.name, func(t *testing.T) { a.runCases(t, c, p, c.name+"-"+p.name) })
			}
		})
	}
	t.Cleanup(func() { a.expectNoComplaints(t) })
}

// stagger is what lies between the starts of idle clients: a machine with two cores
// should find time for each before it is taken for dead.
const stagger = 100 * time.Millisecond

// TestIdle has all clients idle at the same time, on all paths.
func TestIdle(t *testing.T) {
	t.Parallel()
	a := newApp()
	paths := startPaths(t, a, &a.mux).impatient
	all := clients(t)
	outcomes := map[string]<-chan error{}
	for _, c := range all {
		for _, p := range paths {
			run := c.name + "-" + p.name
			outcomes[run] = beIdle(t.Context(), c, p, run)
			time.Sleep(stagger)
		}
	}
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			requireClient(t, c)
			for _, p := range paths {
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
	a.expectNoComplaints(t)
}

func beIdle(ctx context.Context, c client, p path, run string) <-chan error {
	outcome := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, caseTime+*idleFor)
		defer cancel()
		results := c.run(ctx, p, run, []string{"idle"})
		outcome <- errors.Join(results["idle"], results[""])
	}()
	return outcome
}

// runCases runs the quick cases and holds the server's view of each against the
// client's.
func (a *app) runCases(t *testing.T, c client, p path, run string) {
	ctx, cancel := context.WithTimeout(t.Context(), caseTime)
	defer cancel()
	cases := slices.DeleteFunc(slices.Clone(quickCases), func(name string) bool { return slices.Contains(c.lacks, name) })
	results := c.run(ctx, p, run, cases)
	for _, name := range cases {
		t.Run(name, func(t *testing.T) {
			err, ran := results[name]
			if !ran {
				t.Fatalf("did not run: %v", results[""])
			}
			if err != nil {
				t.Fatal(err)
			}
			a.expectEnd(t, run, name)
		})
	}
}

// expectEnd expects the connection of run for the case to have ended on the server
// as the case wants it.
func (a *app) expectEnd(t *testing.T, run, name string) {
	t.Helper()
	select {
	case err := <-a.end(run, name):
		if wrong := wrongEnd(name, err); wrong != nil {
			t.Error("on the server:", wrong)
		}
	case <-time.After(10 * time.Second):
		t.Error("on the server: the connection has not ended")
	}
}

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

// requireClient logs the version of a client. One that is missing is a failure, so
// that nobody takes silence for success.
func requireClient(t *testing.T, c client) {
	t.Helper()
	version, err := c.version()
	require(t, c.name, version, err)
}

func require(t *testing.T, name, version string, err error) {
	t.Helper()
	switch {
	case err == nil:
		t.Logf("%s %s", name, version)
	case os.Getenv("INTEROP_SKIP_MISSING") != "":
		t.Skipf("%s is missing: %v", name, err)
	default:
		t.Fatalf("%s is missing: %v; run ./install.sh, or set INTEROP_SKIP_MISSING=1", name, err)
	}
}
