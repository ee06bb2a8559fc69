package ingest

import (
	"errors"
	"fmt"
	"runtime/debug"
	"syscall"
	"time"

	"reskafka/internal/frame"
	"reskafka/internal/host"
)

// empty takes until the ring is empty, and requests a wake-up for the next range.
func (d *Door) empty() {
	r := &d.control.ring
	for {
		d.Drain()
		r.asleep.Store(1)
		d.mtx.Lock()
		more := r.put.Load() != d.next && !d.stalled
		d.mtx.Unlock()
		if !more || d.broken() {
			return
		}
		r.asleep.Store(0)
	}
}

// broken reports whether the ring's counters are impossible. Nothing is then taken until they are possible.
func (d *Door) broken() bool {
	d.mtx.Lock()
	defer d.mtx.Unlock()
	return d.control.ring.put.Load()-d.next > ringEntries
}

// drain takes the entries of the ring. Caller must hold the mutex.
func (d *Door) drain() {
	r := &d.control.ring
	if d.take == nil || d.closed {
		return
	}
	d.stalled = false
	for {
		put := r.put.Load()
		if put == d.next {
			return
		}
		if put-d.next > ringEntries {
			d.refuse(fmt.Errorf("%d entries in a ring of %d", put-d.next, ringEntries))
			return
		}
		for ; d.next != put; r.taken.Store(d.next) {
			e := r.entries[d.next%ringEntries] // a copy, out of reach of writers
			err := d.enter(e)
			if passes(err) {
				d.stall(err)
				return
			}
			d.next++
			if err != nil {
				d.refuse(err)
			}
		}
	}
}

// enter passes a range to the engine. A page of a folder's file that was truncated is an error.
func (d *Door) enter(e entry) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			host.LogPanic(d.log, "taking over records", r)
			err = errors.New("a panic")
		}
	}()
	r, err := d.find(e)
	if err == nil && len(r.Frames) > 0 {
		d.take(e.id, r)
	}
	return err
}

// refuse logs invalid ranges, at most once in refuseEvery. Their frames stay unchanged.
func (d *Door) refuse(err error) {
	d.refused++
	if now := time.Now(); now.Sub(d.logged) > refuseEvery {
		host.Logf(d.log, host.Error, "%d range(s) of records that Asterisk's process handed over cannot be used, the last one because of: %v", d.refused, err)
		d.logged, d.refused = now, 0
	}
}

const refuseEvery = 30 * time.Second

// passes reports whether an error comes from a limit of this process, so the range can be used later.
func passes(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// stallPace is the interval between two attempts to use a range: short beside the time in which a queue fills.
const stallPace = 100 * time.Millisecond

// stall leaves the next range and all later ranges in the ring, in order, and tries again soon. Caller must
// hold the mutex.
func (d *Door) stall(err error) {
	d.stalled = true
	if now := time.Now(); now.Sub(d.stallLogged) > refuseEvery {
		host.Logf(d.log, host.Error, "records of Asterisk's process wait in shared memory: %v", err)
		d.stallLogged = now
	}
	if d.retry == nil {
		d.retry = time.AfterFunc(stallPace, d.empty)
	} else {
		d.retry.Reset(stallPace)
	}
}

// slabKey names a slab.
type slabKey struct{ pool, slab uint64 }

// filled is the progress of the hand-over of a filling of a slab. stage and first identify the filling.
type filled struct {
	stage, first uint64
	end          uint64 // byte of the slab
	followed     bool   // frames were taken without an entry
}

// find returns the range named by an entry.
func (d *Door) find(e entry) (Range, error) {
	key, end := slabKey{e.pool, e.slab}, e.start+e.length
	switch {
	case e.pool > poolFile, e.length == 0, e.start < frame.SlabHeadSize, e.start%frame.SlabGranule != 0, e.start > end, end > maxSlab:
		return Range{}, fmt.Errorf("an entry names %d bytes at byte %d of slab %d in file %d", e.length, e.start, e.slab, e.pool)
	case e.pool == poolFile, end > frame.SlabBytes:
		return d.findLarge(key, e)
	}
	f, err := d.files.of(e.pool)
	var memory []byte
	if err == nil {
		memory, err = f.slab(e.slab)
	}
	if err != nil {
		return Range{}, err
	}
	start := e.start
	if was := d.handed[key]; was.followed && was.stage == e.id && was.first == e.first {
		if stage, first := filling(memory); stage != was.stage || first != was.first {
			return Range{}, nil // the slab is in use again, after the end of all its frames
		}
		start = min(max(start, was.end), end)
		end = max(end, was.end)
	}
	d.note(key, memory, end)
	d.follow(e.id, key, memory)
	end = e.start + e.length
	return Range{Frames: memory[start:end], Stays: true, Lasting: e.pool == poolDurable}, nil
}

// note notes the progress of a slab's hand-over, by the slab's head.
func (d *Door) note(key slabKey, head []byte, end uint64) {
	stage, first := filling(head)
	was := d.handed[key]
	d.handed[key] = filled{stage, first, end, was.followed && was.stage == stage && was.first == first}
}

// maxSlab is the longest accepted slab: a record of the largest message_max_bytes, 1000000000, and its
// headers.
const maxSlab = 1<<30 + 64<<20

// findLarge copies the frame of a large slab into memory of this process, so no large memory stays mapped.
func (d *Door) findLarge(key slabKey, e entry) (Range, error) {
	l, err := d.files.openLarge(key)
	if err != nil {
		return Range{}, err
	}
	defer l.close()
	var head [frame.SlabWhole]byte
	if err := l.read(head[:], 0); err != nil {
		return Range{}, err
	}
	if !l.file.reaches(l.at + e.start + e.length) { // before so much is allocated
		return Range{}, fmt.Errorf("an entry names %d bytes at byte %d of a file of %d", e.length, l.at+e.start, l.file.size)
	}
	frames := make([]byte, e.length)
	if err := l.read(frames, e.start); err != nil {
		return Range{}, err
	}
	d.note(key, head[:], e.start+e.length)
	return Range{Frames: frames, Lasting: key.pool == poolFile, States: d.lateStates(key, e.start)}, nil
}
