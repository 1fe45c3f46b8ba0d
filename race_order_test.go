package websocket

import "testing"

// TestRace_detector_knows_the_order of a function and of a client in the same process, as tests of
// users have them: what the function does before it sends is visible to the client that receives.
// Only the race detector can make this test fail, see sock.noteWrite.
func TestRace_detector_knows_the_order(t *testing.T) {
	tests := []struct {
		name string
		send func(c *Conn) error
	}{
		{"small message", func(c *Conn) error { return c.SendMessage(Binary, make([]byte, 10)) }},
		{"large message", func(c *Conn) error { return c.SendMessage(Binary, make([]byte, 100<<10)) }},
		{"without waiting", func(c *Conn) error { return c.TrySend(Binary, make([]byte, 10)) }},
		{"close frame", func(c *Conn) error { return nil }},
		{"answer to a close frame", func(c *Conn) error { return receiveAll(c) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			value := 0
			p := dialServer(t, startServer(t, func(c *Conn) error {
				if _, _, err := c.ReceiveMessage(); err != nil {
					return err
				}
				value++
				return tt.send(c)
			}))
			p.send(Text, "begin")
			p.send(Close, "")
			p.Read()
			if value != 1 {
				t.Errorf("got the value %d, want 1", value)
			}
		})
	}
}
