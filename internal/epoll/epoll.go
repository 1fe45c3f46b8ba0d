// Package epoll waits for events of many file descriptors at once, with epoll of Linux.
//
// The epoll instance is a file descriptor itself, and Go's poller waits for it as for any
// socket. So a goroutine that waits for events is parked, and does not block an OS thread.
//
// The set is edge-triggered: it tells about each arrival once, and need not be armed again. An
// event names a descriptor and its generation, because the number of a closed descriptor is
// used again, and an event of the old descriptor may have been fetched before.
package epoll
