package produce

// Underway returns the number of batches possibly at brokers without an answer. At 0, all records at brokers
// are known to this client, and a close causes no duplicate. Without idempotence, requests lost with their
// connection do not count: the client would send these records again. Underway never blocks.
func (p *Producer) Underway() int {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	n := 0
	for _, t := range p.topics {
		for _, part := range t.partitions {
			n += p.kept(part)
		}
	}
	return n
}

// kept returns how many of the partition's first batches must stay with this client for now: up to the last
// batch in a written request or, with idempotence, in doubt.
func (p *Producer) kept(part *partition) int {
	for n := len(part.queue); n > 0; n-- {
		if b := part.queue[n-1]; b.written() || p.idempotent && b.doubtful {
			return n
		}
	}
	return 0
}

// Recall asks for the return of all records, for another client. Records certainly at no broker return with
// ErrClosed as the outcome, and so do records of later Sends. The client continues to send all other records,
// and closes after the last. With idempotence, Recall returns no record possibly at a broker, and no record
// is sent twice. An unresponsive broker can make the wait endless; Close ends the wait. Without idempotence,
// the client waits for answers still possible. Recall never blocks.
func (p *Producer) Recall() { p.deliver(p.recall()) }

func (p *Producer) recall() (ended []outcome) {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	if p.recalled || p.closed {
		return nil
	}
	p.recalled = true
	for _, t := range p.topics {
		ended = append(ended, p.handBackArrivals(t, func(arrival) error { return ErrClosed })...)
		for _, part := range t.partitions {
			from := part.unsend(p.kept(part))
			ended = append(ended, p.handBack(part, from, ErrClosed, ErrClosed)...)
		}
	}
	p.maybeRecalled()
	return ended
}

// maybeRecalled closes a recalled client without records.
func (p *Producer) maybeRecalled() {
	if p.recalled && !p.closed && p.inside == 0 {
		go p.Close()
	}
}
