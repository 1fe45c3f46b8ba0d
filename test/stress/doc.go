// Package stress runs a server in a process of its own, and clients that follow random scripts. The
// server is stopped and continued meanwhile, other processes use the processors, and some clients
// connect through a proxy that delays and cuts what they send. Each script knows what a correct server
// does: which answers and which close code the client gets, and which error the function gets.
//
// The random choices come from a seed, which the text of a failure names. These commands repeat the
// scripts of a seed, run new ones for longer, run only those that end with a reset, and repeat a single
// script 100 times:
//
//	go test ./test/stress -seed 7
//	go test ./test/stress -for 10m -timeout 0
//	go test ./test/stress -for 2m -ending reset
//	go test ./test/stress -seed 7 -script 12 -repeat 100
//
// A seed repeats what the clients send, and when the server is stopped. It does not repeat the order
// in which the goroutines of the server run.
package stress
