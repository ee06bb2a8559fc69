package outbox

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"time"

	"reskafka/internal/metrics"
	"reskafka/internal/record"
	"reskafka/internal/spool"
)

// shelf is a lane's part on disk, with the transitions. A lane becomes durable by
//
//   - a record with Disk, or
//   - with Overflow, a queue at the limits, an expired record, and Spill, and
//   - records found on disk at the beginning.
//
// Every record of the lane then goes to the log, in order. An empty lane is volatile again. A send does not
// wait for a write: a record with an outcome before its write is no longer written.
//
// Memory has the beginning of the log, up to position read, and the unwritten records. Records only in write,
// and not to be sent from there, are behind:
//
//	        in memory                  on disk only             in memory
//	sending │ front │ queue │ [read ················ next) │ write, behind │ later
//
// Records in later are untouched. The feeder takes records to send from there, if no other record is left and
// no older record is on disk only (peek). The keeper takes records to write (fetch).
//
// The outbox's mutex guards everything.
type shelf struct {
	durable   bool
	strictest record.Durability // among records accepted since the lane was empty

	write  []*entry // to be written, in order
	stale  int      // lower bound of records in write with an outcome, including records being written
	behind int      // records behind, in write or being written

	from   uint64 // every earlier position has its outcome
	read   uint64 // from here on, up to next, records are on disk only
	next   uint64 // position of the next written record
	told   uint64 // the last from passed to the spool
	done   marks  // positions from from on with an outcome
	cached int    // records in memory and on disk, except records in the client
	shown  int    // the same in the client

	left uint64 // records not written by a stop, with frames for another run

	flight  struct{ first, last *entry } // records in the client, in the order of sending
	reports map[uint64]report            // of records on disk only, by position

	listed struct{ write, read, settle bool } // is in the keeper's list
	again  bool                               // the last reading failed
}

// report is who wants to hear of a record.
type report struct {
	tell   func(*record.Record, error)
	opaque uint64
}

// stand creates a record for a report about a record outside memory.
func (w report) stand(l *lane) *entry {
	return &entry{Record: record.Record{Topic: l.topic, Report: w.tell, Opaque: w.opaque, Offset: -1}}
}

// Numbers of the disk's side.
const (
	never = time.Duration(math.MaxInt64)

	readMost   = 2048    // limit of records in one read
	readLeast  = 16      // the same while other records fill memory
	readBytes  = 1 << 20 // limit of bytes in one read; a single record may be larger
	readTight  = 64 << 10
	staleMost  = 1024 // records with an outcome in write
	writeMost  = 4096 // limit of records in one write
	writeBytes = 4 << 20
)

// readAhead: a lane with fewer records ready to send reads more from disk. Tests change it.
var readAhead = 512

// onDisk is how many of the lane's records are on disk and have no outcome.
func (s *shelf) onDisk() uint64 { return s.next - s.from - s.done.count }

// spooling reports whether there is a disk.
func (o *Outbox) spooling() bool { return o.open != nil }

// join adds an accepted record to its lane and returns an immediate outcome. released: the stage does not wait
// for the record.
func (o *Outbox) join(l *lane, r *record.Record, born time.Duration, released bool, following []record.Record) (gone outcome, ended bool) {
	want := o.wanted(r.Durability)
	o.waiting++
	o.bytes += int64(r.Size())
	if r.Probe {
		l.probes++
	}
	switch {
	case r.Lifetime > 0: // useless afterwards, so never written
		l.own++
	case want == record.Memory && !l.durable && r.Durability != record.Unsaid && o.spooling() && o.full(): // otherwise the gate keeps the limits
		o.waiting--
		return o.settle(l, &entry{Record: *r, lane: l, released: released}, record.ReasonQueueFull, nil), true
	default:
		o.require(l, want)
	}
	if r.Lifetime > 0 && l.durable { // no time for records on disk
		own := (&entry{Record: *r, lane: l, born: born, released: released}).clone()
		l.place(own)
		l.queue = append(l.queue, own)
	} else {
		l.later.add(l, r, born, released, following)
	}
	o.dueAt(o.dueOf(l, r.Lifetime, born))
	o.markReady(l)
	return outcome{}, false
}

// full reports whether memory exceeds the queue's limits.
func (o *Outbox) full() bool { return o.beyond(int64(o.settings.QueueRecords), o.settings.QueueBytes) }

// half reports whether memory is half full: records on disk then leave memory, and the other half is for
// unwritten records.
func (o *Outbox) half() bool {
	return o.beyond(int64(o.settings.QueueRecords)/2, o.settings.QueueBytes/2)
}

func (o *Outbox) beyond(records, bytes int64) bool {
	return o.settings.QueueRecords > 0 && int64(o.waiting+o.sending) > records || o.settings.QueueBytes > 0 && o.bytes > bytes
}

// spillFull makes the largest lanes durable while undroppable records fill the queue.
func (o *Outbox) spillFull() {
	if !o.spooling() || !o.full() {
		return
	}
	for {
		var largest *lane
		volatile := 0
		for _, l := range o.lanes {
			if l.durable || l.strictest < record.Overflow {
				continue
			}
			volatile += l.memory()
			if largest == nil || l.memory() > largest.memory() {
				largest = l
			}
		}
		if largest == nil || largest.memory() == 0 {
			return
		}
		o.makeDurable(largest)
		if volatile -= largest.memory(); volatile <= o.settings.QueueRecords/2 {
			return
		}
	}
}

// makeDurable queues every record of a lane for the log, in order. For a durable lane, makeDurable queues the
// unwritten records: those in the client at a late opening of the spool. While an older record is on disk
// only, these can wait for the end.
func (o *Outbox) makeDurable(l *lane) {
	if l.durable && !o.ended && (l.read < l.next || l.behind > 0) {
		return
	}
	l.durable = true
	var early []*entry
	for r := l.flight.first; r != nil; r = r.nextSent {
		early = append(early, r)
	}
	early = append(early, l.returned...)
	slices.SortFunc(early, func(a, b *entry) int { return cmp.Compare(a.seq, b.seq) })
	for _, part := range [][]*entry{early, l.front, l.queue[l.head:]} {
		for _, r := range part {
			if r.Lifetime == 0 && r.position == 0 && !r.toWrite && r.givenUp == notGivenUp {
				l.toWrite(r)
			}
		}
	}
	if l.unwritten() {
		o.listWrite(l)
	}
}

// unwritten reports whether there are records to write. Packed records of a volatile lane do not count,
// though records of its durable time may still be in write.
func (l *lane) unwritten() bool { return len(l.write) > 0 || l.durable && l.later.n > 0 }

// fetch unpacks records for the next write, as many as fit one write. The records are sent from memory unless
// an older record is on disk only, or memory is half full.
func (o *Outbox) fetch(l *lane) {
	if !l.durable {
		return
	}
	bytes := 0
	for _, r := range l.write {
		if bytes += r.Size(); bytes > writeBytes {
			return
		}
	}
	for len(l.write) < writeMost && bytes <= writeBytes && l.later.n > 0 {
		records := l.unpacked(unpackMost)
		for i := range records {
			r := &records[i]
			bytes += r.Size()
			if r.Lifetime == 0 {
				l.toWrite(r)
				if r.behind = l.read < l.next || l.behind > 0 || o.half(); r.behind {
					l.behind++
					continue
				}
			}
			l.queue = append(l.queue, r)
		}
	}
}

// unlist occasionally removes records with an outcome from write, for a disk without success for a long time.
func (l *lane) unlist() {
	if l.stale++; l.stale >= staleMost && 2*l.stale >= len(l.write) {
		l.write, l.stale = slices.DeleteFunc(l.write, func(r *entry) bool {
			settled := r.settled
			if settled {
				l.later.spare.letGo(r.chunk, 1)
			}
			return settled
		}), 0
	}
}

// toWrite adds a record to write. A record in the client still needs its frame, see written.
func (l *lane) toWrite(r *entry) {
	if !r.inFlight {
		r.own()
	}
	r.toWrite = true
	if r.chunk != nil {
		r.chunk.holds++
	}
	l.write = append(l.write, r)
}

// Spill queues all undroppable records for the disk, before a stop, and returns at once.
func (o *Outbox) Spill() {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	if !o.spooling() {
		return
	}
	for _, l := range o.lanes {
		if l.durable || l.strictest >= record.Overflow {
			o.makeDurable(l)
		}
	}
}

// rest makes an empty lane volatile.
func (o *Outbox) rest(l *lane) {
	if l.memory() > 0 || l.read < l.next {
		return
	}
	l.strictest = record.Unsaid
	if l.durable && len(l.write) == 0 {
		l.durable = false
	}
}

// written enters the records written by the keeper to a lane's log, and returns the records the stage may
// release. A record in the client that refers to its frame is released after the client's answer.
func (o *Outbox) written(l *lane, batch []*entry, first uint64) (release []*entry) {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	stored := o.spool.Now()
	if l.next != first && l.from == l.next { // the numbers of an emptied log continue
		l.from, l.read, l.told = first, first, first
	}
	for i, r := range batch {
		position := first + uint64(i)
		r.position, r.Stored, r.toWrite, l.next = position, stored, false, position+1
		if !r.behind && l.read == position {
			l.read = l.next
		}
		switch {
		case r.settled:
			l.done.set(position)
		case r.behind:
			r.behind = false
			l.behind--
			o.leaveMemory(l, r)
		case r.inFlight:
			l.shown++
		default:
			l.cached++
		}
		switch {
		case r.released:
		case r.borrowed:
			if gate, ok := o.gate.(storedGate); ok {
				gate.Stored(&r.Record)
			}
		default:
			r.released = true
			release = append(release, r)
		}
	}
	o.moveOn(l)
	o.evict(l)
	o.listRead(l)
	o.rest(l)
	return release
}

// moveOn finds out how far the lane's outcomes reach without a gap, and has the spool told.
func (o *Outbox) moveOn(l *lane) {
	l.from = l.done.advance(l.from)
	if l.from > l.told && !l.listed.settle {
		l.listed.settle = true
		o.chores.settle = append(o.chores.settle, l)
		o.nudge()
	}
}

// listWrite schedules the lane's write.
func (o *Outbox) listWrite(l *lane) {
	if !l.listed.write {
		l.listed.write = true
		o.chores.write = append(o.chores.write, l)
		o.nudge()
	}
}

// nudge wakes the keeper.
func (o *Outbox) nudge() {
	select {
	case o.toKeep <- struct{}{}:
	default:
	}
}

// takeOver enters the spool's content at the opening. Records accepted before follow behind.
func (o *Outbox) takeOver(logs []spool.Log) {
	for _, found := range logs {
		l := o.lane(found.Topic)
		n := found.Next - found.First
		l.durable, l.strictest = true, max(l.strictest, record.Overflow)
		l.from, l.read, l.next, l.told = found.First, found.First, found.Next, found.First
		l.count.Add(metrics.RecordsAccepted, int(n))
		l.count.Add(metrics.RecordsRestored, int(n))
		o.away += int(n)
		// Records already in the client are not written: their place would be behind older records.
		var behind []*entry
		for _, part := range []*[]*entry{&l.front, &l.queue} {
			*part = slices.DeleteFunc(*part, func(r *entry) bool {
				move := r != nil && r.Lifetime == 0
				if move {
					behind = append(behind, r)
				}
				return move
			})
		}
		l.queue, l.head = slices.DeleteFunc(l.queue, func(r *entry) bool { return r == nil }), 0
		for _, r := range l.write {
			if r.toWrite = false; r.behind {
				behind = append(behind, r)
			}
		}
		l.write, l.stale, l.behind = nil, 0, len(behind)
		for _, r := range behind {
			r.behind = true
			l.toWrite(r)
		}
		if l.unwritten() {
			o.listWrite(l)
		}
		o.listRead(l)
	}
}

// gaveUp enters the spool's loss of all records of a topic before a position.
func (o *Outbox) gaveUp(topic string, before uint64) (gone []outcome) {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	l := o.lane(topic)
	if before > l.read {
		before = min(before, l.next)
		gone = o.lost(l, l.read, before, record.ReasonSpoolFull)
		l.read = before
	}
	// Records also in memory can still be sent.
	forget := func(r *entry, counted *int) {
		if r.position != 0 && r.position < before {
			l.done.set(r.position)
			r.position, r.givenUp = 0, crowdedOut
			*counted--
		}
	}
	for r := l.flight.first; r != nil; r = r.nextSent {
		forget(r, &l.shown)
	}
	for _, part := range [][]*entry{l.returned, l.front, l.queue[l.head:]} {
		for _, r := range part {
			forget(r, &l.cached)
		}
	}
	o.moveOn(l)
	o.promote(l)
	o.listRead(l)
	o.markReady(l) // no older record is left before the packed records
	o.signal()
	return gone
}

var errNoSpool = errors.New("the connection keeps nothing on disk")
