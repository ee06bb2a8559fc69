package produce

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/host"
	"reskafka/internal/kafka/client"
	"reskafka/internal/outbox"
	"reskafka/test/kafkatest"
)

// refuser answers requests to produce to topic t in place of a cluster while on is set.
func refuser(t *testing.T, cluster *kfake.Cluster, answer func(*kmsg.ProduceRequest) *kmsg.ProduceResponse) (on *atomic.Bool, requests *atomic.Int32) {
	t.Helper()
	on, requests = &atomic.Bool{}, &atomic.Int32{}
	cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if !on.Load() || len(req.(*kmsg.ProduceRequest).Topics) == 0 { // the second of a recalled request
			return nil, nil, false
		}
		response := answer(req.(*kmsg.ProduceRequest))
		if response != nil {
			requests.Add(1)
		}
		return response, nil, response != nil
	})
	return on, requests
}

// TestProducer_TopicRefused_RecordsWait checks that a verdict on a topic or the cluster costs no record, also
// with `retries` = 0 and with idempotence. Records wait in order. The log has an error at once, and a line at
// the end of the refusal.
func TestProducer_TopicRefused_RecordsWait(t *testing.T) {
	for _, verdict := range client.VerdictsOn(client.OnTopic) {
		for _, idempotence := range []bool{false, true} {
			t.Run(fmt.Sprint(verdict.Message, " idempotence ", idempotence), func(t *testing.T) {
				t.Parallel()
				const many = 300
				cluster := kafkatest.Broker(t, kfake.SeedTopics(3, "t"))
				on, requests := refuser(t, cluster, func(req *kmsg.ProduceRequest) *kmsg.ProduceResponse {
					return refusal(req, verdict)
				})
				log := kafkatest.NewLines()
				c := kafkatest.Connection(cluster.ListenAddrs()...)
				c.Retries, c.Idempotence = 0, idempotence
				if idempotence {
					c.Retries = 1
				}
				observer := &dropped{}
				box := outbox.New(outbox.Settings{Timeout: time.Hour, WindowRecords: 1000, Backoff: 10 * time.Millisecond, BackoffMax: 50 * time.Millisecond},
					open(t, c, log, nil).Producer, kafkatest.Nobody{}, observer)
				t.Cleanup(box.Close)
				box.Accept(kafkatest.Numbers("t", 0, 1))
				drain(t, box)
				on.Store(true)
				box.Accept(kafkatest.Numbers("t", 1, many))
				line := log.WaitFor(t, host.Error, "connection my-kafka: topic t: "+verdict.Message)
				if !strings.HasSuffix(line.Text, "records wait") {
					t.Errorf("%s", line.Text)
				}
				for requests.Load() < 5 {
					time.Sleep(time.Millisecond)
				}
				on.Store(false)
				drain(t, box)
				log.WaitFor(t, host.Notice, "topic t works again after")
				box.Close()
				if len(observer.seen) != 0 {
					t.Errorf("dropped %v", observer.seen)
				}
				if n := len(log.About("topic t")); n != 1 {
					t.Errorf("%d lines: %v", n, log.About("topic t"))
				}
				want := kafkatest.Numbered("t", 0, many)
				for i, r := range kafkatest.Consume(t, "t", many, cluster.ListenAddrs()) {
					if string(r.Value) != string(want[i].Value) {
						t.Fatalf("record %d is %s, want %s", i, r.Value, want[i].Value)
					}
				}
			})
		}
	}
}

// TestProducer_TopicRefusedByMetadata_RecordsWait checks the same for a topic that the brokers refuse to
// describe.
func TestProducer_TopicRefusedByMetadata_RecordsWait(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	var refused atomic.Bool
	refused.Store(true)
	cluster.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		asked := req.(*kmsg.MetadataRequest)
		if len(asked.Topics) == 0 || !refused.Load() {
			return nil, nil, false
		}
		answer := req.ResponseKind().(*kmsg.MetadataResponse)
		answer.Topics = []kmsg.MetadataResponseTopic{{Topic: asked.Topics[0].Topic, ErrorCode: kerr.TopicAuthorizationFailed.Code}}
		return answer, nil, true
	})
	log, observer := kafkatest.NewLines(), &dropped{}
	box := outbox.New(outbox.Settings{Timeout: time.Hour, WindowRecords: 1000, Backoff: time.Millisecond},
		open(t, kafkatest.Connection(cluster.ListenAddrs()...), log, nil).Producer, kafkatest.Nobody{}, observer)
	t.Cleanup(box.Close)
	box.Accept(kafkatest.Numbers("t", 0, 10))
	log.WaitFor(t, host.Error, "topic t: TOPIC_AUTHORIZATION_FAILED")
	refused.Store(false)
	drain(t, box)
	log.WaitFor(t, host.Notice, "topic t works again after")
	if len(observer.seen) != 0 {
		t.Errorf("dropped %v", observer.seen)
	}
}

// TestProducer_TopicRefusedInDoubt_KeepsBatch checks idempotence: a batch possibly at a broker keeps its
// sequence number after a refusal of the topic, because a return would cause a duplicate.
func TestProducer_TopicRefusedInDoubt_KeepsBatch(t *testing.T) {
	b := playing(t, true)
	part := b.topic(0).partitions[0]
	o := kafkatest.ExpectOutcomes(t, 2)
	b.send(o, kafkatest.Numbered("t", 0, 1)...)
	b.answers(b.leaves(0, true), kerr.RequestTimedOut) // the leader has the batch
	again := func() {
		b.look(func() {
			part.resume = time.Time{}
			b.offer(part)
		})
	}
	again()
	b.answers(b.leaves(0, true), kerr.TopicAuthorizationFailed)
	o.None()
	b.send(o, kafkatest.Numbered("t", 1, 2)...)
	again()
	f := b.leaves(0, true)
	if batch := f.cargo[0].batch; batch.sequence != 0 || batch.identity.id != 7 {
		t.Errorf("sent again with sequence %d of %d", batch.sequence, batch.identity.id)
	}
	b.answers(f, kerr.DuplicateSequenceNumber)
	b.answers(b.leaves(0, true), nil)
	o.AllSent()
	b.log.WaitFor(t, host.Notice, "topic t works again")
}

// TestProducer_TopicRefusedWithoutLeader_IsAskedAboutAgain guards a batch in doubt of a partition without a
// leader: after a refused or unsuccessful description of the topic, no further request followed, and the
// topic stopped forever.
func TestProducer_TopicRefusedWithoutLeader_IsAskedAboutAgain(t *testing.T) {
	for _, code := range []*kerr.Error{kerr.TopicAuthorizationFailed, kerr.UnknownTopicOrPartition} {
		t.Run(code.Message, func(t *testing.T) {
			b := playing(t, true)
			known := b.topic(0)
			o := kafkatest.ExpectOutcomes(t, 1)
			b.send(o, kafkatest.Numbered("t", 0, 1)...)
			b.answers(b.leaves(0, true), kerr.RequestTimedOut) // the leader has the batch
			b.learn(known, told([16]byte{1}, -1))
			refused := told([16]byte{})
			refused.ErrorCode = code.Code
			for range unknownTopicRetries + 1 {
				b.look(func() { known.ask = false })
				b.learn(known, refused)
				b.look(func() {
					if !known.ask {
						t.Fatal("the topic is not asked about again")
					}
				})
			}
			o.None()
			b.learn(known, told([16]byte{1}, 0))
			b.answers(b.leaves(0, true), nil)
			o.AllSent()
		})
	}
}

// timeRefused answers like Apache Kafka for records outside the limits of their times, or returns nil.
func timeRefused(t *testing.T, req *kmsg.ProduceRequest, low, high time.Time, limits bool) *kmsg.ProduceResponse {
	_, records := decoded(t, req.Topics[0].Partitions[0].Records)
	batch := kafkatest.Batches(t, req)[0]
	response := refusal(req, kerr.InvalidTimestamp)
	said := &response.Topics[0].Partitions[0]
	text := "One or more records have been rejected due to invalid timestamp"
	said.ErrorMessage = &text
	for i, r := range records {
		if at := time.UnixMilli(batch.FirstTimestamp + r.TimestampDelta64); at.Before(low) || at.After(high) {
			one := kmsg.NewProduceResponseTopicPartitionErrorRecord()
			one.RelativeOffset = int32(i)
			detail := fmt.Sprintf("Timestamp %d of message with offset %d is out of range. The timestamp should be within [%d, %d]",
				at.UnixMilli(), i, low.UnixMilli(), high.UnixMilli())
			if limits {
				one.ErrorMessage = &detail
			}
			said.ErrorRecords = append(said.ErrorRecords, one)
		}
	}
	if len(said.ErrorRecords) == 0 {
		return nil
	}
	return response
}

// TestProducer_TimeRefused_SendsAnotherTime checks that a wrong clock costs no record: with this machine two
// hours ahead, or with records older than the topic's limit, each record arrives, in order and with an
// accepted time.
func TestProducer_TimeRefused_SendsAnotherTime(t *testing.T) {
	const many = 200
	for name, test := range map[string]struct {
		ahead, age  time.Duration
		idempotence bool
		limits      bool
	}{
		"clock ahead":                   {ahead: 2 * time.Hour, limits: true},
		"clock ahead, with idempotence": {ahead: 2 * time.Hour, limits: true, idempotence: true},
		"old records":                   {age: 48 * time.Hour, limits: true},
		"old records, limits not told":  {age: 48 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
			low, high := time.Now().Add(-24*time.Hour), time.Now().Add(time.Hour)
			on, _ := refuser(t, cluster, func(req *kmsg.ProduceRequest) *kmsg.ProduceResponse {
				return timeRefused(t, req, low, high, test.limits)
			})
			on.Store(true)
			c := kafkatest.Connection(cluster.ListenAddrs()...)
			c.Idempotence, c.Retries = test.idempotence, 1
			log, observer := kafkatest.NewLines(), &dropped{}
			p := open(t, c, log, nil, func(tune *tuning) { tune.now = func() time.Time { return time.Now().Add(test.ahead) } })
			box := outbox.New(outbox.Settings{Timeout: 9 * time.Hour, WindowRecords: 1000, Backoff: time.Millisecond}, p.Producer, kafkatest.Nobody{}, observer)
			t.Cleanup(box.Close)
			records := kafkatest.Numbers("t", 0, many)
			for i := range records {
				if i%3 > 0 || test.ahead > 0 { // some are in order
					records[i].Accepted = records[i].Accepted.Add(test.ahead - test.age)
				}
			}
			box.Accept(records)
			drain(t, box)
			log.WaitFor(t, host.Error, "topic t: INVALID_TIMESTAMP")
			log.WaitFor(t, host.Notice, "topic t works again")
			box.Close()
			if len(observer.seen) != 0 {
				t.Errorf("dropped %v", observer.seen)
			}
			for i, r := range kafkatest.Consume(t, "t", many, cluster.ListenAddrs()) {
				if string(r.Value) != fmt.Sprint(i) || r.Timestamp.Before(low) || r.Timestamp.After(high) {
					t.Fatalf("record %d is %s of %s", i, r.Value, r.Timestamp)
				}
			}
		})
	}
}

// TestProducer_TimeRefusedWithoutLimits_WaitsForTheClock checks a refusal of even the present time without a
// hint: records wait, with pauses, and are sent after the clock is set.
func TestProducer_TimeRefusedWithoutLimits_WaitsForTheClock(t *testing.T) {
	b := playing(t, false)
	part := b.topic(0).partitions[0]
	o := kafkatest.ExpectOutcomes(t, 2)
	b.send(o, kafkatest.Numbered("t", 0, 2)...)
	for round := range 4 {
		f := b.leaves(0, true)
		if round > 0 {
			if at := f.cargo[0].batch.base; at < b.now().UnixMilli()-5000 || at > b.now().UnixMilli() {
				t.Errorf("round %d: sent with %d, the present is %d", round, at, b.now().UnixMilli())
			}
		}
		b.answers(f, kerr.InvalidTimestamp)
		o.None()
		b.look(func() {
			if waits := !part.resume.IsZero() && part.listed == nil; waits != (round > 0) {
				t.Errorf("round %d: waits %v", round, waits)
			}
		})
		b.later(2 * time.Second)
	}
	b.answers(b.leaves(0, true), nil)
	o.AllSent()
}

// TestTimeWithin checks the replacement of a refused time.
func TestTimeWithin(t *testing.T) {
	const now = int64(1_800_000_000_000)
	within := func(low, high int64) *string {
		text := fmt.Sprintf("Timestamp 1 of message with offset 0 is out of range. The timestamp should be within [%d, %d]", low, high)
		return &text
	}
	other := "invalid"
	for name, test := range map[string]struct {
		said *string
		want int64
	}{
		"nothing said":        {nil, now},
		"no limits":           {&other, now},
		"the present is fine": {within(now-1e9, now+1e9), now},
		"ahead":               {within(-math.MaxInt64, now-7_200_000), now - 7_200_000},
		"behind":              {within(now+1e9, now+2e9), now + 1e9 + timeMargin},
		"a narrow window":     {within(now+1000, now+2000), now + 1000},
		"no window":           {within(now+2000, now+1000), now + 1000},
		"before 1970":         {within(-2, -1), now},
		"too large a number":  {within(0, math.MaxInt64), now},
	} {
		if got := timeWithin(now, test.said); got != test.want {
			t.Errorf("%s: %d, want %d", name, got-now, test.want-now)
		}
	}
}

// TestProducer_ErrorRecords_AreCutOut checks that exactly the records named by an answer are refused, each
// with the broker's sentence, after one request. Impossible names cost nothing.
func TestProducer_ErrorRecords_AreCutOut(t *testing.T) {
	for name, test := range map[string]struct {
		extra    []int32 // named too
		silent   bool    // the answer names no record
		requests int32
	}{
		"named":         {requests: 1},
		"odd names too": {extra: []int32{-1, math.MaxInt32, math.MinInt32}, requests: 1},
		"not named":     {silent: true, requests: 100},
	} {
		t.Run(name, func(t *testing.T) {
			const many = 100
			cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
			on, requests := refuser(t, cluster, func(req *kmsg.ProduceRequest) *kmsg.ProduceResponse {
				_, records := decoded(t, req.Topics[0].Partitions[0].Records)
				response := refusal(req, kerr.InvalidRecord)
				said := &response.Topics[0].Partitions[0]
				bad := false
				for i, r := range records {
					if strings.HasPrefix(string(r.Value), "bad") {
						bad = true
						one := kmsg.NewProduceResponseTopicPartitionErrorRecord()
						text := "no schema for " + string(r.Value)
						one.RelativeOffset, one.ErrorMessage = int32(i), &text
						said.ErrorRecords = append(said.ErrorRecords, one, one)
					}
				}
				for _, i := range test.extra {
					said.ErrorRecords = append(said.ErrorRecords, kmsg.ProduceResponseTopicPartitionErrorRecord{RelativeOffset: i})
				}
				if test.silent {
					said.ErrorRecords = nil
				}
				if !bad {
					return nil
				}
				return response
			})
			c := kafkatest.Connection(cluster.ListenAddrs()...)
			c.Idempotence = true
			p := open(t, c, nil, nil)
			kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 1)...)
			on.Store(true)
			records := kafkatest.Numbered("t", 1, many)
			records[10].Value, records[98].Value = []byte("bad 10"), []byte("bad 98")
			refused := 0
			for r, err := range kafkatest.Send(t, p, records...) {
				if bad := strings.HasPrefix(string(r.Value), "bad"); bad != (err != nil) {
					t.Errorf("record %s: %v", r.Value, err)
				}
				if err != nil {
					refused++
					if reason, final := p.Permanent(err); !final || !errors.Is(err, kerr.InvalidRecord) || reason != "invalid record" ||
						!strings.Contains(err.Error(), "no schema for "+string(r.Value)) == !test.silent {
						t.Errorf("record %s: %v (%s)", r.Value, err, reason)
					}
				}
			}
			if n := requests.Load(); refused != 2 || n > test.requests {
				t.Errorf("%d records refused, %d requests", refused, n)
			}
			last := -1
			for _, r := range kafkatest.Consume(t, "t", many-2, cluster.ListenAddrs()) {
				var n int
				if _, err := fmt.Sscan(string(r.Value), &n); err != nil || n <= last {
					t.Fatalf("%s after %d", r.Value, last)
				}
				last = n
			}
		})
	}
}
