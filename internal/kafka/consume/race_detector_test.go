//go:build race

package consume

func init() { raceDetector = true }
