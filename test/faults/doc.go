// Package faults lets every read and every write of a session fail in every way,
// one at a time. No session may hang, panic, leave a goroutine behind, or lose a
// message for which a method has returned nil.
package faults
