package after

import (
	"context"
	"net/http"
	"time"

	"github.com/f44ffc3b/websocket"
)

type subscription struct {
	Symbol string `json:"symbol"`
}

type price struct {
	Symbol string `json:"symbol"`
	Cents  int    `json:"cents"`
}

// New returns a handler that sends the prices of one symbol. The client names the symbol in
// its first message.
func New(prices func(symbol string) <-chan int) http.Handler {
	return websocket.Handle(func(c *websocket.Conn) error { return serve(c, prices) },
		websocket.AcceptConnection(websocket.AllowOrigins("app.example.com")),
		websocket.Subprotocols("prices.v1"),
		websocket.MaxMessageSize(1024))
}

// refusal returns an error that closes a client with StatusPolicyViolation.
func refusal(reason string) error {
	return &websocket.CloseError{Code: websocket.StatusPolicyViolation, Reason: reason}
}

func serve(c *websocket.Conn, prices func(string) <-chan int) error {
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	var s subscription
	if err := c.ReceiveJSON(&s); err != nil {
		return err
	}
	updates := prices(s.Symbol)
	if updates == nil {
		return refusal("unknown symbol " + s.Symbol)
	}
	c.SetReadDeadline(time.Time{})
	go c.Discard()
	for {
		select {
		case cents, ok := <-updates:
			if !ok {
				return nil
			}
			if err := c.SendJSON(price{s.Symbol, cents}); err != nil {
				return err
			}
		case <-c.Context().Done():
			return context.Cause(c.Context())
		}
	}
}
