// Package hostile tests what a server that uses this library promises against
// attackers: bounded memory, bounded waits, no leaks, and service for a healthy
// client meanwhile. SECURITY.md names these tests.
//
//	go test -v ./test/hostile
package hostile
