// Hold opens very many WebSockets and keeps them open, as a load generator for a server that
// sends every message back, such as examples/million.
//
//	go run ./hold -n 20000 ws://localhost:8080/ws
//
// It answers pings, sends -rate messages a second over all connections, and prints a line of
// figures each second. For more connections than an address has ports (28,000 on Linux), name
// several addresses of this machine: -from 127.0.0.1,127.0.0.2,127.0.0.3
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	var o options
	flag.IntVar(&o.conns, "n", 10000, "how many connections to open")
	flag.IntVar(&o.opening, "opening", 2000, "how many of them to open in a second")
	flag.IntVar(&o.rate, "rate", 100, "messages to send in a second, over all connections")
	flag.IntVar(&o.size, "size", 64, "bytes in a message; at least 8")
	from := flag.String("from", "", "the local `addresses` to connect from, separated by commas (default: the system chooses)")
	flag.BoolVar(&o.insecure, "insecure", false, "do not check the certificate of a wss server")
	duration := flag.Duration("for", 0, "stop after this time (default: at Ctrl-C)")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: hold [flags] ws://host:port/path")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if *from != "" {
		o.from = strings.Split(*from, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	if *duration > 0 {
		ctx, stop = context.WithTimeout(ctx, *duration)
		defer stop()
	}
	if err := run(ctx, flag.Arg(0), o, os.Stdout, time.Second); err != nil {
		fmt.Fprintln(os.Stderr, "hold:", err)
		os.Exit(1)
	}
}
