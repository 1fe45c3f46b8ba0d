//go:build race

package sock

import "syscall"

// noteWrite tells the race detector that what happened before is visible to the reader of what is
// written next. Only the functions of package syscall tell it, and a test of a user has both sides
// in one process. The call itself fails and does nothing else.
func noteWrite() { syscall.Write(-1, nil) }
