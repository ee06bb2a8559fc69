package kafka

import (
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/internal/outbox"
)

// runs settle the records of an acknowledged batch together: an outcome takes locks and wakes goroutines, which costs
// more than the rest of a record's way if it is done for each. kgo makes the promises of a batch one after the other,
// without saying which is the last. What it has put into a batch for certain is known from order.lastWith; records behind
// that have their outcomes one by one.
type runs struct {
	acknowledge atomic.Pointer[func([]*outbox.Record)] // by AcknowledgeBy

	// Of the goroutine that makes the promises.
	first, latest *attempt // of the run that has begun, or nil
	end           uint64   // the place of its last
	records       []*outbox.Record
	ends          []batchEnd
}

// batchEnd is how many attempts of a batch have ended.
type batchEnd struct {
	batch *batch
	n     int32
}

// AcknowledgeBy has the producer tell acknowledge of records that were acknowledged together, instead of the done of
// their Send. acknowledge must not keep the slice, and must not block. It is for all Sends from then on.
func (p *Producer) AcknowledgeBy(acknowledge func(records []*outbox.Record)) {
	p.runs.acknowledge.Store(&acknowledge)
}

// take makes a record part of a run, if it can be, and ends the run with it if it is the last.
func (s *runs) take(p *Producer, a *attempt, err error) bool {
	if s.first != nil && (err != nil || s.latest.next != a) { // cannot be, while a batch has one outcome
		s.finish(p)
	}
	if s.first == nil {
		if err != nil || a.last <= a.place || a.chunk.Load() != nil {
			return false
		}
		s.first, s.end = a, a.last
		a.order.acknowledged(a)
	}
	if s.latest = a; a.place == s.end {
		s.finish(p)
	}
	return true
}

// finish gives the records of a run their outcome.
func (s *runs) finish(p *Producer) {
	first, latest := s.first, s.latest
	s.first, s.latest = nil, nil
	p.status.acknowledged.Store(p.now().UnixNano())
	n := int(latest.place - first.place + 1)
	for a := first; ; a = a.next {
		s.add(p, a)
		if a == latest {
			break
		}
	}
	if acknowledge := s.acknowledge.Load(); acknowledge != nil && len(s.records) > 0 {
		(*acknowledge)(s.records)
	}
	first.order.leaveTogether(first, n)
	for _, e := range s.ends {
		if e.batch.left.Add(-e.n) == 0 {
			p.retire(e.batch)
		}
	}
	clear(s.records)
	clear(s.ends)
	s.records, s.ends = s.records[:0], s.ends[:0]
}

// add ends one attempt of a run.
func (s *runs) add(p *Producer, a *attempt) {
	if a.settled.Swap(true) {
		return
	}
	p.placed(a)
	if s.acknowledge.Load() != nil {
		s.records = append(s.records, a.record)
	} else {
		a.batch.done(a.record, nil)
	}
	if i := len(s.ends) - 1; i >= 0 && s.ends[i].batch == a.batch {
		s.ends[i].n++
	} else {
		s.ends = append(s.ends, batchEnd{a.batch, 1})
	}
}

// weight is the most that a record adds to a batch, in bytes: in the old format, in which the client counts until it has
// heard of the broker's version, 38 besides key and value; in the new one 30, with 6 for a time that is up to 69 years
// from that of the batch, and 10 for each header.
func weight(r *kgo.Record) uint64 {
	n := 38 + len(r.Key) + len(r.Value)
	for i := range r.Headers {
		n += 10 + len(r.Headers[i].Key) + len(r.Headers[i].Value)
	}
	return uint64(n)
}

// lastWith is the place of the last record that is certain to be in one batch with a, which kgo is about to send as the
// first of its batch: kgo puts what fits into a batch until it sends it. It may have put more. The caller holds the
// order's mutex, and kgo the partition's.
func (o *order) lastWith(p *place, a *attempt) uint64 {
	most := a.upTo - weight(&a.kgo) + o.batchBytes
	if p.tail != nil && p.tail.upTo <= most {
		return p.entered
	}
	last := a
	for last.next != nil && last.next.upTo <= most {
		last = last.next
	}
	return last.place
}

// acknowledged notes that a broker has acknowledged the batch that begins with a, before its records leave.
func (o *order) acknowledged(a *attempt) {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	o.partitions[a.partition].acked = a.last
	o.settled.Broadcast()
}

// leaveTogether is leave for n acknowledged records, of which a is the first.
func (o *order) leaveTogether(a *attempt, n int) {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	o.gone(&o.partitions[a.partition], n)
}
