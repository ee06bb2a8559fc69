package consume

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/host"
	"reskafka/internal/kafka/client"
)

// consumerHooks are the hooks of a consuming client. The client cancels its own fetches on each change of its
// partitions, and closes the connection with them. Other requests on the connection then fail without a fault
// of the broker.
type consumerHooks struct {
	*client.Hooks
	reads *batchReads
}

// OnBrokerE2E implements kgo.HookBrokerE2E.
func (h consumerHooks) OnBrokerE2E(meta kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	if err := e2e.Err(); err == nil || err.Error() != client.ConnectionDied {
		h.Hooks.OnBrokerE2E(meta, key, e2e)
	}
}

// report logs an error of a partition, of a topic (negative partition), or of the group (empty topic). The
// first repetition of a cause is logged after `quiet`, later repetitions less often. The client continues to
// retry.
func (c *Consumer) report(topic string, partition int32, err error) {
	if err == nil || client.Expected(err) || errors.Is(err, context.DeadlineExceeded) {
		return
	}
	if session, ok := errors.AsType[*kgo.ErrGroupSession](err); ok {
		level, why := c.aboutGroup(session.Err)
		if why.Empty() {
			c.hooks.ReportUnsent(c.aGroup(), session.Err)
			return
		}
		c.say(level, c.aGroup(), ": ", why, "; trying again")
		return
	}
	about, after := c.aGroup(), ""
	if topic != "" {
		about = aPartition(topic, partition)
	}
	level, why := c.aboutTopic(err)
	if _, ok := errors.AsType[*kerr.Error](err); ok && !why.Is(client.OffsetGone) {
		after = "; trying again"
	}
	c.say(level, about, ": ", why, after)
}

// Subjects of troubles.

func (c *Consumer) aGroup() string { return "group " + c.group }

func aPartition(topic string, partition int32) string {
	if partition < 0 {
		return "topic " + topic
	}
	return fmt.Sprintf("topic %s partition %d", topic, partition)
}

const fetching = "fetching messages"

func (c *Consumer) aCommit() string { return c.aGroup() + ": offsets" }

// consumed notes the arrival of messages: troubles of their partitions are over.
func (c *Consumer) consumed(fetches kgo.Fetches) {
	if !c.status.HasTroubles() {
		return
	}
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		if len(p.Records) > 0 {
			c.hooks.Recovered(aPartition(p.Topic, p.Partition))
			c.hooks.Recovered(aPartition(p.Topic, -1))
			c.hooks.Recovered(fetching)
		}
	})
}

// say writes a line unless a recent line had the same cause, and remembers the trouble until its end.
func (c *Consumer) say(level host.Level, about, before string, why client.Sentence, after string) {
	if why.Empty() {
		return
	}
	if level >= host.Warning && !why.Is(client.RecordsLost) && !why.Is(client.OversizedBatch) {
		c.status.BeginTrouble(about, why.String(), c.tune.now())
	}
	before = about + before
	if level >= host.Warning {
		c.hooks.SetLastError(before + why.String())
	}
	suppressed, ok := c.lines.Allow(before + why.Key() + after)
	if !ok {
		return
	}
	again := ""
	if suppressed > 0 {
		again = fmt.Sprintf(" (%d times since the last line)", suppressed+1)
	}
	host.Logf(c.log, level, "connection %s: %s%s%s%s", c.name, before, why, after, again)
}

// tally logs the number of suppressed repetitions.
func (c *Consumer) tally() {
	for _, rest := range c.lines.Flush() {
		host.Logf(c.log, host.Debug, "connection %s: closing; %d times more since the last line: %s", c.name, rest.Count, rest.Key)
	}
}

// aboutGroup describes why a membership ended or failed. The result is empty for errors reported by hooks: an
// unreachable broker or a refused login.
func (c *Consumer) aboutGroup(err error) (host.Level, client.Sentence) {
	code, ok := errors.AsType[*kerr.Error](err)
	switch {
	case !ok, code == kerr.SaslAuthenticationFailed, code == kerr.UnsupportedSaslMechanism, code == kerr.IllegalSaslState:
		return host.Debug, client.Sentence{}
	case leftBehind(code) || code == kerr.FencedInstanceID:
		return host.Notice, client.Describe(client.AnswerTo(client.ToJoin, err))
	case code.Retriable:
		return host.Warning, client.Describe(client.AnswerTo(client.ToJoin, err))
	}
	return host.Error, client.Describe(client.AnswerTo(client.ToJoin, err))
}

// leftBehind reports whether a code means that the group continued without this member.
func leftBehind(code *kerr.Error) bool {
	return code == kerr.UnknownMemberID || code == kerr.IllegalGeneration || code == kerr.RebalanceInProgress
}

// noCommittedOffset is the text of an unexported error of the client.
const noCommittedOffset = "partition has no prior committed offset"

func (c *Consumer) aboutTopic(err error) (host.Level, client.Sentence) {
	if loss, ok := errors.AsType[*kgo.ErrDataLoss](err); ok {
		return host.Warning, client.SentenceOf(client.RecordsLost, fmt.Sprint(loss.ConsumedTo), fmt.Sprint(loss.ResetTo))
	}
	switch {
	case c.reset == "none" && err.Error() == noCommittedOffset:
		return host.Error, client.SentenceOf(client.NoOffset, c.group)
	case c.reset == "none" && errors.Is(err, kerr.OffsetOutOfRange):
		return host.Error, client.SentenceOf(client.OffsetGone, c.group)
	case kerr.IsRetriable(err):
		return host.Warning, client.Describe(client.AnswerTo(client.ToConsume, err))
	}
	return host.Error, client.Describe(client.AnswerTo(client.ToConsume, err))
}

// committed handles the result of a periodic commit. A leave of the group cancels the commit on this side,
// with an unknown result at the broker. revoked then commits the same offsets again and reports the result.
func (c *Consumer) committed(req *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	failure := commitFailure(resp, err)
	if failure == nil {
		c.noteCommitted(req)
	}
	c.uncommitted(failure)
}

// commitFailure returns the error of a commit, or nil.
func commitFailure(resp *kmsg.OffsetCommitResponse, err error) error {
	if err != nil || resp == nil {
		return err
	}
	for _, topic := range resp.Topics {
		for _, partition := range topic.Partitions {
			if err := client.AnswerOf(partition.ErrorCode, nil, client.ToCommit); err != nil {
				return err
			}
		}
	}
	return nil
}

// uncommitted handles the result of a commit and reports a failure.
func (c *Consumer) uncommitted(err error) {
	if err == nil {
		c.hooks.Recovered(c.aCommit())
		return
	}
	level, why := host.Warning, client.Describe(client.AnswerTo(client.ToCommit, err))
	switch code, ok := errors.AsType[*kerr.Error](err); {
	case errors.Is(err, context.Canceled), errors.Is(err, kgo.ErrClientClosed), client.IsTimeout(err):
		why = client.SentenceOf(client.NoAnswerInTime)
	case ok && leftBehind(code):
		level = host.Notice
	}
	c.say(level, c.aCommit(), " could not be committed: ", why, "; records may come again")
}
