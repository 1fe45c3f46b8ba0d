// Package browser drives the page of examples/chat in a real Chromium, which it
// finds in PATH. Its tests fail without one, unless BROWSERTEST=skip is set. Run
// them with
//
//	go test -count=1 ./...
//
// as the cache of the go command does not see that the page has changed. With
// SCREENSHOTS set to a directory, that is where they leave pictures of the page.
//
// It is a module of its own, so that the library has no dependencies.
package browser
