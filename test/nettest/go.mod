module github.com/f44ffc3b/websocket/test/nettest

go 1.25.0

replace github.com/f44ffc3b/websocket => ../..

require (
	github.com/f44ffc3b/websocket v0.0.0
	golang.org/x/net v0.57.0
)
