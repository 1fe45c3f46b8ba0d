//go:build unix

package stress

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

var (
	seedFlag   = flag.Uint64("seed", 0, "the seed of the scripts; 0 draws one")
	forFlag    = flag.Duration("for", 12*time.Second, "how long new scripts begin; the last ones take some seconds more")
	scriptFlag = flag.Int("script", -1, "the only script that runs, by its number")
	endingFlag = flag.String("ending", "", "the only endings of the scripts: those whose name contains this")
	repeatFlag = flag.Int("repeat", 1, "how often the script of -script runs")
)

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "server":
		runChild()
	case "burner":
		runBurner()
	default:
		wstest.Main(m)
	}
}

// A round has one server. It ends after a while, because only then can the server tell whether
// something is left of the connections.
const roundTime = 20 * time.Second

// clients is how many scripts run at the same time. Most of them wait most of the time.
const clients = 40

// Each script ends as it has to, although the server is stopped and continued.
func TestStress(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes 20 s")
	}
	r := &run{T: t, seed: *seedFlag, endings: map[string]int{}}
	for r.seed == 0 {
		r.seed = rand.Uint64()
	}
	if r.chosen = chooseEndings(); r.chosen == nil {
		t.Fatalf("-ending %q: there is no such ending", *endingFlag)
	}
	until := time.Now().Add(*forFlag)
	for n := 0; !t.Failed() && time.Now().Before(until); n++ {
		t.Run(fmt.Sprintf("round %d", n), func(t *testing.T) { r.round(t, n, min(time.Until(until), roundTime)) })
	}
	t.Logf("seed %d: %s", r.seed, r.summary())
}

// chooseEndings returns the endings for -ending.
func chooseEndings() (chosen []ending) {
	for _, e := range endings {
		if strings.Contains(e.name, *endingFlag) {
			chosen = append(chosen, e)
		}
	}
	return chosen
}

// A run is the run of many scripts.
type run struct {
	*testing.T
	seed   uint64
	chosen []ending
	next   atomic.Int64 // the number of the next script

	mu      sync.Mutex
	endings map[string]int // how many scripts had each ending
	excused int
}

// round runs scripts with one server. New scripts begin for d.
func (r *run) round(t *testing.T, number int, d time.Duration) {
	random := newRandom(r.seed, -1-number)
	p := startProcess(t)
	startBurners(t, random.IntN(4))
	done := make(chan struct{})
	var disturbing, working sync.WaitGroup
	if !random.oneIn(4) {
		disturbing.Go(func() { p.disturb(random, done) })
	}
	until := time.Now().Add(d)
	for range clients {
		working.Go(func() {
			for !t.Failed() && time.Now().Before(until) && r.another() {
				r.script(t, p, r.chosen)
			}
		})
	}
	working.Wait()
	r.shutDown(t, p)
	close(done)
	disturbing.Wait()
	p.stop(t)
}

// shutDown shuts the server down while clients are connected.
func (r *run) shutDown(t *testing.T, p *process) {
	const clients = 12
	var beginning, working sync.WaitGroup
	beginning.Add(clients)
	for range clients {
		working.Go(func() {
			ready := sync.OnceFunc(beginning.Done)
			defer ready() // also if the script has failed
			r.script(t, p, []ending{shutDown(ready)})
		})
	}
	beginning.Wait()
	p.shutDown()
	working.Wait()
}

// another reports whether another script should begin.
func (r *run) another() bool { return *scriptFlag < 0 || r.next.Load() < int64(*repeatFlag) }

// script runs the next script, with one of the endings.
func (r *run) script(t *testing.T, p *process, endings []ending) {
	number := int(r.next.Add(1) - 1)
	drawn := number
	if *scriptFlag >= 0 {
		drawn = *scriptFlag
	}
	s := newScript(r.seed, drawn, endings)
	s.id = number // in the report, because a script can run several times at once
	p.expect(number)
	from := time.Now()
	c, err := connect(s, p)
	for err != nil && s.transport == overHTTP2 && len(p.pausesBetween(from, time.Now())) > 0 {
		from = time.Now()
		c, err = connect(s, p) // net/http ends a connection whose first frame has not been read for two seconds
	}
	if err != nil {
		t.Errorf("%s: the handshake: %v", r.flags(drawn), err)
		return
	}
	c.run()
	wrong := c.check()
	r.mu.Lock()
	defer r.mu.Unlock()
	ending, _, _ := strings.Cut(s.ending, ",")
	r.endings[ending]++
	switch {
	case wrong == nil:
	case c.mayBeStall() && p.stalls.between(from, time.Now()):
		r.excused++
	default:
		t.Errorf("%s: %v\n%s", r.flags(drawn), s, strings.Join(wrong, "\n"))
	}
}

// flags returns the flags that repeat a script.
func (r *run) flags(script int) string {
	flags := fmt.Sprintf("-seed %d -script %d", r.seed, script)
	if *endingFlag != "" {
		flags += fmt.Sprintf(" -ending %q", *endingFlag)
	}
	return flags
}

// summary tells how many scripts have run.
func (r *run) summary() string {
	var parts []string
	total := 0
	for ending, n := range r.endings {
		parts, total = append(parts, fmt.Sprintf("\n%6d %s", n, ending)), total+n
	}
	slices.Sort(parts)
	return fmt.Sprintf("%d scripts; %d that failed do not count, because the clients did not run meanwhile%s",
		total, r.excused, strings.Join(parts, ""))
}
