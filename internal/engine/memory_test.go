package engine

import (
	"math"
	"runtime/debug"
	"testing"
)

// startWithin starts an engine with bytes of memory.
func startWithin(t *testing.T, log *lines, bytes int64) *rig {
	system := theSystem
	system.SpoolDir, system.MemoryBytes, system.MemoryBy = t.TempDir(), bytes, "a test"
	r := &rig{Engine: Start(system, log), t: t, log: log}
	t.Cleanup(func() {
		r.Stop(0)
		debug.SetMemoryLimit(math.MaxInt64)
	})
	return r
}

// Options alone limited the queues, to a gigabyte for each connection, and the kernel killed a PBX with 256
// MB.
func TestQueues_MemoryLimited_ShareAQuarter(t *testing.T) {
	log := newLines()
	r := startWithin(t, log, 256<<20)
	address := refusedAddress(t)
	configuration := []string{
		section("one", address, "durability = memory"), section("two", address, "durability = overflow"),
		section("small", address, "durability = memory", "queue_buffering_max_kbytes = 100"),
	}
	r.configure(configuration...)
	log.want(t, 1, "notice: queues in memory are limited to 64 MB in all", "queue_buffering_max_kbytes = 1048576", "a test allows 256 MB")
	one := r.open("one")
	if got := one.MaxCharge.Load(); got != 64<<20 {
		t.Errorf("alone: %d bytes", got)
	}
	two, small := r.open("two"), r.open("small")
	const share = (256 << 20) / 4 / 3
	for name, c := range map[string]struct{ got, want int64 }{
		"memory": {one.MaxCharge.Load(), share}, "overflow": {two.MaxCharge.Load(), share}, "small": {small.MaxCharge.Load(), 100 << 10},
	} {
		if c.got != c.want {
			t.Errorf("%s of three: %d bytes, want %d", name, c.got, c.want)
		}
	}
	c, _ := r.connection("two")
	if records, bytes := c.queueLimits(c.settings.Load()); bytes != share/2 || records != share/2/recordBytes {
		t.Errorf("the queue before the disk: %d records, %d bytes", records, bytes)
	}
	r.configure(configuration...)
	log.want(t, 1, "notice: queues in memory are limited")
	if got := r.SharedMost(); got != 64<<20 {
		t.Errorf("shared memory: %d bytes", got)
	}
}

func TestQueues_MemoryEnough_AsTheOptionsSay(t *testing.T) {
	log := newLines()
	r := startWithin(t, log, 16<<30)
	r.configure(section("one", refusedAddress(t), "durability = memory"))
	if got := r.open("one").MaxCharge.Load(); got != 1<<30 {
		t.Errorf("%d bytes", got)
	}
	log.want(t, 0, "notice: queues in memory")
}
