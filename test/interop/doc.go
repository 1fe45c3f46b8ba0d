// Package interop tests the websocket package with widely used clients, proxies, routers
// and middleware. It is a separate module, so that the library has no dependencies.
//
//	./install.sh                 install the missing clients and proxies from Debian and npm
//	go test ./...                test every client, directly and through every proxy
//	go test -v -run Clients      also print the versions
//	go test -run Idle -idle 70s  idle with the default keepalive and the proxies' default timeouts
//
// docs/interop.md and docs/clients.md have the results.
package interop
