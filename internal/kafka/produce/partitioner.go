package produce

import (
	"hash/crc32"
	"math/rand/v2"
	"time"
)

// consistentRandom places records as librdkafka's default partitioner of the same name does, so that a key stays on
// its partition when one client takes the other's place:
//
//   - a key goes to the CRC-32 (IEEE) of its bytes modulo the number of all partitions, whether they have a leader
//     or not;
//   - a record without key, and one whose key is empty, goes to a random partition that has a leader. Successive
//     ones share it for sticky, so that they fill batches; with 0 each draws its own.
//
// It is for one topic.
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

// partition chooses one of n partitions for a key. usable lists those that have a leader.
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

// contains says whether a partition is among those of an ascending list.
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
