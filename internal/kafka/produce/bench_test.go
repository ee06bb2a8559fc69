package produce

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/internal/record"
	"reskafka/test/allocs"
	"reskafka/test/kafkatest"
)

// BenchmarkSend sends batches of 1000 records of 200 bytes to a broker that acknowledges and discards
// records.
func BenchmarkSend(b *testing.B) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(16, "t"), kfake.BlackholeProduce())
	if err != nil {
		b.Fatal(err)
	}
	defer cluster.Close()
	p, err := NewProducer(kafkatest.Connection(cluster.ListenAddrs()...), nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	var wg sync.WaitGroup
	p.AnswerTo(func(records []*record.Record, err error) {
		if err != nil {
			b.Error(err)
		}
		wg.Add(-len(records))
	})
	const size = 1000
	records := kafkatest.Numbered("t", 0, size)
	for _, r := range records {
		r.Value = make([]byte, 200)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for sent := 0; sent < b.N; sent += size {
		wg.Add(size)
		p.Send(records, time.Now().Add(time.Minute))
		wg.Wait()
	}
}

// TestSendAllocates checks the allocations of records in the client: batches and requests allocate, records
// do not.
func TestSendAllocates(t *testing.T) {
	const many = 2048
	const ceiling = many / 4 // with Go 1.26: 100, with the race detector 240, more on a busy machine with more requests
	p := open(t, kafkatest.Connection(kafkatest.Broker(t, kfake.SeedTopics(2, "t"), kfake.BlackholeProduce()).ListenAddrs()...), nil, nil)
	made := kafkatest.Numbers("t", 0, many)
	for i := range made {
		made[i].Key, made[i].Value = made[i].Value, make([]byte, 200)
	}
	records := kafkatest.Records(made...)
	var left atomic.Int32
	done := make(chan struct{})
	p.AnswerTo(func(records []*record.Record, err error) {
		if err != nil {
			t.Errorf("records came back: %v", err)
		}
		if left.Add(-int32(len(records))) == 0 {
			done <- struct{}{}
		}
	})
	send := func() {
		left.Store(many)
		p.Producer.Send(records, time.Now().Add(time.Minute))
		<-done
	}
	send()
	const runs = 50
	objects, _ := allocs.By(func() {
		for range runs {
			send()
		}
	}, "reskafka/internal/kafka/", "github.com/twmb/franz-go/pkg/kgo.")
	n := objects / runs
	t.Logf("%d allocations for %d records", n, many)
	if n == 0 || n > ceiling {
		t.Errorf("some allocations, and at most %d, are allowed", ceiling)
	}
}
