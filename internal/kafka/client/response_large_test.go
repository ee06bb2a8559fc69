package client

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// largeAnswers are honest answers of large clusters: 1,000 brokers, 200,000 partitions with 3 replicas, 1,000 members of a group, and a
// record of 100 MB.
func largeAnswers() []kmsg.Response {
	metadata := kmsg.NewPtrMetadataResponse()
	for i := range int32(1000) {
		metadata.Brokers = append(metadata.Brokers, kmsg.MetadataResponseBroker{
			NodeID: i, Host: fmt.Sprintf("broker-%d.kafka.example.com", i), Port: 9092, Rack: kmsg.StringPtr("eu-central-1a"),
		})
	}
	offsets, list := kmsg.NewPtrOffsetFetchResponse(), kmsg.NewPtrListOffsetsResponse()
	group := kmsg.NewOffsetFetchResponseGroup()
	for i := range 40 {
		name := fmt.Sprintf("a.topic.with.a.long.name.%d", i)
		topic := kmsg.NewMetadataResponseTopic()
		topic.Topic = kmsg.StringPtr(name)
		ends, committed := kmsg.NewListOffsetsResponseTopic(), kmsg.NewOffsetFetchResponseGroupTopic()
		ends.Topic, committed.Topic = name, name
		for p := range int32(5000) {
			partition := kmsg.NewMetadataResponseTopicPartition()
			partition.Partition, partition.Replicas, partition.ISR = p, []int32{1, 2, 3}, []int32{1, 2, 3}
			topic.Partitions = append(topic.Partitions, partition)
			ends.Partitions = append(ends.Partitions, kmsg.ListOffsetsResponseTopicPartition{Partition: p, Offset: 1 << 40})
			committed.Partitions = append(committed.Partitions, kmsg.OffsetFetchResponseGroupTopicPartition{Partition: p, Offset: 1 << 40})
		}
		metadata.Topics, list.Topics = append(metadata.Topics, topic), append(list.Topics, ends)
		group.Topics = append(group.Topics, committed)
	}
	offsets.Groups = append(offsets.Groups, group)
	join, synced := kmsg.NewPtrJoinGroupResponse(), kmsg.NewPtrSyncGroupResponse()
	for i := range 1000 {
		join.Members = append(join.Members, kmsg.JoinGroupResponseMember{
			MemberID: fmt.Sprintf("asterisk-%d-0f6d4c1e-8f3b-4f0e-9d3a-6a8b9f1c2d3e", i), ProtocolMetadata: make([]byte, 4<<10),
		})
	}
	synced.MemberAssignment = make([]byte, 4<<20)
	fetched := kmsg.NewPtrFetchResponse()
	fetched.Topics = []kmsg.FetchResponseTopic{{Partitions: []kmsg.FetchResponseTopicPartition{{RecordBatches: batchOf(7, 0, 1, false, 100<<20)}}}}
	return []kmsg.Response{metadata, offsets, list, join, synced, fetched}
}

// TestResponseCheck_LargeClusters_AreAccepted guards against limits within reach of honest brokers.
func TestResponseCheck_LargeClusters_AreAccepted(t *testing.T) {
	for _, answer := range largeAnswers() {
		key := kmsg.Key(answer.Key())
		answer.SetVersion(answer.MaxVersion())
		body := answer.AppendTo(nil)
		if most := maxResponseSize(key); most > 0 && len(body) > most {
			t.Errorf("%s has %d bytes, more than %d", key.Name(), len(body), most)
		}
		var c responseCheck
		l, _ := layoutOf(key, answer.GetVersion())
		c.start(len(body), l, false)
		if err := walk(&c, body, 1<<16); err != nil || len(c.batch.refused) > 0 {
			t.Errorf("%s of %d bytes: %v %v", key.Name(), len(body), err, c.batch.refused)
		}
	}
}
