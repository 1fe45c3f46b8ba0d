// Package guide holds the programs of docs/testing.md as tests, so that they are compiled
// and run. The folders in it have those of other pages, with tests. Package docs checks that
// the pages have the same text.
package guide
