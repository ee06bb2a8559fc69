package engine

import (
	"errors"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"reskafka/internal/host"
	"reskafka/internal/ingest"
)

// maxEarly is how many ranges may wait for their connections to be opened. The module opens a gate by itself after 10 ms, so on a
// busy machine the ring brings some milliseconds of traffic sooner than the socket brings the request, a range each 5 ms.
const maxEarly = 1 << 14

// early holds ranges whose producer is not open yet: the ring and the socket are not ordered against each other.
type early struct {
	mtx    sync.Mutex // taken after Engine.configuring and Engine.living
	ranges map[uint64][]ingest.Range
	kept   int

	// busy is not 0 while Take has to take the mutex: there are such ranges, or a connection is being opened.
	busy atomic.Int64
}

var errNotOpen = errors.New("not open")

// takeInTurn hands a range over behind those that came before its connection was opened, or keeps it until then.
func (e *Engine) takeInTurn(id uint64, r ingest.Range) error {
	e.early.mtx.Lock()
	defer e.early.mtx.Unlock()
	c := e.byID(id)
	if c != nil {
		e.takeRange(c, r)
		return nil
	}
	if id == 0 || id > maxNumber || e.early.kept == maxEarly {
		return errNotOpen
	}
	if !r.Stays {
		r.Frames = slices.Clone(r.Frames)
	}
	if e.early.ranges == nil {
		e.early.ranges = map[uint64][]ingest.Range{}
	}
	e.early.ranges[id] = append(e.early.ranges[id], r)
	e.early.kept++
	e.early.busy.Add(1)
	return nil
}

// admit binds a gate and its number to an open connection. Frames of killed runs and early ranges precede later ranges. The engine's configuring must be held.
func (e *Engine) admit(c *connection, id uint64, gate *Gate) error {
	e.early.busy.Add(1)
	defer e.early.busy.Add(-1)
	e.early.mtx.Lock()
	defer e.early.mtx.Unlock()
	if err := e.number(c, id); err != nil {
		return err
	}
	e.adopt()
	c.bind(gate) // before a record can have its outcome, which the gate counts
	ranges := e.early.ranges[id]
	delete(e.early.ranges, id)
	for _, r := range ranges {
		e.takeEarly(c, r)
	}
	e.early.kept -= len(ranges)
	e.early.busy.Add(-int64(len(ranges)))
	return nil
}

// takeEarly hands over a range that waited. A page of a folder's file that somebody has cut off costs the range only.
func (e *Engine) takeEarly(c *connection, r ingest.Range) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer host.Guard(e.log, "taking over records")
	e.takeRange(c, r)
}
