package produce

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/kafka/client"
	"reskafka/internal/metrics"
	"reskafka/internal/outbox"
	"reskafka/internal/record"
	"reskafka/test/kafkatest"
)

// TestRoundTrip checks that nil, empty and any byte arrive unchanged, with the time of acceptance.
func TestRoundTrip(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	var status client.Status
	p := open(t, kafkatest.Connection(cluster.ListenAddrs()...), nil, &status)
	accepted := time.Date(2024, 2, 29, 12, 0, 0, 123_456_789, time.UTC)
	records := kafkatest.Records([]record.Record{
		{Topic: "t", Accepted: accepted},
		{Topic: "t", Key: []byte{}, Value: []byte{}, Accepted: accepted},
		{Topic: "t", Key: []byte("k"), Value: []byte{0, 255, '\n'}, Accepted: accepted, Headers: []record.Header{
			{Name: "null", Value: nil}, {Name: "empty", Value: []byte{}}, {Name: "", Value: []byte("v")}, {Name: "null", Value: []byte("again")},
		}},
		{Topic: "t", Value: []byte("last"), Accepted: accepted, Headers: []record.Header{{Name: "h", Value: []byte("v")}}},
	}...)
	before := time.Now()
	kafkatest.SendAll(t, p, records...)
	got := kafkatest.Consume(t, "t", len(records), cluster.ListenAddrs())
	for i, r := range records {
		g := got[i]
		if !same(g.Key, r.Key) || !same(g.Value, r.Value) {
			t.Errorf("record %d: key %#v value %#v, want %#v %#v", i, g.Key, g.Value, r.Key, r.Value)
		}
		if want := accepted.Truncate(time.Millisecond); !g.Timestamp.Equal(want) {
			t.Errorf("record %d: timestamp %v, want %v", i, g.Timestamp, want)
		}
		if len(g.Headers) != len(r.Headers) {
			t.Fatalf("record %d: headers %v, want %v", i, g.Headers, r.Headers)
		}
		for j, h := range r.Headers {
			if g.Headers[j].Key != h.Name || !same(g.Headers[j].Value, h.Value) {
				t.Errorf("record %d header %d: %#v, want %#v", i, j, g.Headers[j], h)
			}
		}
	}
	snap := status.Snapshot()
	if snap.Acknowledged.Before(before) || snap.Retried != 0 || snap.Failures != 0 {
		t.Errorf("status %+v", snap)
	}
	if len(snap.Brokers) == 0 || !snap.Brokers[0].Connected || snap.Brokers[0].Address != cluster.ListenAddrs()[0] {
		t.Errorf("brokers %+v, want %v connected", snap.Brokers, cluster.ListenAddrs())
	}
}

// same compares with nil and empty apart.
func same(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

// TestOnTheWire checks the effect of each option on the broker's side.
func TestOnTheWire(t *testing.T) {
	codecs := map[string]int16{"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
	for codec, attribute := range codecs {
		for _, acks := range []int{-1, 1, 0} {
			t.Run(fmt.Sprintf("%s acks %d", codec, acks), func(t *testing.T) {
				t.Parallel()
				cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
				seen := make(chan *kmsg.ProduceRequest, 1)
				kafkatest.WatchProduce(cluster, func(req *kmsg.ProduceRequest) { seen <- req })
				c := kafkatest.Connection(cluster.ListenAddrs()...)
				c.CompressionCodec, c.Acks, c.RequestTimeout = codec, acks, 4321*time.Millisecond
				p := open(t, c, nil, nil)
				kafkatest.SendAll(t, p, kafkatest.Records(record.Record{Topic: "t", Value: bytes.Repeat([]byte("text "), 1000)})...)
				req := <-seen
				if req.Acks != int16(acks) || req.TimeoutMillis != 4321 {
					t.Errorf("acks %d timeout %d, want %d 4321", req.Acks, req.TimeoutMillis, acks)
				}
				b := kafkatest.Batches(t, req)[0]
				if b.Attributes&7 != attribute {
					t.Errorf("codec %d, want %d", b.Attributes&7, attribute)
				}
				if b.ProducerID != -1 {
					t.Errorf("producer id %d without idempotence", b.ProducerID)
				}
			})
		}
	}
}

func TestIdempotence(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	seen := make(chan *kmsg.ProduceRequest, 1)
	kafkatest.WatchProduce(cluster, func(req *kmsg.ProduceRequest) { seen <- req })
	c := kafkatest.Connection(cluster.ListenAddrs()...)
	c.Idempotence = true
	p := open(t, c, nil, nil)
	kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 1)...)
	if b := kafkatest.Batches(t, <-seen)[0]; b.ProducerID < 0 || b.FirstSequence != 0 {
		t.Errorf("producer id %d, sequence %d", b.ProducerID, b.FirstSequence)
	}
}

// TestOrderThroughRefusal has a broker refuse a request: without idempotence a single request is in flight,
// so no record may be reordered or duplicated.
func TestOrderThroughRefusal(t *testing.T) {
	for _, idempotent := range []bool{false, true} {
		t.Run(fmt.Sprint("idempotence ", idempotent), func(t *testing.T) {
			cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
			c := kafkatest.Connection(cluster.ListenAddrs()...)
			c.Idempotence = idempotent
			p := open(t, c, nil, nil)
			kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 1)...)
			fault := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotLeaderForPartition, Count: 2})
			o := kafkatest.ExpectOutcomes(t, 59)
			for i := 1; i < 60; i++ { // one by one, for several requests
				p.Send(kafkatest.Numbered("t", i, i+1), time.Now().Add(time.Minute), o.Add)
			}
			o.AllSent()
			if fault.Hits() != 2 {
				t.Errorf("%d refusals, want 2", fault.Hits())
			}
			for i, r := range kafkatest.Consume(t, "t", 60, cluster.ListenAddrs()) {
				if string(r.Value) != fmt.Sprint(i) {
					t.Fatalf("offset %d holds record %s", i, r.Value)
				}
			}
			if end := cluster.PartitionInfo("t", 0).HighWatermark; end != 60 {
				t.Errorf("%d records in the log, want 60", end)
			}
		})
	}
}

// TestBatchLimits checks that no batch has more records than batch_num_messages, or more bytes than
// batch_size except for a single record, with any number of waiting records.
func TestBatchLimits(t *testing.T) {
	for _, test := range []struct {
		records, bytes int
		fits           func(b *kmsg.RecordBatch) bool
	}{
		{7, 1000000, func(b *kmsg.RecordBatch) bool { return b.NumRecords <= 7 }},
		{1, 1000000, func(b *kmsg.RecordBatch) bool { return b.NumRecords == 1 }},
		{10000, 1, func(b *kmsg.RecordBatch) bool { return b.NumRecords == 1 }},
		{10000, 300, func(b *kmsg.RecordBatch) bool { return int(b.Length)+12 <= 300 }},
	} {
		cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
		var largest atomic.Int32
		kafkatest.WatchProduce(cluster, func(req *kmsg.ProduceRequest) {
			for _, b := range kafkatest.Batches(t, req) {
				if !test.fits(&b) {
					t.Errorf("batch_num_messages %d, batch_size %d: %d records, %d bytes", test.records, test.bytes, b.NumRecords, b.Length)
				}
				largest.Store(max(largest.Load(), b.NumRecords))
			}
		})
		c := kafkatest.Connection(cluster.ListenAddrs()...)
		c.BatchNumMessages, c.BatchSize = test.records, test.bytes
		p := open(t, c, nil, nil)
		for i := 0; i < 200; i += 50 {
			kafkatest.SendAll(t, p, kafkatest.Numbered("t", i, i+50)...)
		}
		if test.records == 7 && largest.Load() != 7 || test.bytes == 300 && largest.Load() < 5 {
			t.Errorf("the largest batch has %d records", largest.Load())
		}
	}
}

// TestMessageMaxBytes checks that the client accepts the largest record of librdkafka.
func TestMessageMaxBytes(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	c := kafkatest.Connection(cluster.ListenAddrs()...)
	for _, limit := range []int{1000, 20000, 1000000} {
		c.MessageMaxBytes = limit
		p := open(t, c, nil, nil)
		kafkatest.SendAll(t, p, kafkatest.Records(record.Record{Topic: "t", Value: make([]byte, limit-RecordOverhead)})...)
		kafkatest.SendAll(t, p, kafkatest.Records(record.Record{Topic: "t", Key: make([]byte, limit-RecordOverhead-300), Value: make([]byte, 100),
			Headers: []record.Header{{Name: strings.Repeat("n", 100), Value: make([]byte, 100)}}})...)
		p.Close()
	}
}

// TestDeadline has a broker that never answers: the attempt ends at the deadline and not before, and the
// record can be sent again.
func TestDeadline(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	p := open(t, kafkatest.Connection(cluster.ListenAddrs()...), nil, nil)
	kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 1)...)
	release, _ := kafkatest.Hang(t, cluster, kmsg.Produce)
	deadline := time.Now().Add(200 * time.Millisecond)
	o := kafkatest.ExpectOutcomes(t, 1)
	records := kafkatest.Numbered("t", 1, 2)
	p.Send(records, deadline, o.Add)
	err := o.Wait()[records[0]]
	late := time.Since(deadline)
	if err == nil || late < 0 {
		t.Fatalf("outcome %v, %v after the deadline", err, late)
	}
	if _, final := p.Permanent(err); final {
		t.Errorf("%v counts as permanent", err)
	}
	release()
	kafkatest.SendAll(t, p, records[0])
}

func TestUnknownTopic(t *testing.T) {
	cluster := kafkatest.Broker(t)
	p := open(t, kafkatest.Connection(cluster.ListenAddrs()...), nil, nil, func(tune *tuning) { tune.unknownRetries = 1 })
	record := kafkatest.Numbered("nobody-made-it", 0, 1)[0]
	err := kafkatest.Send(t, p, record)[record]
	if !client.UnknownTopic(err) {
		t.Fatalf("outcome %v", err)
	}
	if reason, final := p.Permanent(err); final {
		t.Errorf("permanent: %s; whether to go on asking is the outbox's to say", reason)
	}
	if client.UnknownTopic(kerr.NotLeaderForPartition) || client.UnknownTopic(nil) {
		t.Error("another error counts as an unknown topic")
	}
	if time.Duration(unknownTopicRetries)*client.MetadataMinAge != unknownTopicTime {
		t.Error("the client does not ask for unknownTopicTime")
	}
}

func TestTopicIsCreated(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.AllowAutoTopicCreation())
	p := open(t, kafkatest.Connection(cluster.ListenAddrs()...), nil, nil)
	kafkatest.SendAll(t, p, kafkatest.Numbered("new", 0, 3)...)
}

// TestTopicCreatedAnew deletes and recreates a topic, like an administrator with new settings. The client
// library alone refuses the new topic forever.
func TestTopicCreatedAnew(t *testing.T) {
	for _, idempotent := range []bool{false, true} {
		t.Run(fmt.Sprint("idempotence ", idempotent), func(t *testing.T) {
			cluster := kafkatest.Broker(t, kfake.SeedTopics(3, "t"))
			c := kafkatest.Connection(cluster.ListenAddrs()...)
			c.Idempotence = idempotent
			p := open(t, c, nil, nil, func(tune *tuning) { tune.unknownRetries = 1 })
			kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 3)...)
			if err := cluster.DeleteTopic("t"); err != nil {
				t.Fatal(err)
			}
			if err := cluster.CreateTopic("t", 1, nil); err != nil {
				t.Fatal(err)
			}
			record := kafkatest.Numbered("t", 3, 4)[0]
			limit := time.Now().Add(kafkatest.Patience)
			for err := kafkatest.Send(t, p, record)[record]; err != nil; err = kafkatest.Send(t, p, record)[record] {
				if _, final := p.Permanent(err); final || time.Now().After(limit) {
					t.Fatalf("outcome %v", err)
				}
			}
			if got := kafkatest.Consume(t, "t", 1, cluster.ListenAddrs())[0]; string(got.Value) != "3" {
				t.Errorf("the new topic holds %s", got.Value)
			}
		})
	}
}

// TestPermanent checks which errors end a record at once.
func TestPermanent(t *testing.T) {
	p := open(t, kafkatest.Connection("127.0.0.1:1"), nil, nil)
	for _, err := range []error{kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidTopicException, kerr.InvalidRecord} {
		if reason, final := p.Permanent(fmt.Errorf("%w (with details)", err)); !final || reason == "" {
			t.Errorf("%v: %q %v", err, reason, final)
		}
	}
	for _, err := range []error{nil, kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.PolicyViolation,
		kerr.UnsupportedForMessageFormat, kerr.UnsupportedCompressionType, kerr.InvalidRequiredAcks, kerr.InvalidTimestamp,
		kerr.NotLeaderForPartition, kerr.UnknownTopicOrPartition, kerr.SaslAuthenticationFailed,
		kerr.NotEnoughReplicas, kerr.RequestTimedOut, kgo.ErrRecordTimeout, kgo.ErrRecordRetries, kgo.ErrClientClosed,
		kgo.ErrAborting, ErrClosed, errHeldBack, errors.New("something else")} {
		if reason, final := p.Permanent(err); final {
			t.Errorf("%v is permanent: %s", err, reason)
		}
	}
}

// TestRetries spends a limited number of retries on answers of the broker, and none on an unreachable broker.
func TestRetries(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	c := kafkatest.Connection(cluster.ListenAddrs()...)
	c.Retries = 2
	p := open(t, c, nil, nil)
	one := kafkatest.Numbered("t", 0, 1)[0]
	var sent atomic.Int32
	cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		sent.Add(1)
		return refusal(req.(*kmsg.ProduceRequest), kerr.NotEnoughReplicas), nil, true
	})
	err := kafkatest.Send(t, p, one)[one]
	if reason, final := p.Permanent(err); sent.Load() != 3 || !final || reason != "retries spent" || !errors.Is(err, kerr.NotEnoughReplicas) {
		t.Errorf("%v: %q %v after %d attempts with retries = 2", err, reason, final, sent.Load())
	}
	// A record with some retries used has only the rest, and does not end the records in its batch.
	many := kafkatest.Numbered("t", 1, 20)
	many[0].Refusals = 2
	o := kafkatest.ExpectOutcomes(t, len(many))
	sent.Store(0)
	p.Send(many, time.Now().Add(time.Minute), o.Add)
	o.Wait()
	if sent.Load() != 3 || o.Order[0] != many[0] || many[0].Refusals != 3 || many[18].Refusals != 3 {
		t.Errorf("%d attempts, the first to end is %s", sent.Load(), o.Order[0].Value)
	}

	c = kafkatest.Connection("127.0.0.1:1")
	c.Retries = 0
	p = open(t, c, nil, nil)
	o = kafkatest.ExpectOutcomes(t, 1)
	p.Send([]*record.Record{one}, time.Now().Add(100*time.Millisecond), o.Add)
	err = o.Wait()[one]
	if reason, final := p.Permanent(err); final {
		t.Errorf("no broker: %v is final: %s", err, reason)
	}
}

// TestRetriesAreAnswers checks that connections lost in an outage use no retries, so a record survives the
// refusals of a starting broker.
func TestRetriesAreAnswers(t *testing.T) {
	sent, observer := sendThrough(t, false, func(n int, req *kmsg.ProduceRequest) (kmsg.Response, error, bool) {
		switch {
		case n <= 4:
			return nil, errors.New("the connection is closed"), true
		case n <= 6:
			return refusal(req, kerr.NotLeaderForPartition), nil, true
		}
		return nil, nil, false
	})
	if len(observer.seen) != 0 || sent != 7 {
		t.Errorf("dropped %v, sent %d times", observer.seen, sent)
	}
}

// TestRetriesKeepTheSequence checks that a limit of retries does not break idempotence: a retried record is
// the same to the broker.
func TestRetriesKeepTheSequence(t *testing.T) {
	var first, last kmsg.RecordBatch
	sent, observer := sendThrough(t, true, func(n int, req *kmsg.ProduceRequest) (kmsg.Response, error, bool) {
		if err := last.ReadFrom(req.Topics[0].Partitions[0].Records); err != nil {
			t.Error(err)
		}
		switch n {
		case 1:
			first = last
			return nil, errors.New("the connection is closed"), true
		case 2:
			return refusal(req, kerr.NotLeaderForPartition), nil, true
		}
		return nil, nil, false
	})
	if len(observer.seen) != 0 || sent != 3 || first.ProducerID != last.ProducerID || first.ProducerEpoch != last.ProducerEpoch ||
		first.FirstSequence != last.FirstSequence {
		t.Errorf("dropped %v, sent %d times, first as %+v, last as %+v", observer.seen, sent, first, last)
	}
}

// TestRetriesEnd checks that a constantly refused record is dropped with idempotence too.
func TestRetriesEnd(t *testing.T) {
	for _, idempotence := range []bool{false, true} {
		sent, observer := sendThrough(t, idempotence, func(_ int, req *kmsg.ProduceRequest) (kmsg.Response, error, bool) {
			return refusal(req, kerr.NotEnoughReplicas), nil, true
		})
		if got := fmt.Sprint(observer.seen); got != "[retries spent 1]" || sent != 3 {
			t.Errorf("idempotence %v: dropped %v, sent %d times", idempotence, got, sent)
		}
	}
}

// sendThrough sends a record with retries = 2 to a broker that answers the nth produce request with answer.
// The number of requests and the dropped records are returned.
func sendThrough(t *testing.T, idempotence bool, answer func(n int, req *kmsg.ProduceRequest) (kmsg.Response, error, bool)) (int, *dropped) {
	t.Helper()
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	c := kafkatest.Connection(cluster.ListenAddrs()...)
	c.Retries, c.Idempotence = 2, idempotence
	var sent atomic.Int32
	cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		return answer(int(sent.Add(1)), req.(*kmsg.ProduceRequest))
	})
	observer := &dropped{}
	box := outbox.New(outbox.Settings{Timeout: time.Hour, WindowRecords: 1000, Backoff: time.Millisecond}, open(t, c, nil, nil).Producer, kafkatest.Nobody{}, observer)
	t.Cleanup(box.Close)
	box.Accept(kafkatest.Numbers("t", 0, 1))
	drain(t, box)
	box.Close() // then the observer has been told
	return int(sent.Load()), observer
}

// TestCulprit puts a refused record among many: only this record may be lost, the others stay in order, and
// the search takes few requests.
func TestCulprit(t *testing.T) {
	for _, verdict := range []*kerr.Error{kerr.InvalidRecord, kerr.MessageTooLarge, kerr.RecordListTooLarge} {
		t.Run(verdict.Message, func(t *testing.T) { testCulprit(t, verdict) })
	}
}

func testCulprit(t *testing.T, verdict *kerr.Error) {
	const many, culprit = 100, 61
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	var requests atomic.Int32
	cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		requests.Add(1)
		produce := req.(*kmsg.ProduceRequest)
		if !bytes.Contains(produce.Topics[0].Partitions[0].Records, []byte("culprit")) {
			return nil, nil, false
		}
		return refusal(produce, verdict), nil, true
	})
	p := open(t, kafkatest.Connection(cluster.ListenAddrs()...), nil, nil)
	observer := &dropped{}
	box := outbox.New(outbox.Settings{Timeout: time.Hour, WindowRecords: 1000, Backoff: time.Millisecond}, p.Producer, kafkatest.Nobody{}, observer)
	t.Cleanup(box.Close)
	box.Accept(kafkatest.Numbers("t", 0, 1))
	drain(t, box) // the way has proven good: the next go all at once
	records := kafkatest.Numbers("t", 1, many)
	records[culprit-1].Value = []byte("culprit")
	box.Accept(records)
	drain(t, box)
	box.Close() // then the observer has been told
	if got := fmt.Sprint(observer.seen); got != fmt.Sprintf("[%s 1]", reasonOf(verdict)) {
		t.Errorf("dropped %s", got)
	}
	if requests.Load() > 30 {
		t.Errorf("%d requests for %d records", requests.Load(), many)
	}
	want := slices.Delete(kafkatest.Numbered("t", 0, many), culprit, culprit+1)
	for i, r := range kafkatest.Consume(t, "t", many-1, cluster.ListenAddrs()) {
		if !bytes.Equal(r.Value, want[i].Value) {
			t.Fatalf("offset %d holds %s, want %s", i, r.Value, want[i].Value)
		}
	}
}

// dropped notes the records that an outbox drops.
type dropped struct {
	mtx  sync.Mutex
	seen []string
}

func (*dropped) Panicked(any)   {}
func (*dropped) Spooling(error) {}

func (d *dropped) Died(topic, reason string, records int, err error) {
	d.Dropped(topic, "dead: "+reason, records, err)
}

func (d *dropped) Dropped(_, reason string, records int, _ error) {
	d.mtx.Lock()
	defer d.mtx.Unlock()
	d.seen = append(d.seen, fmt.Sprint(reason, " ", records))
}

func drain(t *testing.T, box *outbox.Outbox) {
	t.Helper()
	limit := make(chan struct{})
	timer := time.AfterFunc(kafkatest.Patience, func() { close(limit) })
	defer timer.Stop()
	if !box.Drain(limit) {
		numbers := metrics.Of("c")
		box.Collect(numbers)
		t.Fatalf("%d records are left", numbers.Sum(metrics.RecordsWaiting, metrics.RecordsSending, metrics.RecordsSpooled))
	}
}

// refusal answers a produce request for partitions of one topic with an error for each.
func refusal(req *kmsg.ProduceRequest, verdict *kerr.Error) *kmsg.ProduceResponse {
	resp := req.ResponseKind().(*kmsg.ProduceResponse)
	topic := kmsg.NewProduceResponseTopic()
	topic.Topic, topic.TopicID = req.Topics[0].Topic, req.Topics[0].TopicID
	for _, asked := range req.Topics[0].Partitions {
		partition := kmsg.NewProduceResponseTopicPartition()
		partition.Partition, partition.ErrorCode = asked.Partition, verdict.Code
		topic.Partitions = append(topic.Partitions, partition)
	}
	resp.Topics = append(resp.Topics, topic)
	return resp
}

// reasonOf is the name of the counter of a verdict.
func reasonOf(err error) string {
	reason, _, _ := client.VerdictOf(err)
	return reason
}
