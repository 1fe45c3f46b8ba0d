//go:build race

package extendedconnect_test

const raceEnabled = true
