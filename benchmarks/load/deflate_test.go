package load

import (
	"bufio"
	"bytes"
	"testing"

	"github.com/f44ffc3b/websocket/benchmarks/servers"
)

// TestCompressedAnswers checks which answers a stream with compression takes.
func TestCompressedAnswers(t *testing.T) {
	messages := newCorpus(tickSize)
	first := messages.messages[0]
	plain := func(b []byte) []byte { return append(appendHeader(nil, fin|1, 0, len(b)), b...) }
	// An empty last part makes a message of two fragments.
	packed := append(appendHeader(nil, rsv1|1, 0, len(packedFirst(messages))), packedFirst(messages)...)
	fragmented := append(packed, fin, 0)
	tests := map[string]struct {
		answer []byte
		ok     bool
	}{
		"compressed, in fragments":   {fragmented, true},
		"not compressed":             {plain(first), true},
		"after a ping":               {append([]byte{fin | pingOpcode, 1, 'x'}, plain(first)...), true},
		"another message":            {plain(messages.messages[1]), false},
		"cut":                        {fragmented[:len(fragmented)-1], false},
		"compressed, without RSV1":   {append([]byte{fin | 1}, fragmented[1:len(fragmented)-2]...), false},
		"plain, with RSV1":           {append([]byte{fin | rsv1 | 1}, plain(first)[1:]...), false},
		"a close frame":              {[]byte{fin | 8, 0}, false},
		"a continuation":             {append([]byte{fin}, plain(first)[1:]...), false},
		"a new message in fragments": {append(packed, plain(first)...), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCompressed(messages, nil, servers.DeflatePath)
			c.in = bufio.NewReader(bytes.NewReader(tt.answer))
			c.frame()
			if err := c.receive(true); (err == nil) != tt.ok {
				t.Errorf("got the error %v, want success: %t", err, tt.ok)
			}
		})
	}
}

// packedFirst returns the payload of the first frame, without its mask.
func packedFirst(c *corpus) []byte {
	f := c.frames[0]
	key, p := f[4:8], bytes.Clone(f[8:])
	for i := range p {
		p[i] ^= key[i&3]
	}
	return p
}

// TestAgreement checks which responses are right for the path.
func TestAgreement(t *testing.T) {
	const (
		none     = "HTTP/1.1 101 Switching Protocols\r\n\r\n"
		takeover = "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
		alone    = "HTTP/1.1 101 Switching Protocols\r\nSec-Websocket-Extensions: permessage-deflate; server_no_context_takeover\r\n\r\n"
	)
	tests := []struct {
		path, response string
		ok             bool
	}{
		{servers.EchoPath, none, true},
		{servers.DeflatePath, none, false},
		{servers.DeflatePath, takeover, false},
		{servers.DeflatePath, alone, true},
		{servers.TakeoverPath, none, false},
		{servers.TakeoverPath, takeover, true},
		{servers.TakeoverPath, alone, false},
		{servers.QuietPath, none, false},
		{servers.QuietPath, takeover, true},
		{servers.QuietPath, alone, true},
	}
	for _, tt := range tests {
		if err := checkAgreement(tt.path, []byte(tt.response)); (err == nil) != tt.ok {
			t.Errorf("%s with %q: got the error %v, want success: %t", tt.path, tt.response, err, tt.ok)
		}
	}
}
