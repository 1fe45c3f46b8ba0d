// Package interop tests the websocket package with the clients, proxies, routers
// and middleware that people use. It is a module of its own, for what it needs.
//
//	./install.sh                 what is missing, from Debian and npm
//	go test ./...                every client, directly and through every proxy
//	go test -v -run Clients      with the versions
//	go test -run Idle -idle 70s  across the default keepalive and the proxies' default time-outs
//
// docs/interop.md has what was found.
package interop
