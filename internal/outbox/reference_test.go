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
)

// staying maps the states of frames to the places of layOut.
var staying sync.Map

// layOut moves keys and values of records into memory that stays until spoil.
func layOut(records []Record) []byte {
	size := 0
	for i := range records {
		size += 16 + records[i].size()
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
func spoil(r *Record) {
	if memory, ok := staying.LoadAndDelete(r.Staged); ok {
		for i := range memory.([]byte) {
			memory.([]byte)[i] = 0xDB
		}
	}
}

// offer accepts records like the stage's. send does the unlocked part of Accept: the client's Send may block
// then.
func offer(o *Outbox, records []Record, stay bool) (send func()) {
	var memory []byte
	if stay {
		memory = layOut(records)
	}
	gone, open := o.enqueue(records, memory)
	return func() { o.entered(gone, open) }
}

// Every record leaves a pack of references unchanged, in order, and as a copy: with null and empty distinct,
// and other records in between.
func TestPack_References_ComeOutAsCopies(t *testing.T) {
	defer func(most, flowing int) { blockMost, blocksFlowing = most, flowing }(blockMost, blocksFlowing)
	referred := 0
	for seed := range uint64(80) {
		dice := rand.New(rand.NewPCG(seed, 8))
		blockMost, blocksFlowing = []int{64 << 10, 10, 200, 5000}[seed%4], int(seed%3)
		p := pack{spare: &spare{lanes: int(seed % 2 * 100)}}
		var want, got []*Record
		born := time.Hour
		for i := 0; i < 300; {
			var records []Record
			for range 1 + dice.IntN(40) {
				born += time.Duration(dice.Int64N(1 << dice.IntN(40)))
				records = append(records, sample(dice, i, born))
				i++
			}
			memory := layOut(records)
			for j := range records {
				want = append(want, records[j].clone())
				p.add(&records[j], "t", records[j+1:], memory)
			}
			if p.lastReferences() != nil {
				referred++
			}
			for range dice.IntN(3) {
				out := p.take(1 + dice.IntN(30))
				for j := range out {
					spoil(&out[j])
					got = append(got, &out[j])
				}
				if p.n > 0 && p.born() != want[len(got)].born {
					t.Fatalf("seed %d: the first one was born %v, want %v", seed, p.born(), want[len(got)].born)
				}
			}
		}
		for p.n > 0 {
			for _, r := range p.take(100) {
				spoil(&r)
				got = append(got, &r)
			}
		}
		if len(got) != len(want) {
			t.Fatalf("seed %d: %d records, want %d", seed, len(got), len(want))
		}
		for i := range got {
			if !got[i].same(want[i]) {
				t.Fatalf("seed %d: record %d is\n%+v, want\n%+v", seed, i, *got[i], *want[i])
			}
		}
	}
	if referred < 150 {
		t.Errorf("references after %d of the calls", referred)
	}
}

// TestAcceptStaying_Outage_KeepsReferencesOnly guards memory in an outage: waiting records are in the stage's memory and must not be
// copied here, also with headers and reports.
func TestAcceptStaying_Outage_KeepsReferencesOnly(t *testing.T) {
	for _, c := range []struct {
		name    string
		headers bool
		most    int // bytes of a reference
	}{{"plain", false, 16}, {"headers and reports", true, 26}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { keepsReferencesOnly(t, c.headers, c.most) })
		})
	}
}

func keepsReferencesOnly(t *testing.T, headers bool, most int) {
	gate := &countGate{}
	o := New(Settings{Timeout: time.Hour, WindowRecords: 100}, &silent{}, gate, gate)
	defer o.Close()
	const n, each = 50_000, 300
	for range n / 100 {
		records := make([]Record, 100)
		for i := range records {
			records[i] = Record{Topic: "t", Value: bytes.Repeat([]byte{1}, each), Charge: each}
			records[i].Accepted = time.Now().Add(time.Duration(i) * 300 * time.Microsecond)
			if headers {
				records[i].Headers = []Header{{"one", []byte("1")}, {"two", bytes.Repeat([]byte{2}, 40)}}
				records[i].Report = func(*Record, error) {}
			}
		}
		o.AcceptStaying(records, layOut(records))
	}
	synctest.Wait()
	o.mtx.Lock()
	defer o.mtx.Unlock()
	copied, referred, numbers := 0, 0, 0
	for _, b := range o.lanes["t"].later.blocks {
		copied += cap(b.bytes)
		if f := b.references; f != nil {
			numbers += cap(f.numbers)
			referred += f.count
		}
	}
	if limit := (blocksFlowing + 1) * blockMost; copied > limit || referred < n-limit/each-100 {
		t.Errorf("%d bytes are copied, at most %d may be; %d of %d records are references", copied, limit, referred, n)
	}
	if numbers > most*referred {
		t.Errorf("a reference has %d bytes, at most %d allowed", numbers/referred, most)
	}
}

// TestAcceptStaying_FrameUsedAgain_NobodyLooks verifies that the outbox does not read a frame after its
// release.
func TestAcceptStaying_FrameUsedAgain_NobodyLooks(t *testing.T) {
	defer func(flowing int) { blocksFlowing = flowing }(blocksFlowing)
	blocksFlowing = 0
	for _, late := range []bool{false, true} {
		for _, durability := range []Durability{Memory, Disk} {
			synctest.Test(t, func(t *testing.T) {
				k := &spoiler{looker{t: t, late: late, together: true, dawdle: time.Millisecond, looks: map[string]int{}}}
				o := New(Settings{Timeout: time.Hour, WindowRecords: 50, WindowBytes: 1 << 20, Durability: durability}, k, k, k)
				d := newDisk(func(what string) { t.Error(what) })
				o.Attach(func() (Spool, error) { return d, nil })
				for range 10 {
					records := make([]Record, 100)
					for i := range records {
						records[i] = Record{Topic: "t", Key: []byte("k"), Value: slices.Clone(seen), Accepted: time.Now()}
					}
					o.AcceptStaying(records, layOut(records))
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

func (k *spoiler) Release(r *Record) {
	spoil(r)
	k.looker.Release(r)
}

func (k *spoiler) ReleaseAll(records []*Record) {
	for _, r := range records {
		spoil(r)
	}
	k.looker.ReleaseAll(records)
}
