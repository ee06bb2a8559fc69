package spool

import (
	"math"
	"time"

	"reskafka/internal/uptime"
)

// Clock is what a spool knows of time. Ages are counted on Uptime, which nobody can set and which goes on while the machine is
// suspended. Uptimes of different boots cannot be compared: there Wall has to do, as far as it can be believed.
type Clock struct {
	Wall   func() time.Time
	Uptime func() time.Duration
	Boot   uint64 // which boot Uptime counts from
}

// machineClock is the clock of this machine.
func machineClock() *Clock { return &Clock{Wall: time.Now, Uptime: uptime.Now, Boot: uptime.Boot()} }

// ages says since when the records of a spool are in it.
type ages struct {
	clock  *Clock
	opened time.Duration // the uptime when the spool was opened,
	wall   time.Time     // and the wall clock
}

func newAges(c *Clock) *ages {
	if c == nil {
		c = machineClock()
	}
	return &ages{clock: c, opened: c.Uptime(), wall: c.Wall()}
}

// Ages of records from before the last boot are believed between these bounds only. No record is older than this program, and
// none older than spool_max_hours allows.
var earliest = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

const longest = 87600 * time.Hour

// unknownSince is a since that is not known.
const unknownSince = math.MinInt64

// since is when a record was stored, as uptime in nanoseconds: exactly if that was in this boot. Else the wall clock decides,
// by what it said when the record was accepted and when the spool was opened, so that setting it later changes nothing. An age
// that cannot be true is none.
func (a *ages) since(boot uint64, stored, accepted int64) int64 {
	if a == nil {
		return unknownSince
	}
	if boot == a.clock.Boot && stored != unknownSince {
		return min(stored, int64(a.clock.Uptime()))
	}
	at := timeOf(accepted)
	if age := a.wall.Sub(at); at.After(earliest) && age >= 0 && age <= longest {
		return int64(a.opened - age)
	}
	return int64(a.opened)
}

// date is what the wall clock would have said at a since, had it never been set.
func (a *ages) date(since int64) time.Time {
	if since == unknownSince {
		return time.Time{}
	}
	return a.clock.Wall().Add(time.Duration(since) - a.clock.Uptime())
}

// Now implements outbox.Spool.
func (s *Spool) Now() time.Duration { return s.ages.clock.Uptime() }
