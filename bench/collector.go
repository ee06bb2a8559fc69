package main

import (
	"regexp"
	"strconv"
	"strings"
)

// collection matches the Go runtime's line about a collection with GODEBUG=gctrace=1 (package runtime,
// "Environment Variables"): behind the colon the times of three phases; the first and the last stop the
// world.
var collection = regexp.MustCompile(`^gc \d+ @[0-9.]+s \d+%: ([0-9.]+)\+[0-9.]+\+([0-9.]+) ms clock`)

// pauses returns the longest stop of the world, milliseconds, and the number of collections.
func pauses(trace string) (longest, cycles float64) {
	for line := range strings.Lines(trace) {
		found := collection.FindStringSubmatch(line)
		if found == nil {
			continue
		}
		cycles++
		for _, text := range found[1:] {
			if ms, err := strconv.ParseFloat(text, 64); err == nil {
				longest = max(longest, ms)
			}
		}
	}
	return longest, cycles
}
