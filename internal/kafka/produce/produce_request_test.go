package produce

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/kafka/client"
)

// TestProduceRequest_AsTheLibrary compares the bytes of requests with the library's encoding, for all
// versions.
func TestProduceRequest_AsTheLibrary(t *testing.T) {
	format := kmsg.NewRequestFormatter(kmsg.FormatterClientID("me"))
	for version := int16(minProduceVersion); version <= kmsg.NewPtrProduceRequest().MaxVersion(); version++ {
		r := kmsg.NewPtrProduceRequest()
		r.Version, r.Acks, r.TimeoutMillis = version, -1, 5000
		for topic, batches := range [][]string{{"one", "two"}, {"three"}} {
			one := kmsg.NewProduceRequestTopic()
			one.Topic, one.TopicID = "topic", [16]byte{byte(topic), 2}
			for number, batch := range batches {
				part := kmsg.NewProduceRequestTopicPartition()
				part.Partition, part.Records = int32(number), bytes.Repeat([]byte(batch), 100)
				one.Partitions = append(one.Partitions, part)
			}
			r.Topics = append(r.Topics, one)
		}
		to := client.Parts{Own: []byte("before")}
		(&produceRequest{ProduceRequest: *r}).write(&to, format, 7)
		want := append([]byte("before"), format.AppendRequest(nil, r, 7)...)
		if !bytes.Equal(to.Own, want) {
			t.Errorf("version %d:\n%q\nwant\n%q", version, to.Own, want)
		}
	}
}

// TestFlight_TopicsInAnyOrder_EachBatchUnderItsTopic guards against a defect found by a stray record: of the
// partitions A0, B0, A1 and A2, the last one was sent as a partition of B.
func TestFlight_TopicsInAnyOrder_EachBatchUnderItsTopic(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		f := &flight{}
		want := map[string]string{} // topic and partition by the batch's bytes
		all := []*topic{{name: "a"}, {name: "b"}, {name: "c"}}
		for n := range 1 + dice.IntN(8) {
			topic := all[dice.IntN(len(all))]
			id := [16]byte{topic.name[0]}
			wire := fmt.Sprint("batch ", n)
			f.cargo = append(f.cargo, cargo{&partition{topic: topic, number: int32(n)}, id, &recordBatch{wire: []byte(wire)}})
			want[wire] = fmt.Sprint(topic.name, n, id)
		}
		got := map[string]string{}
		for _, topic := range f.topics() {
			for _, part := range topic.Partitions {
				got[string(part.Records)] = fmt.Sprint(topic.Topic, part.Partition, topic.TopicID)
			}
		}
		if !maps.Equal(got, want) {
			t.Fatalf("sent %v, want %v", got, want)
		}
	}
}
