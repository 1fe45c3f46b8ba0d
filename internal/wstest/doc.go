// Package wstest holds what the tests of this module share. It does not import
// the package under test, so that the in-package tests of the root can use it,
// and so that no test compares the library with itself:
//
//   - [Client] is a WebSocket client made of bytes, with its own encoder and its
//     own strict decoder of frames;
//   - [Socket] is a net.Conn in memory that a test can control;
//   - [Recorder] is a client that reads all the time and notes what came when;
//   - [Load] is a server that many clients use at the same time, and [Usage] what
//     the process has in use;
//   - [Main] runs the tests of a package and fails if they leave something behind.
package wstest
