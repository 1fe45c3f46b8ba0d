// Package guide holds the programs of docs/testing.md as tests, so that they are compiled
// and run. Package docs checks that the page has the same text.
package guide
