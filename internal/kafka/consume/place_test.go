package consume

import (
	"encoding/binary"
	"hash/crc32"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/host"
	"reskafka/internal/kafka/client"
	"reskafka/internal/metrics"
	"reskafka/test/kafkatest"
	"reskafka/test/wire"
)

// disturbedBroker starts a broker with topic t. Its answers to the consumer pass through a fault.
func disturbedBroker(t *testing.T, partitions int32, fault wire.Fault) *kfake.Cluster {
	t.Helper()
	watched := wire.New()
	watched.Disturb(wire.Of("asterisk", fault))
	return kafkatest.Broker(t, quickGroup, kfake.SeedTopics(partitions, "t"), kfake.ListenFn(func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		if err != nil {
			return nil, err
		}
		return watched.Listen(l), nil
	}))
}

// answering changes the fetch response for partition 0 of the only topic.
func answering(change func(*kmsg.FetchResponseTopicPartition)) wire.Fault {
	return wire.Change(func(r *kmsg.FetchResponse) {
		for i := range r.Topics {
			for j := range r.Topics[i].Partitions {
				if p := &r.Topics[i].Partitions[j]; p.Partition == 0 {
					change(p)
				}
			}
		}
	})
}

// rewriteBatch changes the batch at offset 0, the first in data, and corrects the checksum.
func rewriteBatch(change func(batch []byte)) func([]byte) []byte {
	return func(data []byte) []byte {
		size := binary.BigEndian.Uint32(data[client.BatchLengthAt:]) + client.BatchLengthAt + 4
		change(data[:size])
		binary.BigEndian.PutUint32(data[client.BatchCRCAt:], crc32.Checksum(data[client.BatchCRCAt+4:size], client.Castagnoli))
		return data
	}
}

// attributesAt is where the last byte of a batch's attributes stands, with the codec.
const attributesAt = 22

var unreadableBatches = map[string]func(data []byte) []byte{
	"flipped byte": func(data []byte) []byte {
		data[client.BatchHeaderBytes+3] ^= 1
		return data
	},
	"broken zstd":   rewriteBatch(func(batch []byte) { batch[attributesAt] = 4 }),
	"broken gzip":   rewriteBatch(func(batch []byte) { batch[attributesAt] = 1 }),
	"broken snappy": rewriteBatch(func(batch []byte) { batch[attributesAt] = 2 }),
	"broken lz4":    rewriteBatch(func(batch []byte) { batch[attributesAt] = 3 }),
	"unknown codec": rewriteBatch(func(batch []byte) { batch[attributesAt] = 5 }),
	"unknown magic": func(data []byte) []byte {
		data[client.BatchMagicAt] = 9
		return data
	},
	"negative count": rewriteBatch(func(batch []byte) { binary.BigEndian.PutUint32(batch[57:], 1<<31) }),
	"cut off":        func(data []byte) []byte { return data[:client.BatchHeaderBytes+5] },
}

// TestConsumer_UnreadableBatch_PausesPartition checks that an unreadable batch stops its partition alone, is
// named in the log, and is fetched rarely, and that Skip continues behind the batch.
func TestConsumer_UnreadableBatch_PausesPartition(t *testing.T) {
	for name, damage := range unreadableBatches {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var damaged atomic.Int32
			cluster := disturbedBroker(t, 3, answering(func(p *kmsg.FetchResponseTopicPartition) {
				if len(p.RecordBatches) > client.BatchHeaderBytes && binary.BigEndian.Uint64(p.RecordBatches) == 0 {
					damaged.Add(1)
					p.RecordBatches = damage(p.RecordBatches)
				}
			}))
			cl := kafkatest.Writer(t, cluster, kgo.ProducerLinger(30*time.Millisecond)) // a call is a batch
			write(t, cl, "t", 3, 0, 10)
			write(t, cl, "t", 3, 10, 20)
			log := kafkatest.NewLines()
			m := subscribe(t, consuming(cluster.ListenAddrs()...), log, []string{"t"}, func(tune *consumerTuning) {
				tune.pause = time.Hour
				tune.progress, tune.still = 10*time.Millisecond, 10*time.Millisecond
			})
			m.run(nil)
			m.waitFor(40)
			log.WaitFor(t, host.Error, "connection my-kafka: topic t partition 0: the batch of offsets 0 to 9 cannot be read: ")
			before := damaged.Load()
			for n := 20; n < 120; n += 10 { // the other partitions continue
				write(t, cl, "t", 3, n, n+10)
				m.waitFor(40 + 2*(n-10))
			}
			if n := damaged.Load() - before; n > 1 { // a fetch may have been in flight
				t.Errorf("%d fetches of a paused partition", n)
			}
			if got, v := shown(m.Consumer); got.Partitions[0].Fault == "" || got.Partitions[0].Topic != "t" || offsetOf(v, metrics.Position, 0) > 0 {
				t.Errorf("shown: %+v", got)
			}
			if to, err := m.Skip("t", 0); err != nil || to != 10 {
				t.Fatalf("Skip gave %d, %v", to, err)
			}
			m.waitFor(350)
			snap, v := shown(m.Consumer)
			if position, end := offsetOf(v, metrics.Position, 0), offsetOf(v, metrics.HighWatermark, 0); snap.Partitions[0].Fault != "" ||
				position != 120 || end != 120 {
				t.Errorf("shown: %+v, position %d, end %d", snap.Partitions[0], position, end)
			}
			if batches, offsets := v.Sum(metrics.SkippedBatches), v.Sum(metrics.SkippedOffsets); batches != 1 || offsets != 10 {
				t.Errorf("skipped: %d batches, %d offsets", batches, offsets)
			}
			m.Close()
			if n := commits(cluster, "g", "t", 0); n != 120 {
				t.Errorf("committed %d, want 120", n)
			}
		})
	}
}

// TestConsumer_BatchReadableAgain_Resumes checks that a partition is consumed completely after a repair of
// its log, and that a refusal pauses a partition in the same way.
func TestConsumer_BatchReadableAgain_Resumes(t *testing.T) {
	for name, one := range map[string]struct {
		damage func(*kmsg.FetchResponseTopicPartition)
		line   string
	}{
		"flipped byte": {func(p *kmsg.FetchResponseTopicPartition) {
			p.RecordBatches = unreadableBatches["flipped byte"](p.RecordBatches)
		}, "the batch of offsets 0 to 9 cannot be read: "},
		"refused": {func(p *kmsg.FetchResponseTopicPartition) {
			p.ErrorCode, p.RecordBatches = kerr.TopicAuthorizationFailed.Code, nil
		}, "TOPIC_AUTHORIZATION_FAILED"},
		"a refusal that the client keeps to itself": {func(p *kmsg.FetchResponseTopicPartition) {
			p.ErrorCode, p.RecordBatches = kerr.KafkaStorageError.Code, nil
		}, "KAFKA_STORAGE_ERROR"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var repaired atomic.Bool
			cluster := disturbedBroker(t, 1, answering(func(p *kmsg.FetchResponseTopicPartition) {
				if len(p.RecordBatches) > 0 && !repaired.Load() {
					one.damage(p)
				}
			}))
			write(t, kafkatest.Writer(t, cluster, kgo.ProducerLinger(30*time.Millisecond)), "t", 1, 0, 10)
			log := kafkatest.NewLines()
			m := subscribe(t, consuming(cluster.ListenAddrs()...), log, []string{"t"}, func(tune *consumerTuning) {
				tune.progress, tune.still = 10*time.Millisecond, 10*time.Millisecond
			})
			m.run(nil)
			log.WaitFor(t, host.Warning, one.line)
			eventually(t, "the pause grows", func() bool {
				m.Consumer.mtx.Lock()
				defer m.Consumer.mtx.Unlock()
				for _, p := range m.session.places {
					return p.fault != nil && p.fault.pause > 8*m.tune.pause
				}
				return false
			})
			repaired.Store(true)
			inOrder(t, m.waitFor(10))
			log.WaitFor(t, host.Notice, "connection my-kafka: topic t partition 0 works again after ")
		})
	}
}

// TestNextPause checks the length of pauses: a second, doubled up to a minute.
func TestNextPause(t *testing.T) {
	var pause time.Duration
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		if pause = nextPause(pause, time.Second); pause != want*time.Second {
			t.Errorf("pause %d is %s", i, pause)
		}
	}
}

// transact writes values in a transaction and leaves the transaction open.
func transact(t *testing.T, cluster *kfake.Cluster, id string, values []string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.TransactionalID(id), kgo.DisableClientMetrics(),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for _, value := range values {
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte(value)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	return cl
}

// TestConsumer_OpenTransaction_IsShown checks that records behind an open transaction are logged as waiting,
// once, with position, last stable offset and end, and that the records arrive after the end of the
// transaction.
func TestConsumer_OpenTransaction_IsShown(t *testing.T) {
	cluster := kafkatest.Broker(t, quickGroup, kfake.SeedTopics(1, "t"))
	cl := kafkatest.Writer(t, cluster)
	write(t, cl, "t", 1, 0, 5)
	open := transact(t, cluster, "open", []string{"5", "6"})
	write(t, cl, "t", 1, 7, 10)
	log := kafkatest.NewLines()
	m := subscribe(t, consuming(cluster.ListenAddrs()...), log, []string{"t"}, func(tune *consumerTuning) {
		tune.progress, tune.still = 5*time.Millisecond, 5*time.Millisecond
	})
	m.run(nil)
	m.waitFor(5)
	const line = "connection my-kafka: topic t partition 0: 5 record(s) from offset 5 on wait for the end of an open transaction, for "
	log.WaitFor(t, host.Notice, line)
	got, v := shown(m.Consumer)
	position, stable, end := offsetOf(v, metrics.Position, 0), offsetOf(v, metrics.StableOffset, 0), offsetOf(v, metrics.HighWatermark, 0)
	if len(got.Partitions) != 1 || position != 5 || stable != 5 || end != 10 {
		t.Errorf("shown: %+v, position %d, stable %d, end %d", got.Partitions, position, stable, end)
	}
	if err := open.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	inOrder(t, m.waitFor(10))
	notices := 0
	for _, l := range log.Above(host.Notice) {
		if strings.Contains(l.Text, "open transaction") {
			notices++
		}
	}
	if notices != 1 {
		t.Errorf("%d lines about one transaction", notices)
	}
}

// TestConsumer_AbortedTail_IsRead checks that a tail of aborted records counts as read, without a log line,
// and that no control record is delivered.
func TestConsumer_AbortedTail_IsRead(t *testing.T) {
	cluster := kafkatest.Broker(t, quickGroup, kfake.SeedTopics(1, "t"))
	cl := kafkatest.Writer(t, cluster)
	write(t, cl, "t", 1, 0, 5)
	if err := transact(t, cluster, "kept", []string{"5"}).EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	if err := transact(t, cluster, "aborted", []string{"no", "no"}).EndTransaction(t.Context(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	log := kafkatest.NewLines()
	m := subscribe(t, consuming(cluster.ListenAddrs()...), log, []string{"t"}, func(tune *consumerTuning) {
		tune.progress, tune.still = 5*time.Millisecond, 5*time.Millisecond
	})
	m.run(nil)
	inOrder(t, m.waitFor(6))
	eventually(t, "all is read", func() bool { // 5 records, then one with a marker, then two with a marker
		_, v := shown(m.Consumer)
		return offsetOf(v, metrics.Position, 0) == 10 && offsetOf(v, metrics.HighWatermark, 0) == 10 && offsetOf(v, metrics.StableOffset, 0) == 10
	})
	write(t, cl, "t", 1, 6, 7)
	m.waitFor(7)
	if lines := log.Above(host.Notice); len(lines) != 0 {
		t.Errorf("lines: %v", lines)
	}
}

// TestConsumer_FormatZero_HasNoTime checks that messages of format 0 are delivered with the time -1.
func TestConsumer_FormatZero_HasNoTime(t *testing.T) {
	cluster := disturbedBroker(t, 1, answering(func(p *kmsg.FetchResponseTopicPartition) {
		if len(p.RecordBatches) == 0 {
			return
		}
		m := kmsg.MessageV0{Value: []byte("old")}
		m.MessageSize = int32(len(m.AppendTo(nil)) - 12)
		data := m.AppendTo(nil)
		binary.BigEndian.PutUint32(data[12:], crc32.ChecksumIEEE(data[16:]))
		p.RecordBatches = data
	}))
	write(t, kafkatest.Writer(t, cluster), "t", 1, 0, 1)
	m := listen(t, consuming(cluster.ListenAddrs()...), nil, nil, "t")
	if got := m.waitFor(1)[0]; string(got.Value) != "old" || got.UnixMilli() != -1 {
		t.Errorf("%s at %d", got.Value, got.UnixMilli())
	}
	later := Message{Timestamp: time.UnixMilli(1700000000123)}
	if later.UnixMilli() != 1700000000123 {
		t.Errorf("another time is %d", later.UnixMilli())
	}
}
