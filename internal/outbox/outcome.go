package outbox

import (
	"context"
	"errors"
	"fmt"
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

// DroppedError is the outcome of a record that the outbox itself dropped: the reason.
type DroppedError string

// Error implements error.
func (e DroppedError) Error() string { return string(e) }
