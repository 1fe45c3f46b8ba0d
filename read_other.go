//go:build !unix

package websocket

import "net"

// A readiness is only there where sockets can be waited for without a buffer.
type readiness struct{}

func (in *receiver) waitFor(net.Conn) {}

func (r *readiness) waits() bool { return false }

func (r *readiness) fill() (int, error) { panic("websocket: unreachable") }
