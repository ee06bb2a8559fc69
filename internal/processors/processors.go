// Package processors decides how many processors Go may use at a time (GOMAXPROCS): one, unless there is work for more.
//
// With more than one, every goroutine that makes another one ready wakes a thread of Go's to look for work, which mostly finds
// that it has been done meanwhile. At 300 messages a second these wake-ups cost half as much again as the messages.
package processors

import (
	"sync"
	"sync/atomic"
	"time"
)

// When to use more: a processor carries some 300 MB in a second uncompressed, and 20 MB when it has to gzip them. The first is
// reached by 10,000 messages of 400 bytes in a second to be sent, which are counted when they come and when they go, or twice as many
// to be consumed.
const (
	raiseBytes  = 2 << 20 // so much within
	raiseWithin = 250 * time.Millisecond
	lowerBytes  = 4 << 20 // less than this in
	lowerAfter  = time.Second
)

// Governor sets how many processors are used. Its methods may be called from any goroutine.
type Governor struct {
	most int
	set  func(int)

	carried atomic.Int64 // bytes since the present measurement began
	many    atomic.Bool  // most are in use

	mtx   sync.Mutex // guards what follows, and is held over set
	began time.Time  // the measurement
}

// New is for a process that uses most, all there may be: it starts, which is work for more than one, and is left with them for a
// second. set puts a number in force; it is called when Carried finds that there is more to do, from there, and from a
// goroutine of its own when there is not, or no longer.
func New(most int, set func(int)) *Governor {
	g := &Governor{most: most, set: set, began: time.Now()}
	if most > 1 {
		g.many.Store(true)
		time.AfterFunc(lowerAfter, g.lower)
	}
	return g
}

// Carried counts bytes that were taken over to be sent, were sent, which may be hours later, or were handed out to be consumed. It
// takes some nanoseconds, but for the call that has set called, which stops all goroutines for some microseconds.
func (g *Governor) Carried(bytes int) {
	if g.carried.Add(int64(bytes)) < raiseBytes || g.many.Load() || g.most < 2 {
		return
	}
	g.mtx.Lock()
	defer g.mtx.Unlock()
	if g.many.Load() || g.carried.Load() < raiseBytes {
		return // another call was first
	}
	now := time.Now()
	fast := now.Sub(g.began) <= raiseWithin
	g.began = now
	g.carried.Store(0)
	if fast {
		g.many.Store(true)
		g.set(g.most)
		time.AfterFunc(lowerAfter, g.lower)
	}
}

// lower goes back to one processor if there was little to do since it was last called, or looks again later.
func (g *Governor) lower() {
	g.mtx.Lock()
	defer g.mtx.Unlock()
	g.began = time.Now()
	if g.carried.Swap(0) >= lowerBytes {
		time.AfterFunc(lowerAfter, g.lower)
		return
	}
	g.set(1)
	g.many.Store(false)
}
