package outbox

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestPurgeFreesTheDisk holds that nothing is left on disk although the client still has a record, so that no later
// start sends what was thrown away.
func TestPurgeFreesTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &diary{dice: &dice{}, t: t, last: map[string]int{}, unknown: map[string]uint64{}}
		g.disk = newDisk(func(what string) { t.Error(what) })
		s := Settings{Timeout: time.Second, WindowRecords: 10, Backoff: time.Millisecond, BackoffMax: time.Millisecond, Durability: Disk}
		g.client = newClient("client", s, func(*Record) answer { return answer{hang: true} })
		g.client.watch = g
		g.outbox = New(s, g.client, g, g)
		g.outbox.Attach(func() (Spool, error) { return g.disk, nil })
		var records []Record
		for i := range 100 {
			g.items = append(g.items, &item{id: i, topic: "t"})
			records = append(records, Record{Topic: "t", Value: fmt.Append(nil, i), Accepted: time.Now()})
		}
		g.outbox.Accept(records)
		synctest.Wait()
		if n, sending := len(g.disk.values("t")), g.outbox.Counters()[0].Spooled; n != 100 || sending != 100 {
			t.Fatalf("%d are on disk, %d counted", n, sending)
		}
		if n, _, err := g.outbox.Purge(); n != 99 || err != nil {
			t.Errorf("%d purged, %v", n, err)
		}
		synctest.Wait()
		if left := g.disk.values("t"); len(left) > 0 {
			t.Errorf("%q are left on disk", left)
		}
		if c := g.outbox.Counters()[0]; c.Dropped[ReasonPurged] != 99 || c.Sending != 1 || c.Spooled != 0 {
			t.Errorf("account %+v", c)
		}
		g.check()
		g.outbox.Close()
		if c := g.outbox.Counters()[0]; c.Dropped[ReasonPurged] != 100 || c.Spooled != 0 {
			t.Errorf("account %+v", c)
		}
	})
}
