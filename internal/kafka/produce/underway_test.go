package produce

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/host"
	"reskafka/test/kafkatest"
)

// returned fails unless every record came back for another client.
func returned(t *testing.T, o *kafkatest.Outcomes) {
	t.Helper()
	for r, err := range o.Wait() {
		if !errors.Is(err, ErrClosed) {
			t.Fatalf("record %q: %v", r.Value, err)
		}
	}
}

// once fails unless a topic holds the records numbered up to n, each once.
func once(t *testing.T, cluster *kfake.Cluster, n int) {
	t.Helper()
	for i, r := range kafkatest.Consume(t, "t", n, cluster.ListenAddrs()) {
		if string(r.Value) != fmt.Sprint(i) || r.Offset != int64(i) {
			t.Fatalf("record %d is %s, at offset %d", i, r.Value, r.Offset)
		}
	}
	if end := cluster.PartitionInfo("t", 0).HighWatermark; end != int64(n) {
		t.Errorf("%d records, want %d", end, n)
	}
}

func bothKinds(t *testing.T, test func(t *testing.T, idempotence bool)) {
	for _, idempotence := range []bool{false, true} {
		t.Run(fmt.Sprintf("idempotence %v", idempotence), func(t *testing.T) { test(t, idempotence) })
	}
}

// TestRecallOfWhatNoBrokerHas checks that a client before the first login returns all records at once.
func TestRecallOfWhatNoBrokerHas(t *testing.T) {
	bothKinds(t, func(t *testing.T, idempotence bool) {
		cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"), kfake.EnableSASL(), kfake.Superuser("PLAIN", "user", "right"))
		c := kafkatest.Connection(cluster.ListenAddrs()...)
		c.SecurityProtocol, c.SASLMechanism, c.SASLUsername, c.SASLPassword = "sasl_plaintext", "PLAIN", "user", "wrong"
		c.Idempotence, c.ReconnectBackoff, c.ReconnectBackoffMax = idempotence, time.Hour, time.Hour // nothing else ends the wait
		log := kafkatest.NewLines()
		p := open(t, c, log, nil)
		o := kafkatest.ExpectOutcomes(t, 100)
		p.Send(kafkatest.Numbered("t", 0, 100), time.Now().Add(time.Hour), o.Add)
		log.WaitFor(t, host.Warning, "cannot be reached") // a refused login; this broker does not say so
		if n := p.Underway(); n != 0 {
			t.Errorf("%d underway", n)
		}
		p.Recall()
		returned(t, o)
		next := kafkatest.Connection(cluster.ListenAddrs()...)
		next.SecurityProtocol, next.SASLMechanism, next.SASLUsername, next.SASLPassword = "sasl_plaintext", "PLAIN", "user", "right"
		kafkatest.SendAll(t, open(t, next, nil, nil), o.Order...)
		if end := cluster.PartitionInfo("t", 0).HighWatermark; end != 100 {
			t.Errorf("%d records", end)
		}
		late := kafkatest.ExpectOutcomes(t, 1)
		p.Send(kafkatest.Numbered("t", 100, 101), time.Now().Add(time.Hour), late.Add)
		returned(t, late)
	})
}

// TestRecallWaitsForAnswers checks that a record in flight is not returned before the answer, at any delay.
func TestRecallWaitsForAnswers(t *testing.T) {
	bothKinds(t, func(t *testing.T, idempotence bool) {
		cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
		c := kafkatest.Connection(cluster.ListenAddrs()...)
		c.Idempotence = idempotence
		p := open(t, c, nil, nil)
		kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 5)...)
		kafkatest.Soon(t, "nothing is underway", func() bool { return p.Underway() == 0 })
		release, asked := kafkatest.Hang(t, cluster, kmsg.Produce)
		o := kafkatest.ExpectOutcomes(t, 1) // several records could use several requests, only one in flight
		p.Send(kafkatest.Numbered("t", 5, 6), time.Now().Add(time.Hour), o.Add)
		kafkatest.Await(t, asked)
		if p.Underway() == 0 {
			t.Error("nothing is underway with a request out")
		}
		p.Recall()
		select {
		case <-p.ended:
			t.Error("closed with a request out")
		case <-o.Done:
			t.Error("given back with a request out")
		case <-time.After(50 * time.Millisecond): // time for a wrong return
		}
		release()
		o.AllSent()
		kafkatest.Await(t, p.ended)
		once(t, cluster, 6)
	})
}

// TestRecallOfLostAnswers checks idempotence with a lost answer: no record at a broker is returned. The
// client asks again, which causes no duplicate; another client's request would. Without idempotence both
// requests are equal.
func TestRecallOfLostAnswers(t *testing.T) {
	bothKinds(t, func(t *testing.T, idempotence bool) {
		cluster, l := kafkatest.NewLossyBroker(t, kfake.SeedTopics(1, "t"))
		c := kafkatest.Connection(cluster.ListenAddrs()...)
		c.Idempotence = idempotence
		clock := newClock()
		p := clock.producer(t, c, nil, nil)
		kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 5)...)
		l.Lose(true)
		o := kafkatest.ExpectOutcomes(t, 5)
		p.Send(kafkatest.Numbered("t", 5, 10), time.Now().Add(time.Hour), o.Add)
		kafkatest.Await(t, l.Lost)
		l.Cut()
		kafkatest.Soon(t, "the request is given up", func() bool { return flying(p.Producer) == 0 }) // no time passes: nothing is sent again yet
		if !idempotence {
			// The library is in its next attempt, for up to socket_timeout_ms.
			clock.pass(2 * retryBackoff) // enough after a failure, and too short for a new look at the topic
			kafkatest.Await(t, l.Lost)
			p.Recall()
			returned(t, o)
			return
		}
		p.Recall()
		if p.Underway() == 0 {
			t.Error("nothing is in doubt")
		}
		l.Lose(false)
		clock.pass(retryBackoffMax)
		o.AllSent()
		kafkatest.Await(t, p.ended)
		once(t, cluster, 10)
	})
}

// flying is how many requests of a producer are out or about to be.
func flying(p *Producer) int {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	n := 0
	for _, node := range p.nodes {
		n += node.flights
	}
	return n
}

// TestUnderwayAddsUp checks that Underway is 0 whenever all records have an outcome, after any event on the
// connections.
func TestUnderwayAddsUp(t *testing.T) {
	for _, acks := range []int{-1, 0} {
		bothKinds(t, func(t *testing.T, idempotence bool) {
			if idempotence && acks == 0 {
				return
			}
			cluster, l := kafkatest.NewLossyBroker(t, kfake.SeedTopics(3, "t"))
			c := kafkatest.Connection(cluster.ListenAddrs()...)
			c.Idempotence, c.Acks = idempotence, acks
			p := open(t, c, nil, nil)
			for i := range 20 {
				o := kafkatest.ExpectOutcomes(t, 200)
				p.Send(kafkatest.Numbered("t", i*200, (i+1)*200), time.Now().Add(time.Hour), o.Add)
				if i%4 == 1 {
					l.Cut()
				}
				o.Wait()
				kafkatest.Soon(t, "no request is out", func() bool { return flying(p.Producer) == 0 })
				kafkatest.Soon(t, "no call is underway", func() bool { return p.Underway() == 0 })
			}
		})
	}
}
