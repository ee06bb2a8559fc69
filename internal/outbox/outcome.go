package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"reskafka/internal/metrics"
	"reskafka/internal/record"
)

// outcome is the outcome of a record, for the calls to the gate, the record's owner and the observer outside
// the lock.
type outcome struct {
	record *entry // nil: of unknown records
	reason string // empty = acknowledged
	err    error

	dead    bool   // became a dead letter
	release bool   // the stage may release the record
	spooled bool   // no outcome, but the end: the record stays on disk
	unknown bool   // the record stands for a record counted as unknown
	topic   string // without a record: the topic of the records,
	records int    // and how many
}

// verdict returns the outcome as an error. For a drop by the outbox itself, errors.Is finds the DroppedError,
// and the client's last error is added unless redundant.
func (out *outcome) verdict() error {
	switch {
	case out.spooled:
		return record.ErrSpooled
	case out.reason == "":
		return nil
	case out.dead:
		return &record.DeadError{Reason: out.reason, Cause: out.err}
	case out.err == nil, out.reason == record.ReasonStopped:
		return record.DroppedError(out.reason)
	case out.reason != record.ReasonExpired:
		return out.err
	case errors.Is(out.err, context.DeadlineExceeded):
		return record.DroppedError(out.reason)
	}
	return fmt.Errorf("%w (%w)", record.DroppedError(out.reason), out.err)
}

// tooOld reports whether a record has exceeded its time on disk. The spool's clock counts, which no user can
// set.
func (o *Outbox) tooOld(r *entry) bool {
	return o.settings.MaxAge > 0 && r.position != 0 && o.spool != nil && o.spool.Now()-r.Stored > o.settings.MaxAge
}

// buryOld makes a too old record a dead letter.
func (o *Outbox) buryOld(l *lane, r *entry) outcome {
	o.waiting--
	if r.position != 0 {
		l.cached--
	}
	return o.bury(l, r, record.ReasonTooOld, fmt.Errorf("waited %s on disk, longer than spool_max_hours = %g",
		(o.spool.Now()-r.Stored).Truncate(time.Second), o.settings.MaxAge.Hours()))
}

// settle assigns a record its outcome. The record must have left the lane's queues and the totals of waiting
// and sending.
func (o *Outbox) settle(l *lane, r *entry, reason string, err error) outcome {
	n := 1
	if r.Probe {
		n = 0
	}
	o.tally(l, reason, n)
	return o.conclude(l, outcome{record: r, reason: reason, err: err})
}

// conclude ends everything about a record except its count.
func (o *Outbox) conclude(l *lane, out outcome) outcome {
	r := out.record
	out.release = !r.released
	o.bytes -= int64(r.Size())
	if r.Probe {
		l.probes--
	}
	r.settled, r.released = true, true
	if r.position != 0 {
		l.done.set(r.position)
		o.moveOn(l)
	}
	if r.toWrite {
		l.unlist()
	}
	if o.idle != nil && o.empty() {
		close(o.idle)
		o.idle = nil
	}
	o.rest(l)
	return out
}

// tally counts outcomes.
func (o *Outbox) tally(l *lane, reason string, n int) {
	switch {
	case reason == "":
		l.count.Add(metrics.RecordsAcknowledged, n)
	case n > 0:
		l.count.AddFor(metrics.RecordsDropped, reason, n)
	}
	if o.idle != nil && o.empty() {
		close(o.idle)
		o.idle = nil
	}
}

// empty reports whether no record without an outcome is left.
func (o *Outbox) empty() bool { return o.waiting+o.sending+o.away == 0 }

// tell reports outcomes to their receivers, without the lock.
func (o *Outbox) tell(outcomes []outcome) {
	var observed []outcome
	for i := range outcomes {
		observed = outcomes[i].addUp(observed)
	}
	for i := range observed {
		if out := &observed[i]; out.dead {
			o.observer.Died(out.topic, out.reason, out.records, out.err)
		} else {
			o.observer.Dropped(out.topic, out.reason, out.records, out.err)
		}
	}
	for i := range outcomes {
		out := &outcomes[i]
		if out.record == nil {
			continue
		}
		if out.release {
			o.gate.Release(&out.record.Record)
		}
		if report := out.record.Report; report != nil {
			report(&out.record.Record, out.verdict())
		}
	}
}

// addUp adds an outcome to the observer's outcomes: one for each topic and reason, with the first error.
func (out *outcome) addUp(observed []outcome) []outcome {
	if out.reason == "" || out.unknown || out.spooled {
		return observed
	}
	topic, records := out.topic, out.records
	if r := out.record; r != nil {
		if topic, records = r.Topic, 1; r.Probe {
			return observed
		}
	}
	for i := range observed {
		if same := &observed[i]; same.topic == topic && same.reason == out.reason && same.dead == out.dead {
			same.records += records
			return observed
		}
	}
	return append(observed, outcome{topic: topic, records: records, reason: out.reason, err: out.err, dead: out.dead})
}
