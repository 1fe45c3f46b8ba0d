// Package docs tests that the code and the tests that the documentation names
// exist, and that the documentation names the tests that it should.
package docs
