module github.com/f44ffc3b/websocket/benchmarks

go 1.26.0

replace github.com/f44ffc3b/websocket => ..

require (
	github.com/coder/websocket v1.8.15
	github.com/f44ffc3b/websocket v0.0.0
	github.com/gobwas/ws v1.5.0
	github.com/gorilla/websocket v1.5.3
	github.com/lesismal/nbio v1.6.9
	github.com/lxzan/gws v1.9.1
	golang.org/x/net v0.62.0
	golang.org/x/sys v0.49.0
)

require (
	github.com/gobwas/httphead v0.1.0 // indirect
	github.com/klauspost/compress v1.17.9 // indirect
	github.com/lesismal/llib v1.2.2 // indirect
	golang.org/x/crypto v0.58.0 // indirect
)
