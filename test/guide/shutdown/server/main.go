package main

import (
	"context"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/f44ffc3b/websocket"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	echo := websocket.Handle(serve)
	mux := http.NewServeMux()
	mux.Handle("/echo", echo)
	server := &http.Server{
		Addr:              ":8080",
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      30 * time.Second,
	}
	server.RegisterOnShutdown(func() { echo.Shutdown(context.Background()) })
	go func() {
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			log.Fatal(err)
		}
	}()
	<-ctx.Done()
	stop() // from now on, a second signal ends the program

	drain(echo, 10*time.Second)
	grace, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := errors.Join(server.Shutdown(grace), echo.Shutdown(grace)); err != nil {
		log.Print(err)
	}
}

// drain closes the connections of h one after the other, so that the clients come to the
// other servers one after the other. It takes less time if there are few of them.
func drain(h *websocket.Handler, over time.Duration) {
	begin := time.Now()
	conns := slices.Collect(h.Conns())
	for i, c := range conns {
		c.StartClose(websocket.StatusGoingAway, "")
		step := min(over/time.Duration(len(conns)), 100*time.Millisecond)
		wait := time.Until(begin.Add(time.Duration(i+1) * step))
		if wait >= time.Millisecond { // shorter sleeps take as long, which would add up
			time.Sleep(wait)
		}
	}
}

// serve sends every message back.
func serve(c *websocket.Conn) error {
	for msg, err := range c.Messages() {
		if err != nil {
			return err
		}
		if err := c.SendMessage(msg.Opcode, msg.Data); err != nil {
			return err
		}
	}
	return nil
}
