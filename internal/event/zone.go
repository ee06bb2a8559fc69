package event

import (
	"os"
	"time"
)

// localtimeFile is the zone that Asterisk means by "local". Its clock is not the C library's: without the name of a
// zone it reads this file and never looks at TZ (main/stdtime/localtime.c), so Go's time.Local would differ from the
// times of every other CDR backend wherever TZ is set.
const localtimeFile = "/etc/localtime"

// localZone reads the PBX's time zone from file; UTC when that cannot be done, as in Asterisk.
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
