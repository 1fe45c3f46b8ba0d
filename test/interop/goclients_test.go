package interop

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	neturl "net/url"
	"strings"
	"sync"

	coder "github.com/coder/websocket"
	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	gorilla "github.com/gorilla/websocket"
	"github.com/lxzan/gws"
	xnet "golang.org/x/net/websocket"

	"github.com/f44ffc3b/websocket"
)

type gorillaSession struct {
	*mailbox
	conn *gorilla.Conn
}

func dialGorilla(ctx context.Context, url string, config *tls.Config, subprotocols ...string) (session, error) {
	return dialGorillaWith(ctx, url, gorilla.Dialer{TLSClientConfig: config, Subprotocols: subprotocols})
}

func dialGorillaWith(ctx context.Context, url string, d gorilla.Dialer) (session, error) {
	conn, _, err := d.DialContext(ctx, url, nil)
	if err != nil {
		return nil, err
	}
	s := gorillaSession{newMailbox(), conn}
	conn.SetPongHandler(func(payload string) error {
		s.pongs <- payload
		return nil
	})
	go s.read()
	return s, nil
}

func (s gorillaSession) read() {
	for {
		op, data, err := s.conn.ReadMessage()
		if closed := (*gorilla.CloseError)(nil); errors.As(err, &closed) && closed.Code != gorilla.CloseAbnormalClosure {
			err = closedError{closed.Code, closed.Text}
		}
		if err != nil {
			s.ended(err)
			return
		}
		s.deliver(websocket.Opcode(op), data)
	}
}

func (s gorillaSession) send(op websocket.Opcode, data []byte) error {
	return s.conn.WriteMessage(int(op), data)
}

// sendFragments sends one long message. The client starts a new fragment when its buffer is
// full.
func (s gorillaSession) sendFragments(parts ...string) error {
	return s.send(websocket.Text, []byte(strings.Join(parts, "")))
}

func (s gorillaSession) ping(payload string) error {
	return s.conn.WriteMessage(gorilla.PingMessage, []byte(payload))
}

func (s gorillaSession) subprotocol() string { return s.conn.Subprotocol() }

func (s gorillaSession) sendClose(code int, reason string) error {
	return s.conn.WriteMessage(gorilla.CloseMessage, gorilla.FormatCloseMessage(code, reason))
}

func (s gorillaSession) disconnect() { s.conn.Close() }

type coderSession struct {
	*mailbox
	ctx  context.Context
	conn *coder.Conn
}

func dialCoder(ctx context.Context, url string, config *tls.Config, subprotocols ...string) (session, error) {
	return dialCoderWith(ctx, url, config, coder.DialOptions{Subprotocols: subprotocols})
}

func dialCoderWith(ctx context.Context, url string, config *tls.Config, options coder.DialOptions) (session, error) {
	s := coderSession{mailbox: newMailbox(), ctx: ctx}
	options.HTTPClient = &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	options.OnPongReceived = func(_ context.Context, payload []byte) { s.pongs <- string(payload) }
	conn, _, err := coder.Dial(ctx, url, &options)
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(4 << 20)
	s.conn = conn
	go s.read()
	return s, nil
}

func (s coderSession) read() {
	for {
		op, data, err := s.conn.Read(s.ctx)
		if closed := (coder.CloseError{}); errors.As(err, &closed) {
			err = closedError{int(closed.Code), closed.Reason}
		} else if errors.Is(err, net.ErrClosed) {
			return // sendClose sets the end of the connection
		}
		if err != nil {
			s.ended(err)
			return
		}
		s.deliver(websocket.Opcode(op), data)
	}
}

func (s coderSession) send(op websocket.Opcode, data []byte) error {
	return s.conn.Write(s.ctx, coder.MessageType(op), data)
}

func (s coderSession) sendFragments(parts ...string) error {
	w, err := s.conn.Writer(s.ctx, coder.MessageText)
	if err != nil {
		return err
	}
	// Close ends the message with an empty frame, so this sends one frame less.
	for _, part := range joinLast(parts) {
		if _, err := io.WriteString(w, part); err != nil {
			return err
		}
	}
	return w.Close()
}

// joinLast joins the last two parts into one.
func joinLast(parts []string) []string {
	n := len(parts)
	return append(parts[:n-2:n-2], parts[n-2]+parts[n-1])
}

// ping sends a ping and waits for its pong. The client chooses the ping's payload, so
// ping puts the given payload into the mailbox.
func (s coderSession) ping(payload string) error {
	if err := s.conn.Ping(s.ctx); err != nil {
		return err
	}
	<-s.pongs
	s.pongs <- payload
	return nil
}

func (s coderSession) subprotocol() string { return s.conn.Subprotocol() }

func (s coderSession) sendClose(code int, reason string) error {
	err := s.conn.Close(coder.StatusCode(code), reason) // returns nil if the answer has the same code
	if err == nil {
		s.ended(closedError{code: code})
	}
	return err
}

func (s coderSession) disconnect() { s.conn.CloseNow() }

type gobwasSession struct {
	*mailbox
	conn   net.Conn
	agreed string
	write  *sync.Mutex // guards writing, because the reading goroutine writes pongs
}

func dialGobwas(ctx context.Context, url string, config *tls.Config, subprotocols ...string) (session, error) {
	d := ws.Dialer{TLSConfig: config, Protocols: subprotocols}
	conn, early, handshake, err := d.Dial(ctx, url)
	if err != nil {
		return nil, err
	}
	s := gobwasSession{newMailbox(), conn, handshake.Protocol, new(sync.Mutex)}
	var from io.Reader = conn
	if early != nil {
		from = early // reads the bytes after the handshake, then conn
	}
	go s.read(from)
	return s, nil
}

func (s gobwasSession) read(from io.Reader) {
	for {
		messages, err := wsutil.ReadServerMessage(readWriter{from, s.conn}, nil)
		for _, msg := range messages {
			if err := s.take(msg); err != nil {
				s.ended(err)
				return
			}
		}
		if err != nil {
			s.ended(err)
			return
		}
	}
}

type readWriter struct {
	io.Reader
	io.Writer
}

func (s gobwasSession) take(msg wsutil.Message) error {
	if !msg.OpCode.IsControl() {
		s.deliver(websocket.Opcode(msg.OpCode), msg.Payload)
		return nil
	}
	if msg.OpCode == ws.OpPong {
		s.pongs <- string(msg.Payload)
	}
	s.write.Lock()
	defer s.write.Unlock()
	err := wsutil.HandleServerControlMessage(s.conn, msg)
	if closed := (wsutil.ClosedError{}); errors.As(err, &closed) {
		return closedError{int(closed.Code), closed.Reason}
	}
	return err
}

func (s gobwasSession) send(op websocket.Opcode, data []byte) error {
	s.write.Lock()
	defer s.write.Unlock()
	return wsutil.WriteClientMessage(s.conn, ws.OpCode(op), data)
}

func (s gobwasSession) sendFragments(parts ...string) error {
	s.write.Lock()
	defer s.write.Unlock()
	op := ws.OpText
	for i, part := range parts {
		f := ws.NewFrame(op, i == len(parts)-1, []byte(part))
		if err := ws.WriteFrame(s.conn, ws.MaskFrame(f)); err != nil {
			return err
		}
		op = ws.OpContinuation
	}
	return nil
}

func (s gobwasSession) ping(payload string) error { return s.send(websocket.Ping, []byte(payload)) }
func (s gobwasSession) subprotocol() string       { return s.agreed }

func (s gobwasSession) sendClose(code int, reason string) error {
	return s.send(websocket.Close, ws.NewCloseFrameBody(ws.StatusCode(code), reason))
}

func (s gobwasSession) disconnect() { s.conn.Close() }

type gwsSession struct {
	*mailbox
	gws.BuiltinEventHandler
	conn *gws.Conn
}

func dialGWS(_ context.Context, url string, config *tls.Config, subprotocols ...string) (session, error) {
	header := http.Header{}
	if len(subprotocols) > 0 {
		header.Set("Sec-WebSocket-Protocol", strings.Join(subprotocols, ", "))
	}
	return dialGWSWith(gws.ClientOption{Addr: url, TlsConfig: config, RequestHeader: header})
}

func dialGWSWith(options gws.ClientOption) (session, error) {
	s := &gwsSession{mailbox: newMailbox()}
	conn, _, err := gws.NewClient(s, &options)
	if err != nil {
		return nil, err
	}
	s.conn = conn
	go conn.ReadLoop()
	return s, nil
}

func (s *gwsSession) OnMessage(_ *gws.Conn, msg *gws.Message) {
	s.deliver(websocket.Opcode(msg.Opcode), msg.Bytes())
	msg.Close()
}

// OnPing answers with the payload of the ping. The OnPing of BuiltinEventHandler answers
// without it.
func (s *gwsSession) OnPing(conn *gws.Conn, payload []byte) { conn.WritePong(payload) }
func (s *gwsSession) OnPong(_ *gws.Conn, payload []byte)    { s.pongs <- string(payload) }

func (s *gwsSession) OnClose(_ *gws.Conn, err error) {
	if closed := (*gws.CloseError)(nil); errors.As(err, &closed) {
		err = closedError{int(closed.Code), string(closed.Reason)}
	}
	s.ended(err)
}

func (s *gwsSession) send(op websocket.Opcode, data []byte) error {
	return s.conn.WriteMessage(gws.Opcode(op), data)
}

// sendFragments sends a file. The client sends a frame for every read and a last frame at
// the end of the file.
func (s *gwsSession) sendFragments(parts ...string) error {
	var readers []io.Reader
	for _, part := range joinLast(parts) {
		readers = append(readers, strings.NewReader(part))
	}
	return s.conn.WriteFile(gws.OpcodeText, io.MultiReader(readers...))
}

func (s *gwsSession) ping(payload string) error { return s.conn.WritePing([]byte(payload)) }
func (s *gwsSession) subprotocol() string       { return s.conn.SubProtocol() }

// sendClose does not wait for an answer, because the client closes the socket at once.
func (s *gwsSession) sendClose(code int, reason string) error {
	s.ended(closedError{code: unknownCode})
	return s.conn.WriteClose(uint16(code), []byte(reason))
}

func (s *gwsSession) disconnect() { s.conn.NetConn().Close() }

type xnetSession struct {
	*mailbox
	conn *xnet.Conn
}

func dialXNet(ctx context.Context, url string, config *tls.Config, subprotocols ...string) (session, error) {
	c, err := xnet.NewConfig(url, "http://localhost/")
	if err != nil {
		return nil, err
	}
	// The client sends this Origin unchanged. The server refuses an Origin with a path.
	c.Origin = &neturl.URL{Scheme: "http" + strings.TrimPrefix(c.Location.Scheme, "ws"), Host: c.Location.Host}
	c.Protocol, c.TlsConfig = subprotocols, config
	conn, err := c.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	s := xnetSession{newMailbox(), conn}
	go s.read()
	return s, nil
}

func (s xnetSession) read() {
	var msg message
	codec := xnet.Codec{Unmarshal: func(data []byte, op byte, _ any) error {
		msg = message{websocket.Opcode(op), data}
		return nil
	}}
	for {
		err := codec.Receive(s.conn, &msg)
		if errors.Is(err, io.EOF) {
			err = closedError{code: unknownCode}
		}
		if err != nil {
			s.ended(err)
			return
		}
		s.deliver(msg.op, msg.data)
	}
}

func (s xnetSession) send(op websocket.Opcode, data []byte) error {
	codec := xnet.Codec{Marshal: func(any) ([]byte, byte, error) { return data, byte(op), nil }}
	return codec.Send(s.conn, nil)
}

func (s xnetSession) sendFragments(...string) error { return errUnsupported }
func (s xnetSession) ping(string) error             { return errUnsupported }
func (s xnetSession) subprotocol() string           { return strings.Join(s.conn.Config().Protocol, ", ") }

func (s xnetSession) sendClose(code int, reason string) error {
	body := bytes.NewBuffer(binary.BigEndian.AppendUint16(nil, uint16(code)))
	body.WriteString(reason)
	return s.send(websocket.Close, body.Bytes())
}

func (s xnetSession) disconnect() { s.conn.Close() }
