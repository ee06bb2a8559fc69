package outbox

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"reskafka/internal/record"
	"reskafka/internal/spool"
)

// disk is a fake Spool. The content outlives the outbox: boot creates the spool of the next run.
type disk struct {
	mtx      sync.Mutex
	logs     map[string]*diskLog
	dead     []record.DeadLetter
	buried   uint64               // position behind the last dead letter
	mostDead int                  // limit of dead letters; 0 = none
	most     int                  // limit of records; 0 = none
	trouble  error                // error of every call
	slow     func() time.Duration // how long a call takes; nil = no time
	misuse   func(what string)
	inCall   int
	closed   int
	gone     bool // the process is dead: calls have no effect
	damage   func(topic string, position uint64) bool
	limits   spool.Limits
	appends  int
	dropped  bool // some were, to make room
}

type diskLog struct {
	first, next uint64 // of unsettled records
	records     map[uint64]*record.Record
}

var errDisk = errors.New("input/output error")

func newDisk(misuse func(string)) *disk {
	return &disk{logs: map[string]*diskLog{}, misuse: misuse, buried: 3}
}

// boot returns the spool for the next run.
func (d *disk) boot() *disk {
	d.mtx.Lock()
	defer d.mtx.Unlock()
	d.gone = true
	next := newDisk(d.misuse)
	next.dead, next.most, next.damage, next.dropped = slices.Clone(d.dead), d.most, d.damage, d.dropped
	next.buried, next.mostDead = d.buried, d.mostDead
	for topic, l := range d.logs {
		next.logs[topic] = &diskLog{l.first, l.next, maps.Clone(l.records)}
	}
	return next
}

// begin is called by every method limited to one goroutine at a time.
func (d *disk) begin() error {
	d.mtx.Lock()
	d.inCall++
	if d.inCall > 1 {
		d.misuse("two calls of the spool at a time")
	}
	if d.closed > 0 {
		d.misuse("a call of the spool after Close")
	}
	slow, trouble := d.slow, d.trouble
	d.mtx.Unlock()
	if slow != nil {
		if t := slow(); t > 0 {
			time.Sleep(t)
		}
	}
	d.mtx.Lock()
	d.inCall--
	if d.gone {
		return errDisk
	}
	return trouble
}

func (d *disk) Logs() []spool.Log {
	d.mtx.Lock()
	defer d.mtx.Unlock()
	var all []spool.Log
	for topic, l := range d.logs {
		if l.first < l.next {
			all = append(all, spool.Log{Topic: topic, First: l.first, Next: l.next})
		}
	}
	return all
}

func (d *disk) held() (n int) {
	for _, l := range d.logs {
		n += len(l.records)
	}
	return n
}

func (d *disk) Append(topic string, records []*record.Record) (uint64, error) {
	err := d.begin()
	defer d.mtx.Unlock()
	if err != nil {
		return 0, err
	}
	if len(records) == 0 {
		d.misuse("Append of nothing")
	}
	if d.most > 0 && d.held()+len(records) > d.most {
		return 0, fmt.Errorf("too much: %w", spool.ErrFull)
	}
	d.appends++
	l := d.logs[topic]
	if l == nil {
		l = &diskLog{first: 7, next: 7, records: map[uint64]*record.Record{}}
		d.logs[topic] = l
	}
	first := l.next
	for _, r := range records {
		if r.Topic != topic {
			d.misuse("Append of a record of another topic")
		}
		l.records[l.next] = stripped(r)
		l.records[l.next].Stored = d.Now()
		l.next++
	}
	return first, nil
}

// stripped returns a copy of a record's written parts.
func stripped(r *record.Record) *record.Record {
	own := &record.Record{Topic: r.Topic, Key: r.Key, Value: r.Value, Headers: r.Headers, Accepted: r.Accepted}
	own.Own()
	return own
}

func (d *disk) Read(topic string, from uint64, most, mostBytes int) (records []*record.Record, positions []uint64, next uint64, err error) {
	err = d.begin()
	defer d.mtx.Unlock()
	if err != nil {
		return nil, nil, 0, err
	}
	l := d.logs[topic]
	if l == nil || from < l.first || from >= l.next {
		d.misuse(fmt.Sprintf("Read of %s from %d: %+v", topic, from, l))
		return nil, nil, from, nil
	}
	bytes := 0
	for next = from; next < l.next && len(records) < most; next++ {
		if d.damage != nil && d.damage(topic, next) {
			continue
		}
		r := *l.records[next]
		if bytes > 0 && bytes+r.Size() > mostBytes {
			break
		}
		bytes += r.Size()
		records, positions = append(records, &r), append(positions, next)
	}
	return records, positions, next, nil
}

func (d *disk) Settle(topic string, before uint64) error {
	err := d.begin()
	defer d.mtx.Unlock()
	if err != nil {
		return err
	}
	l := d.logs[topic]
	if l == nil || before > l.next {
		d.misuse(fmt.Sprintf("Settle of %s before %d: %+v", topic, before, l))
		return nil
	}
	for ; l.first < before; l.first++ {
		delete(l.records, l.first)
	}
	return nil
}

// diskBorn is when the clock of a fake disk starts.
var diskBorn = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)

func (d *disk) Now() time.Duration { return time.Since(diskBorn) }

func (d *disk) Bury(letters []record.DeadLetter) (written int, err error) {
	err = d.begin()
	defer d.mtx.Unlock()
	if err != nil {
		return 0, err
	}
	for _, letter := range letters {
		letter.Position = d.buried
		letter.Record = stripped(letter.Record)
		d.buried++
		d.dead = append(d.dead, letter)
	}
	if d.mostDead > 0 {
		d.dead = d.dead[max(0, len(d.dead)-d.mostDead):]
	}
	return len(letters), nil
}

// left adds a dead letter of an earlier run.
func (d *disk) left(r *record.Record) {
	d.dead = append(d.dead, record.DeadLetter{Record: r, Reason: reasonRefused, Position: d.buried})
	d.buried++
}

// deadLog is DeadLog with mtx held.
func (d *disk) deadLog() spool.Log {
	return spool.Log{First: d.buried - uint64(len(d.dead)), Next: d.buried}
}

func (d *disk) DeadLog() spool.Log {
	d.mtx.Lock()
	defer d.mtx.Unlock()
	return d.deadLog()
}

func (d *disk) Exhume(most int) (letters []record.DeadLetter, next uint64, forget func() error, err error) {
	err = d.begin()
	defer d.mtx.Unlock()
	next = d.deadLog().First
	if err != nil {
		return nil, next, nil, err
	}
	for _, letter := range d.dead[:min(most, len(d.dead))] {
		next = letter.Position + 1
		if d.damage == nil || !d.damage("", letter.Position) {
			letter.Record = stripped(letter.Record)
			letters = append(letters, letter)
		}
	}
	return letters, next, func() error {
		err := d.begin()
		defer d.mtx.Unlock()
		for err == nil && len(d.dead) > 0 && d.dead[0].Position < next {
			d.dead = d.dead[1:]
		}
		return err
	}, nil
}

func (d *disk) DropOldest() (topic string, before uint64, ok bool) {
	err := d.begin()
	defer d.mtx.Unlock()
	if err != nil {
		return "", 0, false
	}
	for t, l := range d.logs {
		if n := len(l.records); n > 0 && (topic == "" || n > len(d.logs[topic].records)) {
			topic = t
		}
	}
	if topic == "" {
		return "", 0, false
	}
	d.dropped = true
	l := d.logs[topic]
	before = min(l.next, l.first+5)
	for ; l.first < before; l.first++ {
		delete(l.records, l.first)
	}
	return topic, before, true
}

func (d *disk) Configure(limits spool.Limits) {
	d.mtx.Lock()
	d.limits = limits
	d.mtx.Unlock()
}

func (d *disk) Usage() spool.Usage {
	d.mtx.Lock()
	defer d.mtx.Unlock()
	return spool.Usage{Dir: "disk", Bytes: int64(d.held()), Dead: uint64(len(d.dead))}
}

func (d *disk) Close() error {
	err := d.begin()
	defer d.mtx.Unlock()
	d.closed++
	return err
}

// values returns a topic's log, in order.
func (d *disk) values(topic string) (all []string) {
	d.mtx.Lock()
	defer d.mtx.Unlock()
	l := d.logs[topic]
	if l == nil {
		return nil
	}
	for p := l.first; p < l.next; p++ {
		all = append(all, string(l.records[p].Value))
	}
	return all
}

// all returns the packed records, and the number of boxed records, without a change.
func (p *pack) all() (records []*entry, boxes int) {
	copied := pack{blocks: slices.Clone(p.blocks), n: p.n, boxes: p.boxes, spare: &spare{}}
	for i := range copied.blocks {
		b := &copied.blocks[i]
		b.room, b.extras, b.states = nil, slices.Clone(b.extras), slices.Clone(b.states)
		if b.lot != nil {
			own := *b.lot
			own.frames = own.frames.(interface{ clone() Frames }).clone()
			b.lot = &own
		}
	}
	for copied.n > 0 {
		for _, r := range copied.take(1, false) {
			if records = append(records, &r); r.Lifetime > 0 || r.released {
				boxes++
			}
		}
	}
	return records, boxes
}

// verify compares a lane's numbers with the lists. No goroutine may be running.
func (o *Outbox) verify() (faults []string) {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	fault := func(l *lane, format string, args ...any) {
		faults = append(faults, l.topic+": "+fmt.Sprintf(format, args...))
	}
	waiting, sending, away := 0, 0, 0
	var bytes int64
	for _, l := range o.lanes {
		cached, shown, behind, flight := 0, 0, 0, 0
		seen := map[uint64]bool{}
		for _, r := range slices.Concat(l.returned, l.front, l.queue[l.head:]) {
			if r.position != 0 {
				cached++
				if seen[r.position] || r.position >= l.read || r.position < l.from {
					fault(l, "position %d twice, not below read %d, or below from %d", r.position, l.read, l.from)
				}
				seen[r.position] = true
			}
			if r.settled || r.behind || r.inFlight {
				fault(l, "queued, but settled %v behind %v in flight %v", r.settled, r.behind, r.inFlight)
			}
			bytes += int64(r.Size())
		}
		for r := l.flight.first; r != nil; r = r.nextSent {
			flight++
			if r.position != 0 {
				shown++
			}
			bytes += int64(r.Size())
		}
		for _, r := range slices.Concat(o.writing.of(l), l.write) {
			if r.behind {
				behind++
				bytes += int64(r.Size())
			}
			if !r.settled && r.position != 0 {
				fault(l, "to be written, but at %d already", r.position)
			}
		}
		if cached != l.cached || shown != l.shown || behind != l.behind || flight != l.sending {
			fault(l, "cached %d (%d) shown %d (%d) behind %d (%d) sending %d (%d)", l.cached, cached, l.shown, shown, l.behind, behind, l.sending, flight)
		}
		if n := l.onDisk(); n != uint64(cached+shown)+l.next-l.read && !o.ended {
			fault(l, "%d on disk, but %d in memory and %d not: from %d read %d next %d, %d done", n, cached+shown, l.next-l.read, l.from, l.read, l.next, l.done.count)
		}
		packed, boxes := l.later.all()
		for _, r := range packed {
			bytes += int64(r.Size())
		}
		if len(packed) != l.later.n || boxes != l.later.boxes || len(packed) == 0 && len(l.later.blocks) > 0 != l.later.rests {
			fault(l, "%d packed (%d), %d boxed (%d), in %d blocks", l.later.n, len(packed), l.later.boxes, boxes, len(l.later.blocks))
		}
		own := 0
		for _, r := range slices.Concat(l.returned, l.front, l.queue[l.head:], packed) {
			if r.Lifetime > 0 {
				own++
			}
		}
		if own != l.own && !o.ended {
			fault(l, "%d with a lifetime of their own (%d)", l.own, own)
		}
		waiting += l.waiting() + len(l.returned) + behind
		sending += flight
		away += int(l.next - l.read)
	}
	if waiting != o.waiting || sending != o.sending || away != o.away || bytes != o.bytes {
		faults = append(faults, fmt.Sprintf("waiting %d (%d) sending %d (%d) away %d (%d) bytes %d (%d)", o.waiting, waiting, o.sending, sending, o.away, away, o.bytes, bytes))
	}
	return faults
}
