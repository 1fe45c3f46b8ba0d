// Package soak runs hundreds of clients with mixed behaviour against one server,
// for as long as -soak says. Memory, goroutines and descriptors must neither grow
// meanwhile nor remain afterwards.
//
//	go test -v ./test/soak -soak 10m -timeout 20m
package soak
