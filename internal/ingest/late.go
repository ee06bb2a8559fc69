package ingest

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"reskafka/internal/frame"
)

// lateState is the state of a large frame with an unmapped slab. The Door polls whether the engine has marked
// the frame as done, and writes the state to the slab's file.
type lateState struct {
	state atomic.Uint32
	slab  slabKey
	at    uint64 // of the state, bytes from the beginning of the slab
}

// late are the states of unfinished large frames.
type late struct {
	mtx     sync.Mutex // taken after the Door's
	list    []*lateState
	looking *time.Timer // calls look
	pace    time.Duration
}

// Interval of the Door's polls: latePace, doubled after each poll without a change. The stage checks for
// finished frames at the same intervals (STAGE_KEPT_NS in stage/internal.h).
const (
	latePace    = 20 * time.Millisecond
	maxLatePace = 32 * latePace
)

// lateStates returns the function for the states of a range at byte start of a slab. It is safe for
// concurrent use at any time.
func (d *Door) lateStates(slab slabKey, start uint64) func(at int) *atomic.Uint32 {
	return func(at int) *atomic.Uint32 {
		one := &lateState{slab: slab, at: start + uint64(at) + frame.HeaderState}
		one.state.Store(frame.Ready)
		l := &d.late
		l.mtx.Lock()
		defer l.mtx.Unlock()
		l.list = append(l.list, one)
		l.pace = latePace
		if l.looking == nil {
			l.looking = time.AfterFunc(l.pace, d.look)
		} else {
			l.looking.Reset(l.pace)
		}
		return &one.state
	}
}

// look settles finished frames, and schedules the next look while unfinished frames are left.
func (d *Door) look() {
	d.mtx.Lock()
	defer d.mtx.Unlock()
	any := d.settle()
	l := &d.late
	l.mtx.Lock()
	defer l.mtx.Unlock()
	if l.pace = min(2*l.pace, maxLatePace); any {
		l.pace = latePace
	}
	if len(l.list) > 0 && !d.closed {
		l.looking.Reset(l.pace)
	}
}

// settle writes the states of finished large frames, and reports whether there were any. Caller must hold the
// mutex.
func (d *Door) settle() (any bool) {
	l := &d.late
	l.mtx.Lock()
	defer l.mtx.Unlock()
	done := binary.NativeEndian.AppendUint32(nil, frame.Done)
	rest := l.list[:0]
	for _, one := range l.list {
		if one.state.Load() != frame.Done {
			rest = append(rest, one)
			continue
		}
		any = true
		if f, err := d.files.openLarge(one.slab); err == nil { // or the slab is gone
			_ = f.write(done, one.at)
			f.close()
		}
		if one.slab.pool == poolFile {
			delete(d.handed, one.slab)
		}
	}
	clear(l.list[len(rest):])
	l.list = rest
	return any
}
