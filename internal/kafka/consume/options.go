package consume

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/internal/config"
	"reskafka/internal/kafka/client"
)

// librdkafka's defaults where the client library differs.
const (
	fetchMaxWait           = 500 * time.Millisecond // fetch.wait.max.ms
	fetchMaxBytes          = 16 << 20               // fetch.max.bytes is 50 MiB there, which the client would hold twice for each broker
	fetchMaxPartitionBytes = 2 << 20                // fetch.message.max.bytes is 1 MiB there; larger fetches cost less
	heartbeatInterval      = 3 * time.Second        // heartbeat.interval.ms
)

const (
	minCommitInterval = 100 * time.Millisecond // the client library's
	readSlack         = 1 << 20                // a fetch response is its records and a few bytes
	// consumerMetadataAge is how soon a new leader and a new topic are seen.
	consumerMetadataAge = 500 * time.Millisecond
	// metadataAge is the delay until a new match of a pattern is seen, and the life of a wrong answer about a
	// topic; librdkafka takes 5 minutes.
	metadataAge = 30 * time.Second
)

// maxFetch returns the limit of an answer to a fetch, before decompression.
func maxFetch(c *config.Connection) int {
	return client.Clamp(c.MessageMaxBytes, fetchMaxBytes, client.MaxWireBytes-readSlack)
}

// BatchMax returns the limit of a Batch in bytes. Only a batch of one message can be that long.
func BatchMax(c *config.Connection) int {
	return max(client.BatchBudget(c), maxFetch(c)) + readSlack
}

// consumerOptions returns the options of a consuming client. Unlike a producing client, a consuming client
// may not create topics by requests for metadata.
func consumerOptions(c *config.Connection, topics []string) ([]kgo.Opt, error) {
	fetch := maxFetch(c)
	opts := []kgo.Opt{
		kgo.ConsumerGroup(c.GroupID),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // the only sign of progress in an aborted transaction; never delivered
		kgo.FetchMaxWait(fetchMaxWait),
		kgo.FetchMaxBytes(int32(fetch)),
		kgo.FetchMaxPartitionBytes(fetchMaxPartitionBytes),
		kgo.BrokerMaxReadBytes(int32(max(client.DefaultWriteBytes, fetch+readSlack))),
		kgo.MetadataMinAge(consumerMetadataAge),
		kgo.MetadataMaxAge(metadataAge),
		kgo.SessionTimeout(c.SessionTimeout),
		kgo.HeartbeatInterval(min(heartbeatInterval, c.SessionTimeout/3)),
		kgo.RebalanceTimeout(c.MaxPollInterval),
		kgo.BlockRebalanceOnPoll(),
		// settle sets the marks. Without enable_auto_commit the marks wait for Commit.
		kgo.AutoCommitMarks(),
	}
	interval := max(c.AutoCommitInterval, minCommitInterval)
	if !c.AutoCommit {
		interval = math.MaxInt64
	}
	opts = append(opts, kgo.AutoCommitInterval(interval))
	opts = append(opts, offsetOptions(c.AutoOffsetReset)...)
	names, patterns, err := subscription(topics)
	if err != nil {
		return nil, err
	}
	opts = append(opts, kgo.ConsumeTopics(names...))
	if patterns {
		opts = append(opts, kgo.ConsumeRegex())
	}
	return opts, nil
}

// offsetOptions returns the start of a partition without a committed offset, or with a deleted offset.
func offsetOptions(reset string) []kgo.Opt {
	offset := kgo.NewOffset()
	switch reset {
	case "earliest":
		offset = offset.AtStart()
	case "none":
		return []kgo.Opt{
			kgo.ConsumeStartOffset(offset.AtCommitted()), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		}
	default:
		offset = offset.AtEnd()
	}
	return []kgo.Opt{kgo.ConsumeStartOffset(offset), kgo.ConsumeResetOffset(offset)}
}

// subscription returns the client's topics: the names, or regular expressions for all topics if one topic is
// a pattern.
func subscription(topics []string) (names []string, patterns bool, err error) {
	for _, topic := range topics {
		if strings.HasPrefix(topic, "^") {
			if _, err := regexp.Compile(topic); err != nil {
				return nil, false, fmt.Errorf("topic %s is not a regular expression: %w", topic, err)
			}
			patterns = true
		} else if fault := config.TopicFault(topic); fault != "" {
			return nil, false, fmt.Errorf("%q is not a topic's name: it %s", topic, fault)
		}
	}
	for _, topic := range topics {
		if patterns && !strings.HasPrefix(topic, "^") {
			topic = "^" + regexp.QuoteMeta(topic) + "$"
		}
		names = append(names, topic)
	}
	if len(names) == 0 {
		return nil, false, fmt.Errorf("no topic to subscribe to")
	}
	return names, patterns, nil
}
