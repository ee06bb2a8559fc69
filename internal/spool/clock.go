package spool

import (
	"math"
	"time"

	"reskafka/internal/uptime"
)

// Clock is a spool's source of time. Ages count on Uptime, which no user can set and which runs during a
// suspend. Uptimes of different boots are not comparable: Wall is used then, as far as plausible.
type Clock struct {
	Wall   func() time.Time
	Uptime func() time.Duration
	Boot   uint64 // which boot Uptime counts from
}

// machineClock is the clock of this machine.
func machineClock() *Clock { return &Clock{Wall: time.Now, Uptime: uptime.Now, Boot: uptime.Boot()} }

// ages computes the times of storage of a spool's records.
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

// unknownSince is an unknown since.
const unknownSince = math.MinInt64

// since returns the time of a record's storage, as uptime in nanoseconds: exact within this boot. Otherwise
// the wall clock decides, by its values at the record's acceptance and at the spool's opening, so later
// changes of the clock have no effect. An impossible age becomes zero.
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

// date returns the wall clock's time at a since, without any change of the clock.
func (a *ages) date(since int64) time.Time {
	if since == unknownSince {
		return time.Time{}
	}
	return a.clock.Wall().Add(time.Duration(since) - a.clock.Uptime())
}

// Now implements outbox.Spool.
func (s *Spool) Now() time.Duration { return s.ages.clock.Uptime() }
