package kafka

import "time"

// retire takes a batch whose records all have their outcome off the books.
func (p *Producer) retire(b *batch) {
	p.mtx.Lock()
	closed := p.closed
	delete(p.live, b)
	p.maybeIdle()
	p.seal()
	p.mtx.Unlock()
	if !closed { // Close may be looking at all that it found alive
		p.reuse(b)
	}
}

// maybeIdle tells Close that nothing is under way any more. The caller holds mtx.
func (p *Producer) maybeIdle() {
	if p.closed && len(p.live) == 0 {
		select {
		case <-p.idle:
		default:
			close(p.idle)
		}
	}
}

// Close implements outbox.Transport: it gives up what is under way and returns within about a second, whatever the
// brokers do. Every record has its outcome by then, ErrClosed for most. Calling it again waits for the first call.
func (p *Producer) Close() { p.CloseWithin(p.closeWait) }

// CloseWithin is Close with another limit, which also holds for a Close that is under way: 0 gives the client no time to
// end in order. What it still holds then is abandoned; its goroutines end by themselves.
func (p *Producer) CloseWithin(limit time.Duration) {
	timer := time.AfterFunc(limit, p.tooLate)
	defer timer.Stop()
	p.mtx.Lock()
	if p.closed {
		p.mtx.Unlock()
		<-p.ended
		return
	}
	p.closed = true
	p.maybeIdle()
	p.mtx.Unlock()
	defer close(p.ended)
	defer p.endLife()

	p.log.tell("generic", "client for producing closes")
	p.hooks.end()
	p.cancel()
	shut := make(chan struct{})
	go func() {
		p.client.Close()
		close(shut)
	}()
	// kgo makes some of its promises only after Close has returned, and Close itself has no time limit.
	for _, event := range []chan struct{}{shut, p.idle} {
		select {
		case <-event:
		case <-p.late:
			p.abandon()
			<-p.idle // done calls that others have begun return soon
			return
		}
	}
}

// abandon makes the done calls the client still owes. Should kgo make a promise later, finish ignores it.
func (p *Producer) abandon() {
	p.mtx.Lock()
	left := make([]*batch, 0, len(p.live))
	for b := range p.live {
		left = append(left, b)
	}
	p.mtx.Unlock()
	for _, b := range left {
		for i := range b.attempts {
			p.finish(&b.attempts[i], ErrClosed)
		}
	}
}
