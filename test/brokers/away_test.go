package brokers

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/internal/kafka/consume"
	"reskafka/test/wire"
)

// TestOneBrokerAway_OtherPartitions_AreCompared checks that a consumer compares a partition without progress
// with its log while another partition's leader is away: a NOTICE names the open transaction, and kafka show
// consumer has the end of the log. TestConsumer_OneBrokerAway_OthersAreCompared is the same test with its own
// clock.
func TestOneBrokerAway_OtherPartitions_AreCompared(t *testing.T) {
	if !long() {
		t.Skip("skipped: it takes a minute; make test-long runs it")
	}
	for _, row := range []Row{
		oneAway("closes connections", wire.FIN, "it closed the connection"),
		oneAway("is silent", wire.Silence, ": timed out (see socket_timeout_ms"),
	} {
		t.Run(row.Name, func(t *testing.T) {
			t.Parallel()
			row.Check(t)
		})
	}
}

// oneAway stops one of two leaders during an open transaction at the other leader.
func oneAway(what string, how wire.Ending, lines ...string) Row {
	return Row{
		Name: "one broker " + what, Partitions: 2, Patience: 2 * time.Minute,
		Kafka: []kfake.Opt{kfake.NumBrokers(2)}, Conf: []string{"request_timeout_ms = 1000", "socket_timeout_ms = 1000"},
		Steps: func(b *Bench) error {
			stays := b.Kafka.CoordinatorFor("group")
			for partition, leader := range []int32{stays, 1 - stays} {
				if err := b.Kafka.MoveTopicPartition(b.Topic, int32(partition), leader); err != nil {
					return err
				}
			}
			var gone atomic.Bool
			address := b.Kafka.ListenAddrs()[1-stays]
			b.Wire.Disturb(wire.Of("tested", wire.Fault{Request: func(c *wire.Conn, _ wire.Header) {
				if gone.Load() && c.LocalAddr().String() == address {
					c.End(how)
				}
			}}))
			received := make(chan consume.Message, 100)
			if _, err := b.Subscribe("tested", func(m consume.Message) { received <- m }); err != nil {
				return err
			}
			if err := errors.Join(b.fill(2, 10), b.receive(received, 20, func(consume.Message) bool { return true })); err != nil {
				return err
			}
			gone.Store(true)
			if err := b.openTransaction(7); err != nil {
				return err
			}
			if _, err := b.Log.Await(b.Ctx, "topic topic partition 0: 7 record(s) from offset 10 on wait for the end of an open transaction"); err != nil {
				return err
			}
			if shown := b.Command("kafka", "show", "consumer", "tested"); !strings.Contains(shown, " 17") {
				return errors.New(shown)
			}
			return nil
		},
		Log: lines,
	}
}

// openTransaction writes n records to partition 0 in a transaction and leaves it open.
func (b *Bench) openTransaction(n int) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Kafka.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.TransactionalID("open"), kgo.TransactionTimeout(10*time.Minute), kgo.DisableClientMetrics())
	if err != nil {
		return err
	}
	b.Cleanup(cl.Close)
	if err := cl.BeginTransaction(); err != nil {
		return err
	}
	for range n {
		if err := cl.ProduceSync(b.Ctx, &kgo.Record{Topic: b.Topic, Value: []byte("open")}).FirstErr(); err != nil {
			return err
		}
	}
	return nil
}
