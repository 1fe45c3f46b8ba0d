module github.com/f44ffc3b/websocket/test/download

go 1.26.0

require golang.org/x/mod v0.43.0
