// Package distance checks delivery to a distant cluster of Apache Kafka whose leaders fail all the time. Three
// nodes are behind links of 100 ms round trip. An engine with idempotence sends records of two topics, while
// leaders are killed and frozen and leadership moves. An independent client reads every record.
//
// `make test` runs a sample, RES_KAFKA_LONG a million records to topics of 1 and of 8 partitions.
// RES_KAFKA_APACHE has the folders of Apache Kafka.
package distance

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/test/apache"
	"reskafka/test/wan"
	"reskafka/test/world"
)

const (
	nodes  = 3
	oneWay = 50 * time.Millisecond // to every node
	far    = "FAR"                 // the listener behind the links
	topics = 2
)

// scale is the size of a run.
type scale struct {
	records  int // the load goes on until the last fault
	rate     int // records per second
	faults   int // at least
	patience time.Duration
}

func size() scale {
	if os.Getenv("RES_KAFKA_LONG") != "" {
		return scale{records: 1_000_000, rate: 8000, faults: 12, patience: 30 * time.Minute}
	}
	return scale{records: 20_000, rate: 4000, faults: len(faults), patience: 3 * time.Minute}
}

// TestDistantCluster_LeadersFail_EachRecordOnce guards idempotence with several batches of a partition in
// flight, across changes of leaders, lost connections and requests without an answer.
func TestDistantCluster_LeadersFail_EachRecordOnce(t *testing.T) {
	_, folder, _ := strings.Cut(strings.Split(os.Getenv("RES_KAFKA_APACHE"), ":")[0], "=")
	if folder == "" {
		t.Skip("RES_KAFKA_APACHE names no Apache Kafka")
	}
	shapes := []int32{8, 1}
	if os.Getenv("RES_KAFKA_LONG") == "" {
		shapes = []int32{2}
	}
	for _, partitions := range shapes {
		t.Run(fmt.Sprintf("%d partitions", partitions), func(t *testing.T) {
			s := newSite(t, folder, size(), partitions)
			began := time.Now()
			var faulted atomic.Bool
			failing := make(chan error, 1)
			go func() {
				defer faulted.Store(true)
				failing <- s.fail()
			}()
			s.load(&faulted)
			if err := <-failing; err != nil {
				t.Fatal(err)
			}
			loaded := time.Since(began)
			acknowledged, err := s.producer.Settled()
			if err != nil {
				t.Fatal(err)
			}
			if acknowledged != s.sent {
				t.Errorf("%d of %d records are acknowledged", acknowledged, s.sent)
			}
			drained := time.Since(began) - loaded
			s.verify()
			refused, failed := len(s.world.Log.With("are sent again")), len(s.world.Log.With("broker: broker "))
			t.Logf("%d records, %d partitions, %v round trip: load %v, drained after %v; faults %v; %d batches refused, %d requests failed",
				s.sent, partitions, 2*oneWay, loaded.Round(time.Second), drained.Round(time.Second/10), s.counts, refused, failed)
		})
	}
}

// verify reads all topics and compares each record with the load.
func (s *site) verify() {
	s.Helper()
	ends, err := s.admin.ListEndOffsets(s.ctx, s.topics...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		s.Fatal(err)
	}
	total := int64(0)
	ends.Each(func(o kadm.ListedOffset) { total += o.Offset })
	if total != int64(s.sent) {
		s.Errorf("the topics have %d records, want %d", total, s.sent)
	}
	reader, err := kgo.NewClient(kgo.SeedBrokers(s.brokers()...), kgo.ConsumeTopics(s.topics...), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		s.Fatal(err)
	}
	defer reader.Close()
	next := map[string]int{} // by topic and key
	wrong := 0
	for read := int64(0); read < total; {
		fetches := reader.PollFetches(s.ctx)
		if err := s.ctx.Err(); err != nil {
			s.Fatalf("read %d of %d records: %v", read, total, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			read++
			id := r.Topic + " " + string(r.Key)
			want := value(r.Topic, string(r.Key), next[id])
			if string(r.Value) == want {
				next[id]++
			} else if wrong++; wrong <= 20 {
				s.Errorf("%s/%d, offset %d: %.40q, want %.40q", r.Topic, r.Partition, r.Offset, r.Value, want)
			}
		})
	}
	for id, want := range s.next {
		if next[id] != want {
			s.Errorf("%s: %d records in order, want %d", id, next[id], want)
		}
	}
	if s.Failed() {
		for _, line := range s.world.Log.With() {
			if !strings.Contains(line, " go to broker ") {
				s.Log(line)
			}
		}
	}
	if wrong > 0 {
		s.Errorf("%d records at a wrong place", wrong)
	}
}

// brokers are the nodes' addresses without links.
func (s *site) brokers() []string {
	return strings.Split(s.cluster.Brokers(apache.Internal), ",")
}

// site is a cluster behind links, and an engine.
type site struct {
	*testing.T
	scale
	ctx      context.Context
	cluster  *apache.Cluster
	links    []*wan.Link // to each node
	admin    *kadm.Client
	world    *world.World
	producer *world.Producer
	topics   []string

	sent   int
	next   map[string]int // records by topic and key
	counts map[string]int // faults by name
}
