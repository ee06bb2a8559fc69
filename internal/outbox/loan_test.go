package outbox

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// offer is accepting records as the stage brings them: those of one topic that may be are lent now and then. What is given back is made
// useless, so that whoever still looks at it finds out.
func offer(o *Outbox, records []Record, lend bool) {
	alike := func(r Record) bool {
		return r.Topic == records[0].Topic && r.Lifetime == 0 && r.Durability == Unsaid && r.Report == nil && r.Staged == nil && len(r.Headers) == 0
	}
	if lend && !slices.ContainsFunc(records, func(r Record) bool { return !alike(r) }) && o.AcceptLoan(loanOf(records, new(atomic.Int32))) {
		return
	}
	o.Accept(records)
}

// loanOf makes a loan of records; given counts how often it is given back.
func loanOf(records []Record, given *atomic.Int32) *Loan {
	l := &Loan{Topic: records[0].Topic, Records: len(records), Read: readLent}
	null := func(b []byte) uint64 {
		if b == nil {
			return 1 << 32
		}
		return uint64(len(b))
	}
	for i := range records {
		r := &records[i]
		for _, n := range []uint64{null(r.Key), null(r.Value), uint64(r.Accepted.UnixNano()), uint64(r.Charge)} {
			l.Memory = binary.NativeEndian.AppendUint64(l.Memory, n)
		}
		l.Memory = append(append(l.Memory, r.Key...), r.Value...)
		l.Bytes += int64(r.size())
	}
	l.Memory = slices.Clip(l.Memory)
	memory := l.Memory
	l.GiveBack = func() {
		if given.Add(1) > 1 {
			panic("given back twice")
		}
		for i := range memory {
			memory[i] = 0xDB
		}
	}
	return l
}

func readLent(memory []byte, at int, r *Record) (next int) {
	from := reader{bytes: memory, at: at + 32}
	n := func(i int) uint64 { return binary.NativeEndian.Uint64(memory[at+8*i:]) }
	r.Key, r.Value = from.take(n(0), n(0) < 1<<32), from.take(n(1), n(1) < 1<<32)
	r.Accepted, r.Charge = time.Unix(0, int64(n(2))), int64(n(3))
	return from.at
}

// lentRecords are n records of topic t that a looker knows.
func lentRecords(n int) []Record {
	records := make([]Record, n)
	for i := range records {
		records[i] = Record{Topic: "t", Key: []byte("k"), Value: bytes.Clone(seen), Accepted: time.Now(), Charge: int64(i)}
	}
	return records
}

// TestLoanGoesBackOnce holds that a loan is given back when its last record was acknowledged and nobody looks at any, and not before.
func TestLoanGoesBackOnce(t *testing.T) {
	for _, late := range []bool{false, true} {
		for _, together := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				k := &looker{t: t, late: late, together: together, dawdle: time.Millisecond, looks: map[string]int{}}
				o := New(Settings{Timeout: time.Hour, WindowRecords: 50, WindowBytes: 1 << 20}, k, k, k)
				var given [3]atomic.Int32
				for i := range given {
					if !o.AcceptLoan(loanOf(lentRecords(200), &given[i])) {
						t.Fatal("not wanted")
					}
					o.Accept(lentRecords(10))
				}
				o.Drain(nil)
				time.Sleep(time.Minute) // until nobody looks any more
				o.Close()
				k.mtx.Lock()
				if n := k.looks["release"]; n != 630 {
					t.Errorf("%d of 630 records were released", n)
				}
				k.mtx.Unlock()
				for i := range given {
					if n := given[i].Load(); n != 1 {
						t.Errorf("loan %d was given back %d times", i, n)
					}
				}
			})
		}
	}
}

// TestLoanIsRefused holds that a loan is not taken, and nothing of it counted, where its records would have to be copied or written.
func TestLoanIsRefused(t *testing.T) {
	records := lentRecords(3)
	usual := Settings{Timeout: time.Hour, WindowRecords: 50, WindowBytes: 1 << 20}
	full := usual
	full.QueueRecords = 2
	for name, s := range map[string]Settings{"full": full, "closed": usual} {
		synctest.Test(t, func(t *testing.T) {
			k := &looker{t: t, looks: map[string]int{}}
			o := New(s, k, k, k)
			if name == "closed" {
				o.Close()
			}
			var given atomic.Int32
			if o.AcceptLoan(loanOf(records, &given)) || given.Load() > 0 {
				t.Errorf("%s: taken, given back %d times", name, given.Load())
			}
			if all := o.Counters(); len(all) > 0 && (all[0].Accepted > 0 || all[0].Waiting > 0) {
				t.Errorf("%s: %v", name, all)
			}
			o.Close()
		})
	}
}

// TestLoanOfTheRest holds that loans come back whatever becomes of their records: those of dropped ones by the garbage collector, and
// at the end those of all that still waited.
func TestLoanOfTheRest(t *testing.T) {
	var given [2]atomic.Int32
	k := &refuser{}
	o := New(Settings{Timeout: time.Hour, WindowRecords: 50, WindowBytes: 1 << 20}, k, k, k)
	if !o.AcceptLoan(loanOf(lentRecords(100), &given[0])) {
		t.Fatal("not wanted")
	}
	o.Drain(nil)
	for limit := time.Now().Add(time.Minute); given[0].Load() == 0 && time.Now().Before(limit); {
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
	k.holds.Store(true)
	if !o.AcceptLoan(loanOf(lentRecords(100), &given[1])) {
		t.Fatal("not wanted")
	}
	o.Close()
	for limit := time.Now().Add(time.Minute); given[1].Load() == 0 && time.Now().Before(limit); {
		runtime.GC() // of the few that were unpacked
		time.Sleep(time.Millisecond)
	}
	for i := range given {
		if n := given[i].Load(); n != 1 {
			t.Errorf("loan %d was given back %d times", i, n)
		}
	}
}

// refuser is a client that has every record dropped, or holds all of them until it is closed.
type refuser struct {
	countGate
	holds atomic.Bool
	held  []*Record
	done  func(*Record, error)
}

func (k *refuser) Permanent(error) (string, bool) { return "refused", !k.holds.Load() }

func (k *refuser) Send(records []*Record, _ time.Time, done func(*Record, error)) {
	if k.holds.Load() {
		k.held, k.done = append(k.held, records...), done
		return
	}
	for _, r := range records {
		done(r, errRefused)
	}
}

func (k *refuser) Close() {
	for _, r := range k.held {
		k.done(r, errRefused)
	}
}

// returner has records come back twice, and looks at what it is given then.
type returner struct {
	looker
	returned atomic.Int32
	again    chan struct{} // closed when they have
}

func (k *returner) Send(records []*Record, deadline time.Time, done func(*Record, error)) {
	if n := k.returned.Add(1); n <= 2 {
		for _, r := range records {
			done(r, errRetry)
		}
		if n == 2 {
			close(k.again)
		}
		return
	}
	k.looker.Send(records, deadline, done)
}

func (k *returner) AcknowledgeBy(func([]*Record)) {}

// TestLoanOfWhatComesBack holds that a record that is to be sent again, and once more, still has its bytes then, whatever the collector
// does.
func TestLoanOfWhatComesBack(t *testing.T) {
	k := &returner{looker: looker{t: t, looks: map[string]int{}}, again: make(chan struct{})}
	o := New(Settings{Timeout: time.Hour, WindowRecords: 50, WindowBytes: 1 << 20, Backoff: 200 * time.Millisecond, BackoffMax: 200 * time.Millisecond}, k, k, k)
	var given atomic.Int32
	if !o.AcceptLoan(loanOf(lentRecords(1), &given)) { // so that nothing but the record knows of the loan
		t.Fatal("not wanted")
	}
	<-k.again
	for range 3 { // a cleanup is found by one collection and runs beside the next
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
	o.Drain(nil)
	o.Close()
	k.mtx.Lock()
	defer k.mtx.Unlock()
	if k.looks["send"] != 1 {
		t.Errorf("sent %d times", k.looks["send"])
	}
}

// TestLoanStaysWhileADiskHangs holds that at the end a record which came back, and which a disk that hangs is still to write, keeps its
// bytes until that is done.
func TestLoanStaysWhileADiskHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, c := &trouble{}, newClient("client", usual, fixed(answer{hang: true}))
		d := newDisk(func(what string) { t.Error(what) })
		s := usual
		s.Durability = Overflow
		o := New(s, c, h, h)
		o.Attach(func() (Spool, error) { return d, nil })
		synctest.Wait()
		release := d.hung()
		var given atomic.Int32
		if !o.AcceptLoan(loanOf([]Record{numbered("t", 1, Unsaid)}, &given)) {
			t.Fatal("not wanted")
		}
		after(2 * usual.Timeout) // it came back too late, and is being written
		o.Close()
		if n := given.Load(); n != 0 {
			t.Errorf("given back %d times while it is being written", n)
		}
		release()
		<-o.kept
		if left := d.values("t"); len(left) > 0 { // it was given up, and is not to be sent by another run
			t.Errorf("on disk: %q", left)
		}
	})
}

// TestLoanOfWhatFallsDue holds that the loan of records that nothing was sent of is given back at once when their time is up.
func TestLoanOfWhatFallsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient("client", usual, fixed(answer{hang: true}))
		gate := &countGate{}
		o := New(usual, c, gate, gate)
		var given [2]atomic.Int32
		for i := range given {
			if !o.AcceptLoan(loanOf(lentRecords(100), &given[i])) {
				t.Fatal("not wanted")
			}
		}
		after(usual.Timeout - time.Millisecond)
		if n := given[1].Load(); n != 0 {
			t.Errorf("given back %d times before it is due", n)
		}
		after(2 * time.Millisecond)
		if n, m := given[0].Load(), given[1].Load(); n != 0 || m != 1 {
			t.Errorf("given back %d and %d times, and the client has a record of the first", n, m)
		}
		o.Close()
	})
}
