//go:build race

package engine

// The race detector makes pools forget at random what is put into them.
func init() { raceBytes = 150 }
