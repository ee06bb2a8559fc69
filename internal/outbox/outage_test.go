package outbox

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reskafka/internal/record"
)

// A record expired inside the client is the first record on disk, before the records that follow because of
// the expiry.
func TestTheLateRecordComesFirstOnDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := usual
		s.Durability, s.WindowRecords = record.Overflow, 1
		h, c := &trouble{}, newClient("client", s, fixed(answer{hang: true}))
		d := newDisk(func(what string) { t.Error(what) })
		o := New(s, c, h, h)
		o.Attach(func() (Spool, error) { return d, nil })
		o.Accept([]record.Record{numbered("t", 0, record.Unsaid)})
		after(s.Timeout / 2)
		o.Accept([]record.Record{numbered("t", 1, record.Unsaid)})
		after(s.Timeout/2 + 2*time.Second) // the second record has time left
		if got := d.values("t"); !slices.Equal(got, []string{"0", "1"}) {
			t.Errorf("on disk: %v", got)
		}
		o.Close()
		if got := d.values("t"); !slices.Equal(got, []string{"0", "1"}) {
			t.Errorf("on disk at the end: %v", got)
		}
	})
}

// While a disk hangs and the brokers do not, memory does not grow with delivered or refused records.
func TestAHangingDiskLeavesNothingInMemory(t *testing.T) {
	for _, refused := range []bool{false, true} {
		t.Run(fmt.Sprintf("refused %v", refused), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := usual
				s.WindowRecords = 1000
				a := answer{}
				if refused {
					a.err = errRefused
				}
				h, c := &trouble{}, newClient("client", s, fixed(a))
				d := newDisk(func(what string) { t.Error(what) })
				o := New(s, c, h, h)
				o.Attach(func() (Spool, error) { return d, nil })
				synctest.Wait()
				release := d.hung()
				for range 100 {
					var records []record.Record
					for i := range 1000 {
						records = append(records, numbered("t", i, record.Disk))
					}
					o.Accept(records)
					after(10 * time.Millisecond)
				}
				o.mtx.Lock()
				held, letters := len(o.lanes["t"].write), len(o.chores.bury)
				o.mtx.Unlock()
				if held > 20_000 || letters > 2*lettersMost {
					t.Errorf("%d records and %d dead letters wait for the disk, though all have their outcome", held, letters)
				}
				release()
				o.Close()
				for _, fault := range o.verify() {
					t.Error(fault)
				}
			})
		})
	}
}

// After an outage with many topics, memory gets no more records from disk than the queue's limit.
func TestManyTopicsOnDiskStayThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const topics, each = 300, 500
		s := usual
		s.QueueRecords, s.Durability, s.WindowRecords = 2000, record.Overflow, 100
		var up atomic.Bool
		h, c := &trouble{}, newClient("client", s, func(*record.Record) answer {
			if up.Load() {
				return answer{}
			}
			return answer{err: errRetry}
		})
		d := newDisk(func(what string) { t.Error(what) })
		for i := range topics {
			topic := fmt.Sprint("topic", i)
			l := &diskLog{first: 1, next: each + 1, records: map[uint64]*record.Record{}}
			for n := range each {
				l.records[uint64(n+1)] = &record.Record{Topic: topic, Value: fmt.Append(nil, n), Accepted: time.Now()}
			}
			d.logs[topic] = l
		}
		o := New(s, c, h, h)
		o.Attach(func() (Spool, error) { return d, nil })
		after(time.Second)
		o.mtx.Lock()
		held := o.waiting + o.sending
		o.mtx.Unlock()
		if most := s.QueueRecords + topics*readLeast; held > most {
			t.Errorf("%d records are in memory, want %d at most", held, most)
		}
		up.Store(true)
		if !drained(o) {
			t.Errorf("not everything arrives")
		}
		o.Close()
	})
}

// Of an undeliverable topic, only the first records to send stay in memory.
func TestAStuckTopicLeavesMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := usual
		s.Durability, s.QueueRecords = record.Disk, 100_000
		var up atomic.Bool
		h, c := &trouble{}, newClient("client", s, func(*record.Record) answer {
			if up.Load() {
				return answer{}
			}
			return answer{err: errRetry}
		})
		d := newDisk(func(what string) { t.Error(what) })
		o := New(s, c, h, h)
		o.Attach(func() (Spool, error) { return d, nil })
		for i := range 5000 {
			o.Accept([]record.Record{numbered("t", i, record.Unsaid)})
			after(10 * time.Millisecond)
		}
		o.mtx.Lock()
		held := o.waiting + o.sending
		o.mtx.Unlock()
		if held > 2*readAhead {
			t.Errorf("%d of 5000 are in memory", held)
		}
		up.Store(true)
		if !drained(o) || o.Counters()[0].Acknowledged != 5000 {
			t.Errorf("account %+v", o.Counters())
		}
		o.Close()
	})
}

// drained waits an hour for all outcomes.
func drained(o *Outbox) bool {
	cancel := make(chan struct{})
	timer := time.AfterFunc(time.Hour, func() { close(cancel) })
	defer timer.Stop()
	return o.Drain(cancel)
}
