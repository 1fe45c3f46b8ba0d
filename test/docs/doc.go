// Package docs tests that the code and the tests that the documentation names
// exist, that the documentation names the tests that it should, and that the programs
// of the page on testing are those that test/guide runs.
package docs
