// Package download tests that the go command can download the module, and that the copy in the
// module cache works. It is a module of its own, because it uses golang.org/x/mod, with which the
// go command makes and checks the archive of a module.
package download
