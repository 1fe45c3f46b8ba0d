// Package sock reads from the descriptor of a socket that package net has made, for a
// [syscall.RawConn]. It is a package because the calls differ between systems.
//
// All functions are small enough to be inlined: the caller is the deepest function of
// an idle connection, and one stack frame more can double the size of its stack.
package sock
