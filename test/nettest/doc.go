// Package nettest tests that Conn.Stream is a net.Conn: with the tests of
// golang.org/x/net/nettest, and with net/http, whose client and server use it as the
// connection. It is a module, because it needs golang.org/x/net.
//
//	cd test/nettest
//	go test ./...
package nettest
