//go:build !amd64 || purego

package cpu

// HasAVX2 is false, because this build has no assembly. It is a constant so that the
// compiler drops the code that depends on it.
const HasAVX2 = false
