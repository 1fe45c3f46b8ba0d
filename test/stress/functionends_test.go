//go:build unix

package stress

import (
	"time"

	"github.com/f44ffc3b/websocket/internal/wstest"
)

// The endings in this file depend on what the function does.

// serverCloses lets the function close the connection. Messages behind the command are not answered.
func serverCloses(s *script) {
	name := pick(s.random, "StartClose", "Close", "SendClose", "return", "stop", "fail", "panic", "CloseNow")
	s.functionCloses(name)
	if name == "CloseNow" { // answers that are not in the kernel yet are lost
		s.want = outcome{codes: []uint16{0}, kinds: []string{closedHere}, received: len(s.messages), reset: true}
	}
	trailing := s.IntN(3)
	for range trailing { // they are not answered
		s.behind(message{wstest.Binary, s.text(s.size(1000))})
	}
}

// functionCloses adds the command with that name.
func (s *script) functionCloses(name string) {
	s.code = pick(s.random, 1000, 1001, 4000+uint16(s.IntN(1000)))
	switch name {
	case "stop":
		s.code = 1000
	case "fail", "panic":
		s.code = 1011
	}
	s.command(name, int(s.code))
	s.want = s.all(s.code, closedHere)
	s.want.handshake = true
	if name == "panic" && s.transport == overHTTP2 {
		s.want.reset = true // of the stream, so that middleware cannot send anything behind the close frame
	}
}

// The server waits for the client's close frame for CloseTimeout. SendMessage(Close) reports that
// as ErrCloseTimeout, if the function then receives.
func unanswered(s *script) {
	name := pick(s.random, "StartClose", "Close", "SendClose", "return", "stop", "fail", "panic")
	s.functionCloses(name)
	s.noAnswer = true
	s.want.reset = true // by a pong that the server does not read any more
	s.want.notBefore, s.want.within = closeTimeout, closeTimeout
	if name == "SendClose" {
		s.want.kinds = append(s.want.kinds, closeTimeOut)
		s.want.ended = []uint16{s.code, 1006}
	}
}

// The function gets the command before the library acts on the close frame behind it.
func bothClose(s *script) {
	s.functionCloses(pick(s.random, "StartClose", "Close", "SendClose", "return", "stop", "fail", "panic"))
	s.lastFrame(closeFrame(s.closeCode()))
}

// A function that sleeps for longer than ConnectionTimeout loses no client, as long as what the client
// sends fits into the buffers. Pings are answered within a second.
func sleeps(s *script) {
	before := len(s.answers)
	pause := s.between(closeTimeout, 3*connectionTimeout)
	s.command("sleep", int(pause/time.Millisecond))
	for range 1 + s.IntN(4) { // the close frame follows their answers
		s.add(message{wstest.Text, s.text(s.size(200))})
	}
	s.ping() // it is sent by the act
	ping := s.pings[len(s.pings)-1]
	closeAfterAnswers(s)
	finish := s.act
	s.act = func(c *client) {
		if c.awaitAnswers(before) && c.pingWithin(ping, pollInterval) {
			finish(c)
		}
	}
}

// The close frame is answered while the function sleeps. The function still gets the messages before
// it, but cannot answer them.
func closeInSleep(s *script) {
	before := len(s.answers)
	s.command("sleep", int(3*connectionTimeout/time.Millisecond))
	for range s.IntN(5) {
		s.add(message{wstest.Text, s.text(s.size(200))})
	}
	closeBehind(s)
	s.want.answers = before
	s.want.within = pollInterval
	s.want.reset = s.transport == overHTTP2 // because only the return of the function can end the stream
	if s.server == "HandleMessages" {
		s.want.received = before + 1 // whether the function is called after the end is not documented
	}
}

// pushes lets the function send numbers, and ends the connection in one of five ways.
func pushes(s *script) {
	s.command(pick(s.random, "push", "try"), 1+s.IntN(20))
	s.code = s.closeCode()
	s.want = s.all(s.code, peerClosed)
	s.want.within = pollInterval
	wait := s.between(0, connectionTimeout)
	end := func(c *client) { c.sendLast(closeFrame(s.code)) }
	switch how := s.IntN(5); {
	case how == 0:
		s.want.codes, s.want.kinds = []uint16{1001}, []string{silence}
		s.want.notBefore, s.want.within = connectionTimeout, silenceLimit
		end = (*client).fallSilent
	case how == 1 && s.transport == overTCP:
		s.want.codes, s.want.kinds = []uint16{0}, []string{network}
		end = (*client).shutWrite
	case how == 2 && direct(s):
		s.want = outcome{blind: true, ended: []uint16{1006}, kinds: []string{network}, within: pollInterval}
		end = (*client).reset
	case how == 3 && direct(s):
		s.want = s.closedAndReset()
		s.fewParts = true
		end = func(c *client) {
			c.sendLast(closeFrame(s.code))
			c.reset()
		}
	}
	s.want.pushed = true
	answers := len(s.answers)
	s.act = func(c *client) {
		if c.awaitAnswers(answers) && c.stays(wait) {
			end(c)
		}
	}
}

// shutDown is the ending of the last scripts of a server: its handlers close all connections. ready is
// called when the client waits for that.
func shutDown(ready func()) ending {
	return ending{name: "a shutdown of the server", plan: func(s *script) {
		s.want = s.all(1001, closedHere)
		s.want.handshake = true
		s.act = func(c *client) {
			if !c.awaitAnswers(len(s.answers)) {
				c.fail("the connection has ended before the shutdown")
			}
			ready()
		}
	}}
}
