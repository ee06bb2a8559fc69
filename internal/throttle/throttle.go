// Package throttle prevents a repeated cause from filling a log: a line at once, then ever fewer lines, each
// with its number of events.
package throttle

import (
	"sync"
	"time"
)

// MaxKeys bounds how many keys a Throttle remembers. A key is a broker and a cause, a topic and a reason or the like:
// tens in practice. The bound only keeps a key made of changing text from growing without end.
const MaxKeys = 1024

// growth is the pause after a key's first line, its second line and so on, in units of the first pause: for
// 30 s the pauses are 30 s, 1, 2, 5, 10 and 30 minutes, and then an hour. A reader of the log in the first
// minutes sees a lasting cause; an outage of days takes a line an hour.
var growth = [...]time.Duration{1, 2, 4, 10, 20, 60, 120}

// calm is the quiet time after which a key's events count as ended for now, as a part of the first pause: 2
// seconds for 30. Their sum is then known.
const calm = 15

// over is the quiet time after which a key is over, in the same units: 5 minutes for 30 s. The time is
// usually longer than the interval of retries, so a retried cause is not over between two attempts.
const over = 10

// Throttle passes one event per key and pause and counts the others. A key's pause grows while events
// continue. The pause returns to the first value after a quiet time, or after Forget. Throttle is safe for
// concurrent use, takes no timer and starts no goroutine.
//
// Suppressed events are always reported: by the next passing Allow of the key, by Due after a quiet moment,
// by Forget at the end of the cause, or by Flush at the end of the owner.
type Throttle struct {
	every time.Duration // the first interval
	now   func() time.Time

	mtx     sync.Mutex
	entries map[string]*entry
	evicted int // suppressed events of evicted keys
}

type entry struct {
	passed     time.Time // when the last line about the key was
	last       time.Time // time of the last event, passed or not
	lines      int       // lines since the start or Forget, at most len(growth)
	suppressed int       // events since the last line
	summed     bool      // the sum was reported since then
}

// next resets the entry after a line written now.
func (e *entry) next(now time.Time) (suppressed int) {
	suppressed, e.suppressed, e.passed, e.summed = e.suppressed, 0, now, false
	e.lines = min(e.lines+1, len(growth))
	return suppressed
}

// held reports whether a key is suppressed now.
func (t *Throttle) held(e *entry, now time.Time) bool {
	return now.Sub(e.passed) < t.interval(e)
}

// interval returns the pause of a key after its last line.
func (t *Throttle) interval(e *entry) time.Duration { return t.every * growth[max(e.lines-1, 0)] }

// isOver reports whether a key was quiet long enough to make the next event a new cause.
func (t *Throttle) isOver(e *entry, now time.Time) bool { return now.Sub(e.last) >= t.every*over }

// Suppressed is the unreported count of a key.
type Suppressed struct {
	Key   string // empty: evicted keys
	Count int
}

// New returns a Throttle with every as the first pause. now is the clock, usually time.Now.
func New(every time.Duration, now func() time.Time) *Throttle {
	return &Throttle{every: every, now: now, entries: map[string]*entry{}}
}

// Allow reports whether an event of this key may be reported now. If so, suppressed is the number of the
// key's events since the last reported event.
func (t *Throttle) Allow(key string) (suppressed int, ok bool) { return t.AllowN(key, 1) }

// AllowN is Allow for n simultaneous events: suppressed does not count passing events.
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

// Due returns unreported counts, in no order, and marks the counts as reported. Included are keys ready for a
// line now, keys gone quiet, once between two lines, and finished keys. The owner calls Due at the times of
// Wait, so no count waits for an event that may never come.
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

// Forget ends a key at the end of its cause, and returns the number of unreported events. The next event of
// the key passes at once only after the first pause since the key's last line, so a flapping cause stays
// throttled.
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

// Flush returns every unreported count, in no order, and resets all counts. It is for the last report of an
// ending owner.
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

// takeEvicted returns the count of evicted keys, if any.
func (t *Throttle) takeEvicted() []Suppressed {
	if t.evicted == 0 {
		return nil
	}
	count := t.evicted
	t.evicted = 0
	return []Suppressed{{"", count}}
}

// makeRoom drops every key with an expired pause, or, without any, the key with the oldest line.
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
