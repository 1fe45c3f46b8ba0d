package before

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
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
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{
			OriginPatterns: []string{"app.example.com"},
			Subprotocols:   []string{"prices.v1"},
		})
		if err != nil {
			return // Accept has answered
		}
		defer c.CloseNow()
		c.SetReadLimit(1024)
		err = serve(r.Context(), c, prices)
		var refused refusal
		if errors.As(err, &refused) {
			c.Close(websocket.StatusPolicyViolation, string(refused))
		} else if err == nil {
			c.Close(websocket.StatusNormalClosure, "")
		}
	})
}

// A refusal is why a client is closed with StatusPolicyViolation.
type refusal string

func (r refusal) Error() string { return string(r) }

func serve(ctx context.Context, c *websocket.Conn, prices func(string) <-chan int) error {
	first, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var s subscription
	if err := wsjson.Read(first, c, &s); err != nil {
		return err
	}
	updates := prices(s.Symbol)
	if updates == nil {
		return refusal("unknown symbol " + s.Symbol)
	}
	ctx = c.CloseRead(ctx)
	for {
		select {
		case cents, ok := <-updates:
			if !ok {
				return nil
			}
			if err := wsjson.Write(ctx, c, price{s.Symbol, cents}); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
