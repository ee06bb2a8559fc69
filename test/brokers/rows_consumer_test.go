package brokers

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/kafka/consume"
	"reskafka/test/wire"
)

func init() { rows = append(rows, consumerRows...) }

// firstBatch changes the batch at offset 0 of partition 0 in each fetch response; data begins with the batch.
func firstBatch(change func(p *kmsg.FetchResponseTopicPartition)) wire.Fault {
	return wire.Change(func(r *kmsg.FetchResponse) {
		for i := range r.Topics {
			for j := range r.Topics[i].Partitions {
				p := &r.Topics[i].Partitions[j]
				if p.Partition == 0 && len(p.RecordBatches) > 61 && binary.BigEndian.Uint64(p.RecordBatches) == 0 {
					change(p)
				}
			}
		}
	})
}

// epochs changes the answers about the ends of leader epochs.
func epochs(change func(p *kmsg.OffsetForLeaderEpochResponseTopicPartition)) wire.Fault {
	return wire.Change(func(r *kmsg.OffsetForLeaderEpochResponse) {
		for i := range r.Topics {
			for j := range r.Topics[i].Partitions {
				change(&r.Topics[i].Partitions[j])
			}
		}
	})
}

var consumerRows = []Row{
	{
		Name: "a batch with a flipped byte", Finding: "A6", Partitions: 3,
		Broker: []wire.Fault{firstBatch(func(p *kmsg.FetchResponseTopicPartition) { p.RecordBatches[64] ^= 1 })},
		Steps:  skipUnreadable,
		Log:    []string{"topic topic partition 0: the batch of offsets 0 to 9 cannot be read: encoded crc"},
	},
	{
		Name: "a batch reaches offset 2^63-1 for good, then the offset is out of range", Finding: "C3", Partitions: 2,
		Broker: []wire.Fault{pastTheEnd()},
		Steps: func(b *Bench) error {
			received := make(chan consume.Message, 100)
			if err := b.fill(2, 10); err != nil {
				return err
			}
			if _, err := b.Subscribe("tested", func(m consume.Message) { received <- m }); err != nil {
				return err
			}
			return b.receive(received, 10, func(m consume.Message) bool { return m.Partition == 1 })
		},
		Log: []string{"of partition 0 was refused: it reaches an offset that no log has", "topic topic partition 0"},
	},
	{
		Name: "the end of an epoch is undefined", Finding: "A11", Kafka: []kfake.Opt{kfake.NumBrokers(2)},
		Broker: []wire.Fault{epochs(func(p *kmsg.OffsetForLeaderEpochResponseTopicPartition) { p.EndOffset, p.LeaderEpoch = -1, -1 })},
		Steps:  moveLeader,
	},
}

// pastTheEnd sets the first batch to the last possible offset, and refuses later fetches as out of range.
func pastTheEnd() wire.Fault {
	var fetched atomic.Int32
	return firstBatch(func(p *kmsg.FetchResponseTopicPartition) {
		if fetched.Add(1) < 3 {
			binary.BigEndian.PutUint64(p.RecordBatches, math.MaxInt64)
			return
		}
		p.ErrorCode, p.RecordBatches = kerr.OffsetOutOfRange.Code, nil
	})
}

// fill writes n records to each of the first partitions of the topic, a batch each.
func (b *Bench) fill(partitions int32, n int) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Kafka.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(50*time.Millisecond), kgo.DisableClientMetrics())
	if err != nil {
		return err
	}
	defer cl.Close()
	var records []*kgo.Record
	for i := range n {
		for p := range partitions {
			records = append(records, &kgo.Record{Topic: b.Topic, Partition: p, Value: fmt.Appendf(nil, "%d/%d", p, i)})
		}
	}
	return cl.ProduceSync(b.Ctx, records...).FirstErr()
}

// receive waits for n messages, all of which must be expected.
func (b *Bench) receive(received <-chan consume.Message, n int, expected func(consume.Message) bool) error {
	for i := range n {
		select {
		case m := <-received:
			if !expected(m) {
				return fmt.Errorf("message %d is partition %d offset %d", i, m.Partition, m.Offset)
			}
		case <-b.Ctx.Done():
			return fmt.Errorf("%d of %d messages came", i, n)
		}
	}
	return nil
}

// skipUnreadable consumes beside an unreadable batch, and skips the batch by the CLI.
func skipUnreadable(b *Bench) error {
	received := make(chan consume.Message, 1000)
	for range 2 {
		if err := b.fill(3, 10); err != nil {
			return err
		}
	}
	if _, err := b.Subscribe("tested", func(m consume.Message) { received <- m }); err != nil {
		return err
	}
	if err := b.receive(received, 40, func(m consume.Message) bool { return m.Partition != 0 }); err != nil {
		return err
	}
	if _, err := b.Log.Await(b.Ctx, "kafka consumer skip tested topic topic partition 0 goes on behind it"); err != nil {
		return err
	}
	if shown := b.Command("kafka", "show", "consumer", "tested"); !strings.Contains(shown, "paused: encoded crc") {
		return errors.New(shown)
	}
	if got := b.Command("kafka", "consumer", "skip", "tested", "topic", "topic", "partition", "0"); !strings.HasSuffix(got, "at offset 10\n") {
		return errors.New(got)
	}
	return b.receive(received, 10, func(m consume.Message) bool { return m.Partition == 0 && m.Offset >= 10 })
}

// moveLeader consumes while the leader of the partition moves.
func moveLeader(b *Bench) error {
	received, next := make(chan consume.Message, 100), int64(0)
	if _, err := b.Subscribe("tested", func(m consume.Message) { received <- m }); err != nil {
		return err
	}
	for i := range int32(4) {
		if err := b.Kafka.MoveTopicPartition(b.Topic, 0, i%2); err != nil {
			return err
		}
		if err := b.fill(1, 10); err != nil {
			return err
		}
		if err := b.receive(received, 10, func(m consume.Message) bool { next++; return m.Offset == next-1 }); err != nil {
			return err
		}
	}
	return nil
}
