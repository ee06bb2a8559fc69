package produce

import (
	"strings"
	"testing"
	"time"

	"reskafka/internal/host"
	"reskafka/internal/kafka/client"
	"reskafka/internal/record"
	"reskafka/test/kafkatest"
)

// TestTopic_PartitionListedOnce_GoesAway guards records with a key of a missing partition, listed by a single
// answer: the client sent such records forever.
func TestTopic_PartitionListedOnce_GoesAway(t *testing.T) {
	b := playing(t, false)
	known := b.topic(0, 0)
	o := kafkatest.ExpectOutcomes(t, 1)
	b.send(o, kafkatest.Records(record.Record{Topic: "t", Key: key(1, 2)})...)
	for range 2 * minFewer { // a broker without news of all partitions answers the same, for a moment
		b.look(func() { known.ask = false })
		b.learn(known, told([16]byte{1}, 0))
	}
	o.None()
	b.look(func() {
		if len(known.partitions) != 2 || !known.ask {
			t.Errorf("%d partitions, asked about again: %v", len(known.partitions), known.ask)
		}
	})
	b.later(surplusTime)
	b.learn(known, told([16]byte{1}, 0))
	for _, err := range o.Wait() {
		if !client.UnknownTopic(err) {
			t.Errorf("the record comes back with %v", err)
		}
	}
	b.look(func() {
		if len(known.partitions) != 1 {
			t.Errorf("%d partitions", len(known.partitions))
		}
	})
	b.send(kafkatest.ExpectOutcomes(t, 1), kafkatest.Records(record.Record{Topic: "t", Key: key(1, 2)})...)
	b.leaves(0, true) // of the existing partition
}

// TestTopic_FewerPartitionsNowAndThen_StayKnown guards partitions against a lagging broker, with complete
// answers of other brokers in between.
func TestTopic_FewerPartitionsNowAndThen_StayKnown(t *testing.T) {
	b := playing(t, false)
	known := b.topic(0, 0)
	for range 2 * minFewer {
		b.learn(known, told([16]byte{1}, 0))
		b.later(surplusTime)
		b.learn(known, told([16]byte{1}, 0, 0))
	}
	b.look(func() {
		if len(known.partitions) != 2 {
			t.Errorf("%d partitions", len(known.partitions))
		}
	})
}

// TestTopic_NoPartitions_IsAskedAboutAndReported guards records of a topic listed without partitions: such
// records waited for their time-out, without a log line.
func TestTopic_NoPartitions_IsAskedAboutAndReported(t *testing.T) {
	for name, before := range map[string][]int32{"never any": nil, "some before": {0}} {
		t.Run(name, func(t *testing.T) {
			b := playing(t, false)
			b.look(func() { b.nodes[0] = &node{id: 0, resume: time.Now().Add(time.Hour)} })
			known := b.topic(before...)
			o := kafkatest.ExpectOutcomes(t, 1)
			b.send(o, kafkatest.Numbered("t", 0, 1)...)
			for range passing {
				b.look(func() { known.ask = false })
				b.learn(known, told([16]byte{1}))
				b.tellOfTrouble([]*topic{known})
				b.look(func() {
					if !known.ask {
						t.Fatal("the topic is not asked about again")
					}
				})
			}
			o.None()
			b.log.WaitFor(t, host.Warning, "topic t: the brokers list it without partitions")
			b.learn(known, told([16]byte{1}, 0))
			b.leaves(0, true)
		})
	}
}

// TestTopic_Unknown_IsReportedOnceItLasts checks that a missing topic is logged after its records have waited
// for unknownTopicTime, with the command to create the topic.
func TestTopic_Unknown_IsReportedOnceItLasts(t *testing.T) {
	b := playing(t, false)
	known := b.topic()
	o := kafkatest.ExpectOutcomes(t, 1)
	b.send(o, kafkatest.Numbered("t", 0, 1)...)
	unknown := told([16]byte{})
	unknown.ErrorCode = 3
	for range unknownTopicRetries {
		b.learn(known, unknown)
		b.tellOfTrouble([]*topic{known})
	}
	o.None()
	if said := b.log.About("topic t"); len(said) > 0 {
		t.Errorf("before its time: %v", said)
	}
	b.learn(known, unknown)
	b.tellOfTrouble([]*topic{known})
	o.Wait()
	line := b.log.WaitFor(t, host.Warning, "topic t: UNKNOWN_TOPIC_OR_PARTITION")
	if !strings.Contains(line.Text, "kafka topic create") {
		t.Errorf("line %q", line.Text)
	}
	b.learn(known, unknown) // nothing waits now
	b.tellOfTrouble([]*topic{known})
	if said := b.log.About("topic t"); len(said) != 1 {
		t.Errorf("lines %v", said)
	}
}
