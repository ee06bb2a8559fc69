package kafkatest

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Calls reads a topic of call records from its beginning to its present end and counts the records of each
// call there, by the field "uniqueid". The client consumes the topic from then on.
func Calls(ctx context.Context, client *kgo.Client, topic string) (map[string]int, error) {
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("finding the end of %s: %w", topic, err)
	}
	from, left := map[int32]kgo.Offset{}, 0
	for partition, end := range ends.Offsets()[topic] {
		from[partition], left = kgo.NewOffset().At(0), left+int(end.At)
	}
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: from})
	calls := map[string]int{}
	for left > 0 {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("reading %s: %w with %d records left", topic, ctx.Err(), left)
		}
		for iter := fetches.RecordIter(); !iter.Done(); left-- {
			var fields struct{ UniqueID string }
			r := iter.Next()
			if err := json.Unmarshal(r.Value, &fields); err != nil {
				return nil, fmt.Errorf("offset %d of partition %d of %s is no call record: %w: key %q, %d headers, %s, %d bytes: %.200q",
					r.Offset, r.Partition, topic, err, r.Key, len(r.Headers), r.Timestamp, len(r.Value), r.Value)
			}
			calls[fields.UniqueID]++
		}
	}
	return calls, nil
}
