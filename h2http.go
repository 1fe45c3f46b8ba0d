package websocket

import (
	"fmt"
	"io"
	"net/http"
	"time"
)

// A streamWriter is the ResponseWriter of an HTTP/2 stream, below all wrappers.
type streamWriter interface {
	http.ResponseWriter
	FlushError() error
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// A response is the ResponseWriter of a stream after the handshake. A ResponseWriter panics when
// the handler of net/http has returned. That can happen at any time: after Upgrade, or because
// middleware runs a Handler on a goroutine and returns at a time limit. On a goroutine of this
// package, such as that of the timer, the panic would end the process. So the methods of response
// return a *panicError instead, and the h2stream has no other access to the ResponseWriter.
type response struct{ w streamWriter }

const handlerReturned = "the handler of the HTTP/2 stream has returned"

// send writes p and flushes it.
func (r response) send(p []byte) (n int, err error) {
	defer recoverError(&err, handlerReturned)
	if n, err = r.w.Write(p); err == nil {
		err = r.w.FlushError()
	}
	return n, err
}

// flush returns an error if the stream has ended. It sends nothing if nothing is buffered.
func (r response) flush() (err error) {
	defer recoverError(&err, handlerReturned)
	return r.w.FlushError()
}

// reset makes net/http reset the stream.
func (r response) reset() (err error) {
	defer recoverError(&err, handlerReturned)
	return r.w.SetWriteDeadline(longAgo)
}

// A requestBody is the body of the request of a stream. Middleware may have replaced it with a body
// that panics. The goroutines of this package read it and close it too, so it returns a *panicError
// instead, as response does.
type requestBody struct{ body io.ReadCloser }

func (b requestBody) Read(p []byte) (n int, err error) {
	defer recoverError(&err, "the body of the request has panicked")
	return b.body.Read(p)
}

func (b requestBody) Close() (err error) {
	defer recoverError(&err, "the body of the request has panicked")
	return b.body.Close()
}

// A panicError says that an object of net/http has panicked.
type panicError struct {
	meaning string
	value   any
}

func (e *panicError) Error() string {
	return fmt.Sprintf("%s: %s", e.meaning, oneLine(fmt.Sprint(e.value)))
}

// recoverError stores a panic in *err. It has to be deferred, because it recovers.
func recoverError(err *error, meaning string) {
	if v := recover(); v != nil {
		*err = &panicError{meaning, v}
	}
}
