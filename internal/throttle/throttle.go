// Package throttle keeps a repeated cause from filling a log: one line at once, then at most one per interval, each
// with the number of those it stands for.
package throttle

import (
	"sync"
	"time"
)

// MaxKeys bounds how many keys a Throttle remembers. A key is a broker and a cause, a topic and a reason or the like:
// tens in practice. The bound only keeps a key made of changing text from growing without end.
const MaxKeys = 1024

// Throttle lets one event per key and interval through and counts the others. It is safe for concurrent use, takes
// no timer and starts no goroutine.
//
// What it suppressed is never forgotten silently: the count comes with the next Allow of the key that passes, with
// Forget when the cause is over, or with Flush when the owner ends.
type Throttle struct {
	every time.Duration
	now   func() time.Time

	mtx     sync.Mutex
	entries map[string]*entry
	evicted int // suppressed events of keys that had to make room
}

type entry struct {
	passed     time.Time // when the last event of the key passed
	suppressed int       // events since
}

// Suppressed is what was counted and not reported yet for one key.
type Suppressed struct {
	Key   string // empty: keys that had to make room for others
	Count int
}

// New returns a Throttle that lets one event per key pass in every interval. now is the clock, usually time.Now.
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
		t.entries[key] = &entry{passed: now}
		return 0, true
	}
	if now.Sub(e.passed) < t.every {
		e.suppressed += n
		return 0, false
	}
	suppressed, e.suppressed, e.passed = e.suppressed, 0, now
	return suppressed, true
}

// Forget ends a key, for a cause that is over, and returns how many of its events were not reported. The next event of
// the key passes at once only if its interval is over too, so that a cause that comes and goes stays throttled.
func (t *Throttle) Forget(key string) (suppressed int) {
	t.mtx.Lock()
	defer t.mtx.Unlock()
	e := t.entries[key]
	if e == nil {
		return 0
	}
	suppressed, e.suppressed = e.suppressed, 0
	return suppressed
}

// Flush returns every count that was not reported yet, in no order, and starts all of them at zero. It is for the
// last report of an owner that ends, or for a periodic one.
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
	if t.evicted > 0 {
		rest = append(rest, Suppressed{"", t.evicted})
		t.evicted = 0
	}
	return rest
}

// makeRoom drops every key whose interval is over, and if there is none the one that passed longest ago.
func (t *Throttle) makeRoom(now time.Time) {
	var oldest string
	var at time.Time
	for key, e := range t.entries {
		if now.Sub(e.passed) >= t.every {
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
