package websocket_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/f44ffc3b/websocket"
)

// talk connects to the handler as a client that says something and then goodbye.
// Once the handler has returned it prints what came back.
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

// listen reads frames until the end.
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

// say sends one frame as a client does: masked.
func say(conn io.Writer, op websocket.Opcode, words string) {
	payload, key := []byte(words), [4]byte{1, 2, 3, 4}
	websocket.Mask(payload, key, 0)
	header := websocket.Header{Fin: true, Opcode: op, Masked: true, MaskKey: key}
	if err := websocket.WriteFrame(conn, websocket.Frame{Header: header, Payload: payload}); err != nil {
		fmt.Println(err)
	}
}

// An echo server.
func Example() {
	mux := http.NewServeMux()
	mux.Handle("/echo", websocket.Handle(func(c *websocket.Conn) error {
		for {
			op, data, err := c.ReceiveMessage()
			if err != nil {
				return err // a normal close is no error to anybody: Handle sorts it out
			}
			if err := c.SendMessage(op, data); err != nil {
				return err
			}
		}
	}))
	log.Fatal(http.ListenAndServe(":8080", mux))
}

// How the function ends is how the connection is closed.
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

// A reader beside the function answers pings and sees a close while it is busy,
// and the connection's context is done at once.
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

// search stands for work that takes its time and can be cancelled.
func search(ctx context.Context, query string) ([]byte, error) {
	select {
	case <-time.After(time.Second):
		return []byte("nothing found for " + query), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Middleware around a detached handler sees how long the handshake took, not the
// connection; what it put into the request's context is there all the same.
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

// One buffer for all messages of a connection: nothing is allocated once it is
// large enough.
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
			buf = data // it may have grown
		}
	})
	talk(h, "over", "and over")
	// Output:
	// server sends text "over"
	// server sends text "and over"
	// server closes with 1000 (normal closure) ""
}

// A message is decoded while it arrives.
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

// A message of unknown length is sent as it is made. Close ends it.
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
			var bad *json.SyntaxError
			err := c.ReceiveJSON(&req)
			switch {
			case errors.As(err, &bad): // the connection is none the worse for it
				err = c.SendJSON(response{Error: bad.Error()})
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
	// server sends text "{\"sum\":0,\"error\":\"invalid character '+' after top-level value\"}"
	// server closes with 1000 (normal closure) ""
}

// Code that is called with a context finds the connection that it works for.
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

// A handler that only sends learns from the context that the client has gone.
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

// A client that is silent for too long is asked whether it is still there; the
// deadline does the connection no harm.
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

// On the low level every frame is the program's own business, pings and the close
// included.
func ExampleConn_ReadFrame() {
	h := websocket.Handle(func(c *websocket.Conn) error {
		for {
			f, err := c.ReadFrame()
			if err != nil {
				return err
			}
			if f.Opcode == websocket.Close {
				return nil // which answers it
			}
			fmt.Printf("%v of %d bytes, fin %t\n", f.Opcode, f.Length, f.Fin)
		}
	})
	talk(h, "hello")
	// Output:
	// text of 5 bytes, fin true
	// server closes with 1000 (normal closure) ""
}

// The frames of a message say how it was split, which ReceiveMessage does not.
func ExampleConn_ReceiveFragments() {
	h := websocket.Handle(func(c *websocket.Conn) error {
		for {
			frames, err := c.ReceiveFragments()
			if err != nil {
				return err
			}
			op, data, err := websocket.ProcessFragments(frames)
			if err != nil {
				return err
			}
			fmt.Printf("%v %q in %d frame(s)\n", op, data, len(frames))
		}
	})
	talk(h, "hello")
	// Output:
	// text "hello" in 1 frame(s)
	// server closes with 1000 (normal closure) ""
}

func ExampleProcessFragments() {
	frames := []websocket.Frame{
		{Header: websocket.Header{Opcode: websocket.Text}, Payload: []byte("Hel")},
		{Header: websocket.Header{Fin: true, Opcode: websocket.Continuation}, Payload: []byte("lo")},
	}
	op, data, err := websocket.ProcessFragments(frames)
	fmt.Printf("%v %q %v\n", op, data, err)

	_, _, err = websocket.ProcessFragments(frames[1:])
	fmt.Println(err)
	// Output:
	// text "Hello" <nil>
	// websocket: protocol error: message begins with a continuation frame (RFC 6455 section 5.4)
}

// handshake connects to the WebSocket at url. The body of the response is the
// connection, to read from and to write to.
func handshake(url string, header http.Header) (*http.Response, error) {
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return nil, err
	}
	req.Header = header
	req.Header.Set("Upgrade", "websocket")
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Sec-WebSocket-Version", "13")
	req.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	return http.DefaultTransport.RoundTrip(req)
}

// A handler that has work of its own to do before and after the connection.
func ExampleUpgrade() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", "4711")
		c, err := websocket.Upgrade(w, r)
		if err != nil {
			return // the request has been answered
		}
		defer c.Close(websocket.StatusNormalClosure, "that was all")
		c.SendMessage(websocket.Text, []byte("hello"))
	}))
	defer server.Close()

	resp, err := handshake(server.URL, http.Header{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status, resp.Header.Get("X-Request-Id"))
	for range 2 {
		f, err := websocket.ReadFrame(resp.Body, 1<<10)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%v: %q\n", f.Opcode, f.Payload)
	}
	// Output:
	// 101 Switching Protocols 4711
	// text: "hello"
	// close: "\x03\xe8that was all"
}

// What a browser gets that opens the address of a WebSocket as a page, and what
// the handler gets to know of it.
func ExampleUpgrade_refused() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := websocket.Upgrade(w, r)
		if refused := new(websocket.HandshakeError); errors.As(err, &refused) {
			fmt.Println("answered with", refused.Status)
		}
	}))
	defer server.Close()

	resp, err := http.Get(server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Printf("%s\n%s", resp.Status, body)
	// Output:
	// answered with 426
	// 426 Upgrade Required
	// this is a WebSocket endpoint: connect with a WebSocket client, which sends Upgrade: websocket and Connection: Upgrade; this request has no Upgrade and no Connection
}

// The server's preference decides, not the order of the client's offer.
func ExampleSubprotocols() {
	server := httptest.NewServer(websocket.Handle(func(c *websocket.Conn) error {
		return c.SendMessage(websocket.Text, []byte("we speak "+c.Subprotocol()))
	}, websocket.Subprotocols("chat.v2", "chat.v1")))
	defer server.Close()

	resp, err := handshake(server.URL, http.Header{"Sec-Websocket-Protocol": {"chat.v1, chat.v2, chat.v3"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.Header.Get("Sec-WebSocket-Protocol"))
	if f, err := websocket.ReadFrame(resp.Body, 1<<10); err == nil {
		fmt.Printf("%s\n", f.Payload)
	}
	// Output:
	// chat.v2
	// we speak chat.v2
}

// Pages of the application's other hosts may connect, beside those of the
// server's own.
func ExampleAllowOrigins() {
	policy := websocket.AllowOrigins("https://app.example.com", "*.partner.example")
	http.Handle("/feed", websocket.Handle(feed, websocket.AcceptConnection(policy)))

	for _, origin := range []string{
		"https://api.example.com", // the same origin
		"https://app.example.com",
		"http://app.example.com",
		"https://eu.partner.example",
		"https://partner.example",
		"https://evilpartner.example",
		"null",
	} {
		r := httptest.NewRequest("GET", "https://api.example.com/feed", nil)
		r.Header.Set("Origin", origin)
		fmt.Println(origin, policy(r))
	}
	// Output:
	// https://api.example.com true
	// https://app.example.com true
	// http://app.example.com false
	// https://eu.partner.example true
	// https://partner.example false
	// https://evilpartner.example false
	// null false
}

func feed(c *websocket.Conn) error { return c.SendMessage(websocket.Text, []byte("news")) }

// The key and the answer of RFC 6455 section 1.3.
func ExampleAcceptKey() {
	fmt.Println(websocket.AcceptKey("dGhlIHNhbXBsZSBub25jZQ=="))
	// Output: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=
}

// A client masks what it sends. This is the masked "Hello" of RFC 6455 section
// 5.7, as a test of a server would send it.
func ExampleAppendFrame() {
	payload := []byte("Hello")
	key := [4]byte{0x37, 0xFA, 0x21, 0x3D}
	websocket.Mask(payload, key, 0)

	frame := websocket.Frame{
		Header:  websocket.Header{Fin: true, Opcode: websocket.Text, Masked: true, MaskKey: key},
		Payload: payload,
	}
	fmt.Printf("% x\n", websocket.AppendFrame(nil, frame))
	// Output: 81 85 37 fa 21 3d 7f 9f 4d 51 58
}

// A payload that comes in pieces is unmasked as it comes.
func ExampleMask() {
	key := [4]byte{0x37, 0xFA, 0x21, 0x3D}
	pos := 0
	for _, piece := range [][]byte{{0x7F, 0x9F, 0x4D}, {0x51, 0x58}} {
		pos = websocket.Mask(piece, key, pos)
		fmt.Printf("%q\n", piece)
	}
	// Output:
	// "Hel"
	// "lo"
}

// A frame is what was on the wire until it is unmasked.
func ExampleReadFrame() {
	wire := bytes.NewReader([]byte{0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58})
	frame, err := websocket.ReadFrame(wire, 1<<20)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%v, masked: %v, % x\n", frame.Opcode, frame.Masked, frame.Payload)
	frame.Unmask()
	fmt.Printf("%v, masked: %v, %s\n", frame.Opcode, frame.Masked, frame.Payload)
	// Output:
	// text, masked: true, 7f 9f 4d 51 58
	// text, masked: false, Hello
}
