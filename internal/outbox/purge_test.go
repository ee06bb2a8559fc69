package outbox

import (
	"testing"
	"testing/synctest"

	"reskafka/internal/record"
	"reskafka/internal/spool"
)

// TestPurgeFreesTheDisk checks that nothing is left on disk although the client still has a record, so no
// later start sends deleted records.
func TestPurgeFreesTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := fullRig(t, false, func(d *disk) Spool { return d })
		g.put("t", 100)
		if n, sending := len(g.disk.values("t")), g.outbox.Counters()[0].Spooled; n != 100 || sending != 100 {
			t.Fatalf("%d are on disk, %d counted", n, sending)
		}
		if n, _, err := g.outbox.Purge(""); n != 99 || err != nil {
			t.Errorf("%d purged, %v", n, err)
		}
		synctest.Wait()
		if left := g.disk.values("t"); len(left) > 0 {
			t.Errorf("%q are left on disk", left)
		}
		if c := g.outbox.Counters()[0]; c.Dropped[record.ReasonPurged] != 99 || c.Sending != 1 || c.Spooled != 0 {
			t.Errorf("account %+v", c)
		}
		g.check()
		g.outbox.Close()
		if c := g.outbox.Counters()[0]; c.Dropped[record.ReasonPurged] != 100 || c.Spooled != 0 {
			t.Errorf("account %+v", c)
		}
	})
}

// TestWhatComesAfterAPurge checks that volatile records stay in memory, and expire, also while the keeper's
// list still has their topic because of purged records.
func TestWhatComesAfterAPurge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := fullRig(t, false, func(d *disk) Spool { return d })
		g.client.script = func(*record.Record) answer { return answer{err: errRetry} }
		g.disk.mtx.Lock()
		g.disk.trouble = errDisk
		g.disk.mtx.Unlock()
		g.put("t", 20)
		if n, _, _ := g.outbox.Purge(""); n != 20 {
			t.Fatalf("%d purged", n)
		}
		g.outbox.Adjust(func(s *Settings) { s.Durability, s.Timeout = record.Memory, usual.Timeout }, spool.Limits{})
		g.disk.mtx.Lock()
		g.disk.trouble = nil
		g.disk.mtx.Unlock()
		g.put("t", 20)
		after(usual.Timeout / 2)
		g.check()
		if on := g.disk.values("t"); len(on) > 0 {
			t.Errorf("%d of them are on disk", len(on))
		}
		after(usual.Timeout)
		g.check()
		if c := g.outbox.Counters()[0]; c.Dropped[record.ReasonExpired] != 20 || c.Spooled != 0 || c.Waiting != 0 {
			t.Errorf("account %+v", c)
		}
		g.outbox.Close()
	})
}
