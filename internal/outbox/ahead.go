package outbox

import "reskafka/internal/record"

// leaveMemory handles a waiting record from now on only on disk.
func (o *Outbox) leaveMemory(l *lane, r *entry) {
	o.waiting--
	o.away++
	o.bytes -= int64(r.Size())
	if r.Report != nil {
		if l.reports == nil {
			l.reports = map[uint64]report{}
		}
		l.reports[r.position] = report{r.Report, r.Opaque}
	}
}

// evict removes records also on disk from the end of the queue, while memory is too full or the records will
// not be sent soon: a record in memory pins a whole staging block there, with records of other topics.
func (o *Outbox) evict(l *lane) {
	if len(l.write) > l.behind { // the next record to send from memory will be behind
		return
	}
	for n := len(l.queue); n-l.head > readAhead && (o.half() || l.failures > 0); n-- {
		r := l.queue[n-1]
		if r.position == 0 || r.position+1 != l.read {
			return
		}
		l.queue[n-1] = nil
		l.queue = l.queue[:n-1]
		l.read = r.position
		l.cached--
		o.leaveMemory(l, r)
	}
}

// loaded enters the records read by the keeper from a lane's log: records up to position next, except damaged
// records.
func (o *Outbox) loaded(l *lane, records []*record.Record, positions []uint64, next uint64) (gone []outcome) {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	at := l.read
	var room []entry
	for i := range records {
		if len(room) == 0 {
			room = make([]entry, min(chunkRecords, len(records)-i))
		}
		r := &room[0]
		room = room[1:]
		r.Record = *records[i]
		gone = append(gone, o.lost(l, at, positions[i], record.ReasonDamaged)...)
		at = positions[i] + 1
		r.Topic, r.Hold, r.lane, r.position, r.born, r.released = l.topic, &l.withdrawn, l, positions[i], o.now(), true
		l.place(r)
		if wanted, ok := l.reports[r.position]; ok {
			delete(l.reports, r.position)
			r.Report, r.Opaque = wanted.tell, wanted.opaque
		}
		l.queue = append(l.queue, r)
		l.cached++
		o.waiting++
		o.away--
		o.bytes += int64(r.Size())
	}
	gone = append(gone, o.lost(l, at, next, record.ReasonDamaged)...)
	l.read = next
	o.moveOn(l)
	o.markReady(l)
	o.promote(l)
	o.rest(l)
	return gone
}

// lost drops records on disk only, from one position up to another: only the number and the receivers of
// reports are known.
func (o *Outbox) lost(l *lane, from, to uint64, reason string) (gone []outcome) {
	if from >= to {
		return nil
	}
	n := int(to - from)
	for p := from; p < to; p++ {
		l.done.set(p)
		if wanted, ok := l.reports[p]; ok {
			delete(l.reports, p)
			gone = append(gone, outcome{record: wanted.stand(l), reason: reason, unknown: true})
		}
	}
	o.away -= n
	o.tally(l, reason, n)
	return append(gone, outcome{topic: l.topic, reason: reason, records: n})
}

// promote makes records behind ready once no earlier record is left: records in memory need not wait for the
// disk. In half-full memory promote is limited to the size of a queue, because a queued record stays until
// sent, even after its loss on disk.
func (o *Outbox) promote(l *lane) {
	if l.behind == 0 || l.read < l.next {
		return
	}
	most := l.behind
	if o.half() {
		if most = readAhead; o.settings.QueueRecords > 0 {
			most = min(most, max(1, o.settings.QueueRecords/2))
		}
		most -= l.ahead()
	}
	before := l.behind
	for _, part := range [][]*entry{o.writing.of(l), l.write} {
		for _, r := range part {
			if before-l.behind >= most {
				break
			}
			if r.behind {
				r.behind = false
				l.behind--
				l.place(r) // after records read from disk meanwhile
				l.queue = append(l.queue, r)
			}
		}
	}
	if l.behind < before {
		o.markReady(l)
		o.signal()
	}
}

// listRead has the keeper read on when the lane is about to run out of records to send.
func (o *Outbox) listRead(l *lane) {
	switch {
	case l.listed.read || l.ahead() >= readAhead || (l.ahead() > 0 && o.half()):
	case l.read < l.next:
		l.listed.read = true
		o.chores.read = append(o.chores.read, l)
		o.nudge()
	default:
		o.promote(l)
	}
}
