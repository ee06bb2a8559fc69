package produce

import (
	"hash/crc32"
	"math/rand/v2"
	"time"
)

// consistentRandom places records like librdkafka's default partitioner of the same name, so a key keeps its
// partition after a change of the client:
//
//   - a key goes to the CRC-32 (IEEE) of the key modulo the number of all partitions, with or without
//     leaders;
//   - a record with a null or empty key goes to a random partition with a leader. Successive records share
//     the partition for the time sticky, to fill batches; with 0 each record gets a new partition.
//
// A consistentRandom serves a single topic.
type consistentRandom struct {
	sticky time.Duration
	now    func() time.Time
	random func(n int) int // in [0,n)

	chosen int32 // for records without key
	until  time.Time
}

func newConsistentRandom(sticky time.Duration) *consistentRandom {
	return &consistentRandom{sticky: sticky, now: time.Now, random: rand.IntN}
}

// partition returns the partition of a key among n. usable lists the partitions with a leader.
func (c *consistentRandom) partition(key []byte, n int, usable []int32) int32 {
	if len(key) > 0 {
		return int32(crc32.ChecksumIEEE(key) % uint32(n))
	}
	if len(usable) == 0 {
		return int32(c.random(n))
	}
	if c.sticky <= 0 {
		return usable[c.random(len(usable))]
	}
	if now := c.now(); !now.Before(c.until) || !contains(usable, c.chosen) {
		c.chosen, c.until = usable[c.random(len(usable))], now.Add(c.sticky)
	}
	return c.chosen
}

// contains reports whether an ascending list has a partition.
func contains(usable []int32, partition int32) bool {
	if int(partition) < len(usable) && usable[partition] == partition { // all below have leaders, as is usual
		return true
	}
	for _, p := range usable {
		if p == partition {
			return true
		}
	}
	return false
}
