package brokers

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/kafka/consume"
	"reskafka/test/wire"
	"reskafka/test/world"
)

// TestUnreadableBatch_TwoMinutes_IsFetchedRarely counts the fetches of an unreadable batch on the wire, each second for two minutes, and
// measures how fast the other partitions are consumed before and in the second minute. A second topic, in turn with the first, tells what
// the machine does in the same minutes. TestConsumer_UnreadableBatch_IsFetchedRarely has the other kinds of damage, by a clock of its own.
func TestUnreadableBatch_TwoMinutes_IsFetchedRarely(t *testing.T) {
	if !long() {
		t.Skip("skipped: it takes two minutes; make test-long runs it")
	}
	t.Parallel()
	counted := &unreadableBatch{}
	row := Row{
		Partitions: 3, Kafka: []kfake.Opt{kfake.SeedTopics(3, "control")}, Patience: 5 * time.Minute,
		Broker: []wire.Fault{counted.fault()},
		Conf:   []string{"[control](tested)", "group_id = control"},
		Steps:  counted.measure,
		Log:    []string{"topic topic partition 0: the batch of offsets 10 to 19 cannot be read: encoded crc"},
	}
	row.Check(t)
}

// Of a burst that measures how fast partitions are consumed.
const (
	burstRecords = 40000 // of each of two partitions, more than a consumer fetches while it is paused
	burstBytes   = 100   // a record's value
)

// unreadableBatch is a batch at offset 10 of partition 0 that has a flipped byte.
type unreadableBatch struct {
	mtx     sync.Mutex
	fetches []time.Time
}

func (u *unreadableBatch) fault() wire.Fault {
	return wire.Change(func(r *kmsg.FetchResponse) {
		for i := range r.Topics {
			for j := range r.Topics[i].Partitions {
				p := &r.Topics[i].Partitions[j]
				if p.Partition == 0 && len(p.RecordBatches) > 64 && binary.BigEndian.Uint64(p.RecordBatches) == 10 {
					u.mtx.Lock()
					u.fetches = append(u.fetches, time.Now())
					u.mtx.Unlock()
					p.RecordBatches[64] ^= 1
				}
			}
		}
	})
}

// since returns the fetches of each second from a time on.
func (u *unreadableBatch) since(start time.Time, seconds int) []int {
	u.mtx.Lock()
	defer u.mtx.Unlock()
	count := make([]int, seconds)
	for _, at := range u.fetches {
		if second := int(at.Sub(start) / time.Second); second < seconds {
			count[second]++
		}
	}
	return count
}

func (u *unreadableBatch) measure(b *Bench) error {
	tested, err := b.drain("tested", b.Topic)
	if err != nil {
		return err
	}
	control, err := b.drain("control", "control")
	if err != nil {
		return err
	}
	if err := b.write(b.Topic, 10, 100, 0); err != nil {
		return err
	}
	const rounds = 5
	before, err := speed(rounds, 0, tested, control)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := b.write(b.Topic, 10, 100, 0); err != nil {
		return err
	}
	select {
	case <-time.After(time.Minute):
	case <-b.Ctx.Done():
		return b.Ctx.Err()
	}
	after, err := speed(rounds, time.Minute/rounds, tested, control)
	if err != nil {
		return err
	}
	fetches := u.since(start, 120)
	b.Logf("fetches by the second: %v; speed of the other partitions in relation to the other topic: %.2f before, %.2f after", fetches, before, after)
	if most := slices.Max(fetches[60:]); most > 2 {
		err = fmt.Errorf("%d fetches in a second of the second minute", most)
	}
	if after < before/2 { // of the fastest bursts; a busy machine makes others several times as slow
		err = errors.Join(err, fmt.Errorf("the other partitions are consumed at %.2f of their speed", after/before))
	}
	return err
}

// speed runs bursts through both drains in turn, and returns the speed of the first one's fastest burst in relation to the second one's.
func speed(rounds int, every time.Duration, tested, control *drain) (float64, error) {
	fastest := [2]time.Duration{time.Hour, time.Hour}
	for range rounds {
		next := time.After(every)
		for i, d := range []*drain{tested, control} {
			took, err := d.burst()
			if err != nil {
				return 0, err
			}
			fastest[i] = min(fastest[i], took)
		}
		<-next
	}
	return float64(fastest[1]) / float64(fastest[0]), nil
}

// drain is a subscription that counts the messages of the partitions that are not damaged.
type drain struct {
	*Bench
	topic        string
	subscription *world.Subscription
	came         chan struct{}
}

func (b *Bench) drain(connection, topic string) (d *drain, err error) {
	d = &drain{Bench: b, topic: topic, came: make(chan struct{}, 2*burstRecords)}
	view := *b.World
	view.Topic = topic
	d.subscription, err = view.Subscribe(connection, func(m consume.Message) {
		if m.Partition != 0 {
			d.came <- struct{}{}
		}
	})
	return d, err
}

// burst returns how long it takes to consume a burst that the broker has.
func (d *drain) burst() (time.Duration, error) {
	err := d.subscription.Pause(true)
	if err == nil {
		err = d.write(d.topic, burstRecords, burstBytes, 1, 2)
	}
	start := time.Now()
	if err == nil {
		err = d.subscription.Pause(false)
	}
	for i := 0; i < 2*burstRecords && err == nil; i++ {
		select {
		case <-d.came:
		case <-d.Ctx.Done():
			err = fmt.Errorf("%d of %d messages of topic %s: %w", i, 2*burstRecords, d.topic, d.Ctx.Err())
		}
	}
	return time.Since(start), err
}

// write writes n records of a size to each of some partitions. Few records make one batch.
func (b *Bench) write(topic string, n, size int, partitions ...int32) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Kafka.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(50*time.Millisecond), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.DisableClientMetrics())
	if err != nil {
		return err
	}
	defer cl.Close()
	var records []*kgo.Record
	for range n {
		for _, partition := range partitions {
			records = append(records, &kgo.Record{Topic: topic, Partition: partition, Value: make([]byte, size)})
		}
	}
	return cl.ProduceSync(b.Ctx, records...).FirstErr()
}
