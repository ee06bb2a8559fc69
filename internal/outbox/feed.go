package outbox

import "time"

// outcome is what became of one record, carried out of the locked part to be told to the gate, the record's owner and
// the observer.
type outcome struct {
	record *Record
	reason string // empty = acknowledged
	err    error
}

// feed is the feeder: the only goroutine that sends, so that records enter the client in their order.
func (o *Outbox) feed() {
	defer close(o.stopped)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		now := time.Now()
		o.mtx.Lock()
		if o.closing {
			o.mtx.Unlock()
			o.shutDown()
			return
		}
		expired := o.expire(now)
		old := o.startSwap(now)
		var batch []*Record
		var due time.Time
		if old == nil {
			batch, due = o.collect(now)
		}
		wait := o.patience(now)
		transport := o.transport
		o.mtx.Unlock()

		o.tell(expired)
		switch {
		case old != nil:
			old.Close() // every done call it owes puts a record back
			o.finishSwap()
		case len(batch) > 0:
			transport.Send(batch, due, o.done)
		default:
			timer.Reset(wait)
			select {
			case <-o.wake:
			case <-timer.C:
			}
		}
	}
}

// collect moves records that may be sent now from their lanes to the client's account. All of one batch fall due in
// the same second, so that the client needs one deadline for them.
func (o *Outbox) collect(now time.Time) ([]*Record, time.Time) {
	if o.next != nil {
		return nil, time.Time{}
	}
	o.pausing = keep(o.pausing, func(l *lane) bool {
		if now.Before(l.resume) {
			return true
		}
		l.resume = time.Time{}
		o.markReady(l)
		return false
	})
	var batch []*Record
	var bucket time.Time
	rest := o.ready[:0]
	for _, l := range o.ready {
		l.ready = false
		if l.draining || now.Before(l.resume) {
			continue
		}
		for r := l.peek(); r != nil && l.room(r, o.settings); r = l.peek() {
			due := o.due(r).Truncate(time.Second).Add(time.Second)
			if bucket.IsZero() {
				bucket = due
			} else if !due.Equal(bucket) {
				l.ready = true
				break
			}
			l.pop()
			l.sending++
			l.sendingBytes += r.size()
			batch = append(batch, r)
		}
		if l.ready {
			rest = append(rest, l)
		}
	}
	clear(o.ready[len(rest):])
	o.ready = rest
	o.waiting -= len(batch)
	o.sending += len(batch)
	return batch, bucket
}

// done is the client's answer for one record.
func (o *Outbox) done(r *Record, err error) {
	now := time.Now()
	o.mtx.Lock()
	l := r.lane
	l.sending--
	l.sendingBytes -= r.size()
	o.sending--
	out := outcome{record: r, err: err}
	settled := true
	switch reason, permanent := o.judge(err); {
	case err == nil:
		l.proven, l.failures = true, 0
	case permanent:
		// The broker has answered, so the way to it is good.
		l.proven, l.failures = true, 0
		out.reason = reason
	case o.closing:
		out.reason = ReasonStopped
	case !now.Before(o.due(r)):
		l.proven = false
		out.reason = ReasonExpired
	default:
		settled = false
		l.returned = append(l.returned, r)
		l.draining, l.proven = true, false
		l.count.Retried++
		o.waiting++
	}
	if settled {
		o.settle(l, out.reason)
	}
	o.afterAnswer(l, now)
	o.mtx.Unlock()
	if settled {
		o.tell([]outcome{out})
	}
}

// judge asks the transport about a failure.
func (o *Outbox) judge(err error) (string, bool) {
	if err == nil {
		return "", false
	}
	return o.transport.Permanent(err)
}

// afterAnswer decides what an answer makes possible for its lane, and wakes the feeder only if there is something.
func (o *Outbox) afterAnswer(l *lane, now time.Time) {
	if l.draining {
		if l.sending > 0 {
			return
		}
		l.putBack()
		if due := o.due(l.front[0]); o.expiry.IsZero() || due.Before(o.expiry) {
			o.expiry = due
		}
		l.failures++
		l.resume = now.Add(o.backoff(l.failures))
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

// expire drops waiting records whose time is up. Queues are in the order of being accepted and so, but for a record
// with a lifetime of its own, in the order of falling due: looking at the heads is enough.
func (o *Outbox) expire(now time.Time) []outcome {
	if o.expiry.IsZero() || now.Before(o.expiry) {
		return nil
	}
	var gone []outcome
	o.expiry = time.Time{}
	for _, l := range o.lanes {
		for r := l.peek(); r != nil; r = l.peek() {
			if due := o.due(r); now.Before(due) {
				if o.expiry.IsZero() || due.Before(o.expiry) {
					o.expiry = due
				}
				break
			}
			l.pop()
			o.waiting--
			o.settle(l, ReasonExpired)
			gone = append(gone, outcome{record: r, reason: ReasonExpired})
		}
	}
	return gone
}

// settle books an outcome. The record has left the lane's queues and the totals of waiting or sending already.
func (o *Outbox) settle(l *lane, reason string) {
	if reason == "" {
		l.count.Acknowledged++
	} else {
		if l.count.Dropped == nil {
			l.count.Dropped = map[string]uint64{}
		}
		l.count.Dropped[reason]++
	}
	if o.idle != nil && o.waiting+o.sending == 0 {
		close(o.idle)
		o.idle = nil
	}
}

// patience is how long the feeder may sleep if nobody wakes it.
func (o *Outbox) patience(now time.Time) time.Duration {
	wait := time.Hour
	sooner := func(at time.Time) {
		if !at.IsZero() {
			wait = min(wait, max(at.Sub(now), 0))
		}
	}
	sooner(o.expiry)
	if o.next != nil {
		sooner(o.next.deadline)
	} else {
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
		o.gate.Release(1, out.record.Charge)
		if out.reason != "" {
			o.observer.Dropped(out.record.Topic, out.reason, 1, out.err)
		}
		if report := out.record.Report; report != nil {
			switch {
			case out.reason == "":
				report(nil)
			case out.err != nil:
				report(out.err)
			default:
				report(DroppedError(out.reason))
			}
		}
	}
}

// startSwap says which client is to be closed for the next one: the present one, once it is empty or out of patience.
func (o *Outbox) startSwap(now time.Time) Transport {
	if o.next == nil || (o.sending > 0 && now.Before(o.next.deadline)) {
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
	o.expiry = time.Now() // the timeout may be another: look at every queue again
	if o.waiting == 0 {
		o.expiry = time.Time{}
	}
	for _, l := range o.lanes {
		l.proven, l.failures, l.resume = false, 0, time.Time{}
		if l.waiting() > 0 {
			o.markReady(l)
		}
	}
}

// shutDown ends the outbox from the feeder's goroutine: the client's answers come first, then the rest is given up.
func (o *Outbox) shutDown() {
	o.transport.Close()
	o.mtx.Lock()
	next := o.next
	o.next = nil
	o.ended = true
	o.mtx.Unlock()
	if next != nil {
		next.transport.Close()
	}
	o.giveUp()
}

// giveUp drops whatever still waits.
func (o *Outbox) giveUp() {
	var gone []outcome
	o.mtx.Lock()
	for _, l := range o.lanes {
		for r := l.peek(); r != nil; r = l.peek() {
			l.pop()
			o.waiting--
			o.settle(l, ReasonStopped)
			gone = append(gone, outcome{record: r, reason: ReasonStopped})
		}
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
