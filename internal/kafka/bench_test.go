package kafka

import (
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/internal/outbox"
)

// BenchmarkSend carries batches of 1000 records of 200 bytes to a broker that acknowledges and throws away.
func BenchmarkSend(b *testing.B) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(16, "t"), kfake.BlackholeProduce())
	if err != nil {
		b.Fatal(err)
	}
	defer cluster.Close()
	p, err := NewProducer(connection(cluster.ListenAddrs()...), nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	const size = 1000
	records := numbered("t", 0, size)
	for _, r := range records {
		r.Value = make([]byte, 200)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for sent := 0; sent < b.N; sent += size {
		var wg sync.WaitGroup
		wg.Add(size)
		p.Send(records, time.Now().Add(time.Minute), func(_ *outbox.Record, err error) {
			if err != nil {
				b.Error(err)
			}
			wg.Done()
		})
		wg.Wait()
	}
}
