package kafka

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/outbox"
)

// TestNothingOvertakes has a broker refuse now and then what the client fails at once and the outbox tries again,
// while records keep coming: every key must be in order in the log, and every record there once.
func TestNothingOvertakes(t *testing.T) {
	for _, idempotent := range []bool{false, true} {
		t.Run(fmt.Sprint("idempotence ", idempotent), func(t *testing.T) {
			const many, keys = 20000, 7
			cluster := fakeBroker(t, kfake.SeedTopics(3, "t"))
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
			c := connection(cluster.ListenAddrs()...)
			c.Idempotence = idempotent
			p := open(t, c, nil, nil)
			box := outbox.New(outbox.Settings{Timeout: time.Hour, WindowRecords: 100, Backoff: 1}, p, nobody{}, &dropped{})
			t.Cleanup(box.Close)
			for i := range many {
				records := numbers("t", i, i+1)
				records[0].Key = fmt.Append(nil, i%keys)
				box.Accept(records)
			}
			drain(t, box)
			last := map[string]int{}
			for _, r := range consume(t, "t", many, cluster.ListenAddrs()) {
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
			if refused.Load() == 0 || box.Counters()[0].Acknowledged != many {
				t.Errorf("%d refusals, %+v", refused.Load(), box.Counters())
			}
		})
	}
}

// entrant is an attempt that has its partition.
func entrant(o *order, r *outbox.Record, partition int32) *attempt {
	a := &attempt{Context: context.Background(), order: o, record: r}
	a.kgo = kgo.Record{Context: a, Partition: partition}
	ordering{}.OnProduceRecordPartitioned(&a.kgo, 0)
	return a
}

func isDone(a *attempt) bool {
	select {
	case <-a.Done():
		return true
	default:
		return false
	}
}

// TestOrder walks through what kgo does around a failure.
func TestOrder(t *testing.T) {
	record := numbered("t", 0, 1)[0]
	synctest.Test(t, func(t *testing.T) {
		o := newOrder(1000)
		first, second, elsewhere := entrant(o, record, 1), entrant(o, record, 1), entrant(o, record, 0)
		if isDone(first) || isDone(elsewhere) {
			t.Fatal("the first of a partition is held back")
		}
		asked := make(chan bool)
		go func() { asked <- isDone(second) }()
		synctest.Wait()
		select {
		case <-asked:
			t.Fatal("the second did not wait for the first's outcome")
		default:
		}
		o.leave(first, true)
		if !<-asked || second.Err() != errHeldBack {
			t.Fatal("the second may go before the first comes again")
		}
		third := entrant(o, record, 1)
		o.leave(second, true)
		if !isDone(third) {
			t.Fatal("the third may go before the first comes again")
		}
		if isDone(elsewhere) {
			t.Error("another partition is held back")
		}
		o.leave(third, true)
		again := entrant(o, record, 1)
		if isDone(again) || again.Err() != nil {
			t.Fatal("it may not come again")
		}
		after := entrant(o, record, 1)
		o.leave(again, false)
		if isDone(after) {
			t.Error("the one after it is held back")
		}

		// One that never reached a partition neither waits nor counts.
		nowhere := &attempt{Context: context.Background(), order: o}
		if isDone(nowhere) {
			t.Error("without a partition")
		}
		o.leave(nowhere, true)
		o.leave(after, false)
		last := entrant(o, record, 1)
		if isDone(last) {
			t.Error("an outcome without a partition counts")
		}

		// Nothing waits for ever, whatever the library does.
		began := time.Now()
		if !isDone(entrant(o, record, 1)) || time.Since(began) != orderPatience {
			t.Errorf("gave up waiting after %v", time.Since(began))
		}
	})
}

// TestErrOfContext holds that a deadline still shows through.
func TestErrOfContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	a := &attempt{Context: ctx, order: newOrder(1000)}
	if isDone(a) {
		t.Error("ended before its time")
	}
	cancel()
	if !isDone(a) || errors.Is(a.Err(), errHeldBack) || a.Err() == nil {
		t.Errorf("the context's end does not show: %v", a.Err())
	}
}

// lateNews is a kgo hook that holds the promise of the first record that fails.
type lateNews struct {
	held    atomic.Bool
	failed  chan struct{} // the library has given up the record, and nobody knows yet
	release chan struct{}
}

func (l *lateNews) OnProduceRecordUnbuffered(_ *kgo.Record, err error) {
	if err != nil && !l.held.Swap(true) {
		close(l.failed)
		<-l.release
	}
}

// TestNothingSlipsThrough sends a record in the moment between the library's giving up one before it and its telling.
func TestNothingSlipsThrough(t *testing.T) {
	cluster := fakeBroker(t, kfake.SeedTopics(1, "t"))
	var refuse atomic.Bool
	cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if refuse.Swap(false) {
			return refusal(req.(*kmsg.ProduceRequest), kerr.CorruptMessage), nil, true
		}
		return nil, nil, false
	})
	news := &lateNews{failed: make(chan struct{}), release: make(chan struct{})}
	p := open(t, connection(cluster.ListenAddrs()...), nil, nil, func(tune *tuning) {
		tune.extra = []kgo.Opt{kgo.WithHooks(news)}
	})
	sendAll(t, p, numbered("t", 0, 1)...)
	refuse.Store(true)
	o := expectOutcomes(t, 2)
	records := numbered("t", 1, 3)
	p.Send(records[:1], time.Now().Add(time.Hour), o.add)
	await(t, news.failed)
	p.Send(records[1:], time.Now().Add(time.Hour), o.add)
	close(news.release)
	if err := o.wait()[records[1]]; !errors.Is(err, errHeldBack) {
		t.Errorf("the record behind: %v", err)
	}
	sendAll(t, p, records...)
	for i, r := range consume(t, "t", 3, cluster.ListenAddrs()) {
		if string(r.Value) != fmt.Sprint(i) {
			t.Errorf("offset %d holds %s", i, r.Value)
		}
	}
}
