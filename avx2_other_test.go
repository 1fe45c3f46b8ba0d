//go:build !amd64 || purego

package websocket

import "testing"

// useAVX2 does nothing: there is none.
func useAVX2(testing.TB, bool) {}
