package outbox

import (
	"time"

	"reskafka/internal/record"
)

// step is the feeder's next action.
type step struct {
	closing   bool
	expired   []outcome
	old       Transport        // to close before the next client
	batch     []*record.Record // to be sent
	due       time.Duration
	wait      time.Duration // how long to sleep if there is nothing to do
	transport Transport
}

// feed is the feeder: it sends the rest of feedHere, and does all timed or blocking work.
func (o *Outbox) feed() {
	inSend := false
	defer o.guard(&inSend)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		s := o.decide()
		if s.closing {
			o.shutDown()
			close(o.stopped)
			return
		}
		o.dismiss(s.expired)
		switch {
		case s.old != nil:
			s.old.Close() // every outcome is reported
			o.awaitSend()
			o.finishSwap()
		case len(s.batch) > 0:
			inSend = true
			s.transport.Send(s.batch, o.epoch.Add(s.due))
			inSend = false
			o.sent()
		default:
			timer.Reset(s.wait)
			select {
			case <-o.wake:
			case <-timer.C:
			}
		}
	}
}

// decide returns the next action, and enters the start.
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
	if again := o.tidy(now); again != 0 {
		s.wait = min(s.wait, max(again-now, 0))
	}
	o.wakes = now + s.wait
	return s
}

// feedHere sends waiting records from the calling goroutine, because a wake-up of the feeder costs more than
// a small batch. A single goroutine sends at a time, so records enter the client in order. A concurrent
// Accept leaves its records to the sender. The caller must not be inside the transport.
func (o *Outbox) feedHere() {
	inSend := false
	defer o.guardSender(&inSend)
	for {
		s := o.decideHere()
		o.dismiss(s.expired)
		if len(s.batch) == 0 {
			return
		}
		inSend = true
		s.transport.Send(s.batch, o.epoch.Add(s.due))
		inSend = false
		o.sent()
	}
}

// decideHere is decide for feedHere, and wakes the feeder for work earlier than the feeder expects.
func (o *Outbox) decideHere() (s step) {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	if o.closing || o.next != nil {
		o.signal()
		return s
	}
	now := o.now()
	s.transport = o.transport
	s.batch, s.due, s.expired = o.collect(now)
	if o.waiting > 0 && now+o.patience(now) < o.wakes || o.spare.since == 0 && o.spare.surplus() {
		o.signal()
	}
	return s
}

// dismiss reports records permanently out of their lane and without later readers.
func (o *Outbox) dismiss(gone []outcome) {
	if len(gone) == 0 {
		return
	}
	o.tell(gone)
	o.mtx.Lock()
	defer o.mtx.Unlock()
	for i := range gone {
		if r := gone[i].record; r != nil {
			o.spare.letGo(r.chunk, 1)
		}
	}
}

// collect moves sendable records from their lanes to the client's account, and drops records too old on disk.
// All records of a batch have deadlines in the same second, so the client needs a single deadline.
func (o *Outbox) collect(now time.Duration) (batch []*record.Record, bucket time.Duration, gone []outcome) {
	if o.next != nil || o.handing || o.holding {
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
	w := o.window()
	rest := o.ready[:0]
	for _, l := range o.ready {
		l.ready = false
		if l.draining || now < l.resume {
			continue
		}
		for r := l.peek(); r != nil && l.room(r, w); r = l.peek() {
			if o.tooOld(r) {
				l.pop()
				gone = append(gone, o.buryOld(l, r))
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
			o.lend(r)
			if batch == nil {
				batch = make([]*record.Record, 0, min(o.waiting, o.batched+o.batched/8+8))
			}
			o.waiting--
			o.sending++
			batch = append(batch, &r.Record)
		}
		gone = append(gone, o.loseUnread(l)...)
		if l.ready {
			rest = append(rest, l)
		}
		if l.durable {
			hungry = append(hungry, l)
		}
	}
	clear(o.ready[len(rest):])
	o.ready = rest
	if len(batch) > 0 {
		o.batched, o.handing = len(batch), true
	}
	for _, l := range hungry { // which may add to ready
		o.listRead(l)
	}
	return batch, bucket, gone
}

// lend keeps a record for the client until its Send has returned.
func (o *Outbox) lend(r *entry) {
	if n := len(o.lent); r.chunk != nil && (n == 0 || o.lent[n-1] != r.chunk) {
		r.chunk.holds++
		o.lent = append(o.lent, r.chunk)
	}
}

// sent notes the return of Send.
func (o *Outbox) sent() {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	o.handing = false
	for _, c := range o.lent {
		o.spare.letGo(c, 1)
	}
	clear(o.lent)
	o.lent = o.lent[:0]
}

// awaitSend waits for the return of another goroutine's Send after the client's close.
func (o *Outbox) awaitSend() {
	for {
		o.mtx.Lock()
		handing := o.handing
		o.mtx.Unlock()
		if !handing {
			return
		}
		<-o.wake
	}
}

// tidy frees unused memory, and returns the time until the next check; 0 = no check needed.
func (o *Outbox) tidy(now time.Duration) (again time.Duration) {
	s := &o.spare
	if s.rests > 0 && s.since != 0 && now >= s.since+spareRest && o.waiting+o.sending == 0 {
		for _, l := range o.lanes {
			l.later.rest()
		}
	}
	return s.trim(now)
}

// afterAnswer decides the consequences of an answer for the lane, and wakes the feeder only if there are any.
func (o *Outbox) afterAnswer(l *lane, now time.Duration) {
	if l.draining {
		if l.sending > 0 {
			return
		}
		l.putBack()
		l.failures++
		wait := o.backoff(l.failures)
		if l.refusal != nil {
			wait = max(wait, refusalBackoff(l.failures))
		}
		l.resume = now + wait
		o.pausing = append(o.pausing, l)
		o.signal()
		return
	}
	switch {
	case o.next != nil && o.sending == 0:
		o.signal()
	case l.waiting() > 0 && l.sending <= o.window().records/2:
		o.markReady(l)
		o.signal()
	}
}

// farWindows is the number of usual windows for a far broker. One window of 20,000 records, over 100 ms, would limit
// a topic to 200,000 records a second.
const farWindows = 3

// clientLimit is the limit of one topic's records inside the client.
type clientLimit struct{ records, bytes int }

// window returns the present limit. Caller must hold mtx.
func (o *Outbox) window() clientLimit {
	n := 1
	if t, ok := o.transport.(distant); ok && t.Far() {
		n = farWindows
	}
	return clientLimit{n * o.settings.WindowRecords, n * o.settings.WindowBytes}
}

// backoff returns the wait after this number of failed rounds in a row.
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

// refusalBackoff returns the least wait after this number of refused rounds in a row. The connection works
// then, so the limits for reconnection, which may be 0, do not limit repeated requests to a refusing broker.
func refusalBackoff(failures int) time.Duration {
	return min(100*time.Millisecond<<min(failures-1, 4), time.Second)
}

// expire drops waiting records at their deadline, or makes the lane of undroppable records durable.
func (o *Outbox) expire(now time.Duration) []outcome {
	if o.expiry == 0 || now < o.expiry {
		return nil
	}
	var gone []outcome
	o.expiry = 0
	for _, l := range o.lanes {
		if !l.durable && l.strictest >= record.Overflow && l.overdue(now, o.due) {
			o.makeDurable(l)
		}
		late, again := l.expire(now, o.due)
		for _, r := range late {
			o.waiting--
			gone = append(gone, o.settle(l, r, record.ReasonExpired, l.refusal))
		}
		gone = append(gone, o.loseUnread(l)...)
		if l.durable && len(late) > 0 {
			o.listRead(l)
		}
		if again != 0 && again != never {
			o.dueAt(again)
		}
	}
	return gone
}

// patience returns the feeder's longest sleep without a wake-up.
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
	} else if !o.handing {
		for _, l := range o.pausing {
			sooner(l.resume)
		}
	}
	return wait
}

// startSwap returns the client to close before the next: the present client, once empty or out of patience.
func (o *Outbox) startSwap(now time.Duration) Transport {
	if o.next == nil || ((o.sending > 0 || o.handing) && now < o.next.deadline) {
		return nil
	}
	return o.transport
}

// finishSwap replaces the closed client with the next.
func (o *Outbox) finishSwap() {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	o.transport, o.settings = o.next.transport, o.next.settings
	o.transport.AnswerTo(o.answered)
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
