package websockettest

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/f44ffc3b/websocket"
)

// deflateOffer is what browsers offer.
const deflateOffer = "permessage-deflate; client_max_window_bits"

// A deflate is permessage-deflate (RFC 7692) as the client and the server have agreed on
// it. Compressing and inflating are independent of each other.
type deflate struct {
	serverNoTakeover, clientNoTakeover bool
	serverBits, clientBits             int // the windows have 2^bits bytes

	writer *flate.Writer
	sent   bytes.Buffer // what writer writes to
	window []byte       // the end of what was inflated, if the server has context takeover

	passing bool   // the frames of pass are those of a compressed message
	passed  []byte // their payloads
}

const maxBits = 15

// parseDeflate parses the value of Sec-WebSocket-Extensions in a response to deflateOffer
// (RFC 7692 section 7.1).
func parseDeflate(value string) (*deflate, error) {
	d := &deflate{serverBits: maxBits, clientBits: maxBits}
	name, params, more := strings.Cut(value, ";")
	if strings.TrimSpace(name) != "permessage-deflate" {
		return nil, fmt.Errorf("want the offered permessage-deflate alone")
	}
	seen := map[string]bool{}
	for more {
		var param string
		param, params, more = strings.Cut(params, ";")
		name, arg, hasArg := strings.Cut(strings.TrimSpace(param), "=")
		if seen[name] {
			return nil, fmt.Errorf("the parameter %q is sent twice", name)
		}
		seen[name] = true
		if err := d.set(name, arg, hasArg); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// set sets a parameter of the response.
func (d *deflate) set(name, arg string, hasArg bool) (err error) {
	switch name {
	case "server_no_context_takeover", "client_no_context_takeover":
		if hasArg {
			return fmt.Errorf("the parameter %q has a value", name)
		}
		if name == "server_no_context_takeover" {
			d.serverNoTakeover = true
		} else {
			d.clientNoTakeover = true
		}
	case "server_max_window_bits":
		d.serverBits, err = parseBits(name, arg)
	case "client_max_window_bits":
		d.clientBits, err = parseBits(name, arg)
	default:
		return fmt.Errorf("the parameter %q is unknown", name)
	}
	return err
}

// parseBits parses the number of a window parameter, which may be quoted.
func parseBits(name, arg string) (int, error) {
	if len(arg) > 2 && arg[0] == '"' && arg[len(arg)-1] == '"' {
		arg = arg[1 : len(arg)-1]
	}
	bits, err := strconv.Atoi(arg)
	if err != nil || bits < 8 || bits > maxBits || arg != strconv.Itoa(bits) {
		return 0, fmt.Errorf("the parameter %s=%s needs a number from 8 to 15", name, arg)
	}
	return bits, nil
}

// flushed is what a flush of a DEFLATE stream ends with: an empty block. It is removed from
// a message and added again (RFC 7692 section 7.2.1).
const flushed = "\x00\x00\xff\xff"

// final is an empty block that ends a DEFLATE stream.
const final = "\x01\x00\x00\xff\xff"

// compress returns the payload of a message. It is valid until the next call.
func (d *deflate) compress(data []byte) []byte {
	d.sent.Reset()
	if d.writer == nil {
		d.writer, _ = flate.NewWriter(&d.sent, flate.DefaultCompression) // fails only for an invalid level
	} else if d.clientNoTakeover {
		d.writer.Reset(&d.sent)
	}
	if d.clientBits < maxBits {
		d.writeWindows(data)
	} else {
		d.writer.Write(data) // a bytes.Buffer returns no errors
		d.writer.Flush()
	}
	return bytes.TrimSuffix(d.sent.Bytes(), []byte(flushed))
}

// forget makes compress refer to no earlier message. The test has sent a compressed message itself, so
// the window of the server does not have the bytes that writer expects.
func (d *deflate) forget() { d.writer = nil }

// writeWindows compresses data for a window that is smaller than that of compress/flate. It forgets
// the window after as many bytes as the smaller window has, so that no distance is larger than
// that.
func (d *deflate) writeWindows(data []byte) {
	for {
		n := min(len(data), 1<<d.clientBits)
		d.writer.Reset(&d.sent)
		d.writer.Write(data[:n])
		d.writer.Flush()
		if data = data[n:]; len(data) == 0 {
			return
		}
	}
}

// inflate returns the data of a message.
func (d *deflate) inflate(payload []byte) ([]byte, error) {
	const most = 1 << 30
	in := bytes.NewReader(append(append(payload, flushed...), final...))
	out := bytes.NewBuffer(bytes.Clone(d.window))
	before := out.Len()
	for in.Len() > 0 { // a stream may end within the payload (section 7.2.3.5)
		dict := tail(out.Bytes(), 1<<d.serverBits)
		r := flate.NewReaderDict(in, dict)
		if _, err := io.Copy(out, io.LimitReader(r, most)); err != nil {
			return nil, err
		}
		if out.Len()-before >= most {
			return nil, errors.New("it has more than 1 GiB")
		}
	}
	if !d.serverNoTakeover {
		d.window = bytes.Clone(tail(out.Bytes(), 1<<d.serverBits))
	}
	return out.Bytes()[before:], nil
}

// pass is inflate for a message whose frames come one by one and that is not needed, because later
// messages can refer to it.
func (d *deflate) pass(f websocket.Frame) {
	if f.Opcode != websocket.Continuation {
		d.passing, d.passed = f.RSV1, nil
	}
	if !d.passing {
		return
	}
	d.passed = append(d.passed, f.Payload...)
	if f.Fin {
		d.inflate(d.passed) // if it fails, a later message that refers to this one fails too
		d.passing, d.passed = false, nil
	}
}

// tail returns the last n bytes of b, or all of them.
func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }
