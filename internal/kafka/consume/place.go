package consume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/host"
	"reskafka/internal/kafka/client"
	"reskafka/internal/metrics"
)

// The client retries an unreadable partition without a pause, and transfers the bytes behind the unreadable
// batch each time. Therefore the consumer pauses such a partition and probes it with its own fetch
// (probe.go), after a second at first and after a minute in the end. After a successful probe the client
// fetches the partition again.

// maxPause is the longest pause of an unreadable partition.
const maxPause = time.Minute

// topicPartition names a partition.
type topicPartition struct {
	topic     string
	partition int32
}

func (p topicPartition) String() string {
	return fmt.Sprintf("topic %s partition %d", p.topic, p.partition)
}

// list returns p in the form of the client's calls.
func (p topicPartition) list() map[string][]int32 { return map[string][]int32{p.topic: {p.partition}} }

// at returns an offset of p in the form of the client's calls.
func (p topicPartition) at(offset kgo.EpochOffset) map[string]map[int32]kgo.EpochOffset {
	return map[string]map[int32]kgo.EpochOffset{p.topic: {p.partition: offset}}
}

// Offsets of a place without a known number.
const (
	unknownOffset = -1
	logStart      = -2 // consuming begins at the start of the log
)

// place is a session's state of one assigned partition. The consumer's mtx guards it.
type place struct {
	begun     bool      // the client knows where to begin
	next      int64     // offset behind the last polled record, or where consuming begins
	stable    int64     // last stable offset as last heard: the first open transaction begins there
	end       int64     // end of the log as last heard
	committed int64     // the group's committed offset, as last heard
	moved     time.Time // when next last changed, or the partition was assigned
	polls     int       // polls with records of any partition since then
	looked    time.Time // when stable and end were last requested
	warned    bool      // the log has a line about a constant next
	fault     *fault    // nil = the client fetches the partition
	step      *kgo.EpochOffset
	timer     *time.Timer // ends the pause
}

// fault is why a partition cannot be read.
type fault struct {
	text        string // for people
	first, last int64  // offsets of the unreadable batch; unknownOffset = not known
	pause       time.Duration
}

// nextPause returns the pause that follows pause.
func nextPause(pause, first time.Duration) time.Duration {
	return client.Clamp(2*pause, first, maxPause)
}

// placesLocked makes places for the partitions of an assignment.
func (c *Consumer) placesLocked(s *session, assigned map[string][]int32) {
	c.releaseLocked(s)
	now := c.tune.now()
	for topic, partitions := range assigned {
		for _, partition := range partitions {
			s.places[topicPartition{topic, partition}] = &place{
				next: unknownOffset, stable: unknownOffset, end: unknownOffset, committed: unknownOffset, moved: now,
			}
		}
	}
}

// releaseLocked deletes all places and ends their pauses; the client would keep the pauses for the next
// assignment. A probe does not end the pause of a deleted place, so pauses with a running probe end here too.
// Troubles with the partitions belong to the next owners.
func (c *Consumer) releaseLocked(s *session) {
	for where, p := range s.places {
		c.reads.forget(where)
		c.status.EndTrouble(where.String())
		if p.timer != nil {
			p.timer.Stop()
			s.client.ResumeFetchPartitions(where.list())
		}
	}
	s.places = map[topicPartition]*place{}
}

// begins notes where consuming begins.
func (c *Consumer) begins(s *session, offsets map[string]map[int32]kgo.Offset) {
	defer host.Guard(c.log, "the offsets of an assignment")
	c.mtx.Lock()
	defer c.mtx.Unlock()
	for topic, partitions := range offsets {
		for partition, offset := range partitions {
			if p := s.places[topicPartition{topic, partition}]; p != nil {
				p.next, p.begun = max(offset.EpochOffset().Offset, logStart), true
				p.committed = max(p.next, unknownOffset) // without a commit there is no offset yet
			}
		}
	}
}

// advanceLocked notes how far a partition was polled.
func (c *Consumer) advanceLocked(s *session, f kgo.FetchTopicPartition) {
	if len(f.Records) == 0 {
		return
	}
	where := topicPartition{f.Topic, f.Partition}
	p := s.places[where]
	if p == nil {
		return
	}
	p.begun = true
	p.next, p.moved, p.polls, p.warned = f.Records[len(f.Records)-1].Offset+1, c.tune.now(), 0, false
	p.end, p.stable = f.HighWatermark, f.LastStableOffset
	if p.stable < 0 { // brokers before Kafka 0.11
		p.stable = p.end
	}
	c.reads.forget(where)
}

// recoveredLocked notes that the client may fetch a partition again.
func (c *Consumer) recoveredLocked(s *session, where topicPartition, p *place) {
	s.client.ResumeFetchPartitions(where.list())
	p.fault, p.moved = nil, c.tune.now()
}

// withoutControl removes the control records at the end of transactions. The client returns control records
// because no other sign shows the progress in an aborted transaction.
func withoutControl(records []*kgo.Record) []*kgo.Record {
	control := func(r *kgo.Record) bool { return r.Attrs.IsControl() }
	if !slices.ContainsFunc(records, control) {
		return records
	}
	return slices.DeleteFunc(records, control)
}

// faults handles the errors of a poll.
func (c *Consumer) faults(s *session, fetches kgo.Fetches) {
	empty := fetches.Empty() || fetches.NumRecords() == 0
	for _, fetch := range fetches {
		for _, topic := range fetch.Topics {
			for _, partition := range topic.Partitions {
				if partition.Err != nil {
					c.partitionFailed(s, topicPartition{topic.Topic, partition.Partition}, topic.TopicID, partition.Err, empty)
				}
			}
		}
	}
}

// partitionFailed handles an error of a partition. empty reports whether the poll returned no records at all.
func (c *Consumer) partitionFailed(s *session, where topicPartition, id [16]byte, err error, empty bool) {
	tooLarge, oversized := errors.AsType[*kgo.ErrDecompressTooLarge](err)
	switch {
	case errors.Is(err, kerr.UnknownTopicID) && c.doubted(s, where.topic, id): // watchTopics logs the cause
	case errors.Is(err, errNoBudget):
		if empty { // else the client fetches again only when the records are polled
			c.mtx.Lock()
			c.pauseLocked(s, where, c.tune.pause/10)
			c.mtx.Unlock()
		}
	case oversized:
		c.oversized(s, where, tooLarge)
	case pausing(where, err):
		c.hold(s, where, err)
	default:
		c.report(where.topic, where.partition, err)
	}
}

// pausing reports whether err pauses a partition: an immediate fetch would fail in the same way.
func pausing(where topicPartition, err error) bool {
	_, loss := errors.AsType[*kgo.ErrDataLoss](err)
	_, group := errors.AsType[*kgo.ErrGroupSession](err)
	return where.topic != "" && where.partition >= 0 && !loss && !group && !client.Expected(err) && !errors.Is(err, context.DeadlineExceeded)
}

// unreadable reports whether err is about returned bytes, not about a refusal.
func unreadable(err error) bool {
	_, refused := errors.AsType[*kerr.Error](err)
	return !refused && err.Error() != noCommittedOffset
}

// hold pauses a partition that failed with err, and logs the cause.
func (c *Consumer) hold(s *session, where topicPartition, err error) {
	c.mtx.Lock()
	p := s.places[where]
	if c.session != s || p == nil || p.fault != nil { // a fault means: err belongs to an older fetch
		c.mtx.Unlock()
		return
	}
	f := &fault{first: unknownOffset, last: unknownOffset}
	p.fault = f
	c.pauseFaultyLocked(s, where, p, err)
	c.mtx.Unlock()
	if unreadable(err) {
		go c.locate(s, where, f, err)
	} else {
		c.report(where.topic, where.partition, err)
	}
}

// pauseFaultyLocked begins the next pause of a partition that failed with err.
func (c *Consumer) pauseFaultyLocked(s *session, where topicPartition, p *place, err error) {
	p.fault.pause = nextPause(p.fault.pause, c.tune.pause)
	_, why := c.aboutTopic(err)
	p.fault.text = why.String()
	c.pauseLocked(s, where, p.fault.pause)
}

// pauseLocked keeps the client from fetching a partition for a while.
func (c *Consumer) pauseLocked(s *session, where topicPartition, pause time.Duration) {
	p := s.places[where]
	if p == nil {
		return
	}
	if p.timer != nil {
		p.timer.Stop()
	}
	s.client.PauseFetchPartitions(where.list())
	p.timer = time.AfterFunc(pause, func() { c.pauseOver(s, where) })
}

// pauseOver probes an unreadable partition, and resumes any other partition.
func (c *Consumer) pauseOver(s *session, where topicPartition) {
	defer host.Guard(c.log, "a partition that could not be read")
	c.mtx.Lock()
	p := s.places[where]
	if c.session != s || p == nil {
		c.mtx.Unlock()
		return
	}
	if p.fault == nil {
		s.client.ResumeFetchPartitions(where.list())
		c.mtx.Unlock()
		return
	}
	f := p.fault
	c.mtx.Unlock()
	found := c.probe(s, where)
	c.mtx.Lock()
	if c.session != s || s.places[where] != p || p.fault != f {
		c.mtx.Unlock()
		return
	}
	if found.err == nil || found.unanswered { // in the latter case the client knows longer limits of time
		c.recoveredLocked(s, where, p)
		c.mtx.Unlock()
		return
	}
	if found.last != unknownOffset {
		f.first, f.last = found.first, found.last
	}
	c.pauseFaultyLocked(s, where, p, found.err)
	c.mtx.Unlock()
	if unreadable(found.err) {
		c.sayUnreadable(where, f)
	} else {
		c.report(where.topic, where.partition, found.err)
	}
}

// locate finds and logs the batch that is unreadable because of err. A batch readable by a probe was damaged
// on its way.
func (c *Consumer) locate(s *session, where topicPartition, f *fault, err error) {
	defer host.Guard(c.log, "a partition that cannot be read")
	found := c.probe(s, where)
	c.mtx.Lock()
	if c.session != s {
		c.mtx.Unlock()
		return
	}
	f.first, f.last = found.first, found.last
	c.mtx.Unlock()
	if found.err == nil || found.unanswered {
		c.report(where.topic, where.partition, err)
		return
	}
	c.sayUnreadable(where, f)
}

// sayUnreadable logs an unreadable batch, and the command that skips the batch.
func (c *Consumer) sayUnreadable(where topicPartition, f *fault) {
	c.mtx.Lock()
	why := client.SentenceOf(client.UnreadablePlace, f.text, c.group)
	if f.last != unknownOffset {
		why = client.SentenceOf(client.UnreadableBatch, fmt.Sprint(f.first), fmt.Sprint(f.last), f.text, c.name, where.topic, fmt.Sprint(where.partition))
	}
	c.mtx.Unlock()
	c.say(host.Error, where.String(), ": ", why, "; the partition pauses, the others go on")
}

// oversized skips and logs a batch above the budget of one batch.
func (c *Consumer) oversized(s *session, where topicPartition, e *kgo.ErrDecompressTooLarge) {
	c.mtx.Lock()
	if p := s.places[where]; p != nil {
		p.step = &kgo.EpochOffset{Epoch: e.Epoch, Offset: e.NextOffset}
	}
	c.skippedLocked(max(e.NextOffset-e.Offset, 0))
	c.mtx.Unlock()
	c.say(host.Error, where.String(), ": ", client.SentenceOf(client.OversizedBatch, fmt.Sprint(e.Offset), fmt.Sprint(e.NextOffset-1),
		fmt.Sprint(c.decompressor.batch)), "")
}

// skippedLocked counts a skipped batch.
func (c *Consumer) skippedLocked(offsets int64) {
	c.numbers.counts.Add(metrics.SkippedBatches, 1)
	c.numbers.counts.Add(metrics.SkippedOffsets, int(offsets))
}

// ErrNothingToSkip is returned by Skip for a partition without an unreadable batch.
var ErrNothingToSkip = errors.New("no batch of that partition is known to be unreadable")

// Skip continues behind the unreadable batch of a partition, and returns the new offset.
func (c *Consumer) Skip(topic string, partition int32) (int64, error) {
	where := topicPartition{topic, partition}
	c.mtx.Lock()
	defer c.mtx.Unlock()
	if c.session == nil {
		return 0, ErrLeft
	}
	p := c.session.places[where]
	if p == nil || p.fault == nil || p.fault.last == unknownOffset {
		return 0, ErrNothingToSkip
	}
	to := p.fault.last + 1
	p.step = &kgo.EpochOffset{Epoch: -1, Offset: to}
	c.skippedLocked(to - p.fault.first)
	c.changed()
	return to, nil
}

// stepsLocked returns the steps that are due: all earlier records were delivered. The client must not release
// partitions meanwhile.
func (c *Consumer) stepsLocked(s *session) map[topicPartition]kgo.EpochOffset {
	var due map[topicPartition]kgo.EpochOffset
	for where, p := range s.places {
		if p.step == nil || slices.ContainsFunc(c.pending, func(r run) bool { return r.topic == where.topic && r.partition == where.partition }) {
			continue
		}
		if due == nil {
			due = map[topicPartition]kgo.EpochOffset{}
		}
		due[where] = *p.step
		p.next, p.moved, p.step = p.step.Offset, c.tune.now(), nil
		if p.fault != nil {
			p.fault = nil
			p.timer.Stop()
			s.client.ResumeFetchPartitions(where.list())
		}
	}
	return due
}

// stepOver moves the client behind unreadable batches, and commits the new offsets where enable_auto_commit
// is on.
func (c *Consumer) stepOver(s *session, steps map[topicPartition]kgo.EpochOffset) {
	for where, to := range steps {
		offsets := where.at(to)
		// The client sets offsets only of partitions with a record or a mark.
		s.client.MarkCommitOffsets(offsets)
		s.client.SetOffsets(offsets)
		c.hooks.Recovered(where.String())
		if c.auto {
			c.commit(s, offsets)
		}
	}
}

// commit requests a commit without waiting for the answer.
func (c *Consumer) commit(s *session, offsets map[string]map[int32]kgo.EpochOffset) {
	defer host.Guard(c.log, "a commit")
	s.client.CommitOffsets(s.life, offsets, func(_ *kgo.Client, req *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		defer host.Guard(c.log, "a commit")
		c.committed(req, resp, err)
	})
}
