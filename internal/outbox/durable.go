package outbox

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"time"

	"reskafka/internal/metrics"
)

// Durability says how safe a record is to be while it has no outcome.
type Durability int8

// The values of the option durability. Of those that the records of one topic ask for, the strictest counts until
// the topic's lane is empty.
const (
	Unsaid   Durability = iota // of a record: the connection's; of a connection: Memory
	Memory                     // in memory only: dropped when its time is up or the outbox is closed
	Overflow                   // in memory, and on disk rather than lost
	Disk                       // on disk at once
)

// DurabilityOf reads a value of the option; anything else is Unsaid.
func DurabilityOf(word string) Durability {
	switch word {
	case "memory":
		return Memory
	case "overflow":
		return Overflow
	case "disk":
		return Disk
	}
	return Unsaid
}

// shelf is a lane's part on disk, and what leads there and back. A lane is made durable by
//
//   - a record that asks for Disk, or
//   - with Overflow, a queue at its limits, a record whose time is up, and Spill, and
//   - what is found on disk at the beginning;
//
// every record it holds then goes to its log, in order, and it is volatile again once it is empty. Sending does not wait for
// writing: a record may have its outcome before it is written, and is not written any more then.
//
// Memory holds the beginning of the log, up to position read, and what is not written yet. Records that are
// only in write, and not to be sent from there, are behind:
//
//	        in memory                  on disk only             in memory
//	sending │ front │ queue │ [read ················ next) │ write, behind │ later
//
// What is in later nobody has looked at yet. The feeder takes from there what is to be sent, when nothing else is left and nothing
// older is on disk only (peek), and the keeper what is to be written (fetch).
//
// Everything is guarded by the outbox's mutex.
type shelf struct {
	durable   bool
	strictest Durability // of what was accepted since the lane was empty

	write  []*Record // to be written, in order
	stale  int       // how many of them, at least, have their outcome by now, those being written counted too
	behind int       // how many of them, and of those being written, are behind

	from   uint64 // every position before has its outcome
	read   uint64 // from here on, up to next, records are on disk only
	next   uint64 // the position of the next record that is written
	told   uint64 // the from that the spool was last told
	done   marks  // positions from from on that have their outcome
	cached int    // records in memory that are on disk too, those in the client not counted
	shown  int    // the same of those in the client

	left uint64 // records that a stop could not write to disk, but whose frame another run finds

	flight  struct{ first, last *Record } // what is in the client, in the order of sending
	reports map[uint64]report             // of records that are on disk only, by position

	listed struct{ write, read, settle bool } // is in the keeper's list
	again  bool                               // the last reading failed
}

// report is who wants to hear of a record.
type report struct {
	tell   func(*Record, error)
	opaque uint64
}

// stand makes a record for a report about one that is not in memory.
func (w report) stand(l *lane) *Record {
	return &Record{Topic: l.topic, Report: w.tell, Opaque: w.opaque, Offset: -1}
}

// Numbers of the disk's side.
const (
	never = time.Duration(math.MaxInt64)

	readMost   = 2048    // records that are read at once
	readLeast  = 16      // the same while memory is full of others
	readBytes  = 1 << 20 // and bytes; one record may be larger
	readTight  = 64 << 10
	staleMost  = 1024 // records that wait to be written although they have their outcome
	writeMost  = 4096 // records that are written at once
	writeBytes = 4 << 20
)

// readAhead: a lane with fewer records ready to be sent asks for more from the disk. Tests change it.
var readAhead = 512

// onDisk is how many of the lane's records are on disk and have no outcome.
func (s *shelf) onDisk() uint64 { return s.next - s.from - s.done.count }

// spooling says whether there is a disk to turn to.
func (o *Outbox) spooling() bool { return o.open != nil }

// join puts a record that has just been accepted into its lane. An outcome it has at once is given.
func (o *Outbox) join(l *lane, r *Record, following []Record, memory []byte) (gone outcome, ended bool) {
	want := cmp.Or(r.Durability, o.settings.Durability, Memory)
	if !o.spooling() {
		want = Memory
	}
	o.waiting++
	o.bytes += int64(r.size())
	if r.Probe {
		l.probes++
	}
	switch {
	case r.Lifetime > 0: // nobody wants it any more after that, so it is not written
		l.own++
	case want == Memory && !l.durable && r.Durability != Unsaid && o.spooling() && o.full(): // otherwise the gate keeps the limits
		o.waiting--
		return o.settle(l, r, ReasonQueueFull, nil), true
	default:
		l.strictest = max(l.strictest, want)
		if want == Disk && !l.durable {
			o.makeDurable(l)
		}
		if l.durable {
			o.listWrite(l)
		}
	}
	if r.Lifetime > 0 && l.durable { // whatever is on disk: there is no time for that
		own := r.clone()
		l.place(own)
		l.queue = append(l.queue, own)
	} else {
		l.later.add(r, l.topic, following, memory)
	}
	o.dueAt(o.due(r))
	o.markReady(l)
	return outcome{}, false
}

// full says whether the queue's limits are passed by what is in memory.
func (o *Outbox) full() bool { return o.beyond(int64(o.settings.QueueRecords), o.settings.QueueBytes) }

// half says whether memory holds so much that what is on disk need not be there too: the other half of the queue is
// for what is not.
func (o *Outbox) half() bool {
	return o.beyond(int64(o.settings.QueueRecords)/2, o.settings.QueueBytes/2)
}

func (o *Outbox) beyond(records, bytes int64) bool {
	return o.settings.QueueRecords > 0 && int64(o.waiting+o.sending) > records || o.settings.QueueBytes > 0 && o.bytes > bytes
}

// spillFull makes the largest lanes durable while what may not be lost fills the queue.
func (o *Outbox) spillFull() {
	if !o.spooling() || !o.full() {
		return
	}
	for {
		var largest *lane
		volatile := 0
		for _, l := range o.lanes {
			if l.durable || l.strictest < Overflow {
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

// makeDurable has everything that a lane holds written, in its order. Again for a durable one, it has written what is
// not: what was in the client when the spool was opened late. As long as something older is on disk only, that can wait for
// the end.
func (o *Outbox) makeDurable(l *lane) {
	if l.durable && !o.ended && (l.read < l.next || l.behind > 0) {
		return
	}
	l.durable = true
	var early []*Record
	for r := l.flight.first; r != nil; r = r.nextSent {
		early = append(early, r)
	}
	early = append(early, l.returned...)
	slices.SortFunc(early, func(a, b *Record) int { return cmp.Compare(a.seq, b.seq) })
	for _, part := range [][]*Record{early, l.front, l.queue[l.head:]} {
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

// unwritten says whether there is something to be written. What is packed of a volatile lane is not, though records that it had
// while it was durable may still be in write.
func (l *lane) unwritten() bool { return len(l.write) > 0 || l.durable && l.later.n > 0 }

// fetch takes out what is packed, if it is to be written: as much as is written at once. It is to be sent from memory unless
// something older is on disk only, or memory is half full.
func (o *Outbox) fetch(l *lane) {
	if !l.durable {
		return
	}
	bytes := 0
	for _, r := range l.write {
		if bytes += r.size(); bytes > writeBytes {
			return
		}
	}
	for len(l.write) < writeMost && bytes <= writeBytes && l.later.n > 0 {
		records := l.unpacked(unpackMost)
		for i := range records {
			r := &records[i]
			bytes += r.size()
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

// unlist forgets now and then what need not be written any more, should the disk take nothing for long.
func (l *lane) unlist() {
	if l.stale++; l.stale >= staleMost && 2*l.stale >= len(l.write) {
		l.write, l.stale = slices.DeleteFunc(l.write, func(r *Record) bool {
			settled := r.settled
			if settled {
				l.later.spare.letGo(r.chunk, 1)
			}
			return settled
		}), 0
	}
}

// toWrite adds a record to what is to be written.
func (l *lane) toWrite(r *Record) {
	r.toWrite = true
	if r.chunk != nil {
		r.chunk.holds++
	}
	l.write = append(l.write, r)
}

// Spill has everything that must not be lost written to disk, as a stop wants it. It returns at once.
func (o *Outbox) Spill() {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	if !o.spooling() {
		return
	}
	for _, l := range o.lanes {
		if l.durable || l.strictest >= Overflow {
			o.makeDurable(l)
		}
	}
}

// rest makes a lane that has become empty volatile.
func (o *Outbox) rest(l *lane) {
	if l.memory() > 0 || l.read < l.next {
		return
	}
	l.strictest = Unsaid
	if l.durable && len(l.write) == 0 {
		l.durable = false
	}
}

// written books what the keeper wrote to a lane's log, and gives the records that the stage need not answer for any more.
func (o *Outbox) written(l *lane, batch []*Record, first uint64) (release []*Record) {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	stored := o.spool.Now()
	if l.next != first && l.from == l.next { // the log's numbers go on where those of a log that was emptied ended
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
		if !r.released {
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

// listWrite has the keeper write what the lane has for it.
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

// takeOver enters what the spool held when it was opened. What was accepted before goes behind it.
func (o *Outbox) takeOver(logs []SpoolLog) {
	for _, found := range logs {
		l := o.lane(found.Topic)
		n := found.Next - found.First
		l.durable, l.strictest = true, max(l.strictest, Overflow)
		l.from, l.read, l.next, l.told = found.First, found.First, found.Next, found.First
		l.count.Add(metrics.RecordsAccepted, int(n))
		l.count.Add(metrics.RecordsRestored, int(n))
		o.away += int(n)
		// What the client has had already is not written: it would come after what is older.
		var behind []*Record
		for _, part := range []*[]*Record{&l.front, &l.queue} {
			*part = slices.DeleteFunc(*part, func(r *Record) bool {
				move := r != nil && r.Lifetime == 0
				if move {
					behind = append(behind, r)
				}
				return move
			})
		}
		l.queue, l.head = slices.DeleteFunc(l.queue, func(r *Record) bool { return r == nil }), 0
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

// gaveUp books that the spool gave up everything of a topic before a position.
func (o *Outbox) gaveUp(topic string, before uint64) (gone []outcome) {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	l := o.lane(topic)
	if before > l.read {
		before = min(before, l.next)
		gone = o.lost(l, l.read, before, ReasonSpoolFull)
		l.read = before
	}
	// What is in memory too can still be sent.
	forget := func(r *Record, counted *int) {
		if r.position != 0 && r.position < before {
			l.done.set(r.position)
			r.position, r.givenUp = 0, crowdedOut
			*counted--
		}
	}
	for r := l.flight.first; r != nil; r = r.nextSent {
		forget(r, &l.shown)
	}
	for _, part := range [][]*Record{l.returned, l.front, l.queue[l.head:]} {
		for _, r := range part {
			forget(r, &l.cached)
		}
	}
	o.moveOn(l)
	o.promote(l)
	o.listRead(l)
	o.markReady(l) // nothing may be before what is packed any more
	o.signal()
	return gone
}

var errNoSpool = errors.New("the connection keeps nothing on disk")
