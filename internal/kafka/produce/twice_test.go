package produce

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/outbox"
	"reskafka/internal/record"
	"reskafka/test/kafkatest"
)

// tally is an outbox.Gate and an outbox.Observer with a wait for outcomes.
type tally struct {
	t    *testing.T
	mtx  sync.Mutex
	left int
	none chan struct{}
}

func (y *tally) Release(*record.Record) {
	y.mtx.Lock()
	defer y.mtx.Unlock()
	if y.left--; y.left == 0 {
		close(y.none)
	}
}
func (y *tally) Panicked(p any) { y.t.Errorf("panic: %v", p) }

func (y *tally) Spooling(error) {}
func (y *tally) Dropped(topic, reason string, records int, err error) {
	y.t.Errorf("%d record(s) of %s dropped, %s: %v", records, topic, reason, err)
}

func (y *tally) Died(topic, reason string, records int, err error) {
	y.Dropped(topic, reason, records, err)
}

// refuse makes the brokers answer produce requests with the error of with, until with returns nil.
func refuse(cluster *kfake.Cluster, with func() *kerr.Error) {
	cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		answer := with()
		if answer == nil {
			return nil, nil, false
		}
		asked, resp := req.(*kmsg.ProduceRequest), req.ResponseKind().(*kmsg.ProduceResponse)
		for _, topic := range asked.Topics {
			t := kmsg.NewProduceResponseTopic()
			t.Topic, t.TopicID = topic.Topic, topic.TopicID
			for _, partition := range topic.Partitions {
				p := kmsg.NewProduceResponseTopicPartition()
				p.Partition, p.ErrorCode = partition.Partition, answer.Code
				t.Partitions = append(t.Partitions, p)
			}
			resp.Topics = append(resp.Topics, t)
		}
		return resp, nil, true
	})
}

// heavy makes requests long enough for an apparent limit at a broker that closes the connection.
var heavy = []record.Header{{Name: "h", Value: make([]byte, 3000)}}

// TestNothingTwice disturbs connections and leaders in all ways, and reloads at bad moments, during constant
// traffic: with idempotence each record arrives once, in order for each key.
func TestNothingTwice(t *testing.T) {
	const partitions, keys, rounds, each = 4, 8, 60, 20
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	cluster, l := kafkatest.NewLossyBroker(t, kfake.NumBrokers(3), kfake.SeedTopics(partitions, "t"))
	var mtx sync.Mutex
	var answer *kerr.Error
	refuse(cluster, func() *kerr.Error { mtx.Lock(); defer mtx.Unlock(); return answer })
	say := func(e *kerr.Error) { mtx.Lock(); defer mtx.Unlock(); answer = e }

	c := kafkatest.Connection(cluster.ListenAddrs()...)
	c.Idempotence, c.SocketTimeout = true, 200*time.Millisecond
	p := open(t, c, nil, nil)
	y := &tally{t: t, left: keys * rounds * each, none: make(chan struct{})}
	records, bytes := Window()
	settings := outbox.Settings{Timeout: time.Hour, WindowRecords: records, WindowBytes: bytes,
		Backoff: c.ReconnectBackoff, BackoffMax: c.ReconnectBackoffMax}
	box := outbox.New(settings, p.Producer, y, y)
	t.Cleanup(box.Close)

	trouble := []func(){
		func() { l.Cut() },
		func() { // answers are lost with the connection
			l.Lose(true)
			awaitSoon(l.Lost)
			l.Cut()
			l.Lose(false)
		},
		func() { // a broker hangs, after the request has arrived, until socket_timeout_ms
			l.Lose(true)
			awaitSoon(l.Lost)
			time.Sleep(c.SocketTimeout)
			l.Lose(false)
		},
		func() { _ = cluster.MoveTopicPartition("t", random.Int32N(partitions), random.Int32N(3)) },
		func() { say(kerr.NotEnoughReplicas) },
		func() { say(kerr.NotEnoughReplicasAfterAppend) },
		func() { say(kerr.RequestTimedOut) },
		func() { say(kerr.NotLeaderForPartition) },
		func() { say(kerr.TopicAuthorizationFailed) },
		func() { say(kerr.InvalidTimestamp) },
		func() { // a reload
			box.Swap(open(t, c, nil, nil).Producer, settings, time.Hour)
		},
	}
	for round := range rounds {
		var some []record.Record
		for key := range keys {
			for i := range each {
				some = append(some, record.Record{Topic: "t", Key: fmt.Append(nil, key), Accepted: time.Now(),
					Value: fmt.Append(nil, round*each+i), Headers: heavy})
			}
		}
		box.Accept(some)
		trouble[random.IntN(len(trouble))]()
		time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond)
		say(nil)
	}
	kafkatest.Await(t, y.none)
	next := map[string]int{}
	for _, r := range kafkatest.Consume(t, "t", keys*rounds*each, cluster.ListenAddrs()) {
		if want := fmt.Sprint(next[string(r.Key)]); string(r.Value) != want {
			t.Fatalf("key %s: record %s where %s was due", r.Key, r.Value, want)
		}
		next[string(r.Key)]++
	}
	total := int64(0)
	for i := range int32(partitions) {
		total += cluster.PartitionInfo("t", i).HighWatermark
	}
	if total != keys*rounds*each {
		t.Errorf("%d records, want %d", total, keys*rounds*each)
	}
}

// awaitSoon waits for an event that may not come.
func awaitSoon(event <-chan struct{}) {
	select {
	case <-event:
	case <-time.After(100 * time.Millisecond):
	}
}

// TestComesBackOnlyIfNowhere lets records expire during all disturbances of connections and leaders: with
// idempotence the log has exactly the acknowledged records, each once, in order for each key.
func TestComesBackOnlyIfNowhere(t *testing.T) {
	const partitions, keys, rounds, each = 4, 8, 50, 10
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	cluster, l := kafkatest.NewLossyBroker(t, kfake.NumBrokers(3), kfake.SeedTopics(partitions, "t"))
	var answer atomic.Pointer[kerr.Error]
	refuse(cluster, answer.Load)
	c := kafkatest.Connection(cluster.ListenAddrs()...)
	c.Idempotence, c.SocketTimeout = true, 200*time.Millisecond
	p := open(t, c, nil, nil)
	o := kafkatest.ExpectOutcomes(t, keys*rounds*each)
	for round := range rounds {
		for i := range each {
			var some []*record.Record
			for key := range keys {
				some = append(some, &record.Record{Topic: "t", Key: fmt.Append(nil, key), Accepted: time.Now(),
					Value: fmt.Append(nil, round*each+i), Headers: heavy})
			}
			p.Send(some, time.Now().Add(time.Duration(random.IntN(200))*time.Millisecond), o.Add)
		}
		switch random.IntN(7) {
		case 0:
			l.Cut()
		case 1: // answers are lost with the connection
			l.Lose(true)
			awaitSoon(l.Lost)
			l.Cut()
		case 2:
			_ = cluster.MoveTopicPartition("t", random.Int32N(partitions), random.Int32N(3))
		case 3:
			answer.Store(kerr.NotEnoughReplicas)
		case 4:
			answer.Store(kerr.RequestTimedOut)
		case 5:
			answer.Store(kerr.TopicAuthorizationFailed)
		case 6:
			answer.Store(kerr.InvalidTimestamp)
		}
		time.Sleep(time.Duration(random.IntN(40)) * time.Millisecond)
		l.Lose(false)
		answer.Store(nil)
		time.Sleep(time.Duration(random.IntN(80)) * time.Millisecond)
	}
	acknowledged := 0
	for _, err := range o.Wait() {
		if err == nil {
			acknowledged++
		}
	}
	last := map[string]int{}
	for _, r := range kafkatest.Consume(t, "t", acknowledged, cluster.ListenAddrs()) {
		var i int
		fmt.Sscan(string(r.Value), &i)
		if before, seen := last[string(r.Key)]; seen && i <= before {
			t.Fatalf("key %s: record %d after %d", r.Key, i, before)
		}
		last[string(r.Key)] = i
	}
	total := int64(0)
	for i := range int32(partitions) {
		total += cluster.PartitionInfo("t", i).HighWatermark
	}
	if total != int64(acknowledged) || acknowledged == 0 {
		t.Errorf("%d records, %d acknowledged, of %d", total, acknowledged, len(o.Order))
	}
	t.Logf("%d of %d acknowledged", acknowledged, len(o.Order))
}
