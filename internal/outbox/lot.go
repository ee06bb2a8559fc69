package outbox

import (
	"cmp"
	"time"

	"reskafka/internal/metrics"
	"reskafka/internal/record"
)

// Frames are records of one topic in shared memory. The outbox reads each record at its turn, so an outage
// stores a record once. Calls come with the outbox's lock held, and must not block.
type Frames interface {
	// Read fills the next records, which are empty: Key, Value, Headers, Accepted, Charge, Staged, Lasting,
	// Report and Opaque. A Lasting record owns its bytes; other bytes stay until the Gate's Release of the
	// record. Fewer than len(records): the rest is not readable any more.
	Read(records []*record.Record) int

	// Join appends later frames of the same topic, if possible.
	Join(later Frames) bool
}

// Lot is a number of records in Frames, without a Lifetime or a Durability of their own.
type Lot struct {
	Topic       string
	Frames      Frames
	Records     int
	Bytes       int64     // of keys and values
	First, Last time.Time // when the first record was accepted, and the latest time of all
}

// AcceptLots is Accept for records in shared memory: neither read nor copied before their turn. The process
// on the other side may write to the memory at any time. A record has then other bytes, or is dropped with
// ReasonUnreadable.
func (o *Outbox) AcceptLots(lots []Lot) { o.entered(nil, o.enqueueLots(lots)) }

// enqueueLots puts the records of lots into their lanes. open = false: the outbox has ended and sends nothing.
func (o *Outbox) enqueueLots(lots []Lot) (open bool) {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	wall, now := time.Now(), o.now()
	for i := range lots {
		lot := &lots[i]
		l := o.lane(lot.Topic)
		at := now - staged(lot.First, wall)
		first := o.bornAt(lot.First, wall, now)
		o.require(l, o.wanted(record.Unsaid))
		l.count.Add(metrics.RecordsAccepted, lot.Records)
		o.waiting += lot.Records
		o.bytes += lot.Bytes
		l.later.addLot(lot, at, first, o.bornAt(lot.Last, wall, now))
		o.dueAt(o.dueOf(l, 0, first))
		o.markReady(l)
	}
	o.spillFull()
	return !o.ended
}

// bornAt returns the time of acceptance on the outbox's clock. It never goes back: queues are in the order of
// deadlines.
func (o *Outbox) bornAt(accepted, wall time.Time, now time.Duration) time.Duration {
	o.born = max(o.born, now-staged(accepted, wall))
	return o.born
}

// wanted returns the durability of a record that asks for one.
func (o *Outbox) wanted(own record.Durability) record.Durability {
	if !o.spooling() {
		return record.Memory
	}
	return cmp.Or(own, o.settings.Durability, record.Memory)
}

// require gives a lane the durability of an accepted record.
func (o *Outbox) require(l *lane, want record.Durability) {
	l.strictest = max(l.strictest, want)
	if want == record.Disk && !l.durable {
		o.makeDurable(l)
	}
	if l.durable {
		o.listWrite(l)
	}
}

// unread is the unread part of a Lot. Times are on the outbox's clock, unless noted otherwise.
type unread struct {
	frames   Frames
	records  int
	bytes    int64
	accepted time.Time     // when the first record was accepted, on the wall clock,
	at       time.Duration // and on the outbox's clock
	read     time.Duration // born of the last record read; at first that of the first record
	last     time.Duration // the latest born
}

// stepMost is the largest difference between the two clocks' progress in a lot. After a larger step of the wall
// clock, a record must not seem older than it is.
const stepMost = 10 * time.Millisecond

// addLot appends the records of a lot. at is the time of the first record's acceptance, first is born of the
// first record, last the latest born.
func (p *pack) addLot(lot *Lot, at, first, last time.Duration) {
	p.awake()
	p.n += lot.Records
	if n := len(p.blocks); n > 0 {
		if u := p.blocks[n-1].lot; u != nil && u.records > 0 && (at-u.bornAt(lot.First)).Abs() <= stepMost && u.frames.Join(lot.Frames) {
			u.records += lot.Records
			u.bytes += lot.Bytes
			u.last = last
			return
		}
	}
	p.blocks = append(p.blocks, block{lot: &unread{lot.Frames, lot.Records, lot.Bytes, lot.First, at, first, last}})
}

// bornAt converts a time of the wall clock.
func (u *unread) bornAt(accepted time.Time) time.Duration { return u.at + accepted.Sub(u.accepted) }

// readLot reads the next records of a block with a lot, and returns their number: 0 = none is readable.
func (p *pack) readLot(b *block, records []entry) int {
	u := b.lot
	records = records[:min(len(records), u.records)]
	if poisoning {
		clear(records)
	}
	fill := p.spare.fill[:0]
	for i := range records {
		fill = append(fill, &records[i].Record)
	}
	p.spare.fill = fill
	n := u.frames.Read(fill)
	clear(fill)
	for i := range records[:n] {
		r := &records[i]
		u.read = min(max(u.read, u.bornAt(r.Accepted)), u.last)
		r.born, r.borrowed = u.read, !r.Lasting
		u.bytes -= int64(r.Size())
	}
	u.records -= n
	if n < len(records) {
		p.n -= u.records
		p.lost += u.records
		u.records = 0
	}
	if u.records == 0 { // the rest belongs to lost records, or the sizes have changed meanwhile
		p.lostBytes += u.bytes
		u.bytes = 0
	}
	return n
}

// loseUnread drops the records of a lane that were not readable at their turn.
func (o *Outbox) loseUnread(l *lane) (gone []outcome) {
	p := &l.later
	o.bytes -= p.lostBytes
	if p.lost > 0 {
		o.waiting -= p.lost
		o.tally(l, record.ReasonUnreadable, p.lost)
		gone = append(gone, outcome{topic: l.topic, reason: record.ReasonUnreadable, records: p.lost})
		o.rest(l)
	}
	p.lost, p.lostBytes = 0, 0
	return gone
}
