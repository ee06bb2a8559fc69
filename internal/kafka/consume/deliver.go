package consume

import (
	"context"

	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/internal/host"
	"reskafka/internal/kafka/client"
)

// Limits of a batch that Next gives. The second keeps small what the module copies at once; a single larger message
// goes alone.
const (
	maxBatchMessages = 10000
	maxBatchBytes    = 1 << 20
)

// pollMost is how many records are taken from the client at once. The client fetches from a broker again when all that
// it has from there is taken: that is to happen while the module delivers, not after it. It is more than a fetch of
// three partitions has with records of 100 bytes.
const pollMost = 1 << 15

// Next blocks until there are messages and returns up to most of them, those of each partition in order, or false once
// the consumer is closed. Calling it ends the previous batch: what Progress.Delivered does not count of it is taken back,
// and comes again unless its partition goes to another member. It also returns to the group when the watchdog left it.
func (c *Consumer) Next(most int) (*Batch, bool) {
	most = client.Clamp(most, 1, maxBatchMessages)
	c.returned()
	if batch := c.more(most); batch != nil {
		return batch, true
	}
	for {
		s, ctx, size, steps := c.begin()
		if s == nil {
			c.end()
			return nil, false
		}
		c.stepOver(s, steps)
		s.client.AllowRebalance()
		if size < 0 {
			<-ctx.Done()
			continue
		}
		if size == 0 {
			size, ctx = 1, canceled // only closes the door to rebalances again, waiting for one that goes on
		}
		if batch := c.take(s, c.polled(s, ctx, size), most); batch != nil {
			return batch, true
		}
	}
}

// more gives a batch of what is pending without asking the client, as long as nobody waits for anything else: the door is
// still closed to rebalances since the batch before. nil = ask the client.
func (c *Consumer) more(most int) *Batch {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	if !c.shut || c.blocked || c.allPaused || c.closing || c.session == nil || c.renew != "" || c.poll.Err() != nil {
		return nil
	}
	return c.hand(c.pick(most))
}

// polled gives what the session's client polls, nothing once the session was left. A poll that is called off goes on for as
// long as a rebalance does, and that of a member that leaves may wait for the answer to its last commit.
func (c *Consumer) polled(s *session, ctx context.Context, size int) kgo.Fetches {
	fetched := make(chan kgo.Fetches, 1)
	go func() {
		defer close(fetched)
		defer host.Guard(c.log, "polling")
		fetches := s.client.PollRecords(ctx, size)
		fetched <- fetches
		select {
		case <-s.gone: // nobody waits for it any more
			s.client.AllowRebalance()
		default: // choose comes after this, and does the same
		}
	}()
	select {
	case fetches := <-fetched:
		return fetches
	case <-s.gone:
		return nil
	}
}

// canceled is a context that is over.
var canceled = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// begin gives the session to poll and how: for up to size records until ctx is done, not at all but with pending for
// size 0, or only waiting for ctx when size is negative. The session is nil when the consumer closes. steps are to be taken first.
func (c *Consumer) begin() (s *session, ctx context.Context, size int, steps map[topicPartition]kgo.EpochOffset) {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	if s := c.session; s != nil && c.renew != "" {
		c.session, c.left, c.pending = nil, s, nil
		go c.leave(s)
	}
	c.rejoin()
	if c.closing || c.session == nil {
		return nil, nil, 0, nil
	}
	if c.shut {
		steps = c.stepsLocked(c.session)
	}
	if c.poll.Err() != nil {
		c.poll, c.wake = context.WithCancel(c.life)
	}
	c.blocked, c.shut = false, false
	switch {
	case c.allPaused:
		size = -1
	case !c.deliverable():
		size = pollMost
		c.decompressor.waiting.Store(true)
	}
	return c.session, c.poll, size, steps
}

// take adds what was polled to pending and chooses the next batch from there, nil for none.
func (c *Consumer) take(s *session, fetches kgo.Fetches, most int) *Batch {
	if c.debug.Enabled("fetch") {
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if n := len(p.Records); n > 0 {
				c.debug.Logf("fetch", "%d record(s) of topic %s partition %d from offset %d on", n, p.Topic, p.Partition, p.Records[0].Offset)
			}
		})
	}
	batch, current := c.choose(s, fetches, most)
	if current { // what the brokers answer to a member that leaves is nothing to report
		c.consumed(fetches)
		c.faults(s, fetches)
	}
	return batch
}

// choose is take without its report. current is false when the session is not the consumer's any more.
func (c *Consumer) choose(s *session, fetches kgo.Fetches, most int) (batch *Batch, current bool) {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	if c.session != s || c.closing {
		s.client.AllowRebalance() // or leaving the group would wait for this poll
		return nil, false
	}
	c.shut = true
	if len(fetches) > 0 {
		for _, p := range s.places {
			p.polls++
		}
	}
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		c.advanceLocked(s, p)
		if records := withoutControl(p.Records); len(records) > 0 {
			c.pending = append(c.pending, run{p.Topic, p.Partition, records})
		}
	})
	if c.blocked || c.allPaused {
		return nil, true
	}
	return c.hand(c.pick(most)), true
}

// hand makes a batch the one that the module has; nil stays nil. The caller holds mtx.
func (c *Consumer) hand(batch *Batch) *Batch {
	if batch == nil {
		return nil
	}
	c.out, c.shut = batch, true
	c.base, c.marked, c.seen, c.since = c.progress.Delivered(), 0, 0, c.tune.now()
	c.numbers.delivered, c.numbers.handed = c.base, c.since
	c.progress.Hurry(false)
	c.watch.Reset(c.tick())
	if c.debug.Enabled("consumer") {
		first := &batch.runs[0]
		c.debug.Logf("consumer", "%d message(s) go to the callback, the first is of topic %s partition %d offset %d",
			batch.count, first.topic, first.partition, first.records[0].Offset)
	}
	return batch
}

// deliverable says whether pending has something that is not paused. The caller holds mtx.
func (c *Consumer) deliverable() bool {
	for i := range c.pending {
		if !c.paused[c.pending[i].topic] {
			return true
		}
	}
	return false
}

// pick takes a batch out of pending, leaving what is paused; nil when there is nothing. The caller holds mtx.
func (c *Consumer) pick(most int) *Batch {
	b, kept, full := &Batch{}, c.pending[:0], false
	for _, r := range c.pending {
		if full || c.paused[r.topic] {
			kept = append(kept, r)
			continue
		}
		n := b.add(r, most)
		if full = n < len(r.records); full {
			r.records = r.records[n:]
			kept = append(kept, r)
		}
	}
	clear(c.pending[len(kept):]) // or their records would be held
	c.pending = kept
	if b.count == 0 {
		return nil
	}
	return b
}

// returned ends the batch that the module had.
func (c *Consumer) returned() {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	if c.out == nil {
		return
	}
	c.watch.Stop()
	n := c.settle()
	c.observeLocked(n)
	c.timedLocked(n)
	if n < c.out.count {
		c.pending = append(c.out.after(n), c.pending...)
	}
	c.out = nil
}
