package outbox

import (
	"encoding/binary"
	"math"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"
)

// references are records at the end of a pack with bytes in shared memory during the wait, so an outage
// stores each record once. A record is copied into the block at its turn, because another process can change
// shared memory. The frame is released at the record's outcome, or once the record is on disk.
//
// A reference is some fifteen bytes of numbers, as varints: flags as in pack.go; the difference to the
// previous record's acceptance, ns; a correction for the outbox's clock, ns; the charge; the place of the
// frame's state, relative to the previous state. Then, for key, value and each header, the place relative to
// the state and the length; a header has the number of the name first, and the length plus one, 0 = null.
type references struct {
	memory  []byte
	numbers []byte
	names   []string // of headers
	extras  []extra
	lasting bool // of all references
	count   int  // references written
	written mark // of the reference written last
	next    mark // of the next reference to decode

	// A record decoded ahead points into memory.
	ahead   Record
	headers []Header // of ahead
	decoded bool     // there is one ahead
}

// mark is a place in references, with the base of its relative numbers.
type mark struct {
	clocks
	staged int64 // where the state lies in memory
	at     int   // in numbers
	extra  int
}

// referenceRest is the estimated additional size of the times and the place in references after the first,
// bytes.
const referenceRest = 6

// refer appends a record as a reference, if possible.
func (p *pack) refer(r *Record, topic string, following []Record, memory []byte) bool {
	if memory == nil || r.Staged == nil {
		return false
	}
	state := unsafe.Slice((*byte)(unsafe.Pointer(r.Staged)), unsafe.Sizeof(*r.Staged))
	staged := placeIn(memory, state)
	if staged == nowhere || !r.liesIn(memory) {
		return false
	}
	now := clocks{r.Accepted.UnixNano(), r.born}
	f := p.lastReferences()
	if f != nil && f.lasting == r.Lasting && unsafe.SliceData(f.memory) == unsafe.SliceData(memory) {
		p.spare.numbers = f.describe(p.spare.numbers[:0], r, now, staged)
	}
	if f == nil || len(p.spare.numbers) == 0 || len(f.numbers)+len(p.spare.numbers) > cap(f.numbers) {
		f = &references{memory: memory, lasting: r.Lasting}
		f.written = mark{clocks: now, staged: staged}
		f.next = f.written
		p.spare.numbers = f.describe(p.spare.numbers[:0], r, now, staged)
		run := 0
		for run < len(following) && following[run].Topic == topic {
			run++
		}
		f.numbers = make([]byte, 0, len(p.spare.numbers)+run*(len(p.spare.numbers)+referenceRest))
		if r.Report != nil {
			f.extras = make([]extra, 0, 1+run)
		}
		p.blocks = append(p.blocks, block{references: f})
	}
	f.numbers = append(f.numbers, p.spare.numbers...)
	f.count++
	f.written = mark{clocks: now, staged: staged}
	if r.Report != nil {
		f.extras = append(f.extras, extra{report: r.Report, opaque: r.Opaque})
	}
	p.spare.numbers = p.spare.numbers[:0]
	return true
}

// liesIn reports whether the record's bytes lie in memory.
func (r *Record) liesIn(memory []byte) bool {
	for i := range r.Headers {
		if placeIn(memory, r.Headers[i].Value) == nowhere {
			return false
		}
	}
	return placeIn(memory, r.Key) != nowhere && placeIn(memory, r.Value) != nowhere
}

// describe appends the numbers of a record to to.
func (f *references) describe(to []byte, r *Record, now clocks, staged int64) []byte {
	flags := byte(0)
	for i, set := range [...]bool{r.Key != nil, r.Value != nil, len(r.Headers) > 0, r.Report != nil} {
		if set {
			flags |= packKey << i
		}
	}
	later := now.accepted - f.written.accepted
	to = append(to, flags)
	to = binary.AppendVarint(to, later)
	to = binary.AppendVarint(to, int64(now.born-f.written.born)-later)
	to = binary.AppendVarint(to, r.Charge)
	to = binary.AppendVarint(to, staged-f.written.staged)
	if r.Key != nil {
		to = f.place(to, r.Key, staged, 0)
	}
	if r.Value != nil {
		to = f.place(to, r.Value, staged, 0)
	}
	if len(r.Headers) > 0 {
		to = binary.AppendUvarint(to, uint64(len(r.Headers)))
		for i := range r.Headers {
			to = binary.AppendUvarint(to, f.name(r.Headers[i].Name))
			if r.Headers[i].Value == nil {
				to = append(to, 0)
			} else {
				to = f.place(to, r.Headers[i].Value, staged, 1)
			}
		}
	}
	return to
}

// place appends length and place of b, which lies in memory.
func (f *references) place(to, b []byte, staged int64, more int) []byte {
	to = binary.AppendUvarint(to, uint64(len(b)+more))
	return binary.AppendVarint(to, placeIn(f.memory, b)-staged)
}

// namesNear is the length of the search backwards for a name: the records of a slab mostly share names.
const namesNear = 8

// name returns the number of a header's name.
func (f *references) name(name string) uint64 {
	near := max(0, len(f.names)-namesNear)
	if i := slices.Index(f.names[near:], name); i >= 0 {
		return uint64(near + i)
	}
	f.names = append(f.names, name)
	return uint64(len(f.names) - 1)
}

// lastReferences returns the references of the last block, or nil.
func (p *pack) lastReferences() *references {
	if len(p.blocks) == 0 {
		return nil
	}
	return p.blocks[len(p.blocks)-1].references
}

const nowhere = math.MinInt64

// placeIn returns the offset of b in memory, or nowhere outside of it. An empty b is anywhere.
func placeIn(memory, b []byte) int64 {
	if len(b) == 0 {
		return 0
	}
	at := uintptr(unsafe.Pointer(unsafe.SliceData(b))) - uintptr(unsafe.Pointer(unsafe.SliceData(memory)))
	if at >= uintptr(len(memory)) || uintptr(len(b)) > uintptr(len(memory))-at {
		return nowhere
	}
	return int64(at)
}

// rest reports whether there is another reference.
func (f *references) rest() bool { return f.decoded || f.next.at < len(f.numbers) }

// look returns the record of the next reference, which points into memory. There must be one.
func (f *references) look() *Record {
	if !f.decoded {
		f.decode()
		f.decoded = true
	}
	return &f.ahead
}

// decode makes the next reference the record ahead.
func (f *references) decode() {
	from := reader{bytes: f.numbers, at: f.next.at}
	flags := from.byte()
	later := from.varint()
	f.next.accepted += later
	f.next.born += time.Duration(later + from.varint())
	r := &f.ahead
	*r = Record{Accepted: time.Unix(0, f.next.accepted), born: f.next.born, Lasting: f.lasting, Charge: from.varint()}
	f.next.staged += from.varint()
	r.Staged = (*atomic.Uint32)(unsafe.Pointer(&f.memory[f.next.staged]))
	if flags&packKey != 0 {
		r.Key = f.part(&from, from.uvarint())
	}
	if flags&packValue != 0 {
		r.Value = f.part(&from, from.uvarint())
	}
	if flags&packHeaders != 0 {
		f.headers = f.headers[:0]
		for range from.uvarint() {
			h := Header{Name: f.names[from.uvarint()]}
			if length := from.uvarint(); length > 0 {
				h.Value = f.part(&from, length-1)
			}
			f.headers = append(f.headers, h)
		}
		r.Headers = f.headers
	}
	if flags&packExtra != 0 {
		x := &f.extras[f.next.extra]
		r.Report, r.Opaque = x.report, x.opaque
		*x = extra{}
		f.next.extra++
	}
	f.next.at = from.at
}

// part returns length bytes of memory, whose place is next.
func (f *references) part(from *reader, length uint64) []byte {
	at := f.next.staged + from.varint()
	return f.memory[at : at+int64(length) : at+int64(length)]
}

// copyNext copies the record of the block's next reference, and its bytes into the block, which has the space.
func (b *block) copyNext(r *Record) {
	f := b.references
	*r = *f.look()
	f.decoded = false
	r.Key, r.Value = b.copy(r.Key), b.copy(r.Value)
	r.Headers = slices.Clone(r.Headers)
	for i := range r.Headers {
		r.Headers[i].Value = b.copy(r.Headers[i].Value)
	}
	b.at = len(b.bytes)
	if !f.rest() {
		b.references, b.written, b.read = nil, f.written.clocks, f.written.clocks
	}
}

// copy appends bytes to the block, and returns the copy. A copy of null is null.
func (b *block) copy(from []byte) []byte {
	if from == nil {
		return nil
	}
	at := len(b.bytes)
	b.bytes = append(b.bytes, from...)
	return b.bytes[at:len(b.bytes):len(b.bytes)]
}

// copied returns how many bytes of the record are copied.
func (r *Record) copied() int {
	n := len(r.Key) + len(r.Value)
	for i := range r.Headers {
		n += len(r.Headers[i].Value)
	}
	return n
}

// furnish gives a block space for the bytes of its next reference, like newBlock.
func (p *pack) furnish(b *block) {
	size := b.look().copied()
	if b.bytes != nil && len(b.bytes)+size <= cap(b.bytes) {
		return
	}
	p.dropBytes(b)
	*b = block{references: b.references}
	switch {
	case size > blockMost:
		b.bytes = make([]byte, 0, size)
	case p.spare.lanes > lanesFew:
		b.bytes = make([]byte, 0, max(size, min(b.rough(), blockMost)))
	default:
		b.room = p.spare.room()
		b.bytes, b.extras, b.states = b.room.bytes[:0], b.room.extras[:0], b.room.states[:0]
	}
}

// rough estimates the bytes of all references left, by the next one.
func (f *references) rough() int {
	each := len(f.numbers) / max(1, f.count)
	return f.look().copied() * (1 + (len(f.numbers)-f.next.at)/max(1, each))
}
