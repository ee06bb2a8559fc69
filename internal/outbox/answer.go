package outbox

import (
	"errors"
	"time"

	"reskafka/internal/metrics"
	"reskafka/internal/record"
)

// groupGate is an optional interface of a Gate: Release for many records at once.
type groupGate interface {
	ReleaseAll(records []*record.Record)
}

// answered is the client's answer for records of one topic.
func (o *Outbox) answered(records []*record.Record, err error) {
	if err != nil {
		o.failed(records, err)
		return
	}
	release, reports := o.acknowledged(records)
	o.releaseAll(release)
	if reports {
		for _, r := range records {
			if r.Report != nil {
				r.Report(r, nil)
			}
		}
	}
	o.mtx.Lock()
	o.spare.letGoAll(entriesOf(records))
	o.mtx.Unlock()
}

// releaseAll passes records to the gate.
func (o *Outbox) releaseAll(records []*record.Record) {
	if gate, ok := o.gate.(groupGate); ok {
		gate.ReleaseAll(records)
		return
	}
	for _, r := range records {
		o.gate.Release(r)
	}
}

// acknowledged enters acknowledged records of one topic into the account. It returns the records for the gate,
// and whether any wants a report.
func (o *Outbox) acknowledged(records []*record.Record) (release []*record.Record, reports bool) {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	l := entryOf(records[0]).lane
	release = records
	counted := len(records)
	var durable []*record.Record // records to release, if not all
	for i, sent := range records {
		r := entryOf(sent)
		l.land(r)
		o.bytes -= r.sent
		if r.Probe {
			l.probes--
			counted--
		}
		reports = reports || r.Report != nil
		switch {
		case !r.released && durable != nil:
			durable = append(durable, sent)
		case r.released && durable == nil:
			durable = append(make([]*record.Record, 0, len(records)), records[:i]...)
		}
		r.settled, r.released = true, true
		if r.position != 0 {
			l.cached--
			l.done.set(r.position)
		}
		if r.toWrite {
			l.unlist()
		}
	}
	if durable != nil {
		release = durable
	}
	o.sending -= len(records)
	l.proven, l.failures, l.refusal = true, 0, nil
	o.moveOn(l)
	o.tally(l, "", counted)
	o.rest(l)
	o.afterAnswer(l, o.now())
	return release, reports
}

// failed enters an answer other than an acknowledgement: each record gets an outcome, or is tried again.
func (o *Outbox) failed(records []*record.Record, err error) {
	o.mtx.Lock()
	transport := o.transport
	o.mtx.Unlock()
	reason, permanent := transport.Permanent(err)

	var ended []outcome
	var release []*record.Record
	o.mtx.Lock()
	now, l := o.now(), entryOf(records[0]).lane
	for _, sent := range records {
		r := entryOf(sent)
		if out, settled := o.book(r, now, err, reason, permanent); settled {
			ended = append(ended, out)
		} else if out.release {
			release = append(release, sent)
		}
	}
	o.afterAnswer(l, now)
	o.mtx.Unlock()
	if len(release) > 0 {
		o.releaseAll(release)
	}
	o.dismiss(ended)
}

// book enters a record's failure into the account: settled with an outcome, or to be tried again.
func (o *Outbox) book(r *entry, now time.Duration, err error, reason string, permanent bool) (out outcome, settled bool) {
	l := r.lane
	l.land(r)
	o.sending--
	refused := refusalOf(err)
	kept := r.Lifetime == 0 && (l.durable || l.strictest >= record.Overflow)
	switch {
	case permanent:
		// The broker has answered, so the topic is reachable.
		l.proven, l.failures = true, 0
	case r.Lifetime > 0 && refused != "":
		reason = refused
	case o.closing && !kept:
		reason = record.ReasonStopped
	case now >= o.due(r) && !kept:
		l.proven = false
		reason = record.ReasonExpired
	default:
		return o.again(r, now, err, refused), false
	}
	if r.position != 0 {
		l.cached--
	}
	if permanent && kept && o.spooling() {
		return o.bury(l, r, reason, err), true
	}
	return o.settle(l, r, reason, err), true
}

// again takes a record back for another attempt. release: the gate may release the record.
func (o *Outbox) again(r *entry, now time.Duration, err error, refused string) (out outcome) {
	l := r.lane
	late := now >= o.due(r)
	if refused != "" {
		l.refusal = err
	}
	l.takeBack(r)
	if (r.position != 0 || r.givenUp != notGivenUp) && !r.released { // written meanwhile, see written
		r.released, out.release = true, true
	}
	if late { // together with r, the oldest
		o.makeDurable(l)
	}
	o.dueAt(o.due(r))
	o.signal() // may expire before the rest is back
	if !r.Probe {
		l.count.Add(metrics.RecordsRetried, 1)
	}
	o.waiting++
	return out
}

// refusalOf is the reason of a Refusal, or nothing.
func refusalOf(err error) string {
	if r, ok := errors.AsType[Refusal](err); ok {
		return r.Refused()
	}
	return ""
}
