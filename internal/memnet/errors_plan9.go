package memnet

import "errors"

// Plan 9 has no numbers for these errors.
var (
	errReset      = errors.New("connection reset by peer")
	errBrokenPipe = errors.New("broken pipe")
)
