// Package browser tests the pages of examples/chat and examples/dashboard in a real Chromium,
// which must be in PATH. Without Chromium the tests fail, unless BROWSERTEST=skip is set. Run them with
//
//	go test -count=1 ./...
//
// because the test cache of the go command does not notice that a page has changed.
// If SCREENSHOTS is set to a directory, the tests write screenshots of the pages there.
//
// The package is a separate module, so that the library has no dependencies.
package browser
