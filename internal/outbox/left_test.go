package outbox

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reskafka/internal/record"
)

// TestLeftInTheStageIsOnlyWhatTheStageHas checks that a record with a done frame, once on disk and no longer
// there, does not count as left for the next run: no process would find it.
func TestLeftInTheStageIsOnlyWhatTheStageHas(t *testing.T) {
	for _, c := range []struct {
		reason string
		giveUp func(o *Outbox) error
	}{
		{record.ReasonPurged, func(o *Outbox) error { _, _, err := o.Purge(""); return err }},
		{record.ReasonSpoolFull, func(o *Outbox) error {
			_, err := o.order(func(Spool) (int, error) { o.makeRoom(); return 0, nil })
			return err
		}},
	} {
		t.Run(c.reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				gate, d := &countGate{}, newDisk(func(what string) { t.Error(what) })
				o := New(usual, newClient("client", usual, fixed(answer{hang: true})), gate, gate)
				o.Attach(func() (Spool, error) { return d, nil })
				r := numbered("t", 1, record.Disk)
				r.Staged, r.Lasting = new(atomic.Uint32), true
				o.Accept([]record.Record{r})
				synctest.Wait()
				if gate.records != 1 || len(d.values("t")) != 1 {
					t.Fatalf("released %d, on disk %q", gate.records, d.values("t"))
				}
				if err := c.giveUp(o); err != nil {
					t.Fatal(err)
				}
				o.Close()
				if n := o.Counters()[0]; n.Dropped[c.reason] != 1 || n.Spooled != 0 {
					t.Errorf("account %+v, with %q on disk", n, d.values("t"))
				}
			})
		})
	}
}

// TestAfterAPanicOfTheFeederNothingIsSaid checks that the keeper ends with the outbox too: the gate's memory
// is gone after Close, and the disk must be free for another outbox.
func TestAfterAPanicOfTheFeederNothingIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, d := &trouble{}, newDisk(func(what string) { t.Error(what) })
		o := New(usual, &brokenClient{newClient("broken", usual, nil)}, h, h)
		o.Attach(func() (Spool, error) { return d, nil })
		synctest.Wait()
		o.Accept([]record.Record{numbered("t", 1, record.Memory), numbered("u", 2, record.Disk)})
		synctest.Wait()
		o.Close()
		if h.panics != 1 || d.closed != 1 || len(d.values("u")) != 1 {
			t.Errorf("%d panics, the disk was closed %d times, on it is %q", h.panics, d.closed, d.values("u"))
		}

		h = &trouble{}
		o = New(usual, &brokenClient{newClient("broken", usual, nil)}, h, h)
		o.Attach(func() (Spool, error) { return nil, errDisk })
		synctest.Wait()
		o.Accept([]record.Record{numbered("t", 1, record.Memory)})
		synctest.Wait()
		o.Close()
		said := len(h.said)
		after(10 * time.Second)
		if len(h.said) != said {
			t.Errorf("said after Close: %v", h.said[said:])
		}
	})
}

// A spool that panics, like a defect of ours.
type brokenDisk struct{ *disk }

func (brokenDisk) Append(string, []*record.Record) (uint64, error) { panic(errors.New("a defect")) }

// TestAPanicOfTheKeeperFreesTheDisk checks that another outbox can open the disk afterwards.
func TestAPanicOfTheKeeperFreesTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate, d := &countGate{}, newDisk(func(what string) { t.Error(what) })
		o := New(usual, newClient("client", usual, fixed(answer{hang: true})), gate, gate)
		o.Attach(func() (Spool, error) { return brokenDisk{d}, nil })
		synctest.Wait()
		o.Accept([]record.Record{numbered("t", 1, record.Disk)})
		synctest.Wait()
		o.Close()
		synctest.Wait()
		if gate.panics != 1 || d.closed != 1 {
			t.Errorf("%d panics, the disk was closed %d times", gate.panics, d.closed)
		}
	})
}
