package produce

import (
	"io"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/config"
	"reskafka/internal/host"
	"reskafka/internal/record"
	"reskafka/test/kafkatest"
)

// TestRequestLimit_Closes_Halve verifies the limit after each answer or close of a broker, and whether a
// second request may be in flight beside a long one.
func TestRequestLimit_Closes_Halve(t *testing.T) {
	const configured = 1_000_000
	type step struct {
		answered, closed int // the request's length
		late             bool
		after            time.Duration // since the step before
		most             int
		learned          bool
	}
	for name, steps := range map[string][]step{
		"the second close halves again":           {{closed: 1_000_000, most: 500_000}, {closed: 500_000, most: 250_000, learned: true}},
		"the same batch once more":                {{closed: 1_000_000, most: 500_000}, {closed: 1_000_000, most: 250_000, learned: true}},
		"half of it passes":                       {{closed: 1_000_000, most: 500_000}, {answered: 500_000, most: 1_000_000}, {closed: 990_000, most: 500_000, learned: true}},
		"a quarter of it passes":                  {{closed: 1_000_000, most: 500_000}, {answered: 260_000, most: 1_000_000}, {closed: 990_000, most: 260_000, learned: true}},
		"a restart":                               {{closed: 1_000_000, most: 500_000}, {answered: 500_000, most: 1_000_000}, {answered: 1_000_000, most: 1_000_000}, {closed: 1_000_000, most: 500_000}},
		"a restart long after another one":        {{closed: 1_000_000, most: 500_000}, {answered: 500_000, most: 1_000_000}, {closed: 700_000, after: 11 * time.Minute, most: 350_000}},
		"restarts with short requests between":    {{closed: 1_000_000, most: 500_000}, {answered: 1000, most: 500_000}, {closed: 100_000, after: 11 * time.Minute, most: 50_000}, {answered: 50_000, most: 1_000_000}},
		"the same batch once more, a while later": {{closed: 1_000_000, most: 500_000}, {closed: 1_000_000, after: 9 * time.Minute, most: 250_000, learned: true}},
		"a short answer proves nothing":           {{closed: 1_000_000, most: 500_000}, {answered: 1000, most: 500_000}},
		"two requests on one connection":          {{closed: 900_000, most: 450_000}, {closed: 1_000_000, late: true, most: 500_000}},
		"no limit below what brokers need":        {{closed: 70_000, most: 35_000}, {closed: 70_000, most: minRequestBytes, learned: true}},
	} {
		var l requestLimit
		now := time.Unix(0, 0)
		for i, s := range steps {
			now = now.Add(s.after)
			before := l.closes
			if s.late {
				before--
			}
			if s.answered > 0 {
				l.answered(s.answered)
			} else if learned := l.closed(s.closed, before, now); learned != s.learned {
				t.Errorf("%s, step %d: learned %v", name, i, learned)
			}
			if most := l.max(configured); most != s.most {
				t.Errorf("%s, step %d: requests of %d bytes, want %d", name, i, most, s.most)
			}
		}
	}
	var l requestLimit
	if l.pipelines(configured, configured) {
		t.Error("a second long request is sent before the first one was answered")
	}
	l.answered(600_000)
	if !l.pipelines(configured, configured) {
		t.Error("a second long request waits although one was answered")
	}
}

// TestProducer_LongQueues_RequestsStayWithinLimit compares requests on the wire, in every version, with
// request_max_bytes: full batches of several partitions, and batches filled before the limit was learned.
func TestProducer_LongQueues_RequestsStayWithinLimit(t *testing.T) {
	id := strings.Repeat("c", 200)
	format := kmsg.NewRequestFormatter(kmsg.FormatterClientID(id))
	for _, learned := range []int{0, 40_000} {
		b := playing(t, false, func(c *config.Connection) { c.RequestMaxBytes, c.ClientID = 100_000, id })
		b.topic(0, 0, 0)
		o := kafkatest.ExpectOutcomes(t, 900)
		var records []record.Record
		for i := range 900 {
			records = append(records, record.Record{Topic: "t", Key: key(int32(i%3), 3), Value: make([]byte, 500), Accepted: time.Now()})
		}
		b.send(o, kafkatest.Records(records...)...)
		b.look(func() { b.nodes[0].limit.bytes = learned })
		limit, longest := max(learned, 0), 0
		if limit == 0 {
			limit = 100_000
		}
		for left := len(records); left > 0; {
			f := b.leaves(0, true)
			for _, c := range f.cargo {
				c.batch.pack(nil)
				left -= len(c.batch.records)
			}
			for version := int16(3); version <= 13; version++ {
				size := len(format.AppendRequest(nil, b.request(f, version), 0))
				if size > f.size || size > limit {
					t.Errorf("version %d: a request of %d bytes, counted as %d, limit %d", version, size, f.size, limit)
				}
				longest = max(longest, size)
			}
			b.answers(f, nil)
		}
		if longest < limit*3/4 {
			t.Errorf("the longest request has %d of %d bytes", longest, limit)
		}
		o.AllSent()
	}
}

// request is a flight's request in a version of the protocol.
func (b *bench) request(f *flight, version int16) *kmsg.ProduceRequest {
	request := kmsg.NewPtrProduceRequest()
	request.SetVersion(version)
	for _, c := range f.cargo {
		topic, partition := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
		topic.Topic, partition.Records = c.partition.topic.name, c.batch.wire
		topic.Partitions = append(topic.Partitions, partition)
		request.Topics = append(request.Topics, topic)
	}
	return request
}

// TestProducer_BatchInDoubtOverLimit_KeepsSequence verifies idempotence for a batch in doubt: repeated
// unchanged while the limit is uncertain, and then in pieces with the same sequence numbers. A broker with
// the batch refuses the pieces. Neither the deadline nor a reload returns a piece possibly at a broker.
func TestProducer_BatchInDoubtOverLimit_KeepsSequence(t *testing.T) {
	const many = 200
	b := playing(t, true)
	part := b.topic(0).partitions[0]
	o := kafkatest.ExpectOutcomes(t, many+1)
	records := kafkatest.Numbers("t", 0, many)
	for i := range records {
		records[i].Value = make([]byte, 1000)
	}
	b.send(o, kafkatest.Records(records...)...)
	b.look(func() { part.identity, part.following = b.identity, 7 })
	for range 2 {
		f := b.leaves(0, true)
		if whole := f.cargo[0].batch; len(whole.records) != many || whole.sequence != 7 {
			t.Fatalf("%d records with sequence %d are sent", len(whole.records), whole.sequence)
		}
		b.deliver(b.landed(f, nil, io.EOF))
	}
	b.log.WaitFor(t, host.Warning, "closed the connection again after a request of")
	b.send(o, kafkatest.Numbered("t", many, many+1)...) // at no broker
	b.later(30 * time.Minute)
	for next := int32(7); next < 7+many; {
		f := b.leaves(0, true)
		piece := f.cargo[0].batch
		if n := len(piece.records); piece.sequence != next || piece.identity.id != 7 || n == many || f.size > b.nodes[0].limit.bytes {
			t.Fatalf("%d records with sequence %d of %d in a request of %d bytes, want %d", n, piece.sequence, piece.identity.id, f.size, next)
		}
		if next == 7 {
			b.Recall()
			b.deliver(b.expired(part))
			o.Mtx.Lock()
			if len(o.Order) != 1 {
				t.Errorf("%d records come back, of which a broker may have all but one", len(o.Order))
			}
			o.Mtx.Unlock()
		}
		next += int32(len(piece.records))
		b.answers(f, nil)
	}
	o.Wait()
}

// expired returns the outcomes of a partition's expired batches.
func (b *bench) expired(part *partition) []outcome {
	b.mtx.Lock()
	defer b.mtx.Unlock()
	return b.expire(part, b.now().Add(2*time.Hour))
}

// TestProducer_SplitWithoutDoubt_NumbersGoOn verifies that the pieces of a split batch have the consecutive
// sequence numbers of the whole.
func TestProducer_SplitWithoutDoubt_NumbersGoOn(t *testing.T) {
	b := playing(t, true)
	part := b.topic(0).partitions[0]
	o := kafkatest.ExpectOutcomes(t, 10)
	b.send(o, kafkatest.Numbered("t", 0, 10)...)
	b.look(func() {
		b.number(part, part.queue[0])
		b.cut(part, 4, math.MaxInt)
		first, rest := part.queue[0], part.queue[1]
		b.number(part, first)
		b.number(part, rest)
		if first.sequence != 0 || !first.sequenced || rest.sequence != 4 || part.following != 10 {
			t.Errorf("sequences %d and %d, next %d", first.sequence, rest.sequence, part.following)
		}
	})
	b.Close()
	returned(t, o)
}

// TestProducer_AnswersToLongBatchLost_NothingTwice verifies idempotence in a network with lost answers: two
// closes after long requests look like a broker's limit, and the broker does not recognize the pieces of a
// batch.
func TestProducer_AnswersToLongBatchLost_NothingTwice(t *testing.T) {
	t.Parallel()
	const many = 200
	cluster, network := kafkatest.NewLossyBroker(t, kfake.SeedTopics(1, "t"))
	var left atomic.Int32
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if left.Add(-1) >= 0 {
			network.Lose(true)
		}
		return nil, nil, false
	})
	c := kafkatest.Connection(cluster.ListenAddrs()...)
	c.Idempotence = true
	p := open(t, c, nil, nil)
	kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 1)...)
	left.Store(3)
	records := kafkatest.Numbers("t", 1, many)
	for i := range records {
		records[i].Value = make([]byte, 1000)
	}
	o := kafkatest.ExpectOutcomes(t, many-1)
	p.Send(kafkatest.Records(records...), time.Time{}, o.Add)
	for range 3 {
		kafkatest.Await(t, network.Lost)
		network.Lose(false)
		network.Cut()
	}
	o.AllSent()
	if n := cluster.PartitionInfo("t", 0).HighWatermark; n != many {
		t.Errorf("%d records on the broker, want %d", n, many)
	}
}

// TestProducer_PiecesOutOfOrder_EndsWithNewProducerID verifies a broker without the producer's state, which
// refuses a batch both as a whole and in pieces: the records arrive after some attempts under another
// producer id.
func TestProducer_PiecesOutOfOrder_EndsWithNewProducerID(t *testing.T) {
	const many = 200
	b := playing(t, true)
	part := b.topic(0).partitions[0]
	o := kafkatest.ExpectOutcomes(t, many)
	records := kafkatest.Numbers("t", 0, many)
	for i := range records {
		records[i].Value = make([]byte, 1000)
	}
	b.send(o, kafkatest.Records(records...)...)
	b.look(func() { part.identity, part.following = b.identity, 7 })
	wholes := 0
	for b.identity.given {
		f := b.leaves(0, true)
		if batch := f.cargo[0].batch; batch.sequence != 7 {
			t.Fatalf("sequence %d", batch.sequence)
		} else if len(batch.records) < many {
			b.answers(f, kerr.OutOfOrderSequenceNumber)
			continue
		}
		wholes++
		b.deliver(b.landed(f, nil, io.EOF))
	}
	if wholes != 2*(1+maxRejoins) { // each time until the limit is certain
		t.Errorf("the whole was sent %d times", wholes)
	}
	b.look(func() {
		b.identity = identity{id: 8, given: true}
		part.resume = time.Time{}
		b.offer(part)
	})
	for n := int32(0); n < many; {
		f := b.leaves(0, true)
		batch := f.cargo[0].batch
		if batch.identity.id != 8 || batch.sequence != n {
			t.Fatalf("sequence %d of %d, want %d", batch.sequence, batch.identity.id, n)
		}
		n += int32(len(batch.records))
		b.answers(f, nil)
	}
	o.AllSent()
	b.look(func() {
		if part.bytes != 0 {
			t.Errorf("%d bytes of nothing", part.bytes)
		}
	})
}
