// Package epoll waits for events of many file descriptors at once, with epoll of Linux.
//
// The epoll instance is a file descriptor itself, and Go's poller waits for it as for any
// socket. So a goroutine that waits for events is parked, and does not block an OS thread.
//
// The set is edge-triggered: it reports each arrival once, and a descriptor is added only once. An
// event names a descriptor and its generation, because the kernel reuses the numbers of closed
// descriptors, and an event of the old descriptor may have been fetched already.
package epoll
