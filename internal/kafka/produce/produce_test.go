package produce

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/config"
	"reskafka/internal/host"
	"reskafka/internal/kafka/client"
	"reskafka/internal/record"
	"reskafka/test/kafkatest"
)

// bench is a producer without brokers: the test plays them, and takes each request.
type bench struct {
	*sender
	t     *testing.T
	log   *kafkatest.Lines
	clock *clock // stands still: otherwise a failed request would be due again during the test
}

func playing(t *testing.T, idempotence bool, adjust ...func(*config.Connection)) *bench {
	c := kafkatest.Connection(kafkatest.RefusedAddress(t))
	c.Idempotence, c.ReconnectBackoff, c.ReconnectBackoffMax = idempotence, time.Hour, time.Hour
	for _, fn := range adjust {
		fn(c)
	}
	log := kafkatest.NewLines()
	clock := newClock()
	p := clock.producer(t, c, log, nil)
	p.mtx.Lock()
	defer p.mtx.Unlock()
	if idempotence {
		p.identity = identity{id: 7, given: true}
	}
	return &bench{p, t, log, clock}
}

// topic sets the leaders of topic t's partitions. No request goes to those brokers. The producer's own
// request for the topic has failed before, and the next is due in about an hour: only the test changes
// topic.ask.
func (b *bench) topic(leaders ...int32) *topic {
	b.mtx.Lock()
	for _, id := range leaders {
		if b.nodes[id] == nil && id >= 0 {
			b.nodes[id] = &node{id: id, resume: time.Now().Add(time.Hour)}
		}
	}
	t := b.topicFor("t")
	b.mtx.Unlock()
	for asked := false; !asked; time.Sleep(time.Millisecond) {
		b.look(func() { asked = t.askNext.Sub(b.now()) > time.Minute })
	}
	b.learn(t, told([16]byte{1}, leaders...))
	return t
}

func (b *bench) learn(t *topic, said kmsg.MetadataResponseTopic) {
	said.Topic = &t.name
	b.deliver(b.learned([]*topic{t}, &kmsg.MetadataResponse{Topics: []kmsg.MetadataResponseTopic{said}}))
}

func told(id [16]byte, leaders ...int32) kmsg.MetadataResponseTopic {
	said := kmsg.MetadataResponseTopic{TopicID: id}
	for number, leader := range leaders {
		said.Partitions = append(said.Partitions, kmsg.MetadataResponseTopicPartition{Partition: int32(number), Leader: leader})
	}
	return said
}

// leaves takes the flight of a broker's ready batches, written or not.
func (b *bench) leaves(id int32, written bool) *flight {
	b.t.Helper()
	b.mtx.Lock()
	defer b.mtx.Unlock()
	n := b.nodes[id]
	if len(n.ready) == 0 {
		b.t.Fatal("nothing is ready")
	}
	f := b.load(n)
	n.flights++
	if written {
		f.state.Store(departed)
	}
	return f
}

// later lets time pass: less than an hour, or the brokers would be tried.
func (b *bench) later(by time.Duration) {
	b.clock.pass(by)
	b.tick()
}

// answers lands a flight with the same answer for all its partitions.
func (b *bench) answers(f *flight, verdict *kerr.Error) {
	answer := &kmsg.ProduceResponse{}
	for _, c := range f.cargo {
		one := kmsg.ProduceResponseTopicPartition{Partition: c.partition.number}
		if verdict != nil {
			one.ErrorCode = verdict.Code
		}
		answer.Topics = append(answer.Topics, kmsg.ProduceResponseTopic{
			Topic: c.partition.topic.name, Partitions: []kmsg.ProduceResponseTopicPartition{one},
		})
	}
	b.deliver(b.landed(f, answer, nil))
}

// look runs fn with the producer's lock held.
func (b *bench) look(fn func()) {
	b.mtx.Lock()
	defer b.mtx.Unlock()
	fn()
}

func (b *bench) send(o *kafkatest.Outcomes, records ...*record.Record) {
	b.Send(records, time.Now().Add(time.Hour), o.Add)
}

// TestLeaderlessIsAskedFor verifies that a record for a partition without a leader causes a metadata request,
// even just after another request.
func TestLeaderlessIsAskedFor(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	p := open(t, kafkatest.Connection(cluster.ListenAddrs()...), nil, nil)
	kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 1)...)
	p.mtx.Lock()
	p.led(p.topics["t"].partitions[0], -1)
	p.mtx.Unlock()
	kafkatest.SendAll(t, p, kafkatest.Numbered("t", 1, 2)...)
}

// TestLeaderMovesMeanwhile verifies that records behind a request go to the new leader, without any further
// event.
func TestLeaderMovesMeanwhile(t *testing.T) {
	b := playing(t, false)
	topic := b.topic(0, 1)
	part := topic.partitions[0]
	o := kafkatest.ExpectOutcomes(t, 2)
	b.send(o, &record.Record{Topic: "t", Key: key(0, 2)})
	f := b.leaves(0, true)
	b.send(o, &record.Record{Topic: "t", Key: key(0, 2)})
	b.look(func() {
		b.led(part, 1)
		b.nodes[1].resume = time.Time{}
	})
	b.answers(f, nil)
	b.look(func() {
		if part.flying != 1 || part.aboard.id != 1 {
			t.Error("nothing goes to the new leader")
		}
	})
}

// key returns a key for a partition of n.
func key(partition int32, n int) []byte {
	c := newConsistentRandom(0)
	for i := byte(1); ; i++ {
		if c.partition([]byte{i}, n, nil) == partition {
			return []byte{i}
		}
	}
}

// TestNumbersAreNeverUsedAgain verifies that no two batches have the same sequence numbers of one producer
// id, for any metadata of a topic: a broker would drop the second batch as a repetition.
func TestNumbersAreNeverUsedAgain(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	c := kafkatest.Connection(cluster.ListenAddrs()...)
	c.Idempotence = true
	p := open(t, c, nil, nil)
	release, asked := kafkatest.Hang(t, cluster, kmsg.Produce)
	o := kafkatest.ExpectOutcomes(t, 5)
	p.Send(kafkatest.Numbered("t", 0, 5), time.Now().Add(time.Hour), o.Add)
	kafkatest.Await(t, asked)
	b := &bench{sender: p, t: t}
	p.mtx.Lock()
	topic := p.topics["t"]
	id := topic.id
	p.mtx.Unlock()
	b.learn(topic, told([16]byte{}, 0)) // of a broker without topic ids
	b.learn(topic, told(id, 0))
	release()
	o.AllSent()
	kafkatest.SendAll(t, p, kafkatest.Numbered("t", 5, 10)...)
	once(t, cluster, 10)
}

// TestAnswerByOldID verifies an answer with the topic id from the time of the request.
func TestAnswerByOldID(t *testing.T) {
	b := playing(t, false)
	topic := b.topic(0)
	o := kafkatest.ExpectOutcomes(t, 1)
	b.send(o, kafkatest.Numbered("t", 0, 1)...)
	f := b.leaves(0, true)
	b.learn(topic, told([16]byte{2}, 0))
	b.deliver(b.landed(f, &kmsg.ProduceResponse{Topics: []kmsg.ProduceResponseTopic{{
		TopicID: [16]byte{1}, Partitions: []kmsg.ProduceResponseTopicPartition{{BaseOffset: 5}},
	}}}, nil))
	o.AllSent()
}

// TestCutKeepsAll cuts a batch: its records' times make the rest longer than the whole.
func TestCutKeepsAll(t *testing.T) {
	b := playing(t, false)
	part := b.topic(0).partitions[0]
	const many = 200
	o := kafkatest.ExpectOutcomes(t, many)
	at := time.Now()
	var records []*record.Record
	for i := range many {
		r := &record.Record{Topic: "t", Key: []byte("k"), Accepted: at}
		if i == 1 { // the clock was set back then
			r.Accepted = at.Add(time.Hour)
		}
		records = append(records, r)
	}
	b.send(o, records...)
	b.look(func() {
		b.cut(part, 1, math.MaxInt)
		if first, rest := part.queue[0], part.queue[1]; len(first.records) != 1 || len(rest.records) != many-1 {
			t.Errorf("%d and %d records", len(first.records), len(rest.records))
		}
	})
	b.Close()
	returned(t, o)
}

// TestInDoubtGoesOn verifies that an open doubt does not stop the batch's own request.
func TestInDoubtGoesOn(t *testing.T) {
	b := playing(t, true)
	part := b.topic(0).partitions[0]
	o := kafkatest.ExpectOutcomes(t, 1)
	b.Send(kafkatest.Numbered("t", 0, 1), time.Now().Add(time.Minute), o.Add)
	b.look(func() { part.queue[0].doubtful = true })
	f := b.leaves(0, false)
	b.later(2 * time.Minute)
	b.Recall()
	o.None()
	if f.state.Load() != boarding {
		t.Error("its request was recalled")
	}
}

// TestSetUpIsNoRefusal verifies that an error of the login is no verdict on records.
func TestSetUpIsNoRefusal(t *testing.T) {
	b := playing(t, false, func(c *config.Connection) { c.Retries = 0 })
	b.topic(0)
	o := kafkatest.ExpectOutcomes(t, 1)
	r := kafkatest.Numbered("t", 0, 1)[0]
	b.send(o, r)
	f := b.leaves(0, false)
	b.deliver(b.landed(f, nil, kerr.SaslAuthenticationFailed))
	o.None()
	if r.Refusals != 0 {
		t.Errorf("%d refusals", r.Refusals)
	}
}

// TestSilentAnswerWaits verifies a pause after an answer without the partition.
func TestSilentAnswerWaits(t *testing.T) {
	b := playing(t, false)
	part := b.topic(0).partitions[0]
	o := kafkatest.ExpectOutcomes(t, 1)
	b.send(o, kafkatest.Numbered("t", 0, 1)...)
	b.deliver(b.landed(b.leaves(0, true), &kmsg.ProduceResponse{}, nil))
	o.None()
	b.look(func() {
		if !part.pausing || part.listed != nil {
			t.Error("it would be asked at once")
		}
	})
}

// TestBrokerThatLags verifies a broker without a topic's new partitions: no record is sent twice, and an
// impossible number is harmless.
func TestBrokerThatLags(t *testing.T) {
	b := playing(t, true)
	topic := b.topic(0, 0)
	o := kafkatest.ExpectOutcomes(t, 1)
	b.send(o, &record.Record{Topic: "t", Key: key(1, 2)})
	f := b.leaves(0, true)
	b.learn(topic, told([16]byte{1}, 0))
	o.None()
	odd := told([16]byte{1}, 0, 0)
	odd.Partitions[0].Partition = -1
	b.learn(topic, odd)
	b.answers(f, nil)
	o.AllSent()

	o = kafkatest.ExpectOutcomes(t, 1)
	b.send(o, &record.Record{Topic: "t", Key: key(1, 2)})
	b.learn(topic, told([16]byte{2}, 0)) // deleted and created again with fewer
	for _, err := range o.Wait() {
		if !client.UnknownTopic(err) {
			t.Errorf("outcome %v", err)
		}
	}
}

// TestStaleVerdict verifies that an answer about an earlier producer id does not end the present id.
func TestStaleVerdict(t *testing.T) {
	b := playing(t, true)
	part := b.topic(0).partitions[0]
	o := kafkatest.ExpectOutcomes(t, 2)
	b.send(o, kafkatest.Numbered("t", 0, 2)...)
	f := b.leaves(0, true)
	b.look(func() { b.identity = identity{id: 8, given: true} })
	b.answers(f, kerr.OutOfOrderSequenceNumber)
	o.None()
	b.look(func() {
		if b.identity.id != 8 {
			t.Errorf("the producer id is %+v", b.identity)
		}
		part.resume = time.Time{}
		b.led(part, -1)
		b.led(part, 0)
	})
	f = b.leaves(0, true)
	if batch := f.cargo[0].batch; batch.identity.id != 8 || batch.sequence != 0 {
		t.Errorf("sent again as %+v", batch)
	}
	b.answers(f, nil)
	o.AllSent()
}

// TestProducerIDRefused verifies the log line and the records' errors about a refused producer id.
func TestProducerIDRefused(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	asked := make(chan struct{}, 1000)
	cluster.ControlKey(int16(kmsg.InitProducerID), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		asked <- struct{}{}
		answer := req.ResponseKind().(*kmsg.InitProducerIDResponse)
		answer.ErrorCode = kerr.ClusterAuthorizationFailed.Code
		return answer, nil, true
	})
	c := kafkatest.Connection(cluster.ListenAddrs()...)
	c.Idempotence = true
	log, status := kafkatest.NewLines(), &client.Status{}
	p, later := openEarly(t, c, log, status)
	o := kafkatest.ExpectOutcomes(t, 1)
	p.Send(kafkatest.Numbered("t", 0, 1), time.Now().Add(time.Hour), o.Add)
	log.WaitFor(t, host.Warning, "producer id")
	for range 4 { // refused some times more
		kafkatest.Await(t, asked)
	}
	if n := len(log.Above(host.Warning)); n != 1 {
		t.Errorf("%d lines: %v", n, log.Above(host.Warning))
	}
	later(2 * time.Hour)
	for _, err := range o.Wait() {
		if !errors.Is(err, kerr.ClusterAuthorizationFailed) {
			t.Errorf("outcome %v", err)
		}
	}
	if last := status.Snapshot().LastError; last.Text == "" {
		t.Error("the status tells of no error")
	}
}

// TestTopicUnusable verifies the same for a topic with an error in its metadata.
func TestTopicUnusable(t *testing.T) {
	cluster := kafkatest.Broker(t)
	cluster.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		asked := req.(*kmsg.MetadataRequest)
		if len(asked.Topics) == 0 {
			return nil, nil, false
		}
		answer := req.ResponseKind().(*kmsg.MetadataResponse)
		answer.Topics = []kmsg.MetadataResponseTopic{{Topic: asked.Topics[0].Topic, ErrorCode: kerr.InvalidReplicationFactor.Code}}
		return answer, nil, true
	})
	log, status := kafkatest.NewLines(), &client.Status{}
	p, later := openEarly(t, kafkatest.Connection(cluster.ListenAddrs()...), log, status)
	o := kafkatest.ExpectOutcomes(t, 1)
	p.Send(kafkatest.Numbered("t", 0, 1), time.Now().Add(time.Hour), o.Add)
	log.WaitFor(t, host.Warning, "INVALID_REPLICATION_FACTOR")
	later(2 * time.Hour)
	for _, err := range o.Wait() {
		if !errors.Is(err, kerr.InvalidReplicationFactor) {
			t.Errorf("outcome %v", err)
		}
	}
	if last := status.Snapshot().LastError; last.Text == "" {
		t.Error("the status tells of no error")
	}
}

// TestTroubleIsTold verifies the log line for records in a long wait, without lines for temporary trouble.
func TestTroubleIsTold(t *testing.T) {
	for _, test := range []struct {
		want    string
		trouble func(b *bench, one *topic)
	}{
		{"partition 0 has no leader", func(b *bench, one *topic) { b.learn(one, told([16]byte{1}, -1, 0)) }},
		{"NOT_ENOUGH_REPLICAS", func(b *bench, one *topic) {
			part := one.partitions[0]
			b.look(func() {
				part.resume = time.Time{}
				b.offer(part)
			})
			b.answers(b.leaves(0, true), kerr.NotEnoughReplicas)
			b.learn(one, told([16]byte{1}, 0, 0))
		}},
	} {
		b := playing(t, false)
		one := b.topic(0, 0)
		o := kafkatest.ExpectOutcomes(t, 1)
		b.send(o, &record.Record{Topic: "t", Key: key(0, 2)})
		for range passing {
			if lines := b.log.About("topic t: "); len(lines) > 0 {
				t.Errorf("too soon: %v", lines)
			}
			test.trouble(b, one)
			b.tellOfTrouble([]*topic{one})
		}
		b.log.WaitFor(t, host.Warning, "topic t: "+test.want)
		b.Close()
		returned(t, o)
		b.tellOfTrouble([]*topic{one})
		if lines := b.log.About("topic t: "); len(lines) != 1 {
			t.Errorf("%d lines: %v", len(lines), lines)
		}
	}
}
