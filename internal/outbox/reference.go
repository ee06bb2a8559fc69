package outbox

import (
	"math"
	"sync/atomic"
	"time"
	"unsafe"
)

// references are records at the end of a pack whose bytes stay in shared memory while they wait, so an outage holds each
// record once. A record is copied into the block when its turn comes, because another process can change shared memory. Its
// frame is released at its outcome, or when it is on disk.
type references struct {
	memory  []byte
	list    []reference // the oldest first; never empty
	lasting bool        // of all of them
}

// reference is a record of references. Its numbers are bytes of memory.
type reference struct {
	accepted           int64 // ns since 1970
	born               time.Duration
	charge             int64
	staged             uint32 // the state of its frame
	key, keyLength     uint32 // nowhere = null
	value, valueLength uint32
}

const nowhere = math.MaxUint32

// refer puts a record behind the others as a reference, if that can be.
func (p *pack) refer(r *Record, topic string, following []Record, memory []byte) bool {
	if memory == nil || len(r.Headers) > 0 || r.Report != nil || r.Staged == nil {
		return false
	}
	state := unsafe.Slice((*byte)(unsafe.Pointer(r.Staged)), unsafe.Sizeof(*r.Staged))
	staged, key, value := placeIn(memory, state), placeIn(memory, r.Key), placeIn(memory, r.Value)
	if staged == nowhere || key == nowhere && r.Key != nil || value == nowhere && r.Value != nil {
		return false
	}
	f := p.lastReferences()
	if f == nil || len(f.list) == cap(f.list) || f.lasting != r.Lasting || unsafe.SliceData(f.memory) != unsafe.SliceData(memory) {
		n := 1
		for n <= len(following) && following[n-1].Topic == topic {
			n++
		}
		f = &references{memory: memory, list: make([]reference, 0, n), lasting: r.Lasting}
		p.blocks = append(p.blocks, block{references: f})
	}
	f.list = append(f.list, reference{
		r.Accepted.UnixNano(), r.born, r.Charge, staged, key, uint32(len(r.Key)), value, uint32(len(r.Value)),
	})
	return true
}

// lastReferences returns those of the last block, or nil.
func (p *pack) lastReferences() *references {
	if len(p.blocks) == 0 {
		return nil
	}
	return p.blocks[len(p.blocks)-1].references
}

// placeIn returns where b begins in memory, nowhere if it does not lie in it.
func placeIn(memory, b []byte) uint32 {
	if len(b) == 0 {
		if b == nil {
			return nowhere
		}
		return 0
	}
	at := uintptr(unsafe.Pointer(unsafe.SliceData(b))) - uintptr(unsafe.Pointer(unsafe.SliceData(memory)))
	if at >= uintptr(len(memory)) || uintptr(len(b)) > uintptr(len(memory))-at || at >= nowhere {
		return nowhere
	}
	return uint32(at)
}

// record returns the record of a reference, which points into memory.
func (f *references) record(of *reference) Record {
	part := func(at, length uint32) []byte {
		if at == nowhere {
			return nil
		}
		return f.memory[at : at+length : at+length]
	}
	return Record{
		Key: part(of.key, of.keyLength), Value: part(of.value, of.valueLength), Accepted: time.Unix(0, of.accepted), born: of.born,
		Charge: of.charge, Staged: (*atomic.Uint32)(unsafe.Pointer(&f.memory[of.staged])), Lasting: f.lasting,
	}
}

// unfold copies the next records of a block's references into the block, whose bytes have been read: as many as a room has room
// for, and at least one.
func (p *pack) unfold(b *block) {
	p.dropBytes(b)
	f := b.references
	first := clocks{f.list[0].accepted, f.list[0].born}
	*b = block{references: f, written: first, read: first}
	p.furnish(b)
	for len(f.list) > 0 {
		r := f.record(&f.list[0])
		now := clocks{f.list[0].accepted, f.list[0].born}
		if len(b.bytes)+r.packed(now, b.written, false) > cap(b.bytes) {
			break
		}
		b.write(&r, now, false)
		f.list = f.list[1:]
	}
	if len(f.list) == 0 {
		b.references = nil
	}
}

// furnish gives an empty block memory for its first references, as newBlock does.
func (p *pack) furnish(b *block) {
	first, size := 0, 0
	for i := range b.list {
		r := b.record(&b.list[i])
		size += r.packed(clocks{b.list[i].accepted, b.list[i].born}, b.written, false)
		if i == 0 {
			first = size
		}
	}
	switch {
	case first > blockMost:
		b.bytes = make([]byte, 0, first)
	case size < blockMost/2 && p.spare.lanes > lanesFew:
		b.bytes = make([]byte, 0, size)
	default:
		b.room = p.spare.room()
		b.bytes, b.extras, b.states = b.room.bytes[:0], b.room.extras[:0], b.room.states[:0]
	}
}
