package consume

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/test/allocs"
)

// fetched returns the result of a poll: count records of 300 bytes in each of three partitions, every tenth
// with a header.
func fetched(count int) kgo.Fetches {
	topic := kgo.FetchTopic{Topic: "t"}
	value := make([]byte, 300)
	for partition := range int32(3) {
		p := kgo.FetchPartition{Partition: partition}
		for i := range count {
			r := &kgo.Record{Topic: "t", Partition: partition, Offset: int64(i), Key: []byte("key"), Value: value}
			if i%10 == 0 {
				r.Headers = []kgo.RecordHeader{{Key: "h", Value: value[:10]}}
			}
			p.Records = append(p.Records, r)
		}
		topic.Partitions = append(topic.Partitions, p)
	}
	return kgo.Fetches{{Topics: []kgo.FetchTopic{topic}}}
}

// delivery returns a function with the path of fetches through Next and the engine's library to the
// callbacks. The function returns the numbers of messages and batches.
func delivery(t testing.TB) func(kgo.Fetches) (messages, batches int) {
	m := &module{hurried: make(chan struct{}, 1)}
	departures := NewDepartures()
	t.Cleanup(departures.End)
	var err error
	if m.Consumer, err = newConsumer(consuming("127.0.0.1:1"), []string{"t"}, nil, nil, m, departures, defaultConsumerTuning()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return func(fetches kgo.Fetches) (messages, batches int) {
		batch, _ := m.choose(m.session, fetches, 1000)
		for ; batch != nil; batch = m.Consumer.more(1000) {
			n, bytes := 0, 0
			for one, begins := range batch.All() {
				if begins {
					bytes += len(one.Topic)
				}
				n++
				bytes += len(one.Key) + len(one.Value) + len(one.Headers)
			}
			batches++
			messages += n
			m.delivered.Add(uint64(n))
			m.returned()
		}
		return messages, batches
	}
}

// TestDeliveryAllocates checks the allocations of a message, from the fetched record to its callback. A
// ceiling is slightly above the measured value. A change above a ceiling needs a cheaper path, or a higher
// ceiling in its own commit.
func TestDeliveryAllocates(t *testing.T) {
	const (
		allocations = 8   // for each batch: the batch, its runs, the marks for the commit
		bytes       = 4.0 // for each message; measured 0.7, with the race detector 1.1; a copied record takes 184
	)
	deliver, fetches := delivery(t), fetched(5000)
	messages, batches := deliver(fetches)
	if messages != 15000 || batches < 15 {
		t.Fatalf("%d messages in %d batches", messages, batches)
	}
	const runs = 20
	objects, size := allocs.By(func() {
		for range runs {
			deliver(fetches)
		}
	}, "reskafka/internal/kafka/consume.delivery.") // excludes the client and its requests
	of, each := float64(objects)/float64(runs*batches), float64(size)/float64(runs*messages)
	t.Logf("%.1f allocations for a batch, %.2f bytes for a message", of, each)
	if objects == 0 {
		t.Error("this cannot be all")
	}
	if of > allocations {
		t.Errorf("%.1f allocations for a batch of 1000 messages, at most %d are allowed", of, allocations)
	}
	if each > bytes {
		t.Errorf("%.2f bytes are allocated for a message, at most %v are allowed", each, bytes)
	}
}

// BenchmarkDelivery measures the same.
func BenchmarkDelivery(b *testing.B) {
	deliver, fetches := delivery(b), fetched(5000)
	b.ReportAllocs()
	messages := 0
	for b.Loop() {
		n, _ := deliver(fetches)
		messages += n
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(messages), "ns/message")
}

// TestBatch checks that a batch has every message once and in order, the sizes of the batch, and the offset
// of the next reader of each partition.
func TestBatch(t *testing.T) {
	records := func(offsets ...int64) (list []*kgo.Record) {
		for _, o := range offsets {
			list = append(list, &kgo.Record{Offset: o, LeaderEpoch: 7, Value: []byte("1234")})
		}
		return list
	}
	b := &Batch{}
	for _, r := range []run{{"t", 0, records(3, 4, 9)}, {"t", 1, records(5)}, {"longer", 0, records(1)}, {"t", 0, records(10)}} {
		if n := b.add(r, 100); n != len(r.records) {
			t.Errorf("took %d of %d records", n, len(r.records))
		}
	}
	if headers, topics, bytes := b.Size(); b.Len() != 6 || b.Runs() != 4 || headers != 0 || topics != 9 || bytes != 24 {
		t.Errorf("%d messages in %d runs, %d headers, %d and %d bytes", b.Len(), b.Runs(), headers, topics, bytes)
	}
	var offsets []int64
	runs := 0
	for m, begins := range b.All() {
		offsets = append(offsets, m.Offset)
		if begins {
			runs++
		}
	}
	if !slices.Equal(offsets, []int64{3, 4, 9, 5, 1, 10}) || runs != 4 {
		t.Errorf("offsets %v in %d runs", offsets, runs)
	}
	for _, test := range []struct {
		n, m            int
		zero, one, long int64 // the offset marked; 0 = none
	}{
		{0, 0, 0, 0, 0}, {0, 1, 4, 0, 0}, {0, 3, 10, 0, 0}, {3, 4, 0, 6, 0}, {2, 6, 11, 6, 2}, {5, 6, 11, 0, 0}, {6, 6, 0, 0, 0},
	} {
		ends := b.ends(test.n, test.m)
		if ends["t"][0].Offset != test.zero || ends["t"][1].Offset != test.one || ends["longer"][0].Offset != test.long {
			t.Errorf("from %d to %d: %v", test.n, test.m, ends)
		}
	}
	if topic, partition, r := b.at(4); topic != "longer" || partition != 0 || r.Offset != 1 {
		t.Errorf("the fifth is of %s %d at %d", topic, partition, r.Offset)
	}
	if rest := b.after(2); len(rest) != 4 || rest[0].records[0].Offset != 9 || len(b.after(6)) != 0 {
		t.Errorf("after two: %v", rest)
	}
}
