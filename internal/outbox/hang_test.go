package outbox

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reskafka/internal/record"
	"reskafka/internal/spool"
)

// trouble is an observer and gate that stores the spool's reports.
type trouble struct {
	mtx sync.Mutex
	countGate
	said []error
}

func (h *trouble) Release(r *record.Record) {
	h.mtx.Lock()
	defer h.mtx.Unlock()
	h.countGate.Release(r)
}

func (h *trouble) Dropped(topic, reason string, records int, err error) {
	h.mtx.Lock()
	defer h.mtx.Unlock()
	h.countGate.Dropped(topic, reason, records, err)
}

func (h *trouble) Died(topic, reason string, records int, err error) {
	h.mtx.Lock()
	defer h.mtx.Unlock()
	h.countGate.Died(topic, reason, records, err)
}

func (h *trouble) Spooling(err error) {
	h.mtx.Lock()
	defer h.mtx.Unlock()
	h.said = append(h.said, err)
}

// a record of a topic with the number as value.
func numbered(topic string, n int, d record.Durability) record.Record {
	return record.Record{Topic: topic, Key: []byte("k"), Value: fmt.Appendf(nil, "%d", n), Accepted: time.Now(), Durability: d}
}

// hung makes every call of the disk wait until release.
func (d *disk) hung() (release func()) {
	gone := make(chan struct{})
	d.mtx.Lock()
	d.slow = func() time.Duration { <-gone; return 0 }
	d.mtx.Unlock()
	return func() { close(gone) }
}

// A disk hanging at the opening delays records in memory for a moment only, and no longer delays Close at the
// end. Later answers of the disk have no reader.
func TestAHangingDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, c := &trouble{}, newClient("client", usual, fixed(answer{}))
		d := newDisk(func(what string) { t.Error(what) })
		o := New(usual, c, h, h)
		opened := make(chan struct{})
		o.Attach(func() (Spool, error) { <-opened; return d, nil })
		o.Accept([]record.Record{numbered("t", 1, record.Memory)})
		synctest.Wait()
		if c.sent() != 0 {
			t.Error("sent before it was known what the spool holds")
		}
		after(diskPatience)
		if c.sent() != 1 {
			t.Errorf("%d sent while the spool cannot be opened, want 1", c.sent())
		}
		close(opened)
		synctest.Wait()

		release := d.hung()
		c.mtx.Lock()
		c.script = fixed(answer{hang: true})
		c.mtx.Unlock()
		o.Accept([]record.Record{numbered("t", 2, record.Disk)})
		after(time.Second)
		begun := time.Now()
		o.Close()
		if took := time.Since(begun); took > 2*diskPatience {
			t.Errorf("Close took %v", took)
		}
		if n := o.Counters()[0].Dropped[record.ReasonStopped]; n != 1 {
			t.Errorf("%d given up, want 1", n)
		}
		if len(h.said) == 0 || !errors.Is(h.said[len(h.said)-1], errDiskHangs) {
			t.Errorf("said of the spool: %v", h.said)
		}
		said, released := len(h.said), h.records
		release()
		<-o.kept
		if len(h.said) != said || h.records != released {
			t.Error("something was said after Close")
		}
	})
}

// While a disk hangs, the connection continues: durable records are sent before they are on disk.
func TestSendingDoesNotWaitForTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, c := &trouble{}, newClient("client", usual, fixed(answer{}))
		d := newDisk(func(what string) { t.Error(what) })
		o := New(usual, c, h, h)
		o.Attach(func() (Spool, error) { return d, nil })
		synctest.Wait()
		d.dead = []record.DeadLetter{{Record: &record.Record{Topic: "t"}}}
		release := d.hung()
		for i := range 10 {
			o.Accept([]record.Record{numbered("t", i, record.Disk)})
			after(10 * time.Millisecond)
		}
		if n := o.Counters()[0].Acknowledged; n != 10 {
			t.Errorf("%d acknowledged while the disk hangs, want 10", n)
		}
		if n, err := orders(o); err == nil {
			t.Errorf("a command found %d while the disk hangs", n)
		}
		release()
		o.Close()
		if left := d.values("t"); len(left) != 0 {
			t.Errorf("on disk: %v", left)
		}
	})
}

func orders(o *Outbox) (int, error) {
	records, _, err := o.Purge("")
	return records, err
}

// Causes of a durable lane, and harmless events: the order on disk is the order of acceptance.
func TestWhatGoesToDisk(t *testing.T) {
	down := fixed(answer{err: errRetry})
	s := usual
	s.Durability, s.QueueRecords = record.Overflow, 10
	put := func(o *Outbox, from, to int) {
		for i := from; i < to; i++ {
			o.Accept([]record.Record{numbered("t", i, record.Unsaid)})
		}
		synctest.Wait()
	}
	tests := []struct {
		name string
		walk func(o *Outbox, put func(from, to int))
		want int // records on disk
	}{
		{"nothing", func(o *Outbox, put func(from, to int)) { put(0, 10) }, 0},
		{"a full queue", func(o *Outbox, put func(from, to int)) { put(0, 11) }, 11},
		{"a record whose time is up", func(o *Outbox, put func(from, to int)) { put(0, 5); after(s.Timeout) }, 5},
		{"a stop", func(o *Outbox, put func(from, to int)) { put(0, 5); o.Spill(); synctest.Wait() }, 5},
		{"what comes behind", func(o *Outbox, put func(from, to int)) { put(0, 11); put(11, 40) }, 40},
		{"another durability", func(o *Outbox, put func(from, to int)) {
			put(0, 5)
			o.Adjust(func(s *Settings) { s.Durability = record.Disk }, spool.Limits{})
			synctest.Wait()
		}, 5},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, c := &trouble{}, newClient("client", s, down)
				d := newDisk(func(what string) { t.Error(what) })
				o := New(s, c, h, h)
				o.Attach(func() (Spool, error) { return d, nil })
				synctest.Wait()
				test.walk(o, func(from, to int) { put(o, from, to) })
				var want []string
				for i := range test.want {
					want = append(want, fmt.Sprint(i))
				}
				if got := d.values("t"); !slices.Equal(got, want) {
					t.Errorf("on disk: %v, want %v", got, want)
				}
				if n := o.Counters()[0].Spooled; n != uint64(test.want) {
					t.Errorf("%d spooled, want %d", n, test.want)
				}
				o.Close()
			})
		})
	}
}

// A refused record becomes a dead letter before it leaves the log, blocks no other record, and is sent again
// on request.
func TestDeadLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := usual
		s.Durability = record.Disk
		var good atomic.Bool
		h := &trouble{}
		c := newClient("client", s, func(r *record.Record) answer {
			if !good.Load() && string(r.Value) == "1" {
				return answer{err: errRefused}
			}
			return answer{}
		})
		d := newDisk(func(what string) { t.Error(what) })
		o := New(s, c, h, h)
		o.Attach(func() (Spool, error) { return d, nil })
		for i := range 3 {
			o.Accept([]record.Record{numbered("t", i, record.Unsaid)})
		}
		after(time.Second)
		account := o.Counters()[0]
		if account.Acknowledged != 2 || account.Dead[reasonRefused] != 1 || h.died != 1 || h.dropped != 0 || len(d.dead) != 1 {
			t.Fatalf("%+v, %d dead letters", account, len(d.dead))
		}
		if l := d.dead[0]; l.Reason != reasonRefused || l.Cause != errRefused.Error() || string(l.Record.Value) != "1" {
			t.Errorf("dead letter %+v", l)
		}
		good.Store(true)
		if n, _, err := o.Retry(""); n != 1 || err != nil {
			t.Errorf("Retry: %d, %v", n, err)
		}
		after(time.Second)
		if account = o.Counters()[0]; account.Acknowledged != 3 || account.Accepted != 3 || account.Restored != 0 || len(account.Dead)+len(d.dead) != 0 {
			t.Errorf("%+v, %d dead letters", account, len(d.dead))
		}
		o.Close()
	})
}

// A record too long on disk becomes a dead letter.
func TestTooOldOnDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := usual
		s.Durability, s.MaxAge = record.Disk, time.Hour
		var up atomic.Bool
		h := &trouble{}
		c := newClient("client", s, func(*record.Record) answer {
			if up.Load() {
				return answer{}
			}
			return answer{err: errRetry}
		})
		d := newDisk(func(what string) { t.Error(what) })
		o := New(s, c, h, h)
		o.Attach(func() (Spool, error) { return d, nil })
		o.Accept([]record.Record{numbered("t", 0, record.Unsaid)})
		after(40 * time.Minute)
		o.Accept([]record.Record{numbered("t", 1, record.Unsaid)})
		after(40 * time.Minute)
		up.Store(true)
		after(time.Minute)
		if account := o.Counters()[0]; account.Acknowledged != 1 || account.Dead[record.ReasonTooOld] != 1 || len(d.dead) != 1 {
			t.Errorf("%+v, %d dead letters", account, len(d.dead))
		}
		o.Close()
	})
}
