package consume

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/host"
	"reskafka/internal/metrics"
)

// ErrLeft is the error of Commit outside a group: after Close, or after a leave by the watchdog.
var ErrLeft = errors.New("the consumer has left its group")

// groupOptions returns the options with the callbacks for a session's group events.
func (c *Consumer) groupOptions(s *session) []kgo.Opt {
	return []kgo.Opt{
		// The default, cooperative, would keep members on librdkafka out of the group, and us out of theirs.
		kgo.Balancers(s.entrance, kgo.RoundRobinBalancer()),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, added map[string][]int32) {
			defer host.Guard(c.log, "the assignment of partitions")
			c.assigned(s, added)
		}),
		kgo.AdjustFetchOffsetsFn(func(_ context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
			defer host.Guard(c.log, "the offsets of an assignment")
			moved := c.resume(offsets)
			c.begins(s, offsets)
			if len(moved) > 0 && c.auto {
				go c.commit(s, moved) // the client waits for this function
			}
			return offsets, nil
		}),
		kgo.OnPartitionsRevoked(func(ctx context.Context, _ *kgo.Client, _ map[string][]int32) {
			defer host.Guard(c.log, "the revocation of partitions")
			c.revoked(ctx, s)
		}),
		kgo.OnPartitionsLost(func(context.Context, *kgo.Client, map[string][]int32) {
			defer host.Guard(c.log, "the loss of partitions")
			c.drop(s)
		}),
		kgo.OnPartitionsCallbackBlocked(func(context.Context, *kgo.Client) {
			defer host.Guard(c.log, "a rebalance")
			c.hurry(s)
		}),
		kgo.AutoCommitCallback(func(_ *kgo.Client, req *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
			defer host.Guard(c.log, "a commit")
			c.committed(req, resp, err)
		}),
	}
}

func (c *Consumer) assigned(s *session, added map[string][]int32) {
	s.entrance.joined()
	c.entered(s)
	c.mtx.Lock()
	s.assigned = added // the whole assignment, because the group is eager
	c.placesLocked(s, added)
	c.rebalancedLocked()
	c.numbers.counts.Add(metrics.Rebalances, 1)
	c.mtx.Unlock()
	c.hooks.Recovered(c.aGroup())
	if c.tune.onAssigned != nil {
		c.tune.onAssigned(added)
	}
}

// drop discards polled records of lost partitions, which are all partitions in an eager group. drop runs only
// without a batch in the module.
func (c *Consumer) drop(s *session) {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	s.assigned = nil
	c.rebalancedLocked()
	c.releaseLocked(s)
	if c.session == s {
		c.pending = nil
	}
}

// revoked releases partitions after a commit of the delivered offsets.
func (c *Consumer) revoked(ctx context.Context, s *session) {
	c.drop(s)
	c.committing.Lock() // no commit may arrive after the partition has its next owner
	defer c.committing.Unlock()
	if !c.auto {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, c.commitTime)
	defer cancel()
	c.uncommitted(c.commitMarked(ctx, s))
}

// hurry notes that a rebalance waits for the module's present or next batch.
func (c *Consumer) hurry(s *session) {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	if c.session != s {
		return
	}
	c.blocked = true // even after the end of the batch: the cost is one extra check
	if c.out != nil {
		c.progress.Hurry(true)
	}
}

// settle marks the delivered messages of the module's batch and returns their number. Caller must hold mtx.
func (c *Consumer) settle() int {
	n := c.callbacksLocked()
	if c.out != nil && c.session != nil {
		c.mark(n)
	}
	return n
}

// mark makes the first n messages of the batch ready to be committed. The caller holds mtx.
func (c *Consumer) mark(n int) {
	if n <= c.marked {
		return
	}
	c.session.client.MarkCommitOffsets(c.out.ends(c.marked, n))
	c.marked = n
}

// Commit commits the delivered offsets and waits for the broker's answer, until ctx is done and for
// request_timeout_ms at most. Commit is for enable_auto_commit = no and harmless otherwise. With current set,
// the message of the running callback counts as delivered: a callback may commit its own message. An empty
// commit is no error.
func (c *Consumer) Commit(ctx context.Context, current bool) error {
	ctx, cancel := context.WithTimeout(ctx, c.commitTime)
	defer cancel()
	c.committing.RLock()
	defer c.committing.RUnlock()
	c.mtx.Lock()
	s := c.session
	if s == nil {
		c.mtx.Unlock()
		return ErrLeft
	}
	if n := c.settle(); current && c.out != nil && n < c.out.count {
		c.mark(n + 1)
	}
	c.mtx.Unlock()
	return c.commitMarked(ctx, s)
}

// commitMarked commits the marked offsets except for stale topics. Brokers before Kafka 4.2 commit by name. A
// new topic of the same name would start at the old topic's offset.
func (c *Consumer) commitMarked(ctx context.Context, s *session) error {
	marked := s.client.MarkedOffsets()
	c.mtx.Lock()
	for topic := range s.stale {
		delete(marked, topic)
	}
	c.mtx.Unlock()
	var failure error
	s.client.CommitOffsetsSync(ctx, marked, func(_ *kgo.Client, req *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		if failure = commitFailure(resp, err); failure == nil {
			c.noteCommitted(req)
		}
	})
	return failure
}
