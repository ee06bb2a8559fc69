package consume

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/host"
	"reskafka/internal/metrics"
)

// ErrLeft is what Commit says while the consumer is in no group: closed, or left by the watchdog.
var ErrLeft = errors.New("the consumer has left its group")

// groupOptions are the options that tell the consumer what happens to a session.
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
			c.begins(s, offsets)
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
	s.assigned = added // all of them: the group is eager
	c.placesLocked(s, added)
	c.rebalancedLocked()
	c.numbers.counts.Add(metrics.Rebalances, 1)
	c.mtx.Unlock()
	c.hooks.Recovered(c.aGroup())
	if c.tune.onAssigned != nil {
		c.tune.onAssigned(added)
	}
}

// drop forgets what was polled of partitions that are not ours any more. The group is eager: that is all of them. It
// runs only while the module has no batch.
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

// revoked lets partitions go: what was delivered of them is committed first.
func (c *Consumer) revoked(ctx context.Context, s *session) {
	c.drop(s)
	c.committing.Lock() // no commit of ours may arrive when the partition has its next owner
	defer c.committing.Unlock()
	if !c.auto {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, c.commitTime)
	defer cancel()
	c.uncommitted(c.commitMarked(ctx, s))
}

// hurry notes that a rebalance waits for the batch that the module has, or is about to get.
func (c *Consumer) hurry(s *session) {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	if c.session != s {
		return
	}
	c.blocked = true // even if the batch in question is over by now: that costs one look
	if c.out != nil {
		c.progress.Hurry(true)
	}
}

// settle marks what was delivered of the batch that the module has and returns how many messages that is. The caller
// holds mtx.
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

// Commit commits the offsets of what was delivered so far and waits for the broker's answer, until ctx is done and
// for request_timeout_ms at most. It is for enable_auto_commit = no and does no harm otherwise. With current set, the
// message whose callback is under way counts as delivered: a callback that is done with its message says so. Nothing to
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

// commitMarked commits what is marked, but of no topic that is stale: brokers before Kafka 4.2 take a commit by the topic's
// name, and there may be another topic of that name already, which would then be consumed from there on.
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
