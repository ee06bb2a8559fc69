package outbox

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"
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
// the outbox's clock, ns; for a boxed record nothing more. Then the charge, the lengths of key and value,
// with headers the number of headers and the lengths of each name and value, the latter plus one, 0 = null.
// Then the bytes: key, value, and each header's name and value. Numbers are varints.
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
	report func(*Record, error)
	opaque uint64
	boxed  *Record // the whole record; nil for a removed boxed record
}

const (
	packKey     = 1 << iota // the key is not null
	packValue               // the value is not null
	packHeaders             // there are headers
	packExtra               // there is an extra
	packBoxed               // the record is in the extra
	packStaged              // there is a state
	packLasting             // of a frame that outlives Asterisk's process
)

// blockMost is the largest block shared by records: the size of a slab of the stage. Tests change it.
var blockMost = 64 << 10

// Estimated sizes of a future record's numbers, and of a future header's: a bad estimate wastes space in a
// block, or costs another block.
const (
	packNumbers       = 14
	packHeaderNumbers = 3
)

// add appends a record. The record and its bytes are copied. following are probable next records, for an
// estimate of the space.
func (p *pack) add(r *Record, topic string, following []Record) {
	box := r.Lifetime > 0 || r.released || !time.Unix(0, r.Accepted.UnixNano()).Equal(r.Accepted)
	now := clocks{r.Accepted.UnixNano(), r.born}
	p.awake()
	size := 0
	if len(p.blocks) > 0 {
		b := &p.blocks[len(p.blocks)-1]
		b.rewind(now)
		size = r.packed(now, b.written, box)
		if b.lot != nil || len(b.bytes)+size > cap(b.bytes) {
			size = 0
		}
	}
	if size == 0 {
		p.newBlock(r, topic, r.packed(now, now, box), following)
		p.blocks[len(p.blocks)-1].written, p.blocks[len(p.blocks)-1].read = now, now
	}
	b := &p.blocks[len(p.blocks)-1]
	p.n++
	if box {
		p.boxes++
		b.extras = append(b.extras, extra{boxed: r.clone()})
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

// clone copies a record and its bytes.
func (r *Record) clone() *Record {
	own := *r
	own.chunk, own.home = nil, nil
	own.Key, own.Value, own.Headers = slices.Clone(r.Key), slices.Clone(r.Value), slices.Clone(r.Headers)
	for i, h := range own.Headers {
		own.Headers[i] = Header{strings.Clone(h.Name), slices.Clone(h.Value)}
	}
	return &own
}

// newBlock creates a block of at least this size, with space for the next records of the same topic, more for
// a larger pack. A large block comes from the spare blocks; with few lanes a small block too, because it will
// be reused.
func (p *pack) newBlock(r *Record, topic string, size int, following []Record) {
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
		room += packNumbers + len(f.Key) + len(f.Value)
		for _, h := range f.Headers {
			room += packHeaderNumbers + len(h.Name) + len(h.Value)
		}
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
func (r *Record) packed(now, before clocks, box bool) int {
	n := 1 + varintLen(now.accepted-before.accepted) + varintLen(int64(now.born-before.born))
	if box {
		return n
	}
	n += varintLen(r.Charge) + uvarintLen(len(r.Key)) + uvarintLen(len(r.Value)) + len(r.Key) + len(r.Value)
	if len(r.Headers) > 0 {
		n += uvarintLen(len(r.Headers))
		for _, h := range r.Headers {
			n += uvarintLen(len(h.Name)) + uvarintLen(len(h.Value)+1) + len(h.Name) + len(h.Value)
		}
	}
	return n
}

func uvarintLen(n int) int  { return (bits.Len64(uint64(n)|1) + 6) / 7 }
func varintLen(n int64) int { return (bits.Len64(uint64(n<<1^n>>63)|1) + 6) / 7 }

// write writes a record, for which there is room.
func (b *block) write(r *Record, now clocks, box bool) {
	flags := byte(0)
	set := func(flag byte, so bool) {
		if so {
			flags |= flag
		}
	}
	set(packKey, r.Key != nil)
	set(packValue, r.Value != nil)
	set(packHeaders, len(r.Headers) > 0)
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
			b.states = make([]*atomic.Uint32, 0, 1+(cap(b.bytes)-len(b.bytes))/(len(to)-len(b.bytes)+r.size()+len(r.Headers)))
		}
		b.states = append(b.states, r.Staged)
	}
	to = binary.AppendVarint(to, r.Charge)
	to = binary.AppendUvarint(to, uint64(len(r.Key)))
	to = binary.AppendUvarint(to, uint64(len(r.Value)))
	if len(r.Headers) > 0 {
		to = binary.AppendUvarint(to, uint64(len(r.Headers)))
		for _, h := range r.Headers {
			to = binary.AppendUvarint(to, uint64(len(h.Name)))
			if h.Value == nil {
				to = append(to, 0)
			} else {
				to = binary.AppendUvarint(to, uint64(len(h.Value))+1)
			}
		}
	}
	to = append(to, r.Key...)
	to = append(to, r.Value...)
	for _, h := range r.Headers {
		to = append(to, h.Name...)
		to = append(to, h.Value...)
	}
	b.bytes = to
}

// take removes and returns the first records, at most `most`, and at least one if there is any that is
// readable. copies: records of lots do not keep referring to shared memory.
func (p *pack) take(most int, copies bool) (records []Record) {
	for most = min(most, p.n); most > 0 && len(records) == 0; most = min(most, p.n) {
		records = p.some(most, copies)
	}
	p.reset()
	return records
}

// some is take for records that fit one chunk, and possibly none.
func (p *pack) some(most int, copies bool) (records []Record) {
	if b := p.present(); b.room == nil && p.open == nil && (b.lot == nil || p.spare.lanes > lanesFew) {
		records = make([]Record, most)
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
func (p *pack) copyOut(records []Record) {
	for i := range records {
		r := &records[i]
		size := r.size()
		for _, h := range r.Headers {
			size += len(h.Value)
		}
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
		r.Key, r.Value = p.copies.copy(r.Key), p.copies.copy(r.Value)
		for i := range r.Headers {
			r.Headers[i].Value = p.copies.copy(r.Headers[i].Value)
		}
	}
}

// copy appends bytes to a room with space, and returns the copy. A copy of null is null.
func (r *room) copy(from []byte) []byte {
	if from == nil {
		return nil
	}
	at := len(r.bytes)
	r.bytes = append(r.bytes, from...)
	return r.bytes[at:len(r.bytes):len(r.bytes)]
}

// leaveCopies lets go of the room for copies.
func (p *pack) leaveCopies() {
	if p.copies != nil {
		p.spare.leave(p.copies)
		p.copies = nil
	}
}

// places returns space for at most `most` records in the open chunk.
func (p *pack) places(most int) []Record {
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
		var gone Record
		p.next(&gone)
	}
}

// next decodes the next record into the empty r, and reports false for a removed record.
func (p *pack) next(r *Record) (there bool) {
	if poisoning {
		*r = Record{}
	}
	b := p.first()
	from := reader{bytes: b.bytes, at: b.at}
	flags := from.byte()
	b.read.accepted += from.varint()
	b.read.born += time.Duration(from.varint())
	var x extra
	if flags&(packExtra|packBoxed) != 0 {
		x = b.extras[b.extra]
		b.extras[b.extra] = extra{}
		b.extra++
	}
	if flags&packBoxed != 0 {
		b.at = from.at
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
	r.Charge = from.varint()
	key, value := from.uvarint(), from.uvarint()
	lengths := from.at
	if flags&packHeaders != 0 {
		r.Headers = make([]Header, from.uvarint())
		for range r.Headers {
			from.uvarint()
			from.uvarint()
		}
	}
	r.Key, r.Value = from.take(key, flags&packKey != 0), from.take(value, flags&packValue != 0)
	if flags&packHeaders != 0 {
		numbers := reader{bytes: b.bytes, at: lengths}
		numbers.uvarint()
		for i := range r.Headers {
			name, value := from.take(numbers.uvarint(), true), numbers.uvarint()
			// Bytes of a block never change, as a string requires.
			r.Headers[i] = Header{unsafe.String(unsafe.SliceData(name), len(name)), from.take(max(value, 1)-1, value > 0)}
		}
	}
	b.at = from.at
	return true
}

// born returns the time of the first record's acceptance, or an earlier time. There must be a record.
func (p *pack) born() time.Duration {
	b := p.present()
	if b.lot != nil {
		return b.lot.read
	}
	from := reader{bytes: b.bytes, at: b.at + 1}
	from.varint()
	return b.read.born + time.Duration(from.varint())
}

// remove removes the boxed records selected by gone.
func (p *pack) remove(gone func(*Record) bool) {
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

// reader decodes the output of block.write.
type reader struct {
	bytes []byte
	at    int
}

func (r *reader) byte() byte {
	r.at++
	return r.bytes[r.at-1]
}

func (r *reader) uvarint() uint64 {
	n, size := binary.Uvarint(r.bytes[r.at:])
	r.at += size
	return n
}

func (r *reader) varint() int64 {
	n, size := binary.Varint(r.bytes[r.at:])
	r.at += size
	return n
}

// take returns n bytes without spare capacity; nil unless there.
func (r *reader) take(n uint64, there bool) []byte {
	if !there {
		return nil
	}
	from := r.at
	r.at += int(n)
	return r.bytes[from:r.at:r.at]
}
