package consume

import (
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/host"
	"reskafka/test/kafkatest"
)

// often makes a consumer compare partitions without progress all the time.
func often(tune *consumerTuning) { tune.progress, tune.still = 5*time.Millisecond, 5*time.Millisecond }

// deleteBefore deletes the records of topic t partition 0 before an offset, as retention does.
func deleteBefore(t *testing.T, cl *kgo.Client, offset int64) {
	t.Helper()
	req := kmsg.NewPtrDeleteRecordsRequest()
	partition := kmsg.NewDeleteRecordsRequestTopicPartition()
	partition.Offset = offset
	topic := kmsg.NewDeleteRecordsRequestTopic()
	topic.Topic, topic.Partitions = "t", append(topic.Partitions, partition)
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(t.Context(), cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestConsumer_CommittedOffsetExpired_GoesOn checks that a group with a committed offset deleted by retention
// consumes the next record, although its position is before the start of the log until then.
func TestConsumer_CommittedOffsetExpired_GoesOn(t *testing.T) {
	for _, reset := range []string{"earliest", "latest"} {
		t.Run(reset, func(t *testing.T) {
			t.Parallel()
			cluster := kafkatest.Broker(t, quickGroup, kfake.SeedTopics(1, "t"))
			cl := kafkatest.Writer(t, cluster)
			write(t, cl, "t", 1, 0, 5)
			conf := consuming(cluster.ListenAddrs()...)
			m := listen(t, conf, nil, nil, "t")
			m.waitFor(5)
			m.Close()
			write(t, cl, "t", 1, 5, 10)
			deleteBefore(t, cl, 10)

			conf.AutoOffsetReset = reset
			compared := make(chan struct{}, 1)
			cluster.ControlKey(int16(kmsg.ListOffsets), func(req kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				if req.(*kmsg.ListOffsetsRequest).IsolationLevel == 1 {
					select {
					case compared <- struct{}{}:
					default:
					}
				}
				return nil, nil, false
			})
			log := kafkatest.NewLines()
			m = subscribe(t, conf, log, []string{"t"}, often)
			m.run(nil)
			for range 20 {
				select {
				case <-compared:
				case <-time.After(kafkatest.Patience):
					t.Fatal("the partition is not compared any more")
				}
			}
			write(t, cl, "t", 1, 10, 11)
			m.waitFor(1)
			if lines := log.About(kerr.OffsetOutOfRange.Message); len(lines) > 0 {
				t.Errorf("lines: %v", lines)
			}
		})
	}
}

// TestConsumer_UnreadableBatchExpired_GoesOn checks that a partition paused because of an unreadable batch is
// consumed again after retention has deleted the batch.
func TestConsumer_UnreadableBatchExpired_GoesOn(t *testing.T) {
	cluster := disturbedBroker(t, 1, answering(func(p *kmsg.FetchResponseTopicPartition) {
		if len(p.RecordBatches) > 0 && binary.BigEndian.Uint64(p.RecordBatches) == 10 {
			p.RecordBatches = unreadableBatches["flipped byte"](p.RecordBatches)
		}
	}))
	cl := kafkatest.Writer(t, cluster, kgo.ProducerLinger(30*time.Millisecond))
	write(t, cl, "t", 1, 0, 10)
	log := kafkatest.NewLines()
	m := listen(t, consuming(cluster.ListenAddrs()...), log, nil, "t")
	m.waitFor(10)
	write(t, cl, "t", 1, 10, 20)
	log.WaitFor(t, host.Error, "topic t partition 0: the batch of offsets 10 to 19 cannot be read: ")
	write(t, cl, "t", 1, 20, 30)
	deleteBefore(t, cl, 20)
	m.waitFor(20)
}

// TestConsumer_RebalanceDuringProbe_GoesOn checks that a paused partition with a running probe is fetched
// again after a rebalance. The client keeps pauses over rebalances.
func TestConsumer_RebalanceDuringProbe_GoesOn(t *testing.T) {
	cluster := kafkatest.Broker(t, quickGroup, kfake.SeedTopics(1, "t"))
	write(t, kafkatest.Writer(t, cluster), "t", 1, 0, 3)
	m := subscribe(t, consuming(cluster.ListenAddrs()...), nil, []string{"t"})
	<-m.assigned
	probing, release := make(chan struct{}, 1), make(chan struct{})
	cluster.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if isProbe(req) {
			probing <- struct{}{}
			<-release
		}
		return nil, nil, false
	})
	s := m.session
	m.hold(s, topicPartition{"t", 0}, kerr.TopicAuthorizationFailed)
	<-probing
	m.Consumer.mtx.Lock()
	m.placesLocked(s, s.assigned) // a rebalance without a change
	m.Consumer.mtx.Unlock()
	close(release)
	m.run(nil)
	m.waitFor(3)
}

// isProbe reports whether a fetch is the consumer's own. The client's wait for records.
func isProbe(req kmsg.Request) bool { return req.(*kmsg.FetchRequest).MaxWaitMillis == 0 }

// TestConsumer_ProbeUnanswered_GoesOn checks that a failed probe does not make a partition unreadable: a
// large record on a slow link takes longer than a probe.
func TestConsumer_ProbeUnanswered_GoesOn(t *testing.T) {
	cluster := kafkatest.Broker(t, quickGroup, kfake.SeedTopics(1, "t"))
	write(t, kafkatest.Writer(t, cluster), "t", 1, 0, 3)
	release, probes := make(chan struct{}), make(chan struct{}, 100)
	cluster.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		r := req.(*kmsg.FetchRequest)
		if isProbe(r) {
			probes <- struct{}{}
			return nil, errors.New("the connection ends"), true
		}
		select {
		case <-release:
			return nil, nil, false
		default:
		}
		resp := r.ResponseKind().(*kmsg.FetchResponse)
		resp.SessionID = 0
		return resp, nil, true // nothing yet
	})
	log := kafkatest.NewLines()
	m := subscribe(t, consuming(cluster.ListenAddrs()...), log, []string{"t"}, often)
	m.run(nil)
	for range 2 {
		select {
		case <-probes:
		case <-time.After(kafkatest.Patience):
			t.Fatal("the partition is not probed")
		}
	}
	close(release)
	m.waitFor(3)
	if lines := log.About("cannot be read"); len(lines) > 0 {
		t.Errorf("lines: %v", lines)
	}
}

// TestConsumer_Trouble_EndsWithSkipAndRevocation checks that kafka show consumer drops a partition's trouble
// after the skip of its last batch, and after the assignment of the partition to another member.
func TestConsumer_Trouble_EndsWithSkipAndRevocation(t *testing.T) {
	cluster := disturbedBroker(t, 1, answering(func(p *kmsg.FetchResponseTopicPartition) {
		if len(p.RecordBatches) > 0 {
			p.RecordBatches = unreadableBatches["flipped byte"](p.RecordBatches)
		}
	}))
	write(t, kafkatest.Writer(t, cluster, kgo.ProducerLinger(30*time.Millisecond)), "t", 1, 0, 10)
	log := kafkatest.NewLines()
	m := listen(t, consuming(cluster.ListenAddrs()...), log, nil, "t")
	log.WaitFor(t, host.Error, "topic t partition 0: the batch of offsets 0 to 9 cannot be read: ")
	if _, err := m.Skip("t", 0); err != nil {
		t.Fatal(err)
	}
	log.WaitFor(t, host.Notice, "topic t partition 0 works again after ")
	s := m.session
	m.hold(s, topicPartition{"t", 0}, kerr.TopicAuthorizationFailed)
	if troubles := m.status.Snapshot().Topics; len(troubles) != 1 {
		t.Fatalf("shown while refused: %v", troubles)
	}
	m.drop(s)
	if troubles := m.status.Snapshot().Topics; len(troubles) != 0 {
		t.Errorf("shown after revocation: %v", troubles)
	}
}

// TestConsumer_BatchDamagedOnItsWay_IsFetchedAgain checks that a batch damaged once on its way is delivered,
// and that the log does not advise to set the group's offset.
func TestConsumer_BatchDamagedOnItsWay_IsFetchedAgain(t *testing.T) {
	var once sync.Once
	cluster := disturbedBroker(t, 1, answering(func(p *kmsg.FetchResponseTopicPartition) {
		if len(p.RecordBatches) > 0 {
			once.Do(func() { p.RecordBatches = unreadableBatches["flipped byte"](p.RecordBatches) })
		}
	}))
	write(t, kafkatest.Writer(t, cluster, kgo.ProducerLinger(30*time.Millisecond)), "t", 1, 0, 10)
	log := kafkatest.NewLines()
	m := listen(t, consuming(cluster.ListenAddrs()...), log, nil, "t")
	log.WaitFor(t, host.Error, "topic t partition 0: encoded crc")
	m.waitFor(10)
	if lines := log.About("--reset-offsets"); len(lines) > 0 {
		t.Errorf("lines: %v", lines)
	}
}
