// Package model compares connections with a model: a random list of messages that a client sends.
// A handler receives them by a random mix of all receiving methods, with deadlines, pings and pauses
// between the calls and inside of messages. Each message must arrive once and unchanged, and each
// slice that the handler keeps must stay unchanged.
//
// The random choices come from a seed, which is in the name of the subtest. This command repeats
// one of them:
//
//	go test -run 'TestModel_in_memory/Handle$/seed_7$' ./test/model
package model
