// Package wait provides a Lock, an Event, a Deadline and an Alarm, for which the
// goroutines of a connection wait.
//
// They wait on channels, because testing/synctest counts a goroutine that waits on a
// channel as durably blocked. The fake clock of a test then advances. It does not
// advance while a goroutine waits for a sync.Mutex. The mutexes inside these types are
// held only for a moment.
//
// The zero value of each type is ready to use. No value may be copied after its first
// use.
package wait
