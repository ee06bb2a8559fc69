package kafka

import (
	"sync"
	"sync/atomic"
	"time"
)

// trials find the record that made a broker refuse a batch. A broker's verdict that a message is too large, has no key
// on a compacted topic or the like is on the batch, and kgo then fails whatever it holds for the partition; taken at
// its word it would cost every record that happened to be sent together with the culprit. So such a verdict counts
// only for a record that was alone. All the others are handed back to be tried again, in chunks of half the number
// that failed, each waited for, then of a quarter, until one record stands alone and its verdict is final.
type trials struct {
	active atomic.Bool // topics is not empty
	mtx    sync.Mutex
	topics map[string]*trial
}

// trial is the search in one topic.
type trial struct {
	suspects int // records that failed together since the last look
	limit    int // records to send at once
	left     int // records that still have to pass before the search is over
}

// suspect notes a record of the topic that came back with a verdict on its batch.
func (t *trials) suspect(topic string) {
	t.mtx.Lock()
	defer t.mtx.Unlock()
	if t.topics == nil {
		t.topics = map[string]*trial{}
	}
	if t.topics[topic] == nil {
		t.topics[topic] = &trial{}
	}
	t.topics[topic].suspects++
	t.active.Store(true)
}

// limit is how many records of the topic to send at once, 0 for as many as there are.
func (t *trials) limit(topic string) int {
	t.mtx.Lock()
	defer t.mtx.Unlock()
	search := t.topics[topic]
	if search == nil {
		return 0
	}
	if search.suspects > 0 {
		search.limit = max(1, search.suspects/2)
		search.left = max(search.left, search.suspects)
		search.suspects = 0
	}
	return search.limit
}

// passed notes records of the topic that were acknowledged or, alone, refused for good.
func (t *trials) passed(topic string, n int, culprit bool) {
	t.mtx.Lock()
	defer t.mtx.Unlock()
	search := t.topics[topic]
	if search == nil {
		return
	}
	if search.left -= n; culprit || search.left <= 0 {
		delete(t.topics, topic)
		t.active.Store(len(t.topics) > 0)
	}
}

// chunk is a part of a batch that is sent and waited for by itself. A chunk of one record is alone in its topic: while
// a record is to be tried again, the outbox sends no other of the topic until it has all of them back.
type chunk struct {
	size    int
	left    atomic.Int32
	refused atomic.Bool // a record of it was refused for good
	again   atomic.Bool // a record of it is to be tried again
	done    chan struct{}
}

// note takes the failure of one record of the chunk, before finished.
func (c *chunk) note(final bool) {
	if final {
		c.refused.Store(true)
	} else {
		c.again.Store(true)
	}
}

func (c *chunk) finished() {
	if c.left.Add(-1) == 0 {
		close(c.done)
	}
}

// try sends the next records of b from i on as a chunk, if their topic is being searched, and waits for their
// outcome, up to trialWait. It returns how many it took care of, and whether they did not have it by then: what follows
// in the topic must not join them. If that is in b, try has seen to it.
func (p *Producer) try(b *batch, i int) (n int, late bool) {
	if !p.trials.active.Load() {
		return 0, false
	}
	topic := b.attempts[i].record.Topic
	limit := p.trials.limit(topic)
	if limit == 0 {
		return 0, false
	}
	of := func(j int) bool { return j < len(b.attempts) && b.attempts[j].record.Topic == topic }
	n = 1
	for n < limit && of(i+n) {
		n++
	}
	c := &chunk{size: n, done: make(chan struct{})}
	c.left.Store(int32(n))
	for j := i; j < i+n; j++ {
		b.attempts[j].chunk.Store(c)
		p.produce(&b.attempts[j])
	}
	timer := time.NewTimer(p.trialWait)
	defer timer.Stop()
	select {
	case <-c.done:
		if !c.again.Load() {
			p.trials.passed(topic, n, c.refused.Load())
		}
	case <-p.ctx.Done():
	case <-timer.C:
		late = true
		if of(i + n) { // handing back the next withdraws all that follows
			p.finish(&b.attempts[i+n], errHeldBack)
		}
	}
	return n, late
}
