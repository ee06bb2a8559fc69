package consume

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/host"
	"reskafka/internal/kafka/client"
)

// probed is the result of a probe.
type probed struct {
	err         error // the obstacle to reading; nil = readable, or at the end
	first, last int64 // offsets of the unreadable batch; unknownOffset = not known
	records     bool  // there are records to read
	unanswered  bool  // err is about the request or the connection and tells nothing about the partition
}

// maxProbeSteps limits how many answers without a record, of aborted transactions, a probe reads.
const maxProbeSteps = 16

// probe fetches a partition where the client would, and decodes the answer as the client does.
func (c *Consumer) probe(s *session, where topicPartition) probed {
	found := probed{first: unknownOffset, last: unknownOffset}
	ctx, cancel := context.WithTimeout(s.life, c.commitTime)
	defer cancel()
	c.mtx.Lock()
	var next int64 = unknownOffset
	if p := s.places[where]; p != nil {
		next = p.next
	}
	c.mtx.Unlock()
	if next < 0 {
		starts, err := c.listOffsets(ctx, s.client, []topicPartition{where}, atLogStart, false)
		start, ok := starts[where]
		found.unanswered = err != nil
		if found.err = err; err == nil && !ok {
			found.err = kerr.LeaderNotAvailable
		}
		if next = start; found.err != nil {
			return found
		}
	}
	request, leader, err := c.probeRequest(ctx, s.client, where)
	if err != nil {
		_, refused := errors.AsType[*kerr.Error](err)
		found.err, found.unanswered = err, !refused
		return found
	}
	for range maxProbeSteps {
		request.Topics[0].Partitions[0].FetchOffset = next
		var answer *kmsg.FetchResponseTopicPartition
		answer, found.err = fetchOnce(ctx, s.client, leader, request)
		switch {
		case errors.Is(found.err, kerr.OffsetOutOfRange) && c.reset != "none":
			c.resets(s, where)
			found.err = nil
			return found
		case found.err != nil:
			_, refused := errors.AsType[*kerr.Error](found.err)
			found.unanswered = !refused && found.err != client.ErrNoAnswer
			return found
		case len(answer.RecordBatches) == 0:
			return found
		}
		fetched, after := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
			Offset: next, IsolationLevel: kgo.ReadCommitted(), Topic: where.topic, Partition: where.partition, KeepControlRecords: true,
		}, answer, c.decompressor, nil)
		switch {
		case len(fetched.Records) > 0:
			found.records = true
			return found
		case errors.Is(fetched.Err, errNoBudget):
			return found
		case fetched.Err != nil:
			found.err = fetched.Err
		case after == next:
			found.err = client.ErrNoBatch
		default:
			next = after
			continue
		}
		found.first, found.last = batchOffsets(answer.RecordBatches, next)
		return found
	}
	return found
}

// resets notes that retention or an election has removed the partition's next offset. The client chooses an
// offset by auto_offset_reset at its next fetch.
func (c *Consumer) resets(s *session, where topicPartition) {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	if p := s.places[where]; p != nil {
		p.next = unknownOffset
		if c.reset == "earliest" {
			p.next = logStart
		}
	}
}

// Timestamps for the ends of a log in a ListOffsets request.
const (
	atLogStart = -2
	atLogEnd   = -1
)

// listOffsets asks the leaders known to the client for an end of each partition. Partitions without a leader,
// without an answer or with a refusal are missing from the result; failed is one cause. With committed set,
// the log ends at the first open transaction. The client's own function fails for all partitions after one
// failed leader, and begins with a request to any broker, perhaps an unreachable one.
func (c *Consumer) listOffsets(ctx context.Context, cl *kgo.Client, list []topicPartition, at int64, committed bool) (offsets map[topicPartition]int64, failed error) {
	leaders := map[int32][]topicPartition{}
	for _, where := range list {
		if leader, _, err := cl.PartitionLeader(where.topic, where.partition); err == nil && leader >= 0 {
			leaders[leader] = append(leaders[leader], where)
		}
	}
	offsets = map[topicPartition]int64{}
	var mtx sync.Mutex
	var all sync.WaitGroup
	for leader, led := range leaders {
		all.Go(func() {
			defer host.Guard(c.log, "the end of a log")
			answer, err := offsetsRequest(led, at, committed).RequestWith(ctx, cl.Broker(int(leader)))
			mtx.Lock()
			defer mtx.Unlock()
			if err != nil {
				failed = err
				return
			}
			for _, topic := range answer.Topics {
				for _, p := range topic.Partitions {
					if p.ErrorCode == 0 && p.Offset >= 0 {
						offsets[topicPartition{topic.Topic, p.Partition}] = p.Offset
					}
				}
			}
		})
	}
	all.Wait()
	return offsets, failed
}

// offsetsRequest returns the request for one leader.
func offsetsRequest(list []topicPartition, at int64, committed bool) *kmsg.ListOffsetsRequest {
	request := kmsg.NewPtrListOffsetsRequest()
	request.ReplicaID = -1
	if committed {
		request.IsolationLevel = 1
	}
	topics := map[string]int{} // index in request.Topics
	for _, where := range list {
		i, ok := topics[where.topic]
		if !ok {
			i = len(request.Topics)
			topics[where.topic] = i
			topic := kmsg.NewListOffsetsRequestTopic()
			topic.Topic = where.topic
			request.Topics = append(request.Topics, topic)
		}
		partition := kmsg.NewListOffsetsRequestTopicPartition()
		partition.Partition, partition.Timestamp = where.partition, at
		request.Topics[i].Partitions = append(request.Topics[i].Partitions, partition)
	}
	return request
}

// probeRequest returns a fetch request like the client's, without a session, and the partition's leader. The
// leader known to the client is asked for the topic's id, because another broker may be unreachable.
func (c *Consumer) probeRequest(ctx context.Context, cl *kgo.Client, where topicPartition) (*kmsg.FetchRequest, int32, error) {
	leader, _, err := cl.PartitionLeader(where.topic, where.partition)
	if err == nil && leader < 0 {
		err = kerr.LeaderNotAvailable
	}
	if err != nil {
		return nil, 0, err
	}
	metadata := kmsg.NewPtrMetadataRequest()
	wanted := kmsg.NewMetadataRequestTopic()
	wanted.Topic = kmsg.StringPtr(where.topic)
	metadata.Topics = append(metadata.Topics, wanted)
	known, err := metadata.RequestWith(ctx, cl.Broker(int(leader)))
	if err != nil {
		return nil, 0, err
	}
	request := kmsg.NewPtrFetchRequest()
	request.MaxBytes, request.IsolationLevel = fetchMaxPartitionBytes, 1
	topic := kmsg.NewFetchRequestTopic()
	partition := kmsg.NewFetchRequestTopicPartition()
	partition.Partition, partition.PartitionMaxBytes = where.partition, fetchMaxPartitionBytes
	topic.Partitions = append(topic.Partitions, partition)
	for _, t := range known.Topics {
		if t.Topic == nil || *t.Topic != where.topic {
			continue
		}
		for _, p := range t.Partitions {
			if p.Partition == where.partition && p.Leader >= 0 {
				topic.Topic, topic.TopicID = where.topic, t.TopicID
				request.Topics = append(request.Topics, topic)
				return request, p.Leader, nil
			}
		}
	}
	return nil, 0, kerr.LeaderNotAvailable
}

// fetchOnce returns the answer for a request's only partition.
func fetchOnce(ctx context.Context, cl *kgo.Client, leader int32, request *kmsg.FetchRequest) (*kmsg.FetchResponseTopicPartition, error) {
	got, err := cl.Broker(int(leader)).Request(ctx, request)
	if err != nil {
		return nil, err
	}
	answer, ok := got.(*kmsg.FetchResponse)
	if !ok || len(answer.Topics) != 1 || len(answer.Topics[0].Partitions) != 1 {
		return nil, client.ErrNoAnswer
	}
	if err := kerr.ErrorForCode(answer.ErrorCode); err != nil {
		return nil, err
	}
	partition := &answer.Topics[0].Partitions[0]
	return partition, kerr.ErrorForCode(partition.ErrorCode)
}

// batchOffsets returns the first and the last offset of the batch at offset next in a fetch response, as far
// as its header shows. The following batch is more reliable, because the header may be damaged.
func batchOffsets(data []byte, next int64) (first, last int64) {
	first, last = unknownOffset, unknownOffset
	for len(data) > client.BatchMagicAt {
		base := int64(binary.BigEndian.Uint64(data))
		if last != unknownOffset && last < next { // an earlier batch
			first, last = unknownOffset, unknownOffset
		}
		if first != unknownOffset {
			if base > first && base <= client.MaxOffset {
				last = base - 1
			}
			return first, last
		}
		if base < 0 || base > client.MaxOffset {
			return unknownOffset, unknownOffset
		}
		first, last = base, base
		if data[client.BatchMagicAt] == 2 && len(data) >= client.BatchHeaderBytes {
			if delta := int32(binary.BigEndian.Uint32(data[client.BatchLastDeltaAt:])); delta >= 0 {
				last = base + int64(delta)
			}
		}
		size := int64(binary.BigEndian.Uint32(data[client.BatchLengthAt:])) + client.BatchLengthAt + 4
		if size > int64(len(data)) {
			break
		}
		data = data[size:]
	}
	return first, max(last, next)
}
