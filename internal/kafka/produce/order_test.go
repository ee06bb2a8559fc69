package produce

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/metrics"
	"reskafka/internal/outbox"
	"reskafka/test/kafkatest"
)

// TestNothingOvertakes has a broker refuse requests now and then while records keep coming: every key must be in order in the log, and every record there once.
func TestNothingOvertakes(t *testing.T) {
	for _, idempotent := range []bool{false, true} {
		t.Run(fmt.Sprint("idempotence ", idempotent), func(t *testing.T) {
			const many, keys = 20000, 7
			cluster := kafkatest.Broker(t, kfake.SeedTopics(3, "t"))
			random := rand.New(rand.NewPCG(3, 4)) // the broker's
			var requests, refused atomic.Int32
			cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				produce := req.(*kmsg.ProduceRequest)
				if requests.Add(1) == 1 || random.IntN(8) > 0 {
					return nil, nil, false
				}
				refused.Add(1)
				return refusal(produce, kerr.CorruptMessage), nil, true
			})
			c := kafkatest.Connection(cluster.ListenAddrs()...)
			c.Idempotence = idempotent
			p := open(t, c, nil, nil)
			box := outbox.New(outbox.Settings{Timeout: time.Hour, WindowRecords: 100, Backoff: 1}, p.Producer, kafkatest.Nobody{}, &dropped{})
			t.Cleanup(box.Close)
			for i := range many {
				records := kafkatest.Numbers("t", i, i+1)
				records[0].Key = fmt.Append(nil, i%keys)
				box.Accept(records)
			}
			drain(t, box)
			last := map[string]int{}
			for _, r := range kafkatest.Consume(t, "t", many, cluster.ListenAddrs()) {
				var i int
				fmt.Sscan(string(r.Value), &i)
				before, seen := last[string(r.Key)]
				if !seen {
					before = i%keys - keys
				}
				if i != before+keys {
					t.Fatalf("key %s: record %d comes after %d", r.Key, i, before)
				}
				last[string(r.Key)] = i
			}
			numbers := metrics.Of("c")
			box.Collect(numbers)
			if acknowledged := numbers.Sum(metrics.RecordsAcknowledged); refused.Load() == 0 || acknowledged != many {
				t.Errorf("%d refusals, %d acknowledged", refused.Load(), acknowledged)
			}
		})
	}
}

// TestLeaderMovesBehindARequest moves a partition's leader during a successful request: the queued batches go
// to the new leader without another event.
func TestLeaderMovesBehindARequest(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.NumBrokers(2), kfake.SeedTopics(1, "t"))
	p := open(t, kafkatest.Connection(cluster.ListenAddrs()...), nil, nil)
	kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 1)...)
	release, asked := kafkatest.Hang(t, cluster, kmsg.Produce)
	o := kafkatest.ExpectOutcomes(t, 2)
	p.Send(kafkatest.Numbered("t", 1, 2), time.Now().Add(time.Hour), o.Add)
	kafkatest.Await(t, asked)
	p.Send(kafkatest.Numbered("t", 2, 3), time.Now().Add(time.Hour), o.Add)
	p.mtx.Lock()
	part := p.topics["t"].partitions[0]
	p.led(part, 1-part.leader.id)
	p.mtx.Unlock()
	release()
	o.AllSent() // after the other node's answer "not the leader"
}
