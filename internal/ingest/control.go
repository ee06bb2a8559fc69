package ingest

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// Copies of boundary/shared.h. TestLayout compares them with the header.
const (
	controlMagic  = 0x4c525443534b4552 // RESK_CONTROL_MAGIC
	controlLayout = 5                  // RESK_CONTROL_LAYOUT
	gateCount     = 4096               // RESK_GATES
	progressCount = 1024               // RESK_PROGRESS
	ringEntries   = 1024               // RESK_RING
	areaAlign     = 4096               // RESK_AREA_ALIGN

	poolPlain   = 0 // RESK_POOL_PLAIN
	poolDurable = 1 // RESK_POOL_DURABLE
	poolFile    = 2 // RESK_POOL_FILE
)

// The areas for long batches of messages.
const (
	Areas     = 4          // RESK_AREAS
	AreaBytes = 1280 << 10 // RESK_AREA_BYTES
)

// head is struct resk_head.
type head struct {
	magic      atomic.Uint64
	layout     atomic.Uint32
	ring       atomic.Uint32
	gates      atomic.Uint32
	progress   atomic.Uint32
	size       atomic.Uint64
	usualBytes atomic.Uint64
	_          [3]uint64
}

// entry is struct resk_ring_entry.
type entry struct {
	id     uint64
	pool   uint64
	slab   uint64
	start  uint64
	length uint64
	first  uint64
	_      [2]uint64
}

// ring is struct resk_ring.
type ring struct {
	put     atomic.Uint64
	_       [7]uint64
	taken   atomic.Uint64
	_       [7]uint64
	asleep  atomic.Uint64
	_       [7]uint64
	entries [ringEntries]entry
}

// control is struct resk_control.
type control struct {
	head     head
	ring     ring
	gates    [gateCount]Gate
	progress [progressCount]Progress
	_        [areaAlign - (unsafe.Sizeof(head{})+unsafe.Sizeof(ring{})+gateCount*unsafe.Sizeof(Gate{})+progressCount*unsafe.Sizeof(Progress{}))%areaAlign]byte
	areas    [Areas][AreaBytes]byte
}

// Gate is struct resk_gate: limits and counters of one connection's stage. Frames held = frames put, counted
// by the module, minus DoneFrames.
type Gate struct {
	// Written by the engine, read by writers.
	Open      atomic.Int64
	MaxFrames atomic.Int64
	MaxCharge atomic.Int64
	MaxLength atomic.Int64
	LingerNS  atomic.Int64
	MaxWeight atomic.Int64
	Shared    atomic.Int64
	Memory    atomic.Int64

	// The engine adds to these.
	DoneFrames atomic.Int64
	DoneCharge atomic.Int64
	// The engine writes these, for the next engine.
	producerID    atomic.Int64
	producerEpoch atomic.Int64
	cluster       atomic.Uint64
	Dropped       atomic.Int64 // records, ever

	// Follows: see follow.go.
	Follows atomic.Int64
	_       [1]int64

	// The module writes these from time to time.
	Admitted atomic.Int64
	Handed   atomic.Int64
	Unshared atomic.Int64
	_        [5]int64
}

// MemoryLimit returns the value of Gate.Memory for these limits: frames, and charge in bytes.
func MemoryLimit(frames, charge int64) int64 {
	return min(frames, math.MaxInt32) | min(max(charge>>10, 1), math.MaxInt32)<<32
}

// Finish counts frames in state frame.Done, and their charge. Both no longer count against the stage's
// limits.
func (g *Gate) Finish(frames, charge int64) {
	g.DoneCharge.Add(charge)
	g.DoneFrames.Add(frames)
}

// SetProducer stores the identity of the connection's idempotent producer: its id and epoch, and the cluster
// of the id. After this engine's death in the middle the next engine reads no identity, never a part.
func (g *Gate) SetProducer(id int64, epoch int16, cluster uint64) {
	g.producerEpoch.Store(0)
	g.producerID.Store(id)
	g.cluster.Store(cluster)
	g.producerEpoch.Store(int64(epoch) + 1)
}

// Producer returns the stored identity, or false.
func (g *Gate) Producer() (id int64, epoch int16, cluster uint64, ok bool) {
	after := g.producerEpoch.Load() // 0 = none
	if after < 1 || after > math.MaxInt16 {
		return 0, 0, 0, false
	}
	return g.producerID.Load(), int16(after - 1), g.cluster.Load(), true
}

// Progress is struct resk_progress and implements consume.Progress.
type Progress struct {
	delivered atomic.Uint64
	hurry     atomic.Uint64
	_         [6]uint64
}

// Delivered returns how many callbacks have returned.
func (p *Progress) Delivered() uint64 { return p.delivered.Load() }

// Skip counts a message as delivered without a callback. Only while the subscription's thread waits for a batch.
func (p *Progress) Skip() { p.delivered.Add(1) }

// Hurry asks the subscription's thread to begin no further callback of its batch, while set.
func (p *Progress) Hurry(set bool) {
	var hurry uint64
	if set {
		hurry = 1
	}
	p.hurry.Store(hurry)
}

// mapControl maps the control memory for the process's life, and checks its head.
func mapControl(f *file) (*control, error) {
	const size = uint64(unsafe.Sizeof(control{}))
	if !f.reaches(size) {
		return nil, fmt.Errorf("it has %d bytes and not %d: module and engine are of different builds", f.size, size)
	}
	memory, err := f.mmap(0, size)
	if err != nil {
		return nil, err
	}
	c := (*control)(unsafe.Pointer(unsafe.SliceData(memory)))
	h := &c.head
	switch layout := h.layout.Load(); {
	case h.magic.Load() != controlMagic:
		err = errors.New("it does not begin with the right number: module and engine are of different builds")
	case layout != controlLayout:
		err = fmt.Errorf("its layout is number %d and not %d: module and engine are of different builds", layout, controlLayout)
	case h.ring.Load() != ringEntries, h.gates.Load() != gateCount, h.progress.Load() != progressCount, h.size.Load() != size:
		err = errors.New("its parts have other sizes: module and engine are of different builds")
	}
	if err != nil {
		_ = syscall.Munmap(memory)
		return nil, err
	}
	return c, nil
}
