// Package conformance tests from outside that a server follows RFC 6455: the tests send
// bytes over TCP and check the bytes that come back. The client does not use the library
// under test. docs/rfc6455.md lists the requirements with these tests.
//
// The tests write a frame as its first byte, which is FIN, the reserved bits and the
// opcode:
//
//	0x81 text, 0x01 its first fragment    0x88 close
//	0x82 binary, 0x02 its first fragment  0x89 ping
//	0x00 continuation, 0x80 the last one  0x8A pong
package conformance
