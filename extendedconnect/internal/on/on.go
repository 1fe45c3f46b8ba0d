// Package on switches the extended CONNECT of net/http on, which reads the environment variable
// GODEBUG while it is initialized.
//
// Go initializes packages in the order of their import paths, as soon as all their imports are
// initialized (see the language specification, "Program initialization"). This package imports
// only os, and its path sorts before net/http. So it is initialized before net/http, whatever
// else the program imports.
package on

import "os"

const setting = "http2xconnect="

var before, changed, wasSet = change()

// change sets the variable, unless it names the setting already.
func change() (before, changed string, wasSet bool) {
	before, wasSet = os.LookupEnv("GODEBUG")
	if names(before) {
		return before, before, wasSet
	}
	changed = setting + "1"
	if before != "" {
		changed = before + "," + changed
	}
	os.Setenv("GODEBUG", changed)
	return before, changed, wasSet
}

// names reports whether the user has chosen the setting.
func names(godebug string) bool {
	for len(godebug) >= len(setting) {
		if godebug[:len(setting)] == setting {
			return true
		}
		for len(godebug) > 0 && godebug[0] != ',' {
			godebug = godebug[1:]
		}
		if godebug != "" {
			godebug = godebug[1:]
		}
	}
	return false
}

// Restore makes the variable what it was, unless another package has changed it meanwhile.
func Restore() {
	if now := os.Getenv("GODEBUG"); now != changed || now == before && wasSet {
		return
	}
	if wasSet {
		os.Setenv("GODEBUG", before)
	} else {
		os.Unsetenv("GODEBUG")
	}
}
