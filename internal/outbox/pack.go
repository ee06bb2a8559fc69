package outbox

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"reskafka/internal/record"
)

// pack has untouched records, in the order of acceptance, written into blocks of bytes. A million records
// waiting for a broker weigh little more than the keys and values. The garbage collector finds no pointers in
// a block, so a cycle costs the same with a million records as without. Other parts of a record are beside
// the block.
//
// An unpacked record refers to the block's bytes. spare describes the reuse of both.
//
// Records in shared memory stay there: a block with a lot has no bytes, see lot.go.
//
// Layout of a record: flags; the difference to the previous record's acceptance on the wall clock, ns, and on
// the outbox's clock, ns; for a boxed record nothing more. Then the charge and the record's fields, see
// record.AppendFields. Numbers are varints.
type pack struct {
	blocks []block // the oldest first
	n      int     // records
	boxes  int     // boxed records among them
	latest int     // room in the block made last

	spare  *spare // where rooms and chunks come from
	open   *chunk // for new records; nil = none
	copies *room  // for copies out of shared memory; nil = none
	rests  bool   // empty, with a block

	lost      int   // records of lots that were not readable; not in n
	lostBytes int64 // bytes of lots that no record will have
}

// block is a run of records.
type block struct {
	bytes   []byte
	room    *room  // owner of the bytes; nil = the garbage collector
	written clocks // of the record written last
	read    clocks // of the last record read
	at      int    // offset of the next record
	extras  []extra
	extra   int              // first unread element
	states  []*atomic.Uint32 // states of the frames of these records
	state   int              // the same

	lot *unread // the records are there; nil = in bytes
}

// clocks are the two times of a record that other times are relative to.
type clocks struct {
	accepted int64 // ns since 1970
	born     time.Duration
}

// extra has the parts of a record other than bytes.
type extra struct {
	report func(*record.Record, error)
	opaque uint64
	boxed  *entry // the whole record; nil for a removed boxed record
}

const (
	packExtra   = 1 << iota // there is an extra
	packBoxed               // the record is in the extra
	packStaged              // there is a state
	packLasting             // of a frame that outlives Asterisk's process
)

// blockMost is the largest block shared by records: the size of a slab of the stage. Tests change it.
var blockMost = 64 << 10

// packNumbers is the estimated size of a future record beside its fields: a bad estimate wastes space in a
// block, or costs another block.
const packNumbers = 10

// add appends a record of a lane, born at this time. The record and its bytes are copied. released: the stage does not
// wait for the record. following are probable next records, for an estimate of the space.
func (p *pack) add(l *lane, r *record.Record, born time.Duration, released bool, following []record.Record) {
	box := r.Lifetime > 0 || released || !time.Unix(0, r.Accepted.UnixNano()).Equal(r.Accepted)
	now := clocks{r.Accepted.UnixNano(), born}
	p.awake()
	size := 0
	if len(p.blocks) > 0 {
		b := &p.blocks[len(p.blocks)-1]
		b.rewind(now)
		size = packed(r, now, b.written, box)
		if b.lot != nil || len(b.bytes)+size > cap(b.bytes) {
			size = 0
		}
	}
	if size == 0 {
		p.newBlock(r.Topic, packed(r, now, now, box), following)
		p.blocks[len(p.blocks)-1].written, p.blocks[len(p.blocks)-1].read = now, now
	}
	b := &p.blocks[len(p.blocks)-1]
	p.n++
	if box {
		p.boxes++
		b.extras = append(b.extras, extra{boxed: (&entry{Record: *r, lane: l, born: born, released: released}).clone()})
	}
	b.write(r, now, box)
}

// rewind restarts a block whose records have all gone back.
func (b *block) rewind(now clocks) {
	if b.room == nil || b.lot != nil || b.room.chunks > 0 || b.at == 0 || b.at < len(b.bytes) {
		return
	}
	if poisoning {
		poisonBytes(b.bytes)
	}
	b.bytes, b.at, b.extras, b.extra, b.states, b.state = b.bytes[:0], 0, b.extras[:0], 0, b.states[:0], 0
	b.written, b.read = now, now
}

// newBlock creates a block of at least this size, with space for the next records of the same topic, more for
// a larger pack. A large block comes from the spare blocks; with few lanes a small block too, because it will
// be reused.
func (p *pack) newBlock(topic string, size int, following []record.Record) {
	large := size > blockMost/8
	if large && blockMost%size > blockMost/8 && (size > blockMost/2 || len(p.blocks) >= blocksFlowing) { // a separate block wastes nothing
		p.blocks = append(p.blocks, block{bytes: make([]byte, 0, size)})
		return
	}
	room := size
	for i := range following {
		f := &following[i]
		if f.Topic != topic || room >= blockMost {
			break
		}
		room += packNumbers + f.FieldsSize()
	}
	room = max(size, min(max(room, 2*p.latest), blockMost))
	p.latest = room
	if room < blockMost/2 && !large && p.spare.lanes > lanesFew {
		p.blocks = append(p.blocks, block{bytes: make([]byte, 0, room)})
		return
	}
	from := p.spare.room()
	p.blocks = append(p.blocks, block{bytes: from.bytes[:0], room: from, extras: from.extras[:0], states: from.states[:0]})
}

// blocksFlowing is the largest number of blocks in a pack that will be sent soon: large records then share
// blocks, even with more than an eighth wasted. Tests change the variable.
var blocksFlowing = 16

// packed is how long the record is in a block behind one of these times.
func packed(r *record.Record, now, before clocks, box bool) int {
	n := 1 + record.VarintSize(now.accepted-before.accepted) + record.VarintSize(int64(now.born-before.born))
	if box {
		return n
	}
	return n + record.VarintSize(r.Charge) + r.FieldsSize()
}

// write writes a record, for which there is room.
func (b *block) write(r *record.Record, now clocks, box bool) {
	flags := byte(0)
	set := func(flag byte, so bool) {
		if so {
			flags |= flag
		}
	}
	set(packExtra, r.Report != nil)
	set(packStaged, r.Staged != nil)
	set(packLasting, r.Lasting)
	if box {
		flags = packBoxed
	}
	to := append(b.bytes, flags)
	to = binary.AppendVarint(to, now.accepted-b.written.accepted)
	to = binary.AppendVarint(to, int64(now.born-b.written.born))
	b.written = now
	if box {
		b.bytes = to
		return
	}
	if r.Report != nil {
		b.extras = append(b.extras, extra{report: r.Report, opaque: r.Opaque})
	}
	if r.Staged != nil {
		if b.states == nil { // the next records are likely to be as long
			b.states = make([]*atomic.Uint32, 0, 1+(cap(b.bytes)-len(b.bytes))/(len(to)-len(b.bytes)+r.Size()+len(r.Headers)))
		}
		b.states = append(b.states, r.Staged)
	}
	to = binary.AppendVarint(to, r.Charge)
	b.bytes = r.AppendFields(to)
}

// take removes and returns the first records, at most `most`, and at least one if there is any that is
// readable. copies: records of lots do not keep referring to shared memory.
func (p *pack) take(most int, copies bool) (records []entry) {
	for most = min(most, p.n); most > 0 && len(records) == 0; most = min(most, p.n) {
		records = p.some(most, copies)
	}
	p.reset()
	return records
}

// some is take for records that fit one chunk, and possibly none.
func (p *pack) some(most int, copies bool) (records []entry) {
	if b := p.present(); b.room == nil && p.open == nil && (b.lot == nil || p.spare.lanes > lanesFew) {
		records = make([]entry, most)
	} else {
		records = p.places(most)
	}
	n := 0
	for n < len(records) && p.n > n {
		b := p.present()
		if b.lot != nil {
			fresh := records[n : n+p.readLot(b, records[n:])]
			if copies {
				p.copyOut(fresh)
			}
			n += len(fresh)
			continue
		}
		if b.room != nil {
			if p.open == nil { // such records do not go back, and neither do their chunks
				break
			}
			p.open.refer(b.room)
		}
		p.next(&records[n])
		n++
	}
	records = records[:n]
	if p.open != nil {
		for i := range records {
			records[i].chunk = p.open
		}
		p.open.given += n
		p.open.holds += n
	}
	p.n -= n
	return records
}

// copyOut copies the bytes of records out of shared memory, into rooms if the records go back.
func (p *pack) copyOut(records []entry) {
	for i := range records {
		r := &records[i]
		size := r.FieldsSize()
		if p.open == nil || size > blockMost/8 {
			r.own()
			continue
		}
		if p.copies == nil || len(p.copies.bytes)+size > cap(p.copies.bytes) {
			p.leaveCopies()
			p.copies = p.spare.room()
			p.copies.bytes = p.copies.bytes[:0]
		}
		p.open.refer(p.copies)
		r.borrowed = false
		at := len(p.copies.bytes)
		p.copies.bytes = r.AppendFields(p.copies.bytes)
		r.ReadFields(p.copies.bytes[at:])
	}
}

// leaveCopies lets go of the room for copies.
func (p *pack) leaveCopies() {
	if p.copies != nil {
		p.spare.leave(p.copies)
		p.copies = nil
	}
}

// places returns space for at most `most` records in the open chunk.
func (p *pack) places(most int) []entry {
	if c := p.open; c != nil && (c.given == len(c.records) || len(c.rooms) >= chunkRooms) {
		p.spare.close(c)
		p.open = nil
	}
	if p.open == nil {
		p.open = p.spare.chunk()
	}
	left := p.open.records[p.open.given:]
	return left[:min(most, len(left))]
}

// first returns the next block to read. There must be one.
func (p *pack) first() *block {
	for p.blocks[0].spent() {
		p.dropFirst()
	}
	return &p.blocks[0]
}

// spent reports whether every record of the block has been read.
func (b *block) spent() bool {
	if b.lot != nil {
		return b.lot.records == 0
	}
	return b.at == len(b.bytes)
}

// dropFirst lets go of the first block, which has been read.
func (p *pack) dropFirst() {
	p.dropBytes(&p.blocks[0])
	p.blocks[0] = block{}
	p.blocks = p.blocks[1:]
}

// dropBytes lets go of a block's bytes, which have been read.
func (p *pack) dropBytes(b *block) {
	if b.room == nil {
		return
	}
	if b.room.extras = b.extras[:0]; cap(b.extras) > extrasKept {
		b.room.extras = nil
	}
	if b.room.states = b.states[:0]; cap(b.states) > extrasKept {
		b.room.states = nil
	}
	p.spare.leave(b.room)
}

// present returns the block of the first record left. There must be one.
func (p *pack) present() *block {
	for {
		b := p.first()
		if b.lot != nil || packBoxed&b.bytes[b.at] == 0 || b.extras[b.extra].boxed != nil {
			return b
		}
		var gone entry
		p.next(&gone)
	}
}

// next decodes the next record into the empty r, and reports false for a removed record.
func (p *pack) next(r *entry) (there bool) {
	if poisoning {
		*r = entry{}
	}
	b := p.first()
	flags := b.bytes[b.at]
	b.at++
	b.read.accepted += b.varint()
	b.read.born += time.Duration(b.varint())
	var x extra
	if flags&(packExtra|packBoxed) != 0 {
		x = b.extras[b.extra]
		b.extras[b.extra] = extra{}
		b.extra++
	}
	if flags&packBoxed != 0 {
		if x.boxed == nil {
			return false
		}
		p.boxes--
		*r = *x.boxed
		return true
	}
	r.Report, r.Opaque, r.Lasting = x.report, x.opaque, flags&packLasting != 0
	if flags&packStaged != 0 {
		r.Staged, b.states[b.state] = b.states[b.state], nil
		b.state++
	}
	r.Accepted, r.born = time.Unix(0, b.read.accepted), b.read.born
	r.Charge = b.varint()
	n, _ := r.ReadFields(b.bytes[b.at:])
	b.at += n
	return true
}

// varint reads a number of the next record.
func (b *block) varint() int64 {
	v, n := binary.Varint(b.bytes[b.at:])
	b.at += n
	return v
}

// born returns the time of the first record's acceptance, or an earlier time. There must be a record.
func (p *pack) born() time.Duration {
	b := p.present()
	if b.lot != nil {
		return b.lot.read
	}
	from := block{bytes: b.bytes, at: b.at + 1}
	from.varint()
	return b.read.born + time.Duration(from.varint())
}

// remove removes the boxed records selected by gone.
func (p *pack) remove(gone func(*entry) bool) {
	if p.boxes == 0 {
		return
	}
	for i := range p.blocks {
		for j := range p.blocks[i].extras {
			if r := p.blocks[i].extras[j].boxed; r != nil && gone(r) {
				p.blocks[i].extras[j].boxed = nil
				p.boxes--
				p.n--
			}
		}
	}
	p.reset()
}

// reset releases the blocks of a pack without records, except a block still in use.
func (p *pack) reset() {
	if p.n > 0 || p.rests {
		return
	}
	for len(p.blocks) > 1 {
		p.dropFirst()
	}
	p.leaveCopies()
	if p.latest = 0; len(p.blocks) == 1 && p.blocks[0].room != nil && p.spare.rests < restsMost {
		b := &p.blocks[0]
		b.at, b.read = len(b.bytes), b.written // behind removed records
		clear(b.extras)
		b.extras, b.extra = b.extras[:0], 0
		b.states, b.state = b.states[:0], 0
		p.rests = true
		p.spare.rests++
		return
	}
	p.rest()
}

// rest releases everything of an empty pack.
func (p *pack) rest() {
	p.awake()
	for len(p.blocks) > 0 {
		p.dropFirst()
	}
	p.leaveCopies()
	if p.open != nil {
		p.spare.close(p.open)
		p.open = nil
	}
	if cap(p.blocks) > blocksKept {
		p.blocks = nil
	}
}

// awake marks a pack that must not keep a block while empty.
func (p *pack) awake() {
	if p.rests {
		p.rests = false
		p.spare.rests--
	}
}

// extrasKept is for how many extras a room keeps the list.
const extrasKept = 1024

// blocksKept is for how many blocks an empty pack keeps the list.
const blocksKept = 64
