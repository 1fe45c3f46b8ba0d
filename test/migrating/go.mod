module github.com/f44ffc3b/websocket/test/migrating

go 1.25.0

replace github.com/f44ffc3b/websocket => ../..

require (
	github.com/coder/websocket v1.8.15
	github.com/f44ffc3b/websocket v0.0.0
	github.com/gorilla/websocket v1.5.3
)
