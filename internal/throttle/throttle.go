// Package throttle keeps a repeated cause from filling a log: one line at once, then ever more rarely while it goes on,
// each with the number of those it stands for.
package throttle

import (
	"sync"
	"time"
)

// MaxKeys bounds how many keys a Throttle remembers. A key is a broker and a cause, a topic and a reason or the like:
// tens in practice. The bound only keeps a key made of changing text from growing without end.
const MaxKeys = 1024

// growth is how long a key is held back after its first line, its second and so on, in units of the first time: for
// 30 s that is 30 s, 1, 2, 5, 10 and 30 minutes, and an hour from then on. Who comes to look at a log within the first
// minutes sees that something goes on; an outage of days takes a line an hour.
var growth = [...]time.Duration{1, 2, 4, 10, 20, 60, 120}

// calm is how long a key must be quiet for its events to have ended for now, as a part of the first time: 2 seconds for 30.
// Their sum is known then.
const calm = 15

// over is how long a key must be quiet to be over, in the same units: 5 minutes for 30 s. Usually more than what
// lies between two attempts of something that is tried again, which would count as over between them.
const over = 10

// Throttle lets one event per key and interval through and counts the others. The interval of a key grows while its
// events go on; it is back at the first one when there were none for a while, or after Forget. It is safe for
// concurrent use, takes no timer and starts no goroutine.
//
// What it suppressed is never forgotten silently: the count comes with the next Allow of the key that passes, with Due
// when nothing follows for a moment, with Forget when the cause is over, or with Flush when the owner ends.
type Throttle struct {
	every time.Duration // the first interval
	now   func() time.Time

	mtx     sync.Mutex
	entries map[string]*entry
	evicted int // suppressed events of keys that had to make room
}

type entry struct {
	passed     time.Time // when the last line about the key was
	last       time.Time // when its last event was, passed or not
	lines      int       // lines since it began or was forgotten, at most len(growth)
	suppressed int       // events since the last line
	summed     bool      // their sum was reported once since then
}

// next puts the entry behind a line that is written now.
func (e *entry) next(now time.Time) (suppressed int) {
	suppressed, e.suppressed, e.passed, e.summed = e.suppressed, 0, now, false
	e.lines = min(e.lines+1, len(growth))
	return suppressed
}

// held says whether a key is held back.
func (t *Throttle) held(e *entry, now time.Time) bool {
	return now.Sub(e.passed) < t.interval(e)
}

// interval is how long a key is held back behind its last line.
func (t *Throttle) interval(e *entry) time.Duration { return t.every * growth[max(e.lines-1, 0)] }

// isOver says whether a key was quiet for so long that what comes now is something new.
func (t *Throttle) isOver(e *entry, now time.Time) bool { return now.Sub(e.last) >= t.every*over }

// Suppressed is what was counted and not reported yet for one key.
type Suppressed struct {
	Key   string // empty: keys that had to make room for others
	Count int
}

// New returns a Throttle that holds a key back for as long as every after its first event. now is the clock, usually
// time.Now.
func New(every time.Duration, now func() time.Time) *Throttle {
	return &Throttle{every: every, now: now, entries: map[string]*entry{}}
}

// Allow says whether an event of this key may be reported now. If so, suppressed is the number of events of the key
// that were not reported since the last one that was.
func (t *Throttle) Allow(key string) (suppressed int, ok bool) { return t.AllowN(key, 1) }

// AllowN is Allow for n events that happened together: suppressed does not count them when they pass.
func (t *Throttle) AllowN(key string, n int) (suppressed int, ok bool) {
	now := t.now()
	t.mtx.Lock()
	defer t.mtx.Unlock()
	e := t.entries[key]
	if e == nil {
		if len(t.entries) >= MaxKeys {
			t.makeRoom(now)
		}
		t.entries[key] = &entry{passed: now, last: now, lines: 1}
		return 0, true
	}
	if t.isOver(e, now) {
		suppressed = e.suppressed
		*e = entry{passed: now, last: now, lines: 1}
		return suppressed, true
	}
	e.last = now
	if t.held(e, now) {
		e.suppressed += n
		return 0, false
	}
	return e.next(now), true
}

// Due returns the counts of the keys that may have a line now, of those that have become quiet, once between two lines, and
// of those that are over, in no order, and takes them for reported: it is for an owner that calls it when Wait says, so that a
// count does not wait for an event that may never come.
func (t *Throttle) Due() []Suppressed {
	now := t.now()
	t.mtx.Lock()
	defer t.mtx.Unlock()
	var due []Suppressed
	for key, e := range t.entries {
		switch {
		case t.isOver(e, now):
			if e.suppressed > 0 {
				due = append(due, Suppressed{key, e.suppressed})
			}
			delete(t.entries, key)
		case e.suppressed > 0 && !t.held(e, now):
			due = append(due, Suppressed{key, e.next(now)})
		case e.suppressed > 0 && !e.summed && now.Sub(e.last) >= t.every/calm:
			due = append(due, Suppressed{key, e.suppressed})
			e.suppressed, e.summed = 0, true
		}
	}
	return append(due, t.takeEvicted()...)
}

// Wait is how long Due has nothing to return if nothing happens meanwhile; an hour when nothing is suppressed.
func (t *Throttle) Wait() time.Duration {
	now := t.now()
	t.mtx.Lock()
	defer t.mtx.Unlock()
	wait := time.Hour
	if t.evicted > 0 {
		return 0
	}
	for _, e := range t.entries {
		if e.suppressed == 0 {
			continue
		}
		at := e.passed.Add(t.interval(e))
		if quiet := e.last.Add(t.every / calm); !e.summed && quiet.Before(at) {
			at = quiet
		}
		wait = min(wait, at.Sub(now))
	}
	return max(wait, 0)
}

// Forget ends a key, for a cause that is over, and returns how many of its events were not reported. The next event of
// the key passes at once only if the first interval since its last line is over, so that a cause that comes and goes
// stays throttled.
func (t *Throttle) Forget(key string) (suppressed int) {
	t.mtx.Lock()
	defer t.mtx.Unlock()
	e := t.entries[key]
	if e == nil {
		return 0
	}
	suppressed, e.suppressed, e.lines = e.suppressed, 0, 0
	return suppressed
}

// Flush returns every count that was not reported yet, in no order, and starts all of them at zero. It is for the
// last report of an owner that ends.
func (t *Throttle) Flush() []Suppressed {
	t.mtx.Lock()
	defer t.mtx.Unlock()
	var rest []Suppressed
	for key, e := range t.entries {
		if e.suppressed > 0 {
			rest = append(rest, Suppressed{key, e.suppressed})
			e.suppressed = 0
		}
	}
	return append(rest, t.takeEvicted()...)
}

// takeEvicted gives the count of the keys that had to make room, if there is one.
func (t *Throttle) takeEvicted() []Suppressed {
	if t.evicted == 0 {
		return nil
	}
	count := t.evicted
	t.evicted = 0
	return []Suppressed{{"", count}}
}

// makeRoom drops every key whose interval is over, and if there is none the one that passed longest ago.
func (t *Throttle) makeRoom(now time.Time) {
	var oldest string
	var at time.Time
	for key, e := range t.entries {
		if !t.held(e, now) {
			t.drop(key)
			continue
		}
		if oldest == "" || e.passed.Before(at) {
			oldest, at = key, e.passed
		}
	}
	if len(t.entries) >= MaxKeys {
		t.drop(oldest)
	}
}

func (t *Throttle) drop(key string) {
	t.evicted += t.entries[key].suppressed
	delete(t.entries, key)
}
