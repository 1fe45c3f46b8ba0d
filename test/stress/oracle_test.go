//go:build unix

package stress

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"time"
)

// An outcome is what a correct server does in a script.
type outcome struct {
	codes []uint16 // the close codes that the client may get, 0 for the end without a close frame
	kinds []string // of the error that OnClose gets
	ended []uint16 // the codes of that error; nil for the code that the client has got

	answers, received, pongs int // the least numbers; what comes is always checked

	blind     bool // the client does not see the end
	reset     bool // the client may see a reset instead of the end of the stream
	handshake bool // the server begins the close handshake
	pushed    bool // the function sends numbers after the answers

	notBefore, within time.Duration // the end comes, after the last act of the client
}

// The server has slack in addition to each documented time, because it shares the processors with
// the clients, the burners and the other tests.
const slack = 3 * time.Second

// check returns what is wrong with the result of a script.
func (c *client) check() (wrong []string) {
	s, got := c.s, c.got
	if got.broken != "" {
		wrong = append(wrong, got.broken)
	}
	r := got.report
	if r == nil {
		return append(wrong, fmt.Sprintf("the server has not reported the end of the connection within %v; the client got %v", patience, got.err))
	}
	for _, err := range []error{c.checkAnswers(), c.checkPongs(), c.checkEnd(), c.checkReport(), c.checkTimes()} {
		if err != nil {
			wrong = append(wrong, err.Error())
		}
	}
	if len(wrong) > 0 {
		wrong = append(wrong, fmt.Sprintf("the client got %d of %d answers, %d pongs, the code %d and error %v; the function received %d messages; it got %q, OnClose got %s",
			len(got.messages), len(s.answers), len(got.pongs), got.code, got.err, r.Received, r.Result, r.Text), c.times())
	}
	return wrong
}

// times describes when the events of the script were, for a failure text.
func (c *client) times() string {
	since := func(t time.Time) time.Duration { return t.Sub(c.got.began).Round(time.Millisecond) }
	text := fmt.Sprintf("times since the first part: the last act of the client %v", since(c.mark))
	if c.got.code != 0 {
		text += fmt.Sprintf(", the close frame %v", since(c.got.closedAt))
	}
	text += fmt.Sprintf(", the end %v, the report %v", since(c.got.endedAt), since(c.got.reportedAt))
	for _, pause := range c.p.pausesBetween(c.got.began, c.got.reportedAt) {
		text += fmt.Sprintf("; a pause from %v to %v", since(pause.from), since(pause.to))
	}
	return text
}

// mayBeStall reports whether a stall of this process can be the reason that something is wrong: the client
// was silent, or did not read, or saw the end late.
func (c *client) mayBeStall() bool {
	r := c.got.report
	return r != nil && (r.End == silence || r.End == slowWrite || c.checkTimes() != nil)
}

// checkAnswers checks that the answers are the beginning of what the script expects.
func (c *client) checkAnswers() error {
	got, want := c.got.messages, c.s.answers
	if c.s.receive == "Stream" {
		return c.checkStream()
	}
	for i, m := range got {
		if i >= len(want) {
			return fmt.Errorf("got another message after %d answers: %#x with %d bytes: %.40q", i, m.op, len(m.text), m.text)
		}
		if m != want[i] {
			return fmt.Errorf("answer %d is %#x with %d bytes: %.40q; want %#x with %d bytes: %.40q",
				i, m.op, len(m.text), m.text, want[i].op, len(want[i].text), want[i].text)
		}
	}
	if len(got) < c.s.want.answers {
		return fmt.Errorf("got %d answers, want %d", len(got), c.s.want.answers)
	}
	return nil
}

// checkStream is checkAnswers for a function whose answers can be in other messages.
func (c *client) checkStream() error {
	got, want := join(c.got.messages), join(c.s.answers)
	if !strings.HasPrefix(want, got) {
		return fmt.Errorf("got %d bytes that the script has not sent", len(got))
	}
	if least := len(join(c.s.answers[:c.s.want.answers])); len(got) < least {
		return fmt.Errorf("got %d bytes of answers, want %d", len(got), least)
	}
	return nil
}

func join(messages []message) string {
	var b strings.Builder
	for _, m := range messages {
		b.WriteString(m.text)
	}
	return b.String()
}

// checkPongs checks the order of the pongs. A later pong may replace an earlier one (RFC 6455 section
// 5.5.3), but the last ping needs one.
func (c *client) checkPongs() error {
	at := 0
	for _, pong := range c.got.pongs {
		i := slices.Index(c.s.pings[at:], pong)
		if i < 0 {
			return fmt.Errorf("got the pong %q, want one for the pings after number %d, in their order", pong, at)
		}
		at += i + 1
	}
	if at < c.s.want.pongs {
		return fmt.Errorf("ping %d has no pong", c.s.want.pongs-1)
	}
	return nil
}

// checkEnd checks the close code, and how the stream of the client ends.
func (c *client) checkEnd() error {
	want := c.s.want
	if want.blind {
		return nil
	}
	if !slices.Contains(want.codes, c.got.code) {
		return fmt.Errorf("got the close code %d, want one of %d", c.got.code, want.codes)
	}
	if c.got.err == io.EOF || want.reset || c.resetByPause() {
		return nil
	}
	return fmt.Errorf("the stream ends with %w, want EOF", c.got.err)
}

// resetByPause reports whether a pause of the process is the reason for a reset.
func (c *client) resetByPause() bool {
	if c.s.transport == overHTTP2 {
		return c.resetLate()
	}
	// The library does not notice a pause that ends less than 10 ms before CloseTimeout. Then it may
	// reset a connection whose client has answered meanwhile.
	const short = 10 * time.Millisecond
	if !c.s.want.handshake || !errors.Is(c.got.err, syscall.ECONNRESET) {
		return false
	}
	// The server has begun the handshake between began and closedAt.
	least, most := c.got.began.Add(closeTimeout-short), c.got.closedAt.Add(closeTimeout)
	return slices.ContainsFunc(c.p.pausesBetween(least, most), func(pause period) bool { return pause.to.Before(most) })
}

// resetLate reports whether a pause can be the reason why the server has reset a stream of HTTP/2. After
// the close handshake, only the return of the function ends the stream. If that takes longer than
// drainTime, the server resets the stream, even if the process was stopped meanwhile.
func (c *client) resetLate() bool {
	const drainTime = time.Second
	return c.got.code != 0 && slices.ContainsFunc(c.p.pausesBetween(c.mark, c.got.endedAt), func(pause period) bool {
		return pause.to.Sub(pause.from) > drainTime/2
	})
}

// checkReport checks what the function and OnClose got.
func (c *client) checkReport() error {
	r, want := c.got.report, c.s.want
	codes := want.ended
	if codes == nil {
		codes = []uint16{c.got.code}
		if c.got.code == 0 {
			codes = []uint16{1006}
		}
	}
	switch {
	case !slices.Contains(want.kinds, r.End):
		return fmt.Errorf("OnClose got %q, want one of %q", r.End, want.kinds)
	case !slices.Contains(codes, r.Code):
		return fmt.Errorf("OnClose got the code %d, want one of %d", r.Code, codes)
	case c.s.receive == "Stream":
		return nil // it has no messages, and returns io.EOF itself
	case r.Result != "none" && r.Result != r.End && c.s.receive != "ReadFrame":
		return fmt.Errorf("the function got %q, but the connection has ended with %q", r.Result, r.End)
	case r.Received < want.received || r.Received > len(c.s.messages):
		return fmt.Errorf("the function received %d messages, want %d to %d", r.Received, want.received, len(c.s.messages))
	}
	var sum uint64
	for _, m := range c.s.messages[:r.Received] {
		sum = checksum(sum, m.op, []byte(m.text))
	}
	if sum != r.Sum {
		return fmt.Errorf("the %d messages that the function received are not those that the client has sent", r.Received)
	}
	return nil
}

// checkTimes checks when the connection has ended.
func (c *client) checkTimes() error {
	from, at, want := c.mark, c.got.endedAt, c.s.want
	switch {
	case want.blind:
		at = c.got.reportedAt
	case c.got.code != 0:
		at = c.got.closedAt
	}
	if want.notBefore > 0 && want.handshake {
		from, at = c.got.began, c.got.endedAt // the server may have begun it at once
	}
	if took := at.Sub(from); want.notBefore > 0 && took < want.notBefore {
		return fmt.Errorf("the connection has ended after %v, want %v or later", took, want.notBefore)
	}
	if took := at.Sub(c.mark); took > want.within+c.p.allowance(c.mark, at) {
		return fmt.Errorf("the connection has ended after %v, want %v at the latest", took, want.within)
	}
	return nil
}
