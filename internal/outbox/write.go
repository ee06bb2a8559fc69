package outbox

import (
	"errors"
	"slices"
	"time"

	"reskafka/internal/record"
	"reskafka/internal/spool"
)

// write writes a lane's waiting records to its log, or postpones the write.
func (o *Outbox) write(l *lane) {
	o.mtx.Lock()
	if o.putOff(toWrite) { // before any scan: the list may be long
		l.listed.write = false
		o.relist(l)
		o.mtx.Unlock()
		return
	}
	batch := o.nextBatch(l)
	if len(batch) == 0 {
		o.mtx.Unlock()
		return
	}
	o.writing = writing{l, batch}
	drop, stored := o.settings.DropOldest, steady(batch)
	o.mtx.Unlock()

	batch, first, err := o.appendSome(l, batch, stored, drop)
	if err == nil {
		released := o.written(l, batch, first)
		o.say(func() {
			for _, r := range released {
				o.gate.Release(&r.Record)
			}
		})
	}
	o.mtx.Lock()
	o.writing = writing{}
	if err != nil {
		l.write = append(batch, l.write...)
	} else {
		o.spare.letGoAll(batch)
	}
	if l.unwritten() {
		o.relist(l)
	}
	was := o.failing[toWrite]
	if err == nil && was != nil && len(o.chores.write) > 0 {
		o.retry = time.Now() // over only when everything is written, not after a partial success
		was = nil
	}
	o.mtx.Unlock()
	if err != nil || was != nil {
		o.note(err, toWrite)
	}
}

// steady returns the records with bytes that stay during a write: copies of records in frames, which the
// client's answer releases. The copies have the written fields only, because the client sets others meanwhile.
// Caller must hold mtx.
func steady(batch []*entry) []*record.Record {
	steady := make([]*record.Record, len(batch))
	for i, r := range batch {
		if steady[i] = &r.Record; r.borrowed {
			steady[i] = &record.Record{Topic: r.Topic, Key: r.Key, Value: r.Value, Headers: r.Headers, Accepted: r.Accepted}
			steady[i].Own()
		}
	}
	return steady
}

// appendSome writes a batch to a lane's log, or as many of its first records as fit; the rest must be written
// next. stored are the same records, for the spool. A spool with drop_oldest drops in small steps, to drop no
// more than necessary.
func (o *Outbox) appendSome(l *lane, batch []*entry, stored []*record.Record, drop bool) (tried []*entry, first uint64, err error) {
	const step = 64 << 10
	bytes := 0
	for _, r := range stored { // a retry moves the bytes of batch
		bytes += r.Size()
	}
	for range 100 { // halves of a batch, and pieces of a spool, at least
		first, err = o.spool.Append(l.topic, stored[:len(batch)])
		if !errors.Is(err, spool.ErrFull) {
			break
		}
		o.moved.Add(1)
		if drop && (bytes <= step || len(batch) == 1) && o.makeRoom() {
			continue
		}
		half := len(batch) / 2
		if half == 0 {
			break
		}
		for _, r := range stored[half:len(batch)] {
			bytes -= r.Size()
		}
		o.mtx.Lock()
		l.write = slices.Concat(batch[half:], l.write)
		batch = batch[:half]
		o.writing = writing{l, batch}
		o.mtx.Unlock()
	}
	return batch, first, err
}

// relist schedules another write for the keeper's next round. Unlike listWrite it wakes no goroutine: only
// the keeper calls it.
func (o *Outbox) relist(l *lane) {
	if !l.listed.write {
		l.listed.write = true
		o.chores.write = append(o.chores.write, l)
	}
}

// nextBatch removes the next records to write from a lane. Records with an outcome are skipped.
func (o *Outbox) nextBatch(l *lane) (batch []*entry) {
	l.listed.write = false
	o.fetch(l)
	bytes, taken := 0, 0
	for _, r := range l.write {
		if !r.settled {
			if len(batch) == writeMost || bytes > 0 && bytes+r.Size() > writeBytes {
				break
			}
			batch = append(batch, r)
			bytes += r.Size()
		} else {
			l.stale--
			o.spare.letGo(r.chunk, 1)
		}
		taken++
	}
	clear(l.write[:taken])
	if l.write = l.write[taken:]; len(l.write) == 0 {
		l.write, l.stale = nil, 0
	} else {
		l.stale = max(l.stale, 0)
	}
	if l.unwritten() {
		o.relist(l)
	}
	if len(batch) == 0 {
		o.rest(l)
	}
	return batch
}

// makeRoom makes the spool drop its oldest records.
func (o *Outbox) makeRoom() bool {
	topic, before, ok := o.spool.DropOldest()
	if ok {
		gone := o.gaveUp(topic, before)
		o.say(func() { o.tell(gone) })
	}
	return ok
}
