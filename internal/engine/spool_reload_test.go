package engine

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/internal/metrics"
	"reskafka/internal/record"
)

// TestGateWithSpool verifies that the stage admits more than the queue's limit only with a spool for the
// excess.
func TestGateWithSpool(t *testing.T) {
	dir, nobody := t.TempDir(), refusedAddress(t)
	r := startIn(t, newLines(), dir)
	conf := func(options ...string) string {
		return section("one", nobody, append(options, "queue_buffering_max_messages = 7", "queue_buffering_max_kbytes = 3")...)
	}
	r.configure(conf(inMemory))
	s := r.open("one")
	want := func(what string, wide, shared bool) {
		t.Helper()
		frames, charge, staged := int64(7), int64(3*1024), int64(0)
		if wide {
			frames, charge = spooledFrames, spooledCharge
		}
		if shared {
			staged = 1
		}
		if s.MaxFrames.Load() != frames || s.MaxCharge.Load() != charge || s.Shared.Load() != staged || s.Open.Load() != 1 {
			t.Errorf("%s: gate %s, shared %d", what, limits(&s.Gate), s.Shared.Load())
		}
	}
	want("at first", false, false)
	for range 2 {
		r.configure(conf(overflowing))
		want("overflow", true, false)
		r.configure(conf(onDisk))
		want("disk", true, true)
		r.configure(conf(inMemory))
		want("memory", false, false)
	}
	source := r.openCDR(cdrConf, 0)
	want("memory, and call records on disk", true, true)
	r.openCDR(cdrConf+"durability = overflow\n", source)
	want("memory, and call records with overflow", true, false)
	r.openCDR(cdrConf+"durability = memory\n", source)
	want("memory, and call records too", false, false)
	r.configure(conf(onDisk))
	s.put(numbered("t", "k", 0, 5)...)
	r.Stop(0)

	r = startIn(t, newLines(), dir)
	r.configure(conf(inMemory))
	r.spooled("one", 5)
	s = r.open("one")
	want("memory, and something left", false, false)
}

// TestReloadOfDurability verifies that no record is lost, duplicated or out of order when the durability
// changes under traffic, while brokers fail and recover too.
func TestReloadOfDurability(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "t", "u"))
	nobody := refusedAddress(t)
	r := start(t, newLines())
	conf := func(i int, address string) string {
		return section("one", address, "queue_buffering_max_messages = 2000", "message_timeout_ms = 300000", []string{inMemory, overflowing, onDisk, overflowing}[i%4])
	}
	r.configure(conf(0, b.address()))
	s := r.open("one")
	end := make(chan struct{})
	var traffic sync.WaitGroup
	n := 0
	traffic.Go(func() {
		for ; ; n++ {
			select {
			case <-end:
				return
			case <-time.After(50 * time.Microsecond):
			}
			for s.HeldFrames.Load() > 1000 { // in memory there is no room for more
				select {
				case <-end:
					return
				case <-time.After(time.Millisecond):
				}
			}
			s.put(append(numbered("t", "k", n, n+1), numbered("u", "k", n, n+1)...)...)
		}
	})
	for i := 1; i <= 24; i++ {
		address := b.address()
		if i%8 > 4 {
			address = nobody
		}
		before := s.Handed.Load()
		r.configure(conf(i, address))
		eventually(t, "there is traffic", func() bool { return s.Handed.Load() > before+200 || s.HeldFrames.Load() > 1000 })
	}
	r.configure(conf(0, b.address()))
	close(end)
	traffic.Wait()
	r.acknowledged("one", 2*n)
	s.settled()
	b.counts(t, "t", n)
	b.counts(t, "u", n)
	r.log.want(t, 0, "dropped")
	r.log.want(t, 0, "the spool cannot")
	if c := r.status("one").Totals; c.Restored != 0 {
		t.Errorf("account %+v", c)
	}
}

// TestReloadOfSpoolDir verifies that a spool stays in place, with a line in the log.
func TestReloadOfSpoolDir(t *testing.T) {
	dir, other, nobody := t.TempDir(), t.TempDir(), refusedAddress(t)
	r := startIn(t, newLines(), dir)
	r.configure(section("one", nobody, onDisk), section("two", nobody, onDisk))
	r.open("one").put(numbered("t", "k", 0, 10)...)
	r.spooled("one", 10)
	r.configure(section("one", nobody, onDisk, "spool_dir = "+other), section("two", nobody, onDisk, "spool_dir = "+other))
	r.log.want(t, 1, "warning: connection 'one': spool_dir is "+filepath.Join(dir, "kafka")+" until the module has been unloaded and loaded")
	r.log.want(t, 0, "'two'")
	two := r.open("two") // the spool is new
	two.put(numbered("t", "k", 0, 10)...)
	r.spooled("two", 10)
	for name, want := range map[string]string{"one": filepath.Join(dir, "kafka", "one"), "two": filepath.Join(other, "two")} {
		if got, _ := r.Spool(name); got.Dir != want || got.Numbers.Sum(metrics.RecordsSpooled) != 10 {
			t.Errorf("%+v, want %s", got, want)
		}
	}
}

// heavy is a key of 2 kB, for a heavy record.
var heavy = strings.Repeat("k", 2000)

// TestFullSpoolRefuses verifies that the stage admits just the queue's limit beside a full spool. All
// admitted records arrive at a later broker.
func TestFullSpoolRefuses(t *testing.T) {
	r := start(t, newLines())
	conf := func(address string) string {
		return section("one", address, onDisk, "spool_max_mbytes = 1", "queue_buffering_max_messages = 100")
	}
	r.configure(conf(refusedAddress(t)))
	s := r.open("one")
	n := 400
	s.put(numbered("t", heavy, 0, n)...)
	r.spooled("one", n)
	eventually(t, "nothing is let in", func() bool {
		for ; s.HeldFrames.Load() < min(s.MaxFrames.Load(), 300); n++ { // 300: leave the keeper the time to notice
			s.put(numbered("t", heavy, n, n+1)...)
		}
		return s.MaxFrames.Load() == 100 && s.HeldFrames.Load() >= 100
	})
	r.log.want(t, 1, "error: connection 'one': the spool cannot be used", "waits in memory", "writing to the spool", "the spool is full")
	if got, _ := r.Spool("one"); !strings.Contains(got.State, "full") || got.Numbers.Sum(metrics.SpoolBytes) > 1<<20 {
		t.Errorf("spool %+v", got)
	}
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	r.configure(conf(b.address()))
	r.acknowledged("one", n)
	s.settled()
	b.counts(t, "t", n)
	eventually(t, "the spool can be used again", func() bool { return s.MaxFrames.Load() == spooledFrames })
	r.log.want(t, 1, "notice: connection 'one': the spool can be used again")
	r.log.want(t, 0, "dropped")
}

// TestFullSpoolDropsOldest verifies that a full spool drops and counts the oldest records and accepts new
// records.
func TestFullSpoolDropsOldest(t *testing.T) {
	r := start(t, newLines())
	conf := func(address string) string {
		return section("one", address, onDisk, "spool_max_mbytes = 1", "spool_full = drop_oldest", "queue_buffering_max_messages = 100")
	}
	r.configure(conf(refusedAddress(t)))
	s := r.open("one")
	const n = 2000
	for i := 0; i < n; i += 400 {
		s.put(numbered("t", heavy, i, i+400)...)
	}
	s.settled()
	if got := s.MaxFrames.Load(); got != spooledFrames {
		t.Errorf("the gate lets in %d", got)
	}
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	r.configure(conf(b.address()))
	eventually(t, "everything has its outcome", func() bool {
		c := r.status("one").Totals
		return c.Acknowledged+dropped(c, record.ReasonSpoolFull) == n
	})
	lost := int(dropped(r.status("one").Totals, record.ReasonSpoolFull))
	if lost < 1000 || lost > 1900 { // a record takes more than 2 kB, and half a spool ought to be full
		t.Errorf("%d are lost", lost)
	}
	last := -1
	for _, got := range b.consumed(t, "t", n-lost) {
		value, _ := strconv.Atoi(string(got.Value))
		if value <= last {
			t.Errorf("%d comes after %d", value, last)
		}
		last = value
	}
	if last != n-1 {
		t.Errorf("the last is %d", last)
	}
	r.Stop(0)
	told := 0
	for _, line := range r.log.with("error: connection 'one': ", "record(s) for topic 't' dropped, spool full") {
		var one int
		if _, err := fmt.Sscanf(line, "error: connection 'one': %d", &one); err != nil {
			t.Error(err)
		}
		told += one
	}
	if told != lost {
		t.Errorf("the log tells of %d of %d that are lost", told, lost)
	}
}
