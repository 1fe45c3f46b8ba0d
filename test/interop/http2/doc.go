// Package http2 tests WebSocket over HTTP/2 (RFC 8441) with Chromium, Firefox, Node and HAProxy. It
// is a package of its own, because extendedconnect acts on the whole process: the other tests are
// for HTTP/1.1.
package http2
