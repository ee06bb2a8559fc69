package outbox

import (
	"errors"
	"slices"
	"time"

	"reskafka/internal/record"
)

// endKeeping writes all undroppable records, and ends the keeper. A hanging disk is abandoned.
func (o *Outbox) endKeeping() {
	if !o.Attached() {
		return
	}
	o.Spill()
	o.finishing.Do(func() { close(o.finish) }) // again after a panic meanwhile
	ticker := time.NewTicker(diskPatience)
	defer ticker.Stop()
	for moved := o.moved.Load(); ; {
		select {
		case <-o.kept:
			return
		case <-ticker.C:
		}
		if now := o.moved.Load(); now != moved {
			moved = now
			continue
		}
		break
	}
	o.say(func() { o.observer.Spooling(errDiskHangs) })
	o.saying.Lock()
	o.mute = true
	o.saying.Unlock()
}

// errDiskHangs is why a durable record is not on disk.
var errDiskHangs = errors.New("the disk does not answer; what is not written is given up")

// lastRound writes the remaining records, unless the disk fails, and closes the spool.
func (o *Outbox) lastRound() {
	if o.spool == nil && !o.opened() {
		return
	}
	o.mtx.Lock()
	o.retry = time.Time{} // a last attempt after any failure
	o.mtx.Unlock()
	for {
		o.round()
		o.mtx.Lock()
		done := len(o.chores.bury)+len(o.chores.write) == 0 || o.putOff(toWrite) || o.putOff(toBury)
		o.mtx.Unlock()
		if done {
			break
		}
	}
	o.mtx.Lock()
	lanes := make([]*lane, 0, len(o.lanes))
	for _, l := range o.lanes {
		if l.from > l.told {
			lanes = append(lanes, l)
		}
	}
	o.mtx.Unlock()
	for _, l := range lanes {
		o.settleLog(l)
	}
	if err := o.spool.Close(); err != nil {
		o.note(err, toClose)
	}
}

// guard recovers a panic of the feeder, which would end the engine: the connection refuses all records and
// drops the accepted records, like at the engine's end. The observer is notified, so callers are refused from
// then on.
func (o *Outbox) guard(inSend *bool) {
	r := recover()
	if r == nil {
		return
	}
	o.observer.Panicked(r)
	o.mtx.Lock()
	o.closing = true
	if *inSend {
		o.handing, o.lent = false, nil
	}
	o.ended = true
	transport := o.transport
	o.mtx.Unlock()
	transport.Close()
	o.endKeeping() // otherwise the keeper could call a closed observer, and block the next outbox's disk
	o.giveUp()
	close(o.stopped)
}

// guardSender is guard for a sender other than the feeder: the feeder ends everything.
func (o *Outbox) guardSender(inSend *bool) {
	r := recover()
	if r == nil {
		return
	}
	o.observer.Panicked(r)
	o.mtx.Lock()
	o.closing = true
	if *inSend {
		o.handing, o.lent = false, nil
	}
	o.mtx.Unlock()
	o.signal()
}

// shutDown ends the outbox from the feeder's goroutine: first the client's answers, then the write of records
// that must not be lost, then the drop of the rest.
func (o *Outbox) shutDown() {
	o.shut(o.transport)
	o.awaitSend()
	o.mtx.Lock()
	next := o.next
	o.next = nil
	o.ended = true
	o.mtx.Unlock()
	if next != nil {
		o.shut(next.transport)
	}
	o.endKeeping()
	o.giveUp()
}

// shut closes a client at the end, when everything does.
func (o *Outbox) shut(t Transport) {
	o.mtx.Lock()
	limit := o.closeLimit
	o.mtx.Unlock()
	if c, ok := t.(limitedCloser); ok && limit > 0 {
		c.CloseWithin(limit)
		return
	}
	t.Close()
}

// giveUp closes the account of all waiting records: records on disk stay there, the rest is dropped.
func (o *Outbox) giveUp() {
	var gone []outcome
	var last []*entry // records last used by the gate and their owners
	tell := func() {
		o.mtx.Unlock()
		o.tell(gone)
		o.mtx.Lock()
		o.spare.letGoAll(last)
		gone, last = nil, nil
	}
	o.mtx.Lock()
	defer o.mtx.Unlock()
	// No other holder has returned records: neither a hanging write, nor a Send left by a panic.
	alone := o.writing.lane == nil && !o.handing
	for _, l := range o.lanes {
		durable := l.durable
		for _, r := range l.takeAll() {
			if r.settled {
				continue
			}
			gone = append(gone, o.abandon(l, r, durable))
			if r.chunk == nil && alone && !r.toWrite {
				r.chunk = r.home
			}
			last = append(last, r)
		}
		for _, r := range slices.Concat(o.writing.of(l), l.write) { // a hanging write may continue
			if !r.settled {
				gone = append(gone, o.abandon(l, r, durable))
			}
		}
		for l.later.n > 0 {
			records := l.unpacked(unpackMost)
			for i := range records {
				gone = append(gone, o.abandon(l, &records[i], durable))
				last = append(last, &records[i])
			}
			if len(gone) >= toldAtOnce { // there may be a million
				tell()
			}
		}
		gone = append(gone, o.loseUnread(l)...)
		l.own = 0
		for _, wanted := range l.reports {
			gone = append(gone, outcome{record: wanted.stand(l), spooled: true})
		}
		l.write, l.behind, l.reports = nil, 0, nil
	}
	gone = append(gone, o.giveUpDead()...)
	tell()
}

// toldAtOnce is the batch size of drops in an ended outbox.
const toldAtOnce = 1024

// abandon closes the account of a waiting record.
func (o *Outbox) abandon(l *lane, r *entry, durable bool) outcome {
	o.waiting--
	switch {
	case r.position != 0:
		l.cached--
		o.away++
	case durable && r.Lasting && !r.released: // the next run finds the staged record
		l.left++
	case r.givenUp == purged:
		return o.settle(l, r, record.ReasonPurged, nil)
	case r.givenUp == crowdedOut:
		return o.settle(l, r, record.ReasonSpoolFull, nil)
	default:
		return o.settle(l, r, record.ReasonStopped, nil)
	}
	r.settled = true
	return outcome{record: r, spooled: true}
}
