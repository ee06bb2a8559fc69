package produce

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// tickLeast is the shortest interval between two looks at all partitions: in a cluster in trouble each
// partition has a different time.
const tickLeast = 5 * time.Millisecond

// expireBy sets the alarm for a deadline.
func (p *Producer) expireBy(deadline time.Time) {
	if deadline.IsZero() {
		return
	}
	if p.expires.IsZero() || deadline.Before(p.expires) {
		p.expires = deadline
	}
	p.alarm(p.expires)
}

// alarm has tick called at a time, or earlier.
func (p *Producer) alarm(at time.Time) {
	if p.wakeAt.IsZero() || at.Before(p.wakeAt) {
		p.wakeAt = at
		p.timer.Reset(max(at.Sub(p.now()), tickLeast))
	}
}

// due takes the steps due now.
func (p *Producer) due() (ended []outcome) {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	p.wakeAt = time.Time{}
	if p.closed {
		return nil
	}
	now := p.now()
	pausing := p.pausing
	p.pausing = nil
	for _, part := range pausing {
		part.pausing = false
		p.offer(part)
	}
	if past(p.expires, now) {
		p.expires = time.Time{}
		ended = p.expireAll(now)
	} else {
		p.expireBy(p.expires)
	}
	p.dispatchAll()
	p.maybeRecalled()
	return ended
}

// expireAll hands back the records with a past deadline, and sets the alarm for the next deadline.
func (p *Producer) expireAll(now time.Time) (ended []outcome) {
	for _, t := range p.topics {
		ended = append(ended, p.expireArrivals(t, now)...)
		for _, part := range t.partitions {
			ended = append(ended, p.expire(part, now)...)
		}
	}
	return ended
}

func past(deadline, now time.Time) bool { return !deadline.IsZero() && !now.Before(deadline) }

func (p *Producer) expireArrivals(t *topic, now time.Time) []outcome {
	late := func(a arrival) bool { return past(a.deadline, now) }
	if !slices.ContainsFunc(t.arrivals, late) {
		for _, a := range t.arrivals {
			p.expireBy(a.deadline)
		}
		return nil
	}
	return p.handBackArrivals(t, func(a arrival) error {
		if late(a) {
			return cmp.Or(t.trouble, context.DeadlineExceeded)
		}
		return errHeldBack
	})
}

// expire hands back a partition's batches with a past deadline, in order. With idempotence a batch possibly
// at a broker stays: a repetition as another record could be a duplicate.
func (p *Producer) expire(part *partition, now time.Time) []outcome {
	for i, b := range part.queue {
		if !past(b.deadline, now) {
			p.expireBy(b.deadline)
			continue
		}
		if !p.free(part, i) {
			continue
		}
		err := b.refusal
		if err == nil && part.leader == nil {
			err = part.topic.trouble
		}
		err = cmp.Or(err, context.DeadlineExceeded)
		return p.handBack(part, i, err, errHeldBack)
	}
	return nil
}

// free reports whether a partition's batches may be given up, starting at `from`: no broker can have them, or
// a duplicate is allowed. Unwritten requests are recalled.
func (p *Producer) free(part *partition, from int) bool {
	if p.idempotent && from < p.kept(part) {
		return false
	}
	return part.unsend(from) == from || !p.idempotent
}
