package ingest

import (
	"encoding/binary"
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

// How often the Door looks: after latePace, and after twice that when nothing has changed, and so on. The stage looks for frames that
// are done as often (STAGE_KEPT_NS in stage/internal.h).
const (
	latePace    = 20 * time.Millisecond
	maxLatePace = 32 * latePace
)

// lateStates returns what makes the states of a range that begins at byte start of a slab. The mutex is held, by whoever calls
// take.
func (d *Door) lateStates(slab slabKey, start uint64) func(at int) *atomic.Uint32 {
	return func(at int) *atomic.Uint32 {
		l := &lateState{slab: slab, at: start + uint64(at) + frame.HeaderState}
		l.state.Store(frame.Ready)
		d.late = append(d.late, l)
		d.pace = latePace
		if d.looking == nil {
			d.looking = time.AfterFunc(d.pace, d.look)
		} else {
			d.looking.Reset(d.pace)
		}
		return &l.state
	}
}

// look settles what is done, and comes again while there is more to come.
func (d *Door) look() {
	d.mtx.Lock()
	defer d.mtx.Unlock()
	if d.settle() {
		d.pace = latePace
	} else {
		d.pace = min(2*d.pace, maxLatePace)
	}
	if len(d.late) > 0 {
		d.looking.Reset(d.pace)
	}
}

// settle writes the states of large frames that are done. It reports whether there were any. The mutex is held.
func (d *Door) settle() (any bool) {
	done := binary.NativeEndian.AppendUint32(nil, frame.Done)
	rest := d.late[:0]
	for _, l := range d.late {
		if l.state.Load() != frame.Done {
			rest = append(rest, l)
			continue
		}
		any = true
		if f, err := d.files.openLarge(l.slab); err == nil { // or the slab is gone
			_ = f.write(done, l.at)
			f.close()
		}
		if l.slab.pool == poolFile {
			delete(d.handed, l.slab)
		}
	}
	clear(d.late[len(rest):])
	d.late = rest
	return any
}
