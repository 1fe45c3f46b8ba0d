// Package on adds http2xconnect=1 to GODEBUG while net/http is initialized.
//
// It imports only os, and its path sorts before "net/http". Go initializes packages in the order of their paths as soon as their
// imports are initialized, so this package always comes first, whatever else the program imports.
package on

import "os"

const setting = "http2xconnect="

// before is what GODEBUG was, and wasSet whether it was set at all.
var (
	before, wasSet = os.LookupEnv("GODEBUG")
	changed        bool
)

func init() {
	if has(before, setting) {
		return // The value that the user chose wins.
	}
	value := setting + "1"
	if before != "" {
		value = before + "," + value
	}
	changed = os.Setenv("GODEBUG", value) == nil
}

// Restore makes GODEBUG what it was, so that child processes do not inherit the change.
func Restore() {
	if !changed {
		return
	}
	changed = false
	if wasSet {
		_ = os.Setenv("GODEBUG", before)
		return
	}
	_ = os.Unsetenv("GODEBUG")
}

// has reports whether list contains sub. It replaces strings.Contains, because this package must import only os.
func has(list, sub string) bool {
	for i := 0; i+len(sub) <= len(list); i++ {
		if list[i:i+len(sub)] == sub {
			return true
		}
	}
	return false
}
