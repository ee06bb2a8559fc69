package consume

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/config"
	"reskafka/internal/host"
	"reskafka/test/kafkatest"
	"reskafka/test/wire"
)

// TestConsumer_UntrueAnswers_GoesOnAfterwards checks that a consumer receives messages within minutes of a
// bubble's clock after the end of damaged or untrue answers, chosen by a seed. RES_KAFKA_LONG=1 runs 1000
// seeds of each kind, RES_KAFKA_DAMAGE="FIRST COUNT" a range of seeds.
func TestConsumer_UntrueAnswers_GoesOnAfterwards(t *testing.T) {
	first, count := uint64(1), uint64(10)
	if os.Getenv("RES_KAFKA_LONG") != "" {
		count = 1000
	}
	if own := os.Getenv("RES_KAFKA_DAMAGE"); own != "" {
		if _, err := fmt.Sscan(own, &first, &count); err != nil {
			t.Fatalf("RES_KAFKA_DAMAGE: %v", err)
		}
	}
	for name, fault := range map[string]func(seed uint64, every int) wire.Fault{"damage": wire.Damage, "lies": wire.Lie} {
		for seed := first; seed < first+count; seed++ {
			t.Run(fmt.Sprintf("%s/%d", name, seed), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { untrueAnswers(t, fault(seed, 4), name == "lies") })
			})
		}
	}
}

func untrueAnswers(t *testing.T, fault wire.Fault, lies bool) {
	b := newBubble(t, 2, 1)
	var sound atomic.Bool
	for _, w := range b.wires {
		w.Disturb(wire.Of("asterisk", wire.While(func(wire.Header) bool { return !sound.Load() }, fault)))
		if lies {
			w.Disturb(wire.Of("asterisk", wire.Unthrottled()))
		}
	}
	cl := b.writer(t)
	log := kafkatest.NewLines()
	m := b.subscribe(t, log, func(c *config.Connection) {
		c.AutoCommit = false // the library waits for a commit under a lock, which a bubble's clock does not pass
		if os.Getenv("RES_KAFKA_DAMAGE_LOG") != "" {
			c.Debug = []string{"cgrp", "consumer", "metadata", "topic", "fetch", "broker", "generic", "protocol"}
		}
	})
	m.run(nil)
	feed := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
			cl.Produce(t.Context(), &kgo.Record{Topic: "t", Value: []byte("1")}, nil)
		}
	}
	feed(time.Minute)
	sound.Store(true)
	for _, w := range b.wires {
		w.End(wire.FIN)
	}
	before := m.delivered.Load()
	for waited := time.Duration(0); m.delivered.Load() == before; waited += 10 * time.Second {
		if waited > 3*time.Minute {
			partitions := 0
			for _, list := range m.Assigned() {
				partitions += len(list)
			}
			if partitions == 0 { // an undetectable lie for a member of a large group: an empty assignment is possible
				t.Skip("the last assignment lost its partitions")
			}
			for _, line := range log.Above(host.Debug) {
				t.Log(line.Text)
			}
			snapshot, _ := shown(m.Consumer)
			t.Fatalf("no message comes; assigned: %v, shown: %+v", m.Assigned(), snapshot)
		}
		feed(10 * time.Second)
	}
}

// TestConsumer_AnswerOfOneMoment_DoesNotStopIt checks that a partition is consumed within minutes although
// the client's state of the partition is permanently wrong: its committed offset was refused once, or the
// group assigned a missing partition. The consumer joins the group again once.
func TestConsumer_AnswerOfOneMoment_DoesNotStopIt(t *testing.T) {
	assigning := func(topic string, partitions ...int32) wire.Fault {
		return wire.Key(kmsg.SyncGroup, wire.Times(1, wire.Change(func(r *kmsg.SyncGroupResponse) {
			one := kmsg.NewConsumerMemberAssignmentTopic()
			one.Topic, one.Partitions = topic, partitions
			assignment := kmsg.NewConsumerMemberAssignment()
			assignment.Topics = append(assignment.Topics, one)
			r.MemberAssignment = assignment.AppendTo(nil)
		})))
	}
	for name, fault := range map[string]wire.Fault{ // of the first answer with this key
		"the committed offset is refused": wire.Key(kmsg.OffsetFetch, wire.Times(1, wire.Change(func(r *kmsg.OffsetFetchResponse) {
			for i := range r.Groups {
				for j := range r.Groups[i].Topics {
					for k := range r.Groups[i].Topics[j].Partitions {
						r.Groups[i].Topics[j].Partitions[k].ErrorCode = kerr.TopicAuthorizationFailed.Code
					}
				}
			}
		}))),
		"a partition is assigned that does not exist": assigning("t", 1024),
		"a topic is assigned that does not exist":     assigning("u", 0),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBubble(t, 1, 1)
				b.wires[0].Disturb(wire.Of("asterisk", fault))
				write(t, b.writer(t), "t", 1, 0, 10)
				log := kafkatest.NewLines()
				m := b.subscribe(t, log)
				m.run(nil)
				time.Sleep(3 * time.Minute)
				inOrder(t, m.waitFor(10))
				time.Sleep(10 * time.Minute)
				joined := 0
				for _, line := range log.Above(host.Notice) {
					if strings.Contains(line.Text, ", joining group g again") {
						joined++
					}
				}
				if joined != 1 {
					t.Errorf("the group was joined again %d times: %v", joined, log.Above(host.Notice))
				}
			})
		})
	}
}
