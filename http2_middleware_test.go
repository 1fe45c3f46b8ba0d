package websocket

import (
	"io"
	"net/http"
	"testing"
)

// A body that middleware has replaced may not end its reads when it is closed. A wrapper of
// the ResponseWriter may return itself.
func TestHTTP2_faulty_middleware(t *testing.T) {
	t.Run("Close of the body does nothing", func(t *testing.T) {
		closed := make(chan error, 1)
		c := dialHTTP2(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Body = io.NopCloser(r.Body)
			c, err := Upgrade(w, r)
			if err != nil {
				t.Error(err)
				return
			}
			go c.Discard()
			closed <- c.Close(StatusNormalClosure, "")
		}))
		p := connectHTTP2(t, c)
		p.expectClose(1000)
		p.send(Close, closeBody(1000, ""))
		if err := <-closed; err != nil {
			t.Error(err)
		}
	})
	t.Run("Unwrap returns its receiver", func(t *testing.T) {
		c := dialHTTP2(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			Handle(echoAll).ServeHTTP(&ownWrapper{w}, r)
		}))
		s, err := c.Connect()
		if err != nil || s.Status != 500 {
			t.Errorf("got the status %d and error %v, want 500", s.Status, err)
		}
	})
}

// An ownWrapper has an Unwrap method with a fault.
type ownWrapper struct{ http.ResponseWriter }

func (w *ownWrapper) Unwrap() http.ResponseWriter { return w }
