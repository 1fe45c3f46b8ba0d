// Package docs tests that the code and the tests that the documentation names
// exist, that the documentation names the tests that it should, that its links have targets,
// and that the programs of the guides are those that test/guide runs.
package docs
