package consume

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/kafka/client"
	"reskafka/internal/metrics"
)

// MemberState is the state of a consumer in its group.
type MemberState string

// The states, by precedence.
const (
	Left    MemberState = "left"    // no member: a callback took too long, or the connection is gone
	Failing MemberState = "error"   // no broker is reachable, or the group refuses the member
	Joining MemberState = "joining" // no assignment yet, or none during a rebalance
	Paused  MemberState = "paused"  // by the module, with all topics
	Stable  MemberState = "stable"
)

// ConsumerSnapshot is the state of a consumer at one moment, without its numbers.
type ConsumerSnapshot struct {
	Brokers    client.Snapshot
	State      MemberState
	MemberID   string            // from the group; empty = none yet
	Joined     bool              // a member of the group, with an assignment
	Partitions []PartitionStatus // assigned, by topic and number
}

// PartitionStatus says why an assigned partition is not read on.
type PartitionStatus struct {
	Topic     string
	Partition int32
	Paused    bool   // by the module
	Fault     string // obstacle to reading; empty = readable
}

// consumerNumbers are a consumer's counts and measurements. The consumer's mtx guards them.
type consumerNumbers struct {
	counts     metrics.Counts
	delivered  uint64        // returned callbacks, as far as observed
	handed     time.Time     // hand-out of the module's batch
	last       time.Duration // of a callback, on average over the batch before
	longest    time.Duration
	rebalanced time.Time // when partitions were last assigned or revoked; zero = never
}

// Snapshot returns the present state and adds the numbers to v. Snapshot waits for no broker.
func (c *Consumer) Snapshot(v *metrics.Values) ConsumerSnapshot {
	snap := ConsumerSnapshot{Brokers: c.status.Snapshot(), State: Left}
	c.mtx.Lock()
	defer c.mtx.Unlock()
	c.observeLocked(c.callbacksLocked())
	c.collectLocked(v)
	s := c.session
	if s == nil {
		return snap
	}
	snap.MemberID, _ = s.client.GroupMetadata()
	snap.Joined = s.assigned != nil
	snap.State = c.stateLocked(snap.Brokers)
	waiting := c.waitingLocked()
	for where, p := range s.places {
		one := PartitionStatus{Topic: where.topic, Partition: where.partition, Paused: c.pausedLocked(where.topic)}
		if p.fault != nil {
			one.Fault = p.fault.text
		}
		snap.Partitions = append(snap.Partitions, one)
		position, ok := waiting[where]
		if !ok {
			position = p.next
		}
		p.collect(v.In(metrics.Topic, where.topic).In(metrics.Partition, strconv.Itoa(int(where.partition))), position)
	}
	v.Add(metrics.Assigned, uint64(len(s.places)))
	slices.SortFunc(snap.Partitions, func(a, b PartitionStatus) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return snap
}

// stateLocked returns the state of a consumer with a session.
func (c *Consumer) stateLocked(brokers client.Snapshot) MemberState {
	assigned := c.session.assigned
	switch {
	case brokers.Unreachable(), assigned == nil && c.status.HasTrouble(c.aGroup()):
		return Failing
	case assigned == nil:
		return Joining
	}
	for topic := range assigned {
		if !c.pausedLocked(topic) {
			return Stable
		}
	}
	if c.allPaused || len(assigned) > 0 {
		return Paused
	}
	return Stable
}

func (c *Consumer) pausedLocked(topic string) bool { return c.allPaused || c.paused[topic] }

// waitingLocked returns, for each partition, the offset of the first polled message without a returned
// callback.
func (c *Consumer) waitingLocked() map[topicPartition]int64 {
	waiting := map[topicPartition]int64{}
	note := func(runs []run) {
		for _, r := range runs {
			where := topicPartition{r.topic, r.partition}
			if _, ok := waiting[where]; !ok {
				waiting[where] = r.records[0].Offset
			}
		}
	}
	if c.out != nil {
		note(c.out.after(c.seen))
	}
	note(c.pending)
	return waiting
}

// collect adds the numbers of a partition to v. position is the offset of the next message to deliver.
func (p *place) collect(v *metrics.Values, position int64) {
	v.AddKnown(metrics.Position, position)
	v.AddKnown(metrics.StableOffset, p.stable)
	v.AddKnown(metrics.HighWatermark, p.end)
	v.AddKnown(metrics.Committed, p.committed)
	if position >= 0 && p.end >= 0 {
		v.Add(metrics.Lag, uint64(max(p.end-position, 0)))
	}
}

// collectLocked adds the numbers of the consumer as a whole.
func (c *Consumer) collectLocked(v *metrics.Values) {
	n := &c.numbers
	n.counts.Collect(v)
	v.Add(metrics.Delivered, n.delivered)
	v.AddTime(metrics.LastRebalance, n.rebalanced)
	if n.last > 0 {
		v.Add(metrics.CallbackLast, uint64(n.last))
	}
	if n.longest > 0 {
		v.Add(metrics.CallbackMax, uint64(n.longest))
	}
	if c.out != nil && c.seen < c.out.count {
		v.Add(metrics.CallbackRunning, uint64(max(c.tune.now().Sub(c.since), 0)))
	}
}

// callbacksLocked returns the number of returned callbacks of the module's batch.
func (c *Consumer) callbacksLocked() int {
	if c.out == nil {
		return 0
	}
	return client.Clamp(int(c.progress.Delivered()-c.base), 0, c.out.count)
}

// observeLocked notes n returned callbacks of the module's batch, and the running time of the current
// callback.
func (c *Consumer) observeLocked(n int) {
	if c.out == nil {
		return
	}
	now := c.tune.now()
	c.numbers.delivered = c.base + uint64(n)
	if n > c.seen {
		c.seen, c.since = n, now
	}
	if n < c.out.count {
		c.numbers.longest = max(c.numbers.longest, now.Sub(c.since))
	}
}

// timedLocked records the duration of a batch after n callbacks. The module counts callbacks and reads no
// clock, so the batch's average stands for each callback.
func (c *Consumer) timedLocked(n int) {
	if n > 0 {
		c.numbers.last = c.tune.now().Sub(c.numbers.handed) / time.Duration(n)
		c.numbers.longest = max(c.numbers.longest, c.numbers.last)
	}
}

// rebalancedLocked notes a new assignment.
func (c *Consumer) rebalancedLocked() { c.numbers.rebalanced = c.tune.now() }

// noteCommitted notes the offsets of a commit accepted for every partition. Another commit follows a partial
// failure.
func (c *Consumer) noteCommitted(req *kmsg.OffsetCommitRequest) {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	if c.session == nil {
		return
	}
	for _, topic := range req.Topics {
		for _, partition := range topic.Partitions {
			if p := c.session.places[topicPartition{topic.Topic, partition.Partition}]; p != nil {
				p.committed = partition.Offset
			}
		}
	}
}
