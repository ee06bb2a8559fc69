package client

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// BenchmarkResponseCheck measures the cost of the check of a response.
func BenchmarkResponseCheck(b *testing.B) {
	produce := kmsg.NewPtrProduceResponse()
	produce.Version = 9
	acked := kmsg.NewProduceResponseTopic()
	acked.Topic = "asterisk_cdr"
	acked.Partitions = append(acked.Partitions, kmsg.NewProduceResponseTopicPartition())
	produce.Topics = append(produce.Topics, acked)
	fetch := kmsg.NewPtrFetchResponse()
	fetch.Version = 13
	fetched, partition := kmsg.NewFetchResponseTopic(), kmsg.NewFetchResponseTopicPartition()
	for range 60 {
		partition.RecordBatches = append(partition.RecordBatches, batchOf(5, 9, 10, true, 16<<10)...)
	}
	fetched.Partitions = append(fetched.Partitions, partition)
	fetch.Topics = append(fetch.Topics, fetched)
	for _, response := range []kmsg.Response{produce, fetch} {
		b.Run(kmsg.Key(response.Key()).Name(), func(b *testing.B) {
			body := append([]byte{0}, response.AppendTo(nil)...)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			c := &responseCheck{}
			c.batch.maxRecords = 1000
			for b.Loop() {
				l, headerTags := layoutOf(kmsg.Key(response.Key()), response.GetVersion())
				c.start(len(body), l, headerTags)
				if err := walk(c, body, 64<<10); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
