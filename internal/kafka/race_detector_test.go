//go:build race

package kafka

func init() { raceDetector = true }
