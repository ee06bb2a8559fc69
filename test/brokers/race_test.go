//go:build race

package brokers

func init() { raceDetector = true }
