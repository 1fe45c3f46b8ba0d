// Package wstest holds the helpers that the tests of this module share. It does not
// import the package under test, so that the in-package tests of the root can use it,
// and so that no test compares the library with itself:
//
//   - [Client] is a WebSocket client that a test controls byte by byte, with its own
//     encoder and its own strict decoder of frames;
//   - [Socket] is a net.Conn in memory that a test can control;
//   - [Recorder] is a client that reads all the time and records each frame with its
//     time;
//   - [Load] is a server that many clients use at the same time, and [Usage] holds the
//     resources that the process uses;
//   - [Main] runs the tests of a package and fails if they leave a goroutine or a file
//     descriptor behind.
package wstest
