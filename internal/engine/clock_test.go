package engine

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/internal/metrics"
	"reskafka/internal/spool"
)

// machine is the clock of a machine, set during the run of engines.
type machine struct {
	mtx    sync.Mutex
	wall   time.Time
	uptime time.Duration
}

func (m *machine) clock() *spool.Clock {
	return &spool.Clock{
		Wall:   func() time.Time { m.mtx.Lock(); defer m.mtx.Unlock(); return m.wall },
		Uptime: func() time.Duration { m.mtx.Lock(); defer m.mtx.Unlock(); return m.uptime },
		Boot:   7,
	}
}

func (m *machine) pass(d time.Duration) {
	m.mtx.Lock()
	defer m.mtx.Unlock()
	m.wall, m.uptime = m.wall.Add(d), m.uptime+d
}

func (m *machine) set(to time.Time) {
	m.mtx.Lock()
	defer m.mtx.Unlock()
	m.wall = to
}

// putAt stages records with the machine's time.
func (s *stage) putAt(m *machine, from, to int) {
	frames := numbered("t", "k", from, to)
	for i := range frames {
		frames[i].AcceptedNS = m.clock().Wall().UnixNano()
	}
	s.put(frames...)
}

// TestSpoolMaxHours_ClockIsSet_AllDelivered verifies that no clock makes call records dead letters:
// spool_max_hours = 1, an outage of 50 minutes, the clock set meanwhile, and a kill.
func TestSpoolMaxHours_ClockIsSet_AllDelivered(t *testing.T) {
	today := time.Date(2026, time.November, 30, 12, 0, 0, 0, time.UTC)
	year1970, year2106 := time.Unix(60, 0), time.Date(2106, 2, 7, 6, 28, 15, 0, time.UTC)
	for _, c := range []struct {
		name         string
		start        time.Time
		outage, kill func(before time.Time) time.Time // the clock's settings in the outage, and across the kill
	}{
		{"1970, set in the outage", year1970, func(time.Time) time.Time { return today }, nil},
		{"1970, killed, today", year1970, nil, func(time.Time) time.Time { return today }},
		{"2106, set in the outage", year2106, func(time.Time) time.Time { return today }, nil},
		{"2106, killed, today", year2106, nil, func(time.Time) time.Time { return today }},
		{"today, set to 2106", today, func(time.Time) time.Time { return year2106 }, nil},
		{"today, killed, 1970", today, nil, func(time.Time) time.Time { return year1970 }},
		{"two hours forward", today, func(now time.Time) time.Time { return now.Add(2 * time.Hour) }, nil},
		{"two hours back", today, func(now time.Time) time.Time { return now.Add(-2 * time.Hour) }, nil},
		{"killed, two hours forward", today, nil, func(now time.Time) time.Time { return now.Add(2 * time.Hour) }},
		{"killed, two hours back", today, nil, func(now time.Time) time.Time { return now.Add(-2 * time.Hour) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := &machine{wall: c.start, uptime: time.Minute}
			dir, killed := t.TempDir(), t.TempDir()
			begin := func(dir, address string) (*rig, *stage) {
				r := startIn(t, newLines(), dir)
				r.clock = m.clock()
				r.configure(section("one", address, onDisk, "spool_max_hours = 1"))
				return r, r.open("one")
			}
			r, s := begin(dir, refusedAddress(t))
			s.putAt(m, 0, 20)
			r.spooled("one", 20)
			m.pass(25 * time.Minute)
			if c.outage != nil {
				m.set(c.outage(m.wall))
			}
			s.putAt(m, 20, 40)
			r.spooled("one", 40)
			m.pass(20 * time.Minute)
			if err := os.CopyFS(killed, os.DirFS(dir)); err != nil { // the state after a kill
				t.Fatal(err)
			}
			r.Stop(0)
			if c.kill != nil {
				m.set(c.kill(m.wall))
			}
			b := newBroker(t, kfake.SeedTopics(1, "t"))
			r, s = begin(killed, b.address())
			m.pass(5 * time.Minute)
			s.putAt(m, 40, 50)
			eventually(t, "all have their outcome", func() bool {
				c := r.status("one").Totals
				return c.Waiting+c.Spooled+c.Sending == 0 && c.Accepted == 50
			})
			if c := r.status("one").Totals; c.Acknowledged != 50 {
				t.Errorf("account %+v", c)
			}
			b.counts(t, "t", 50)
		})
	}
}

// TestSpoolMaxHours_TimeIsOver_LogHasCountAgeAndOption verifies the log line for expired records, and its
// command: a retry restarts the records' full time.
func TestSpoolMaxHours_TimeIsOver_LogHasCountAgeAndOption(t *testing.T) {
	m := &machine{wall: time.Date(2026, time.November, 30, 12, 0, 0, 0, time.UTC), uptime: time.Minute}
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	accept := b.refusing(7) // timed out: to be tried again
	r := startIn(t, newLines(), t.TempDir())
	r.clock = m.clock()
	r.configure(section("one", b.address(), onDisk, "spool_max_hours = 1", "reconnect_backoff_max_ms = 100",
		"message_timeout_ms = 1000")) // after this time the client returns its retries
	s := r.open("one")
	s.putAt(m, 0, 39)
	r.spooled("one", 39)
	m.pass(61 * time.Minute)
	eventually(t, "all are dead letters", func() bool { return r.onDisk("one").Sum(metrics.SpoolDeadLetters) == 39 })
	what := "for topic 't' became dead letters (kafka spool retry one sends them again), expired"
	eventually(t, "the log has all of them", func() bool { return r.log.records("error: connection 'one': ", what) == 39 })
	first := r.log.with("record(s) " + what + ": waited 1h1m0s on disk, longer than spool_max_hours = 1")
	if len(first) != 1 {
		t.Errorf("lines %q", r.log.with("record(s)"))
	}
	if _, err := r.RetrySpool("one", ""); err != nil {
		t.Error(err)
	}
	m.pass(59 * time.Minute)
	accept()
	r.acknowledged("one", 39)
	b.counts(t, "t", 39)
	if lines := fmt.Sprint(r.log.with("dropped")); lines != "[]" {
		t.Error(lines)
	}
}
