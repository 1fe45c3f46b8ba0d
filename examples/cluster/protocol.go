package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/f44ffc3b/websocket"
)

// The limits of what clients send.
const (
	maxName = 24   // characters
	maxText = 1000 // characters
	maxID   = 64   // bytes

	// maxMessage limits a message of a client: maxText characters of four bytes, which JSON
	// may write in a longer form.
	maxMessage = 8 << 10
	// maxStoredMessage limits a message in the stream, which has the name too.
	maxStoredMessage = 16 << 10
)

// A hello is the first message of a client on each connection.
type hello struct {
	Name string `json:"name"`
	// Stream, Last and Time are the position of the client: the stream, and the number and the
	// time of the last message that the client has seen. The time shows whether the stream has
	// used the number again. They are empty if the client has seen none.
	Stream string    `json:"stream"`
	Last   uint64    `json:"last"`
	Time   time.Time `json:"time,omitzero"`
}

// A remark is every other message of a client.
type remark struct {
	// ID is random. A client that does not know whether its remark was stored sends it again
	// with the same ID, and NATS stores it once.
	ID   string `json:"id"`
	Text string `json:"text"`
}

// A stored is a message in the stream.
type stored struct {
	remark
	Name   string `json:"name"`
	Server string `json:"server"` // the process that has published it
}

// An event is a message of the server to a client.
type event struct {
	Type string `json:"type"`

	// "welcome" is the first event. The messages that the client has missed follow. Seq and
	// Time are the position before them.
	Name   string `json:"name,omitempty"`   // as the server writes it; also in "said"
	Stream string `json:"stream,omitempty"` // for the next hello
	Reset  bool   `json:"reset,omitempty"`  // the numbers that the client knows are not valid any more
	Server string `json:"server,omitempty"` // the process; also in "said"

	// "live" says that the client has all messages, and "bus" that the connection to NATS has
	// changed. Connected says for both whether messages can be sent.
	Connected *bool `json:"connected,omitempty"`

	// "said" is a message.
	Seq  uint64    `json:"seq,omitempty"` // also in "stored"
	ID   string    `json:"id,omitempty"`  // also in "stored" and "failed"
	Text string    `json:"text,omitempty"`
	Time time.Time `json:"time,omitzero"` // the clock of NATS

	// "missed" says that the next Count messages are not in the history any more. Seq is the
	// number of the last of them.
	Count uint64 `json:"count,omitempty"`

	// "stored" says that a remark of this client is in the stream, and "failed" that it
	// probably is not.
	Reason string `json:"reason,omitempty"`

	// "alive" says only that the connection works, see sayAlive.
}

// encode returns the event as JSON.
func (e event) encode() []byte {
	data, err := json.Marshal(e)
	if err != nil {
		panic(err) // cannot happen, because every event can be encoded
	}
	return data
}

// said returns the event for a message of the stream.
func said(seq uint64, at time.Time, data []byte) ([]byte, error) {
	var m stored
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, err
	}
	e := event{Type: "said", Seq: seq, ID: m.ID, Text: m.Text, Name: m.Name, Server: m.Server, Time: at}
	return e.encode(), nil
}

// refuse returns the error that closes a connection because the client broke a rule of the
// chat. The page does not reconnect after it, but shows the reason to its user.
func refuse(format string, args ...any) error {
	return &websocket.CloseError{Code: websocket.StatusPolicyViolation, Reason: fmt.Sprintf(format, args...)}
}

// later returns the error that closes a connection that should be made again, perhaps to
// another process.
func later(reason string) error {
	return &websocket.CloseError{Code: websocket.StatusTryAgainLater, Reason: reason}
}

// cleanName returns the name with single spaces. A name does not show who a user is: for
// that, a chat needs accounts. examples/chat also refuses names that look like another.
func cleanName(name string) (string, error) {
	name = strings.Join(strings.Fields(name), " ")
	n := utf8.RuneCountInString(name)
	if n == 0 || n > maxName || strings.ContainsFunc(name, isInvisible) || !strings.ContainsFunc(name, unicode.IsLetter) {
		return "", refuse("want a name of 1 to %d visible characters, with a letter", maxName)
	}
	return name, nil
}

// cleanText returns the text without space around it.
func cleanText(text string) (string, error) {
	text = strings.TrimSpace(text)
	visible := strings.ContainsFunc(text, func(r rune) bool { return unicode.IsGraphic(r) && !unicode.IsSpace(r) })
	if n := utf8.RuneCountInString(text); n == 0 || n > maxText || !visible {
		return "", refuse("want a visible text of 1 to %d characters", maxText)
	}
	return text, nil
}

// isInvisible reports whether r is not a visible character or a space. Marks are not
// allowed either, because many of them cover other text.
func isInvisible(r rune) bool {
	return r != ' ' && !unicode.In(r, unicode.L, unicode.N, unicode.P, unicode.S) ||
		unicode.In(r, unicode.Other_Default_Ignorable_Code_Point)
}

// checkID refuses an ID that is not safe in a header of NATS.
func checkID(id string) error {
	odd := func(r rune) bool {
		return !(r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
	}
	if id == "" || len(id) > maxID || strings.ContainsFunc(id, odd) {
		return refuse("want an id of 1 to %d letters and digits", maxID)
	}
	return nil
}
