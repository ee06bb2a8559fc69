package outbox

import "reskafka/internal/record"

// acknowledger is an optional interface of a Transport that reports jointly acknowledged records of one topic
// by a single call of acknowledge, instead of done. The call must not include a record from another outbox's
// Send. acknowledge does not block and does not keep the slice. The records are reused as after done.
type acknowledger interface {
	AcknowledgeBy(acknowledge func(records []*record.Record))
}

// groupGate is an optional interface of a Gate: Release for many records at once.
type groupGate interface {
	ReleaseAll(records []*record.Record)
}

// attend makes a capable transport report acknowledged records jointly.
func (o *Outbox) attend(t Transport) {
	if t, ok := t.(acknowledger); ok {
		t.AcknowledgeBy(o.acknowledged)
	}
}

// acknowledged is done for jointly acknowledged records of one topic: each costs only its own entry.
func (o *Outbox) acknowledged(records []*record.Record) {
	release, reports := o.bookAll(records)
	if gate, ok := o.gate.(groupGate); ok {
		gate.ReleaseAll(release)
	} else {
		for _, r := range release {
			o.gate.Release(r)
		}
	}
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

// bookAll enters acknowledged records of one topic into the account. It returns the records for the gate, and
// whether any wants a report.
func (o *Outbox) bookAll(records []*record.Record) (release []*record.Record, reports bool) {
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
