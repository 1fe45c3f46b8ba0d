//go:build !plan9

package memnet

import "syscall"

// The errors of a connection that the network, or the peer, has ended.
const (
	errReset      = syscall.ECONNRESET
	errBrokenPipe = syscall.EPIPE
)
