package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// outcome is what became of one record, carried out of the locked part to be told to the gate, the record's owner and
// the observer.
type outcome struct {
	record *Record // nil: of records that nobody knows any more
	reason string  // empty = acknowledged
	err    error

	release bool   // the stage need not answer for the record any more
	spooled bool   // no outcome, but the end: the record stays on disk
	unknown bool   // the record stands for one that is counted among those that nobody knows
	topic   string // without a record: whose records they were,
	records int    // and how many
}

// verdict is the outcome as an error. Where the outbox itself gave up, errors.Is finds the DroppedError in it, and the
// client's last word is added unless that only says the same.
func (out *outcome) verdict() error {
	switch {
	case out.spooled:
		return ErrSpooled
	case out.reason == "":
		return nil
	case out.err == nil, out.reason == ReasonStopped:
		return DroppedError(out.reason)
	case out.reason != ReasonExpired:
		return out.err
	case errors.Is(out.err, context.DeadlineExceeded):
		return DroppedError(out.reason)
	}
	return fmt.Errorf("%w (%w)", DroppedError(out.reason), out.err)
}

// step is what the feeder has to do next.
type step struct {
	closing   bool
	expired   []outcome
	old       Transport // to be closed for the next one
	batch     []*Record // to be sent
	due       time.Duration
	wait      time.Duration // how long to sleep if there is nothing to do
	transport Transport
}

// feed is the feeder: the only goroutine that sends, so that records enter the client in their order.
func (o *Outbox) feed() {
	defer o.guard()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		s := o.decide()
		if s.closing {
			o.shutDown()
			close(o.stopped)
			return
		}
		o.tell(s.expired)
		switch {
		case s.old != nil:
			s.old.Close() // every done call it owes puts a record back
			o.awaitSend()
			o.finishSwap()
		case len(s.batch) > 0:
			s.transport.Send(s.batch, o.epoch.Add(s.due), o.done)
			if o.relieved() {
				return
			}
		default:
			timer.Reset(s.wait)
			select {
			case <-o.wake:
			case <-timer.C:
			}
		}
	}
}

// decide says what is to be done now, and books what begins with it.
func (o *Outbox) decide() step {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	now := o.now()
	if o.closing {
		return step{closing: true}
	}
	s := step{expired: o.expire(now), old: o.startSwap(now), transport: o.transport}
	if s.old == nil {
		var old []outcome
		s.batch, s.due, old = o.collect(now)
		s.expired = append(s.expired, old...)
	}
	s.wait = o.patience(now)
	if len(s.batch) > 0 {
		o.handing = handingOn
		o.relief.Reset(max(s.wait, sendPatience))
	}
	return s
}

// guard ends a panic of the feeder, which would end the PBX: the connection takes no more records and gives up those
// it has, as at the end of the engine. The observer is told, so that callers are refused from then on.
func (o *Outbox) guard() {
	r := recover()
	if r == nil {
		return
	}
	o.observer.Panicked(r)
	o.mtx.Lock()
	o.closing, o.ended = true, true
	transport := o.transport
	o.mtx.Unlock()
	transport.Close()
	o.endKeeping()
	o.giveUp()
	close(o.stopped)
}

// collect moves records that may be sent now from their lanes to the client's account, and drops those that have waited on
// disk for too long. All of one batch fall due in the same second, so that the client needs one deadline for them.
func (o *Outbox) collect(now time.Duration) (batch []*Record, bucket time.Duration, gone []outcome) {
	if o.next != nil || o.handing != handingNothing || o.holding {
		return nil, 0, nil
	}
	o.pausing = keep(o.pausing, func(l *lane) bool {
		if now < l.resume {
			return true
		}
		l.resume = 0
		o.markReady(l)
		return false
	})
	var hungry []*lane
	rest := o.ready[:0]
	for _, l := range o.ready {
		l.ready = false
		if l.draining || now < l.resume {
			continue
		}
		for r := l.peek(); r != nil && l.room(r, o.settings); r = l.peek() {
			if o.tooOld(r) {
				l.pop()
				gone = append(gone, o.dropOld(l, r))
				continue
			}
			due := o.deadline(r, now).Truncate(time.Second) + time.Second
			if bucket == 0 {
				bucket = due
			} else if due != bucket {
				l.ready = true
				break
			}
			l.pop()
			l.launch(r)
			o.waiting--
			o.sending++
			batch = append(batch, r)
		}
		if l.ready {
			rest = append(rest, l)
		}
		if l.durable {
			hungry = append(hungry, l)
		}
	}
	clear(o.ready[len(rest):])
	o.ready = rest
	for _, l := range hungry { // which may add to ready
		o.listRead(l)
	}
	return batch, bucket, gone
}

// tooOld says whether a record has been on disk for longer than it may.
func (o *Outbox) tooOld(r *Record) bool {
	return o.settings.MaxAge > 0 && r.lane.durable && r.Lifetime == 0 && time.Since(r.Accepted) > o.settings.MaxAge
}

// dropOld makes a dead letter of a record that is too old.
func (o *Outbox) dropOld(l *lane, r *Record) outcome {
	o.waiting--
	if r.position != 0 {
		l.cached--
	}
	o.bury(r, ReasonTooOld, nil)
	return o.settle(l, r, ReasonTooOld, nil)
}

// done is the client's answer for one record.
func (o *Outbox) done(r *Record, err error) {
	reason, permanent := o.judge(err)
	if out, settled := o.book(r, err, reason, permanent); settled {
		o.tell([]outcome{out})
	}
}

// book enters an answer into the account: settled with an outcome, or to be tried again.
func (o *Outbox) book(r *Record, err error, reason string, permanent bool) (out outcome, settled bool) {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	now := o.now()
	l := r.lane
	l.land(r)
	o.sending--
	settled = true
	kept := r.Lifetime == 0 && (l.durable || l.strictest >= Overflow)
	switch {
	case err == nil:
		reason = ""
		l.proven, l.failures = true, 0
	case permanent:
		// The broker has answered, so the way to it is good.
		l.proven, l.failures = true, 0
		if kept && o.spooling() {
			o.bury(r, reason, err)
		}
	case o.closing && !kept:
		reason = ReasonStopped
	case now >= o.due(r) && !kept:
		l.proven = false
		reason = ReasonExpired
	default:
		settled = false
		late := now >= o.due(r)
		l.takeBack(r)
		if late { // with r, which is older than all the others
			o.makeDurable(l)
		}
		o.dueAt(o.due(r))
		o.signal() // it may fall due before the rest comes back
		l.count.Retried++
		o.waiting++
	}
	if settled {
		if r.position != 0 {
			l.cached--
		}
		out = o.settle(l, r, reason, err)
	}
	o.afterAnswer(l, now)
	return out, settled
}

// judge asks the transport about a failure.
func (o *Outbox) judge(err error) (string, bool) {
	if err == nil {
		return "", false
	}
	o.mtx.Lock()
	transport := o.transport
	o.mtx.Unlock()
	return transport.Permanent(err)
}

// afterAnswer decides what an answer makes possible for its lane, and wakes the feeder only if there is something.
func (o *Outbox) afterAnswer(l *lane, now time.Duration) {
	if l.draining {
		if l.sending > 0 {
			return
		}
		l.putBack()
		l.failures++
		l.resume = now + o.backoff(l.failures)
		o.pausing = append(o.pausing, l)
		o.signal()
		return
	}
	switch {
	case o.next != nil && o.sending == 0:
		o.signal()
	case l.waiting() > 0 && l.sending <= o.settings.WindowRecords/2:
		o.markReady(l)
		o.signal()
	}
}

// backoff is the wait after so many failed rounds in a row.
func (o *Outbox) backoff(failures int) time.Duration {
	wait := max(o.settings.Backoff, 10*time.Millisecond)
	for range failures - 1 {
		if wait >= o.settings.BackoffMax {
			break
		}
		wait *= 2
	}
	return min(wait, max(o.settings.BackoffMax, 10*time.Millisecond))
}

// expire drops waiting records whose time is up, or has their lane written to disk if they must not be lost.
func (o *Outbox) expire(now time.Duration) []outcome {
	if o.expiry == 0 || now < o.expiry {
		return nil
	}
	var gone []outcome
	o.expiry = 0
	for _, l := range o.lanes {
		if !l.durable && l.strictest >= Overflow && l.overdue(now, o.due) {
			o.makeDurable(l)
		}
		late, again := l.expire(now, o.due)
		for _, r := range late {
			o.waiting--
			gone = append(gone, o.settle(l, r, ReasonExpired, nil))
		}
		if l.durable && len(late) > 0 {
			o.listRead(l)
		}
		if again != 0 && again != never {
			o.dueAt(again)
		}
	}
	return gone
}

// settle gives a record its outcome. It has left the lane's queues and the totals of waiting or sending already.
func (o *Outbox) settle(l *lane, r *Record, reason string, err error) outcome {
	out := outcome{record: r, reason: reason, err: err, release: !r.released}
	o.bytes -= int64(r.size())
	r.settled, r.released = true, true
	if r.position != 0 {
		l.done.set(r.position)
		o.moveOn(l)
	}
	if r.toWrite {
		l.unlist()
	}
	o.tally(l, reason, 1)
	o.rest(l)
	return out
}

// tally counts outcomes.
func (o *Outbox) tally(l *lane, reason string, n int) {
	if reason == "" {
		l.count.Acknowledged += uint64(n)
	} else {
		if l.count.Dropped == nil {
			l.count.Dropped = map[string]uint64{}
		}
		l.count.Dropped[reason] += uint64(n)
	}
	if o.idle != nil && o.empty() {
		close(o.idle)
		o.idle = nil
	}
}

// empty says whether there is nothing left that has no outcome.
func (o *Outbox) empty() bool { return o.waiting+o.sending+o.away == 0 }

// patience is how long the feeder may sleep if nobody wakes it.
func (o *Outbox) patience(now time.Duration) time.Duration {
	wait := time.Hour
	sooner := func(at time.Duration) {
		if at != 0 {
			wait = min(wait, max(at-now, 0))
		}
	}
	sooner(o.expiry)
	if o.next != nil {
		sooner(o.next.deadline)
	} else if o.handing == handingNothing {
		for _, l := range o.pausing {
			sooner(l.resume)
		}
	}
	return wait
}

// tell gives outcomes to those who wait for them, without the lock.
func (o *Outbox) tell(outcomes []outcome) {
	for i := range outcomes {
		out := &outcomes[i]
		if out.record == nil {
			o.observer.Dropped(out.topic, out.reason, out.records, out.err)
			continue
		}
		if out.release {
			o.gate.Release(out.record)
		}
		if out.reason != "" && !out.unknown {
			o.observer.Dropped(out.record.Topic, out.reason, 1, out.err)
		}
		if report := out.record.Report; report != nil {
			report(out.record, out.verdict())
		}
	}
}

// startSwap says which client is to be closed for the next one: the present one, once it is empty or out of patience.
func (o *Outbox) startSwap(now time.Duration) Transport {
	if o.next == nil || ((o.sending > 0 || o.handing != handingNothing) && now < o.next.deadline) {
		return nil
	}
	return o.transport
}

// finishSwap puts the next client in the place of the closed one.
func (o *Outbox) finishSwap() {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	o.transport, o.settings = o.next.transport, o.next.settings
	o.next = nil
	o.pausing = nil
	o.expiry = 0
	if o.waiting > 0 {
		o.expiry = o.now() // the timeout may be another: look at every queue again
	}
	for _, l := range o.lanes {
		l.proven, l.failures, l.resume = false, 0, 0
		if l.waiting() > 0 {
			o.markReady(l)
		}
	}
}

// shutDown ends the outbox from the feeder's goroutine: the client's answers come first, then what must not be lost is
// written to disk, then the rest is given up.
func (o *Outbox) shutDown() {
	o.shut(o.transport)
	o.awaitSend()
	o.relief.Stop()
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

// giveUp ends the account of whatever still waits: what is on disk stays there, the rest is dropped.
func (o *Outbox) giveUp() {
	var gone []outcome
	o.mtx.Lock()
	for _, l := range o.lanes {
		durable := l.durable
		for _, r := range slices.Concat(l.takeAll(), o.writing.of(l), l.write) {
			if r.settled {
				continue
			}
			o.waiting--
			switch {
			case r.position != 0:
				l.cached--
				o.away++
			case durable && r.Staged != nil && !r.released: // the next run finds it where it was staged
				l.left++
			case r.purged:
				gone = append(gone, o.settle(l, r, ReasonPurged, nil))
				continue
			case r.givenUp:
				gone = append(gone, o.settle(l, r, ReasonSpoolFull, nil))
				continue
			default:
				gone = append(gone, o.settle(l, r, ReasonStopped, nil))
				continue
			}
			r.settled = true
			gone = append(gone, outcome{record: r, spooled: true})
		}
		for _, wanted := range l.reports {
			gone = append(gone, outcome{record: wanted.stand(l), spooled: true})
		}
		l.write, l.behind, l.reports = nil, 0, nil
	}
	o.mtx.Unlock()
	o.tell(gone)
}

// DroppedError is the outcome of a record that the outbox itself dropped: the reason.
type DroppedError string

// Error implements error.
func (e DroppedError) Error() string { return string(e) }

// keep filters lanes in place.
func keep(lanes []*lane, wanted func(*lane) bool) []*lane {
	kept := lanes[:0]
	for _, l := range lanes {
		if wanted(l) {
			kept = append(kept, l)
		}
	}
	clear(lanes[len(kept):])
	return kept
}
