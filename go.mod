module github.com/f44ffc3b/websocket

go 1.25
