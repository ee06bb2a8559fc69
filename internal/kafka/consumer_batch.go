package kafka

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/internal/host"
	"reskafka/internal/outbox"
)

// Limits of a batch that Next gives. The second keeps small what the module copies at once; a single larger message
// goes alone.
const (
	maxBatchMessages = 10000
	maxBatchBytes    = 1 << 20
)

// Message is one record received. Nil and empty are different things for Key, Value and a header's Value: nil is
// Kafka's null. The bytes are shared with other messages of the same fetch and must not be written to.
type Message struct {
	Topic     string
	Partition int32
	Offset    int64
	Key       []byte
	Value     []byte
	Headers   []outbox.Header
	Timestamp time.Time

	epoch int32 // of the partition's leader, part of what is committed
}

func (m *Message) size() int {
	n := len(m.Key) + len(m.Value)
	for _, h := range m.Headers {
		n += len(h.Name) + len(h.Value)
	}
	return n
}

// Next blocks until there are messages and returns up to most of them, those of each partition in order, or false once
// the consumer is closed. Calling it ends the previous batch: what Progress.Delivered does not count of it is taken back,
// and comes again unless its partition goes to another member. It also returns to the group when the watchdog left it.
func (c *Consumer) Next(most int) ([]Message, bool) {
	c.returned()
	for {
		s, ctx, size := c.begin(clamp(most, 1, maxBatchMessages))
		if s == nil {
			c.end()
			return nil, false
		}
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
// size 0, or only waiting for ctx when size is negative. The session is nil when the consumer closes.
func (c *Consumer) begin(most int) (s *session, ctx context.Context, size int) {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	if s := c.session; s != nil && c.renew != "" {
		c.session, c.left, c.pending = nil, s, nil
		go c.leave(s)
	}
	c.rejoin()
	if c.closing || c.session == nil {
		return nil, nil, 0
	}
	if c.poll.Err() != nil {
		c.poll, c.wake = context.WithCancel(c.life)
	}
	c.blocked = false
	switch {
	case c.allPaused:
		size = -1
	case !c.deliverable():
		size = most
	}
	return c.session, c.poll, size
}

// take adds what was polled to pending and chooses the next batch from there, nil for none.
func (c *Consumer) take(s *session, fetches kgo.Fetches, most int) []Message {
	if c.debug.wants("fetch") {
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if n := len(p.Records); n > 0 {
				c.debug.tell("fetch", "%d record(s) of topic %s partition %d from offset %d on", n, p.Topic, p.Partition, p.Records[0].Offset)
			}
		})
	}
	batch, current := c.choose(s, fetches, most)
	if len(batch) > 0 {
		c.debug.tell("consumer", "%d message(s) go to the callback, the first is of topic %s partition %d offset %d",
			len(batch), batch[0].Topic, batch[0].Partition, batch[0].Offset)
	}
	if current { // what the brokers answer to a member that leaves is nothing to report
		fetches.EachError(c.report)
	}
	return batch
}

// choose is take without its report. current is false when the session is not the consumer's any more.
func (c *Consumer) choose(s *session, fetches kgo.Fetches, most int) (batch []Message, current bool) {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	if c.session != s || c.closing {
		s.client.AllowRebalance() // or leaving the group would wait for this poll
		return nil, false
	}
	fetches.EachRecord(func(r *kgo.Record) { c.pending = append(c.pending, message(r)) })
	if c.blocked || c.allPaused {
		return nil, true
	}
	batch = c.pick(clamp(most, 1, maxBatchMessages))
	if len(batch) == 0 {
		return nil, true
	}
	c.out, c.base, c.marked, c.since = batch, c.progress.Delivered(), 0, c.tune.now()
	c.progress.Hurry(false)
	c.watch.Reset(c.tick())
	return batch, true
}

func message(r *kgo.Record) Message {
	m := Message{
		Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Key: r.Key, Value: r.Value,
		Timestamp: r.Timestamp, epoch: r.LeaderEpoch,
	}
	if len(r.Headers) > 0 {
		m.Headers = make([]outbox.Header, len(r.Headers))
		for i, h := range r.Headers {
			m.Headers[i] = outbox.Header{Name: h.Key, Value: h.Value}
		}
	}
	return m
}

// deliverable says whether pending has something that is not paused. The caller holds mtx.
func (c *Consumer) deliverable() bool {
	for i := range c.pending {
		if !c.paused[c.pending[i].Topic] {
			return true
		}
	}
	return false
}

// pick takes a batch out of pending, leaving what is paused. The caller holds mtx.
func (c *Consumer) pick(most int) []Message {
	var batch, rest []Message
	size := 0
	for i := range c.pending {
		m := &c.pending[i]
		if c.paused[m.Topic] {
			rest = append(rest, *m)
			continue
		}
		size += m.size()
		if len(batch) > 0 && (len(batch) == most || size > maxBatchBytes) {
			rest = append(rest, c.pending[i:]...)
			break
		}
		batch = append(batch, *m)
	}
	c.pending = rest
	return batch
}

// returned ends the batch that the module had.
func (c *Consumer) returned() {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	if c.out == nil {
		return
	}
	c.watch.Stop()
	if n := c.settle(); n < len(c.out) {
		c.pending = append(append([]Message{}, c.out[n:]...), c.pending...)
	}
	c.out = nil
}
