package produce

// Underway is how many batches brokers may have without having said so. At 0 the brokers have nothing that this client does not
// know of: to close it then costs no duplicate. Without idempotence what was lost with its connection does not count: the client
// itself would send it once more. It does not block.
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

// kept is how many of the partition's first batches have to stay with this client for now: one that a broker is being asked to
// take, and with idempotence the pieces of one in doubt.
func (p *Producer) kept(part *partition) (n int) {
	if len(part.queue) > 0 && part.flight != nil && part.flight.state.Load() == departed {
		n = 1
	}
	for p.idempotent && n < len(part.queue) && part.queue[n].doubtful {
		n++
	}
	return n
}

// Recall asks for all records back, for another client to carry them. Those no broker can have come back with ErrClosed as
// their outcome, and so do those that Send brings from now on; for the others the client goes on asking, and it
// closes itself when there are none left. With idempotence it so returns no record that may be on a broker, and whoever
// waits for it sends nothing twice; a broker that does not answer can make that take for ever, which Close ends. Without idempotence it
// waits for answers that can still come. It does not block.
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
			from := 0
			if len(part.queue) > 0 && !p.free(part) {
				from = 1
			}
			from = max(from, p.kept(part))
			ended = append(ended, p.handBack(part, from, ErrClosed, ErrClosed)...)
		}
	}
	p.maybeRecalled()
	return ended
}

// maybeRecalled closes a client that was recalled once it has nothing left.
func (p *Producer) maybeRecalled() {
	if p.recalled && !p.closed && p.inside == 0 {
		go p.Close()
	}
}
