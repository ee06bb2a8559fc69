package outbox

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"reskafka/internal/record"
)

// staying maps the states of frames to the places of layOut.
var staying sync.Map

// layOut moves keys and values of records into memory that stays until spoil.
func layOut(records []record.Record) []byte {
	size := 0
	for i := range records {
		size += 16 + records[i].Size()
		for _, h := range records[i].Headers {
			size += len(h.Value)
		}
	}
	memory := make([]byte, size)
	at := 0
	for i := range records {
		r := &records[i]
		begin := at
		state := (*atomic.Uint32)(unsafe.Pointer(&memory[at]))
		at += 8
		parts := []*[]byte{&r.Key, &r.Value}
		for j := range r.Headers {
			parts = append(parts, &r.Headers[j].Value)
		}
		for _, part := range parts {
			if *part != nil {
				n := copy(memory[at:], *part)
				*part = memory[at : at+n : at+n]
				at += n
			}
		}
		at = (at + 7) / 8 * 8
		if r.Staged == nil {
			r.Staged = state
			staying.Store(state, memory[begin+4:at])
		}
	}
	return memory
}

// spoil overwrites the frame of a released record, like a stage that reuses the memory.
func spoil(r *record.Record) {
	if memory, ok := staying.LoadAndDelete(r.Staged); ok {
		for i := range memory.([]byte) {
			memory.([]byte)[i] = 0xDB
		}
	}
}

// tray is Frames over records laid out in memory.
type tray struct{ records []record.Record }

func (f *tray) Read(records []*record.Record) int {
	n := min(len(records), len(f.records))
	for i, r := range records[:n] {
		*r = f.records[i]
		r.Topic = ""
		r.Headers = slices.Clone(r.Headers)
	}
	f.records = f.records[n:]
	return n
}

func (f *tray) Join(later Frames) bool {
	next, ok := later.(*tray)
	if ok {
		f.records = append(slices.Clip(f.records), next.records...)
	}
	return ok
}

// clone is for looks at a pack without a change.
func (f *tray) clone() Frames { return &tray{f.records} }

// lotOf returns the lot of records in memory, which are of one topic.
func lotOf(records []record.Record) Lot {
	lot := Lot{Topic: records[0].Topic, Records: len(records), First: records[0].Accepted}
	for i := range records {
		lot.Bytes += int64(records[i].Size())
		if at := records[i].Accepted; at.After(lot.Last) {
			lot.Last = at
		}
	}
	lot.Frames = &tray{slices.Clone(records)}
	return lot
}

// fits reports whether the record can be in a lot.
func fits(r *record.Record) bool {
	age := time.Since(r.Accepted)
	return r.Lifetime == 0 && r.Durability == record.Unsaid && !r.Probe && age >= 0 && age <= longestStaging
}

// offer accepts records like the stage's, in shared memory if stay. send does the unlocked part of Accept: the
// client's Send may block then.
func offer(o *Outbox, records []record.Record, stay bool) (send func()) {
	if !stay {
		gone, open := o.enqueue(records)
		return func() { o.entered(gone, open) }
	}
	layOut(records)
	var all []outcome
	open := false
	for len(records) > 0 {
		n := 1
		var gone []outcome
		if fits(&records[0]) {
			for n < len(records) && fits(&records[n]) && records[n].Topic == records[0].Topic {
				n++
			}
			open = o.enqueueLots([]Lot{lotOf(records[:n])})
		} else {
			gone, open = o.enqueue(records[:1])
		}
		all, records = append(all, gone...), records[n:]
	}
	return func() { o.entered(all, open) }
}

// Every record of a lot leaves a pack unchanged and in order, with null and empty distinct, and with other
// records in between: as a copy, or with its bytes still in the frame.
func TestPack_Lots_ComeOutUnchanged(t *testing.T) {
	defer func(most int) { blockMost = most }(blockMost)
	lots := 0
	for seed := range uint64(160) {
		dice := rand.New(rand.NewPCG(seed, 8))
		blockMost = []int{64 << 10, 10, 200, 5000}[seed%4]
		copies := seed%3 == 0
		p := pack{spare: &spare{lanes: int(seed % 2 * 100)}}
		var want, got []*entry
		take := func(most int) {
			out := p.take(most, copies)
			for j := range out {
				r := &out[j]
				if in := r.borrowed; in && copies || !in && !copies && r.Charge == inLot && !r.Lasting {
					t.Fatalf("seed %d: record %d: borrowed %v, copies %v", seed, len(got), in, copies)
				}
				r.own()
				spoil(&r.Record)
				got = append(got, r)
			}
		}
		born := time.Hour
		for i := 0; i < 300; {
			var records []entry
			stay := dice.IntN(3) > 0
			for range 1 + dice.IntN(40) {
				born += time.Duration(dice.Int64N(1 << dice.IntN(40)))
				r := sample(dice, i, born)
				if stay {
					r.Lifetime, r.released, r.Accepted, r.Charge = 0, false, time.Unix(1700000000, int64(born)), inLot
				}
				records = append(records, r)
				i++
			}
			if stay {
				lots++
				plain := plain(records)
				layOut(plain)
				for j := range records {
					want = append(want, (&entry{Record: plain[j], born: records[j].born}).clone())
				}
				lot := lotOf(plain)
				p.addLot(&lot, records[0].born, records[0].born, born)
			} else {
				for j := range records {
					want = append(want, records[j].clone())
					p.add(nil, &records[j].Record, records[j].born, records[j].released, plain(records[j+1:]))
				}
			}
			for range dice.IntN(3) {
				take(1 + dice.IntN(30))
				if p.n > 0 && p.born() > want[len(got)].born {
					t.Fatalf("seed %d: the first one was born %v, want %v", seed, p.born(), want[len(got)].born)
				}
			}
		}
		for p.n > 0 {
			take(100)
		}
		if len(got) != len(want) {
			t.Fatalf("seed %d: %d records, want %d", seed, len(got), len(want))
		}
		for i := range got {
			if !got[i].same(want[i]) {
				t.Fatalf("seed %d: record %d is\n%+v, want\n%+v", seed, i, *got[i], *want[i])
			}
		}
		if p.lost != 0 || p.lostBytes != 0 || p.copies != nil {
			t.Fatalf("seed %d: lost %d records, %d bytes; copies %v", seed, p.lost, p.lostBytes, p.copies)
		}
	}
	if lots < 1000 {
		t.Errorf("%d lots", lots)
	}
}

// inLot is the charge of a record in a lot.
const inLot = 4711

// shrinking is Frames of which another process has damaged all but the first records.
type shrinking struct{ tray }

func (*shrinking) Join(Frames) bool { return false }

// TestAcceptLots_FramesDamaged_AccountAddsUp verifies that records not readable at their turn are dropped with
// a reason, and that later records are not affected.
func TestAcceptLots_FramesDamaged_AccountAddsUp(t *testing.T) {
	for _, durability := range []record.Durability{record.Memory, record.Disk} {
		synctest.Test(t, func(t *testing.T) {
			g := &lossGate{lost: map[string]int{}}
			c := newWindow(1000)
			o := New(Settings{Timeout: time.Hour, WindowRecords: 100, Durability: durability}, c, g, g)
			o.Attach(func() (Spool, error) { return newDisk(func(what string) { t.Error(what) }), nil })
			synctest.Wait()
			for range 5 {
				records := make([]record.Record, 100)
				for i := range records {
					records[i] = record.Record{Topic: "t", Value: []byte("value"), Accepted: time.Now()}
				}
				layOut(records)
				lot := lotOf(records)
				lot.Frames = &shrinking{tray{records[:70]}}
				o.AcceptLots([]Lot{lot})
			}
			o.Drain(nil)
			synctest.Wait()
			o.mtx.Lock()
			waiting, bytes := o.waiting, o.bytes
			o.mtx.Unlock()
			if waiting != 0 || bytes != 0 {
				t.Errorf("durability %v: %d records and %d bytes are left", durability, waiting, bytes)
			}
			o.Close()
			if g.lost[record.ReasonUnreadable] != 150 || g.released() != 350 {
				t.Errorf("durability %v: lost %v, released %d", durability, g.lost, g.released())
			}
		})
	}
}

// lossGate counts drops by reason.
type lossGate struct {
	countGate
	mtx  sync.Mutex
	lost map[string]int
	done atomic.Int64
}

func (g *lossGate) Release(*record.Record)              { g.done.Add(1) }
func (g *lossGate) ReleaseAll(records []*record.Record) { g.done.Add(int64(len(records))) }
func (g *lossGate) released() int64                     { return g.done.Load() }
func (g *lossGate) Dropped(_, reason string, records int, _ error) {
	g.mtx.Lock()
	defer g.mtx.Unlock()
	g.lost[reason] += records
}

// TestAcceptLots_Outage_CopiesNothing guards memory in an outage: waiting records are in the stage's memory.
func TestAcceptLots_Outage_CopiesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := &countGate{}
		o := New(Settings{Timeout: time.Hour, WindowRecords: 100}, &silent{}, gate, gate)
		defer o.Close()
		const n, each = 50_000, 300
		for range n / 100 {
			records := make([]record.Record, 100)
			for i := range records {
				records[i] = record.Record{Topic: "t", Value: bytes.Repeat([]byte{1}, each), Charge: each}
				records[i].Accepted = time.Now().Add(time.Duration(i-100) * 300 * time.Microsecond)
			}
			layOut(records)
			o.AcceptLots([]Lot{lotOf(records)})
		}
		synctest.Wait()
		o.mtx.Lock()
		defer o.mtx.Unlock()
		copied := 0
		for _, b := range o.lanes["t"].later.blocks {
			copied += cap(b.bytes)
		}
		if copied > 0 || o.waiting < n-100 {
			t.Errorf("%d bytes are copied for %d waiting records", copied, o.waiting)
		}
	})
}

// TestAcceptLots_FrameUsedAgain_NobodyLooks verifies that the outbox does not read a frame after its
// release.
func TestAcceptLots_FrameUsedAgain_NobodyLooks(t *testing.T) {
	for _, late := range []bool{false, true} {
		for _, durability := range []record.Durability{record.Memory, record.Disk} {
			synctest.Test(t, func(t *testing.T) {
				k := &spoiler{looker{t: t, late: late, together: true, dawdle: time.Millisecond, frames: true, looks: map[string]int{}}}
				o := New(Settings{Timeout: time.Hour, WindowRecords: 50, WindowBytes: 1 << 20, Durability: durability}, k, k, k)
				d := newDisk(func(what string) { t.Error(what) })
				o.Attach(func() (Spool, error) { return d, nil })
				for range 10 {
					records := make([]record.Record, 100)
					for i := range records {
						records[i] = record.Record{Topic: "t", Key: []byte("k"), Value: slices.Clone(seen), Accepted: time.Now()}
					}
					layOut(records)
					o.AcceptLots([]Lot{lotOf(records)})
				}
				o.Drain(nil)
				o.Close()
				if k.looks["release"] != 1000 || !late && k.looks["send"] != 1000 {
					t.Errorf("late %v, durability %v: looked at %v", late, durability, k.looks)
				}
				for _, value := range d.values("t") {
					if value != string(seen) {
						t.Errorf("on disk: %q", value)
					}
				}
			})
		}
	}
}

// spoiler is a looker whose stage reuses frames at once.
type spoiler struct{ looker }

func (k *spoiler) Release(r *record.Record) {
	spoil(r)
	k.looker.Release(r)
}

func (k *spoiler) ReleaseAll(records []*record.Record) {
	for _, r := range records {
		spoil(r)
	}
	k.looker.ReleaseAll(records)
}

// TestAcceptLots_RetryDuringWrite_NoRace guards a record in the client while the disk writes: the client's
// answer moves the record's bytes out of the frame. Only the race detector sees a failure, and only in real
// time.
func TestAcceptLots_RetryDuringWrite_NoRace(t *testing.T) {
	s := usual
	s.Durability = record.Overflow
	h, c := &trouble{}, newClient("client", s, fixed(answer{after: 30 * time.Millisecond, err: errRetry}))
	o := New(s, c, h, h)
	d := newDisk(func(what string) { t.Error(what) })
	d.slow = func() time.Duration { return 60 * time.Millisecond }
	o.Attach(func() (Spool, error) { return d, nil })
	records := []record.Record{{Topic: "t", Key: []byte("k"), Value: []byte("value"), Accepted: time.Now()}}
	layOut(records)
	o.AcceptLots([]Lot{lotOf(records)})
	for c.sent() == 0 {
		time.Sleep(time.Millisecond)
	}
	o.Spill()
	time.Sleep(100 * time.Millisecond)
	o.Close()
}

// TestAcceptLots_WrittenWhileInFlight_IsStoredNotReleased verifies that the frame of a record in the client
// stays after the record's write, and that the gate learns of the write.
func TestAcceptLots_WrittenWhileInFlight_IsStoredNotReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &storeGate{}
		k := &looker{t: t, late: true, frames: true, dawdle: time.Minute, looks: map[string]int{}}
		o := New(Settings{Timeout: time.Hour, WindowRecords: 50, Durability: record.Overflow}, k, g, g)
		d := newDisk(func(what string) { t.Error(what) })
		o.Attach(func() (Spool, error) { return d, nil })
		synctest.Wait()
		records := []record.Record{{Topic: "t", Value: slices.Clone(seen), Accepted: time.Now()}}
		layOut(records)
		o.AcceptLots([]Lot{lotOf(records)})
		o.Spill()
		synctest.Wait()
		if g.stored.Load() != 1 || g.done.Load() != 0 || len(d.values("t")) != 1 {
			t.Errorf("in flight: %d stored, %d released, %d on disk", g.stored.Load(), g.done.Load(), len(d.values("t")))
		}
		o.Drain(nil)
		if g.stored.Load() != 1 || g.done.Load() != 1 {
			t.Errorf("in the end: %d stored, %d released", g.stored.Load(), g.done.Load())
		}
		o.Close()
	})
}

// storeGate counts.
type storeGate struct {
	lossGate
	stored atomic.Int64
}

func (g *storeGate) Stored(*record.Record) { g.stored.Add(1) }
