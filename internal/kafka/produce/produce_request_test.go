package produce

import (
	"bytes"
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
