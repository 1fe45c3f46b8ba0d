//go:build !amd64 || purego

package asmtest

import "testing"

// UseAVX2 does nothing, because this build has no assembly.
func UseAVX2(testing.TB, bool) {}
