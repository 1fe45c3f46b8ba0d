package websocket_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/f44ffc3b/websocket"
)

func ExampleConn_ReceiveMessage() {
	h := websocket.Handle(func(c *websocket.Conn) error {
		for {
			op, data, err := c.ReceiveMessage()
			if errors.Is(err, io.EOF) {
				fmt.Println("the client is done:", err)
				return nil
			}
			if err != nil {
				return err
			}
			fmt.Printf("received %v %q\n", op, data)
		}
	})
	talk(h, "hello", "world")
	// Output:
	// received text "hello"
	// received text "world"
	// the client is done: websocket: closed with 1000 (normal closure)
	// server closes with 1000 (normal closure) ""
}

// The handler uses one buffer for all messages of a connection. When the buffer is large
// enough, AppendMessage allocates nothing.
func ExampleConn_AppendMessage() {
	h := websocket.Handle(func(c *websocket.Conn) error {
		var buf []byte
		for {
			op, data, err := c.AppendMessage(buf[:0])
			if err != nil {
				return err
			}
			if err := c.SendMessage(op, data); err != nil {
				return err
			}
			buf = data // AppendMessage may have allocated a larger buffer
		}
	})
	talk(h, "over", "and over")
	// Output:
	// server sends text "over"
	// server sends text "and over"
	// server closes with 1000 (normal closure) ""
}

// The function gets each message where it has arrived, usually without a copy.
func ExampleConn_ReceiveFunc() {
	h := websocket.Handle(func(c *websocket.Conn) error {
		for {
			err := c.ReceiveFunc(func(op websocket.Opcode, data []byte) error {
				return c.SendMessage(op, data) // which does not keep data
			})
			if err != nil {
				return err
			}
		}
	})
	talk(h, "lent", "and returned")
	// Output:
	// server sends text "lent"
	// server sends text "and returned"
	// server closes with 1000 (normal closure) ""
}

// The handler decodes a message while it arrives.
func ExampleConn_MessageReader() {
	h := websocket.Handle(func(c *websocket.Conn) error {
		_, r, err := c.MessageReader()
		if err != nil {
			return err
		}
		for dec := json.NewDecoder(r); dec.More(); {
			var word string
			if err := dec.Decode(&word); err != nil {
				return err
			}
			fmt.Println(word)
		}
		return nil
	})
	talk(h, `"one" "two" "three"`)
	// Output:
	// one
	// two
	// three
	// server closes with 1000 (normal closure) ""
}

// The handler sends a message of unknown length in parts. Close ends the message.
func ExampleConn_MessageWriter() {
	h := websocket.Handle(func(c *websocket.Conn) error {
		w, err := c.MessageWriter(websocket.Text)
		if err != nil {
			return err
		}
		for i := range 3 {
			fmt.Fprintf(w, "line %d; ", i+1)
		}
		return w.Close()
	})
	talk(h)
	// Output:
	// server sends text "line 1; line 2; line 3; "
	// server closes with 1000 (normal closure) ""
}

func ExampleConn_Messages() {
	h := websocket.Handle(func(c *websocket.Conn) error {
		for msg, err := range c.Messages() {
			if err != nil {
				return err
			}
			if err := c.SendMessage(msg.Opcode, []byte(strings.ToUpper(string(msg.Data)))); err != nil {
				return err
			}
		}
		return nil
	})
	talk(h, "louder", "please")
	// Output:
	// server sends text "LOUDER"
	// server sends text "PLEASE"
	// server closes with 1000 (normal closure) ""
}

func ExampleConn_SendJSON() {
	type request struct{ A, B int }
	type response struct {
		Sum   int    `json:"sum"`
		Error string `json:"error,omitempty"`
	}
	h := websocket.Handle(func(c *websocket.Conn) error {
		for {
			var req request
			err := c.ReceiveJSON(&req)
			switch {
			case errors.Is(err, websocket.ErrInvalidJSON): // the connection can still be used
				err = c.SendJSON(response{Error: "want a and b"})
			case err == nil:
				err = c.SendJSON(response{Sum: req.A + req.B})
			}
			if err != nil {
				return err
			}
		}
	})
	talk(h, `{"a": 40, "b": 2}`, `40 + 2`)
	// Output:
	// server sends text "{\"sum\":42}"
	// server sends text "{\"sum\":0,\"error\":\"want a and b\"}"
	// server closes with 1000 (normal closure) ""
}

// The handler asks a silent client whether it is still there. The connection can be used
// after the deadline.
func ExampleConn_SetReadDeadline() {
	websocket.Handle(func(c *websocket.Conn) error {
		for {
			c.SetReadDeadline(time.Now().Add(30 * time.Second))
			op, data, err := c.ReceiveMessage()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				err = c.SendMessage(websocket.Text, []byte("still there?"))
			} else if err == nil {
				err = c.SendMessage(op, data)
			}
			if err != nil {
				return err
			}
		}
	})
}

// The handler sends the time and wants no messages. Discard tells it when the client has
// gone.
func ExampleConn_Discard() {
	h := websocket.Handle(func(c *websocket.Conn) error {
		gone := make(chan error, 1)
		go func() { gone <- c.Discard() }()
		ticks := time.NewTicker(time.Second)
		defer ticks.Stop()
		for {
			select {
			case err := <-gone:
				return err
			case now := <-ticks.C:
				if err := c.SendMessage(websocket.Text, []byte(now.Format(time.TimeOnly))); err != nil {
					return err
				}
			}
		}
	})
	talk(h, "a message that the handler does not want")
	// Output:
	// server closes with 1000 (normal closure) ""
}

// The handler disconnects a client that does not answer within ten seconds. Ping reads the
// pong itself, because no other method is receiving.
func ExampleConn_Ping() {
	h := websocket.Handle(func(c *websocket.Conn) error {
		ctx, cancel := context.WithTimeout(c.Context(), 10*time.Second)
		defer cancel()
		rtt, err := c.Ping(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			return &websocket.CloseError{Code: websocket.StatusPolicyViolation, Reason: "too slow"}
		}
		if err != nil {
			return err
		}
		return c.SendMessage(websocket.Text, fmt.Appendf(nil, "the round trip takes %v", rtt.Round(time.Millisecond)))
	})
	http.Handle("/ping", h)
}

// The handler sends an HTTP request through the WebSocket.
func ExampleConn_Stream() {
	h := websocket.Handle(func(c *websocket.Conn) error {
		client := http.Client{Transport: &http.Transport{
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				return c.Stream(websocket.Binary), nil
			},
		}}
		// The client runs a server of HTTP that a firewall hides, and has connected to this one.
		resp, err := client.Get("http://behind-the-firewall/status")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(os.Stdout, resp.Body)
		return err
	})
	http.Handle("/agent", h)
}

// The first function is called for each connection, and the one that it returns with each
// message. Between two messages, the connection needs no goroutine.
func ExampleHandleMessages() {
	closed := make(chan error, 1)
	h := websocket.HandleMessages(func(c *websocket.Conn) (websocket.MessageFunc, error) {
		path := c.Request().URL.Path // the request is gone when this function has returned
		count := 0
		return func(op websocket.Opcode, data []byte) error {
			count++
			return c.SendMessage(op, fmt.Appendf(nil, "message %d to %s: %s", count, path, data))
		}, nil
	}, websocket.OnClose(func(c *websocket.Conn, err error) {
		closed <- err
	}))
	talk(h, "hello", "and bye")
	fmt.Println("the client has left:", <-closed)
	// Output:
	// server sends text "message 1 to /: hello"
	// server sends text "message 2 to /: and bye"
	// server closes with 1000 (normal closure) ""
	// the client has left: websocket: closed with 1000 (normal closure)
}
