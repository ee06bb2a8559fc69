package produce

import (
	"slices"
	"time"
)

// offer adds a partition to the leader's ready list, if the next batch may go.
func (p *Producer) offer(part *partition) {
	if part.next() == nil || part.failed || part.listed != nil {
		return
	}
	if part.leader == nil {
		p.wantMetadata(part.topic)
		return
	}
	if part.flying > 0 {
		ok, later := p.follows(part)
		if !later.IsZero() {
			p.offerAt(part, later)
		}
		if !ok {
			return
		}
	}
	if !part.resume.IsZero() {
		if p.now().Before(part.resume) {
			p.offerAt(part, part.resume)
			return
		}
		part.resume = time.Time{}
	}
	part.listed = part.leader
	part.listed.ready = append(part.listed.ready, part)
	part.listed.bytes += part.bytes
}

// offerAt offers a partition at a later time.
func (p *Producer) offerAt(part *partition, at time.Time) {
	if !part.pausing {
		part.pausing = true
		p.pausing = append(p.pausing, part)
	}
	p.alarm(at)
}

// answeredAfter notes a time between a load and the answer. A longer time than a second is a broker's pause,
// not the network's.
func (n *node) answeredAfter(d time.Duration) {
	d = min(d, time.Second)
	if n.answerTime == 0 {
		n.answerTime, n.leastTime = d, d
	}
	n.leastTime = min(n.leastTime, d)
	n.answerTime += (d - n.answerTime) / 8
}

// unlist removes a partition from its leader's list.
func (part *partition) unlist() {
	if n := part.listed; n != nil {
		n.ready = slices.DeleteFunc(n.ready, func(other *partition) bool { return other == part })
		n.bytes -= part.bytes
		part.listed = nil
	}
}

// resize books a change of the queue's size, bytes.
func (part *partition) resize(by int) {
	part.bytes += by
	if part.listed != nil {
		part.listed.bytes += by
	}
}
