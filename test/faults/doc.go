// Package faults lets every read and every write of a session fail in every way,
// one at a time. No session may hang, panic, leave a goroutine behind, or lose a
// message for which a method has returned nil.
//
// The connections are in memory, so those of HandleMessages have a goroutine. The tests of the event
// loop use real sockets: TestHandleMessages_peer_ends_after_each_byte and
// TestHostile_100_resets_at_every_moment.
package faults
