//go:build !unix

package websocket

import "net"

// A readiness is only there where sockets can be waited for without a buffer.
type readiness struct{}

func newReadiness(net.Conn, *receiver) *readiness { return nil }

func (r *readiness) fill() (int, error) { panic("websocket: unreachable") }
