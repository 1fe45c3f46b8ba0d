package websocket

import (
	"io"
	"log"
	"testing"
)

var quiet = log.New(io.Discard, "", 0)

func TestSmoke(t *testing.T) {
	srv := serve(t, echo)
	p := dial(t, srv)
	p.send(Text, "hello")
	p.expect(Text, "hello")
	big := string(make([]byte, 1<<20))
	go p.send(Binary, big)
	p.expect(Binary, big)
	p.expectNothing()
	p.close()
}
