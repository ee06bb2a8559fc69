package spool

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// fakeClock is a machine's clock: time passes on both clocks, the wall clock can be set, and a boot restarts
// the uptime.
type fakeClock struct {
	wall   time.Time
	uptime time.Duration
	boot   uint64
}

func newFakeClock(wall time.Time) *fakeClock {
	return &fakeClock{wall: wall, uptime: 90 * time.Second, boot: 1}
}

func (c *fakeClock) pass(d time.Duration) { c.wall, c.uptime = c.wall.Add(d), c.uptime+d }
func (c *fakeClock) reboot(off time.Duration) {
	c.wall, c.uptime, c.boot = c.wall.Add(off), 20*time.Second, c.boot+1
}

func (c *fakeClock) clock() *Clock {
	return &Clock{Wall: func() time.Time { return c.wall }, Uptime: func() time.Duration { return c.uptime }, Boot: c.boot}
}

// today is the correct time of the wall clock.
var today = time.Date(2026, time.November, 30, 12, 0, 0, 0, time.UTC)

// agesOf reads the ages of all records of topic calls.
func agesOf(t *testing.T, s *Spool) (ages []time.Duration) {
	t.Helper()
	records, _, _ := readAll(t, s, "calls", s.Logs()[0].First)
	for _, r := range records {
		ages = append(ages, s.Now()-r.Stored)
	}
	return ages
}

// TestAges_ClockIsSet_NothingGetsOlder guards spool_max_hours against clocks: the age of a record is correct
// after an acceptance in 1970 or 2106, after a step of hours, and after a kill. Across a power-off the wall
// clock counts, if plausible.
func TestAges_ClockIsSet_NothingGetsOlder(t *testing.T) {
	const hour = time.Hour
	set := func(to time.Time) func(*fakeClock) { return func(c *fakeClock) { c.wall = to } }
	step := func(d time.Duration) func(*fakeClock) { return func(c *fakeClock) { c.wall = c.wall.Add(d) } }
	off := func(d time.Duration) func(*fakeClock) { return func(c *fakeClock) { c.reboot(d) } }
	nothing := func(*fakeClock) {}
	year1970, year2106 := time.Unix(100, 0), time.Date(2106, 2, 7, 6, 28, 15, 0, time.UTC)
	for _, c := range []struct {
		name  string
		start time.Time
		then  func(*fakeClock) // half an hour after the record was stored
		ended func(*fakeClock) // between the end of this run and the next, half an hour later
		want  time.Duration    // age after another half hour
	}{
		{"right", today, nothing, nothing, 90 * time.Minute},
		{"1970, set to today", year1970, set(today), nothing, 90 * time.Minute},
		{"1970, killed, today", year1970, nothing, set(today), 90 * time.Minute},
		{"2106, set to today", year2106, set(today), nothing, 90 * time.Minute},
		{"2106, killed, today", year2106, nothing, set(today), 90 * time.Minute},
		{"today, set to 2106", today, set(year2106), nothing, 90 * time.Minute},
		{"today, killed, 1970", today, nothing, set(year1970), 90 * time.Minute},
		{"two hours forward", today, step(2 * hour), nothing, 90 * time.Minute},
		{"two hours back", today, step(-2 * hour), nothing, 90 * time.Minute},
		{"killed, two hours forward", today, nothing, step(2 * hour), 90 * time.Minute},
		{"killed, two hours back", today, nothing, step(-2 * hour), 90 * time.Minute},
		{"off for three hours", today, nothing, off(3 * hour), 270 * time.Minute},
		{"off, and the clock is at 1970 afterwards", today, nothing, func(c *fakeClock) { c.reboot(0); c.wall = year1970 }, 30 * time.Minute},
		{"off, and the clock is at 2106 afterwards", today, nothing, func(c *fakeClock) { c.reboot(0); c.wall = year2106 }, 30 * time.Minute},
		{"1970, off, today", year1970, nothing, func(c *fakeClock) { c.reboot(0); c.wall = today }, 30 * time.Minute},
		{"2106, off, today", year2106, nothing, func(c *fakeClock) { c.reboot(0); c.wall = today }, 30 * time.Minute},
		{"off, two hours back", today, nothing, off(-2 * hour), 30 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			machine, dir := newFakeClock(c.start), newDir(t)
			check := func(s *Spool, want time.Duration) {
				t.Helper()
				if got := agesOf(t, s); len(got) != 1 || got[0] != want {
					t.Errorf("ages %v, want %v", got, want)
				}
				shown := machine.wall.Sub(s.Usage().Logs[0].Oldest)
				if shown != want {
					t.Errorf("the oldest is shown as %v old, want %v", shown, want)
				}
			}
			s := open(t, dir, Options{Clock: machine.clock()})
			r := numbered("calls", 1)
			r.Accepted = machine.wall
			appendAll(t, s, r)
			machine.pass(hour / 2)
			c.then(machine)
			check(s, hour/2)
			machine.pass(hour / 2)
			closeSpool(t, s)
			c.ended(machine)
			s = open(t, dir, Options{Clock: machine.clock()})
			machine.pass(hour / 2)
			check(s, c.want)
			machine.wall = year1970 // which changes nothing
			check(s, c.want)
		})
	}
}

// TestAges_NewBoot_BeginsASegment guards that a segment has times of a single boot.
func TestAges_NewBoot_BeginsASegment(t *testing.T) {
	machine, dir := newFakeClock(today), newDir(t)
	for n := range 3 {
		s := open(t, dir, Options{Clock: machine.clock()})
		r := numbered("calls", n)
		r.Accepted = machine.wall
		appendAll(t, s, r)
		if got := len(segments(t, dir, "calls")); got != n+1 {
			t.Errorf("%d segments after %d boots", got, n+1)
		}
		closeSpool(t, s)
		machine.pass(time.Hour)
		machine.reboot(time.Minute)
	}
}

// TestEarlierVersions_AreRead_AndGoOn guards files of earlier versions: all of them are read, and new records
// go to new files.
func TestEarlierVersions_AreRead_AndGoOn(t *testing.T) {
	for _, version := range []string{"version1", "version2"} {
		t.Run(version, func(t *testing.T) {
			dir := newDir(t)
			if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", version))); err != nil {
				t.Fatal(err)
			}
			machine := newFakeClock(today)
			s := open(t, dir, Options{Clock: machine.clock()})
			appendAll(t, s, batchOf("calls", 8, 10)...)
			want := batchOf("calls", 1, 10)
			if version == "version1" {
				want[0].Accepted, want[1].Accepted = time.Unix(101, 0), time.Unix(102, 0)
			}
			got, positions, lost := readAll(t, s, "calls", 2)
			wantRecords(t, got, want)
			if lost != 0 || positions[0] != 2 || len(segments(t, dir, "calls")) != 2 {
				t.Errorf("%d lost, positions %v, files %v", lost, positions, segments(t, dir, "calls"))
			}
			for i, age := range agesOf(t, s) {
				if age != 0 { // accepted in 1970, before there was this program, or now
					t.Errorf("record %d is %v old", i, age)
				}
			}
			letters, next, _, err := s.Exhume(10)
			if err != nil || next != 2 || len(letters) != 1 || letters[0].Reason != "too large" || !sameRecord(letters[0].Record, numbered("calls", 100)) {
				t.Errorf("dead letters %+v, next %d, %v", letters, next, err)
			}
		})
	}
}
