// Package hostile tests how a server that uses this library withstands attackers: memory
// and waits must be limited, nothing may leak, and a healthy client must be served
// meanwhile. SECURITY.md names these tests.
//
//	go test -v ./test/hostile
package hostile
