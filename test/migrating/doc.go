// Package migrating holds the programs of docs/migrating.md: each written with another
// library, and then with this one. Its tests show both to the same client. It is a module,
// because it needs the other libraries.
//
//	cd test/migrating
//	go test -race ./...
package migrating
