package ingest

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"reskafka/internal/frame"
)

// lateState is the state of a large frame. Its slab is not mapped: the Door looks now and then whether the engine has said
// that the frame is done, and writes that to the slab's file.
type lateState struct {
	state atomic.Uint32
	slab  slabKey
	at    uint64 // of the state, bytes from the beginning of the slab
}

// late are the states of large frames that are not done.
type late struct {
	mtx     sync.Mutex // taken after the Door's
	list    []*lateState
	looking *time.Timer // calls look
	pace    time.Duration
}

// How often the Door looks: after latePace, and after twice that when nothing has changed, and so on. The stage looks for frames that
// are done as often (STAGE_KEPT_NS in stage/internal.h).
const (
	latePace    = 20 * time.Millisecond
	maxLatePace = 32 * latePace
)

// lateStates returns what makes the states of a range that begins at byte start of a slab. It may be called at any time, by
// any goroutine.
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

// look settles what is done, and comes again while there is more to come.
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

// settle writes the states of large frames that are done. It reports whether there were any. The mutex is held.
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
