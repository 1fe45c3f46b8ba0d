// Frames uploads files with a protocol of its own, made of WebSocket frames.
//
//	go run ./examples/frames                # the server, on :8080
//	go run ./examples/frames -upload FILE   # a client of it
//
// A file is one binary message in as many frames as its sender likes. The server
// stores each as it comes, so a file takes no more memory than a frame, and tells
// in text frames how far it is. The last of them has the SHA-256 of the file.
//
// Neither side receives messages here: server.go reads and writes frames with a
// Conn, and answers the control frames among them; client.go has nothing but a
// TCP connection.
package main

import (
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"

	"github.com/f44ffc3b/websocket"
)

// progress is what the server tells, as JSON in a text frame.
type progress struct {
	Received int64  `json:"received"`         // bytes so far
	SHA256   string `json:"sha256,omitempty"` // of the whole file, at the end
}

func main() {
	addr := flag.String("addr", ":8080", "`host:port` for the server to listen on")
	dir := flag.String("dir", "", "`directory` for the server to keep the files in (default a new one)")
	limit := flag.Int64("limit", 1<<30, "largest file that the server accepts, in `bytes`")
	file := flag.String("upload", "", "be a client: upload `file` to the URL that follows, or else to this machine")
	flag.Parse()

	var err error
	if *file != "" {
		url := "ws://localhost:8080/upload"
		if flag.NArg() > 0 {
			url = flag.Arg(0)
		}
		err = upload(url, *file, os.Stdout)
	} else {
		err = serve(*addr, *dir, *limit)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func serve(addr, dir string, limit int64) error {
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "uploads-"); err != nil {
			return err
		}
	}
	log.Printf("listening on %s, keeping files in %s", addr, dir)
	return http.ListenAndServe(addr, routes(dir, limit))
}

func routes(dir string, limit int64) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "Upload a file with\n\n\tgo run ./examples/frames -upload FILE ws://%s/upload\n", r.Host)
	})
	mux.Handle("/upload", websocket.Handle(func(c *websocket.Conn) error {
		r := receiver{conn: c, dir: dir, limit: limit}
		defer r.discard()
		return r.receive()
	}))
	return mux
}
