package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/host"
)

// consumerHooks are hooks for a client that consumes. It ends requests of its own accord, whenever the partitions that it
// fetches change, and ends the connection with them; what else was under way there is no failure of the broker.
type consumerHooks struct{ *hooks }

// connectionDied is the text of the client's error for that, which it does not export.
const connectionDied = "the broker connection has died and the request will be retried on a new connection"

// OnBrokerE2E implements kgo.HookBrokerE2E.
func (h consumerHooks) OnBrokerE2E(meta kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	if err := e2e.Err(); err == nil || err.Error() != connectionDied {
		h.hooks.OnBrokerE2E(meta, key, e2e)
	}
}

// report logs what goes wrong with consuming: with one partition, with a topic when partition is negative, or with
// the group when topic is empty. It keeps to one line per cause every `quiet` at first, then fewer; the client goes on
// trying.
func (c *Consumer) report(topic string, partition int32, err error) {
	if err == nil || ours(err) || errors.Is(err, context.DeadlineExceeded) {
		return
	}
	if session, ok := errors.AsType[*kgo.ErrGroupSession](err); ok {
		level, text := c.aboutGroup(session.Err)
		c.say(level, text)
		return
	}
	place := "group " + c.group
	if topic != "" {
		place = "topic " + topic
		if partition >= 0 {
			place += fmt.Sprintf(" partition %d", partition)
		}
	}
	level, text := c.aboutTopic(err)
	if text != "" {
		c.say(level, place+": "+text)
	}
}

// say writes a line unless it was written lately.
func (c *Consumer) say(level host.Level, text string) {
	if text == "" {
		return
	}
	suppressed, ok := c.lines.Allow(text)
	if !ok {
		return
	}
	again := ""
	if suppressed > 0 {
		again = fmt.Sprintf(" (%d times since the last line)", suppressed+1)
	}
	host.Logf(c.log, level, "connection %s: %s%s", c.name, text, again)
}

// tally accounts for what say held back.
func (c *Consumer) tally() {
	for _, rest := range c.lines.Flush() {
		host.Logf(c.log, host.Debug, "connection %s: closing; %d times more since the last line: %s", c.name, rest.Count, rest.Key)
	}
}

// aboutGroup puts into words why a membership ended or did not come about. It is empty for what hooks report: a broker
// that cannot be reached or refuses the login.
func (c *Consumer) aboutGroup(err error) (host.Level, string) {
	answer, ok := errors.AsType[*kerr.Error](err)
	if !ok {
		return host.Debug, ""
	}
	switch answer {
	case kerr.SaslAuthenticationFailed, kerr.UnsupportedSaslMechanism, kerr.IllegalSaslState:
		return host.Debug, ""
	case kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.FencedInstanceID, kerr.RebalanceInProgress:
		return host.Notice, fmt.Sprintf("group %s has gone on without this member (%s); joining it again", c.group, answer.Message)
	case kerr.GroupAuthorizationFailed:
		return host.Error, fmt.Sprintf("group %s: this user is not authorized to consume in it (%s); see "+
			"the cluster's ACLs; trying again", c.group, answer.Message)
	case kerr.InconsistentGroupProtocol:
		return host.Error, fmt.Sprintf("group %s: its members agree on no assignment strategy; "+
			"this one knows range and roundrobin; trying again", c.group)
	case kerr.InvalidSessionTimeout:
		return host.Error, fmt.Sprintf("group %s: session_timeout_ms is outside the broker's group.min.session.timeout.ms "+
			"to group.max.session.timeout.ms; trying again", c.group)
	}
	if answer.Retriable {
		return host.Warning, fmt.Sprintf("group %s: %s; trying again", c.group, cause(answer))
	}
	return host.Error, fmt.Sprintf("group %s: %s; trying again", c.group, cause(answer))
}

// noCommittedOffset is the text of the client's error of that meaning, which it does not export.
const noCommittedOffset = "partition has no prior committed offset"

func (c *Consumer) aboutTopic(err error) (host.Level, string) {
	if loss, ok := errors.AsType[*kgo.ErrDataLoss](err); ok {
		return host.Warning, fmt.Sprintf("the broker has lost records: consumed up to offset %d, going on at %d",
			loss.ConsumedTo, loss.ResetTo)
	}
	switch answer, ok := errors.AsType[*kerr.Error](err); {
	case c.reset == "none" && err.Error() == noCommittedOffset:
		return host.Error, fmt.Sprintf("group %s has no committed offset and auto_offset_reset = none; "+
			"not consumed until one is committed and the group rebalances", c.group)
	case c.reset == "none" && errors.Is(err, kerr.OffsetOutOfRange):
		return host.Error, fmt.Sprintf("the committed offset of group %s is not there any more and auto_offset_reset = none; "+
			"not consumed until another is committed and the group rebalances", c.group)
	case answer == kerr.TopicAuthorizationFailed:
		return host.Error, fmt.Sprintf("this user is not authorized to read it (%s); see the cluster's ACLs; trying again", answer.Message)
	case ok && answer.Retriable:
		return host.Warning, cause(answer) + "; trying again"
	case ok:
		return host.Error, cause(answer) + "; trying again"
	}
	return host.Error, cause(err)
}

// committed takes the outcome of a periodic commit. Leaving the group cancels it on this side, whatever the broker makes
// of it; revoked then commits the same offsets once more and reports what becomes of them.
func (c *Consumer) committed(resp *kmsg.OffsetCommitResponse, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	c.uncommitted(commitFailure(resp, err))
}

// commitFailure is what a commit failed with, nil when it did not.
func commitFailure(resp *kmsg.OffsetCommitResponse, err error) error {
	if err != nil || resp == nil {
		return err
	}
	for _, topic := range resp.Topics {
		for _, partition := range topic.Partitions {
			if err := kerr.ErrorForCode(partition.ErrorCode); err != nil {
				return err
			}
		}
	}
	return nil
}

// uncommitted reports a failed commit.
func (c *Consumer) uncommitted(err error) {
	if err == nil {
		return
	}
	const meaning = "offsets could not be committed: %s; records may come again"
	switch answer, ok := errors.AsType[*kerr.Error](err); {
	case errors.Is(err, context.Canceled), errors.Is(err, kgo.ErrClientClosed), isTimeout(err):
		c.say(host.Warning, fmt.Sprintf("group %s: "+meaning, c.group, "no answer in time"))
	case ok && (answer == kerr.UnknownMemberID || answer == kerr.IllegalGeneration || answer == kerr.RebalanceInProgress):
		c.say(host.Notice, fmt.Sprintf("group %s: "+meaning, c.group, "it has gone on without this member"))
	default:
		c.say(host.Warning, fmt.Sprintf("group %s: "+meaning, c.group, cause(err)))
	}
}
