package websocket_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/f44ffc3b/websocket"
)

// talk connects to h as a client that sends a message for each of words and then a close
// frame. When the handler has returned, talk prints the frames of the server.
func talk(h http.Handler, words ...string) {
	returned := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(returned)
		h.ServeHTTP(w, r)
	}))
	defer server.Close()
	resp, err := handshake(server.URL, http.Header{})
	if err != nil {
		fmt.Println(err)
		return
	}
	conn := resp.Body.(io.ReadWriteCloser)
	for _, word := range words {
		say(conn, websocket.Text, word)
	}
	say(conn, websocket.Close, "\x03\xe8")
	answers := listen(conn)
	conn.Close()
	<-returned
	for _, answer := range answers {
		fmt.Println("server", answer)
	}
}

// listen reads frames until the connection ends, and describes them.
func listen(conn io.Reader) (answers []string) {
	for {
		f, err := websocket.ReadFrame(conn, 1<<20)
		if err != nil {
			return answers
		}
		answer := fmt.Sprintf("sends %v %q", f.Opcode, f.Payload)
		if f.Opcode == websocket.Close && len(f.Payload) >= 2 {
			code := websocket.StatusCode(f.Payload[0])<<8 | websocket.StatusCode(f.Payload[1])
			answer = fmt.Sprintf("closes with %v %q", code, f.Payload[2:])
		}
		answers = append(answers, answer)
	}
}

// say sends a masked frame, as a client does.
func say(conn io.Writer, op websocket.Opcode, words string) {
	payload, key := []byte(words), [4]byte{1, 2, 3, 4}
	websocket.Mask(payload, key, 0)
	header := websocket.Header{Fin: true, Opcode: op, Masked: true, MaskKey: key}
	if err := websocket.WriteFrame(conn, websocket.Frame{Header: header, Payload: payload}); err != nil {
		fmt.Println(err)
	}
}

// An echo server sends every message back.
func Example() {
	mux := http.NewServeMux()
	mux.Handle("/echo", websocket.Handle(func(c *websocket.Conn) error {
		for {
			op, data, err := c.ReceiveMessage()
			if err != nil {
				return err // Handle does not report the error of a normal close
			}
			if err := c.SendMessage(op, data); err != nil {
				return err
			}
		}
	}))
	server := &http.Server{
		Addr:              ":8080",
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second, // for the handshake
		ReadTimeout:       30 * time.Second, // for other requests
	}
	log.Fatal(server.ListenAndServe())
}

// The result of the function decides how the connection is closed.
func ExampleHandle() {
	h := websocket.Handle(func(c *websocket.Conn) error {
		_, data, err := c.ReceiveMessage()
		if err != nil {
			return err
		}
		if string(data) != "open sesame" {
			return &websocket.CloseError{Code: websocket.StatusPolicyViolation, Reason: "wrong password"}
		}
		return nil
	}, websocket.MaxMessageSize(4096), websocket.PingInterval(10*time.Second))

	talk(h, "please")
	talk(h, "open sesame")
	// Output:
	// server closes with 1008 (policy violation) "wrong password"
	// server closes with 1000 (normal closure) ""
}

// A second goroutine reads while the function is busy. It answers pings. When the client
// closes the connection, the connection's context is done within a second, because the
// function may first answer what it has received.
func ExampleHandleConcurrent() {
	h := websocket.HandleConcurrent(func(c *websocket.Conn) error {
		for {
			_, data, err := c.ReceiveMessage()
			if err != nil {
				return err
			}
			answer, err := search(c.Context(), string(data))
			if err != nil {
				return err
			}
			if err := c.SendMessage(websocket.Text, answer); err != nil {
				return err
			}
		}
	})
	http.Handle("/search", h)
}

// search stands for long work that can be cancelled.
func search(ctx context.Context, query string) ([]byte, error) {
	select {
	case <-time.After(time.Second):
		return []byte("nothing found for " + query), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// For middleware, the request of a detached handler ends with the handshake, not with the
// connection. The function can still read the values that middleware has put into the
// request's context.
func ExampleDetached() {
	type userKey struct{}
	ended := make(chan struct{})
	greet := websocket.Handle(func(c *websocket.Conn) error {
		<-ended
		user := c.Context().Value(userKey{}).(string)
		return c.SendMessage(websocket.Text, []byte("hello "+user))
	}, websocket.Detached(true))

	talk(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		ctx := context.WithValue(r.Context(), userKey{}, "Ada")
		greet.ServeHTTP(w, r.WithContext(ctx))
		fmt.Println("the request has ended")
	}))
	// Output:
	// the request has ended
	// server sends text "hello Ada"
	// server closes with 1000 (normal closure) ""
}

// A function that gets only a context finds the connection in it.
func ExampleFromContext() {
	notify := func(ctx context.Context, text string) error {
		c, ok := websocket.FromContext(ctx)
		if !ok {
			return errors.New("not called for a WebSocket")
		}
		return c.SendMessage(websocket.Text, []byte(text))
	}
	h := websocket.Handle(func(c *websocket.Conn) error {
		return notify(c.Context(), "it works")
	})
	talk(h)
	fmt.Println(notify(context.Background(), "lost"))
	// Output:
	// server sends text "it works"
	// server closes with 1000 (normal closure) ""
	// not called for a WebSocket
}

// A handler that only sends notices by the context that the connection has ended.
func ExampleConn_Context() {
	websocket.Handle(func(c *websocket.Conn) error {
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			select {
			case now := <-ticker.C:
				if err := c.SendMessage(websocket.Text, now.AppendFormat(nil, time.TimeOnly)); err != nil {
					return err
				}
			case <-c.Context().Done():
				return context.Cause(c.Context())
			}
		}
	})
}

func ExampleConn_Close() {
	h := websocket.Handle(func(c *websocket.Conn) error {
		c.SendMessage(websocket.Text, []byte("one more thing"))
		err := c.Close(websocket.StatusServiceRestart, "back in a minute")
		fmt.Println("close handshake:", err)
		return err
	})
	talk(h)
	// Output:
	// close handshake: <nil>
	// server sends text "one more thing"
	// server closes with 1012 (service restart) "back in a minute"
}

func ExampleCloseStatus() {
	errs := []error{
		&websocket.CloseError{Code: websocket.StatusGoingAway},
		fmt.Errorf("receiving: %w", websocket.ErrInvalidUTF8),
		websocket.ErrMessageTooLarge,
		errors.New("something else"),
	}
	for _, err := range errs {
		fmt.Println(websocket.CloseStatus(err))
	}
	// Output:
	// 1001 (going away)
	// 1007 (invalid payload)
	// 1009 (message too big)
	// 0
}
