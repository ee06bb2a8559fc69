package produce

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/config"
	"reskafka/internal/host"
	"reskafka/internal/kafka/client"
	"reskafka/test/kafkatest"
)

// clock is set by the test, so the machine's speed does not matter.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.at.Store(time.Now().UnixNano())
	return c
}

func (c *clock) now() time.Time        { return time.Unix(0, c.at.Load()) }
func (c *clock) pass(by time.Duration) { c.at.Add(int64(by)) }
func (c *clock) of(tune *tuning)       { tune.now = c.now }
func (c *clock) producer(t *testing.T, to *config.Connection, log host.Logger, status *client.Status) *sender {
	t.Helper()
	return open(t, to, log, status, c.of)
}

// TestProducer_ConnectionCutWhileQuiet_SendsOnce verifies that each record arrives once after the end of an
// idle connection, without a failure: the producer reads the end at once.
func TestProducer_ConnectionCutWhileQuiet_SendsOnce(t *testing.T) {
	bothKinds(t, func(t *testing.T, idempotence bool) {
		cluster, network := kafkatest.NewLossyBroker(t, kfake.SeedTopics(1, "t"))
		c := kafkatest.Connection(cluster.ListenAddrs()...)
		c.Idempotence = idempotence
		status := &client.Status{}
		p := open(t, c, nil, status)
		kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 1)...)
		connection := p.nodes[0].link.Conn()
		network.Cut()
		kafkatest.Soon(t, "the end is read", func() bool { return p.nodes[0].link.Conn() != connection })
		for i := 1; i < 4; i++ {
			kafkatest.SendAll(t, p, kafkatest.Numbered("t", i, i+1)...)
		}
		once(t, cluster, 4)
		if snap := status.Snapshot(); snap.Failures != 0 || snap.Retried != 0 {
			t.Errorf("the status is %+v", snap)
		}
	})
}

// TestProducer_AnswerLost_SendsOnce verifies idempotence after a lost answer: the record and the next one
// arrive once.
func TestProducer_AnswerLost_SendsOnce(t *testing.T) {
	cluster, network := kafkatest.NewLossyBroker(t, kfake.SeedTopics(1, "t"))
	c := kafkatest.Connection(cluster.ListenAddrs()...)
	c.Idempotence = true
	status := &client.Status{}
	p := open(t, c, nil, status)
	kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 1)...)
	network.Lose(true)
	o := kafkatest.ExpectOutcomes(t, 2)
	p.Send(kafkatest.Numbered("t", 1, 2), time.Time{}, o.Add)
	kafkatest.Await(t, network.Lost)
	p.Send(kafkatest.Numbered("t", 2, 3), time.Time{}, o.Add)
	network.Lose(false)
	network.Cut()
	o.AllSent()
	once(t, cluster, 3)
	if snap := status.Snapshot(); snap.Retried == 0 || snap.LastError.Text == "" {
		t.Errorf("the status is %+v", snap)
	}
}

// TestProducer_RequestsOfAllSizes_KeepOrder verifies order and number of records in short single requests and
// long concurrent ones.
func TestProducer_RequestsOfAllSizes_KeepOrder(t *testing.T) {
	bothKinds(t, func(t *testing.T, idempotence bool) {
		const many = 200
		cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
		c := kafkatest.Connection(cluster.ListenAddrs()...)
		c.Idempotence = idempotence
		p := newClock().producer(t, c, nil, nil)
		o := kafkatest.ExpectOutcomes(t, many)
		for i := range many {
			records := kafkatest.Numbered("t", i, i+1)
			if i%10 > 5 { // enough for a second request beside the one in flight
				records[0].Key = make([]byte, fullRequest/2)
			}
			p.Send(records, time.Time{}, o.Add)
			if i%10 == 0 {
				kafkatest.Soon(t, "the broker has it", func() bool { return p.Underway() == 0 })
			}
		}
		o.AllSent()
		once(t, cluster, many)
	})
}

// TestProducer_NothingWritten_IsReturned verifies that a record of an unwritten request does not count as
// possibly at a broker during the next attempt to connect.
func TestProducer_NothingWritten_IsReturned(t *testing.T) {
	cluster, d := kafkatest.NewDoor(t, kfake.SeedTopics(1, "t"))
	c := kafkatest.Connection(cluster.ListenAddrs()...)
	c.Idempotence = true
	p := newClock().producer(t, c, nil, nil)
	kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 1)...)
	d.Cut(true)
	time.Sleep(client.LookAfter) // then the connection is checked before the next write
	o := kafkatest.ExpectOutcomes(t, 1)
	p.Send(kafkatest.Numbered("t", 1, 2), time.Time{}, o.Add)
	kafkatest.Await(t, d.Tries) // the library has begun to make a connection
	p.Recall()
	returned(t, o)
	d.Open()
	once(t, cluster, 1)
}

// TestHooks_RequestLost_IsReportedOnce verifies one immediate log line with the reason of a failed request,
// without another request to that broker.
func TestHooks_RequestLost_IsReportedOnce(t *testing.T) {
	cluster, network := kafkatest.NewLossyBroker(t, kfake.SeedTopics(1, "t"))
	c := kafkatest.Connection(cluster.ListenAddrs()...)
	c.Idempotence = true
	log, status, clock := kafkatest.NewLines(), &client.Status{}, newClock()
	p := clock.producer(t, c, log, status)
	kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 1)...)
	connections := func() (n int) {
		for _, b := range status.Snapshot().Brokers {
			n += b.Connections
		}
		return n
	}
	before := connections()
	network.Lose(true)
	o := kafkatest.ExpectOutcomes(t, 1)
	p.Send(kafkatest.Numbered("t", 1, 2), time.Time{}, o.Add)
	kafkatest.Await(t, network.Lost)
	network.Cut()
	log.WaitFor(t, host.Warning, "does not answer") // no time passes: nothing is sent again yet
	kafkatest.Soon(t, "the connection is gone", func() bool { return connections() == before-1 })
	if snap := status.Snapshot(); snap.Failures != 1 || snap.LastError.Text == "" {
		t.Errorf("the status is %+v", snap)
	}
	// The line comes before the landing. After a later landing the retry would not be due on this standing
	// clock.
	kafkatest.Soon(t, "the request has landed", func() bool { return flying(p.Producer) == 0 })
	network.Lose(false)
	network.Cut()
	clock.pass(retryBackoffMax)
	o.AllSent()
	log.WaitFor(t, host.Notice, "is back")
	once(t, cluster, 2)
}

// TestRecall_RequestLost_ReturnsOtherRecords verifies that the records behind a lost request do not count as
// possibly at a broker.
func TestRecall_RequestLost_ReturnsOtherRecords(t *testing.T) {
	cluster, d := kafkatest.NewDoor(t, kfake.SeedTopics(1, "t", "other"))
	c := kafkatest.Connection(cluster.ListenAddrs()...)
	c.Idempotence = true
	clock := newClock()
	p := clock.producer(t, c, nil, nil)
	kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 1)...)
	kafkatest.SendAll(t, p, kafkatest.Numbered("other", 0, 1)...)
	_, asked := kafkatest.Hang(t, cluster, kmsg.Produce)
	lost, other := kafkatest.ExpectOutcomes(t, 1), kafkatest.ExpectOutcomes(t, 1)
	p.Send(kafkatest.Numbered("t", 1, 2), time.Time{}, lost.Add)
	kafkatest.Await(t, asked)
	p.Send(kafkatest.Numbered("other", 1, 2), time.Time{}, other.Add)
	d.Cut(true)
	kafkatest.Soon(t, "the request is given up", func() bool { return flying(p.Producer) == 0 })
	clock.pass(retryBackoffMax)
	kafkatest.Await(t, d.Tries)
	p.Recall()
	returned(t, other)
	if n := p.Underway(); n != 1 {
		t.Errorf("%d batches may be with the broker", n)
	}
}
