package kafka

import (
	"sync"
	"sync/atomic"
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

// TestSendAllocates holds what records cost on their way through the client: allocations are made for batches and requests,
// and none for each record. The broker is in the same process and counts too.
func TestSendAllocates(t *testing.T) {
	const many = 2048
	const ceiling = many / 8
	p := open(t, connection(fakeBroker(t, kfake.SeedTopics(2, "t"), kfake.BlackholeProduce()).ListenAddrs()...), nil, nil)
	made := numbers("t", 0, many)
	for i := range made {
		made[i].Key, made[i].Value = made[i].Value, make([]byte, 200)
	}
	records := minted(made...)
	var left atomic.Int32
	done := make(chan struct{})
	p.AcknowledgeBy(func(records []*outbox.Record) {
		if left.Add(-int32(len(records))) == 0 {
			done <- struct{}{}
		}
	})
	one := func(_ *outbox.Record, err error) { t.Errorf("a record came back: %v", err) }
	if n := testing.AllocsPerRun(50, func() {
		left.Store(many)
		p.Send(records, time.Now().Add(time.Minute), one)
		<-done
	}); n > ceiling {
		t.Errorf("%v allocations for %d records, at most %d are allowed", n, many, ceiling)
	} else {
		t.Logf("%v allocations for %d records", n, many)
	}
}
