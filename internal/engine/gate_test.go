package engine

import (
	"fmt"
	"testing"

	"reskafka/internal/config/configtest"
)

// TestGate_MemoryBesideDisk_KeepsTheQueuesLimits verifies that records in memory only are refused at the
// queue's limits. Call records of the same connection go to disk beyond the limits. Memory-only records were
// accepted and dropped later.
func TestGate_MemoryBesideDisk_KeepsTheQueuesLimits(t *testing.T) {
	queue := []string{"queue_buffering_max_messages = 1000", "queue_buffering_max_kbytes = 5"}
	r := startIn(t, newLines(), t.TempDir())
	r.configure(section("one", refusedAddress(t), append(queue, inMemory)...), section("two", refusedAddress(t), append(queue, overflowing)...))
	if _, _, err := r.OpenSource("cdr", configtest.Read("[global]\nconnection = one\n"), 0); err != nil {
		t.Fatal(err)
	}
	one, two := r.open("one"), r.open("two")
	memory := func(s *stage) string { n := uint64(s.Memory.Load()); return fmt.Sprint(n&(1<<32-1), " ", n>>32) }
	if got := memory(one); got != "1000 5" || one.MaxFrames.Load() <= 1000 || one.MaxCharge.Load() <= 5<<10 {
		t.Errorf("one: memory %s, all %s", got, limits(&one.Gate))
	}
	if got := memory(two); got != "2147483647 2147483647" || two.MaxFrames.Load() <= 1000 {
		t.Errorf("two: memory %s, all %s", got, limits(&two.Gate))
	}
}
