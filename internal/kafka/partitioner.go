package kafka

import (
	"hash/crc32"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// ConsistentRandom places records as librdkafka's default partitioner of the same name does, so that a key stays on
// its partition when one client takes the other's place:
//
//   - a key goes to the CRC-32 (IEEE) of its bytes modulo the number of all partitions, whether they have a leader
//     or not;
//   - a record without key, and one whose key is empty, goes to a random partition that has a leader. Successive
//     ones share it for sticky, so that they fill batches; with 0 each draws its own.
func ConsistentRandom(sticky time.Duration) kgo.Partitioner {
	return consistentRandom{sticky, time.Now, rand.IntN}
}

type consistentRandom struct {
	sticky time.Duration
	now    func() time.Time
	random func(n int) int // in [0,n)
}

// ForTopic implements kgo.Partitioner.
func (c consistentRandom) ForTopic(string) kgo.TopicPartitioner {
	return &topicConsistentRandom{consistentRandom: c}
}

// topicConsistentRandom needs no lock of its own: kgo calls it under the topic's.
type topicConsistentRandom struct {
	consistentRandom
	partition int
	until     time.Time
}

// RequiresConsistency makes kgo offer every partition for a record with a key, not only those with a leader.
func (*topicConsistentRandom) RequiresConsistency(r *kgo.Record) bool { return len(r.Key) > 0 }

// Partition chooses one of n partitions.
func (t *topicConsistentRandom) Partition(r *kgo.Record, n int) int {
	if len(r.Key) > 0 {
		return int(crc32.ChecksumIEEE(r.Key) % uint32(n))
	}
	if t.sticky <= 0 {
		return t.random(n)
	}
	if now := t.now(); t.partition >= n || !now.Before(t.until) {
		t.partition, t.until = t.random(n), now.Add(t.sticky)
	}
	return t.partition
}
