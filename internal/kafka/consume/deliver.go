package consume

import (
	"context"

	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/internal/host"
	"reskafka/internal/kafka/client"
)

// Limits of a batch from Next. The byte limit bounds the module's copy; a single larger message forms a batch
// of its own.
const (
	maxBatchMessages = 10000
	maxBatchBytes    = 1 << 20
)

// pollMost is the largest number of records in one poll. The client fetches from a broker again only after
// all of the broker's records were polled. A large poll makes the fetch parallel to delivery. The number
// exceeds a fetch of three partitions with records of 100 bytes.
const pollMost = 1 << 15

// Next blocks until messages arrive and returns up to most of them, in order for each partition, or false
// after the end of the consumer. The call ends the previous batch: messages not counted by Progress.Delivered
// are taken back, and come again unless another member gets the partition. Next also rejoins the group after
// the watchdog has left.
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
			size, ctx = 1, canceled // only blocks rebalances again, after a wait for a running rebalance
		}
		if batch := c.take(s, c.polled(s, ctx, size), most); batch != nil {
			return batch, true
		}
	}
}

// more returns a batch from pending without a poll, while rebalances are still blocked since the last batch
// and no other event waits. nil = poll the client.
func (c *Consumer) more(most int) *Batch {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	if !c.shut || c.blocked || c.allPaused || c.closing || c.session == nil || c.renew != "" || c.poll.Err() != nil {
		return nil
	}
	return c.hand(c.pick(most))
}

// polled returns the fetches of the session's client, or nothing after the leave of the session. A canceled
// poll lasts until the end of a rebalance. The poll of a leaving member may wait for the answer to the last
// commit.
func (c *Consumer) polled(s *session, ctx context.Context, size int) kgo.Fetches {
	fetched := make(chan kgo.Fetches, 1)
	go func() {
		defer close(fetched)
		defer host.Guard(c.log, "polling")
		fetches := s.client.PollRecords(ctx, size)
		fetched <- fetches
		select {
		case <-s.gone: // no reader is left
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

// canceled is a canceled context.
var canceled = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// begin returns the session to poll and the kind of poll. A positive size polls up to size records until ctx
// is done. Size 0 uses pending only. A negative size only waits for ctx. The session is nil when the consumer
// closes. The caller must take steps first.
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

// take adds polled records to pending and chooses the next batch, or nil.
func (c *Consumer) take(s *session, fetches kgo.Fetches, most int) *Batch {
	if c.debug.Enabled("fetch") {
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if n := len(p.Records); n > 0 {
				c.debug.Logf("fetch", "%d record(s) of topic %s partition %d from offset %d on", n, p.Topic, p.Partition, p.Records[0].Offset)
			}
		})
	}
	batch, current := c.choose(s, fetches, most)
	if current { // answers to a leaving member are not reported
		c.consumed(fetches)
		c.faults(s, fetches)
	}
	return batch
}

// choose is take without reports. current is false if s is no longer the consumer's session.
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

// hand makes batch the module's batch; nil stays nil. Caller must hold mtx.
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

// deliverable reports whether pending has a record of an unpaused topic. Caller must hold mtx.
func (c *Consumer) deliverable() bool {
	for i := range c.pending {
		if !c.paused[c.pending[i].topic] {
			return true
		}
	}
	return false
}

// pick removes a batch from pending, except paused topics; nil if there is none. Caller must hold mtx.
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
	clear(c.pending[len(kept):]) // releases the records
	c.pending = kept
	if b.count == 0 {
		return nil
	}
	return b
}

// returned ends the module's batch.
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
