package consume

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"reskafka/internal/config"
	"reskafka/internal/host"
	"reskafka/internal/kafka/client"
)

// EndMember ends the membership of a killed process, for a subscription that has ended since then. EndMember removes
// the member from the group. With auto-commit it then commits the positions above the committed offsets, and returns
// their number. Brokers refuse this commit while the group has other members: those members have the partitions by
// then. EndMember uses its own client, and blocks until the brokers have answered or ctx is done. log may be nil.
func EndMember(ctx context.Context, c *config.Connection, member string, positions []Position, log host.Logger) (committed int, err error) {
	debug := client.NewLogger(c, log)
	net, err := client.NewDialer(c, ctx, &client.Status{}, debug)
	if err != nil {
		return 0, err
	}
	opts, err := client.Options(c, net, debug)
	if err != nil {
		return 0, err
	}
	cl, err := kgo.NewClient(append(opts, kgo.WithContext(ctx), kgo.MaxVersions(byName()))...)
	if err != nil {
		return 0, fmt.Errorf("setting up the client: %w", err)
	}
	defer cl.Close()
	if member != "" {
		signOffMember(ctx, cl, c.GroupID, member)
	}
	if !c.AutoCommit || len(positions) == 0 {
		return 0, nil
	}
	return commitAbove(ctx, cl, c.GroupID, positions)
}

// byName returns the versions of requests with names of topics in place of ids: the ids of before a death are unknown.
func byName() *kversion.Versions {
	v := kversion.Stable()
	v.SetMaxKeyVersion(kmsg.OffsetCommit.Int16(), 9)
	v.SetMaxKeyVersion(kmsg.OffsetFetch.Int16(), 9)
	return v
}

// commitAbove commits the positions above the committed offsets of an empty group.
func commitAbove(ctx context.Context, cl *kgo.Client, group string, positions []Position) (int, error) {
	topics := map[string][]Position{}
	for _, p := range positions {
		topics[p.Topic] = append(topics[p.Topic], p)
	}
	at, err := committedOffsets(ctx, cl, group, topics)
	if err != nil {
		return 0, err
	}
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = group, -1
	count := 0
	for name, list := range topics {
		topic := kmsg.NewOffsetCommitRequestTopic()
		topic.Topic = name
		for _, p := range list {
			if p.Next > at[topicPartition{name, p.Partition}] {
				partition := kmsg.NewOffsetCommitRequestTopicPartition()
				partition.Partition, partition.Offset = p.Partition, p.Next
				topic.Partitions = append(topic.Partitions, partition)
			}
		}
		if len(topic.Partitions) > 0 {
			req.Topics = append(req.Topics, topic)
			count += len(topic.Partitions)
		}
	}
	if count == 0 {
		return 0, nil
	}
	resp, err := req.RequestWith(ctx, cl)
	if err = commitFailure(resp, err); err != nil {
		return 0, err
	}
	return count, nil
}

// committedOffsets returns the committed offsets of the positions' partitions; a missing one counts as 0.
func committedOffsets(ctx context.Context, cl *kgo.Client, group string, topics map[string][]Position) (map[topicPartition]int64, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group = group
	for name, list := range topics {
		topic := kmsg.NewOffsetFetchRequestTopic()
		topic.Topic = name
		for _, p := range list {
			topic.Partitions = append(topic.Partitions, p.Partition)
		}
		req.Topics = append(req.Topics, topic)
	}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, err
	}
	if err := client.AnswerOf(resp.ErrorCode, nil, client.ToCommit); err != nil {
		return nil, err
	}
	at := map[topicPartition]int64{}
	for _, topic := range resp.Topics {
		for _, p := range topic.Partitions {
			if err := client.AnswerOf(p.ErrorCode, nil, client.ToCommit); err != nil {
				return nil, err
			}
			at[topicPartition{topic.Topic, p.Partition}] = p.Offset
		}
	}
	return at, nil
}
