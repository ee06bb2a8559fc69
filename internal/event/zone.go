package event

import (
	"os"
	"time"
)

// localtimeFile is the zone of Asterisk's "local" time. Asterisk does not use the C library's clock: without
// a named zone it reads this file and never TZ (main/stdtime/localtime.c). With TZ set, Go's time.Local would
// differ from the times of every other CDR backend.
const localtimeFile = "/etc/localtime"

// localZone reads the PBX's time zone from file; UTC on failure, like Asterisk.
func localZone(file string) *time.Location {
	data, err := os.ReadFile(file)
	if err != nil {
		return time.UTC
	}
	zone, err := time.LoadLocationFromTZData("Local", data)
	if err != nil {
		return time.UTC
	}
	return zone
}
