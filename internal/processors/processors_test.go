package processors

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// record is the numbers that were put in force.
type record struct {
	mtx sync.Mutex
	set []int
}

func (r *record) add(n int) {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	r.set = append(r.set, n)
}

// want compares it once everything that is due has happened.
func (r *record) want(t *testing.T, when string, want ...int) {
	t.Helper()
	synctest.Wait()
	r.mtx.Lock()
	defer r.mtx.Unlock()
	if !slices.Equal(r.set, want) {
		t.Errorf("processors %v %s, want %v", r.set, when, want)
	}
}

// carry has bytes carried each millisecond for so long.
func carry(g *Governor, bytes int, duration time.Duration) {
	for range duration / time.Millisecond {
		time.Sleep(time.Millisecond)
		g.Carried(bytes)
	}
}

func TestAQuietProcessHasOneProcessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r record
		g := New(8, r.add)
		carry(g, 2000*400/1000, 20*time.Second)
		time.Sleep(time.Minute)
		r.want(t, "in all", 1)
	})
}

func TestABusyOneHasAllForAsLongAsItIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r record
		g := New(8, r.add)
		carry(g, 800, 10*time.Second)
		carry(g, 100_000, 10*time.Second)
		r.want(t, "while busy", 1, 8)
		time.Sleep(2*lowerAfter + time.Millisecond)
		r.want(t, "afterwards", 1, 8, 1)
		carry(g, 100_000, time.Second)
		r.want(t, "when busy again", 1, 8, 1, 8)
		time.Sleep(time.Minute)
	})
}

func TestAStartHasAllForASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r record
		New(8, r.add)
		time.Sleep(lowerAfter - time.Millisecond)
		r.want(t, "while it starts")
		time.Sleep(2 * time.Millisecond)
		r.want(t, "afterwards", 1)
	})
}

func TestABurstIsOverSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r record
		g := New(2, r.add)
		time.Sleep(lowerAfter + time.Millisecond)
		g.Carried(raiseBytes)
		carry(g, 800, time.Minute)
		r.want(t, "in all", 1, 2, 1)
	})
}

func TestASingleProcessorIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(1, func(n int) { t.Errorf("set to %d", n) })
		carry(g, 1_000_000, 5*time.Second)
	})
}
