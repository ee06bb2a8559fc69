package distance

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/internal/frame/frametest"
	"reskafka/test/apache"
	"reskafka/test/wan"
	"reskafka/test/world"
)

const (
	keys       = 40      // of each topic
	valueBytes = 100     // of a call record's order of size
	waiting    = 100_000 // records without an outcome: queue_buffering_max_messages
)

// socketTimeout is between the lengths of the freezes. After two of them a node is still a leader: the nodes'
// session timeout is 3 s.
const socketTimeout = time.Second

// newSite starts a cluster behind links, and an engine. All of it ends with the test.
func newSite(t *testing.T, folder string, of scale, partitions int32) *site {
	t.Helper()
	s := &site{T: t, scale: of, next: map[string]int{}, counts: map[string]int{}}
	var cancel context.CancelFunc
	s.ctx, cancel = context.WithTimeout(t.Context(), of.patience)
	t.Cleanup(cancel)
	listener := apache.Listener{Name: far, Protocol: "PLAINTEXT"}
	for range nodes {
		link, err := wan.New(oneWay)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = link.Close() })
		s.links = append(s.links, link)
		listener.Advertised = append(listener.Advertised, link.Address())
	}
	var err error
	if s.cluster, err = apache.Start(s.ctx, apache.Config{Dir: t.TempDir(), Kafka: folder, Nodes: nodes,
		Listeners: []apache.Listener{apache.Plaintext, listener}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.cluster.Close(); err != nil {
			t.Error(err)
		}
	})
	for i, link := range s.links {
		link.Use(s.cluster.Address(i+1, far))
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(s.brokers()...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	s.admin = kadm.NewClient(client)
	for i := range topics {
		s.topics = append(s.topics, fmt.Sprintf("distant-%d", i))
	}
	if _, err := s.admin.CreateTopics(s.ctx, partitions, nodes, nil, s.topics...); err != nil {
		t.Fatal(err)
	}
	s.world = world.New(t, "", "", of.patience)
	if err := s.world.Configure(fmt.Sprintf("[c]\ntype = connection\nbrokers = %s\nenable_idempotence = yes\n"+
		"message_timeout_ms = %d\nsocket_timeout_ms = %d\nrequest_timeout_ms = 1000\ndebug = msg,broker,eos\n",
		strings.Join(listener.Advertised, ","), of.patience.Milliseconds(), socketTimeout.Milliseconds())); err != nil {
		t.Fatal(err)
	}
	if s.producer, err = s.world.Open("c"); err != nil {
		t.Fatal(err)
	}
	return s
}

// value is record n of a key.
func value(topic, key string, n int) string {
	text := fmt.Sprintf("%s %s %d ", topic, key, n)
	return text + strings.Repeat(".", max(0, valueBytes-len(text)))
}

// load sends records at the rate, until all are sent and the faults are over. A full queue stops the load.
func (s *site) load(faulted *atomic.Bool) {
	s.Helper()
	const portion = 80
	began := time.Now()
	for due := 0; s.sent < s.records || !faulted.Load(); {
		if err := s.ctx.Err(); err != nil {
			s.Fatalf("%d records sent, %d waiting: %v", s.sent, s.producer.HeldFrames.Load(), err)
		}
		if due = int(time.Since(began).Seconds() * float64(s.rate)); s.sent >= due || s.producer.HeldFrames.Load() >= waiting {
			time.Sleep(time.Millisecond)
			continue
		}
		var frames []frametest.Frame
		for range portion {
			topic, key := s.topics[rand.IntN(topics)], fmt.Sprintf("key-%d", rand.IntN(keys))
			id := topic + " " + key
			frames = append(frames, frametest.Frame{Topic: topic, Key: []byte(key), Value: []byte(value(topic, key, s.next[id]))})
			s.next[id]++
			s.sent++
		}
		s.producer.PutFrames(frames...)
	}
}

// faults are the faults of a leader, in turn. Each one returns after its repair.
var faults = []struct {
	name string
	do   func(s *site, leader int) error
}{
	{"kill", (*site).kill},
	{"freeze, answers are late", func(s *site, leader int) error { return s.freeze(leader, socketTimeout/2) }},
	{"freeze, requests time out", func(s *site, leader int) error { return s.freeze(leader, 2*socketTimeout) }},
	{"freeze, leaders move", func(s *site, leader int) error { return s.freeze(leader, 5*time.Second) }},
	{"move", (*site).move},
	{"cut", (*site).cut},
}

// fail repeats faults until the load is over.
func (s *site) fail() error {
	deadline := time.Now().Add(time.Duration(s.records/s.rate) * time.Second)
	for n := 0; n < s.faults || time.Now().Before(deadline); n++ {
		leader, err := s.leader()
		if err != nil {
			return err
		}
		fault := faults[n%len(faults)]
		if err := fault.do(s, leader); err != nil {
			return fmt.Errorf("%s of node %d: %w", fault.name, leader, err)
		}
		s.counts[fault.name]++
		if err := s.inSync(); err != nil {
			return err
		}
		pause(s.ctx, 500*time.Millisecond) // in which batches are in flight again
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (s *site) kill(leader int) error {
	s.cluster.Kill(leader)
	pause(s.ctx, time.Second)
	return s.cluster.Restart(s.ctx, leader)
}

func (s *site) freeze(leader int, d time.Duration) error {
	err := s.cluster.Pause(leader)
	pause(s.ctx, d)
	return errors.Join(err, s.cluster.Resume(leader))
}

// cut ends all connections through the links again and again: answers under way are lost, and the requests
// are in doubt.
func (s *site) cut(int) error {
	for range 10 {
		for _, link := range s.links {
			link.Cut()
		}
		pause(s.ctx, 300*time.Millisecond)
	}
	return nil
}

// move gives each partition of this leader another leader.
func (s *site) move(leader int) error {
	details, err := s.admin.ListTopics(s.ctx, s.topics...)
	if err != nil {
		return err
	}
	var assign kadm.AlterPartitionAssignmentsReq
	moved := kadm.TopicsSet{}
	details.EachPartition(func(p kadm.PartitionDetail) {
		if p.Leader == int32(leader) {
			next := int32(leader%nodes) + 1
			assign.Assign(p.Topic, p.Partition, []int32{next, next%nodes + 1, int32(leader)})
			moved.Add(p.Topic, p.Partition)
		}
	})
	if _, err := s.admin.AlterPartitionAssignments(s.ctx, assign); err != nil {
		return err
	}
	_, err = s.admin.ElectLeaders(s.ctx, kadm.ElectPreferredReplica, moved)
	return err
}

// leader returns the leader of any partition. It waits while there is none.
func (s *site) leader() (int, error) {
	for s.ctx.Err() == nil {
		details, err := s.admin.ListTopics(s.ctx, s.topics...)
		if err != nil {
			return 0, err
		}
		partitions := details[s.topics[rand.IntN(topics)]].Partitions.Numbers()
		if len(partitions) == 0 {
			continue
		}
		partition := partitions[rand.IntN(len(partitions))]
		for _, d := range details.Sorted() {
			if p := d.Partitions[partition]; p.Leader > 0 {
				return int(p.Leader), nil
			}
		}
		pause(s.ctx, 50*time.Millisecond)
	}
	return 0, s.ctx.Err()
}

// inSync waits until all replicas of all partitions are in sync, so that the next fault loses no record.
func (s *site) inSync() error {
	for s.ctx.Err() == nil {
		details, err := s.admin.ListTopics(s.ctx, s.topics...)
		if err != nil {
			return err
		}
		behind := 0
		details.EachPartition(func(p kadm.PartitionDetail) {
			if len(p.ISR) < nodes || p.Leader < 1 {
				behind++
			}
		})
		if behind == 0 {
			return nil
		}
		pause(s.ctx, 100*time.Millisecond)
	}
	return s.ctx.Err()
}
